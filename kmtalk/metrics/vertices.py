"""Errors of vertices: predictions against the truth, pooled over clips.

``pred`` and ``gt`` are one clip (N, V, 3) or (N, 3V), or a sequence of clips, in ``unit`` ("m", "cm", "mm", or "units"
where nobody knows). All raise InputError where the two differ in shape, or a mask does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MM_PER_UNIT, Mask, MetricResult, as_mask

Clips = np.ndarray | Sequence[np.ndarray]


def lve(pred: Clips, gt: Clips, lips: Mask | np.ndarray | list[int], unit: str = "m") -> MetricResult:
    """Lip vertex error: mean over pooled frames of max over lip vertices of ‖p − g‖² (MeshTalk; as in FaceFormer's and
    CodeTalker's code, and the paper's §4.1). In ``unit``²; ``root_mm`` is its root."""
    mask = as_mask(lips, "lips")
    worst = np.concatenate([np.square(p - g).sum(2).max(1) for p, g in _pairs(pred, gt, mask)])
    return MetricResult(
        "LVE", float(worst.mean()), f"{unit}²", f"mean of {len(worst)} frames of max", mask, squared=True
    )


def lip_max(pred: Clips, gt: Clips, lips: Mask | np.ndarray | list[int], unit: str = "m") -> MetricResult:
    """Mean over pooled frames of the greatest distance of a lip vertex, mm."""
    mask = as_mask(lips, "lips")
    worst = np.concatenate([np.linalg.norm(p - g, axis=2).max(1) for p, g in _pairs(pred, gt, mask)])
    return _length_result("lip max", float(worst.mean()), unit, f"mean of {len(worst)} frames of max", mask)


def mve(pred: Clips, gt: Clips, mask: Mask | np.ndarray | list[int] | None = None, unit: str = "m") -> MetricResult:
    """Mean vertex error: mean over pooled frames and vertices of the distance, mm. ``mask``: None for all vertices."""
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
    """Upper-face dynamics deviation: by clip, mean over upper-face vertices of the standard deviation over time of
    ‖g − template‖², less the same of p; then the mean over clips, of its size where ``absolute`` (CodeTalker's code,
    which prints the signed one). In ``unit``². ``templates``: (V, 3), one or one a clip."""
    mask = as_mask(upper, "upper face")
    pairs = list(_pairs(pred, gt, mask))
    alike = isinstance(templates, np.ndarray) and templates.ndim <= (2 if templates.shape[-1] == 3 else 1)
    rests = [np.reshape(t, (-1, 3)) for t in ([templates] * len(pairs) if alike else templates)]
    if len(rests) != len(pairs):
        raise InputError(f"FDD: {len(rests)} templates for {len(pairs)} clips")
    each = []
    for (p, g), rest in zip(pairs, rests, strict=True):
        own = np.asarray(rest, np.float64)[mask.indices]
        moved = [np.square(m - own).sum(2).std(0).mean() for m in (g, p)]
        each.append(moved[0] - moved[1])
    name = "FDD (absolute)" if absolute else "FDD (signed, truth less prediction)"
    value = float(np.mean(np.abs(each) if absolute else each))
    return MetricResult(name, value, f"{unit}²", f"mean of {len(each)} clips", mask)


def velocity_error(
    pred: Clips, gt: Clips, fps: float, mask: Mask | np.ndarray | list[int] | None = None, unit: str = "m"
) -> MetricResult:
    """Mean over pooled steps and vertices of the difference of velocities, mm/s."""
    chosen = None if mask is None else as_mask(mask, "mask")
    total, steps, count = 0.0, 0, 0
    for p, g in _pairs(pred, gt, chosen):
        total += float(np.linalg.norm(np.diff(p, axis=0) - np.diff(g, axis=0), axis=2).sum()) * fps
        steps, count = steps + len(p) - 1, p.shape[1]
    if not steps:
        raise InputError("velocity error: needs clips of two frames or more")
    made = _length_result("velocity error", total / (steps * count), unit, f"mean of {steps} steps", chosen)
    return MetricResult(made.name, made.value, f"{made.unit}/s", made.pooling, chosen)


def as_clip_list(given: Clips) -> list[np.ndarray]:
    """One clip or many as a list of (N, V, 3)."""
    several = [given] if isinstance(given, np.ndarray) else list(given)
    return [c.reshape(len(c), -1, 3) if c.ndim == 2 else c for c in several]


def _pairs(pred: Clips, gt: Clips, mask: Mask | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clips side by side (N, n, 3) in float64, of the mask's vertices."""
    ours, theirs = as_clip_list(pred), as_clip_list(gt)
    if len(ours) != len(theirs) or not ours:
        raise InputError(f"{len(ours)} predicted clips for {len(theirs)} true ones")
    for number, (p, g) in enumerate(zip(ours, theirs, strict=True)):
        if p.shape != g.shape or p.ndim != 3 or p.shape[2] != 3 or not len(p):
            raise InputError(f"clip {number}: prediction {p.shape} and truth {g.shape} must both be (N, V, 3)")
        if mask is not None and mask.indices.max() >= p.shape[1]:
            raise InputError(f"mask {mask.name}: names vertex {mask.indices.max()} of a mesh with {p.shape[1]}")
        index = slice(None) if mask is None else mask.indices
        yield p[:, index].astype(np.float64), g[:, index].astype(np.float64)


def _length_result(name: str, value: float, unit: str, pooled: str, mask: Mask | None) -> MetricResult:
    """A length, in mm where the unit is known."""
    return MetricResult(name, value * MM_PER_UNIT.get(unit, 1.0), "mm" if unit in MM_PER_UNIT else unit, pooled, mask)
