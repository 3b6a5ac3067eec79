"""Text to phones and pauses, by the rules with which Piper's voices, and so the training data, were spoken."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kmtalk.errors import InputError
from kmtalk.joint.tokens import Span, spans_of_symbols
from kmtalk.speech.espeak import espeak_is_installed
from kmtalk.synthesis.piper_symbols import sentence_symbols
from kmtalk.synthesis.sentences import split_sentences

LANGUAGE, VOICE = "en", "en-us"  # of the training data, and espeak-ng's name of it

_SYMBOLS = frozenset(" ") | frozenset(map(chr, [*range(0x21, 0x400), *range(0x1D00, 0x1DC0)]))  # Latin and IPA


@dataclass(frozen=True)
class TextPhones:
    """The phones and pauses of a text.

    Attributes:
        spans: Phones and pauses in order, one mel frame each: their durations are yet to be predicted.
        words: The words that `Span.word` numbers.
    """

    spans: tuple[Span, ...]
    words: tuple[str, ...]


def phones_of_text(text: str) -> TextPhones:
    """Return the phones and pauses of an English text.

    Raises:
        InputError: espeak-ng is not installed, or the text has nothing to speak.
    """
    if not espeak_is_installed():
        raise InputError("speaking needs pronunciations: pip install espeakng-loader")
    spans: list[Span] = []
    words: list[str] = []
    for sentence in split_sentences(text, LANGUAGE):
        said = sentence_symbols(sentence, VOICE, _SYMBOLS, {})
        spoken = spans_of_symbols(said.symbols, [1] * len(said.symbols), said.owners)
        if spans and spoken and spoken[0].is_pause:
            spoken = spoken[1:]  # the pause after the sentence before stands for both
        spans += [replace(s, word=s.word + len(words)) if s.word >= 0 else s for s in spoken]
        words += said.words
    if all(s.is_pause for s in spans):
        raise InputError("the text has nothing to speak: no letters or digits")
    return TextPhones(tuple(replace(s, start=i, stop=i + 1) for i, s in enumerate(spans)), tuple(words))
