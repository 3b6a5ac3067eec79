"""A live face on a voice that its network has not heard, and on noise.

    apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en
    python benchmarks/live_voice.py [--network FILE] [--count 30] [--seed 1]

Prompts of benchmarks/prompts.py: a woman's voice of 8 kHz, as of a telephone, and so without what is above 4 kHz. Their
phones are those of PocketSphinx with the true text. Prints the share of p, b and m at which the lips close to under
1 mm, and of f and v at which the lip meets the teeth, at 25 fps; the share of vowels in whose middle the lips are
closed; the same for the recording assets/speech.wav; and the
widest opening of the lips in four seconds of white noise, second by second.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from prompts import load_prompts

from kmtalk import KMTalk, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.assets import asset_path
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE

FPS = 25.0
VOWELS = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])
SHORTEST_VOWEL = 0.06  # seconds
NOISE_DB = (-40, -30, -20, -10)


def mouth(talk: KMTalk, solver: MouthSolver, samples: np.ndarray) -> np.ndarray:
    """The lips (N, channels) that follow samples (S,) at 16 kHz."""
    stream = talk.stream(SAMPLE_RATE, FPS, expression=False)
    poses = stream.feed(samples) + stream.finish()
    lips: np.ndarray = solver.measure(np.stack([pose.weights for pose in poses]).astype(float)).lip_channels
    return lips


def print_contacts(name: str, clips: list[tuple[np.ndarray, Alignment, float]]) -> None:
    """Print how often lips and teeth meet."""
    for figure in (metrics.closure_rate(clips), metrics.labiodental_rate(clips)):
        print(f"{name}: {figure}", flush=True)
    middles = [
        lips[int((p.start + p.end) / 2 * fps), 0]
        for lips, alignment, fps in clips
        for p in alignment.phones
        if p.label.rstrip("012") in VOWELS
        and p.end - p.start > SHORTEST_VOWEL
        and (p.start + p.end) / 2 * fps < len(lips)
    ]
    print(f"{name}: {np.mean(np.array(middles) < 1):.1%} of {len(middles)} vowels closed in their middle", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, help="streaming network (default: the one shipped)")
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    talk = KMTalk(streaming=options.network, warn=lambda line: None)
    solver = MouthSolver(talk.rig)
    found = [talk.align(path, text=text, language="en") for path, text in load_prompts(options.count, options.seed)]
    aligned = [(audio, alignment) for audio, alignment in found if alignment.status == "aligned"]
    print_contacts(
        f"{len(aligned)} prompts of 8 kHz",
        [(mouth(talk, solver, audio.samples), alignment, FPS) for audio, alignment in aligned],
    )
    audio, alignment = talk.align(asset_path("speech.wav"))
    print_contacts("assets/speech.wav", [(mouth(talk, solver, audio.samples), alignment, FPS)])
    rng = np.random.default_rng(0)
    for level in NOISE_DB:
        noise = rng.normal(size=4 * SAMPLE_RATE) * 10 ** (level / 20)
        opening = mouth(talk, solver, noise)[:, 0]
        seconds = [f"{opening[int(i * FPS) : int((i + 1) * FPS)].max():.1f}" for i in range(4)]
        print(f"white noise of {level} dB: opens by {' '.join(seconds)} mm")


if __name__ == "__main__":
    main()
