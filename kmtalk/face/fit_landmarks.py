"""Landmarks of a mesh that a rig is fitted to: given by hand, by MediaPipe's topology, or by its face detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.face_detection import DetectedFace, find_face
from kmtalk.face.fit_report import UNLIKE_HUMAN_RESIDUAL
from kmtalk.face.geometry import SurfacePoints
from kmtalk.face.registration import fit_similarity, fit_similarity_robust
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template
from kmtalk.face.work_mesh import WorkMesh

MESH_468, MESH_478 = 468, 478  # vertex counts of MediaPipe's face mesh, without and with irises
MAX_LANDMARK_DISTANCE = 0.1  # share of the landmarks' extent: greatest distance of a given landmark from the mesh


class FaceNotFoundError(InputError):
    """No face was found on a mesh; `kmtalk fit` then writes a picture of the mesh."""


@dataclass(frozen=True)
class LandmarkPairs:
    """Corresponding landmarks on the source's skin and on the target.

    Attributes:
        skin_points: The landmarks (L,) as points on the source's triangles.
        source: Their positions (L, 3), metres.
        target: The landmarks (L, 3) on the target, in its units.
        spread: Standard deviation (L,) of detected landmarks over the views, or None.
        origin: "detector", "topology" or "hand".
    """

    skin_points: SurfacePoints
    source: np.ndarray
    target: np.ndarray
    spread: np.ndarray | None
    origin: str

    def __len__(self) -> int:
        return len(self.target)


def detect_landmarks(template: Template, mesh: WorkMesh, source_head: SourceHead) -> LandmarkPairs:
    """Landmarks by MediaPipe's topology or by its face detector; raises FaceNotFoundError if there is no face."""
    by_topology = _mediapipe_topology_landmarks(template, source_head)
    if by_topology is not None:
        return by_topology
    try:
        face: DetectedFace | None = find_face(mesh.vertices, mesh.faces)
    except TimeoutError as error:
        raise InputError(f"{template.display_name}: {error}") from None
    if face is None:
        raise FaceNotFoundError(
            f"{template.display_name}: no face found on this mesh; pass --landmarks FILE if it has one"
        )
    visible = source_head.usable_landmarks & np.isfinite(face.points[:, 0])
    if visible.sum() < 3:
        raise FaceNotFoundError(
            f"{template.display_name}: fewer than three landmarks of the face are visible; pass --landmarks FILE"
        )
    points = source_head.detector_landmarks_on_skin(visible)
    return LandmarkPairs(points, points(source_head.vertices), face.points[visible], face.spread[visible], "detector")


def _mediapipe_topology_landmarks(template: Template, source_head: SourceHead) -> LandmarkPairs | None:
    """Landmarks of a mesh whose vertices are MediaPipe's landmarks in their order, or None for other meshes."""
    vertices = template.vertices.astype(np.float64)
    if len(vertices) not in (MESH_468, MESH_478):
        return None
    mask = source_head.usable_landmarks & (np.arange(MESH_478) < len(vertices))
    points = source_head.detector_landmarks_on_skin(mask, on_rims=True)
    source, target = points(source_head.vertices), vertices[np.flatnonzero(mask)]
    residual = np.median(fit_similarity_robust(source, target)[1])
    if residual > UNLIKE_HUMAN_RESIDUAL * np.linalg.norm(np.ptp(target, axis=0)):
        return None
    return LandmarkPairs(points, source, target, None, "topology")


def match_given_landmarks(
    template: Template, mesh: WorkMesh, source_head: SourceHead, landmarks: Mapping[str, np.ndarray]
) -> LandmarkPairs:
    """Landmarks that the user gives; raises InputError if fewer than three lie on the mesh or all on one line."""
    names = [name for name in landmarks if name in source_head.landmarks]
    points = np.array([landmarks[name] for name in names], np.float64).reshape(-1, 3)
    extent = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
    on_mesh = (
        cKDTree(mesh.vertices).query(points)[0] < MAX_LANDMARK_DISTANCE * extent if len(points) else np.zeros(0, bool)
    )
    edge_length = _median_edge_length(mesh)
    if len(points):
        on_mesh |= cKDTree(mesh.vertices).query(points)[0] < 2 * edge_length
    if on_mesh.sum() < 3:
        raise InputError(
            f"{template.display_name}: fewer than three landmarks lie on the mesh "
            f"({on_mesh.sum()} of {len(landmarks)} given); give points on its surface, in its units and axes"
        )
    points, names = points[on_mesh], [name for name, kept in zip(names, on_mesh, strict=True) if kept]
    if np.linalg.matrix_rank(points - points.mean(0), tol=0.05 * extent) < 2:
        raise InputError(f"{template.display_name}: all landmarks lie on one line; give others")
    vertices, on_skin = source_head.vertices, source_head.named_landmarks_on_skin
    # names with the viewer's left instead of the face's give a mirror image, which fits no rotation: swap them
    swapped = [_mirrored_name(name) for name in names]
    mirrored_error = _similarity_error(on_skin(swapped)(vertices), points)
    if mirrored_error < 0.5 * _similarity_error(on_skin(names)(vertices), points):
        names = swapped
    # sorted, so that sums are equal to the last bit in whatever order the landmarks are given
    order = sorted(range(len(names)), key=names.__getitem__)
    skin_points = on_skin([names[i] for i in order])
    return LandmarkPairs(skin_points, skin_points(vertices), points[order], None, "hand")


def _mirrored_name(name: str) -> str:
    """The name with left and right exchanged."""
    if name.endswith("_left"):
        return name.removesuffix("left") + "right"
    return name.removesuffix("right") + "left" if name.endswith("_right") else name


def _similarity_error(source: np.ndarray, target: np.ndarray) -> float:
    """Root of the summed squared distances after the best similarity, in target units."""
    return float(np.linalg.norm(fit_similarity(source, target)(source) - target))


def _median_edge_length(mesh: WorkMesh) -> float:
    """Median length of the triangles' first edges, over up to about 20,000 triangles."""
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // 10_000)]]
    return float(np.median(np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)))
