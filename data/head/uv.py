"""Texture coordinates of the head's parts, computed from positions, so that versions of a part share its textures.

Texture coordinates have their origin at the upper left, as in glTF. Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import erf
from sculpt import smoothstep

MARGIN = 0.02  # of the texture, on each side: the triangles across a seam extend into it
AXIS_BEHIND_EYES = 88.0  # from the eyes back to the vertical axis of the cylinder
FRONT_DENSITY, FRONT_WIDTH = 2.0, np.radians(45.0)  # the face gets 1 + this times the texels of the back
FACE_DENSITY, FACE_LOW, FACE_HIGH = 1.9, -118.0, 52.0  # likewise in height, between these two
HEIGHTS = (-185.0, 148.0)  # unwarped height at the lower and upper border of the texture
MOUTH_DEPTH_MM = 110.0  # depth behind the lips at the lower border of the mouth's texture
EYE_DEGREES = 120.0  # angle from the gaze axis at the border of the eye's texture


def skin_uv(points: np.ndarray, faces: np.ndarray, eye_centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture coordinates (U, 2) and `uv_faces` (F, 3) of the skin, points (V, 3) in mm.

    They are a cylinder about a vertical axis, whose surface is projected along cones: upwards below the nose and under
    the chin, downwards at the crown. Its seam is at the back of the head.

    Args:
        points: (V, 3) neutral vertices in mm.
        faces: (F, 3) triangles.
        eye_centres: (2, 3) centres of the eyeballs.
    """
    x, y, z = (points - np.mean(eye_centres, 0)).T
    z = z + AXIS_BEHIND_EYES
    turn, radius = np.arctan2(x, z), np.hypot(x, z)
    height = _unroll_height(y, turn, radius)
    low, high = (_warp_height(h) for h in HEIGHTS)
    v = MARGIN + (1 - 2 * MARGIN) * (high - _warp_height(height)) / (high - low)

    def across(angle: np.ndarray) -> np.ndarray:
        return 0.5 + (0.5 - MARGIN) * _warp_turn(angle) / _warp_turn(np.pi)

    return _cut_seam(turn, v, faces, across)


def _unroll_height(y: np.ndarray, turn: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the height at which the cone through a point meets a cylinder, which follows the face's front."""
    nominal = 50 + 57 * np.exp(-((turn / np.radians(50)) ** 2))
    slope = 0.45 * smoothstep(-y, 4, 28) - 0.33 * smoothstep(-y, 105, 155) - 0.4 * smoothstep(y, 10, 75)
    # at the lips the projection is horizontal: the upper surface of the lower lip faces up, the upper lip's down
    front = 1 - smoothstep(np.abs(turn), np.radians(14), np.radians(30))
    slope = slope * (1 - front * smoothstep(-y, 46, 60) * (1 - smoothstep(-y, 74, 84)))
    return np.asarray(y + slope * (radius - nominal))


def _warp_turn(angle: np.ndarray | float) -> np.ndarray:
    return np.asarray(angle + FRONT_DENSITY * FRONT_WIDTH * np.sqrt(np.pi) / 2 * erf(np.asarray(angle) / FRONT_WIDTH))


def _warp_height(height: np.ndarray | float) -> np.ndarray:
    soft = 12.0
    step = [soft * np.logaddexp((height - h) / soft, -(height - h) / soft) for h in (FACE_LOW, FACE_HIGH)]
    return np.asarray(height + FACE_DENSITY / 2 * (step[0] - step[1]))


def _cut_seam(
    turn: np.ndarray, v: np.ndarray, faces: np.ndarray, across: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return texture coordinates whose seam is at angle ±π: triangles across it extend into the margin.

    Args:
        turn: (V,) angles in [-π, π].
        v: (V,) vertical texture coordinates.
        faces: (F, 3) triangles.
        across: Function from angles, also beyond ±π, to horizontal texture coordinates.
    """
    angles = turn[faces]
    side = np.sign(np.arctan2(np.sin(angles).sum(1), np.cos(angles).sum(1)))[:, None]
    wraps = (side * angles < 0) & (np.abs(angles) > np.pi / 2)
    corner = 2 * faces.astype(np.int64) + wraps
    used, uv_faces = np.unique(corner, return_inverse=True)
    angle = turn[used // 2]
    angle = angle + np.where(used % 2 > 0, -2 * np.pi * np.sign(angle), 0.0)
    uv = np.stack([across(angle), v[used // 2]], axis=1)
    return np.clip(uv, 0, 1).astype(np.float32), uv_faces.reshape(-1, 3).astype(np.int32)


def mouth_uv(
    points: np.ndarray, faces: np.ndarray, centre: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture coordinates of the inside of the mouth: angle about the z axis, and depth behind the lips.

    Args:
        points: (V, 3) vertices in mm.
        faces: (F, 3) triangles of the inside.
        centre: (3,) middle of the line of contact of the lips; the seam is below it.
        depth: (V,) distance behind the lips, in mm; `MOUTH_DEPTH_MM` and more is the lower border of the texture.
    """
    turn = np.arctan2(points[:, 0] - centre[0], points[:, 1] - centre[1] + 4.0)
    v = MARGIN + (1 - 2 * MARGIN) * np.clip(depth / MOUTH_DEPTH_MM, 0, 1)
    return _cut_seam(turn, v, faces, lambda angle: 0.5 + (0.5 - MARGIN) * angle / np.pi)


def tongue_uv(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture coordinates of the tongue: across it, with the seam below, and from its tip (0) backwards."""
    middle = (points.min(0) + points.max(0)) / 2
    half = (points.max(0) - points.min(0)) / 2
    # flattened to a circular section, so that both sides get texels
    turn = np.arctan2((points[:, 0] - middle[0]) / half[0], (points[:, 1] - middle[1]) / half[1])
    v = MARGIN + (1 - 2 * MARGIN) * (points[:, 2].max() - points[:, 2]) / np.ptp(points[:, 2])
    return _cut_seam(turn, v, faces, lambda angle: 0.5 + (0.5 - MARGIN) * angle / np.pi)


def eye_uv(points: np.ndarray, centre: np.ndarray, axis: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    """Return the texture coordinates (V, 2) of an eyeball: its angle from the gaze axis, in all directions.

    Args:
        points: (V, 3) vertices.
        centre: (3,) centre of the eyeball.
        axis: (3,) unit vector of the gaze at rest, nearly forward.
    """
    gaze = np.asarray(axis)
    right = np.cross([0.0, 1.0, 0.0], gaze)
    right /= np.linalg.norm(right)
    direction = (points - centre) / np.linalg.norm(points - centre, axis=1, keepdims=True)
    x, y = direction @ right, direction @ np.cross(gaze, right)
    angle = np.degrees(np.arccos(np.clip(direction @ gaze, -1, 1)))
    length = np.maximum(np.hypot(x, y), 1e-9)
    uv = 0.5 + 0.5 * (np.minimum(angle, EYE_DEGREES) / EYE_DEGREES / length)[:, None] * np.stack([x, -y], axis=1)
    return uv.astype(np.float32)


def teeth_uv(columns: int, rows: int) -> np.ndarray:
    """Return the texture coordinates (columns · rows, 2) of a dental arch, whose vertices go column by column.

    u runs along the arch, from -x to x, and each of the twelve teeth has a twelfth of it; v from the gum (0) over the
    biting edge to the palatal side (1).
    """
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows), indexing="ij")
    return np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float32)
