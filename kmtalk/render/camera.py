"""Cameras: where they stand for a frame (how much is in the picture) and a view (from which side)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FIELD_OF_VIEW = np.radians(18.0)  # vertical
VIEW_ANGLES = {
    "portrait": (0.20, 0.03),
    "front": (0.0, 0.0),
    "three-quarter": (0.62, 0.03),
    "profile": (np.pi / 2, 0.0),
}
"""View → horizontal and vertical angle of the camera in radians."""
EYE_HEIGHT = 1 / 3  # distance of the eyes from the upper edge, as a fraction of the picture's height
MARGIN = 1.08  # room around what must be in the picture


@dataclass(frozen=True)
class Camera:
    """A perspective camera with the vertical field of view `FIELD_OF_VIEW`.

    Attributes:
        pose: Pose (4, 4): its axes (x right, y up, z backwards) and position.
        distance: Distance to what it looks at, in the mesh's units.
    """

    pose: np.ndarray
    distance: float


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Camera pose (4, 4) at `eye` that looks at `target`, y up."""
    z = (eye - target) / np.linalg.norm(eye - target)
    up = [0.0, 1.0, 0.0] if abs(z[1]) < 0.999 else [0.0, 0.0, 1.0]
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, eye
    return pose


def place_camera(
    points: np.ndarray, landmarks: Mapping[str, np.ndarray], frame: str, view: str, aspect: float
) -> Camera:
    """Return the camera of a frame and a view.

    Args:
        points: Points (P, 3) that the mesh reaches in any frame of the animation, y up, z forward.
        landmarks: Landmark name → points (N, 3) that it reaches, the neutral first; may be empty.
        frame: "face" (forehead to chin), "head" (with hair, neck and shoulders), "body" (the whole mesh), "mouth" or
            "eyes". The eyes are at a third of the height for "face", and for "head" where the mesh reaches below the
            picture. A mesh without landmarks is shown whole.
        view: A key of `VIEW_ANGLES`.
        aspect: Width of the picture over its height.
    """
    yaw, pitch = VIEW_ANGLES[view]
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    axes = look_at(direction, np.zeros(3))[:3, :3]
    points = points @ axes
    marks = {name: reached @ axes for name, reached in landmarks.items()}
    if frame == "body" or not {"eye_outer_left", "eye_outer_right", "chin"} <= set(marks):
        return _hold(points, axes, aspect)
    eyes = (marks["eye_outer_left"][0] + marks["eye_outer_right"][0]) / 2
    unit = float(eyes[1] - marks["chin"][0, 1])  # from the eyes to the chin
    if frame in ("mouth", "eyes"):
        return _close_up(marks, eyes, unit, frame, axes, aspect)
    head = points[points[:, 1] > eyes[1] - 1.15 * unit]
    left, right = head[:, 0].min(), head[:, 0].max()
    above, below = head[:, 1].max() - eyes[1], eyes[1] - points[:, 1].min()
    jaw = eyes[1] - marks["chin"][:, 1].min() + 0.2 * unit  # the chin where the jaw opens furthest
    if frame == "face":
        height = max(2.3 * unit, jaw / (1 - EYE_HEIGHT), 1.15 * unit / EYE_HEIGHT / 1.5)
        centre, eye_height = (eyes[0] + (left + right) / 2) / 2, EYE_HEIGHT
    elif below > 1.3 * unit:  # there is a neck: the edge of the mesh stays below the picture
        top = MARGIN * above + 0.12 * unit
        height = min(top / EYE_HEIGHT, top + 0.9 * below)
        height = max(height, MARGIN * (right - left) / aspect)
        centre, eye_height = (left + right) / 2, max(EYE_HEIGHT, top / height)
    else:
        return _hold(points, axes, aspect)
    target = np.array([centre, eyes[1] + (eye_height - 0.5) * height, eyes[2]])
    return _at(axes, target, height)


def _close_up(
    marks: Mapping[str, np.ndarray], eyes: np.ndarray, unit: float, frame: str, axes: np.ndarray, aspect: float
) -> Camera:
    """The camera on the mouth or on the eyes; `unit` is the height from the chin to the eyes."""
    if frame == "eyes":
        return _at(axes, eyes, 1.25 * unit / min(1.0, aspect))
    mouth = (marks["mouth_left"][0] + marks["mouth_right"][0]) / 2
    return _at(axes, mouth - [0, 0.12 * unit, 0], 0.85 * unit / min(1.0, aspect))


def _at(axes: np.ndarray, target: np.ndarray, height: float) -> Camera:
    """The camera whose picture is `height` high where it looks at `target`, given in the axes (3, 3) of the camera."""
    distance = height / 2 / np.tan(FIELD_OF_VIEW / 2)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes, axes @ (target + [0, 0, distance])
    return Camera(pose, float(distance))


def _hold(points: np.ndarray, axes: np.ndarray, aspect: float) -> Camera:
    """The nearest camera that has all points (P, 3) in view, given in its axes (3, 3)."""
    centre = (points.min(0) + points.max(0)) / 2
    points = points - centre
    tangent = np.tan(FIELD_OF_VIEW / 2)
    for_height = np.abs(points[:, 1]) / tangent + points[:, 2]
    for_width = np.abs(points[:, 0]) / (tangent * aspect) + points[:, 2]
    distance = float(max(for_height.max(), for_width.max())) * 1.05
    return _at(axes, centre, 2 * distance * tangent)
