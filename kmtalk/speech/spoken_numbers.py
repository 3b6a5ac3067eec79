"""Numbers as they are spoken, in the languages of num2words."""

from __future__ import annotations

from num2words import num2words


def spoken_number(digits: str, language: str, form: str) -> str:
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


def spoken_digits(digits: str, language: str) -> str:
    """Spell out an integer: as a year, digit by digit (leading zero, more than six digits) or as a cardinal."""
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > 6:
        return " ".join(spoken_number(d, language, "cardinal") for d in digits)
    value = int(digits)
    if len(digits) == 4 and language == "en" and (1100 <= value < 2000 or 2010 <= value < 2100):
        return spoken_number(digits, language, "year")
    return spoken_number(digits, language, "cardinal")
