"""Shapes carried from the source's skin to a target's: deformation transfer.

Sumner & Popović, Deformation Transfer for Triangle Meshes (SIGGRAPH 2004), in the Poisson form of Botsch,
Sumner, Pauly & Gross (2006): the target's displacement has, triangle by triangle, the source's gradient,
so that a shape respects the target's own form; at a larger scale places move as their counterparts do. Lips
are made to meet afterwards, by a correction that is as smooth and local.
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

POSITION_SCALE = 0.015  # of the face's size: finer than this the gradient decides, coarser the counterparts' motion
FAR_STIFFNESS = 25.0  # how much more than elsewhere vertices far from the face are held
UNRELIABLE_WEIGHT = 0.05  # share of the gradient's weight where no counterpart is believed
LIP_PAIR_WEIGHT = 1e4  # how firmly pairs on the lips part as asked, where the whole face weighs about 1


class DeformationTransfer:
    """One target skin (V, 3) in its own axes, factorised once; carries any number of shapes.

    ``pairs`` are the places on upper and lower lip that answer to the atlas's lip pairs ``paired`` (P,).
    """

    def __init__(
        self,
        atlas: SourceHead,
        vertices: np.ndarray,
        faces: np.ndarray,
        matched: Correspondence,
        similarity: SimilarityTransform,
        size: float,
        lips: Lips | None = None,
    ) -> None:
        self._atlas, self._matched, self._similarity = atlas, matched, similarity
        self._faces, self._size, self._lips = faces, size, lips
        count = len(vertices)
        self._gradient, area = gradient_operator(vertices / size, faces)
        sure = matched.reliable.astype(float)
        self._weight = sp.diags(np.repeat(np.maximum(sure[faces].mean(1), UNRELIABLE_WEIGHT) * area, 3))
        mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), count)
        self._hold = mass / POSITION_SCALE**2 * np.where(matched.far_from_face, FAR_STIFFNESS, sure)
        system = self._gradient.T @ self._weight @ self._gradient + sp.diags(self._hold + 1e-6 * mass.mean())
        self._solve = _factorised(system)
        if lips is not None:
            self._apart = lips.lower.matrix(count) - lips.upper.matrix(count)
            self._pull = LIP_PAIR_WEIGHT / len(lips.pair_indices) * self._apart.T
            self._solve_paired = _factorised(system + self._pull @ self._apart)

    def __call__(self, shape: int) -> np.ndarray:
        """Offsets (V, 3), in target units, of the atlas's shape of that number."""
        m, s, atlas = self._matched, self._similarity, self._atlas
        believed = m.reliable[:, None]
        bend = interpolate_barycentric(
            atlas.displacement_gradients[shape].reshape(-1, 9), atlas.faces, m.triangle, m.weights
        ).reshape(-1, 3, 3)
        # turned into the target's axes; its scale cancels in a displacement per length
        bend = np.where(believed[:, :, None], s.rotation @ bend @ s.rotation.T, 0)
        wanted = bend[self._faces].mean(1).transpose(0, 2, 1).reshape(-1, 3)
        offsets = atlas.offsets[shape]
        push = s.scale * interpolate_barycentric(offsets, atlas.faces, m.triangle, m.weights) @ s.rotation.T
        right = self._size * (self._gradient.T @ (self._weight @ wanted))
        right += self._hold[:, None] * np.where(believed, push, 0)
        out: np.ndarray = self._solve(right)
        return out

    def lip_separation(self, offsets: np.ndarray) -> np.ndarray:
        """By how much offsets (V, 3) move each pair's lower place away from its upper one (P, 3)."""
        out: np.ndarray = self._apart @ offsets
        return out

    def source_lip_separation(self, shape: int) -> np.ndarray:
        """The same of the atlas's shape of that number, in target units and axes (P, 3)."""
        assert self._lips is not None
        upper, lower = self._atlas.lip_pairs[self._lips.pair_indices].T
        offsets, s = self._atlas.offsets[shape], self._similarity
        out: np.ndarray = s.scale * (offsets[lower] - offsets[upper]) @ s.rotation.T
        return out

    def separate_lips(self, apart: np.ndarray) -> np.ndarray:
        """Offsets (V, 3) that move each pair's lower place by ``apart`` (P, 3) away from its upper one and
        all else as little as may be."""
        out: np.ndarray = self._solve_paired(self._pull @ apart)
        return out


def _factorised(system: sp.spmatrix) -> Callable[[np.ndarray], np.ndarray]:
    solve: Callable[[np.ndarray], np.ndarray] = splu(
        sp.csc_matrix(system), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
    ).solve
    return solve
