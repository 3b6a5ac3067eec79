"""Ablations of joint models: couplings, guidance, and one sample against the mean of four.

    python benchmarks/joint_ablations.py CORPUS --network none=none.safetensors --network joint=joint.safetensors …
        [--clips 40] [--guidance 1] [--rows one,four,sound,face,both]

Each network is a row of the couplings' table. The rows "sound", "face" and "both" sample with classifier-free guidance
by the text in that stream; "one" without any, "four" is the mean of four samples without any. Prints the lines of
`kmtalk evaluate --corpus joint` for each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kmtalk.cli.options import parse_named_paths
from kmtalk.evaluation.joint import SampledRow, evaluate_joint
from kmtalk.face.rig import load_light_head


def rows_of(names: str, guidance: float) -> list[SampledRow]:
    """Return the rows that are named."""
    rows = {
        "one": SampledRow("one sample"),
        "four": SampledRow("mean of four", draws=4),
        "sound": SampledRow(f"guidance {guidance:g} of sound", guidance=(guidance, 0.0)),
        "face": SampledRow(f"guidance {guidance:g} of face", guidance=(0.0, guidance)),
        "both": SampledRow(f"guidance {guidance:g} of both", guidance=(guidance, guidance)),
    }
    return [rows[name] for name in names.split(",")]


def main() -> None:
    """Evaluate, and print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--rows", default="one,four,sound,face,both")
    given = parser.parse_args()
    networks = parse_named_paths("--network", given.network, "FILE")
    rows = rows_of(given.rows, given.guidance)
    for line in evaluate_joint(given.corpus, networks, load_light_head(), given.clips, rows=rows):
        print(line, flush=True)


if __name__ == "__main__":
    main()
