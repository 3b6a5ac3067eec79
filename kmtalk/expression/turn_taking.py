"""One face that speaks and listens in turn: the speaker's expression and the listener's fade into each other."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_closing, binary_dilation, gaussian_filter1d

from kmtalk.expression.blinks import LEAST_INTERVAL
from kmtalk.expression.layer import ExpressionCurves

TURN_GAP_SECONDS = 1.0  # pauses of one's own speech up to this length are part of the turn
PREPARE_SECONDS = 0.25  # before the first and after the last sound, in which one is a speaker already and still
FADE_SECONDS = 0.18  # deviation of the change between the two


def speaking_share(talking: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return how much a face is a speaker's (N,) in [0, 1], 0 where it listens or is idle.

    Args:
        talking: 1 at frames of its own speech (N,), else 0.
        times: (N,) frame times in seconds, at one rate.
    """
    fps = 1 / (times[1] - times[0]) if len(times) > 1 else 30.0
    gap, margin = round(TURN_GAP_SECONDS * fps), round(PREPARE_SECONDS * fps)
    padded = np.pad(talking > 0.5, gap)  # since closing erodes at the ends
    turns = binary_closing(padded, np.ones(gap + 1, bool))[gap : len(padded) - gap] if gap else padded
    return gaussian_filter1d(
        binary_dilation(turns, np.ones(2 * margin + 1, bool)).astype(float), FADE_SECONDS * fps, mode="nearest"
    )


def fade_expressions(
    speaker: ExpressionCurves, listener: ExpressionCurves, share: np.ndarray, times: np.ndarray
) -> ExpressionCurves:
    """Return the expression of a face that is a speaker's by `share` (N,) and else a listener's.

    Head and brows fade. The eyes jump from one gaze to the other, as eyes do, and each blink is that of one of the two.
    """
    part = share[:, None]

    def own(blinks: np.ndarray, speaks: bool) -> np.ndarray:
        return blinks[(np.interp(blinks, times, share) >= 0.5) == speaks] if len(blinks) else blinks

    blinks: list[float] = []
    for blink in np.sort(np.concatenate([own(speaker.blinks, True), own(listener.blinks, False)])).tolist():
        if not blinks or blink - blinks[-1] >= LEAST_INTERVAL:
            blinks.append(blink)
    shapes = [{name: share * curve for name, curve in curves.items()} for curves in speaker.shapes]
    shapes += [{name: (1 - share) * curve for name, curve in curves.items()} for curves in listener.shapes]
    return ExpressionCurves(
        part * speaker.head + (1 - part) * listener.head,
        np.where(part >= 0.5, speaker.gaze, listener.gaze),
        np.array(blinks),
        shapes,
    )
