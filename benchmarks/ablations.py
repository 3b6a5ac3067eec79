"""The paper's ablations on real lips: trains every variant with several seeds and equal settings.

    python benchmarks/ablations.py GRID -o runs/ablations [--seeds 3] [--steps 250] [--variants ...]

Variants: full; no-gate (audio and flow are added); uniform (the same number of keys, evenly spaced); no-key-motion (CMC
alone); no-text-latent (without text and latent consistency); strong-text-latent (both at a hundred times the default
weight). The ablation without CMC, the full network's keys interpolated linearly, needs no training and is printed by
`kmtalk evaluate`. All variants are trained on GRID's training clips alone, with the default network but fewer steps.
Weights that exist already are not trained again. Then run the command that is printed:

    kmtalk evaluate GRID --network full-1=runs/ablations/full-1.safetensors ...
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from kmtalk.face.rig import load_light_head
from kmtalk.training.config import TrainingConfig
from kmtalk.training.data import load_clips
from kmtalk.training.tasks import make_rig_task
from kmtalk.training.trainer import Trainer

VARIANTS: dict[str, dict[str, dict[str, object] | str]] = {
    "full": {},
    "no-gate": {"network": {"audio_gate": False}},
    "uniform": {"key_placement": "uniform"},
    "no-key-motion": {"network": {"use_key_motion": False}},
    "no-text-latent": {"losses": {"text_consistency": 0.0, "latent_consistency": 0.0}},
    "strong-text-latent": {"losses": {"text_consistency": 5.0, "latent_consistency": 5.0}},
}


def plan(grid: Path, cache: Path, seed: int, steps: int, variant: str) -> TrainingConfig:
    """Configuration of one variant and seed."""
    changes = VARIANTS[variant]
    network, losses = ({**base, **changes.get(name, {})} for name, base in (  # type: ignore[dict-item]
        ("network", {"d_model": 128, "num_heads": 8, "num_layers": 3}), ("losses", {"band_power": 3.0})))  # fmt: skip
    return TrainingConfig.model_validate(
        {
            "corpora": [{"kind": "grid", "path": grid}],
            "network": network,
            "losses": losses,
            "key_placement": changes.get("key_placement", "phones"),
            "steps": {"key_motion": steps // 10, "completion": steps // 5, "joint": steps - steps // 10 - steps // 5},
            "max_crop_seconds": 3.5,
            "eval_every": 250,
            "seed": seed,
            "feature_cache": cache,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    rig, cache = load_light_head(), options.output / "features"
    clips, validation_clips = load_clips(plan(options.grid, cache, 0, options.steps, "full").corpora, rig)
    for seed in range(1, options.seeds + 1):
        for variant in options.variants:
            weights = options.output / f"{variant}-{seed}.safetensors"
            if not weights.is_file():
                folder = options.output / f"{variant}-{seed}"
                config = plan(options.grid, cache, seed, options.steps, variant)
                task = make_rig_task(config, clips, validation_clips, rig, cache)
                shutil.copy(Trainer(config, task, folder, log=print).run(), weights)
            print(weights, flush=True)
    networks = " ".join(f"--network {p.stem}={p}" for p in sorted(options.output.glob("*.safetensors")))
    print(f"kmtalk evaluate {options.grid} {networks}")


if __name__ == "__main__":
    main()
