"""Gains: factors on the weights of single shapes, of the rig or of the mesh itself.

N frames, R shapes of the rig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.face.rig import Rig
from kmtalk.keys import unknown_shape_message

_NO_PAIRS = {"jaw", "mouth"}  # jawLeft and mouthLeft are directions of the whole jaw and mouth
_FOLLOWS = {"mouthClose": "jawOpen"}  # closed lips stay closed only where both have the same factor


def check_gain(gain: Mapping[str, float], rig: Rig) -> None:
    """Raise InputError for a gain whose name is neither a shape of the rig or its mesh, nor that of a pair of shapes.

    Args:
        gain: Factor by name; "mouthSmile" names mouthSmileLeft and mouthSmileRight.
        rig: The rig.
    """
    known = {*rig.shape_names, *(rig.native_shapes.names if rig.native_shapes else ())}
    pairs = {name.removesuffix("Left") for name in known if f"{name.removesuffix('Left')}Right" in known} - _NO_PAIRS
    for name in gain:
        if name not in known | pairs:
            raise InputError(f"gain {unknown_shape_message(name, known | pairs)}")


def apply_gain(motion: Motion, gain: Mapping[str, float]) -> Motion:
    """Multiply the weights of single shapes and clip them to [0, 1].

    Factors on shapes of the rig change its weights. Factors on other shapes of the mesh change how the rig's shapes are
    mixed of them. mouthClose takes the factor of jawOpen unless it has its own.

    Args:
        motion: The motion.
        gain: Factor by name, which `check_gain` accepts.

    Returns:
        The motion with its new weights and, for shapes of the mesh, a new rig.
    """
    rig = motion.rig
    factors = np.array([_factor(name, gain) for name in rig.shape_names])
    weights = np.clip(motion.weights * factors, 0, 1).astype(np.float32)
    native = rig.native_shapes
    if native is not None:
        own = np.array([1.0 if name in rig.index else _factor(name, gain) for name in native.names])
        if (own != 1).any():
            mixing = (native.mixing_matrix * own).astype(native.mixing_matrix.dtype)
            mixed = np.einsum("rk,kvx->rvx", mixing, native.offsets).astype(np.float32)
            rig = replace(rig, offsets=mixed, native_shapes=replace(native, mixing_matrix=mixing))
    return replace(motion, rig=rig, weights=weights)


def _factor(name: str, gain: Mapping[str, float]) -> float:
    """The factor on a shape: its own, else that of its pair, else that of the shape that it follows, else 1."""
    if name in gain:
        return gain[name]
    pair = name.removesuffix("Left") if name.endswith("Left") else name.removesuffix("Right")
    if pair in gain:
        return gain[pair]
    return gain.get(_FOLLOWS.get(name, ""), 1.0)
