"""Transcription with faster-whisper: CTranslate2 in 8 bit, on the CPU."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Word
from kmtalk.speech.alignment_pipeline import Segment, Transcript
from kmtalk.speech.transcriber import Transcriber
from kmtalk.whisper_wheels import read_wheel_files, wheel_installed

COMPUTE_TYPE = "int8"
MODEL_FILE = "model.bin"


class FasterWhisper(Transcriber):
    """A Whisper model in CTranslate2's format.

    Args:
        name: Name of a model, or a folder with a model that was converted by `ct2-transformers-converter`. Models are
            taken from an installed weight package, from the Hugging Face cache or hub.

    Raises:
        InputError: faster-whisper is not installed, or the model is not found, damaged or cannot be downloaded.
    """

    def __init__(self, name: str = "base") -> None:
        if not is_installed():
            raise InputError("faster-whisper is not installed; pip install 'kmtalk[weights]'")
        self._model = _load(name)
        self._model.encode = _remember_last(self._model.encode)
        self._lock = threading.Lock()  # it keeps the time of the last speech from window to window
        self.languages = self._model.supported_languages

    def _language_probabilities(self, samples: np.ndarray) -> dict[str, float]:
        with self._lock:
            return dict(self._model.detect_language(samples)[2])

    def _transcribe_block(self, samples: np.ndarray, language: str | None, with_words: bool) -> Transcript:
        with self._lock:
            found, about = self._model.transcribe(
                samples,
                language=language,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,  # keeps an error in one window from affecting the next
                word_timestamps=with_words,
            )
            parts = [s for s in found if s.text.strip()]
        segments = tuple(Segment(s.text.strip(), float(s.start), float(s.end)) for s in parts)
        words = tuple(
            Word(w.word.strip(), float(w.start), float(w.end), float(w.probability))
            for s in parts
            for w in s.words or ()
            if w.word.strip()
        )
        return Transcript("".join(s.text for s in parts).strip(), about.language, segments, words)


def _remember_last(encode: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Return an encoder that does not encode the same features again: a clip's language is detected in its window."""
    last: list[tuple[np.ndarray, Any]] = []

    def remembering(features: np.ndarray) -> Any:
        if not (last and np.array_equal(last[0][0], features)):
            last[:] = [(features.copy(), encode(features))]
        return last[0][1]

    return remembering


def is_installed() -> bool:
    """Whether faster-whisper is."""
    return importlib.util.find_spec("faster_whisper") is not None


def is_model_folder(name: str) -> bool:
    """Whether a path is a folder with a model in CTranslate2's format."""
    return (Path(name) / MODEL_FILE).is_file()


def find_faster_whisper_weights(name: str) -> str | None:
    """Where a model is found on this machine; None if it would have to be downloaded."""
    if is_model_folder(name):
        return name
    if wheel_installed(name):
        return "the kmtalk[weights] packages"
    return _find_in_hub_cache(name)


def _find_in_hub_cache(name: str) -> str | None:
    import faster_whisper

    if name not in faster_whisper.available_models():
        return None
    try:
        return str(faster_whisper.download_model(name, local_files_only=True))
    except Exception:  # the hub's own errors, of which there are many
        return None


def _load(name: str) -> Any:
    import faster_whisper

    settings: dict[str, Any] = {
        "device": "cpu",
        "compute_type": COMPUTE_TYPE,
        "cpu_threads": torch.get_num_threads(),
    }
    if not is_model_folder(name) and wheel_installed(name):
        return faster_whisper.WhisperModel(name, files=read_wheel_files(name), **settings)
    if not is_model_folder(name) and name not in faster_whisper.available_models():
        raise InputError(
            f"{name}: no such model of faster-whisper; give a folder with a {MODEL_FILE}, or one of "
            f"{', '.join(faster_whisper.available_models())}"
        )
    try:
        return faster_whisper.WhisperModel(name, **settings)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        if is_model_folder(name):
            raise InputError(f"{name}: no Whisper model in CTranslate2's format ({reason}); convert it again") from None
        raise InputError(
            f"Whisper {name}: weights are not on this machine and cannot be downloaded ({reason}); give a folder with "
            f"--whisper, pass --whisper-engine openai-whisper, or pass the words with --text"
        ) from None
