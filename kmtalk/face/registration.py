"""Registers the source head to a target mesh: similarity transform, landmark warp, non-rigid ICP.

"The face's size" is the diagonal of the bounding box of the target landmarks (`RbfWarp.size`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from kmtalk.face.geometry import (
    SurfacePoints,
    boundary_edges,
    gradient_operator,
    interpolate_barycentric,
    nondegenerate_faces,
    sample_triangles,
)
from kmtalk.face.template import vertex_normals

if TYPE_CHECKING:
    from scipy.interpolate import RBFInterpolator

SMOOTHING = 1e-2  # of the face's size: the warp meets landmarks within about this distance
STIFFNESS = (100, 100, 30, 30, 10, 10, 3, 3, 1, 1, 0.3, 0.3)  # weight of the smoothness term in each iteration
SMOOTHING_LENGTH = 0.1  # of the face's size: length below which stiffness 1 keeps the displacement smooth
LANDMARK_WEIGHT = 1e-4  # of one landmark; the surface of the whole face has a weight of about 1
NORMAL_WEIGHT = 0.15  # of the face's size: distance equivalent to a normal turned by 1 radian
MAX_CORRESPONDENCE_DISTANCE = 0.05  # of the face's size: correspondences further apart than this are ignored


@dataclass(frozen=True)
class SimilarityTransform:
    """The map x → `scale` · `rotation` x + `translation`.

    Attributes:
        scale: Uniform scale factor.
        rotation: (3, 3).
        translation: (3,).
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Transform points (P, 3)."""
        out: np.ndarray = self.scale * points @ self.rotation.T + self.translation
        return out

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """Transform points (P, 3) by the inverse map."""
        out: np.ndarray = (points - self.translation) @ self.rotation / self.scale
        return out


def fit_similarity(source: np.ndarray, target: np.ndarray) -> SimilarityTransform:
    """Fit the least-squares similarity, without reflection, from source to target points (P, 3) (Umeyama 1991)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    left, size, right = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * flip) @ right
    scale = float((size * flip).sum() / (a**2).sum())
    return SimilarityTransform(scale, rotation, target_mean - scale * rotation @ source_mean)


def fit_similarity_robust(source: np.ndarray, target: np.ndarray) -> tuple[SimilarityTransform, np.ndarray]:
    """Fit a similarity from source to target points (P, 3), leaving out outliers.

    Returns:
        The similarity, and the distance (P,) of every transformed point, outliers included, from its target, in
        target units.
    """
    keep = np.ones(len(source), bool)
    for _ in range(5):
        similarity = fit_similarity(source[keep], target[keep])
        residual = np.linalg.norm(similarity(source) - target, axis=1)
        limit = max(3.0 * float(np.median(residual)), 1e-9)
        inliers = residual < limit
        if inliers.sum() < 4 or (inliers == keep).all():
            break
        keep = inliers
    return similarity, residual


