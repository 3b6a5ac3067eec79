"""Interrupt `kmtalk animate` at random moments, and count what is left.

Run `python benchmarks/interruptions.py [COUNT]`; 100 runs take about fifteen minutes on two cores. Every run writes
into one folder, with another sound than the run before, and gets SIGKILL, SIGTERM or SIGINT at a random moment.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from kmtalk import load_animation
from kmtalk.speech.audio import load_audio

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def start(folder: Path, sound: str) -> subprocess.Popen[str]:
    """Start one run."""
    command = [sys.executable, "-m", "kmtalk.cli", "animate", sound, "--aligner", "uniform", "--text", "la"]
    return subprocess.Popen(
        [*command, "-o", "out", "--size", "64"],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def main(count: int) -> None:
    chance, seen = random.Random(1), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        for n, pitch in enumerate((220, 330)):
            samples = 0.3 * np.sin(2 * np.pi * pitch * np.arange(16000) / 16000)
            soundfile.write(folder / f"{n}.wav", samples, 16000)
        began = time.monotonic()
        start(folder, "0.wav").communicate()
        duration = time.monotonic() - began
        for n in range(count):
            run, number = start(folder, f"{n % 2}.wav"), SIGNALS[n % 3]
            time.sleep(chance.uniform(0.02, 1.05) * duration)
            run.send_signal(number)
            said = run.communicate(timeout=60)[1]
            seen[f"{number.name}: exit code {run.returncode}"] += 1
            seen["tracebacks"] += "Traceback" in said
            if "Traceback" in said:
                print(said)
            digest = load_animation(folder / "out" / "animation.npz").audio.digest
            seen["mixed folders"] += digest != load_audio(folder / "out" / "speech.wav").digest
            seen["damaged videos"] += b"moov" not in (folder / "out" / "animation.mp4").read_bytes()
        last = start(folder, "0.wav")
        last.communicate()
        seen["next run fails"] += last.returncode != 0
        left = [p for p in (folder / "out").iterdir() if p.name.startswith(".")] + list((folder / "tmp").iterdir())
        seen["left in the end"] = len(left)
    for what, times in sorted(seen.items()):
        print(f"{what:32s} {times}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
