"""The lips of a fitted mesh: which places meet, whether they are apart at rest, whether they can part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.atlas import Atlas
from kmtalk.face.correspond import Correspondence
from kmtalk.face.geometry import Places, distance_along, interpolate, lengths, samples
from kmtalk.face.register import Similarity

AROUND = 0.25  # of the face's size: how far from the mouth's middle lips are sought
TRUSTED = 0.03  # of the face's size: a place further from where the source's lies is not the same
FUSED = (
    0.15  # of the mouth's width: where the way from lip to lip along the surface is no longer detour, they are one skin
)


@dataclass(frozen=True)
class Lips:
    """Places ``upper`` and ``lower`` (P,) that meet when the mouth closes, answering to the atlas's
    lip pairs number ``pairs`` (P,); ``width`` between the corners; ``gap`` (P,) between them at rest, along the
    face's up, negative where they overlap; ``fused`` whether no seam runs between them."""

    upper: Places
    lower: Places
    pairs: np.ndarray
    width: float
    gap: np.ndarray
    fused: bool

    @property
    def middle(self) -> np.ndarray:
        """The pairs of the mouth's middle third."""
        third = len(self.pairs) // 3
        return np.arange(len(self.pairs))[third : len(self.pairs) - third]


def find_lips(
    atlas: Atlas,
    warped: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    matched: Correspondence,
    similarity: Similarity,
    size: float,
) -> Lips | None:
    """The lips on a target skin, over which the source's lies ``warped`` (S, 3); None where it has none."""
    pairs = atlas.lip_pairs
    middle = warped[pairs].mean((0, 1))
    close = np.linalg.norm(vertices - middle, axis=1) < AROUND * size
    found, trusted = [], np.ones(len(pairs), bool)
    for side in (False, True):
        own = faces[(close & (matched.lower == side))[faces].all(1)]
        if not len(own):
            return None
        triangle, weights = samples(own, 10)
        away, nearest = cKDTree(interpolate(vertices, own, triangle, weights)).query(warped[pairs[:, int(side)]])
        trusted &= away < TRUSTED * size
        found.append((own[triangle[nearest]], weights[nearest]))
    index = np.flatnonzero(trusted)
    if len(index) < 3:
        return None
    upper, lower = (Places(corners[index], weights[index]) for corners, weights in found)
    marks = atlas.marks
    corners = warped[atlas.near_skin(np.array([marks["mouth_left"], marks["mouth_right"]]))]
    width = float(np.linalg.norm(corners[0] - corners[1]))
    up = similarity.rotation @ [0.0, 1.0, 0.0]
    gap = (upper(vertices) - lower(vertices)) @ up
    lips = Lips(upper, lower, index, width, gap, False)
    if _detour(lips, vertices, faces) < FUSED * width:
        return Lips(upper, lower, index, width, gap, True)
    return lips


def _detour(lips: Lips, vertices: np.ndarray, faces: np.ndarray) -> float:
    """By how much the way along the surface from the upper lip's middle to the lower's is longer than the
    straight one: nothing where one skin spans both, the way through the mouth or round its corner else."""
    one = lips.middle[len(lips.middle) // 2]
    start, end = (int(p.corners[one, p.weights[one].argmax()]) for p in (lips.upper, lips.lower))
    along = distance_along(lengths(vertices, faces), np.array([start]))[end]
    return float(along - np.linalg.norm(vertices[start] - vertices[end]))