@dataclass(frozen=True)
class RbfWarp:
    """A smooth map of space: a similarity transform, then radial basis functions centred at the landmarks.

    Attributes:
        similarity: The similarity transform.
        displacement: Displacement added after the similarity, in target units.
        inliers: (P,) bool mask of the landmarks that the warp uses.
        size: Diagonal of the bounding box of the target landmarks, in target units.
    """

    similarity: SimilarityTransform
    displacement: RBFInterpolator
    inliers: np.ndarray
    size: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Warp points (P, 3) of the source to the target."""
        aligned = self.similarity(points)
        out: np.ndarray = aligned + self.displacement(aligned)
        return out


def fit_warp(source: np.ndarray, target: np.ndarray, exact: bool = False) -> RbfWarp:
    """Fit a warp that maps source landmarks to target landmarks.

    Args:
        source: (P, 3) landmarks of the source.
        target: (P, 3) the same landmarks of the target.
        exact: Use all landmarks. Otherwise those whose displacement differs from that of their neighbours are
            left out.
    """
    from scipy.interpolate import RBFInterpolator  # slow to import

    similarity, _ = fit_similarity_robust(source, target)
    aligned = similarity(source)
    size = float(np.linalg.norm(np.ptp(target, axis=0)))
    keep = np.ones(len(source), bool)
    if not exact:
        shift = target - aligned
        distance = np.linalg.norm(aligned[:, None] - aligned[None], axis=2)
        neighbors = np.argsort(distance, axis=1)[:, 1:9]
        deviation = np.linalg.norm(shift - np.median(shift[neighbors], axis=1), axis=1)
        keep = deviation < max(4.0 * float(np.median(deviation)), 0.02 * size)
    displacement = RBFInterpolator(
        aligned[keep], (target - aligned)[keep], kernel="linear", smoothing=SMOOTHING * size, degree=0
    )
    return RbfWarp(similarity, displacement, keep, size)


def nonrigid_icp(
    warped: np.ndarray,
    faces: np.ndarray,
    lower_lip_mask: np.ndarray,
    landmarks: sp.csr_matrix,
    landmark_targets: np.ndarray,
    target: np.ndarray,
    target_faces: np.ndarray,
    target_lower_lip_mask: np.ndarray,
    size: float,
) -> np.ndarray:
    """Deform the warped source skin onto the surface of the target by non-rigid ICP.

    In each iteration, every vertex is attracted to the nearest point of the target with a similar normal, on
    the same lip. A bi-Laplacian term keeps the displacement smooth; its weight falls from one iteration to the
    next (`STIFFNESS`). Landmarks stay near their target positions.

    Args:
        warped: (S, 3) vertices of the source skin, already warped to the target.
        faces: (F, 3) their triangles.
        lower_lip_mask: (S,) bool mask of the lower lip of the source.
        landmarks: (P, S) sparse matrix that maps source vertices to landmarks.
        landmark_targets: (P, 3) target positions of the landmarks.
        target: (V, 3) vertices of the target.
        target_faces: Triangles of the target.
        target_lower_lip_mask: (V,) bool mask of the lower lip of the target.
        size: The face's size, in target units.

    Returns:
        (S, 3) the deformed vertices.
    """
    slope, area = gradient_operator(warped / size, faces)
    laplacian = slope.T @ sp.diags(np.repeat(area, 3)) @ slope
    mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), len(warped))
    mass = np.maximum(mass, 0.05 * mass.mean())  # tiny triangles must not make the whole system stiff
    smooth = SMOOTHING_LENGTH**4 * (laplacian @ sp.diags(1 / mass) @ laplacian)
    landmark_term = LANDMARK_WEIGHT * (landmarks.T @ landmarks)
    on_boundary = np.zeros(len(warped), bool)
    on_boundary[boundary_edges(faces).ravel()] = True

    triangle, weights = sample_triangles(target_faces, 4)
    target_normals = vertex_normals(target, target_faces)
    samples = np.concatenate([interpolate_barycentric(target, target_faces, triangle, weights), target])
    normals = np.concatenate([interpolate_barycentric(target_normals, target_faces, triangle, weights), target_normals])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    sample_lower = np.concatenate([target_lower_lip_mask[target_faces[triangle]].mean(1) > 0.5, target_lower_lip_mask])
    sides = [(sample_lower == s, lower_lip_mask == s) for s in (False, True)]
    masks = [(sample_mask, mask) for sample_mask, mask in sides if sample_mask.any() and mask.any()]
    groups = [(np.flatnonzero(sample_mask), mask) for sample_mask, mask in masks]
    trees = [cKDTree(np.hstack([samples[index] / size, NORMAL_WEIGHT * normals[index]])) for index, _ in groups]
    moved = np.zeros_like(warped)
    for stiffness in STIFFNESS:
        current = warped + moved
        current_normals = vertex_normals(current, faces)
        query = np.hstack([current / size, NORMAL_WEIGHT * current_normals])
        nearest = np.zeros(len(warped), int)
        for (index, mask), tree in zip(groups, trees, strict=True):
            nearest[mask] = index[tree.query(query[mask])[1]]
        close = np.linalg.norm(samples[nearest] - current, axis=1) < MAX_CORRESPONDENCE_DISTANCE * size
        valid = close & (np.einsum("ij,ij->i", current_normals, normals[nearest]) > 0.5) & ~on_boundary
        weight = valid * mass
        system = stiffness * smooth + sp.diags(weight + 1e-6 * mass.mean()) + landmark_term
        right = weight[:, None] * (samples[nearest] - warped) + LANDMARK_WEIGHT * (
            landmarks.T @ (landmark_targets - landmarks @ warped)
        )
        moved = splu(sp.csc_matrix(system), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(right)
    return warped + moved


def nonrigid_icp_amberg(
    warped: np.ndarray,
    faces: np.ndarray,
    landmarks: SurfacePoints,
    landmark_targets: np.ndarray,
    target: np.ndarray,
    target_faces: np.ndarray,
) -> np.ndarray:
    """Deform the warped source skin onto the target by trimesh's `nricp_amberg`; slower than `nonrigid_icp`.

    The algorithm is that of Amberg, Romdhani & Vetter (Optimal Step Nonrigid ICP, CVPR 2007).

    Args:
        warped: (S, 3) vertices of the source skin, already warped to the target.
        faces: (F, 3) their triangles.
        landmarks: (P,) points on the source skin.
        landmark_targets: (P, 3) target positions of the landmarks.
        target: (V, 3) vertices of the target.
        target_faces: Triangles of the target.

    Returns:
        (S, 3) the deformed vertices.
    """
    import trimesh

    size = float(np.linalg.norm(np.ptp(warped, axis=0)))
    distance, _ = cKDTree(warped).query(target)
    near_faces = target_faces[(distance < 0.1 * size)[target_faces].all(1)]
    surface = trimesh.Trimesh(target, near_faces[nondegenerate_faces(target, near_faces)], process=False)
    surface.remove_unreferenced_vertices()
    # coincident vertices give edges of length zero, unreferenced ones a singular system
    _, first, same = np.unique(warped, axis=0, return_index=True, return_inverse=True)
    joined = same.ravel()[faces]
    joined = joined[nondegenerate_faces(warped[first], joined)]
    used = np.unique(joined)
    unique_index = cKDTree(warped[first[used]]).query(warped)[1]
    joined = np.searchsorted(used, joined)
    triangle, weights = landmarks.remap(unique_index, joined)
    out = trimesh.registration.nricp_amberg(
        trimesh.Trimesh(warped[first[used]], joined, process=False),
        surface,
        source_landmarks=(triangle, weights),
        target_positions=landmark_targets,
        distance_threshold=0.05,
    )
    return np.asarray(out)[unique_index]
