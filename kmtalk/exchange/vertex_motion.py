"""Vertex motion that other systems write as .npy: vertices per frame, on the template's mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.array_files import open_array
from kmtalk.errors import InputError, describe_problem
from kmtalk.face.template import Template

COMMON_FRAME_RATES = (24.0, 25.0, 30.0, 50.0, 60.0, 100.0, 120.0)
MAX_TRAVEL = 10.0
"""How far a vertex may be from its place in the neutral, in sizes of the mesh; that of a motion in millimetres on a
mesh in metres is farther."""


@dataclass(frozen=True)
class VertexMotion:
    """Vertex offsets of another system.

    Attributes:
        offsets: Offsets from the neutral (N, V, 3) float32, in the template's units.
        fps: Frames per second.
    """

    offsets: np.ndarray
    fps: float

    def interpolate(self, times: np.ndarray) -> np.ndarray:
        """Offsets (M, V, 3) at `times` (M,) in seconds, linearly interpolated between frames."""
        position = np.clip(times * self.fps - 0.5, 0, len(self.offsets) - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(self.offsets) - 1)
        fraction = (position - low)[:, None, None]
        offsets: np.ndarray = (1 - fraction) * self.offsets[low] + fraction * self.offsets[high]
        return offsets


def read_vertex_motion(path: Path, template: Template, duration: float, fps: float | None) -> VertexMotion:
    """Read vertex motion of shape (N, V, 3) or (N, 3V) from a .npy file.

    The values are taken as positions if their mean over frames is nearer to the neutral than to zero, else as offsets
    from the neutral.

    Args:
        path: The .npy file.
        template: The mesh of the motion; V vertices in its order.
        duration: Length of the sound in seconds.
        fps: Frames per second; None chooses the rate of `COMMON_FRAME_RATES` that fits `duration` best.

    Raises:
        InputError: The file is missing or no .npy of numbers, belongs to another mesh, holds numbers that are not
            finite or positions far from the mesh, or its length differs from `duration` by more than 2 % and one frame.
    """
    try:
        array = open_array(path)
        if array.dtype.kind != "f":
            raise ValueError("not an array of floating-point numbers")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: not a .npy of vertices per frame ({describe_problem(error)})") from None
    count = len(template.vertices)
    if array.ndim not in (2, 3) or not len(array) or array[0].size != 3 * count:
        raise InputError(
            f"{path}: has shape {array.shape}; {template.display_name} needs (N, {count}, 3), in its vertex order"
        )
    values = np.array(array).reshape(len(array), count, 3)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: contains numbers that are not finite")
    mean = values.mean(0)
    if np.linalg.norm(mean - template.vertices) < np.linalg.norm(mean):
        values = values - template.vertices
    size = float(np.linalg.norm(np.ptp(template.vertices, axis=0)))
    farthest = max(-float(values.min()), float(values.max()))
    if farthest > MAX_TRAVEL * size:
        raise InputError(
            f"{path}: moves a vertex by {farthest:.2g} units, and {template.display_name} is {size:.2g} in size: scale "
            "the motion to the mesh's unit, or export it again"
        )
    if fps is not None and not 0 < fps < 10_000:
        raise InputError(f"frame rate {fps:g}: must be above 0 and below 10000")
    rate = min(COMMON_FRAME_RATES, key=lambda r: abs(len(array) / r - duration)) if fps is None else fps
    if abs(len(array) / rate - duration) > 0.02 * duration + 1 / rate:
        remedy = (
            "pass --import-fps (keys) or --fps (render)"
            if fps is None
            else f"they last {len(array) / rate:.2f} s at {rate:g} fps"
        )
        raise InputError(f"{path}: {len(array)} frames for {duration:.2f} s of sound: {remedy}")
    return VertexMotion(values.astype(np.float32), float(rate))
