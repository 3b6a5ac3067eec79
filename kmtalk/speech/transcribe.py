"""Transcription with Whisper, in the same process and deterministic."""

from __future__ import annotations

import torch
import whisper

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import Segment, Transcript
from kmtalk.speech.audio import Audio
from kmtalk.weights import load_whisper


class Transcriber:
    """Transcribes with one Whisper model; `name` is its name or a path (see `weights.load_whisper`)."""

    def __init__(self, name: str = "base") -> None:
        self.model = load_whisper(name)

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a clip by greedy decoding at temperature 0.

        Args:
            audio: The clip.
            language: ISO 639-1 code; None detects the language.

        Returns:
            The transcript with its segments in seconds.

        Raises:
            InputError: Whisper, or the loaded model, does not support the language.
        """
        if language is not None and language not in whisper.tokenizer.LANGUAGES:
            raise InputError(
                f"{language}: Whisper does not support this language; pass a code such as en, de, es or fr"
            )
        if not self.model.is_multilingual and language not in (None, "en"):
            raise InputError(f"this Whisper model is English only; use a multilingual model for {language!r}")
        with torch.inference_mode():
            result = self.model.transcribe(
                audio.samples,
                language=language,
                temperature=0.0,
                condition_on_previous_text=False,  # keeps an error in one window from affecting the next
                fp16=False,
                verbose=None,
            )
        segments = tuple(
            Segment(s["text"].strip(), float(s["start"]), float(s["end"]))
            for s in result["segments"]
            if s["text"].strip()
        )
        return Transcript(result["text"].strip(), result["language"], segments)
