"""Forced alignment: the aligner protocol, fallback between aligners, and alignment of long audio in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import SAMPLE_RATE, Audio

ALIGNER_NAMES = ("auto", "pocketsphinx", "mfa", "mfa-cli", "uniform")
MAX_CHUNK_SECONDS = 30.0
"""Longest chunk in seconds that is aligned at once, if the transcript has segments at which to cut."""


@dataclass(frozen=True)
class Segment:
    """The text between two pauses of a transcript, with its `start` and `end` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """The spoken text, its `language` (ISO 639-1), and its timed `segments` (empty if no times are known)."""

    text: str
    language: str = "en"
    segments: tuple[Segment, ...] = ()


class AlignmentError(Exception):
    """An aligner cannot align a clip. The message states the reason in a few words."""


class Aligner(Protocol):
    """Finds the times of a transcript's phones in audio."""

    name: str

    def align(self, audio: Audio, transcript: Transcript) -> Alignment:
        """Return the alignment, in seconds of `audio`. Raises AlignmentError if the text does not match the audio."""
        ...


@runtime_checkable
class BatchAligner(Aligner, Protocol):
    """An aligner for which one call with many clips is much faster than one call per clip."""

    def align_batch(self, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment | AlignmentError]:
        """Align every clip. Errors are returned in place of the alignment instead of raised."""
        ...


def empty_alignment(reason: str) -> Alignment:
    """Return an alignment without phones: key frames are placed evenly and the mouth follows loudness.

    `reason` states why there are no phones; it is stored as `Alignment.aligner`.
    """
    return Alignment(status="uniform", aligner=reason)


def align_with_fallback(
    aligners: Sequence[Aligner], audio: Audio, transcript: Transcript, warn: Callable[[str], None]
) -> Alignment:
    """Align with the first aligner that succeeds.

    Args:
        aligners: Aligners in the order in which to try them.
        audio: The clip.
        transcript: The spoken text.
        warn: Called with one line if no aligner succeeds, or if part of the clip could not be aligned.

    Returns:
        The alignment; one without phones if the clip is silent or no aligner succeeds.
    """
    if audio.is_silent:
        return Alignment(status="silent")
    reasons = []
    for aligner in aligners:
        try:
            return _align_in_chunks(aligner, audio, transcript, warn)
        except AlignmentError as reason:
            reasons.append(f"{aligner.name}: {reason}")
    why = (
        "; ".join(reasons)
        or f"no model for language {transcript.language!r}; pass one with --aligner mfa, or correct --language"
    )
    warn(f"no phones found ({why}): key frames are uniform (stride 3) and the mouth follows loudness only")
    return empty_alignment(why)


def _align_in_chunks(aligner: Aligner, audio: Audio, transcript: Transcript, warn: Callable[[str], None]) -> Alignment:
    """Align long audio in chunks, cut in the pauses between the transcript's segments.

    Chunks that fail have score 0 and are listed in one warning. Raises AlignmentError if they make up
    more than half of the audio.
    """
    if audio.duration <= MAX_CHUNK_SECONDS or len(transcript.segments) < 2:
        return aligner.align(audio, transcript)
    phones: list[Phone] = []
    words: list[Word] = []
    scores: list[tuple[float | None, float]] = []
    unaligned: list[tuple[float, float]] = []
    last_error = AlignmentError("no speech found")
    spans: list[tuple[float, float]] = []
    clips: list[tuple[Audio, Transcript]] = []
    for group, begin, end in _group_segments(transcript.segments, audio.duration):
        part = replace(audio, samples=audio.samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)])
        if not part.is_silent:
            spans.append((begin, end))
            clips.append((part, replace(transcript, text=" ".join(s.text for s in group), segments=())))
    for (begin, end), result in zip(spans, align_batch(aligner, clips), strict=True):
        if isinstance(result, AlignmentError):
            last_error = result
            unaligned.append((begin, end))
            scores.append((0.0, end - begin))
            continue
        phones += [Phone(p.label, p.start + begin, p.end + begin) for p in result.phones]
        words += [Word(w.text, w.start + begin, w.end + begin) for w in result.words]
        scores.append((result.score, end - begin))
    total = sum(length for _, length in scores)
    if not phones or 2 * sum(end - begin for begin, end in unaligned) > total:
        raise last_error
    if unaligned:
        where = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in unaligned)
        warn(
            f"no phones found at {where} ({aligner.name}: {last_error}): in these spans the mouth follows loudness only"
        )
    known = [s * length for s, length in scores if s is not None]
    score = sum(known) / total if len(known) == len(scores) else None
    return Alignment(tuple(phones), tuple(words), "aligned", score, aligner.name, tuple(unaligned))


def align_batch(aligner: Aligner, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment | AlignmentError]:
    """Align every clip, in one call if the aligner is a `BatchAligner`.

    Returns:
        One alignment or error per clip, in the order of `clips`.
    """
    if isinstance(aligner, BatchAligner):
        return aligner.align_batch(clips)
    results: list[Alignment | AlignmentError] = []
    for audio, transcript in clips:
        try:
            results.append(aligner.align(audio, transcript))
        except AlignmentError as error:
            results.append(error)
    return results


def _group_segments(segments: Sequence[Segment], duration: float) -> list[tuple[list[Segment], float, float]]:
    """Group segments into chunks of up to MAX_CHUNK_SECONDS, cut half way between neighbouring segments."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if groups and segment.end - groups[-1][0].start <= MAX_CHUNK_SECONDS:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    cuts = [0.0]
    cuts += [max(0.0, (a[-1].end + b[0].start) / 2) for a, b in zip(groups[:-1], groups[1:], strict=True)]
    cuts.append(duration)
    return [(g, b, e) for g, b, e in zip(groups, cuts[:-1], cuts[1:], strict=True) if e - b > 0.1]
