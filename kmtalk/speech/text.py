"""Text normalization: text → words for a pronouncing dictionary, with numbers, abbreviations and signs spelled out."""

from __future__ import annotations

import re
import unicodedata

from kmtalk.errors import InputError
from kmtalk.speech.english_text import expand_english
from kmtalk.speech.spoken_numbers import spoken_digits, spoken_number

_DECIMAL_COMMA = re.compile("cs|da|de|el|es|fi|fr|hr|hu|id|it|lt|lv|nb|nl|no|pl|pt|ro|ru|sk|sl|sr|sv|tr|uk|vi")
# signs after a number in other languages: euro, dollar, per cent
_SIGNS: dict[str, tuple[str, str, str]] = {
    "de": ("Euro", "Dollar", "Prozent"),
    "es": ("euros", "dólares", "por ciento"),
    "fr": ("euros", "dollars", "pour cent"),
    "it": ("euro", "dollari", "per cento"),
    "nl": ("euro", "dollar", "procent"),
    "pt": ("euros", "dólares", "por cento"),
    "ru": ("евро", "долларов", "процентов"),
}
# vowel signs and other marks of Indian, Arabic and South-East Asian scripts are parts of words, and none of \\w
_MARKS = "".join(c for c in map(chr, range(0x300, 0x3100)) if unicodedata.category(c)[0] == "M")
_LETTERS = rf"(?:[^\W\d_]|[{_MARKS}])+"
_TOKEN = re.compile(rf"{_LETTERS}(?:['’\-]{_LETTERS})*['’]?|\d+", re.UNICODE)


MAX_RUN_CHARACTERS = 200
"""Longer runs of characters without a space are data, not speech: the rest of them is left out."""

_DATA = re.compile(rf"[!-~]{{{MAX_RUN_CHARACTERS + 1},}}")  # of ASCII: other scripts may write without spaces

MAX_TEXT_CHARACTERS = 1_000_000
"""Longest text that is taken: some fifteen hours of speech."""


def check_spoken_text(text: str, source: str = "the text") -> None:
    """Check that a text contains something that can be spoken.

    Args:
        text: The text.
        source: Where the text comes from, for the message.

    Raises:
        InputError: The text is empty, longer than `MAX_TEXT_CHARACTERS`, or contains no letter or digit of any script.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InputError(f"{source}: is longer than {MAX_TEXT_CHARACTERS:,} characters; pass the words of this sound")
    if not text.strip():
        raise InputError(f"{source}: is empty; pass the spoken words, or omit --text")
    if not any(unicodedata.category(c)[0] in "LN" for c in text):
        raise InputError(f"{source}: contains no letter or digit of any script; pass the spoken words, or omit --text")


def tokenize_words(text: str, language: str = "en") -> list[str]:
    """Split a text into words as they are spoken.

    Args:
        text: The text.
        language: ISO 639-1 code, as for `spell_out`.

    Returns:
        Words in lower case. Acronyms of 2 to 5 capital letters keep their case, unless the whole text is in
        capitals.
    """
    return [lower_case(word, text.isupper()) for word in find_words(spell_out(text, language))]


def spell_out(text: str, language: str = "en") -> str:
    """Spell out what is not written in letters.

    Args:
        text: The text.
        language: ISO 639-1 code. Numbers, years, ordinals and decimals are spelled out if num2words supports
            the language; money and per cent in the larger European ones; times, addresses and abbreviations in
            English.

    Returns:
        The text with its punctuation, in the compatibility composition of Unicode (NFKC).
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    text = _DATA.sub(lambda m: m[0][:MAX_RUN_CHARACTERS], text)
    if _DECIMAL_COMMA.fullmatch(language):
        text = re.sub(r"(?<=\d)[.,](?=\d)", lambda m: "," if m[0] == "." else ".", text)
    text = expand_english(text) if language == "en" else _expand_signs(text, language)
    text = re.sub(r"\d{1,3}(?:,\d{3})+\b", lambda m: spoken_number(m[0].replace(",", ""), language, "cardinal"), text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: spoken_number(m[1], language, "ordinal"), text)
    text = re.sub(r"\d+\.\d+", lambda m: spoken_number(m[0], language, "cardinal"), text)
    return re.sub(r"\d+", lambda m: f" {spoken_digits(m[0], language)} ", text)


def find_words(spelled: str) -> list[str]:
    """Return the words of a text that `spell_out` returned, as they are written."""
    words: list[str] = []
    for match in _TOKEN.finditer(spelled):
        token = match[0].strip("-").rstrip("'") if not match[0].lower().endswith("s'") else match[0].rstrip("'")
        words += [part for part in token.split("-") if part]
    return words


def lower_case(word: str, all_caps: bool) -> str:
    """Return a word in lower case, unless it is an acronym; `all_caps`: the whole text is in capitals."""
    return word if word.isupper() and 2 <= len(word) <= 5 and not all_caps else word.lower()


def _expand_signs(text: str, language: str) -> str:
    """Spell out euro, dollar and per cent beside a number."""
    for sign, word in zip("€$%", _SIGNS.get(language, ()), strict=False):
        text = re.sub(rf"\{sign}\s?(\d[\d.,]*)", rf"\1 {word} ", text)
        text = re.sub(rf"(?<=\d)\s?\{sign}", f" {word} ", text)
    return text
