"""Motion: weights of a rig's shapes over time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from kmtalk.face.rig import Rig

FRAMES_PER_CHUNK = 128  # frames posed at once


@dataclass(frozen=True)
class Motion:
    """``weights`` (N, R) float32 in [0, 1] on ``rig``; frame n shows time (n + 0.5) / ``fps``."""

    rig: Rig
    weights: np.ndarray
    fps: float

    def __len__(self) -> int:
        return len(self.weights)

    def vertices(self) -> np.ndarray:
        """(N, V, 3) float32 in the template's units."""
        return self.rig.vertices(self.weights)

    def vertex_chunks(self) -> Iterator[np.ndarray]:
        """The same, CHUNK frames at a time."""
        for start in range(0, len(self.weights), FRAMES_PER_CHUNK):
            yield self.rig.vertices(self.weights[start : start + FRAMES_PER_CHUNK])


def frame_count(duration: float, fps: float) -> int:
    """Frames of a clip of ``duration`` seconds: at least one."""
    return max(1, round(duration * fps))


def frame_times(count: int, fps: float) -> np.ndarray:
    """Seconds shown by each frame, (n + 0.5) / fps."""
    return (np.arange(count) + 0.5) / fps


def resample_motion(motion: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
    """Motion (N, out) at other times, by monotone cubics: closures stay closed and nothing overshoots."""
    if len(motion) < 2:
        return np.repeat(motion, len(times), axis=0)
    own = frame_times(len(motion), fps)
    out: np.ndarray = PchipInterpolator(own, motion)(np.clip(times, own[0], own[-1]))
    return out
