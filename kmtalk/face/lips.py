"""The lips of a fitted mesh: points that touch when closed, the gap at rest, and whether the lips can part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.correspondence import Correspondence
from kmtalk.face.geometry import (
    SurfacePoints,
    edge_length_graph,
    geodesic_distance,
    interpolate_barycentric,
    sample_triangles,
)
from kmtalk.face.registration import SimilarityTransform
from kmtalk.face.source_head import SourceHead

SEARCH_RADIUS = 0.25  # share of the face's size: lips are searched within this distance of the mouth's centre
MAX_RIM_DISTANCE = 0.03  # share of the face's size: greatest distance between a lip point and its warped source point
# share of the mouth's width: lips are fused if the path along the surface from one to the other is longer than the
# straight line by less than this
FUSED_DETOUR = 0.15


@dataclass(frozen=True)
class Lips:
    """Pairs of points on upper and lower lip that touch when the mouth closes.

    Attributes:
        upper: Points (P,) on the upper lip.
        lower: Points (P,) on the lower lip.
        pair_indices: Indices (P,) of the corresponding pairs in `SourceHead.lip_pairs`.
        width: Distance between the mouth corners, in target units.
        rest_gap: Gap (P,) of each pair at rest along the face's up axis, in target units; negative for an overlap.
        is_fused: True if no seam separates the lips.
    """

    upper: SurfacePoints
    lower: SurfacePoints
    pair_indices: np.ndarray
    width: float
    rest_gap: np.ndarray
    is_fused: bool

    @property
    def middle_third(self) -> np.ndarray:
        """Indices of the pairs in the middle third of the mouth."""
        third = len(self.pair_indices) // 3
        return np.arange(len(self.pair_indices))[third : len(self.pair_indices) - third]


def find_lips(
    source_head: SourceHead,
    warped: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    matched: Correspondence,
    similarity: SimilarityTransform,
    size: float,
) -> Lips | None:
    """Find the lips of a target skin.

    Args:
        source_head: The source head.
        warped: Source skin vertices (S, 3), warped onto the target.
        vertices: Vertices (V, 3) of the target skin.
        faces: Triangles (F, 3) of the target skin.
        matched: Correspondence from the target to the source skin.
        similarity: Maps source points to target points.
        size: The face's size in target units.

    Returns:
        The lips, or None if fewer than three lip pairs lie on the target.
    """
    pairs = source_head.lip_pairs
    middle = warped[pairs].mean((0, 1))
    near_mouth = np.linalg.norm(vertices - middle, axis=1) < SEARCH_RADIUS * size
    sides, reliable = [], np.ones(len(pairs), bool)
    for side in (False, True):
        side_faces = faces[(near_mouth & (matched.on_lower_lip == side))[faces].all(1)]
        if not len(side_faces):
            return None
        triangle, weights = sample_triangles(side_faces, 10)
        distance, nearest = cKDTree(interpolate_barycentric(vertices, side_faces, triangle, weights)).query(
            warped[pairs[:, int(side)]]
        )
        reliable &= distance < MAX_RIM_DISTANCE * size
        sides.append((side_faces[triangle[nearest]], weights[nearest]))
    index = np.flatnonzero(reliable)
    if len(index) < 3:
        return None
    upper, lower = (SurfacePoints(corners[index], weights[index]) for corners, weights in sides)
    landmarks = source_head.landmarks
    corners = warped[source_head.nearest_skin_vertex(np.array([landmarks["mouth_left"], landmarks["mouth_right"]]))]
    width = float(np.linalg.norm(corners[0] - corners[1]))
    up = similarity.rotation @ [0.0, 1.0, 0.0]
    gap = (upper(vertices) - lower(vertices)) @ up
    lips = Lips(upper, lower, index, width, gap, False)
    if _surface_detour(lips, vertices, faces) < FUSED_DETOUR * width:
        return Lips(upper, lower, index, width, gap, True)
    return lips


def _surface_detour(lips: Lips, vertices: np.ndarray, faces: np.ndarray) -> float:
    """Geodesic minus straight distance from the upper lip's middle to the lower's, in target units.

    It is near 0 if one skin spans both lips; else the path leads through the mouth or around its corner.
    """
    middle = lips.middle_third[len(lips.middle_third) // 2]
    start, end = (int(p.corners[middle, p.weights[middle].argmax()]) for p in (lips.upper, lips.lower))
    geodesic = geodesic_distance(edge_length_graph(vertices, faces), np.array([start]))[end]
    return float(geodesic - np.linalg.norm(vertices[start] - vertices[end]))
