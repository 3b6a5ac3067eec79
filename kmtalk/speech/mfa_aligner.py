"""Forced alignment with the published models of the Montreal Forced Aligner (MFA), without MFA or Kaldi.

`mfa_model.py` reads the model and computes its features, and `viterbi.py` finds the best path through the
pronunciations of the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from kmtalk.speech import g2p
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.alignment_pipeline import AlignmentError
from kmtalk.speech.audio import SAMPLE_RATE, Audio, detect_speech_span
from kmtalk.speech.mfa_model import MfaModel, find_mfa_model, read_dictionary
from kmtalk.speech.text import tokenize_words
from kmtalk.speech.viterbi import BEAM_WIDTH, build_word_graph, find_best_path

MIN_SCORE = 0.5
"""Score below which the text is taken not to match the audio."""

# ViterbiPath.misfit for 40 recorded prompts with two models: 0.55 or less with the correct text (0.44 except
# for one), 0.53 or more with the text of another prompt (0.59 except for one). The score is a logistic curve
# between the two.
_MIDDLE, _WIDTH = 0.56, 0.06

WIDE_BEAM_WIDTH = 400.0
"""Beam width, as `viterbi.BEAM_WIDTH`, for clips whose path the usual beam loses."""

_POSITION = re.compile(r"_[BIES]$")


class MfaAligner:
    """Aligns with an MFA acoustic model and dictionary; does not need the `mfa` command.

    Args:
        acoustic_model: Path or name of an acoustic model (see `find_mfa_model`).
        dictionary: Path or name of a dictionary.

    Raises:
        InputError: One of them does not exist or cannot be used.
    """

    name = "mfa"

    def __init__(self, acoustic_model: str, dictionary: str) -> None:
        self._model = MfaModel(find_mfa_model("acoustic", acoustic_model))
        self._lexicon = read_dictionary(find_mfa_model("dictionary", dictionary))

    def words(self, text: str, language: str) -> list[str]:
        """Return the words of a text as the dictionary has them."""
        return [w for token in tokenize_words(text, language) for w in self._dictionary_words(token)]

    def align(self, audio: Audio, words: Sequence[str], wide_beam: bool = False) -> Alignment:
        """Return the alignment, in seconds of `audio`. Raises AlignmentError if the words do not match the audio."""
        model = self._model
        if not words:
            raise AlignmentError("the transcript contains no word")
        begin, end = (round(t, 3) for t in detect_speech_span(audio.samples))
        samples = audio.samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        features = model.features(samples)
        graph = build_word_graph(model, [(w, self._pronunciations(w)) for w in words])
        path = find_best_path(model, graph, features, WIDE_BEAM_WIDTH if wide_beam else BEAM_WIDTH)
        if path is None:
            raise AlignmentError("the text does not match the audio")
        score = _score(path.mismatch)
        if score < MIN_SCORE:
            raise AlignmentError(f"score {score:.2f} < {MIN_SCORE}: the text does not match the audio")
        step = model.features.frame_shift
        phones: list[Phone] = []
        spans: dict[int, list[Phone]] = {}
        mismatches: dict[int, list[float]] = {}
        for (label, first, last, word), mismatch in zip(path.phones, path.phone_mismatches, strict=True):
            if word is None or label == model.silence_phone:
                continue
            phone = Phone(_POSITION.sub("", label), round(begin + first * step, 4), round(begin + last * step, 4))
            phones.append(phone)
            spans.setdefault(word, []).append(phone)
            mismatches.setdefault(word, []).append(mismatch)
        aligned_words = tuple(
            Word(words[k], s[0].start, s[-1].end, _score(float(np.mean(mismatches[k])))) for k, s in spans.items()
        )
        return Alignment(tuple(phones), aligned_words, "aligned", score, self.name)

    def _dictionary_words(self, token: str) -> Iterator[str]:
        """Yield the dictionary words of a token: itself, an acronym's letters, or the longest words that compose it."""
        word = token.lower()
        if word in self._lexicon:
            yield word
            return
        if word.isascii():
            letters = g2p.split_letters(token) if token.isupper() else []
            yield from letters if letters and all(c in self._lexicon for c in letters) else [word]
            return
        at = 0  # scripts without spaces: the longest dictionary word at each position
        while at < len(word):
            size = next((n for n in range(len(word) - at, 0, -1) if word[at : at + n] in self._lexicon), len(word) - at)
            yield word[at : at + size]
            at += size

    def _pronunciations(self, word: str) -> list[list[str]]:
        """Return pronunciations from the dictionary, else the predicted one, else the out-of-vocabulary phone."""
        model = self._model
        known = [p for p in self._lexicon.get(word, []) if all(model.has_phone(q) for q in p)]
        if known:
            return [model.with_word_positions(p) for p in known]
        predicted = list(g2p.predict_pronunciation(word, stress=model.has_phone("AH0")))
        if predicted and all(model.has_phone(p) for p in predicted):
            return [model.with_word_positions(predicted)]
        return [[model.oov_phone]]


def _score(mismatch: float) -> float:
    return float(1 / (1 + np.exp((mismatch - _MIDDLE) / _WIDTH)))
