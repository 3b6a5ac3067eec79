"""Errors of predicted vertices relative to the ground truth, pooled over clips.

`pred` and `gt` are one clip (N, V, 3) or (N, 3V), or a sequence of clips, in `unit` ("m", "cm", "mm", or "units" where
it is unknown). Lengths are returned in mm, or in `unit` where it is unknown. All functions raise InputError where the
two differ in shape or a mask does not fit the mesh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MM_PER_UNIT, Mask, MetricResult, as_mask

Clips = np.ndarray | Sequence[np.ndarray]


def lve(pred: Clips, gt: Clips, lips: Mask | np.ndarray | list[int], unit: str = "m") -> MetricResult:
    """Lip vertex error (LVE): mean over all frames of the maximum over lip vertices of ‖p − g‖².

    As in MeshTalk, FaceFormer's and CodeTalker's code, and the paper's §4.1. The value is in `unit`²; `root_mm` of the
    result is its root.
    """
    mask = as_mask(lips, "lips")
    worst = np.concatenate([np.square(p - g).sum(2).max(1) for p, g in _pairs(pred, gt, mask)])
    return MetricResult(
        "LVE", float(worst.mean()), f"{unit}²", f"mean of {len(worst)} frames of max", mask, squared=True
    )


def lip_max(pred: Clips, gt: Clips, lips: Mask | np.ndarray | list[int], unit: str = "m") -> MetricResult:
    """Mean over all frames of the greatest distance of a lip vertex, in mm."""
    mask = as_mask(lips, "lips")
    worst = np.concatenate([np.linalg.norm(p - g, axis=2).max(1) for p, g in _pairs(pred, gt, mask)])
    return _length_result("lip max", float(worst.mean()), unit, f"mean of {len(worst)} frames of max", mask)


def mve(pred: Clips, gt: Clips, mask: Mask | np.ndarray | list[int] | None = None, unit: str = "m") -> MetricResult:
    """Mean vertex error (MVE): mean distance over all frames and vertices of `mask` (None: all vertices), in mm."""
    chosen = None if mask is None else as_mask(mask, "mask")
    total, frames, count = 0.0, 0, 0
    for p, g in _pairs(pred, gt, chosen):
        total += float(np.linalg.norm(p - g, axis=2).sum())
        frames, count = frames + len(p), p.shape[1]
    return _length_result("MVE", total / (frames * count), unit, f"mean of {frames} frames x {count} vertices", chosen)


def fdd(
    pred: Clips,
    gt: Clips,
    templates: np.ndarray | Sequence[np.ndarray],
    upper: Mask | np.ndarray | list[int],
    unit: str = "m",
    absolute: bool = False,
) -> MetricResult:
    """Upper-face dynamics deviation (FDD), as in CodeTalker's code, which prints the signed value.

    For each clip: mean over upper-face vertices of the standard deviation over time of ‖g − template‖², minus the same
    of p. The result is the mean over clips.

    Args:
        pred: Predictions.
        gt: Ground truth.
        templates: Neutral vertices (V, 3), one for all clips or one per clip.
        upper: Mask of the upper face.
        unit: Unit of the vertices.
        absolute: Take absolute values before the mean over clips.

    Returns:
        The deviation in `unit`².

    Raises:
        InputError: The number of templates differs from that of the clips, or shapes do not fit.
    """
    mask = as_mask(upper, "upper face")
    pairs = list(_pairs(pred, gt, mask))
    shared = isinstance(templates, np.ndarray) and templates.ndim <= (2 if templates.shape[-1] == 3 else 1)
    rests = [np.reshape(t, (-1, 3)) for t in ([templates] * len(pairs) if shared else templates)]
    if len(rests) != len(pairs):
        raise InputError(f"FDD: {len(rests)} templates, but {len(pairs)} clips")
    deviations = []
    for (p, g), rest in zip(pairs, rests, strict=True):
        neutral = np.asarray(rest, np.float64)[mask.indices]
        dynamics = [np.square(m - neutral).sum(2).std(0).mean() for m in (g, p)]
        deviations.append(dynamics[0] - dynamics[1])
    name = "FDD (absolute)" if absolute else "FDD (signed, truth less prediction)"
    value = float(np.mean(np.abs(deviations) if absolute else deviations))
    return MetricResult(name, value, f"{unit}²", f"mean of {len(deviations)} clips", mask)


def velocity_error(
    pred: Clips, gt: Clips, fps: float, mask: Mask | np.ndarray | list[int] | None = None, unit: str = "m"
) -> MetricResult:
    """Mean length of the difference of velocities over all frame steps and vertices of `mask` (None: all), in mm/s."""
    used = None if mask is None else as_mask(mask, "mask")
    total, steps, count = 0.0, 0, 0
    for p, g in _pairs(pred, gt, used):
        total += float(np.linalg.norm(np.diff(p, axis=0) - np.diff(g, axis=0), axis=2).sum()) * fps
        steps, count = steps + len(p) - 1, p.shape[1]
    if not steps:
        raise InputError("velocity error: clips need two frames or more")
    error = _length_result("velocity error", total / (steps * count), unit, f"mean of {steps} steps", used)
    return MetricResult(error.name, error.value, f"{error.unit}/s", error.pooling, used)


def as_clip_list(given: Clips) -> list[np.ndarray]:
    """Return one clip or several as a list of (N, V, 3)."""
    several = [given] if isinstance(given, np.ndarray) else list(given)
    return [c.reshape(len(c), -1, 3) if c.ndim == 2 else c for c in several]


def _pairs(pred: Clips, gt: Clips, mask: Mask | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield prediction and ground truth (N, n, 3) in float64 of each clip, limited to the mask's vertices."""
    predicted, true = as_clip_list(pred), as_clip_list(gt)
    if len(predicted) != len(true) or not predicted:
        raise InputError(f"{len(predicted)} predicted clips, but {len(true)} true clips")
    for number, (p, g) in enumerate(zip(predicted, true, strict=True)):
        if p.shape != g.shape or p.ndim != 3 or p.shape[2] != 3 or not len(p):
            raise InputError(
                f"clip {number}: prediction {p.shape} and ground truth {g.shape} must have the same shape (N, V, 3)"
            )
        if mask is not None and mask.indices.max() >= p.shape[1]:
            raise InputError(
                f"mask {mask.name}: has vertex {mask.indices.max()}, but the mesh has {p.shape[1]} vertices"
            )
        index = slice(None) if mask is None else mask.indices
        yield p[:, index].astype(np.float64), g[:, index].astype(np.float64)


def _length_result(name: str, value: float, unit: str, pooled: str, mask: Mask | None) -> MetricResult:
    """A result in mm, or in `unit` where it is unknown."""
    return MetricResult(name, value * MM_PER_UNIT.get(unit, 1.0), "mm" if unit in MM_PER_UNIT else unit, pooled, mask)
