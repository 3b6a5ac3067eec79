"""How much of real speech in other languages gets phones, and whether the lips close at p, b and m.

    python benchmarks/languages.py [--clips 40] [LANGUAGE …]

Prompts of Debian's packages asterisk-core-sounds-fr, -es, -it and -ru (each also with -wav) and
asterisk-prompt-it-menardi-wav, with their texts. Prints, for each voice: the share of the sound's time whose text
aligns, the same for the text of another prompt (which should not), the distributions of the scores, and closures at p,
b and m of the network's motion.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kmtalk import KMTalk
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.metrics import closure_rate
from kmtalk.speech.audio import Audio, load_audio

SOUNDS, DOCUMENTS = Path("/usr/share/asterisk/sounds"), Path("/usr/share/doc")
VOICES = (
    ("fr", "fr_CA_f_June"),
    ("es", "es_MX_f_Allison"),
    ("it", "it_IT_m_Carlo"),
    ("it", "it_IT_f_Menardi"),
    ("ru", "ru_RU_f_IvrvoiceRU"),
)


def prompts(language: str, folder: str, count: int) -> Iterator[tuple[Audio, str]]:
    """Yield up to `count` prompts that are speech (15 to 200 letters of text, no signs of noises) with their texts."""
    document = DOCUMENTS / f"asterisk-core-sounds-{language}" / f"core-sounds-{language}.txt.gz"
    if not document.is_file() or not (SOUNDS / folder).is_dir():
        return
    texts = {}
    for line in gzip.decompress(document.read_bytes()).decode("utf-8", "replace").splitlines():
        name, colon, text = line.partition(":")
        path = SOUNDS / folder / f"{name.strip()}.wav"
        is_speech = 15 < len(text) < 200 and not set("([*#<") & set(text) and "beep" not in text
        if colon and not line.startswith(";") and is_speech and path.is_file():
            texts[path] = text.strip()
    chosen = sorted(texts)
    random.Random(3).shuffle(chosen)
    for path in chosen[:count]:
        yield load_audio(path), texts[path]


def percentiles(values: list[float]) -> str:
    """The 5th, 25th, 50th, 75th and 95th percentile."""
    return " ".join(f"{v:.2f}" for v in np.percentile(values, [5, 25, 50, 75, 95]))


def main() -> None:
    """Print one block for each voice that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE")
    parser.add_argument("--clips", type=int, default=40)
    given = parser.parse_args()
    talk = KMTalk(warn=lambda line: None, whisper="none")  # the texts are given: no second opinion
    solver = MouthSolver(talk.rig)
    for language, folder in VOICES:
        if given.languages and language not in given.languages:
            continue
        clips = list(prompts(language, folder, given.clips))
        if not clips:
            continue
        seconds, scores, mouths = [0.0, 0.0], ([], []), []
        for k, (audio, text) in enumerate(clips):
            for wrong, words in enumerate((text, clips[(k + 7) % len(clips)][1])):
                alignment = talk.align(audio, text=words, language=language)[1]
                aligned = alignment.status == "aligned"
                scores[wrong].append(alignment.score if aligned and alignment.score is not None else 0.0)
                seconds[wrong] += audio.duration * aligned
                if aligned and not wrong:
                    motion = talk.animate(audio, "light", textgrid=alignment).motion
                    mouths.append((solver.measure(motion.weights).lip_channels, alignment, motion.fps))
        total = sum(audio.duration for audio, _ in clips)
        print(f"{language} ({folder}, {len(clips)} prompts, {total:.0f} s)")
        right, wrong = (s / total for s in seconds)
        print(f"  phones for {right:.1%} of the time; for {wrong:.1%} with the text of another prompt")
        print(f"  scores at 5, 25, 50, 75, 95 %: right {percentiles(scores[0])}, wrong {percentiles(scores[1])}")
        print(f"  {closure_rate(mouths)}", flush=True)


if __name__ == "__main__":
    main()
