"""Time and memory of `kmtalk animate` on a heavy character, relative to the default head, without film.

    python benchmarks/characters.py

Runs the command on assets/speech.wav in a process of its own each time: the default head, the body of
data/characters with its triangles divided (70,000 vertices, own shapes), and the same without shapes, which is fitted;
a fit is in the cache after the first run. Prints the least wall time of three runs and the greatest peak memory, with
their ratios. Needs anny.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "data" / "characters"))

from make_avatar import write_avatar  # noqa: E402

RUNS = 3


def measure(template: Path | None, folder: Path) -> tuple[float, float]:
    """Least wall time in s and greatest peak memory in MB."""
    command = [sys.executable, "-m", "kmtalk.cli", "animate", ROOT / "assets" / "speech.wav", "--no-video", "--quiet"]
    command += ["-o", folder / "out", *([] if template is None else ["--template", template])]
    times, peak = [], 0.0
    for _ in range(RUNS):
        began = time.perf_counter()
        child = subprocess.Popen([str(word) for word in command])
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0, command
        times.append(time.perf_counter() - began)
        peak = max(peak, usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2))
    return min(times), peak


def main() -> None:
    """Measure and print."""
    print(f"wall time: least of {RUNS} runs; memory: peak resident size; {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_avatar(folder / "character.glb", fine=True)
        write_avatar(folder / "bare.glb", fine=True, shapes=False)
        base_time, base_memory = measure(None, folder)
        print(f"default head      {base_time:6.1f} s        {base_memory:6.0f} MB")
        for label, file in (("own shapes", "character.glb"), ("fitted, cached", "bare.glb")):
            seconds, memory = measure(folder / file, folder)
            ratios = seconds / base_time, memory / base_memory
            print(f"{label:15s}   {seconds:6.1f} s {ratios[0]:5.2f}  {memory:6.0f} MB {ratios[1]:5.2f}")


if __name__ == "__main__":
    main()
