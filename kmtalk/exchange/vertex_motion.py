"""Motion that other systems leave as .npy: vertices by frame, on the same mesh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import Template

COMMON_FRAME_RATES = (24.0, 25.0, 30.0, 50.0, 60.0, 100.0, 120.0)


@dataclass(frozen=True)
class VertexMotion:
    """``offsets`` (N, V, 3) from the neutral in the template's units, at ``fps``."""

    offsets: np.ndarray
    fps: float

    def interpolate(self, times: np.ndarray) -> np.ndarray:
        """Offsets (M, V, 3) at times (M,) s, between frames by straight lines."""
        place = np.clip(times * self.fps - 0.5, 0, len(self.offsets) - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, len(self.offsets) - 1)
        share = (place - low)[:, None, None]
        out: np.ndarray = (1 - share) * self.offsets[low] + share * self.offsets[high]
        return out


def read_vertex_motion(path: Path, template: Template, duration: float, fps: float | None) -> VertexMotion:
    """Read (N, V, 3) or (N, 3V), positions or offsets from the neutral, whichever they lie nearer to.

    Without ``fps`` the rate of RATES is taken that fits ``duration`` s of sound within 2 %. Raises InputError for
    another mesh, a rate that fits none, or numbers that are not finite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        held = np.load(path, allow_pickle=False)
        if not isinstance(held, np.ndarray) or held.dtype.kind != "f":
            raise ValueError("no array of numbers")
    except Exception as error:
        raise InputError(f"{path}: not a .npy of vertices by frame ({str(error)[:80]})") from None
    count = len(template.vertices)
    if held.ndim not in (2, 3) or not len(held) or held[0].size != 3 * count:
        raise InputError(
            f"{path}: holds {held.shape}; {template.display_name} wants (N, {count}, 3), in its vertex order"
        )
    values = held.reshape(len(held), count, 3)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds numbers that are not finite")
    mean = values.mean(0)
    if np.linalg.norm(mean - template.vertices) < np.linalg.norm(mean):
        values = values - template.vertices
    if fps is not None and not 0 < fps < 10_000:
        raise InputError(f"--motion-fps {fps:g}: must be more than 0")
    rate = min(COMMON_FRAME_RATES, key=lambda r: abs(len(held) / r - duration)) if fps is None else fps
    if abs(len(held) / rate - duration) > 0.02 * duration + 1 / rate:
        remedy = "give --motion-fps" if fps is None else f"they last {len(held) / rate:.2f} s at {rate:g} fps"
        raise InputError(f"{path}: {len(held)} frames for {duration:.2f} s of sound: {remedy}")
    return VertexMotion(values.astype(np.float32), float(rate))
