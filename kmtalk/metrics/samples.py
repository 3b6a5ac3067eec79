"""Metrics of systems that give several motions for one sound: ``samples`` are (S, N, V, 3), by clip."""

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
    """MEE: LVE of the mean of a clip's samples (Yang et al. 2024, Probabilistic speech-driven 3D facial motion)."""
    made = lve([s.mean(0) for s in _check_samples(samples)], gt, lips, unit)
    return MetricResult("MEE", made.value, made.unit, f"{made.pooling}, of the mean sample", made.mask, squared=True)


def coverage_error(samples: Sequence[np.ndarray], gt: Clips, lips: Mask | np.ndarray, unit: str = "m") -> MetricResult:
    """CE: LVE of each clip's best sample; clips count by their frames."""
    mask, truths, total, frames = as_mask(lips, "lips"), as_clip_list(gt), 0.0, 0
    several = _check_samples(samples)
    if len(several) != len(truths):
        raise InputError(f"samples of {len(several)} clips for {len(truths)} true ones")
    for clip, truth in zip(several, truths, strict=True):
        total += min(lve(sample, truth, mask, unit).value for sample in clip) * len(truth)
        frames += len(truth)
    return MetricResult(
        "CE", total / frames, f"{unit}²", f"mean of {frames} frames of max, best sample", mask, squared=True
    )


def diversity(samples: Sequence[np.ndarray], mask: Mask | np.ndarray, unit: str = "m") -> MetricResult:
    """Mean distance of two samples of one clip, over pairs, frames and vertices, mm."""
    chosen, each = as_mask(mask, "mask"), []
    for clip in _check_samples(samples):
        if chosen.indices.max() >= clip.shape[2]:
            raise InputError(f"mask {chosen.name}: names vertex {chosen.indices.max()} of a mesh with {clip.shape[2]}")
        part = clip[:, :, chosen.indices].astype(np.float64)
        each.append(np.mean([np.linalg.norm(a - b, axis=2).mean() for a, b in combinations(part, 2)]))
    value, known = float(np.mean(each)) * MM_PER_UNIT.get(unit, 1.0), "mm" if unit in MM_PER_UNIT else unit
    return MetricResult("diversity", value, known, f"mean of {len(each)} clips", chosen)


def _check_samples(samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    clips = [np.asarray(c) for c in samples]
    if not clips or any(c.ndim != 4 or len(c) < 2 or c.shape[3] != 3 for c in clips):
        raise InputError("samples: give (S, N, V, 3) by clip, S of two or more")
    return clips
