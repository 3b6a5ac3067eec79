"""Deformation transfer: blendshapes of the source head's skin on a target's skin.

Sumner & Popović, Deformation Transfer for Triangle Meshes (SIGGRAPH 2004), in the Poisson form of Botsch,
Sumner, Pauly & Gross (2006): in each triangle the target's displacement has the source's gradient, so that a shape
fits the target's own form; at a larger scale, points move as their counterparts do. A second, smooth and local
solve then makes the lips meet.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from kmtalk.face.correspondence import Correspondence
from kmtalk.face.geometry import gradient_operator, interpolate_barycentric
from kmtalk.face.lips import Lips
from kmtalk.face.registration import SimilarityTransform
from kmtalk.face.source_head import SourceHead

POSITION_SCALE = 0.015  # share of the face's size: gradients rule below this length, counterparts' motion above
FAR_STIFFNESS = 25.0  # position weight of vertices far from the face, relative to others
UNRELIABLE_WEIGHT = 0.05  # gradient weight of triangles without a reliable correspondence, relative to others
LIP_PAIR_WEIGHT = 1e4  # weight of the lip pairs' constraints, where the whole face weighs about 1


class DeformationTransfer:
    """Transfers shapes of the source head to one target skin; factorises the linear system once.

    Args:
        source_head: The source head.
        vertices: Vertices (V, 3) of the target skin, in target units and axes.
        faces: Triangles (F, 3) of the target skin.
        matched: Correspondence from the target to the source skin.
        similarity: Maps source points to target points.
        size: The face's size in target units.
        lips: The target's lips; needed for the methods on lip separation.
    """

    def __init__(
        self,
        source_head: SourceHead,
        vertices: np.ndarray,
        faces: np.ndarray,
        matched: Correspondence,
        similarity: SimilarityTransform,
        size: float,
        lips: Lips | None = None,
    ) -> None:
        self._source_head, self._matched, self._similarity = source_head, matched, similarity
        self._faces, self._size, self._lips = faces, size, lips
        vertex_count = len(vertices)
        self._gradient, area = gradient_operator(vertices / size, faces)
        reliable = matched.reliable.astype(float)
        self._weight = sp.diags(np.repeat(np.maximum(reliable[faces].mean(1), UNRELIABLE_WEIGHT) * area, 3))
        mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), vertex_count)
        self._hold = mass / POSITION_SCALE**2 * np.where(matched.far_from_face, FAR_STIFFNESS, reliable)
        system = self._gradient.T @ self._weight @ self._gradient + sp.diags(self._hold + 1e-6 * mass.mean())
        self._solve = _factorised(system)
        if lips is not None:
            self._apart = lips.lower.matrix(vertex_count) - lips.upper.matrix(vertex_count)
            self._pull = LIP_PAIR_WEIGHT / len(lips.pair_indices) * self._apart.T
            self._solve_paired = _factorised(system + self._pull @ self._apart)

    def __call__(self, shape: int) -> np.ndarray:
        """Offsets (V, 3), in target units, of the source head's shape with index `shape`."""
        m, s, source_head = self._matched, self._similarity, self._source_head
        reliable = m.reliable[:, None]
        gradient = interpolate_barycentric(
            source_head.displacement_gradients[shape].reshape(-1, 9), source_head.faces, m.triangle, m.weights
        ).reshape(-1, 3, 3)
        # rotate into the target's axes; a gradient (displacement per length) does not depend on the scale
        gradient = np.where(reliable[:, :, None], s.rotation @ gradient @ s.rotation.T, 0)
        target_gradient = gradient[self._faces].mean(1).transpose(0, 2, 1).reshape(-1, 3)
        offsets = source_head.offsets[shape]
        displacement = (
            s.scale * interpolate_barycentric(offsets, source_head.faces, m.triangle, m.weights) @ s.rotation.T
        )
        right_side = self._size * (self._gradient.T @ (self._weight @ target_gradient))
        right_side += self._hold[:, None] * np.where(reliable, displacement, 0)
        transferred: np.ndarray = self._solve(right_side)
        return transferred

    def lip_separation(self, offsets: np.ndarray) -> np.ndarray:
        """Displacement (P, 3) of each lip pair's lower point relative to its upper one, under offsets (V, 3)."""
        out: np.ndarray = self._apart @ offsets
        return out

    def source_lip_separation(self, shape: int) -> np.ndarray:
        """`lip_separation` of the source head's own shape with index `shape`, in target units and axes (P, 3)."""
        assert self._lips is not None
        upper, lower = self._source_head.lip_pairs[self._lips.pair_indices].T
        offsets, s = self._source_head.offsets[shape], self._similarity
        out: np.ndarray = s.scale * (offsets[lower] - offsets[upper]) @ s.rotation.T
        return out

    def separate_lips(self, separation: np.ndarray) -> np.ndarray:
        """Smallest, smoothest offsets (V, 3) that move each lip pair's lower point by `separation` (P, 3) relative to
        its upper one."""
        out: np.ndarray = self._solve_paired(self._pull @ separation)
        return out


def _factorised(system: sp.spmatrix) -> Callable[[np.ndarray], np.ndarray]:
    """The solver of a sparse symmetric system."""
    solve: Callable[[np.ndarray], np.ndarray] = splu(
        sp.csc_matrix(system), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
    ).solve
    return solve
