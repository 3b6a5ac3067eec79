"""Transcription with Whisper, in the same process and deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import whisper

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Word
from kmtalk.speech.alignment_pipeline import Segment, Transcript
from kmtalk.speech.audio import SAMPLE_RATE, Audio, rms_level
from kmtalk.weights import WHISPER_LOCK, load_whisper

MAX_BLOCK_SECONDS = 300.0
"""Longer clips are transcribed in blocks of this length, cut in pauses, so that memory does not grow with the clip."""


class Transcriber:
    """Transcribes with one Whisper model; `name` is its name or a path (see `weights.load_whisper`).

    Threads take turns: Whisper's decoder keeps its state in hooks on the model.
    """

    def __init__(self, name: str = "base") -> None:
        self.model = load_whisper(name)

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        with_words: bool = False,
        advance: Callable[[int], None] = lambda done: None,
    ) -> Transcript:
        """Transcribe a clip by greedy decoding at temperature 0.

        Args:
            audio: The clip.
            language: ISO 639-1 code; None detects the language.
            with_words: Return words with times and probabilities as well, which takes a third longer.
            advance: Receives the seconds that are done.

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
        parts: list[Transcript] = []
        for start, samples in _blocks(audio.samples):
            spoken = parts[0].language if parts else language  # the language of the beginning holds
            parts.append(_shifted(self._transcribe_block(samples, spoken, with_words), start))
            advance(round(start + len(samples) / SAMPLE_RATE))
        if len(parts) == 1:
            return parts[0]
        return Transcript(
            " ".join(p.text for p in parts if p.text),
            parts[0].language,
            tuple(s for p in parts for s in p.segments),
            tuple(w for p in parts for w in p.words),
        )

    def detect_language(self, audio: Audio) -> dict[str, float]:
        """Return the probability of each language (ISO 639-1) of the first 30 s of a clip, the most probable first."""
        if not self.model.is_multilingual:
            return {"en": 1.0}
        samples = whisper.pad_or_trim(audio.samples[: 30 * SAMPLE_RATE])
        mel = whisper.log_mel_spectrogram(samples, self.model.dims.n_mels)
        with WHISPER_LOCK, torch.inference_mode():
            _, probabilities = self.model.detect_language(mel.to(self.model.device))
        assert isinstance(probabilities, dict)
        return dict(sorted(((k, float(p)) for k, p in probabilities.items()), key=lambda item: -item[1]))

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


def _blocks(samples: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (start in seconds, samples) of blocks of up to MAX_BLOCK_SECONDS, cut where the last 20 s are quietest."""
    size, search = int(MAX_BLOCK_SECONDS * SAMPLE_RATE), 20 * SAMPLE_RATE
    at = 0
    while len(samples) - at > size:
        tail = samples[at + size - search : at + size]
        quiet = np.convolve(rms_level(tail), np.ones(30) / 30, mode="valid")  # the quietest 0.3 s
        end = at + size - search + int((quiet.argmin() + 15) * SAMPLE_RATE // 100)
        yield at / SAMPLE_RATE, samples[at:end]
        at = end
    yield at / SAMPLE_RATE, samples[at:]


def _shifted(part: Transcript, seconds: float) -> Transcript:
    if not seconds:
        return part
    return replace(
        part,
        segments=tuple(replace(s, start=s.start + seconds, end=s.end + seconds) for s in part.segments),
        words=tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in part.words),
    )
