"""Text → words that a pronouncing dictionary can hold: numbers, abbreviations and signs spelled out."""

from __future__ import annotations

import re
import unicodedata
from functools import partial

from num2words import num2words

from kmtalk.errors import InputError

# fmt: off
_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "st": "saint",
    "jr": "junior", "sr": "senior", "vs": "versus", "etc": "et cetera", "eg": "for example",
    "ie": "that is", "approx": "approximately", "dept": "department", "gov": "governor", "capt": "captain",
    "lt": "lieutenant", "sgt": "sergeant",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "ave": "avenue",
    "blvd": "boulevard", "rd": "road", "mt": "mount", "ft": "feet", "kg": "kilograms", "km": "kilometers",
    "cm": "centimeters", "mm": "millimeters", "sec": "seconds", "hr": "hours",
}
# fmt: on
_SIGNS = {"&": " and ", "%": " percent ", "+": " plus ", "=": " equals ", "@": " at ", "#": " number "}
_CURRENCY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_TOKEN = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*['’]?|\d+", re.UNICODE)


def check_text(text: str, source: str = "the text") -> None:
    """Raise InputError where there is nothing to say in any script."""
    if not text.strip():
        raise InputError(f"{source}: is empty; give the words that are spoken, or leave --text out")
    if not any(unicodedata.category(c)[0] in "LN" for c in text):
        raise InputError(f"{source}: holds no letter or digit of any script")


def to_words(text: str, language: str = "en") -> list[str]:
    """Words in lower case, in speaking order; ALL-CAPS acronyms of 2 to 5 letters keep their case.

    Numbers are spelled out by num2words where it knows the language (years, ordinals, decimals,
    money); abbreviations and signs in English.
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    if language == "en":
        text = _english(text)
    text = re.sub(r"\d{1,3}(?:,\d{3})+\b", lambda m: _number(m[0].replace(",", ""), language, "cardinal"), text)
    text = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda m: _number(m[1], language, "ordinal"), text)
    text = re.sub(r"\d+\.\d+", lambda m: _number(m[0], language, "cardinal"), text)
    text = re.sub(r"\d+", lambda m: f" {_digits(m[0], language)} ", text)
    words: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0].strip("-").rstrip("'") if not match[0].lower().endswith("s'") else match[0].rstrip("'")
        shouted = text.isupper()
        for piece in token.split("-"):
            acronym = piece.isupper() and 2 <= len(piece) <= 5 and not shouted
            if piece:
                words.append(piece if acronym else piece.lower())
    return words


def _english(text: str) -> str:
    for sign, (unit, part) in _CURRENCY.items():
        money = re.compile(rf"\{sign}\s?([\d,]+)(?:\.(\d\d))?")
        text = money.sub(partial(_money, unit=unit, small=part), text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)\b", lambda m: f"{m[1]} " + ("o'clock" if m[2] == "00" else _clock(m[2])), text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = re.sub(r"\b([A-Za-z])\.([A-Za-z])\.(?:([A-Za-z])\.)?", lambda m: "".join(g for g in m.groups() if g), text)

    text = re.sub(r"\bNo\.\s?(?=\d)", "number ", text)
    return re.sub(r"\b([A-Za-z]{2,6})\b\.?", lambda m: _ABBREVIATIONS.get(m[1].lower(), m[0]), text)


def _clock(minutes: str) -> str:
    return f"oh {minutes[1]}" if minutes[0] == "0" else minutes


def _money(match: re.Match[str], unit: str, small: str) -> str:
    whole, part = match.groups()
    amount = int(whole.replace(",", ""))
    words = f" {num2words(amount)} {unit}{'' if amount == 1 else 's'}"
    if part and int(part):
        plural = small if int(part) == 1 else ("pence" if small == "penny" else small + "s")
        words += f" and {num2words(int(part))} {plural}"
    return words


def _number(digits: str, language: str, form: str) -> str:
    try:
        value = float(digits) if "." in digits else int(digits)
        return f" {num2words(value, lang=language, to=form)} "
    except (NotImplementedError, OverflowError, ValueError, TypeError):
        return f" {' '.join(digits.replace('.', ' '))} "


def _digits(digits: str, language: str) -> str:
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > 6:
        return " ".join(_number(d, language, "cardinal") for d in digits)
    value = int(digits)
    if len(digits) == 4 and language == "en" and (1100 <= value < 2000 or 2010 <= value < 2100):
        return _number(digits, language, "year")
    return _number(digits, language, "cardinal")
