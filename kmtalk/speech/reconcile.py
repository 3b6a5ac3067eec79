"""Reconciling a given text with the words that Whisper hears: which sentences are spoken, and when."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from kmtalk.speech.alignment import Word
from kmtalk.speech.alignment_pipeline import Segment
from kmtalk.speech.text import tokenize_words

MAX_SENTENCE_WORDS = 25
"""Longer sentences are cut at commas, or after this many words."""

MIN_HEARD_SHARE = 0.4
"""Share of a sentence's words that must be heard for the sentence to be taken as spoken."""

MIN_EXTRA_WORDS = 3
"""Fewer words that are heard and not in the text are taken for errors of recognition."""

SECONDS_PER_WORD = 0.12  # nobody speaks faster


def split_sentences(text: str) -> list[str]:
    """Split a text at the ends of sentences and at line breaks; long sentences also at commas."""
    sentences: list[str] = []
    for part in re.split(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|(?<=[。！？])|\n+", text):
        words = part.split()
        while len(words) > MAX_SENTENCE_WORDS:
            commas = [i + 1 for i, w in enumerate(words[:MAX_SENTENCE_WORDS]) if w[-1] in ",;:–—" and i > 3]
            cut = commas[-1] if commas else MAX_SENTENCE_WORDS
            sentences.append(" ".join(words[:cut]))
            words = words[cut:]
        if any(c.isalnum() for c in "".join(words)):
            sentences.append(" ".join(words))
    return sentences


@dataclass(frozen=True)
class Reconciliation:
    """A given text against what is heard.

    Attributes:
        segments: What is spoken, in order, with times.
        unspoken: Sentences of the text that are not heard.
        unwritten: Those of `segments` that are heard and not in the text.
    """

    segments: tuple[Segment, ...]
    unspoken: tuple[str, ...]
    unwritten: tuple[Segment, ...]


def reconcile(text: str, heard: Sequence[Word], language: str) -> Reconciliation:
    """Find the sentences of a text among the words that are heard.

    Args:
        text: The given text.
        heard: Words with times in seconds.
        language: ISO 639-1 code of both.

    Returns:
        One segment for each sentence that can be spoken at its place, with the heard words as its alternative, and one
        for each passage that is heard between sentences and is not in the text.
    """
    sentences = split_sentences(text)
    given: list[str] = []
    first: list[int] = []  # token of `given` at which each sentence begins
    for sentence in sentences:
        first.append(len(given))
        given += [t.lower() for t in tokenize_words(sentence, language)]
    first.append(len(given))
    spoken: list[str] = []
    source: list[int] = []  # the heard word of each token
    for i, word in enumerate(heard):
        tokens = [t.lower() for t in tokenize_words(word.text, language)]
        spoken += tokens
        source += [i] * len(tokens)
    matched = np.zeros(len(given), bool)
    position = np.full(len(given), np.nan)  # index into `spoken`, as far as known
    for code in Levenshtein.opcodes(given, spoken):
        if code.tag == "equal":
            matched[code.src_start : code.src_end] = True
        if code.tag in ("equal", "replace"):
            count = code.src_end - code.src_start
            position[code.src_start : code.src_end] = np.linspace(code.dest_start, code.dest_end, count, endpoint=False)
    share = np.array([matched[a:b].mean() if b > a else 0.0 for a, b in zip(first[:-1], first[1:], strict=True)])
    sure = share >= MIN_HEARD_SHARE
    # the span of heard tokens of each sentence that is surely heard; the others get what lies between
    spans: list[tuple[int, int] | None] = []
    for k, (a, b) in enumerate(zip(first[:-1], first[1:], strict=True)):
        known = np.flatnonzero(matched[a:b]) + a if sure[k] else np.zeros(0, int)
        if not len(known):
            spans.append(None)
            continue
        begin = position[known[0]] - (known[0] - a)
        spans.append((max(0, int(begin)), int(position[known[-1]]) + 1 + (b - 1 - int(known[-1]))))
    return _place(sentences, spans, np.diff(first).tolist(), heard, source)


def _place(
    sentences: Sequence[str],
    spans: Sequence[tuple[int, int] | None],
    lengths: Sequence[int],
    heard: Sequence[Word],
    source: Sequence[int],
) -> Reconciliation:
    """Make segments of sentences whose `spans` of heard tokens are known, and of what lies between them."""
    segments: list[Segment] = []
    unspoken: list[str] = []
    unwritten: list[Segment] = []
    waiting: list[int] = []  # sentences that are not heard, since the last that is
    at, time = 0, 0.0  # the next heard token, and the end of the last word

    def words_of(begin: int, end: int) -> list[Word]:
        return [heard[i] for i in sorted(set(source[begin:end]))]

    def fill(end: int, until: float) -> None:
        """Use the tokens from `at` to `end`, which no sentence claims."""
        nonlocal waiting
        words = words_of(at, end)
        texts = [sentences[k] for k in waiting]
        room = until - time
        if words and (texts or len(words) >= MIN_EXTRA_WORDS):
            said = " ".join(w.text.strip() for w in words)
            given = " ".join(texts)
            plausible = bool(texts) and 0.4 < sum(lengths[k] for k in waiting) / len(words) < 2.5
            options = (given, said) if plausible else (said,)
            segments.append(Segment(options[0], words[0].start, words[-1].end, options[1:]))
            if not plausible:
                unspoken.extend(texts)
                unwritten.append(segments[-1])
        elif texts and sum(lengths[k] for k in waiting) * SECONDS_PER_WORD < room:
            segments.append(Segment(" ".join(texts), time, until))  # quiet or unclear speech: the aligner decides
        else:
            unspoken.extend(texts)
        waiting = []

    for k, span in enumerate(spans):
        if span is None:
            waiting.append(k)
            continue
        begin, end = max(at, min(span[0], len(source))), min(span[1], len(source))
        later = next((s[0] for s in spans[k + 1 :] if s is not None), len(source))
        end = max(begin + 1, min(end, max(later, begin + 1)))
        words = words_of(begin, end)
        if not words:
            waiting.append(k)
            continue
        fill(begin, words[0].start)
        said = " ".join(w.text.strip() for w in words)
        segments.append(Segment(sentences[k], words[0].start, words[-1].end, (said,)))
        at, time = end, words[-1].end
    fill(len(source), np.inf)
    return Reconciliation(tuple(segments), tuple(unspoken), tuple(unwritten))
