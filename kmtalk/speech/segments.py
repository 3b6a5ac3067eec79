"""Cutting a clip between the segments of its transcript, and finding speech that no segment covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.alignment_pipeline import Segment
from kmtalk.speech.audio import SAMPLE_RATE, SILENCE_DB, Audio, rms_level

MAX_CHUNK_SECONDS = 30.0
"""Longest part in seconds that is aligned at once, unless one segment is longer."""

MIN_UNCOVERED_SECONDS = 0.6
"""Shortest speech without phones that is looked after."""

HOP_SECONDS = 0.010
SPEECH_BELOW_PEAK_DB = 30.0  # speech is at most this much quieter than the loud parts of a clip
CUT_SLACK = 0.3  # seconds by which times of a transcript may be wrong


def cut(audio: Audio, start: float, end: float) -> Audio:
    """Return the part of a clip from `start` to `end` in seconds, for analysis: `original` is that of the clip."""
    return replace(audio, samples=audio.samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])


def cut_points(segments: Sequence[Segment], level: np.ndarray, duration: float) -> list[float]:
    """Return the times in seconds (len(segments) + 1) at which to cut a clip: the quietest between two segments.

    Args:
        segments: Segments in time order.
        level: Level of the clip in dBFS, one value every `HOP_SECONDS`.
        duration: Length of the clip in seconds.
    """
    smooth = np.convolve(level, np.ones(5) / 5, mode="same")
    points = [0.0]
    for a, b in zip(segments[:-1], segments[1:], strict=True):
        low, high = sorted((a.end, b.start))
        low, high = max(low - CUT_SLACK, points[-1], a.start), min(high + CUT_SLACK, b.end, duration)
        first, last = int(low / HOP_SECONDS), max(int(high / HOP_SECONDS), int(low / HOP_SECONDS) + 1)
        window = smooth[first:last]
        if not len(window):
            points.append(points[-1])
            continue
        quiet = np.flatnonzero(window <= window.min() + 3.0)  # the middle of the pause, not its deepest sample
        middle = quiet[np.abs(quiet - len(window) / 2).argmin()]
        points.append(max(points[-1], (first + float(middle) + 0.5) * HOP_SECONDS))
    return [*points, duration]


def group_segments(segments: Sequence[Segment]) -> list[range]:
    """Group consecutive segments into parts of up to `MAX_CHUNK_SECONDS`."""
    groups: list[range] = []
    for k, segment in enumerate(segments):
        if groups and segment.end - segments[groups[-1].start].start <= MAX_CHUNK_SECONDS:
            groups[-1] = range(groups[-1].start, k + 1)
        else:
            groups.append(range(k, k + 1))
    return groups


def speech_threshold(level: np.ndarray) -> float:
    """Return the level in dBFS above which a clip with these levels is loud enough to be speech."""
    return float(max(np.percentile(level, 98) - SPEECH_BELOW_PEAK_DB, SILENCE_DB))


def silent_words(audio: Audio, alignment: Alignment) -> list[int]:
    """Return the indices of aligned words under which there is no sound: words that nobody speaks."""
    level = rms_level(audio.samples)
    threshold = speech_threshold(level) - 10.0
    silent = []
    for i, word in enumerate(alignment.words):
        span = level[int(word.start / HOP_SECONDS) : int(np.ceil(word.end / HOP_SECONDS))]
        if len(span) and span.max() < threshold:
            silent.append(i)
    return silent


def uncovered_spans(level: np.ndarray, alignment: Alignment) -> list[tuple[float, float]]:
    """Return the spans (start, end) in seconds that are loud as speech and have no phones, nor are in `unaligned`.

    Args:
        level: Level of the clip in dBFS, one value every `HOP_SECONDS`.
        alignment: Its alignment.
    """
    loud = level > speech_threshold(level)
    for start, end in [(p.start - 0.15, p.end + 0.15) for p in alignment.phones] + list(alignment.unaligned):
        loud[max(0, int(start / HOP_SECONDS)) : int(np.ceil(end / HOP_SECONDS))] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    spans: list[tuple[float, float]] = []
    for start, end in (edges.reshape(-1, 2) * HOP_SECONDS).tolist():
        if spans and start - spans[-1][1] < 0.3 and not _has_phones(alignment, spans[-1][1], start):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return [s for s in spans if s[1] - s[0] >= MIN_UNCOVERED_SECONDS]


def _has_phones(alignment: Alignment, start: float, end: float) -> bool:
    return any(p.start < end and p.end > start for p in alignment.phones)
