"""Whisper: sound → transcript, in-process and deterministic."""

from __future__ import annotations

import torch
import whisper

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import Segment, Transcript
from kmtalk.speech.audio import Audio
from kmtalk.weights import load_whisper


class Transcriber:
    """One loaded Whisper model. ``name`` is a model's name or a path (see weights.load_whisper)."""

    def __init__(self, name: str = "base") -> None:
        self.model = load_whisper(name)

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Greedy decoding at temperature 0; ``language`` (ISO 639-1) is detected where it is None.

        Raises InputError for a language that Whisper does not know.
        """
        if language is not None and language not in whisper.tokenizer.LANGUAGES:
            raise InputError(f"{language}: no language code that Whisper knows (en, de, es, fr, ...)")
        if not self.model.is_multilingual and language not in (None, "en"):
            raise InputError(f"this Whisper model is English only; take a multilingual one for {language!r}")
        with torch.inference_mode():
            result = self.model.transcribe(
                audio.samples,
                language=language,
                temperature=0.0,
                condition_on_previous_text=False,  # a slip in one window must not spread
                fp16=False,
                verbose=None,
            )
        segments = tuple(
            Segment(s["text"].strip(), float(s["start"]), float(s["end"]))
            for s in result["segments"]
            if s["text"].strip()
        )
        return Transcript(result["text"].strip(), result["language"], segments)
