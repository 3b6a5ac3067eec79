"""Metrics of the pitch of speech at equal durations, pooled over clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmtalk.metrics.result import MetricResult, pair_clips
from kmtalk.speech.prosody import pitch_contour


def pitch_accuracy(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> tuple[MetricResult, ...]:
    """Compare the fundamental frequency F0 of two sounds every 10 ms, by `kmtalk.speech.prosody.pitch_contour`.

    Args:
        pred: Mono samples (S,) at 16 kHz, one array per clip.
        gt: True samples (S,) of the same lengths.

    Returns:
        Voicing agreement: share of the frames in which both sounds are voiced or neither is (1 less the voicing
        decision error of Nakatani et al. 2008).
        F0 RMSE: √mean (1200 log2(p / g))² in cents, over the frames that are voiced in both; errors by an octave count.
        F0 r: Pearson correlation of log F0 over the same frames; 0 where one does not change.
        F0 spread: standard deviation of log F0 relative to that of the true sounds, over the same frames, each clip
        around its own mean; below 1 where the melody is flatter.
        The last three are NaN where fewer than two frames are voiced in both.

    Raises:
        InputError: The two differ in number or length.
    """
    agreed, ours, theirs, ours_moved, theirs_moved = [], [], [], [], []
    for p, g in pair_clips("pitch", pred, gt, 1):
        (p_hz, p_voiced), (g_hz, g_voiced) = pitch_contour(p), pitch_contour(g)
        agreed.append(p_voiced == g_voiced)
        both = p_voiced & g_voiced
        if both.any():
            ours.append(1200 * np.log2(p_hz[both]))
            theirs.append(1200 * np.log2(g_hz[both]))
            ours_moved.append(ours[-1] - ours[-1].mean())
            theirs_moved.append(theirs[-1] - theirs[-1].mean())
    same = np.concatenate(agreed)
    rmse = r = spread = float("nan")
    count = sum(map(len, ours))
    if count >= 2:
        a, b = np.concatenate(ours), np.concatenate(theirs)
        rmse = float(np.sqrt(np.square(a - b).mean()))
        r = float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-9 else 0.0
        width = float(np.concatenate(theirs_moved).std())
        spread = float(np.concatenate(ours_moved).std()) / width if width > 1e-9 else float("nan")
    over = f"over {count} frames that are voiced in both"
    return (
        MetricResult("voicing agreement", float(same.mean()), "", f"of {len(same)} frames of 10 ms"),
        MetricResult("F0 RMSE", rmse, "cents", over),
        MetricResult("F0 r", r, "", over),
        MetricResult("F0 spread", spread, "of the true one", over),
    )
