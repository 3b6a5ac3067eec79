"""The source head laid over a target: similarity, then a smooth warp that brings landmarks together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.interpolate import RBFInterpolator
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

SMOOTHING = 1e-2  # of the face's size: landmarks are met within about this
STIFFNESS = (100, 100, 30, 30, 10, 10, 3, 3, 1, 1, 0.3, 0.3)  # of the displacement, step by step
STIFF_LENGTH = 0.1  # of the face's size: finer than this the displacement is smooth at stiffness 1
LANDMARK_WEIGHT = 1e-4  # of one landmark, where the whole face's surface weighs about 1
NORMAL_WEIGHT = 0.15  # of the face's size: what a normal turned by a radian counts
MAX_STEP = 0.05  # of the face's size: nothing is drawn further at once


@dataclass(frozen=True)
class SimilarityTransform:
    """x → scale · rotation x + shift."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        out: np.ndarray = self.scale * points @ self.rotation.T + self.translation
        return out

    def inverse(self, points: np.ndarray) -> np.ndarray:
        out: np.ndarray = (points - self.translation) @ self.rotation / self.scale
        return out


def fit_similarity(source: np.ndarray, target: np.ndarray) -> SimilarityTransform:
    """The best similarity from source points (P, 3) to target, without reflection (Umeyama 1991)."""
    middle, aim = source.mean(0), target.mean(0)
    a, b = source - middle, target - aim
    left, size, right = np.linalg.svd(b.T @ a)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * flip) @ right
    scale = float((size * flip).sum() / (a**2).sum())
    return SimilarityTransform(scale, rotation, aim - scale * rotation @ middle)


def fit_similarity_robust(source: np.ndarray, target: np.ndarray) -> tuple[SimilarityTransform, np.ndarray]:
    """The same with outliers left out; and distances (P,) of all from where they should be, in target units."""
    keep = np.ones(len(source), bool)
    for _ in range(5):
        found = fit_similarity(source[keep], target[keep])
        off = np.linalg.norm(found(source) - target, axis=1)
        limit = max(3.0 * float(np.median(off)), 1e-9)
        fresh = off < limit
        if fresh.sum() < 4 or (fresh == keep).all():
            break
        keep = fresh
    return found, off


@dataclass(frozen=True)
class RbfWarp:
    """A smooth map of space: similarity, then radial functions at the landmarks. ``inliers`` (P,) are the
    landmarks that were believed, ``size`` the diagonal of their box in target units."""

    similarity: SimilarityTransform
    displacement: RBFInterpolator
    inliers: np.ndarray
    size: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        laid = self.similarity(points)
        out: np.ndarray = laid + self.displacement(laid)
        return out


def fit_warp(source: np.ndarray, target: np.ndarray, exact: bool = False) -> RbfWarp:
    """Source landmarks (P, 3) onto target ones (P, 3); unless ``exact``, those that contradict their neighbours
    are left out."""
    similarity, _ = fit_similarity_robust(source, target)
    laid = similarity(source)
    size = float(np.linalg.norm(np.ptp(target, axis=0)))
    keep = np.ones(len(source), bool)
    if not exact:
        push = target - laid
        apart = np.linalg.norm(laid[:, None] - laid[None], axis=2)
        near = np.argsort(apart, axis=1)[:, 1:9]
        odd = np.linalg.norm(push - np.median(push[near], axis=1), axis=1)
        keep = odd < max(4.0 * float(np.median(odd)), 0.02 * size)
    bend = RBFInterpolator(laid[keep], (target - laid)[keep], kernel="linear", smoothing=SMOOTHING * size, degree=0)
    return RbfWarp(similarity, bend, keep, size)


