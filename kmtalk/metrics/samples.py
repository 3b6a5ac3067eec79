"""Metrics of systems that predict several motions per clip.

`samples` are arrays (S, N, V, 3), one per clip, S ≥ 2. All functions raise InputError for other shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MM_PER_UNIT, Mask, MetricResult, as_mask
from kmtalk.metrics.vertices import Clips, as_clip_list, lve


def mean_estimate_error(
    samples: Sequence[np.ndarray], gt: Clips, lips: Mask | np.ndarray, unit: str = "m"
) -> MetricResult:
    """Mean estimate error (MEE): LVE of the mean of each clip's samples, in `unit`².

    Yang et al. 2024, Probabilistic speech-driven 3D facial motion.
    """
    error = lve([s.mean(0) for s in _check_samples(samples)], gt, lips, unit)
    return MetricResult(
        "MEE", error.value, error.unit, f"{error.pooling}, of the mean sample", error.mask, squared=True
    )


def coverage_error(samples: Sequence[np.ndarray], gt: Clips, lips: Mask | np.ndarray, unit: str = "m") -> MetricResult:
    """Coverage error (CE): LVE of each clip's best sample, in `unit`²; clips are weighted by their frames."""
    mask, truths, total, frames = as_mask(lips, "lips"), as_clip_list(gt), 0.0, 0
    clips = _check_samples(samples)
    if len(clips) != len(truths):
        raise InputError(f"samples of {len(clips)} clips, but {len(truths)} true clips")
    for clip, truth in zip(clips, truths, strict=True):
        total += min(lve(sample, truth, mask, unit).value for sample in clip) * len(truth)
        frames += len(truth)
    return MetricResult(
        "CE", total / frames, f"{unit}²", f"mean of {frames} frames of max, best sample", mask, squared=True
    )


def diversity(samples: Sequence[np.ndarray], mask: Mask | np.ndarray, unit: str = "m") -> MetricResult:
    """Mean distance of two samples of one clip over pairs, frames and vertices, then over clips, in mm."""
    chosen, distances = as_mask(mask, "mask"), []
    for clip in _check_samples(samples):
        if chosen.indices.max() >= clip.shape[2]:
            raise InputError(
                f"mask {chosen.name}: has vertex {chosen.indices.max()}, but the mesh has {clip.shape[2]} vertices"
            )
        part = clip[:, :, chosen.indices].astype(np.float64)
        distances.append(np.mean([np.linalg.norm(a - b, axis=2).mean() for a, b in combinations(part, 2)]))
    value, unit_name = float(np.mean(distances)) * MM_PER_UNIT.get(unit, 1.0), "mm" if unit in MM_PER_UNIT else unit
    return MetricResult("diversity", value, unit_name, f"mean of {len(distances)} clips", chosen)


def _check_samples(samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The samples as arrays of checked shape."""
    clips = [np.asarray(c) for c in samples]
    if not clips or any(c.ndim != 4 or len(c) < 2 or c.shape[3] != 3 for c in clips):
        raise InputError("samples: must be (S, N, V, 3) per clip, with S of two or more")
    return clips
