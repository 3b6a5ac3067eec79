"""What transcribes speech: the base of the engines that run Whisper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import Transcript
from kmtalk.speech.audio import SAMPLE_RATE, Audio, rms_level

MAX_BLOCK_SECONDS = 300.0
"""Longer clips are transcribed in blocks of this length, cut in pauses, so that memory does not grow with the clip."""


class Transcriber(ABC):
    """A Whisper model that transcribes by greedy decoding at temperature 0. Threads may share one.

    Attributes:
        languages: ISO 639-1 codes that the model knows.
    """

    languages: Sequence[str]

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        with_words: bool = False,
        advance: Callable[[int], None] = lambda done: None,
    ) -> Transcript:
        """Transcribe a clip.

        Args:
            audio: The clip.
            language: ISO 639-1 code; None detects the language.
            with_words: Return words with times and probabilities as well, which takes a third longer.
            advance: Receives the seconds that are done.

        Returns:
            The transcript with its segments in seconds.

        Raises:
            InputError: The model does not support the language.
        """
        if language is not None and language not in self.languages:
            if list(self.languages) == ["en"]:
                raise InputError(f"this Whisper model is English only; use a multilingual model for {language!r}")
            raise InputError(
                f"{language}: Whisper does not support this language; pass a code such as en, de, es or fr"
            )
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
        if list(self.languages) == ["en"]:
            return {"en": 1.0}
        probabilities = self._language_probabilities(audio.samples[: 30 * SAMPLE_RATE])
        return dict(sorted(probabilities.items(), key=lambda item: -item[1]))

    @abstractmethod
    def _language_probabilities(self, samples: np.ndarray) -> dict[str, float]:
        """Return the probability of each language of up to 30 s of samples."""

    @abstractmethod
    def _transcribe_block(self, samples: np.ndarray, language: str | None, with_words: bool) -> Transcript:
        """Transcribe samples (S,) at SAMPLE_RATE."""


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
