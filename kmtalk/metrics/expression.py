"""Metrics of expressions: closed lips and smiles by frame, and the distance of two distributions, pooled over clips.

A mouth is an array (N, 5) in mm as in `kmtalk.metrics.mouth`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import svdvals

from kmtalk.errors import InputError
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.metrics.mouth import CLOSED_MM
from kmtalk.metrics.result import MetricResult, pair_clips

SMILE_MM = 4.0
"""mm by which the corners of the mouth are further apart than at rest in a smile."""


def closure_f1(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray], under_mm: float = CLOSED_MM) -> MetricResult:
    """F1 score of closed lips by frame, as AV-Flow's F1 of lip closures (ICCV 2025, supplement, Table 1).

    Lips are closed where the aperture, the distance of the inner lips, is below `under_mm`.
    F1 = 2 TP / (2 TP + FP + FN) over the frames of all clips together.

    Args:
        pred: Predicted mouths (N, 5), one per clip.
        gt: True mouths (N, 5).
        under_mm: Threshold in mm. AV-Flow does not give theirs.

    Returns:
        A number from 0 to 1, without unit; NaN where the lips are closed nowhere.

    Raises:
        InputError: The two differ in number or shape.
    """
    return _f1("F1 lip closures", pred, gt, LIP_CHANNELS.index("aperture"), -np.inf, under_mm, f"under {under_mm:g} mm")


def smile_f1(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray], over_mm: float = SMILE_MM) -> MetricResult:
    """F1 score of smiles by frame, as AV-Flow's (ICCV 2025, supplement, Table 1).

    The mouth smiles where the distance of its corners exceeds that at rest by more than `over_mm`. Arguments, value and
    errors are those of `closure_f1`.
    """
    return _f1("F1 smiles", pred, gt, LIP_CHANNELS.index("width"), over_mm, np.inf, f"over {over_mm:g} mm from rest")


def _f1(
    name: str,
    pred: Sequence[np.ndarray],
    gt: Sequence[np.ndarray],
    channel: int,
    low: float,
    high: float,
    threshold: str,
) -> MetricResult:
    """F1 score of the frames whose `channel` is between `low` and `high`."""
    pairs = pair_clips(name, pred, gt, 2)
    there, true = (np.concatenate([m[:, channel] for m in mouths]) for mouths in zip(*pairs, strict=True))
    there, true = (there > low) & (there < high), (true > low) & (true < high)
    events = int(there.sum() + true.sum())
    value = 2 * int((there & true).sum()) / events if events else float("nan")
    return MetricResult(name, value, "", f"of {len(true)} frames, {int(true.sum())} of them true, {threshold}")


def frechet_distance(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Fréchet distance (FD) of two distributions of expressions, as AV-Flow's FD_e (ICCV 2025, supplement, Table 1).

    ‖μ_p − μ_g‖² + tr(Σ_p + Σ_g − 2 (Σ_p Σ_g)^½), the squared 2-Wasserstein distance of two Gaussians with the means and
    covariances of all frames (Dowson and Landau 1982; used so by FID). It grows where there are fewer frames than
    some tens per dimension, so that two figures compare at equal numbers of frames.

    Args:
        pred: Predicted expressions (N, k), such as weights of blend shapes, one array per clip.
        gt: True expressions (M, k); their number and lengths may be others.

    Returns:
        The distance in the expressions' unit squared.

    Raises:
        InputError: There are fewer than two frames, other dimensions, or values that are not finite.
    """
    means, factors, frames = [], [], []
    for clips, whose in ((pred, "predicted"), (gt, "true")):
        if not len(clips) or any(c.ndim != 2 or c.shape[1] != gt[0].shape[1] for c in clips):
            raise InputError(f"Fréchet distance: the {whose} expressions must be (N, k) with the same k")
        values = np.concatenate(clips).astype(np.float64)
        if len(values) < 2 or not np.isfinite(values).all():
            raise InputError(f"Fréchet distance: needs two or more {whose} frames, and finite values")
        means.append(values.mean(0))
        factors.append(np.linalg.qr((values - means[-1]) / np.sqrt(len(values) - 1)).R)  # Σ = RᵀR
        frames.append(len(values))
    # tr (Σ_p Σ_g)^½ is the sum of the singular values of R_p R_gᵀ: no root of a matrix that may be singular
    shared = svdvals(factors[0] @ factors[1].T).sum()
    spread = sum(np.square(r).sum() for r in factors)
    value = float(np.square(means[0] - means[1]).sum() + spread - 2 * shared)
    dimensions = f"{len(means[0])} dimensions"
    return MetricResult(
        "Fréchet distance", max(value, 0.0), "", f"{frames[0]} against {frames[1]} frames, {dimensions}"
    )
