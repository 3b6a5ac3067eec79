"""What is spoken of a text: subtitles, scripts with speakers' names, and stage directions."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass

import pysubs2

from kmtalk.errors import InputError
from kmtalk.speech.alignment_pipeline import Segment

_TIMES = re.compile(r"^\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}", re.MULTILINE)

# what stands in round brackets or asterisks and is done, not said
_DIRECTION = re.compile(
    r"(?:long |short |a )*(?:pause|beat|silence|laugh|chuckl|giggl|sigh|cough|sniff|gasp|cry|cries|crying|sob|scream|"
    r"shout|whisper|sing|hum|groan|breath|inhal|exhal|applause|cheer|music|noise|inaudible|unintelligible|crosstalk|"
    r"phone rings|door|footsteps|off.?screen|o\.?\s?s\.?|v\.?\s?o\.?|continued|cont'?d)\w*\b[^()*]{0,40}",
    re.IGNORECASE,
)
_NAME = r"[^\W\d_][\w.'’-]*(?: [^\W\d_][\w.'’-]*| \d{1,2}){0,2}"
_SPEAKER = re.compile(rf"^[ \t]*(?:[-–—>]+[ \t]*)?({_NAME})[ \t]*(?:\([^()\n]*\))?:[ \t]+(?=\S)", re.MULTILINE)
_NOT_SPEAKERS = frozenset({"note", "warning", "attention", "tip", "example", "remember", "question", "answer", "step"})


@dataclass(frozen=True)
class SpokenText:
    """A text without what is not spoken.

    Attributes:
        text: The spoken words, with emotion cues in square brackets.
        segments: The subtitles, in seconds; empty for a text without times.
        left_out: What was left out, such as "(pause)" or "ANNA:", once each.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    left_out: tuple[str, ...] = ()


def is_subtitles(text: str) -> bool:
    """Return whether a text is SubRip (.srt) or WebVTT (.vtt): it has lines with "start --> end"."""
    return _TIMES.search(text) is not None


def parse_spoken_text(text: str, source: str = "the text") -> SpokenText:
    """Take what is spoken from a text.

    Left out are the times and marks of subtitles (SRT, VTT), speakers' names at the beginning of a line ("ANNA:", or
    "Anna:" where several lines begin with a name), and stage directions in round brackets or asterisks ("(pause)",
    "*laughs*"). Words in other round brackets are spoken.

    Args:
        text: The text.
        source: Where it comes from, for the message.

    Raises:
        InputError: It looks like subtitles and cannot be read, or has no subtitle.
    """
    if not is_subtitles(text):
        spoken, removed = _without_directions(text)
        return SpokenText(spoken, (), removed)
    try:
        events = pysubs2.SSAFile.from_string(
            text, format_="vtt" if text.lstrip("\ufeff \n").startswith("WEBVTT") else "srt"
        )
    except (pysubs2.Pysubs2Error, ValueError, OverflowError) as error:
        raise InputError(f"{source}: its subtitles cannot be read ({error}); give plain text") from None
    segments: list[Segment] = []
    left_out: list[str] = []
    for event in sorted(events, key=lambda e: (e.start, e.end)):
        plain = html.unescape(re.sub(r"<[^<>]*>|\{\\[^{}]*\}", "", event.plaintext)).replace("♪", " ")
        spoken, removed = _without_directions(plain)
        left_out += removed
        if any(c.isalnum() for c in spoken) and event.end > event.start:
            segments.append(Segment(" ".join(spoken.split()), event.start / 1000, event.end / 1000))
    if not segments:
        raise InputError(f"{source}: its subtitles contain no spoken words")
    return SpokenText(" ".join(s.text for s in segments), tuple(segments), tuple(dict.fromkeys(left_out)))


def _without_directions(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without speakers' names and stage directions, and what was left out."""
    left_out: list[str] = []
    names = [m[1] for m in _SPEAKER.finditer(text)]
    often = Counter(n.casefold() for n in names)
    lines = len(names)

    def is_speaker(name: str) -> bool:
        if name.split()[0].casefold() in _NOT_SPEAKERS:
            return False
        if name.isupper() and len(name) > 1:
            return True
        return lines > 1 and name[0].isupper() and (often[name.casefold()] > 1 or lines >= 3)

    def drop_speaker(match: re.Match[str]) -> str:
        if not is_speaker(match[1]):
            return match[0]
        left_out.append(f"{match[1]}:")
        return ""

    def drop_direction(match: re.Match[str]) -> str:
        if not _DIRECTION.fullmatch(match[1].strip()):
            return match[0]
        left_out.append(match[0])
        return " "

    text = _SPEAKER.sub(drop_speaker, text)
    text = re.sub(r"\(([^()\n]{1,60})\)", drop_direction, text)
    text = re.sub(r"\*([^*\n]{1,60})\*", drop_direction, text)
    return text, tuple(dict.fromkeys(left_out))
