"""How a template stands in its axes, for formats that say which axis is up."""

from __future__ import annotations

import numpy as np

from kmtalk.face.rig import Rig

UPRIGHT_COSINE = 0.9
"""A head within 26 degrees of an axis stands on it: a fit's upright pose is an estimate."""


def upright_turn(rig: Rig) -> np.ndarray:
    """Return the rotation (3, 3) that turns the template upright, y up and facing +z; never a reflection."""
    up, forward = rig.upright_rotation[1].astype(np.float64), rig.upright_rotation[2].astype(np.float64)
    return np.stack([np.cross(up, forward), up, forward])
