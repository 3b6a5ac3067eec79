"""Minutes of joined prompts, one sentence in ten with another text: what is lost, and is it where it is alone?

    python benchmarks/long_speech.py [--prompts 40] [--text wrong|right|none|subtitles] [--repeat 1]

Prompts of Debian's package asterisk-core-sounds-en-wav with pauses of 0.6 s. Prints the share of the true sentences'
phones that are found, how far their starts are from those of the sentence aligned alone with its text, how many phones
the false sentences have, the time of the processor and the peak memory. `--repeat 10` is an hour.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import random
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk import KMTalk
from kmtalk.speech.alignment import Phone
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
DOCUMENT = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PAUSE = 0.6  # seconds
SLACK = 0.3  # seconds around a sentence in which its phones are looked for


@dataclass(frozen=True)
class Sentence:
    """One prompt: its samples (S,), its text and the text that is given for it."""

    samples: np.ndarray
    text: str
    given: str


def sentences(count: int) -> list[Sentence]:
    """The `count` prompts with the longest texts, in random order; the fifth of each ten has the text of another."""
    texts = {}
    for line in gzip.decompress(DOCUMENT.read_bytes()).decode("utf-8", "replace").splitlines():
        name, colon, text = line.partition(":")
        path = SOUNDS / f"{name.strip()}.wav"
        is_sentence = 55 < len(text) < 300 and not set("([*#<") & set(text)
        if colon and not line.startswith(";") and is_sentence and path.is_file():
            texts[path] = text.strip()
    ordered = sorted(texts, key=lambda path: (-len(texts[path]), path))
    chosen, others = ordered[6 : 6 + count], ordered[6 + count :]
    rng = random.Random(5)
    rng.shuffle(chosen)
    rng.shuffle(others)
    return [
        Sentence(load_audio(path).samples, texts[path], texts[others[i // 10]] if i % 10 == 4 else texts[path])
        for i, path in enumerate(chosen)
    ]


def subtitle_time(seconds: float) -> str:
    """Seconds as SubRip writes them."""
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:06.3f}".replace(".", ",")


def main() -> None:
    """Align, and print what the module's description lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--text", choices=("wrong", "right", "none", "subtitles"), default="wrong")
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args()
    spoken = sentences(given.prompts) * given.repeat
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    lengths = [(len(s.samples) + len(pause)) / SAMPLE_RATE for s in spoken]
    starts = np.concatenate([[0.0], np.cumsum(lengths)])[:-1]
    audio = audio_from_samples(np.concatenate([part for s in spoken for part in (s.samples, pause)]), SAMPLE_RATE)
    text: str | None = " ".join(s.text if given.text == "right" else s.given for s in spoken)
    if given.text == "subtitles":
        text = "\n\n".join(
            f"{k + 1}\n{subtitle_time(start)} --> {subtitle_time(start + length - PAUSE)}\n{s.given}"
            for k, (s, start, length) in enumerate(zip(spoken, starts, lengths, strict=True))
        )
    lines: list[str] = []
    # subtitles are aligned without Whisper, so that the time is that of the alignment
    talk = KMTalk(warn=lines.append, whisper="none" if given.text == "subtitles" else "base")
    began = time.process_time()
    found = talk.align(audio, text=None if given.text == "none" else text, language="en")[1]
    took, memory = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{audio.duration:.0f} s of sound: {took:.0f} s of the processor, {memory:.0f} MB at most")
    for line in lines:
        print(f"  {line}")
    alone = KMTalk(warn=lambda line: None, whisper="none")
    differences: list[float] = []
    have = want = 0.0
    for s, start, length in list(zip(spoken, starts, lengths, strict=True))[: given.prompts]:
        end = start + length - PAUSE
        here = [p for p in found.phones if start - SLACK <= p.start < end + SLACK]
        if s.text != s.given and given.text in ("wrong", "subtitles"):
            print(f"  another text at {start:.1f} s: {len(here)} phones")
            continue
        reference = alone.align(audio_from_samples(s.samples, SAMPLE_RATE), text=s.text)[1].shifted(start).phones
        want += sum(p.end - p.start for p in reference)
        have += covered(reference, here)
        blocks = difflib.SequenceMatcher(
            None, [p.label for p in reference], [p.label for p in here], autojunk=False
        ).get_matching_blocks()
        differences += [abs(reference[b.a + i].start - here[b.b + i].start) for b in blocks for i in range(b.size)]
    print(
        f"true sentences: phones for {have / want:.1%} of the time of those aligned alone; starts differ by "
        f"{1000 * np.median(differences):.0f} ms in the median, {1000 * np.percentile(differences, 95):.0f} ms at 95 %"
    )


def covered(reference: tuple[Phone, ...], found: list[Phone]) -> float:
    """Seconds of the reference's phones that any found phone covers."""
    times = np.arange(reference[0].start, reference[-1].end, 0.005)

    def spoken(phones: tuple[Phone, ...] | list[Phone]) -> np.ndarray:
        mask = np.zeros(len(times), bool)
        for p in phones:
            mask |= (times >= p.start) & (times < p.end)
        return mask

    inside = spoken(reference)
    return float((inside & spoken(found)).sum() / max(inside.sum(), 1) * sum(p.end - p.start for p in reference))


if __name__ == "__main__":
    main()
