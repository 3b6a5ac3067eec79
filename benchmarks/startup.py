"""How soon commands answer, beside Python and its libraries in the same minute.

    python benchmarks/startup.py [--runs 5]

The runs take turns, so that a busy machine slows all of them. The bars: `kmtalk --help` takes 0.5 s at most, and
`kmtalk animate` begins to read the sound within 1.5 times of `import torch`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kmtalk.assets import asset_path

HELP_SECONDS, READ_TIMES_TORCH = 0.5, 1.5
KMTALK = ["-m", "kmtalk.cli"]
REFERENCES = {"python": ["-c", "pass"], "numpy": ["-c", "import numpy"], "torch": ["-c", "import torch"]}


def seconds(arguments: list[str]) -> float:
    """How long a Python with these arguments takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def stage_seconds(folder: Path) -> dict[str, float]:
    """When `kmtalk animate` begins to import its models and to read the sound, from its start."""
    command = [
        *KMTALK,
        "animate",
        str(asset_path("speech.wav")),
        "-o",
        str(folder / "out"),
        "--formats",
        "npz",
        "--json",
    ]
    began, found = time.perf_counter(), {}
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "stage":
                found[event["name"]] = time.perf_counter() - began
            if event["event"] == "error" or "read" in found:
                process.kill()
    return {f"animate: {name}": found[name] for name in ("load", "read")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = []
    for number in range(parser.parse_args().runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            run = {name: seconds(arguments) for name, arguments in REFERENCES.items()}
            run |= {"--help": seconds([*KMTALK, "--help"]), **stage_seconds(Path(folder))}
        if number:  # the first one fills the caches of files and byte code
            runs.append(run)
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ratio = {
        (name, reference): statistics.median(run[name] / run[reference] for run in runs)
        for name in median
        for reference in REFERENCES
    }
    print(
        "| | seconds | × `python -c pass` | × `import numpy` | × `import torch` |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name in median:
        print(f"| {name} | {median[name]:.2f} |", *(f"{ratio[name, other]:.2f} |" for other in REFERENCES))
    read = ratio["animate: read", "torch"]
    print(f"\n--help: {median['--help']:.2f} s; the bar is {HELP_SECONDS} s")
    print(f"animate: reads the sound after {read:.2f} × import torch; the bar is {READ_TIMES_TORCH}")
    sys.exit(median["--help"] > HELP_SECONDS or read > READ_TIMES_TORCH)


if __name__ == "__main__":
    main()
