"""Emotion cues inside the spoken text: "[happy] Good morning! [sad:0.6] It rains. [neutral] Well." """

from __future__ import annotations

import re
from dataclasses import dataclass

from kmtalk.errors import InputError
from kmtalk.expression.emotion import EMOTIONS, EmotionCue, parse_emotion
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.spoken_text import parse_spoken_text
from kmtalk.speech.text import tokenize_words

_CUE = re.compile(r"\[([^\[\]]*)\]")
NEUTRAL = "neutral"


@dataclass(frozen=True)
class TextCue:
    """An emotion that replaces the one before it.

    Attributes:
        letters: Number of letters spoken before it, which finds its time in an alignment.
        name: One of `EMOTIONS`, or "neutral".
        amount: From 0 to 1.
    """

    letters: int
    name: str
    amount: float


def split_text_cues(text: str, language: str = "en") -> tuple[str, tuple[TextCue, ...], tuple[str, ...]]:
    """Separate a text from what stands in square brackets.

    Returns:
        The spoken text, its cues in order, and the brackets that hold no emotion, as "[laughs]".

    Raises:
        InputError: The amount of an emotion is not from 0 to 1.
    """
    cues, others, spoken, end = [], [], "", 0
    for match in _CUE.finditer(text):
        spoken += text[end : match.start()] + " "
        end = match.end()
        label, letters = match[1].strip(), _count_letters(" ".join(tokenize_words(spoken, language)))
        if label == NEUTRAL:
            cues.append(TextCue(letters, NEUTRAL, 0.0))
            continue
        if label.partition(":")[0].strip() not in EMOTIONS:
            others.append(match[0])
            continue
        try:
            (cue,) = parse_emotion(label)
        except (InputError, ValueError):
            raise InputError(f"the text: {match[0]}: give the amount from 0 to 1, as [happy:0.6]") from None
        cues.append(TextCue(letters, cue.name, cue.amount))
    return spoken + text[end:], tuple(cues), tuple(others)


def cues_of_text(text: str | None, alignment: Alignment, language: str | None) -> tuple[EmotionCue, ...]:
    """Return the cues in a text as `kmtalk animate --text` takes it, at the times of its words; none for None."""
    if text is None:
        return ()
    return time_text_cues(split_text_cues(parse_spoken_text(text).text, language or "en")[1], alignment)


def time_text_cues(cues: tuple[TextCue, ...], alignment: Alignment) -> tuple[EmotionCue, ...]:
    """Return the cues with their times: each begins with the next word, and ends the one before.

    Without aligned words, the first cue holds for the whole clip.
    """
    out: list[EmotionCue] = []
    previous: str | None = None
    for cue in cues if alignment.words else cues[:1]:
        time, letters = 0.0, 0
        if cue.letters:
            time = alignment.words[-1].end
            for word in alignment.words:
                if letters >= cue.letters:
                    time = word.start
                    break
                letters += _count_letters(word.text)
        if previous is not None and previous != cue.name:
            out.append(EmotionCue(time, previous, 0.0))
        if cue.name != NEUTRAL:
            out.append(EmotionCue(time, cue.name, cue.amount))
        previous = None if cue.name == NEUTRAL else cue.name
    return tuple(out)


def _count_letters(text: str) -> int:
    return sum(c.isalnum() for c in text)
