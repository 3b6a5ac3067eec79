"""Text to phones and pauses, by the rules with which Piper's voices, and so the training data, were spoken."""

from __future__ import annotations

from kmtalk.errors import InputError
from kmtalk.joint.tokens import PAUSES, spans_of_symbols
from kmtalk.speech.espeak import espeak_is_installed
from kmtalk.synthesis.piper_symbols import sentence_symbols
from kmtalk.synthesis.sentences import split_sentences

LANGUAGE, VOICE = "en", "en-us"  # of the training data, and espeak-ng's name of it

_SYMBOLS = frozenset(" ") | frozenset(map(chr, [*range(0x21, 0x400), *range(0x1D00, 0x1DC0)]))  # Latin and IPA


def phones_of_text(text: str) -> list[tuple[str, int]]:
    """Return the phones and pauses of an English text with their stress.

    Raises:
        InputError: espeak-ng is not installed, or the text has nothing to speak.
    """
    if not espeak_is_installed():
        raise InputError("speaking needs pronunciations: pip install espeakng-loader")
    phones: list[tuple[str, int]] = []
    for sentence in split_sentences(text, LANGUAGE):
        symbols = sentence_symbols(sentence, VOICE, _SYMBOLS, {}).symbols
        spoken = [(s.label, s.stress) for s in spans_of_symbols(symbols, [1] * len(symbols))]
        if phones and spoken and spoken[0][0] in PAUSES:
            spoken = spoken[1:]  # the pause after the sentence before stands for both
        phones += spoken
    if all(label in PAUSES for label, _ in phones):
        raise InputError("the text has nothing to speak: no letters or digits")
    return phones
