"""Time-aligned phones and words, and reading and writing them as Praat TextGrids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from praatio import textgrid

from kmtalk.errors import InputError

SILENCE_LABELS = frozenset({"", "sil", "sp", "<eps>", "<p:>", "pau", "#"})
"""Lower-case labels that TextGrids and aligners use for pauses. "spn" (speech of unknown phones) is no pause."""


@dataclass(frozen=True)
class Phone:
    """One phone: `label` in ARPAbet or IPA, `start` and `end` in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """One word: its `text`, `start` and `end` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Alignment:
    """Phones and words of one clip in time order. Gaps between phones are silence.

    Attributes:
        phones: Phones in time order.
        words: Words in time order.
        status: "aligned", "given" (read from a TextGrid), "uniform" (no aligner succeeded) or "silent".
        score: Confidence reported by the aligner, in [0, 1], or None.
        aligner: Name of the aligner, or of the TextGrid; for "uniform" the reason why no aligner succeeded.
        unaligned: Spans (start, end) in seconds of speech for which no phones were found.
    """

    phones: tuple[Phone, ...] = ()
    words: tuple[Word, ...] = ()
    status: str = "aligned"
    score: float | None = None
    aligner: str = ""
    unaligned: tuple[tuple[float, float], ...] = ()

    def shifted(self, seconds: float) -> Alignment:
        """Return a copy in which every time is later by `seconds`."""
        if not seconds:
            return self
        phones = tuple(replace(p, start=p.start + seconds, end=p.end + seconds) for p in self.phones)
        words = tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in self.words)
        unaligned = tuple((start + seconds, end + seconds) for start, end in self.unaligned)
        return replace(self, phones=phones, words=words, unaligned=unaligned)

    def utterance_mask(self, times: np.ndarray) -> np.ndarray:
        """Return a mask (N,) of the `times` (N,) in seconds that lie between the first and the last phone.

        The span extends 0.1 s before the first phone and 0.2 s after the last. Pauses inside it count as speech.
        """
        if not self.phones:
            return np.zeros(len(times), bool)
        return (times > self.phones[0].start - 0.1) & (times < self.phones[-1].end + 0.2)


def is_silence(label: str) -> bool:
    """Return True if a TextGrid label stands for a pause."""
    return label.strip().lower() in SILENCE_LABELS


def write_textgrid(alignment: Alignment, path: Path, duration: float) -> None:
    """Write a TextGrid with the tiers "words" and "phones", each `duration` seconds long."""
    grid = textgrid.Textgrid(0.0, duration)
    tiers: list[tuple[str, list[tuple[float, float, str]]]] = [
        ("words", [(w.start, w.end, w.text) for w in alignment.words]),
        ("phones", [(p.start, p.end, p.label) for p in alignment.phones]),
    ]
    for name, entries in tiers:
        # rounding can place the end of the last interval past the end of the clip
        inside = [(s, min(e, duration), label) for s, e, label in entries if s < duration]
        filled = inside or [(0.0, duration, "")]
        grid.addTier(textgrid.IntervalTier(name, filled, 0.0, duration))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def read_textgrid(path: str | Path, duration: float | None = None) -> Alignment:
    """Read an alignment from a Praat TextGrid.

    Args:
        path: TextGrid file. Phones are read from the first tier whose name contains "phone", words from the
            first whose name contains "word", if there is one.
        duration: Length of the audio in seconds, for checking the intervals, or None.

    Returns:
        The alignment, with status "given".

    Raises:
        InputError: The file is missing or damaged, has no phone tier or no phones, has overlapping or
            reversed intervals, or has an interval that ends more than 50 ms after `duration`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such TextGrid file")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a usable TextGrid: {reason[:200]}") from None
    phone_tiers = [name for name in grid.tierNames if "phone" in name.lower()]
    if not phone_tiers:
        names = ", ".join(grid.tierNames) or "none"
        raise InputError(f'{path}: no tier whose name contains "phone" (tiers: {names})')
    phones = tuple(Phone(label, s, e) for s, e, label in _read_entries(path, grid, phone_tiers[0]))
    word_tiers = [name for name in grid.tierNames if "word" in name.lower()]
    words = tuple(Word(label, s, e) for s, e, label in _read_entries(path, grid, word_tiers[0])) if word_tiers else ()
    if not phones:
        raise InputError(f'{path}: tier "{phone_tiers[0]}" contains no phones')
    for kind, items in (("phone", phones), ("word", words)):
        for item in items:
            if duration is not None and item.end > duration + 0.05:
                raise InputError(
                    f"{path}: a {kind} ends at {item.end:.3f} s but the audio lasts {duration:.3f} s; "
                    "pass the TextGrid of this clip"
                )
    return Alignment(phones, words, status="given", aligner=path.name)


def _read_entries(path: Path, grid: textgrid.Textgrid, name: str) -> list[tuple[float, float, str]]:
    tier = grid.getTier(name)
    if not isinstance(tier, textgrid.IntervalTier):
        raise InputError(f'{path}: tier "{name}" is a point tier; use an interval tier')
    entries = [(float(e.start), float(e.end), str(e.label).strip()) for e in tier.entries]
    previous_end = 0.0
    for start, end, label in entries:
        if start < previous_end - 1e-6 or end <= start:
            raise InputError(f'{path}: tier "{name}": "{label}" at {start:.3f} s overlaps the interval before it')
        previous_end = end
    return [e for e in entries if not is_silence(e[2])]
