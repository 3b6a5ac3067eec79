"""Forced alignment: the aligner protocol, and what is aligned: a transcript in segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from kmtalk.speech.alignment import Alignment, Word
from kmtalk.speech.audio import Audio

ALIGNER_NAMES = ("auto", "pocketsphinx", "mfa", "mfa-cli", "uniform")


@dataclass(frozen=True)
class Segment:
    """A sentence, or the text between two pauses.

    Attributes:
        text: The text.
        start: Time in seconds at which it begins; it need not be exact.
        end: Time in seconds at which it ends.
        alternatives: Other texts, in the order in which to try them where `text` does not match the sound.
    """

    text: str
    start: float
    end: float
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """The words of a clip.

    Attributes:
        text: The text.
        language: ISO 639-1 code.
        segments: The text in timed segments; empty if no times are known.
        words: Words with times in seconds and probabilities as Whisper hears them, where they were asked for.
    """

    text: str
    language: str = "en"
    segments: tuple[Segment, ...] = ()
    words: tuple[Word, ...] = field(default=(), repr=False)


class AlignmentError(Exception):
    """An aligner cannot align a clip. The message states the reason in a few words."""


class Aligner(Protocol):
    """Finds the times of words and their phones in audio."""

    name: str

    def words(self, text: str, language: str) -> list[str]:
        """Return the words of a text (language by ISO 639-1 code) as `align` takes them.

        Raises AlignmentError if the aligner has no model of the language.
        """
        ...

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool = False) -> Alignment:
        """Return the alignment, in seconds of `audio`, with one `Word` for each of `words`.

        `wide_beam` searches longer, for clips whose right text the usual search loses. Raises AlignmentError if the
        words do not match the audio.
        """
        ...


@runtime_checkable
class BatchAligner(Aligner, Protocol):
    """An aligner for which one call with many clips is much faster than one call per clip."""

    def align_batch(self, clips: Sequence[tuple[Audio, Sequence[str]]]) -> list[Alignment | AlignmentError]:
        """Align every clip. Errors are returned in place of the alignment instead of raised."""
        ...


Listener = Callable[[Audio], Transcript | None]
"""Hears a clip: returns its transcript with words, or None where no speech recognition is at hand."""


def empty_alignment(reason: str) -> Alignment:
    """Return an alignment without phones: key frames are placed evenly and the mouth follows loudness.

    `reason` states why there are no phones; it is stored as `Alignment.aligner`.
    """
    return Alignment(status="uniform", aligner=reason)


def align_batch(
    aligner: Aligner, clips: Sequence[tuple[Audio, Sequence[str]]], wide_beam: bool = False
) -> list[Alignment | AlignmentError]:
    """Align every clip, in one call if the aligner is a `BatchAligner`.

    Returns:
        One alignment or error per clip, in the order of `clips`.
    """
    if isinstance(aligner, BatchAligner):
        return aligner.align_batch(clips)
    results: list[Alignment | AlignmentError] = []
    for audio, words in clips:
        try:
            results.append(aligner.align(audio, words, wide_beam))
        except AlignmentError as error:
            results.append(error)
    return results
