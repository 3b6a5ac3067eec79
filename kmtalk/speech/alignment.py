"""Phones and words in time, and their Praat TextGrid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from praatio import textgrid

from kmtalk.errors import InputError

SILENCE_LABELS = frozenset({"", "sil", "sp", "<eps>", "<p:>", "pau", "#"})
"""Labels, in lower case, that TextGrids and aligners use for pauses; "spn" is speech of unknown phones."""


@dataclass(frozen=True)
class Phone:
    """``label`` (ARPAbet or IPA), ``start`` and ``end`` in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """``text``, ``start`` and ``end`` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Alignment:
    """Phones and words of one clip in time order; what lies between them is silence.

    ``status`` is "aligned", "given" (a TextGrid), "uniform" (no aligner could serve) or "silent";
    ``score`` is the aligner's own confidence in [0, 1] or None; ``aligner`` names who made it.
    ``unaligned`` are spans (start, end) in seconds that hold speech whose phones were not found.
    """

    phones: tuple[Phone, ...] = ()
    words: tuple[Word, ...] = ()
    status: str = "aligned"
    score: float | None = None
    aligner: str = ""
    unaligned: tuple[tuple[float, float], ...] = ()

    def shifted(self, seconds: float) -> Alignment:
        """The same, put off by ``seconds``."""
        if not seconds:
            return self
        phones = tuple(replace(p, start=p.start + seconds, end=p.end + seconds) for p in self.phones)
        words = tuple(replace(w, start=w.start + seconds, end=w.end + seconds) for w in self.words)
        unaligned = tuple((start + seconds, end + seconds) for start, end in self.unaligned)
        return replace(self, phones=phones, words=words, unaligned=unaligned)

    def speech_mask(self, times: np.ndarray) -> np.ndarray:
        """Which ``times`` (N,) in seconds are of speech: from 0.1 s before the first phone to 0.2 s after the last."""
        if not self.phones:
            return np.zeros(len(times), bool)
        return (times > self.phones[0].start - 0.1) & (times < self.phones[-1].end + 0.2)


def is_silence(label: str) -> bool:
    return label.strip().lower() in SILENCE_LABELS


def write_textgrid(alignment: Alignment, path: Path, duration: float) -> None:
    """Write tiers "words" and "phones" that cover ``duration`` seconds, as Praat and MFA read them."""
    grid = textgrid.Textgrid(0.0, duration)
    tiers: list[tuple[str, list[tuple[float, float, str]]]] = [
        ("words", [(w.start, w.end, w.text) for w in alignment.words]),
        ("phones", [(p.start, p.end, p.label) for p in alignment.phones]),
    ]
    for name, entries in tiers:
        # the end of the last interval may pass the clip's end by rounding
        inside = [(s, min(e, duration), label) for s, e, label in entries if s < duration]
        filled = inside or [(0.0, duration, "")]
        grid.addTier(textgrid.IntervalTier(name, filled, 0.0, duration))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def read_textgrid(path: str | Path, duration: float | None = None) -> Alignment:
    """Alignment from any tier whose name contains "phone" (and "word", if there is one).

    Raises InputError where the file is missing or damaged, has no such tier, holds overlapping or
    backward intervals, or reaches more than 50 ms past ``duration`` seconds of sound.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such TextGrid")
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
        raise InputError(f'{path}: tier "{phone_tiers[0]}" holds no phones')
    for kind, items in (("phone", phones), ("word", words)):
        for item in items:
            if duration is not None and item.end > duration + 0.05:
                raise InputError(
                    f"{path}: a {kind} ends at {item.end:.3f} s but the sound lasts {duration:.3f} s; "
                    "is it the TextGrid of another clip?"
                )
    return Alignment(phones, words, status="given", aligner=path.name)


def _read_entries(path: Path, grid: textgrid.Textgrid, name: str) -> list[tuple[float, float, str]]:
    tier = grid.getTier(name)
    if not isinstance(tier, textgrid.IntervalTier):
        raise InputError(f'{path}: tier "{name}" is a point tier; phones need intervals')
    entries = [(float(e.start), float(e.end), str(e.label).strip()) for e in tier.entries]
    last = 0.0
    for start, end, label in entries:
        if start < last - 1e-6 or end <= start:
            raise InputError(f'{path}: tier "{name}": "{label}" at {start:.3f} s overlaps what is before it')
        last = end
    return [e for e in entries if not is_silence(e[2])]