def nonrigid_icp(
    laid: np.ndarray,
    faces: np.ndarray,
    lower: np.ndarray,
    landmarks: sp.csr_matrix,
    aims: np.ndarray,
    target: np.ndarray,
    target_faces: np.ndarray,
    target_lower: np.ndarray,
    size: float,
) -> np.ndarray:
    """The source skin (S, 3), laid over the target, drawn onto its surface: non-rigid ICP.

    Each vertex is drawn to the nearest place of the target that faces as it does and is of the same lip
    (``lower`` (S,), ``target_lower`` (V,)); the displacement is kept smooth (bi-Laplacian), less and less so; the
    ``landmarks`` (P, S) keep near their ``aims`` (P, 3).
    """
    slope, area = gradient_operator(laid / size, faces)
    laplacian = slope.T @ sp.diags(np.repeat(area, 3)) @ slope
    mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), len(laid))
    mass = np.maximum(mass, 0.05 * mass.mean())  # slivers must not stiffen everything
    smooth = STIFF_LENGTH**4 * (laplacian @ sp.diags(1 / mass) @ laplacian)
    held = LANDMARK_WEIGHT * (landmarks.T @ landmarks)
    open_rim = np.zeros(len(laid), bool)
    open_rim[boundary_edges(faces).ravel()] = True

    triangle, weights = sample_triangles(target_faces, 4)
    own = vertex_normals(target, target_faces)
    places = np.concatenate([interpolate_barycentric(target, target_faces, triangle, weights), target])
    normals = np.concatenate([interpolate_barycentric(own, target_faces, triangle, weights), own])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    side = np.concatenate([target_lower[target_faces[triangle]].mean(1) > 0.5, target_lower])
    groups = [(side == s, lower == s) for s in (False, True) if (side == s).any() and (lower == s).any()]
    trees = [(np.flatnonzero(there), here) for there, here in groups]
    found = [cKDTree(np.hstack([places[t] / size, NORMAL_WEIGHT * normals[t]])) for t, _ in trees]
    moved = np.zeros_like(laid)
    for stiffness in STIFFNESS:
        now = laid + moved
        facing = vertex_normals(now, faces)
        sought = np.hstack([now / size, NORMAL_WEIGHT * facing])
        best = np.zeros(len(laid), int)
        for (there, here), tree in zip(trees, found, strict=True):
            best[here] = there[tree.query(sought[here])[1]]
        close = np.linalg.norm(places[best] - now, axis=1) < MAX_STEP * size
        believed = close & (np.einsum("ij,ij->i", facing, normals[best]) > 0.5) & ~open_rim
        pull = believed * mass
        system = stiffness * smooth + sp.diags(pull + 1e-6 * mass.mean()) + held
        right = pull[:, None] * (places[best] - laid) + LANDMARK_WEIGHT * (landmarks.T @ (aims - landmarks @ laid))
        moved = splu(sp.csc_matrix(system), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(right)
    return laid + moved


def nonrigid_icp_amberg(
    laid: np.ndarray,
    faces: np.ndarray,
    landmarks: SurfacePoints,
    aims: np.ndarray,
    target: np.ndarray,
    target_faces: np.ndarray,
) -> np.ndarray:
    """The same by Amberg, Romdhani & Vetter (Optimal Step Nonrigid ICP, CVPR 2007), as trimesh has it; slower."""
    import trimesh

    size = float(np.linalg.norm(np.ptp(laid, axis=0)))
    away, _ = cKDTree(laid).query(target)
    around = target_faces[(away < 0.1 * size)[target_faces].all(1)]
    surface = trimesh.Trimesh(target, around[nondegenerate_faces(target, around)], process=False)
    surface.remove_unreferenced_vertices()
    # coincident vertices would make edges of no length, loose ones a system without an answer
    _, first, same = np.unique(laid, axis=0, return_index=True, return_inverse=True)
    joined = same.ravel()[faces]
    joined = joined[nondegenerate_faces(laid[first], joined)]
    used = np.unique(joined)
    name = cKDTree(laid[first[used]]).query(laid)[1]
    joined = np.searchsorted(used, joined)
    triangle, weights = landmarks.remapped(name, joined)
    out = trimesh.registration.nricp_amberg(
        trimesh.Trimesh(laid[first[used]], joined, process=False),
        surface,
        source_landmarks=(triangle, weights),
        target_positions=aims,
        distance_threshold=0.05,
    )
    return np.asarray(out)[name]
