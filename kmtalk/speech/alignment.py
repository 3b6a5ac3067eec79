"""Time-aligned phones and words, and reading and writing them as Praat TextGrids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from praatio import textgrid

from kmtalk.errors import InputError
from kmtalk.user_files import check_user_file

SILENCE_LABELS = frozenset({"", "sil", "sp", "<eps>", "<p:>", "pau", "#"})
"""Lower-case labels that TextGrids and aligners use for pauses. "spn" (speech of unknown phones) is no pause."""


SCORE_TIER = "scores"
"""Name of the TextGrid tier with the confidence of each word."""

MAX_TIER_OVERLAP = 0.5
"""Share of overlapping speech from which two tiers are two annotations of one speaker, and not two speakers."""

MAX_TEXTGRID_BYTES = 64 << 20
"""Size of the largest TextGrid that is read."""

Entry = tuple[float, float, str]
"""Start and end in seconds and label of an interval."""


@dataclass(frozen=True)
class Phone:
    """One phone: `label` in ARPAbet or IPA, `start` and `end` in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """One word: its `text`, `start` and `end` in seconds, and the aligner's confidence `score` in [0, 1], or None."""

    text: str
    start: float
    end: float
    score: float | None = None


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
    """Write a TextGrid with the tiers "words", "phones" and, where known, "scores", each `duration` seconds long.

    The last has the aligner's confidence of each word, as "0.93".
    """
    grid = textgrid.Textgrid(0.0, duration)
    tiers: list[tuple[str, list[Entry]]] = [
        ("words", [(w.start, w.end, w.text) for w in alignment.words]),
        ("phones", [(p.start, p.end, p.label) for p in alignment.phones]),
    ]
    scored = [(w.start, w.end, f"{w.score:.2f}") for w in alignment.words if w.score is not None]
    if scored:
        tiers.append((SCORE_TIER, scored))
    for name, entries in tiers:
        # rounding can place the end of the last interval past the end of the clip
        inside = [(s, min(e, duration), label) for s, e, label in entries if s < duration]
        filled = inside or [(0.0, duration, "")]
        grid.addTier(textgrid.IntervalTier(name, filled, 0.0, duration))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def read_textgrid(
    path: str | Path,
    duration: float | None = None,
    tier: str | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> Alignment:
    """Read an alignment from a Praat TextGrid.

    Phones are read from the tiers whose names contain "phone", words from those that contain "word". Tiers of several
    speakers ("anna - phones", "ben - phones") are merged; of tiers that annotate the same speech the first is taken.

    Args:
        path: TextGrid file.
        duration: Length of the audio in seconds, for checking the intervals, or None.
        tier: Part of the names of the tiers to read, such as a speaker's name; None reads those of all speakers.
        warn: Called with one line where several tiers of phones are merged, or some are left out.

    Returns:
        The alignment, with status "given".

    Raises:
        InputError: The file is missing or damaged, has no phone tier or no phones, has overlapping or
            reversed intervals, or has an interval that ends more than 50 ms after `duration`.
    """
    path = Path(path)
    check_user_file(path, MAX_TEXTGRID_BYTES)
    try:
        grid = textgrid.openTextgrid(
            str(path), includeEmptyIntervals=False, reportingMode="error", duplicateNamesMode="rename"
        )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a usable TextGrid: {reason[:200]}") from None
    names = [n for n in grid.tierNames if tier is None or tier.casefold() in n.casefold()]
    phone_tiers = [n for n in names if "phone" in n.lower()]
    if tier is not None and not phone_tiers:  # a tier of phones by any other name
        phone_tiers = [n for n in names if "word" not in n.lower()][:1]
    if not phone_tiers:
        wanted = 'whose name contains "phone"' if tier is None else f'of phones whose name contains "{tier}"'
        raise InputError(f"{path}: no tier {wanted} (tiers: {', '.join(grid.tierNames)[:200] or 'none'})")
    spoken = {name: _read_entries(path, grid, name) for name in phone_tiers}
    spoken = {name: entries for name, entries in spoken.items() if entries}
    if not spoken:
        raise InputError(f'{path}: tier "{phone_tiers[0]}" contains no phones')
    kept = list(spoken)
    if any(_overlap(spoken[kept[0]], spoken[name]) > MAX_TIER_OVERLAP for name in kept[1:]):
        warn(f'{path}: phones are read from tier "{kept[0]}" of {", ".join(kept)}; choose another with --tier')
        kept = kept[:1]
    elif len(kept) > 1:
        warn(f"{path}: the phones of {len(kept)} tiers are merged ({', '.join(kept)}); choose one with --tier")
    word_tiers = [n for n in names if "word" in n.lower()]
    if len(kept) == 1 and len(word_tiers) > 1:  # that of the same speaker, else the first
        speaker = kept[0].lower().replace("phones", "words").replace("phone", "word")
        word_tiers = [n for n in word_tiers if n.lower() == speaker] or word_tiers[:1]
    scores: dict[float, float] = {}
    if SCORE_TIER in grid.tierNames:
        scores = {start: float(label) for start, _, label in _read_entries(path, grid, SCORE_TIER) if _is_score(label)}
    phones = tuple(Phone(label, s, e) for s, e, label in _merged([spoken[name] for name in kept]))
    spelled = _merged([_read_entries(path, grid, name) for name in word_tiers])
    words = tuple(Word(label, s, e, scores.get(s)) for s, e, label in spelled)
    for kind, items in (("phone", phones), ("word", words)):
        for item in items:
            if duration is not None and item.end > duration + 0.05:
                raise InputError(
                    f"{path}: a {kind} ends at {item.end:.3f} s but the audio lasts {duration:.3f} s; "
                    "pass the TextGrid of this clip"
                )
    return Alignment(phones, words, status="given", aligner=path.name)


def _is_score(label: str) -> bool:
    try:
        return 0 <= float(label) <= 1
    except ValueError:
        return False


def _overlap(a: list[Entry], b: list[Entry]) -> float:
    """Share of the shorter tier's speech that the other overlaps."""
    edges = np.unique([t for entry in [*a, *b] for t in entry[:2]])
    middles = (edges[:-1] + edges[1:]) / 2

    def spoken(entries: list[Entry]) -> np.ndarray:
        starts, ends = np.array([e[0] for e in entries]), np.array([e[1] for e in entries])
        index = np.searchsorted(starts, middles, side="right") - 1
        return np.asarray((index >= 0) & (middles < ends[np.maximum(index, 0)]))

    lengths, in_a, in_b = np.diff(edges), spoken(a), spoken(b)
    return float(lengths[in_a & in_b].sum() / max(min(lengths[in_a].sum(), lengths[in_b].sum()), 1e-9))


def _merged(tiers: list[list[Entry]]) -> list[Entry]:
    """The intervals of all tiers in time order; where speakers talk at once, the one who began goes on."""
    out: list[Entry] = []
    for start, end, label in sorted(entry for tier in tiers for entry in tier):
        begin = max(start, out[-1][1]) if out else start
        if end - begin > 1e-6:
            out.append((begin, end, label))
    return out


def _read_entries(path: Path, grid: textgrid.Textgrid, name: str) -> list[Entry]:
    tier = grid.getTier(name)
    if not isinstance(tier, textgrid.IntervalTier):
        raise InputError(f'{path}: tier "{name}" is a point tier; use an interval tier')
    entries = [(float(e.start), float(e.end), str(e.label).strip()) for e in tier.entries]
    previous_end = 0.0
    for start, end, label in entries:
        if not 0 <= start < end < np.inf or start < previous_end - 1e-6:
            raise InputError(f'{path}: tier "{name}": "{label}" at {start:.3f} s overlaps the interval before it')
        previous_end = end
    return [e for e in entries if not is_silence(e[2])]
