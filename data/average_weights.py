"""Averages the weights of networks of one training run, or of before and after fine-tuning.

    python data/average_weights.py EARLY.safetensors LATE.safetensors -o network.safetensors

The mean of an early and a late network keeps what the early one does for voices that neither has heard, and most of
what the late one has learnt (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
assets/streaming.safetensors and assets/joint.safetensors are such means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of a file and its metadata."""
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        sys.exit(f"{path}: {error}")


def main() -> None:
    """Read the networks, and write their mean with the metadata of the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    args = parser.parse_args()
    networks = [read(path) for path in args.networks]
    tensors, metadata = networks[-1]
    mean = {}
    for name, last in tensors.items():
        values = [other.get(name) for other, _ in networks]
        if any(value is None or value.shape != last.shape for value in values):
            sys.exit(f"{args.networks[0]}: {name} differs; give networks of the same size")
        mean[name] = np.mean([np.asarray(value, np.float32) for value in values], 0).astype(last.dtype)
    temporary = args.output.with_suffix(".part")
    temporary.write_bytes(save(mean, metadata))
    temporary.replace(args.output)


if __name__ == "__main__":
    main()
