"""Text normalization: text → words for a pronouncing dictionary, with numbers, abbreviations and signs spelled out."""

from __future__ import annotations

import re
import unicodedata
from functools import partial

from num2words import num2words

from kmtalk.errors import InputError

# fmt: off
_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor",
    "jr": "junior", "sr": "senior", "vs": "versus", "etc": "et cetera", "eg": "for example",
    "ie": "that is", "approx": "approximately", "dept": "department", "capt": "captain", "sgt": "sergeant",
    "ltd": "limited", "blvd": "boulevard",
}
_DOTTED = {  # expanded only before a dot, because they are also words or syllables
    "gov": "governor", "lt": "lieutenant", "inc": "incorporated", "corp": "corporation", "ave": "avenue",
    "rd": "road", "mt": "mount",
}
_UNITS = {
    "ft": "feet", "kg": "kilograms", "km": "kilometers", "cm": "centimeters", "mm": "millimeters", "sec": "seconds",
    "hr": "hours", "hrs": "hours", "min": "minutes",
}
# fmt: on
_DECIMAL_COMMA = re.compile("cs|da|de|el|es|fi|fr|hr|hu|id|it|lt|lv|nb|nl|no|pl|pt|ro|ru|sk|sl|sr|sv|tr|uk|vi")
_SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number "}
_CURRENCY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_TOKEN = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*['’]?|\d+", re.UNICODE)


def check_spoken_text(text: str, source: str = "the text") -> None:
    """Check that a text contains something that can be spoken.

    Args:
        text: The text.
        source: Where the text comes from, for the message.

    Raises:
        InputError: The text is empty, or contains no letter or digit of any script.
    """
    if not text.strip():
        raise InputError(f"{source}: is empty; pass the spoken words, or omit --text")
    if not any(unicodedata.category(c)[0] in "LN" for c in text):
        raise InputError(f"{source}: contains no letter or digit of any script; pass the spoken words, or omit --text")


def tokenize_words(text: str, language: str = "en") -> list[str]:
    """Split a text into words as they are spoken.

    Args:
        text: The text.
        language: ISO 639-1 code. Numbers, years, ordinals and decimals are spelled out if num2words supports
            the language; money, times, abbreviations and signs only in English.

    Returns:
        Words in lower case. Acronyms of 2 to 5 capital letters keep their case, unless the whole text is in
        capitals.
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    if _DECIMAL_COMMA.fullmatch(language):
        text = re.sub(r"(?<=\d)[.,](?=\d)", lambda m: "," if m[0] == "." else ".", text)
    if language == "en":
        text = _expand_english(text)
    text = re.sub(r"\d{1,3}(?:,\d{3})+\b", lambda m: _spoken_number(m[0].replace(",", ""), language, "cardinal"), text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: _spoken_number(m[1], language, "ordinal"), text)
    text = re.sub(r"\d+\.\d+", lambda m: _spoken_number(m[0], language, "cardinal"), text)
    text = re.sub(r"\d+", lambda m: f" {_spoken_digits(m[0], language)} ", text)
    words: list[str] = []
    all_caps = text.isupper()
    for match in _TOKEN.finditer(text):
        token = match[0].strip("-").rstrip("'") if not match[0].lower().endswith("s'") else match[0].rstrip("'")
        for part in token.split("-"):
            acronym = part.isupper() and 2 <= len(part) <= 5 and not all_caps
            if part:
                words.append(part if acronym else part.lower())
    return words


def _expand_english(text: str) -> str:
    """Spell out money, times, signs, units and abbreviations."""
    for sign, (unit, subunit) in _CURRENCY.items():
        money = re.compile(rf"\{sign}\s?(\d[\d,]*)(?:\.(\d+))?(?:\s(thousand|million|billion|trillion)\b)?")
        text = money.sub(partial(_spoken_money, unit=unit, subunit=subunit), text)
    text = re.sub(
        r"\b(\d{1,2}):(\d\d)\b", lambda m: f"{m[1]} " + ("o'clock" if m[2] == "00" else _spoken_minutes(m[2])), text
    )
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"\b([A-Za-z])\.([A-Za-z])\.(?:([A-Za-z])\.)?", lambda m: "".join(g for g in m.groups() if g), text)
    text = re.sub(r"\bNo\.\s?(?=\d)", "number ", text)
    text = re.sub(r"(?<![A-Za-z])(\d(?:st|nd|rd|th))\s+St\.", r"\1 street", text)
    text = re.sub(r"\bSt\.(?=\s+[A-Z])", "saint", text)
    text = re.sub(r"\bSt\.", "street", text)
    text = re.sub(rf"(?<=\d)\s?({'|'.join(_UNITS)})\b\.?", lambda m: f" {_UNITS[m[1]]}", text)
    text = re.sub(r"\b([A-Z][a-z]{1,3})\.", lambda m: _DOTTED.get(m[1].lower(), m[0]), text)
    return re.sub(r"\b([A-Za-z]{2,6})\b\.?", lambda m: _ABBREVIATIONS.get(m[1].lower(), m[0]), text)


def _spoken_minutes(minutes: str) -> str:
    return f"oh {minutes[1]}" if minutes[0] == "0" else minutes


def _spoken_money(match: re.Match[str], unit: str, subunit: str) -> str:
    whole, part, scale = match.groups()
    whole = whole.replace(",", "")
    if scale or (part and len(part) != 2):
        amount = _spoken_number(f"{whole}.{part}" if part else whole, "en", "cardinal")
        return f"{amount}{scale or ''} {unit}s"
    words = f"{_spoken_number(whole, 'en', 'cardinal')}{unit}{'' if int(whole) == 1 else 's'}"
    if part and int(part):
        plural = subunit if int(part) == 1 else ("pence" if subunit == "penny" else subunit + "s")
        words += f" and {num2words(int(part))} {plural}"
    return words


def _spoken_number(digits: str, language: str, form: str) -> str:
    """Spell out a number ("cardinal", "ordinal" or "year"), or separate its digits if num2words cannot."""
    try:
        if len(digits) > 15 or (
            language == "am" and len(digits) > 3
        ):  # num2words does not terminate for Amharic thousands
            raise OverflowError
        value = float(digits) if "." in digits else int(digits)
        return f" {num2words(value, lang=language, to=form)} "
    except (NotImplementedError, OverflowError, ValueError, TypeError):
        return f" {' '.join(digits.replace('.', ' '))} "


def _spoken_digits(digits: str, language: str) -> str:
    """Spell out an integer: as a year, digit by digit (leading zero, more than six digits) or as a cardinal."""
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > 6:
        return " ".join(_spoken_number(d, language, "cardinal") for d in digits)
    value = int(digits)
    if len(digits) == 4 and language == "en" and (1100 <= value < 2000 or 2010 <= value < 2100):
        return _spoken_number(digits, language, "year")
    return _spoken_number(digits, language, "cardinal")
