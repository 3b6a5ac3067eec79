"""Transcription with openai-whisper."""

from __future__ import annotations

import numpy as np
import torch
import whisper

from kmtalk.speech.alignment import Word
from kmtalk.speech.alignment_pipeline import Segment, Transcript
from kmtalk.speech.transcriber import Transcriber
from kmtalk.weights import WHISPER_LOCK, load_whisper


class OpenAIWhisper(Transcriber):
    """A Whisper model in openai-whisper.

    Threads take turns: its decoder keeps its state in hooks on the model.

    Args:
        name: Name or path of the model, as for `kmtalk.weights.load_whisper`.

    Raises:
        InputError: As for `kmtalk.weights.load_whisper`.
    """

    def __init__(self, name: str = "base") -> None:
        self.model = load_whisper(name)
        self.languages = list(whisper.tokenizer.LANGUAGES) if self.model.is_multilingual else ["en"]

    def _language_probabilities(self, samples: np.ndarray) -> dict[str, float]:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples), self.model.dims.n_mels)
        with WHISPER_LOCK, torch.inference_mode():
            _, probabilities = self.model.detect_language(mel.to(self.model.device))
        assert isinstance(probabilities, dict)
        return {k: float(p) for k, p in probabilities.items()}

    def _transcribe_block(self, samples: np.ndarray, language: str | None, with_words: bool) -> Transcript:
        with WHISPER_LOCK, torch.inference_mode():
            result = self.model.transcribe(
                samples,
                language=language,
                temperature=0.0,
                condition_on_previous_text=False,  # keeps an error in one window from affecting the next
                word_timestamps=with_words,
                fp16=False,
                verbose=None,
            )
        segments = tuple(
            Segment(s["text"].strip(), float(s["start"]), float(s["end"]))
            for s in result["segments"]
            if s["text"].strip()
        )
        words = tuple(
            Word(w["word"].strip(), float(w["start"]), float(w["end"]), float(w["probability"]))
            for s in result["segments"]
            for w in s.get("words", ())
            if w["word"].strip()
        )
        return Transcript(result["text"].strip(), result["language"], segments, words)
