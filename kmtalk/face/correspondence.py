"""Which place of the source's skin each target vertex answers to, with the lips kept apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.geometry import edge_length_graph, geodesic_distance, interpolate_barycentric, sample_triangles
from kmtalk.face.template import vertex_normals

SAMPLES_PER_TRIANGLE = 6  # samples a source triangle
NORMAL_WEIGHT = 0.12  # of the face's size: what a normal turned by a radian counts
FACE_DISTANCE = 0.06  # of the face's size: vertices within this of the warped source belong to the face
RELIABLE_DISTANCE = 0.035  # further than this from its place a vertex is not believed
SEAM_DISTANCE = 0.035  # within this of both lips a vertex is told apart along the surface
FAR_DISTANCE = 0.25  # beyond this nothing moves
CROSS_LIP_PENALTY = 2.0  # how much longer than it is an edge counts whose ends look like different lips
LOWER_LIP_JAW_SHARE = 0.45  # share of the jaw's motion from which skin counts as the lower lip's side


@dataclass(frozen=True)
class Correspondence:
    """``triangle`` (V,) and ``weights`` (V, 3): the place on the source's skin; ``reliable`` (V,) whether it is
    believed, ``in_face`` (V,) whether the vertex is in the face, ``far_from_face`` (V,) whether well outside; ``near_seam`` (V,)
    whether near both lips, ``on_lower_lip`` (V,) whether on the lower lip's side."""

    triangle: np.ndarray
    weights: np.ndarray
    reliable: np.ndarray
    in_face: np.ndarray
    far_from_face: np.ndarray
    near_seam: np.ndarray
    on_lower_lip: np.ndarray


def find_correspondence(
    warped: np.ndarray,
    source_faces: np.ndarray,
    jaw: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    size: float,
    lower: np.ndarray | None = None,
) -> Correspondence:
    """Match target vertices (V, 3) with the source skin as it lies ``warped`` (S, 3) over them.

    ``jaw`` (S,) is the source's motion under jawOpen as a share of the greatest, ``size`` the face's. Nearest in
    place and normal; near the seam of the lips, where places of both lie close together, a vertex is of
    the lip that is nearer along the target's own surface, and is matched with that lip alone.
    """
    triangle, weights = sample_triangles(source_faces, SAMPLES_PER_TRIANGLE)
    places = interpolate_barycentric(warped, source_faces, triangle, weights)
    normals = interpolate_barycentric(vertex_normals(warped, source_faces), source_faces, triangle, weights)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    share = interpolate_barycentric(jaw, source_faces, triangle, weights)
    own = vertex_normals(vertices, faces)
    sought, offered = (
        np.hstack([vertices / size, NORMAL_WEIGHT * own]),
        np.hstack([places / size, NORMAL_WEIGHT * normals]),
    )
    _, best = cKDTree(offered).query(sought)
    tree = cKDTree(places)
    away, _ = tree.query(vertices)
    near, far = away < FACE_DISTANCE * size, away > FAR_DISTANCE * size

    seam = np.zeros(len(vertices), bool)
    index = np.flatnonzero(near)
    low_tree, high_tree = (
        cKDTree(places[share > LOWER_LIP_JAW_SHARE + 0.2]),
        cKDTree(places[share < LOWER_LIP_JAW_SHARE - 0.2]),
    )
    to_low, _ = low_tree.query(vertices[index], distance_upper_bound=SEAM_DISTANCE * size)
    to_high, _ = high_tree.query(vertices[index], distance_upper_bound=SEAM_DISTANCE * size)
    seam[index] = np.isfinite(to_low) & np.isfinite(to_high)
    if lower is None:
        seed = near & ~seam
        lower = share[best] > LOWER_LIP_JAW_SHARE
        graph = edge_length_graph(vertices, faces).tocoo()
        # a skin between parted lips is crossed last: its edges join what looks like one lip with the other
        graph.data = graph.data * np.where(lower[graph.row] != lower[graph.col], CROSS_LIP_PENALTY, 1.0)
        paths = graph.tocsr()
        to_lower = geodesic_distance(paths, np.flatnonzero(seed & lower))
        to_upper = geodesic_distance(paths, np.flatnonzero(seed & ~lower))
        lower = np.where(seam, to_lower < to_upper, lower)
    for side in (False, True):
        which, allowed = np.flatnonzero(seam & (lower == side)), np.flatnonzero((share > LOWER_LIP_JAW_SHARE) == side)
        if len(which):
            best[which] = allowed[cKDTree(offered[allowed]).query(sought[which])[1]]
    alike = np.einsum("ij,ij->i", normals[best], own) > 0.5
    sure = alike & (np.linalg.norm(places[best] - vertices, axis=1) < RELIABLE_DISTANCE * size)
    return Correspondence(triangle[best], weights[best], sure, near, far, seam, lower)
