"""English text as it is spoken: money, addresses of the web, times, measures, signs and abbreviations spelled out."""

from __future__ import annotations

import re
from functools import partial

from num2words import num2words

from kmtalk.speech.spoken_numbers import spoken_number

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
_SIGNS = {
    "&": " and ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "#": " number ",
    "°": " degrees ",
    "½": " and a half ",
}
_CURRENCY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "")}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion"}
_SCALE = r"(?:\s?(thousand|million|billion|trillion)\b|\s?([KMBT]|[kmbt]n|k)\b)?"
_AMOUNT = r"(\d[\d,]*)(?:\.(\d+))?"
_LETTERS = {"w": "double u"}
_TOP_LEVEL = "com|org|net|edu|gov|io|ai|co|dev|app|info|tv|me|uk|us|eu|de|fr|es|it|ru|ch|at|ca|au|nl|jp|cn"
_ADDRESS = re.compile(
    rf"(?<![\w@])(?:https?://)?((?:[\w.+-]+@)?(?:[\w-]+\.)+(?:{_TOP_LEVEL})\b(?:[/?#][\w./?#&=%~-]*)?|www\.[\w./?#&=%~-]+)",
    re.IGNORECASE,
)


def expand_english(text: str) -> str:
    """Spell out money, addresses, times, signs, units and abbreviations."""
    text = _ADDRESS.sub(_spoken_address, text)
    for sign, (unit, subunit) in _CURRENCY.items():
        spoken = partial(_spoken_money, unit=unit, subunit=subunit)
        text = re.sub(rf"\{sign}\s?{_AMOUNT}{_SCALE}", spoken, text)
        text = re.sub(rf"(?<![\w.,]){_AMOUNT}{_SCALE}\s?\{sign}", spoken, text)
    text = re.sub(r"(\d)\s?([KMB])\b(?!\s?[°])", lambda m: f"{m[1]} {_SCALES[m[2].lower()]}", text)
    text = re.sub(r"(?<![\w.])[-−](?=\d)", " minus ", text)
    text = re.sub(r"(?<=\d)\s?[–—]\s?(?=\d)", " to ", text)
    text = re.sub(r"\b(\d{1,2}):(\d\d)(?:\s?([ap])\.?m\b\.?)?", _spoken_time, text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\d{1,2})\s?([ap])\.?m\b\.?", lambda m: f"{m[1]} {m[2].upper()}M", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(\d{1,3}0)s\b", lambda m: _spoken_decade(m[1]), text)
    text = re.sub(r"°\s?C\b", " degrees celsius", text)
    text = re.sub(r"°\s?F\b", " degrees fahrenheit", text)
    text = re.sub(r"\b(k?m)/h\b", lambda m: f"{_UNITS.get(m[1], 'meters')} per hour", text)
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


def _spoken_address(match: re.Match[str]) -> str:
    """An address of the web or of mail: "www.example.com" is "double u double u double u dot example dot com"."""
    address = match[1].rstrip("./")
    tail = match[1][len(address) :].replace("/", "")  # a full stop that ends the sentence
    spoken = []
    for part in re.split(r"([./@?#&=%~_+-])", address):
        sign = {".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore"}.get(part)
        if sign or not part.isalnum():
            spoken.append(sign or "")
        elif part.lower() == "www":
            spoken += [_LETTERS["w"]] * 3
        elif len(part) <= 2 and part.isalpha() and part.lower() not in ("me", "us", "it", "at"):
            spoken += [_LETTERS.get(c, c) for c in part.lower()]
        else:
            spoken.append(part)
    return " ".join(s for s in spoken if s) + tail


def _spoken_time(match: re.Match[str]) -> str:
    hour, minutes, half = match.groups()
    suffix = f" {half.upper()}M" if half else ""
    if minutes == "00":
        return f"{hour}{suffix}" if half else f"{hour} o'clock"
    return f"{hour} {f'oh {minutes[1]}' if minutes[0] == '0' else minutes}{suffix}"


def _spoken_decade(year: str) -> str:
    spoken = spoken_number(year, "en", "year" if len(year) == 4 else "cardinal").strip()
    return f"{spoken[:-1]}ies" if spoken.endswith("y") else f"{spoken}s"


def _spoken_money(match: re.Match[str], unit: str, subunit: str) -> str:
    whole, part, scale, letter = match.groups()
    whole, scale = whole.replace(",", ""), scale or (letter and _SCALES[letter.lower()])
    plural = unit if unit == "yen" else f"{unit}s"
    if scale or (part and len(part) != 2) or (part and not subunit):
        amount = spoken_number(f"{whole}.{part}" if part else whole, "en", "cardinal")
        return f"{amount}{scale or ''} {plural} "
    words = f"{spoken_number(whole, 'en', 'cardinal')}{unit if int(whole) == 1 else plural}"
    if part and int(part):
        small = subunit if int(part) == 1 else ("pence" if subunit == "penny" else subunit + "s")
        words += f" and {num2words(int(part))} {small}"
    return words + " "
