"""Time of each stage for a minute of speech, as a multiple of Whisper's time in the same run.

    python benchmarks/stages.py [--seconds 60]

The clip is assets/speech.wav repeated up to `seconds`. Stages are those of `kmtalk animate`: read, transcribe, align,
encode (the network's speech encoder), motion (from features to vertices), export (npz and GLB) and render (512² mp4).
Loading the models is not timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from kmtalk import KMTalk
from kmtalk.assets import asset_path
from kmtalk.progress import Progress


class Stopwatch(Progress):
    """Adds up the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        start = time.perf_counter()
        yield lambda count: None
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the clip")
    options = parser.parse_args()
    data, rate = soundfile.read(asset_path("speech.wav"), dtype="float32")
    data = np.tile(data, int(options.seconds * rate / len(data)) + 1)[: int(options.seconds * rate)]
    watch = Stopwatch()
    talk = KMTalk(progress=watch)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.wav"
        soundfile.write(clip, data, rate)
        talk.animate(asset_path("speech.wav"))  # loads the models
        watch.seconds.clear()
        animation = talk.animate(clip)
        animation.save(Path(folder) / "out", progress=watch)
    whisper_seconds = watch.seconds["transcribe"]
    print(f"{options.seconds:.0f} s of speech, {len(animation.weights)} frames; status {animation.alignment.status}")
    for name, seconds in watch.seconds.items():
        print(f"{name:12s} {seconds / whisper_seconds:6.2f} × Whisper's time   ({seconds:.2f} s)")
    print(f"{'total':12s} {sum(watch.seconds.values()) / whisper_seconds:6.2f} × Whisper's time")


if __name__ == "__main__":
    main()
