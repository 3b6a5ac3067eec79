"""The lips of a fitted mesh: which places meet, whether they are apart at rest, whether they can part."""

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

SEARCH_RADIUS = 0.25  # of the face's size: how far from the mouth's middle lips are sought
MAX_RIM_DISTANCE = 0.03  # of the face's size: a place further from where the source's lies is not the same
FUSED_DETOUR = (
    0.15  # of the mouth's width: where the way from lip to lip along the surface is no longer detour, they are one skin
)


@dataclass(frozen=True)
class Lips:
    """Places ``upper`` and ``lower`` (P,) that meet when the mouth closes, answering to the atlas's
    lip pairs number ``pair_indices`` (P,); ``width`` between the corners; ``rest_gap`` (P,) between them at rest, along the
    face's up, negative where they overlap; ``is_fused`` whether no seam runs between them."""

    upper: SurfacePoints
    lower: SurfacePoints
    pair_indices: np.ndarray
    width: float
    rest_gap: np.ndarray
    is_fused: bool

    @property
    def middle_third(self) -> np.ndarray:
        """The pairs of the mouth's middle third."""
        third = len(self.pair_indices) // 3
        return np.arange(len(self.pair_indices))[third : len(self.pair_indices) - third]


def find_lips(
    atlas: SourceHead,
    warped: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    matched: Correspondence,
    similarity: SimilarityTransform,
    size: float,
) -> Lips | None:
    """The lips on a target skin, over which the source's lies ``warped`` (S, 3); None where it has none."""
    pairs = atlas.lip_pairs
    middle = warped[pairs].mean((0, 1))
    close = np.linalg.norm(vertices - middle, axis=1) < SEARCH_RADIUS * size
    found, trusted = [], np.ones(len(pairs), bool)
    for side in (False, True):
        own = faces[(close & (matched.on_lower_lip == side))[faces].all(1)]
        if not len(own):
            return None
        triangle, weights = sample_triangles(own, 10)
        away, nearest = cKDTree(interpolate_barycentric(vertices, own, triangle, weights)).query(
            warped[pairs[:, int(side)]]
        )
        trusted &= away < MAX_RIM_DISTANCE * size
        found.append((own[triangle[nearest]], weights[nearest]))
    index = np.flatnonzero(trusted)
    if len(index) < 3:
        return None
    upper, lower = (SurfacePoints(corners[index], weights[index]) for corners, weights in found)
    marks = atlas.landmarks
    corners = warped[atlas.nearest_skin_vertex(np.array([marks["mouth_left"], marks["mouth_right"]]))]
    width = float(np.linalg.norm(corners[0] - corners[1]))
    up = similarity.rotation @ [0.0, 1.0, 0.0]
    gap = (upper(vertices) - lower(vertices)) @ up
    lips = Lips(upper, lower, index, width, gap, False)
    if _surface_detour(lips, vertices, faces) < FUSED_DETOUR * width:
        return Lips(upper, lower, index, width, gap, True)
    return lips


def _surface_detour(lips: Lips, vertices: np.ndarray, faces: np.ndarray) -> float:
    """By how much the way along the surface from the upper lip's middle to the lower's is longer than the
    straight one: nothing where one skin spans both, the way through the mouth or round its corner else."""
    one = lips.middle_third[len(lips.middle_third) // 2]
    start, end = (int(p.corners[one, p.weights[one].argmax()]) for p in (lips.upper, lips.lower))
    along = geodesic_distance(edge_length_graph(vertices, faces), np.array([start]))[end]
    return float(along - np.linalg.norm(vertices[start] - vertices[end]))
