"""Motion: the weights of a rig's shapes over time, and the times of its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmtalk.face.rig import Rig

FRAMES_PER_CHUNK = 128  # frames posed at once, to limit memory


@dataclass(frozen=True)
class Motion:
    """Blendshape weights over time. Frame n is at (n + 0.5) / `fps` seconds.

    Attributes:
        rig: The rig that the weights drive.
        weights: (N, R) float32 in [0, 1].
        fps: Frames per second.
    """

    rig: Rig
    weights: np.ndarray
    fps: float

    def __len__(self) -> int:
        return len(self.weights)

    def vertices(self) -> np.ndarray:
        """Return the vertices of all frames, (N, V, 3) float32 in the template's units."""
        return self.rig.vertices(self.weights)

    def vertex_chunks(self) -> Iterator[np.ndarray]:
        """Yield the vertices of up to `FRAMES_PER_CHUNK` consecutive frames at a time."""
        for start in range(0, len(self.weights), FRAMES_PER_CHUNK):
            yield self.rig.vertices(self.weights[start : start + FRAMES_PER_CHUNK])


def frame_count(duration: float, fps: float) -> int:
    """Return the number of frames of a clip of `duration` seconds, at least 1."""
    return max(1, round(duration * fps))


def frame_times(count: int, fps: float) -> np.ndarray:
    """Return the time of each frame in seconds, (n + 0.5) / `fps`, as a (count,) array."""
    return (np.arange(count) + 0.5) / fps


def resample_motion(motion: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
    """Resample motion at other times by monotone cubic interpolation (PCHIP).

    The interpolation does not overshoot, so closed lips stay closed.

    Args:
        motion: (N, D) values of N frames.
        fps: Frames per second of `motion`.
        times: (M,) seconds; times outside the clip take the value of its first or last frame.

    Returns:
        (M, D) values at `times`.
    """
    from scipy.interpolate import PchipInterpolator  # slow to import

    if len(motion) < 2:
        return np.repeat(motion, len(times), axis=0)
    known = frame_times(len(motion), fps)
    out: np.ndarray = PchipInterpolator(known, motion)(np.clip(times, known[0], known[-1]))
    return out
