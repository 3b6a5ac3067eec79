"""Forced alignment behind one protocol: sound and transcript → Alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import SAMPLE_RATE, Audio

ALIGNER_NAMES = ("auto", "pocketsphinx", "mfa", "mfa-cli", "uniform")
MAX_CHUNK_SECONDS = 30.0
"""Longest stretch aligned at once where the transcript says where to cut."""


@dataclass(frozen=True)
class Segment:
    """A stretch of transcript between two pauses; seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What was said. ``segments`` is empty where only the text is known; ``language`` is ISO 639-1."""

    text: str
    language: str = "en"
    segments: tuple[Segment, ...] = ()


class AlignmentError(Exception):
    """This aligner cannot serve this clip; the message says why in a few words."""


class Aligner(Protocol):
    """Finds the phones of a transcript in the sound."""

    name: str

    def align(self, audio: Audio, transcript: Transcript) -> Alignment:
        """Alignment in seconds of ``audio``; raises AlignmentFailed where the text does not fit."""
        ...


@runtime_checkable
class BatchAligner(Aligner, Protocol):
    """An aligner for which one call with many clips is much cheaper than many calls."""

    def align_batch(self, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment | AlignmentError]:
        """As ``align``, one result a clip, failures returned and not raised."""
        ...


def empty_alignment(reason: str) -> Alignment:
    """No phones: key frames will be placed evenly and the mouth follows loudness."""
    return Alignment(status="uniform", aligner=reason)


def align_with_fallback(
    aligners: Sequence[Aligner], audio: Audio, transcript: Transcript, warn: Callable[[str], None]
) -> Alignment:
    """The first aligner that can serve; else uniform keys, said in one warning line."""
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
        or f"no model for {transcript.language!r} here; --aligner mfa takes one, or say --language if it was misheard"
    )
    warn(f"no phones found ({why}): key frames are uniform (stride 3) and the mouth follows the sound alone")
    return empty_alignment(why)


def _align_in_chunks(aligner: Aligner, audio: Audio, transcript: Transcript, warn: Callable[[str], None]) -> Alignment:
    """Align long sound piece by piece, cut in the pauses between the transcript's segments.

    Pieces that fail count with score 0, and are said in one warning; raises AlignmentFailed where they
    are more than half of the sound.
    """
    if audio.duration <= MAX_CHUNK_SECONDS or len(transcript.segments) < 2:
        return aligner.align(audio, transcript)
    phones: list[Phone] = []
    words: list[Word] = []
    scores: list[tuple[float | None, float]] = []
    unaligned: list[tuple[float, float]] = []
    failed = AlignmentError("no speech found")
    spans: list[tuple[float, float]] = []
    clips: list[tuple[Audio, Transcript]] = []
    for group, begin, end in _group_segments(transcript.segments, audio.duration):
        part = replace(audio, samples=audio.samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)])
        if not part.is_silent:
            spans.append((begin, end))
            clips.append((part, replace(transcript, text=" ".join(s.text for s in group), segments=())))
    for (begin, end), found in zip(spans, align_batch(aligner, clips), strict=True):
        if isinstance(found, AlignmentError):
            failed = found
            unaligned.append((begin, end))
            scores.append((0.0, end - begin))
            continue
        phones += [Phone(p.label, p.start + begin, p.end + begin) for p in found.phones]
        words += [Word(w.text, w.start + begin, w.end + begin) for w in found.words]
        scores.append((found.score, end - begin))
    total = sum(length for _, length in scores)
    if not phones or 2 * sum(end - begin for begin, end in unaligned) > total:
        raise failed
    if unaligned:
        where = ", ".join(f"{begin:.1f}–{end:.1f} s" for begin, end in unaligned)
        warn(f"no phones found at {where} ({aligner.name}: {failed}): there the mouth follows the sound alone")
    known = [s * length for s, length in scores if s is not None]
    score = sum(known) / total if len(known) == len(scores) else None
    return Alignment(tuple(phones), tuple(words), "aligned", score, aligner.name, tuple(unaligned))


def align_batch(aligner: Aligner, clips: Sequence[tuple[Audio, Transcript]]) -> list[Alignment | AlignmentError]:
    """Every clip's alignment or why there is none; in one call where the aligner takes them together."""
    if isinstance(aligner, BatchAligner):
        return aligner.align_batch(clips)
    results: list[Alignment | AlignmentError] = []
    for audio, transcript in clips:
        try:
            results.append(aligner.align(audio, transcript))
        except AlignmentError as failed:
            results.append(failed)
    return results


def _group_segments(segments: Sequence[Segment], duration: float) -> list[tuple[list[Segment], float, float]]:
    """Groups of segments up to CHUNK_SECONDS, cut half way between neighbours."""
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
