"""The symbols that a Piper voice speaks: those of a sentence, and the phones and words that they are heard as."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rapidfuzz.distance import Levenshtein

from kmtalk.speech.alignment import Phone, Word
from kmtalk.speech.espeak import IGNORED_IPA_MARKS, espeak
from kmtalk.synthesis.sentences import Clause, Sentence, spoken_form

BLANK, FIRST, LAST, SPACE = "_", "^", "$", " "

_LANGUAGE_FLAG = re.compile(r"\([^()]*\)")  # espeak-ng's mark of a word that it takes for one of another language
_DIPHTHONGS_AND_AFFRICATES = frozenset(("aɪ", "aʊ", "eɪ", "oʊ", "əʊ", "ɔɪ", "tʃ", "dʒ"))


@dataclass(frozen=True)
class SentenceSymbols:
    """The symbols of one sentence.

    Attributes:
        symbols: What the voice speaks, in order: letters and marks of IPA, punctuation, "^" and "$" at the ends, and
            "_" between any two.
        owners: For each symbol the number of the word that it belongs to, -1 for none.
        words: The words, as transcripts have them.
        unknown: Symbols for which the voice has no sound, and which are left out.
    """

    symbols: tuple[str, ...]
    owners: tuple[int, ...]
    words: tuple[str, ...]
    unknown: frozenset[str]


def sentence_symbols(
    sentence: Sentence, language: str, known: Collection[str], replacements: Mapping[str, Sequence[str]]
) -> SentenceSymbols:
    """Return the symbols of a sentence.

    Args:
        sentence: The sentence.
        language: espeak-ng's name of the language or voice.
        known: The symbols that the voice knows.
        replacements: Symbols of espeak-ng → those of the voice, where they differ.

    Raises:
        InputError: espeak-ng has no such language.
    """
    spoken: list[tuple[str, int]] = []
    words: list[str] = []
    for clause in sentence:
        if spoken:
            spoken.append((SPACE, -1))
        spoken += [(c, owner + len(words)) if owner >= 0 else (c, -1) for c, owner in _pronounce(clause, language)]
        spoken.append((clause.mark, -1))
        words += [spoken_form(word) for word in clause.words]
    replaced = [(r, owner) for c, owner in spoken for r in replacements.get(c, (c,))]
    symbols, owners = [FIRST], [-1]
    for symbol, owner in replaced:
        if symbol in known and symbol not in (BLANK, FIRST, LAST):
            symbols += [BLANK, symbol]
            owners += [-1, owner]
    unknown = frozenset(symbol for symbol, owner in replaced if owner >= 0 and symbol not in known)
    return SentenceSymbols((*symbols, BLANK, LAST), (*owners, -1, -1), tuple(words), unknown)


def _pronounce(clause: Clause, language: str) -> list[tuple[str, int]]:
    """The clause in IPA, as (character, number of its word or -1)."""
    ipa = _ipa(" ".join(clause.words), language)
    tokens = ipa.split()
    if len(tokens) == len(clause.words):
        return [pair for i, token in enumerate(tokens) for pair in [(SPACE, -1)] * bool(i) + [(c, i) for c in token]]
    # espeak-ng has joined words ("of the" is ʌvðə) or divided one: compared with what each word is by itself
    alone = [_ipa(word, language).replace(SPACE, "") for word in clause.words]
    owner_alone = [i for i, word in enumerate(alone) for _ in word] or [0]
    joined = ipa.replace(SPACE, "")
    owners: list[int] = []
    for op in Levenshtein.opcodes("".join(alone), joined):
        for k in range(op.dest_end - op.dest_start):
            owners.append(owner_alone[min(op.src_start + k, max(op.src_end - 1, op.src_start), len(owner_alone) - 1)])
    each = iter(owners)
    return [(c, -1 if c == SPACE else next(each)) for c in ipa]


def _ipa(text: str, language: str) -> str:
    phonemes = _LANGUAGE_FLAG.sub(" ", espeak().phonemes(language, text))
    return " ".join(unicodedata.normalize("NFD", phonemes).split())  # voices know letters and their marks by themselves


def time_phones(
    symbols: Sequence[str], owners: Sequence[int], durations: Sequence[int], unit_seconds: float
) -> tuple[list[Phone], list[int]]:
    """Return the phones of a sentence, and the numbers of their words.

    A voice speaks a letter from the blank before it on: the closure of a plosive lies there, and its burst in the
    letter (boundaries at the beginning of the blank agree with those of PocketSphinx to 4 ms in median, at its end to
    23 ms). The space between two words is no pause: they meet in the middle of the blank before it. Punctuation is one,
    from the mark to the blank before the next letter.

    Args:
        symbols: The symbols, with a blank between any two.
        owners: The number of the word of each.
        durations: Their durations in units.
        unit_seconds: Length of a unit.
    """
    edges = np.concatenate([[0.0], np.cumsum(durations)]) * unit_seconds
    phones: list[Phone] = []
    words: list[int] = []
    pause, space, first, spaced = True, False, 0, 0.0  # before the next letter; where its stress mark and its space are
    for i in range(2, len(symbols), 2):  # those that are no blanks
        symbol = symbols[i]
        if symbol in IGNORED_IPA_MARKS:
            first = first or i
        elif _modifies(symbol) and phones and not (pause or space):
            joined = phones[-1].label + symbol * (not symbol.isdecimal())
            phones[-1] = replace(phones[-1], label=joined, end=float(edges[i + 1]))
        elif symbol.isalpha():
            start = float(edges[(first or i) - 1])
            if phones and not pause:
                if space:
                    start = (phones[-1].end + spaced) / 2
                phones[-1] = replace(phones[-1], end=start)
            diphthong = phones and words[-1] == owners[i] and not (pause or space or first)
            if diphthong and phones[-1].label + symbol in _DIPHTHONGS_AND_AFFRICATES:
                phones[-1] = Phone(phones[-1].label + symbol, phones[-1].start, float(edges[i + 1]))
            else:
                phones.append(Phone(symbol, start, float(edges[i + 1])))
                words.append(owners[i])
            pause, space, first = False, False, 0
        elif symbol == SPACE:
            space, spaced = True, float(edges[i])
        elif not pause:
            if phones and not space:
                phones[-1] = replace(phones[-1], end=float(edges[i]))
            pause = True
    return phones, words


def time_words(phones: Sequence[Phone], owners: Sequence[int], words: Sequence[str]) -> list[Word]:
    """Return the words with the times of their phones; one that is not heard is written to the next."""
    out: list[Word] = []
    unheard: list[str] = []
    for number, text in enumerate(words):
        own = [phone for phone, owner in zip(phones, owners, strict=True) if owner == number]
        unheard.append(text)
        if own:
            out.append(Word(" ".join(unheard), own[0].start, own[-1].end))
            unheard = []
    if unheard and out:
        out[-1] = replace(out[-1], text=" ".join([out[-1].text, *unheard]))
    return out


def _modifies(symbol: str) -> bool:
    """Whether a symbol is part of the phone before it: marks of length, nasality and tone."""
    return unicodedata.category(symbol) in ("Lm", "Mn", "Mc", "Sk", "Nd")
