"""Forced alignment of English with PocketSphinx, whose wheel contains a model and a dictionary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pocketsphinx

from kmtalk.speech import g2p
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.alignment_pipeline import AlignmentError, Transcript
from kmtalk.speech.audio import SAMPLE_RATE, Audio, detect_speech_span
from kmtalk.speech.text import tokenize_words

FRAME_SECONDS = 0.010
MIN_SCORE = 0.5
"""Score below which the text is taken not to match the audio."""

MIN_FOREIGN_SCORE = 0.4
"""The same for speech in a language other than English, which always scores lower."""

# Median phone score per frame (PocketSphinx log units). For 40 recorded prompts it was -26 or more with the
# correct text and -40 or less with the text of another prompt; the score is a logistic curve between them.
_MIDDLE, _WIDTH = -33.0, 4.0


class PocketSphinxAligner:
    """Aligns English speech; phones are ARPAbet without stress, times are multiples of 10 ms."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        # with bestpath=True, the word pass fails for a tenth of all clips
        self._decoder = pocketsphinx.Decoder(lm=None, samprate=SAMPLE_RATE, bestpath=False, loglevel="FATAL")
        self._added: set[str] = set()

    def align(self, audio: Audio, transcript: Transcript) -> Alignment:
        """Return the alignment, in seconds of `audio`.

        Raises AlignmentError if the language is not English or the text does not match the audio.
        """
        if transcript.language != "en":
            raise AlignmentError(f"its model is English and the language is {transcript.language!r}")
        words = [w for token in tokenize_words(transcript.text) for w in self._dictionary_words(token)]
        if not words:
            raise AlignmentError("the transcript contains no English word")
        return self._align(audio, words, MIN_SCORE)

    def align_phones(self, audio: Audio, words: list[list[str]]) -> Alignment:
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
        names = []
        for phones in words:
            name = "_".join(["x", *phones]).lower()  # no dictionary word has this form
            if name not in self._added:
                self._decoder.add_word(name, " ".join(phones), update=True)
                self._added.add(name)
            names.append(name)
        if not names:
            raise AlignmentError("no phones are given")
        return self._align(audio, names, MIN_FOREIGN_SCORE)

    def _align(self, audio: Audio, words: list[str], min_score: float) -> Alignment:
        begin, end = (round(t, 3) for t in detect_speech_span(audio.samples))
        samples = audio.samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        if len(samples) < SAMPLE_RATE // 10:
            raise AlignmentError("the audio is shorter than 0.1 s")
        pcm = (np.clip(samples / max(np.abs(samples).max(), 1e-4) * 0.7, -1, 1) * 32767).astype(np.int16).tobytes()
        decoder = self._decoder
        decoder.reinit_feat()  # else the cepstral mean of the previous clip shifts the boundaries
        try:
            decoder.set_align_text(" ".join(words))
            self._decode(pcm)
            # hyp() crashes the process if called after the second pass
            if decoder.hyp() is None:
                raise AlignmentError("the text does not match the audio")
            decoder.set_alignment()
            self._decode(pcm)
            # entries are valid only while their iterator exists: copy them at once
            entries = [
                (word.name, [(p.name, p.start, p.duration, p.score) for p in word]) for word in decoder.get_alignment()
            ]
        except RuntimeError as error:
            raise AlignmentError(f"the text does not match the audio ({error})") from None
        per_frame = [s / n for name, spans in entries for _, _, n, s in spans if n > 0 and name[0] not in "<["]
        if not per_frame:
            raise AlignmentError("no phones found")
        score = float(1 / (1 + np.exp(-(np.median(per_frame) - _MIDDLE) / _WIDTH)))
        if score < min_score:
            raise AlignmentError(f"score {score:.2f} < {min_score}: the text does not match the audio")
        return self._to_alignment(entries, begin, score)

    def _decode(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()

    def _dictionary_words(self, token: str) -> Iterator[str]:
        """Yield the token (added with a predicted pronunciation if it is unknown), or the letters of an acronym."""
        word = token.lower()
        known = self._decoder.lookup_word(word) is not None
        if token.isupper() and len(token) > 1 and not known:
            letters = ["a." if c == "a" else c for c in g2p.split_letters(token)]
            yield from (c for c in letters if self._decoder.lookup_word(c) is not None)
            return
        if not known and word not in self._added:
            phones = g2p.predict_pronunciation(word)
            if not phones:
                return  # a token of another script has no English pronunciation
            self._decoder.add_word(word, " ".join(phones), update=True)
            self._added.add(word)
        yield word

    def _to_alignment(
        self, entries: list[tuple[str, list[tuple[str, int, int, int]]]], begin: float, score: float
    ) -> Alignment:
        """Convert (word, [(phone, first frame, frame count, score)]) entries; `begin` is the time of frame 0 in s."""
        phones: list[Phone] = []
        words: list[Word] = []
        for name, spans in entries:
            if name[0] in "<[":  # <sil>, [NOISE]
                continue
            parts = [
                Phone(p, round(begin + start * FRAME_SECONDS, 4), round(begin + (start + n) * FRAME_SECONDS, 4))
                for p, start, n, _ in spans
                if n > 0
            ]
            if parts:
                phones += parts
                words.append(Word(name.split("(")[0], parts[0].start, parts[-1].end))
        return Alignment(tuple(phones), tuple(words), "aligned", score, self.name)
