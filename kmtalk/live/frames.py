"""Poses as other programs receive them: ARKit's shapes, and the rotations of head and eyes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmtalk.exchange.arkit import ArkitConverter, head_and_eye_rotations
from kmtalk.face.motion import Motion, frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig


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


class LiveFrameConverter:
    """Converts weights of a rig to poses as other programs receive them.

    Args:
        rig: Rig of the weights.
        fps: Frames per second.
    """

    def __init__(self, rig: Rig, fps: float) -> None:
        self._rig, self._fps = rig, fps
        self._arkit = ArkitConverter(rig)

    def convert(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert weights (N, R) to those of ARKit's shapes (N, 52) and rotations (N, 9)."""
        rotations = head_and_eye_rotations(Motion(self._rig, weights, self._fps))
        return self._arkit.convert(weights), rotations.astype(np.float32)

    def frame(self, number: int, weights: np.ndarray) -> LiveFrame:
        """Convert the weights (R,) of frame `number`."""
        shapes, rotations = self.convert(weights[None])
        return LiveFrame(number, shapes[0], rotations[0])


def live_frames(motion: Motion, fps: float) -> Iterator[LiveFrame]:
    """Yield a motion's poses, resampled to `fps` frames a second."""
    count = frame_count(len(motion) / motion.fps, fps)
    weights, rotations = (
        resample_motion(values, motion.fps, frame_times(count, fps)).astype(np.float32)
        for values in LiveFrameConverter(motion.rig, motion.fps).convert(motion.weights)
    )
    for number in range(count):
        yield LiveFrame(number, weights[number], rotations[number])
