"""Frame-aligned phone tokens, the text condition of the joint model.

An utterance is a sequence of spans that cover it without gaps: phones of `ARPABET` with their stress, and pauses, which
are named by the punctuation that they stand for. N mel frames.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.joint.clock import HOP_SAMPLES, MEL_RATE, SAMPLE_RATE
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.phones import ARPABET, canonical_phone, split_ipa
from kmtalk.synthesis.piper import HOP_SAMPLES as PIPER_HOP
from kmtalk.synthesis.piper import PiperSpeech
from kmtalk.synthesis.piper_symbols import BLANK, FIRST, LAST, SPACE, time_words

PAUSES = ("SIL", ",", ".", "?", "!")
"""Pauses: without punctuation, and at each kind of it."""

VOCABULARY = ("", *PAUSES, *sorted(ARPABET))
"""Labels by token number; 0 stands for an unknown text."""

TOKEN = {label: i for i, label in enumerate(VOCABULARY)}
STRESS_UNKNOWN = 3
"""Stress is 0 (none), 1 (primary), 2 (secondary) or unknown."""

SHORTEST_PAUSE = 8  # mel frames; shorter gaps between phones without punctuation belong to the phone before
_PUNCTUATION = {",": ",", ";": ",", ":": ",", ".": ".", "…": ".", "?": "?", "!": "!"}
_STRESS_MARKS = {"ˈ": 1, "ˌ": 2}


@dataclass(frozen=True)
class Span:
    """One phone or pause of an utterance.

    Attributes:
        label: One of `VOCABULARY`.
        start: First mel frame.
        stop: Mel frame after the last.
        stress: 0 (none), 1 (primary), 2 (secondary) or `STRESS_UNKNOWN`.
        word: Number of the word that a phone belongs to; -1 where it is unknown, and for pauses.
    """

    label: str
    start: int
    stop: int
    stress: int = STRESS_UNKNOWN
    word: int = -1

    @property
    def is_pause(self) -> bool:
        """Whether nothing is spoken."""
        return self.label in PAUSES


@dataclass(frozen=True)
class FrameTokens:
    """Tokens of N mel frames.

    Attributes:
        labels: (N,) int64, numbers in `VOCABULARY`.
        stress: (N,) int64.
        place: (N, 3) float32: share of the span that has passed, share that remains, log of its length in seconds.
    """

    labels: np.ndarray
    stress: np.ndarray
    place: np.ndarray


def frame_tokens(spans: Sequence[Span], count: int) -> FrameTokens:
    """Spread spans over `count` mel frames; frames outside all spans have the token of an unknown text."""
    labels, stress = np.zeros(count, np.int64), np.full(count, STRESS_UNKNOWN, np.int64)
    place = np.zeros((count, 3), np.float32)
    for span in spans:
        start, stop = max(span.start, 0), min(span.stop, count)
        if stop <= start:
            continue
        length = span.stop - span.start
        passed = (np.arange(start, stop) + 0.5 - span.start) / length
        labels[start:stop], stress[start:stop] = TOKEN[span.label], span.stress
        place[start:stop, 0], place[start:stop, 1] = passed, 1 - passed
        place[start:stop, 2] = np.log(length / MEL_RATE) + 2.5
    return FrameTokens(labels, stress, place)


def spans_of_speech(speech: PiperSpeech) -> list[Span]:
    """Return the spans of what a Piper voice spoke, whose durations are exact.

    They begin and end where `kmtalk.synthesis.piper_symbols.time_phones` says.

    Raises:
        ValueError: The voice has another sample rate than `SAMPLE_RATE`.
    """
    if speech.rate != SAMPLE_RATE:
        raise ValueError(f"the voice has {speech.rate} Hz, not {SAMPLE_RATE}")
    return spans_of_symbols(speech.symbols, [d * (PIPER_HOP // HOP_SAMPLES) for d in speech.durations])


@dataclass
class _Begun:
    """A phone in IPA, or a pause, that begins at a mel frame."""

    label: str
    start: int
    stress: int
    word: int = -1

    @property
    def is_pause(self) -> bool:
        return self.label in PAUSES


def spans_of_symbols(
    symbols: Sequence[str], durations: Sequence[int], owners: Sequence[int] | None = None
) -> list[Span]:
    """Return the phones and pauses of a voice's symbols.

    Args:
        symbols: The symbols, with a blank between any two.
        durations: Duration of each in mel frames.
        owners: Number of the word of each, -1 for none.
    """
    edges = [0, *np.cumsum(durations).tolist()]
    begun: list[_Begun] = []
    marked, stress = 0, 0  # where the stress mark before the next letter is, and which it is
    end, spaced = 0, -1  # end of the last letter, and start of the space after it
    for i, symbol in enumerate(symbols):
        if symbol == BLANK:
            continue
        before = edges[max(0, (marked or i) - 1)]  # a letter begins with the blank before it
        if symbol in _STRESS_MARKS:
            marked, stress = marked or i, _STRESS_MARKS[symbol]
        elif symbol == SPACE:
            spaced = edges[i]
        elif symbol in (FIRST, LAST) or symbol in _PUNCTUATION:
            label = _PUNCTUATION.get(symbol, "SIL")
            if not begun or not begun[-1].is_pause:
                begun.append(_Begun(label, edges[i] if begun else 0, 0))
            elif label != "SIL" and begun[-1].label == "SIL":
                begun[-1].label = label
            spaced = -1
        elif symbol.isalpha() and unicodedata.category(symbol) != "Lm":
            last = begun[-1] if begun else None
            joins = last is not None and not last.is_pause and spaced < 0 and not marked
            if joins and last is not None and len(split_ipa(last.label + symbol)) == 1:
                last.label += symbol
            else:
                word_begins = spaced >= 0 and last is not None and not last.is_pause
                word = -1 if owners is None else owners[i]
                begun.append(_Begun(symbol, (end + spaced) // 2 if word_begins else before, stress, word))
            end, marked, stress, spaced = edges[i + 1], 0, 0, -1
    stops = [b.start for b in begun[1:]] + edges[-1:]
    return [
        Span(b.label if b.is_pause else canonical_phone(b.label), b.start, stop, b.stress, b.word)
        for b, stop in zip(begun, stops, strict=True)
        if stop > b.start
    ]


def spans_of_alignment(alignment: Alignment, duration: float) -> list[Span]:
    """Return the spans of an alignment whose phones are times in seconds; stress is unknown.

    Nothing covers speech for which no phones were found (`Alignment.unaligned`), and there are no spans without phones:
    what is unknown is no pause.
    """
    if not alignment.phones:
        return []
    count = round(duration * MEL_RATE)
    spans: list[Span] = []
    for phone in alignment.phones:
        start, stop = round(phone.start * MEL_RATE), min(round(phone.end * MEL_RATE), count)
        if spans:
            start = max(start, spans[-1].stop)
        if stop > start:
            spans.append(Span(canonical_phone(phone.label), start, stop))
    unknown = np.zeros(count, bool)
    for start_seconds, end_seconds in alignment.unaligned:
        unknown[max(0, round(start_seconds * MEL_RATE)) : round(end_seconds * MEL_RATE)] = True
    return _cover(spans, count, unknown)


def _cover(spans: list[Span], count: int, unknown: np.ndarray) -> list[Span]:
    """Fill gaps: short ones by the phone before, longer ones by a pause, but none with frames that are `unknown`."""
    out: list[Span] = []
    end = 0
    for span in [*spans, Span("", count, count)]:
        gap = span.start - end
        if unknown[end : span.start].any():
            pass
        elif gap > 0 and out and gap < SHORTEST_PAUSE and not out[-1].is_pause and span.label:
            out[-1] = Span(out[-1].label, out[-1].start, span.start, out[-1].stress)
        elif gap > 0:
            out.append(Span("SIL", end, span.start, 0))
        if span.label:
            out.append(span)
        end = span.stop
    return out


def alignment_of_spans(spans: Iterable[Span], aligner: str, words: Sequence[str] = ()) -> Alignment:
    """Return the phones of spans, and the words that they belong to, as an alignment in seconds."""
    spoken = [s for s in spans if not s.is_pause]
    phones = [Phone(s.label, s.start / MEL_RATE, s.stop / MEL_RATE) for s in spoken]
    timed = time_words(phones, [s.word for s in spoken], words)
    return Alignment(tuple(phones), tuple(timed), status="given", aligner=aligner)
