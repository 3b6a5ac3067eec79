"""Sentences, clauses and words of a text that is to be spoken."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kmtalk.speech.text import find_words, lower_case, spell_out

MAX_CLAUSE_CHARACTERS, MAX_SENTENCE_CHARACTERS = 200, 300
"""Characters after which a clause without punctuation, and a sentence, are divided; a sentence is spoken at once."""

# punctuation of other scripts as its nearest in the Latin one; some of them are written without a space after them
_PUNCTUATION = str.maketrans(
    {"。": ". ", "．": ". ", "।": ". ", "॥": ". ", "۔": ". ", "።": ". ", "！": "! ", "？": "? ", "؟": "? ", "，": ", "}
    | {"、": ", ", "،": ", ", "；": "; ", "؛": "; ", "：": ": ", "—": ", ", "…": "... ", "¿": " ", "¡": " "}
    | dict.fromkeys('"“”„«»‹›', "")
)
_ASIDE = re.compile(r"\s+[-–]+\s+|\s-{2,}|-{2,}\s|[()\[\]{}]")  # dashes and brackets, which are heard as commas are
_BLANK_LINE = re.compile(r"[^\S\n]*\n\s*\n\s*")
_END = re.compile(r"([.?!]+)['’)\]}]*\s+(?=\S)|\n\n")
_MARK = re.compile(r"\s*([.,;:?!]+)['’]*(?=\s|$)")
_ORDINAL = re.compile(r"(?<![\w.,])(\d{1,2})\.(?=\s+[^\W\d_])")
_WITH_ORDINALS = re.compile("cs|da|de|et|fi|hr|hu|is|lb|lv|nb|no|pl|sk|sl|sr")  # languages that write 3. for third
# fmt: off
_ABBREVIATIONS = frozenset((
    "abs", "approx", "art", "bd", "bzw", "ca", "capt", "cf", "co", "dept", "dipl", "dott", "dr", "dra", "ed", "eg",
    "evtl", "fig", "fr", "gen", "geb", "gov", "hr", "hrsg", "ie", "ing", "inkl", "kap", "lic", "lt", "max", "mgr",
    "mio", "mlle", "mme", "mr", "mrd", "mrs", "ms", "mt", "nr", "pag", "prof", "ref", "rev", "sen", "sgt", "sig", "sog",
    "sra", "srta", "st", "str", "tel", "vgl", "vol", "vs",
))
# fmt: on
"""Words that a dot shortens, and after which a sentence hardly ends."""


@dataclass(frozen=True)
class Clause:
    """Words that are spoken without a pause.

    Attributes:
        words: The words as they are written.
        mark: The punctuation after them: one of , ; : . ? !
    """

    words: tuple[str, ...]
    mark: str


Sentence = tuple[Clause, ...]


def split_sentences(text: str, language: str = "en") -> list[Sentence]:
    """Split a text into sentences and clauses, with what is not written in letters spelled out (`spell_out`).

    A dot after an abbreviation or an initial, or before a word in lower case, ends no sentence; a blank line ends one.

    Args:
        text: The text.
        language: ISO 639-1 code.

    Returns:
        The sentences that have words, each with one clause at least. The last clause of each ends with . ? or ! unless
        the sentence is longer than `MAX_SENTENCE_CHARACTERS` and goes on in the next.
    """
    text = _BLANK_LINE.sub("\n\n", text.translate(_PUNCTUATION).strip())
    if _WITH_ORDINALS.fullmatch(language):
        text = _ORDINAL.sub(r"\1", text)
    all_caps, begin = text.isupper(), 0
    sentences = []
    for match in _END.finditer(text):
        if _ends_sentence(text[begin : match.start()], match[1] or "", text[match.end()]):
            sentences.append(_clauses(text[begin : match.end()], language, all_caps))
            begin = match.end()
    sentences.append(_clauses(text[begin:], language, all_caps))
    return [part for sentence in sentences for part in _divide_sentence(sentence)]


def _ends_sentence(before: str, mark: str, after: str) -> bool:
    """Whether a sentence ends between the text `before` and the character `after`; `mark` is "" for a blank line."""
    if not mark:
        return True
    last = before.split()[-1].lstrip("([{'‘’") if before.split() else ""
    is_initial = len(last) == 1 and last.isalpha() and last != "I"
    is_dotted = re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", last) and last.casefold() not in ("a.m", "p.m")
    if mark == "." and (is_initial or is_dotted or last.casefold() in _ABBREVIATIONS):
        return False
    if mark == "." and last.casefold() == "no" and after.isdecimal():
        return False
    return not after.islower()


def _clauses(text: str, language: str, all_caps: bool) -> Sentence:
    """The clauses of one sentence; none where it has no words."""
    stripped = text.rstrip().rstrip("'’)]}")
    final = next((m for m in "?!" if m in stripped[len(stripped.rstrip(".?!")) :]), ".")
    spelled = spell_out(_ASIDE.sub(", ", re.sub(r"[)\]}]+(?=[.,;:?!])", "", text)), language)
    clauses: list[Clause] = []
    begin = 0
    marks = [
        m for m in _MARK.finditer(spelled) if m[1] != "." or m.end() == len(spelled)
    ]  # not that of an abbreviation
    for match in (*marks, None):
        words = find_words(spelled[begin : match.start() if match else None])
        mark = next((m for m in "?!:;" if match and m in match[1]), ",")
        begin = match.end() if match else len(spelled)
        if words:
            written = [word.lower() if all_caps else word for word in words]
            clauses += [Clause(tuple(part), ",") for part in _divide(written)]
            clauses[-1] = Clause(clauses[-1].words, mark)
    if clauses:
        clauses[-1] = Clause(clauses[-1].words, final)
    return tuple(clauses)


def spoken_form(word: str) -> str:
    """A word as transcripts have it: in lower case unless it is an acronym."""
    return lower_case(word, all_caps=False)


def _divide_sentence(sentence: Sentence) -> list[Sentence]:
    """The clauses of a sentence in parts of up to `MAX_SENTENCE_CHARACTERS`."""
    parts: list[Sentence] = []
    length = 0
    for clause in sentence:
        size = sum(_size(word) + 1 for word in clause.words)
        if parts and length + size <= MAX_SENTENCE_CHARACTERS:
            parts[-1] = (*parts[-1], clause)
            length += size
        else:
            parts.append((clause,))
            length = size
    return parts


def _divide(words: list[str]) -> list[list[str]]:
    """Words in parts of up to `MAX_CLAUSE_CHARACTERS`; longer words are cut."""
    parts: list[list[str]] = [[]]
    length = 0
    for word in words:
        step = MAX_CLAUSE_CHARACTERS * len(word) // _size(word)
        for start in range(0, len(word), step):
            piece = word[start : start + step]
            if length and length + _size(piece) > MAX_CLAUSE_CHARACTERS:
                parts.append([])
                length = 0
            parts[-1].append(piece)
            length += _size(piece) + 1
    return parts


def _size(word: str) -> int:
    """Characters of a word; those of Chinese, Japanese and Korean, which are syllables, count as three."""
    return sum(3 if "\u2e80" <= c <= "\ud7ff" else 1 for c in word)
