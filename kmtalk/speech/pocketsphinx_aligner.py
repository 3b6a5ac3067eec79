"""Forced alignment with PocketSphinx, whose wheel contains a model of English and a dictionary.

Other languages are aligned with the same model through the English phones nearest to theirs (`ForeignAligner`).
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pocketsphinx

from kmtalk.speech import g2p
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, Audio, detect_speech_span
from kmtalk.speech.espeak import espeak, espeak_is_installed
from kmtalk.speech.phones import canonical_phone, split_ipa
from kmtalk.speech.text import tokenize_words

FRAME_SECONDS = 0.010
MIN_SCORE = 0.5
"""Score below which the text is taken not to match the audio."""

MIN_FOREIGN_SCORE = 0.4
"""The same for `align_phones` with speech in another language, which always scores lower."""

MAX_WORD_LETTERS = 100
"""Longest token that is taken for a word; longer ones are data, not speech."""

# Median phone score per frame (PocketSphinx log units). For 40 recorded prompts it was -26 or more with the
# correct text and -40 or less with the text of another prompt; the score is a logistic curve between them.
_MIDDLE, _WIDTH = -33.0, 4.0

# Foreign speech: median phone score of the text less that of its phones in reverse order, and the lowest score of the
# latter that counts (no path is found for many)
_MARGIN, _WORST = 13.0, -70.0

_WIDE_BEAM = 1e-90  # PocketSphinx prunes at 1e-48; noise between the words can need more


_Entry = tuple[str, list[tuple[str, int, int, int]]]


@dataclass(frozen=True)
class DecodedWords:
    """PocketSphinx's result.

    Attributes:
        words: Each word with its phones: (label, start in s, number of frames, score per frame in log units).
    """

    words: list[tuple[str, list[tuple[str, float, int, float]]]]

    @property
    def score(self) -> float:
        """Median score of the phones."""
        return float(np.median([score for _, phones in self.words for _, _, _, score in phones]))

    def to_alignment(self, name: str, confidence: Callable[[float], float], min_score: float) -> Alignment:
        """Return the alignment.

        Args:
            name: Name of the aligner.
            confidence: Maps the median score of some phones to a confidence in [0, 1].
            min_score: Confidence below which the words are taken not to match the audio.

        Raises:
            AlignmentError: The confidence is below `min_score`.
        """
        score = confidence(self.score)
        if score < min_score:
            raise AlignmentError(f"score {score:.2f} < {min_score}: the text does not match the audio")
        phones: list[Phone] = []
        words: list[Word] = []
        for word, spans in self.words:
            parts = [Phone(p, round(at, 4), round(at + n * FRAME_SECONDS, 4)) for p, at, n, _ in spans]
            phones += parts
            sure = confidence(float(np.median([score for _, _, _, score in spans])))
            words.append(Word(word, parts[0].start, parts[-1].end, sure))
        return Alignment(tuple(phones), tuple(words), "aligned", score, name)


class PocketSphinxDecoder:
    """PocketSphinx's decoder, which many threads may share: it is not reentrant, so they take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoders: dict[bool, pocketsphinx.Decoder] = {}
        self._added: dict[str, str] = {}

    def lookup_word(self, word: str) -> bool:
        """Return whether the dictionary, or a call of `add_word`, has the word."""
        with self._lock:
            return word in self._added or self._decoder(False).lookup_word(word) is not None

    def add_word(self, word: str, phones: Sequence[str]) -> None:
        """Add a word with its phones in ARPAbet."""
        with self._lock:
            if word not in self._added:
                self._added[word] = " ".join(phones)
                for decoder in self._decoders.values():
                    decoder.add_word(word, self._added[word], update=True)

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool) -> DecodedWords:
        """Align words that the decoder knows; raises AlignmentError where no path fits the audio."""
        begin, end = (round(t, 3) for t in detect_speech_span(audio.samples))
        samples = audio.samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        if len(samples) < SAMPLE_RATE // 10:
            raise AlignmentError("the audio is shorter than 0.1 s")
        pcm = (np.clip(samples / max(np.abs(samples).max(), 1e-4) * 0.7, -1, 1) * 32767).astype(np.int16).tobytes()
        with self._lock:
            entries = self._decode(self._decoder(wide_beam), pcm, words)
        spoken = [(w, [p for p in phones if p[2] > 0]) for w, phones in entries if w[0] not in "<["]  # <sil>, [NOISE]
        if not any(phones for _, phones in spoken):
            raise AlignmentError("no phones found")
        return DecodedWords(
            [
                (w.split("(")[0], [(p, begin + at * FRAME_SECONDS, n, score / n) for p, at, n, score in phones])
                for w, phones in spoken
                if phones
            ]
        )

    def _decoder(self, wide_beam: bool) -> pocketsphinx.Decoder:
        if wide_beam not in self._decoders:
            beams = {name: _WIDE_BEAM for name in ("beam", "pbeam", "wbeam")} if wide_beam else {}
            # with bestpath=True, the word pass fails for a tenth of all clips
            decoder = pocketsphinx.Decoder(lm=None, samprate=SAMPLE_RATE, bestpath=False, loglevel="FATAL", **beams)
            for word, phones in self._added.items():
                decoder.add_word(word, phones, update=True)
            self._decoders[wide_beam] = decoder
        return self._decoders[wide_beam]

    @staticmethod
    def _decode(decoder: pocketsphinx.Decoder, pcm: bytes, words: Sequence[str]) -> list[_Entry]:
        """Return each word with its phones: (label, first frame, number of frames, score)."""

        def run() -> None:
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()

        decoder.reinit_feat()  # else the cepstral mean of the previous clip shifts the boundaries
        try:
            decoder.set_align_text(" ".join(words))
            run()
            # hyp() crashes the process if called after the second pass
            if decoder.hyp() is None:
                raise AlignmentError("the text does not match the audio")
            decoder.set_alignment()
            run()
            # entries are valid only while their iterator exists: copy them at once
            return [
                (word.name, [(p.name, p.start, p.duration, p.score) for p in word]) for word in decoder.get_alignment()
            ]
        except RuntimeError as error:
            raise AlignmentError(f"the text does not match the audio ({error})") from None


