"""The bones of a character on which its head and its eyes turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

HEAD_DEGREES = 10.0
"""Rotation in degrees of the head's shapes at weight 1."""

EYE_DEGREES = {"Up": 20.0, "Down": 28.0, "In": 25.0, "Out": 25.0}
"""Rotation in degrees of an eye by its shape eyeLook… at weight 1."""

NECK_SHARE = 0.3
"""Share of the head's rotation that the neck takes, where it has a bone."""

HEAD_NAMES: tuple[str, ...] = (
    "headYawLeft",
    "headYawRight",
    "headPitchUp",
    "headPitchDown",
    "headRollLeft",
    "headRollRight",
)
"""Small head rotations, linearised: weight 1 is `HEAD_DEGREES`."""

Part = Literal["neck", "head", "eye_left", "eye_right"]
PARTS: tuple[Part, ...] = ("neck", "head", "eye_left", "eye_right")
"""What turns on bones, parents before their children."""

_HEAD_PAIRS = (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))


@dataclass(frozen=True)
class Joint:
    """A bone that turns vertices.

    Attributes:
        part: What turns on it.
        name: Its name in the file.
        node: Index of its node in the file.
        parent: Index of the joint above it among a template's joints; -1 without.
        position: Where it stands in the rest pose (3,).
        weights: Share (V,) of each vertex's skinning that is on this bone and on those below it, but for those below
            another joint.
    """

    part: Part
    name: str
    node: int
    parent: int
    position: np.ndarray
    weights: np.ndarray


def head_turns(upright: np.ndarray, shape_names: Sequence[str], weights: np.ndarray) -> Rotation:
    """Return the N rotations of the head in a template's axes.

    Args:
        upright: Rotation (3, 3) that turns the template upright, y up and facing +z; may include a reflection.
        shape_names: Names of the R shapes.
        weights: Their weights (N, R).
    """
    curve = _curves(shape_names, weights)
    pitch, yaw, roll = (HEAD_DEGREES * (curve(plus) - curve(minus)) for plus, minus in _HEAD_PAIRS)
    return _turns(upright, pitch, yaw, roll)


def joint_rotations(
    joints: Sequence[Joint], upright: np.ndarray, shape_names: Sequence[str], weights: np.ndarray
) -> np.ndarray:
    """Return how far each joint turns beyond the joint above it, in the axes of the rest pose.

    Args:
        joints: The J joints.
        upright: As for `head_turns`.
        shape_names: Names of the R shapes.
        weights: Their weights (N, R).

    Returns:
        Quaternions (N, J, 4), xyzw.
    """
    head, curve = head_turns(upright, shape_names, weights).as_rotvec(), _curves(shape_names, weights)
    neck_share = NECK_SHARE if any(joint.part == "neck" for joint in joints) else 0.0
    out = np.zeros((len(weights), len(joints), 4))
    for k, joint in enumerate(joints):
        if joint.part in ("neck", "head"):
            share = neck_share if joint.part == "neck" else 1 - neck_share
            out[:, k] = Rotation.from_rotvec(share * head).as_quat()
            continue
        side, outwards = ("Left", 1) if joint.part == "eye_left" else ("Right", -1)
        look = {way: degrees * curve(f"eyeLook{way}{side}") for way, degrees in EYE_DEGREES.items()}
        yaw = outwards * (look["Out"] - look["In"])
        out[:, k] = _turns(upright, look["Up"] - look["Down"], yaw, np.zeros(len(weights))).as_quat()
    return out


def _curves(shape_names: Sequence[str], weights: np.ndarray) -> Callable[[str], np.ndarray]:
    """The weights (N,) of a shape by its name, zero where there is none of that name."""
    index = {name: k for k, name in enumerate(shape_names)}
    return lambda name: weights[:, index[name]].astype(np.float64) if name in index else np.zeros(len(weights))


def _turns(upright: np.ndarray, pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> Rotation:
    """Rotations by degrees (N,) up, to the left and to the left, in a template's axes."""
    axes = Rotation.from_matrix(-upright if np.linalg.det(upright) < 0 else upright)
    # upright the face looks along +z with y up, and its left is +x
    turn = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, -roll], axis=1), degrees=True)
    return axes.inv() * turn * axes


def joint_matrices(joints: Sequence[Joint], rotations: np.ndarray) -> np.ndarray:
    """Return the map (N, J, 3, 4) of points in the rest pose to where each joint takes them.

    Args:
        joints: The J joints, parents before their children.
        rotations: Quaternions (N, J, 4) of `joint_rotations`.
    """
    out = np.zeros((len(rotations), len(joints), 3, 4))
    for k, joint in enumerate(joints):
        turn = Rotation.from_quat(rotations[:, k]).as_matrix()
        shift = joint.position - turn @ joint.position
        if joint.parent >= 0:
            above = out[:, joint.parent]
            shift = np.einsum("nij,nj->ni", above[:, :, :3], shift) + above[:, :, 3]
            turn = above[:, :, :3] @ turn
        out[:, k, :, :3], out[:, k, :, 3] = turn, shift
    return out


def skin_vertices(vertices: np.ndarray, weights: np.ndarray, matrices: np.ndarray) -> None:
    """Move vertices by linear blend skinning, in place.

    Args:
        vertices: (N, V, 3) in the rest pose.
        weights: (J, V), each joint's share of the vertices.
        matrices: (N, J, 3, 4) of `joint_matrices`.
    """
    bound = np.flatnonzero((weights > 0).any(0))
    rest = vertices[:, bound]
    moved = rest.copy()
    for share, matrix in zip(weights[:, bound], matrices.swapaxes(0, 1), strict=True):
        mine = np.flatnonzero(share > 0)
        points = rest[:, mine]
        turned = points @ matrix[:, :, :3].transpose(0, 2, 1).astype(points.dtype)
        turned += matrix[:, None, :, 3].astype(points.dtype)
        moved[:, mine] += share[mine, None] * (turned - points)
    vertices[:, bound] = moved


def choose_joints(joints: Sequence[Joint], parts: Collection[str]) -> tuple[Joint, ...]:
    """Return the joints of some parts, with their vertices bound as before; those of others follow the joint above."""
    kept = [k for k, joint in enumerate(joints) if joint.part in parts]
    weights = {k: joints[k].weights.copy() for k in kept}
    for k, joint in enumerate(joints):
        above = joint.parent
        while k not in weights and above >= 0 and above not in weights:
            above = joints[above].parent
        if k not in weights and above >= 0:
            weights[above] = weights[above] + joint.weights

    def nearest(k: int) -> int:
        while k >= 0 and k not in weights:
            k = joints[k].parent
        return kept.index(k) if k >= 0 else -1

    return tuple(replace(joints[k], parent=nearest(joints[k].parent), weights=weights[k]) for k in kept)
