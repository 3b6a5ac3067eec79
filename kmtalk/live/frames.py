"""Poses as other programs receive them: ARKit's shapes, and the rotations of head and eyes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmtalk.exchange.arkit import arkit_curves, head_and_eye_rotations
from kmtalk.face.motion import Motion, frame_count, frame_times, resample_motion


@dataclass(frozen=True)
class LiveFrame:
    """One pose of a face.

    Attributes:
        number: Frame n, which is due (n + 0.5) / fps seconds after the start.
        weights: (52,) float32 in [0, 1], in the order of `kmtalk.exchange.arkit.LIVE_LINK_ORDER`.
        rotations: (9,) float32 in radians, in the order of `kmtalk.exchange.arkit.LIVE_LINK_ROTATIONS`.
    """

    number: int
    weights: np.ndarray
    rotations: np.ndarray


def live_frames(motion: Motion, fps: float) -> Iterator[LiveFrame]:
    """Yield a motion's poses, resampled to `fps` frames a second."""
    count = frame_count(len(motion) / motion.fps, fps)
    weights, rotations = (
        resample_motion(values, motion.fps, frame_times(count, fps)).astype(np.float32)
        for values in (arkit_curves(motion), head_and_eye_rotations(motion))
    )
    for number in range(count):
        yield LiveFrame(number, weights[number], rotations[number])
