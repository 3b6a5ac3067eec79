"""Eight threads animate fifty clips each on one `KMTalk`: is every result, byte for byte, the one of a single run?

    python benchmarks/threads.py [--threads 8] [--clips 50]

The clips are different cuts of assets/speech.wav, nine of ten with their texts given.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import soundfile
import torch

from kmtalk import Audio, KMTalk
from kmtalk.assets import asset_path
from kmtalk.speech.audio import audio_from_samples

SECONDS = 1.5


def process_state() -> dict[str, object]:
    """What belongs to the whole process."""
    return {
        "stderr": (os.fstat(2).st_dev, os.fstat(2).st_ino, os.fstat(2).st_rdev),
        "torch threads": torch.get_num_threads(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": np.random.get_state()[1].tobytes(),  # noqa: NPY002
        "random's state": random.getstate(),
        "warnings' filters": list(warnings.filters),
        "signal handlers": {s: signal.getsignal(s) for s in signal.valid_signals()},
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


def starts(count: int) -> list[float]:
    """Where as many different parts of the sample recording begin, in seconds."""
    found: list[float] = np.linspace(0, soundfile.info(asset_path("speech.wav")).duration - SECONDS, count).tolist()
    return found


def cuts(count: int) -> list[Audio]:
    """As many different parts of the sample recording."""
    sound, rate = soundfile.read(asset_path("speech.wav"), dtype="float32")
    return [
        audio_from_samples(sound[int(s * rate) : int((s + SECONDS) * rate)], rate, f"{s:.2f} s") for s in starts(count)
    ]


def result(talk: KMTalk, clip: Audio, text: str | None) -> tuple[object, ...]:
    """All that an animation consists of."""
    made = talk.animate(clip, "light", text=text)
    return made.motion.weights.tobytes(), made.alignment, made.keys.frames.tolist(), made.keys.poses.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--clips", type=int, default=50, help="of each thread")
    options = parser.parse_args()

    clips, quiet = cuts(options.clips), {"warn": lambda line: None}
    alone = KMTalk(**quiet)
    recording = alone.align(asset_path("speech.wav"))[1].words
    words = [
        " ".join(w.text for w in recording if begin < (w.start + w.end) / 2 < begin + SECONDS)
        for begin in starts(options.clips)
    ]
    texts = [said if n % 10 and said else None for n, said in enumerate(words)]
    began = time.monotonic()
    wanted = [result(alone, clip, text) for clip, text in zip(clips, texts, strict=True)]
    print(f"{len(clips)} clips one after the other: {time.monotonic() - began:.0f} s")

    shared, before, began = KMTalk(**quiet), process_state(), time.monotonic()
    order = [np.random.default_rng(n).permutation(len(clips)) for n in range(options.threads)]
    with ThreadPoolExecutor(options.threads) as pool:

        def run(thread: int) -> int:
            return sum(result(shared, clips[n], texts[n]) == wanted[n] for n in order[thread].tolist())

        equal = sum(pool.map(run, range(options.threads)))
    total = options.threads * len(clips)
    print(f"{options.threads} threads: {equal} of {total} clips equal to single runs, {time.monotonic() - began:.0f} s")
    after = process_state()
    changed = [name for name in before if before[name] != after[name]]
    print("left changed in the process:", ", ".join(changed) or "nothing")
    sys.exit(equal != total or bool(changed))


if __name__ == "__main__":
    main()
