"""Metrics of the pitch of speech at equal durations, pooled over clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult, pair_clips
from kmtalk.speech.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

LOWEST, HIGHEST = 50.0, 420.0  # Hz: voices from creak to a child's
VOICED_CONFIDENCE = 0.5  # at which SwiftF0 is calibrated
GROSS_CENTS = 1200 * np.log2(1.2)
"""Deviation by a fifth of the frequency, from which an error is gross (Rabiner et al. 1976)."""


@lru_cache(maxsize=1)
def _tracker() -> SwiftF0:
    try:
        from swift_f0 import SwiftF0
    except ImportError:
        raise InputError("metrics of pitch need the package swift-f0; pip install 'kmtalk[evaluate]'") from None
    return SwiftF0(threads=1, spin=False)


def pitch_contour(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Track the fundamental frequency of mono samples (S,) at 16 kHz by SwiftF0 (Nieradzik 2025), every 16 ms.

    Returns:
        (M,) Hz, from 50 to 420, and (M,) bool, whether the sound is voiced; the frequency means nothing where it is
        not. Value i is at i · 16 ms.

    Raises:
        InputError: swift-f0 is not installed.
    """
    tracked = _tracker().detect(np.ascontiguousarray(samples, np.float32), SAMPLE_RATE, LOWEST, HIGHEST)
    return tracked.pitch_hz, tracked.confidence >= VOICED_CONFIDENCE


def pitch_accuracy(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> tuple[MetricResult, ...]:
    """Compare the fundamental frequency F0 of two sounds every 16 ms, by `pitch_contour`.

    Args:
        pred: Mono samples (S,) at 16 kHz, one array per clip.
        gt: True samples (S,) of the same lengths.

    Returns:
        Voicing agreement: share of the frames in which both sounds are voiced or neither is (1 less the voicing
        decision error of Nakatani et al. 2008).
        Gross pitch error: share of the frames that are voiced in both whose F0 differs by a fifth or more.
        F0 RMSE: √mean (1200 log2(p / g))² in cents, over the frames that are voiced in both without a gross error.
        F0 r: Pearson correlation of log F0 over the same frames; 0 where one does not change.
        F0 spread: standard deviation of log F0 relative to that of the true sounds, over the same frames, each clip
        around its own mean; below 1 where the melody is flatter.
        The last four are NaN where there are fewer than two such frames.

    Raises:
        InputError: The two differ in number or length, or swift-f0 is not installed.
    """
    agreed, ours, theirs, moved = [], [], [], []
    for p, g in pair_clips("pitch", pred, gt, 1):
        (p_hz, p_voiced), (g_hz, g_voiced) = pitch_contour(p), pitch_contour(g)
        agreed.append(p_voiced == g_voiced)
        both = p_voiced & g_voiced
        if both.any():
            ours.append(1200 * np.log2(p_hz[both]))
            theirs.append(1200 * np.log2(g_hz[both]))
            pair = np.stack([ours[-1], theirs[-1]])
            pair = pair[:, np.abs(pair[0] - pair[1]) < GROSS_CENTS]
            if pair.size:
                moved.append(pair - pair.mean(1, keepdims=True))
    same = np.concatenate(agreed)
    gross = rmse = r = spread = float("nan")
    count, near = sum(map(len, ours)), 0
    if count >= 2:
        a, b = np.concatenate(ours), np.concatenate(theirs)
        fine = np.abs(a - b) < GROSS_CENTS
        gross, near = float(1 - fine.mean()), int(fine.sum())
        if near >= 2:
            width, true_width = np.concatenate(moved, 1).std(1)
            spread = float(width / true_width) if true_width > 1e-9 else float("nan")
            a, b = a[fine], b[fine]
            rmse = float(np.sqrt(np.square(a - b).mean()))
            r = float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-9 else 0.0
    over, over_fine = f"over {count} frames voiced in both", f"over {near} frames without a gross error"
    return (
        MetricResult("voicing agreement", float(same.mean()), "", f"of {len(same)} frames of 16 ms"),
        MetricResult("gross pitch error", gross, "", over),
        MetricResult("F0 RMSE", rmse, "cents", over_fine),
        MetricResult("F0 r", r, "", over_fine),
        MetricResult("F0 spread", spread, "of the true one", over_fine),
    )
