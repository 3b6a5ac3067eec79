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
CONTACT_WEIGHT = 4.0  # of the squared distance between the lips against that from the warped source's rims
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
    samples = []
    for side in (False, True):
        side_faces = faces[(near_mouth & (matched.on_lower_lip == side))[faces].all(1)]
        if not len(side_faces):
            return None
        triangle, weights = sample_triangles(side_faces, 10)
        points = interpolate_barycentric(vertices, side_faces, triangle, weights)
        samples.append((side_faces[triangle], weights, points))
    nearest, reliable = _nearest_rims(samples[0][2], samples[1][2], warped[pairs], MAX_RIM_DISTANCE * size)
    sides = [(corners[n], weights[n]) for (corners, weights, _), n in zip(samples, nearest.T, strict=True)]
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


def _nearest_rims(upper: np.ndarray, lower: np.ndarray, rims: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the points of both lips that are near the source's rims and near each other.

    The warped rims lie beside the target's own by more than the thickness of a gap, but on each target the rims are
    where the lips come closest.

    Args:
        upper: Points (U, 3) on the upper lip.
        lower: Points (L, 3) on the lower lip.
        rims: Warped upper and lower points (P, 2, 3) of the source's pairs.
        most: Greatest distance from a warped point.

    Returns:
        Indices (P, 2) into `upper` and `lower`, and the mask (P,) of pairs of which both points were found.
    """
    trees, found = (cKDTree(upper), cKDTree(lower)), np.zeros((len(rims), 2), int)
    reliable = np.zeros(len(rims), bool)
    for n, pair in enumerate(rims):
        first, second = (np.array(t.query_ball_point(p, most), int) for t, p in zip(trees, pair, strict=True))
        if not len(first) or not len(second):
            continue
        cost = (
            ((upper[first] - pair[0]) ** 2).sum(1)[:, None]
            + ((lower[second] - pair[1]) ** 2).sum(1)
            + CONTACT_WEIGHT * ((upper[first][:, None] - lower[second]) ** 2).sum(2)
        )
        row, column = np.unravel_index(cost.argmin(), cost.shape)
        found[n], reliable[n] = (first[row], second[column]), True
    return found, reliable


def _surface_detour(lips: Lips, vertices: np.ndarray, faces: np.ndarray) -> float:
    """Geodesic minus straight distance from the upper lip's middle to the lower's, in target units.

    It is near 0 if one skin spans both lips; else the path leads through the mouth or around its corner.
    """
    middle = lips.middle_third[len(lips.middle_third) // 2]
    start, end = (int(p.corners[middle, p.weights[middle].argmax()]) for p in (lips.upper, lips.lower))
    geodesic = geodesic_distance(edge_length_graph(vertices, faces), np.array([start]))[end]
    return float(geodesic - np.linalg.norm(vertices[start] - vertices[end]))
