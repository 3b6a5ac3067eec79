"""Surface correspondence from target vertices to the source head's skin, with upper and lower lip kept apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.geometry import edge_length_graph, geodesic_distance, interpolate_barycentric, sample_triangles
from kmtalk.face.template import vertex_normals

# distances are shares of the face's size (the diagonal of the landmarks' bounding box)
SAMPLES_PER_TRIANGLE = 6  # sample points on each source triangle
NORMAL_WEIGHT = 0.12  # distance that a normal deviation of one radian is equivalent to
FACE_DISTANCE = 0.06  # vertices within this distance of the warped source belong to the face
RELIABLE_DISTANCE = 0.035  # matches further away than this are not reliable
SEAM_DISTANCE = 0.035  # vertices within this distance of both lips are assigned to a lip along the surface
FAR_DISTANCE = 0.25  # vertices further away than this do not move
CROSS_LIP_PENALTY = 2.0  # length factor of edges whose ends are nearest to different lips
LOWER_LIP_JAW_SHARE = 0.45  # share of the greatest jawOpen motion above which skin belongs to the lower lip's side


@dataclass(frozen=True)
class Correspondence:
    """For each of V target vertices, its corresponding point on the source head's skin.

    Attributes:
        triangle: Source triangle (V,) that holds the point.
        weights: Barycentric coordinates (V, 3) of the point in that triangle.
        reliable: Mask (V,) of vertices whose match is close enough and has a similar normal.
        in_face: Mask (V,) of vertices near the warped source.
        far_from_face: Mask (V,) of vertices far from the warped source.
        near_seam: Mask (V,) of vertices near both lips.
        on_lower_lip: Mask (V,) of vertices on the lower lip's side.
    """

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
    jaw_motion: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    size: float,
    on_lower_lip: np.ndarray | None = None,
) -> Correspondence:
    """Match each target vertex with the point of the warped source skin that is nearest in position and normal.

    Near the seam between the lips, where both are close, a vertex belongs to the lip that is nearer along the
    target's own surface, and is matched with that lip alone.

    Args:
        warped: Source skin vertices (S, 3), warped onto the target.
        source_faces: Triangles (F, 3) of the source skin.
        jaw_motion: The source's motion (S,) under jawOpen, as a share of the greatest.
        vertices: Target vertices (V, 3).
        faces: Target triangles.
        size: The face's size in target units.
        on_lower_lip: Mask (V,) of target vertices on the lower lip's side, if known.

    Returns:
        The correspondence.
    """
    triangle, weights = sample_triangles(source_faces, SAMPLES_PER_TRIANGLE)
    samples = interpolate_barycentric(warped, source_faces, triangle, weights)
    sample_normals = interpolate_barycentric(vertex_normals(warped, source_faces), source_faces, triangle, weights)
    sample_normals /= np.linalg.norm(sample_normals, axis=1, keepdims=True) + 1e-12
    jaw_share = interpolate_barycentric(jaw_motion, source_faces, triangle, weights)
    target_normals = vertex_normals(vertices, faces)
    target_features, source_features = (
        np.hstack([vertices / size, NORMAL_WEIGHT * target_normals]),
        np.hstack([samples / size, NORMAL_WEIGHT * sample_normals]),
    )
    _, nearest = cKDTree(source_features).query(target_features)
    tree = cKDTree(samples)
    distance, _ = tree.query(vertices)
    in_face, far_from_face = distance < FACE_DISTANCE * size, distance > FAR_DISTANCE * size

    seam = np.zeros(len(vertices), bool)
    index = np.flatnonzero(in_face)
    lower_tree, upper_tree = (
        cKDTree(samples[jaw_share > LOWER_LIP_JAW_SHARE + 0.2]),
        cKDTree(samples[jaw_share < LOWER_LIP_JAW_SHARE - 0.2]),
    )
    lower_distance, _ = lower_tree.query(vertices[index], distance_upper_bound=SEAM_DISTANCE * size)
    upper_distance, _ = upper_tree.query(vertices[index], distance_upper_bound=SEAM_DISTANCE * size)
    seam[index] = np.isfinite(lower_distance) & np.isfinite(upper_distance)
    if on_lower_lip is None:
        seed = in_face & ~seam
        on_lower_lip = jaw_share[nearest] > LOWER_LIP_JAW_SHARE
        graph = edge_length_graph(vertices, faces).tocoo()
        # edges from one lip to the other count as longer, so that skin between parted lips is crossed last
        graph.data = graph.data * np.where(on_lower_lip[graph.row] != on_lower_lip[graph.col], CROSS_LIP_PENALTY, 1.0)
        edge_graph = graph.tocsr()
        geodesic_to_lower = geodesic_distance(edge_graph, np.flatnonzero(seed & on_lower_lip))
        geodesic_to_upper = geodesic_distance(edge_graph, np.flatnonzero(seed & ~on_lower_lip))
        on_lower_lip = np.where(seam, geodesic_to_lower < geodesic_to_upper, on_lower_lip)
    for side in (False, True):
        members, candidates = (
            np.flatnonzero(seam & (on_lower_lip == side)),
            np.flatnonzero((jaw_share > LOWER_LIP_JAW_SHARE) == side),
        )
        if len(members):
            nearest[members] = candidates[cKDTree(source_features[candidates]).query(target_features[members])[1]]
    normals_agree = np.einsum("ij,ij->i", sample_normals[nearest], target_normals) > 0.5
    reliable = normals_agree & (np.linalg.norm(samples[nearest] - vertices, axis=1) < RELIABLE_DISTANCE * size)
    return Correspondence(triangle[nearest], weights[nearest], reliable, in_face, far_from_face, seam, on_lower_lip)
