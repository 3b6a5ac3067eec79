"""Metrics of spoken sentences: words understood, intelligibility and the likeness of voices, pooled over clips."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult, check_clip_count, pair_clips
from kmtalk.speech.audio import SAMPLE_RATE

_EVALUATE = "pip install 'kmtalk[evaluate]'"


def word_error_rate(heard: Sequence[str], said: Sequence[str], language: str = "en") -> MetricResult:
    """Word error rate (WER): (S + D + I) / N of all sentences together, in %.

    S, D and I are the substituted, deleted and inserted words of the best alignment (jiwer), N the words said. Both
    texts go through Whisper's normalizer first (Radford et al. 2022, Appendix C): case, punctuation, contractions,
    spelling and numbers do not count; in other languages than English only case and punctuation do not.

    Args:
        heard: What was recognized in each clip; may be empty.
        said: What was to be said.
        language: ISO 639-1 code.

    Returns:
        The rate in %; above 100 where more words were inserted than were right.

    Raises:
        InputError: The two differ in number, a sentence has no words, or jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError:
        raise InputError(f"the word error rate needs the package jiwer; {_EVALUATE}") from None
    check_clip_count("word error rate", heard, said)
    normalize = _text_normalizer(language)
    # Whisper's normalizer leaves one dot of an ellipsis, which would count as a word
    truths, recognized = ([normalize(re.sub(r"\.{2,}", " ", text)) for text in texts] for texts in (said, heard))
    for number, truth in enumerate(truths):
        if not truth.strip():
            raise InputError(f"word error rate: sentence {number} has no words: {said[number][:40]!r}")
    counts = jiwer.process_words(truths, recognized)
    words = counts.hits + counts.substitutions + counts.deletions
    pooling = (
        f"{counts.substitutions} substituted, {counts.deletions} deleted and {counts.insertions} inserted of {words} "
        f"words in {len(said)} sentences"
    )
    return MetricResult("WER", 100 * float(counts.wer), "%", pooling)


@lru_cache
def _text_normalizer(language: str) -> Any:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    return EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()


def stoi(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Short-time objective intelligibility (STOI), mean over clips; 1 for the same sound.

    The mean correlation of the envelopes of 15 third-octave bands over 384 ms (Taal et al. 2011, IEEE TASLP 19(7)), by
    pystoi. It compares sounds that are aligned in time; two renditions of a sentence with other durations score low.

    Args:
        pred: Mono samples (S,) at 16 kHz, one array per clip.
        gt: True samples (S,) of the same lengths.

    Returns:
        A number of at most 1, without unit.

    Raises:
        InputError: The two differ in number or length, a true clip has less than 384 ms of sound, or pystoi is not
            installed.
    """
    try:
        from pystoi import stoi as clip_stoi
    except ImportError:
        raise InputError(f"STOI needs the package pystoi; {_EVALUATE}") from None
    scores = []
    for number, (p, g) in enumerate(pair_clips("STOI", pred, gt, 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # pystoi's way to tell that nothing was measured
            try:
                if not g.any():
                    raise ValueError
                scores.append(float(clip_stoi(g, p, SAMPLE_RATE)))
            except (RuntimeWarning, ValueError):
                raise InputError(f"STOI: clip {number}: needs 384 ms of sound in the true clip") from None
    return MetricResult("STOI", float(np.mean(scores)), "", f"mean of {len(scores)} clips")


def voice_similarity(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Mean cosine of two voice vectors (K,), each of `kmtalk.synthesis.voice_vector.VoiceEncoder`; 1 for the same.

    Raises InputError where the two differ in number or size, or a vector has no length.
    """
    cosines = []
    for number, (p, g) in enumerate(pair_clips("voice similarity", pred, gt, 1)):
        length = float(np.linalg.norm(p) * np.linalg.norm(g))
        if not length:
            raise InputError(f"voice similarity: pair {number}: a voice vector is zero")
        cosines.append(float(p @ g) / length)
    return MetricResult("voice similarity", float(np.mean(cosines)), "", f"mean cosine of {len(cosines)} pairs")
