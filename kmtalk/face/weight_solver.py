"""Solves for the rig weights that reproduce the vertex motion of a mesh."""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear

from kmtalk.face.rig import MOUTH_SEAL, Rig

REGULARIZATION = 1e-5  # share of the shapes' mean energy: keeps opposing shapes from growing together


def solve_weights(rig: Rig, offsets: np.ndarray) -> tuple[np.ndarray, float]:
    """Solve for rig weights by bounded least squares. The weight of `mouthSeal` is fixed at 1.

    Args:
        rig: The rig.
        offsets: (N, V, 3) displacement of the vertices from the neutral, in the template's units.

    Returns:
        Weights (N, R) float32 in [0, 1], and the root mean square error in mm over the vertices that the rig
        moves.
    """
    moving = np.flatnonzero(np.abs(rig.offsets).max((0, 2)) > 0)
    basis = rig.offsets[:, moving].reshape(len(rig.shape_names), -1).astype(np.float64)
    fixed = np.zeros(len(rig.shape_names))
    if MOUTH_SEAL in rig.index:
        fixed[rig.index[MOUTH_SEAL]] = 1.0
    free = np.array([n != MOUTH_SEAL for n in rig.shape_names])
    gram = basis[free] @ basis[free].T
    gram += REGULARIZATION * np.trace(gram) / len(gram) * np.eye(len(gram))
    root = np.linalg.cholesky(gram)
    target = offsets[:, moving].reshape(len(offsets), -1) - fixed @ basis
    out = np.tile(fixed, (len(offsets), 1))
    for row, goal in zip(out, target, strict=True):
        row[free] = lsq_linear(root.T, np.linalg.solve(root, basis[free] @ goal), (0, 1)).x
    residual = (out[:, free] @ basis[free] - target).reshape(len(offsets), -1, 3)
    error = np.sqrt((residual**2).sum(2).mean()) * rig.template.mm_per_unit
    return out.astype(np.float32), float(error)
