"""Text to phones and pauses, by the rules with which Piper's voices, and so the training data, were spoken."""

from __future__ import annotations

from kmtalk.errors import InputError
from kmtalk.joint.tokens import spans_of_symbols
from kmtalk.speech.espeak import espeak_is_installed
from kmtalk.synthesis.piper import symbols_of_text

LANGUAGE = "en-us"  # of the training data


def phones_of_text(text: str) -> list[tuple[str, int]]:
    """Return the phones and pauses of an English text with their stress.

    Raises:
        InputError: espeak-ng is not installed, or the text has nothing to speak.
    """
    if not espeak_is_installed():
        raise InputError("speaking needs pronunciations: pip install espeakng-loader")
    phones = [(s.label, s.stress) for s in spans_of_symbols(symbols_of_text(text, LANGUAGE))]
    if not any(label.isalpha() and label != "SIL" for label, _ in phones):
        raise InputError("the text has nothing to speak: no letters or digits")
    return phones
