"""The motion stream: weights of the rig without signs, the head as signed rotations.

M motion frames, R shapes of the rig, C channels of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HEAD_AXES = (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))
"""Shapes of either sign of pitch, yaw and roll."""

MOUTH_PREFIXES = ("jaw", "mouth", "tongue", "cheekPuff")


def channel_names(shape_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the C channels of a rig's R shapes: its shapes, and one channel for two of the head."""
    head = {name for axis in HEAD_AXES for name in axis}
    return (*(n for n in shape_names if n not in head), *(plus for plus, minus in HEAD_AXES if plus in shape_names))


def is_mouth(channels: Sequence[str]) -> np.ndarray:
    """Return a mask (C,) of the channels of mouth, jaw and tongue."""
    return np.array([name.startswith(MOUTH_PREFIXES) for name in channels])


def to_channels(weights: np.ndarray, shape_names: Sequence[str]) -> np.ndarray:
    """Convert weights (M, R) in [0, 1] to channels (M, C); those of the head are in [-1, 1]."""
    index = {n: i for i, n in enumerate(shape_names)}
    minus = dict(HEAD_AXES)
    columns = []
    for name in channel_names(shape_names):
        column = weights[:, index[name]]
        columns.append(column - weights[:, index[minus[name]]] if name in minus else column)
    return np.stack(columns, 1).astype(np.float32)


def to_weights(channels: np.ndarray, shape_names: Sequence[str]) -> np.ndarray:
    """Convert channels (M, C) to weights (M, R), clipped to [0, 1]: the inverse of `to_channels`."""
    index = {n: i for i, n in enumerate(shape_names)}
    minus = dict(HEAD_AXES)
    out = np.zeros((len(channels), len(shape_names)), np.float32)
    for i, name in enumerate(channel_names(shape_names)):
        out[:, index[name]] = channels[:, i]
        if name in minus:
            out[:, index[minus[name]]] = -channels[:, i]
    return np.clip(out, 0, 1)