@lru_cache(maxsize=1)
def shared_decoder() -> PocketSphinxDecoder:
    """Return the decoder that all aligners of a process share; its models take 60 MB."""
    return PocketSphinxDecoder()


class PocketSphinxAligner:
    """Aligns English speech; phones are ARPAbet without stress, times are multiples of 10 ms."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder = shared_decoder()

    def words(self, text: str, language: str) -> list[str]:
        """Return the words of a text as the dictionary spells them; unknown ones are added as they are pronounced.

        Raises AlignmentError if the language is not English.
        """
        if language != "en":
            raise AlignmentError(f"its model is English and the language is {language!r}")
        return [w for token in tokenize_words(text) for w in self._dictionary_words(token)]

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool = False) -> Alignment:
        """Return the alignment, in seconds of `audio`. Raises AlignmentError if the words do not match the audio."""
        if not words:
            raise AlignmentError("the transcript contains no English word")
        return self._decoder.align(audio, words, wide_beam).to_alignment(self.name, _confidence, MIN_SCORE)

    def align_phones(self, audio: Audio, words: Sequence[Sequence[str]]) -> Alignment:
        """Align words given as phones, which allows other languages through the nearest English phones.

        Times are less accurate than for English.

        Args:
            audio: The clip.
            words: For each word, its phones in ARPAbet without stress.

        Returns:
            The alignment, in seconds of `audio`.

        Raises:
            AlignmentError: No phones are given, or the score is below `MIN_FOREIGN_SCORE`.
        """
        if not words:
            raise AlignmentError("no phones are given")
        names = [_name_of_phones(self._decoder, phones) for phones in words]
        return self._decoder.align(audio, names, False).to_alignment(self.name, _confidence, MIN_FOREIGN_SCORE)

    def _dictionary_words(self, token: str) -> Iterator[str]:
        """Yield the token (added with a predicted pronunciation if it is unknown), or the letters of an acronym."""
        word = token.lower()
        known = self._decoder.lookup_word(word)
        if token.isupper() and len(token) > 1 and not known:
            letters = [c for c in g2p.split_letters(token) if self._decoder.lookup_word(c)]
            if letters:
                yield from letters
                return
        if not known:
            phones = g2p.predict_pronunciation(word) if len(word) <= MAX_WORD_LETTERS else ()
            if not phones:
                return  # a token of another script has no English pronunciation
            self._decoder.add_word(word, phones)
        yield word


class ForeignAligner:
    """Aligns speech in a language that espeak-ng pronounces, with the English model and the phones nearest to its own.

    Phones are IPA, times are multiples of 10 ms and less accurate than for English. How well a voice fits the English
    phones differs more between voices than a right text does from a wrong one; so the score compares the text with its
    own phones in reverse order.

    Args:
        language: ISO 639-1 code.
    """

    name = "espeak-ng + pocketsphinx"

    def __init__(self, language: str) -> None:
        self._decoder = shared_decoder()
        self._voice = ESPEAK_VOICES.get(language, language)

    def words(self, text: str, language: str) -> list[str]:
        """Return the words of a text that have a pronunciation."""
        return [w for w in tokenize_words(text, language) if len(w) <= MAX_WORD_LETTERS and self._pronounce(w)]

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool = False) -> Alignment:
        """Return the alignment, in seconds of `audio`. Raises AlignmentError if the words do not match the audio."""
        if not words:
            raise AlignmentError("the transcript contains no word")
        ipa = [self._pronounce(w) for w in words]
        english = [[nearest_english_phone(p) for p in phones] for phones in ipa]
        decoded = self._decode(audio, english, wide_beam)
        try:
            reversed_score = self._decode(audio, [phones[::-1] for phones in english[::-1]], wide_beam).score
        except AlignmentError:
            reversed_score = -np.inf

        def confidence(score: float) -> float:
            return float(1 / (1 + np.exp(-(score - max(reversed_score, _WORST) - _MARGIN) / _WIDTH)))

        found = decoded.to_alignment(self.name, confidence, MIN_SCORE)
        labels = [p for phones in ipa for p in phones]
        if len(labels) != len(found.phones) or len(words) != len(found.words):
            raise AlignmentError("the aligner left phones out")
        return Alignment(
            tuple(Phone(label, p.start, p.end) for label, p in zip(labels, found.phones, strict=True)),
            tuple(Word(w, a.start, a.end, a.score) for w, a in zip(words, found.words, strict=True)),
            "aligned",
            found.score,
            self.name,
        )

    def _decode(self, audio: Audio, words: Sequence[Sequence[str]], wide_beam: bool) -> DecodedWords:
        return self._decoder.align(audio, [_name_of_phones(self._decoder, phones) for phones in words], wide_beam)

    def _pronounce(self, word: str) -> tuple[str, ...]:
        return _espeak_pronunciation(self._voice, word)


ESPEAK_VOICES = {"zh": "cmn", "no": "nb"}
"""espeak-ng's names of voices that differ from Whisper's language codes."""


def pronounced_by_espeak(language: str) -> bool:
    """Return whether espeak-ng is installed and pronounces a language (ISO 639-1)."""
    return espeak_is_installed() and espeak().has_voice(ESPEAK_VOICES.get(language, language))


# where the phone that sounds nearest is not the one that looks nearest (`canonical_phone`): chosen by the scores of 22
# recorded prompts each in French, Italian and Spanish
_NEAREST = {"a": "AE", "e": "EY", "r": "D", "u": "UH", "ɔ": "OW", "ɪ": "IY", "ʊ": "AH", "œ": "AH"}


@lru_cache(maxsize=65536)
def _espeak_pronunciation(voice: str, word: str) -> tuple[str, ...]:
    return tuple(p for part in espeak().ipa_words(voice, word) for p in split_ipa(part))


def nearest_english_phone(label: str) -> str:
    """Return the English phone (ARPAbet) that sounds most like an IPA phone."""
    plain = "".join(c for c in unicodedata.normalize("NFD", label) if c.isalpha() and c not in "ːˑʲʰ")
    return _NEAREST.get(plain) or canonical_phone(label)


def _name_of_phones(decoder: PocketSphinxDecoder, phones: Sequence[str]) -> str:
    """Add a word with these phones to the dictionary and return its name, which no dictionary word has."""
    name = "_".join(["x", *phones]).lower()
    decoder.add_word(name, phones)
    return name


def _confidence(score: float) -> float:
    """Confidence of English words by the median score of their phones."""
    return float(1 / (1 + np.exp(-(score - _MIDDLE) / _WIDTH)))
