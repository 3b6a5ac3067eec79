"""Solves for the weights of shapes that reproduce a motion."""

from __future__ import annotations

import numpy as np

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
    target = offsets[:, moving].reshape(len(offsets), -1) - fixed @ basis
    out = np.tile(fixed, (len(offsets), 1))
    out[:, free] = solve_bounded(gram, target @ basis[free].T)
    residual = (out[:, free] @ basis[free] - target).reshape(len(offsets), -1, 3)
    error = np.sqrt((residual**2).sum(2).mean()) * rig.template.mm_per_unit
    return out.astype(np.float32), float(error)


def solve_bounded(gram: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """Solve least squares with weights in [0, 1] by their normal equations.

    `scipy.optimize.nnls` is not used: it may stop short of the optimum (scipy issue 25389, seen with 1.17), with up to
    0.12 of shapes that have nothing to do with the target, depending on the order of the shapes.

    Args:
        gram: Products of the K shapes with each other, shape (K, K), positive definite.
        projected: Their products with each of N targets, shape (N, K).

    Returns:
        Weights, shape (N, K).
    """
    from scipy.optimize import lsq_linear  # slow to import

    root = np.linalg.cholesky(gram)
    goals = np.linalg.solve(root, projected.T).T
    # the default tolerance, of the gain per step, ends it before shapes with small motion have their weights
    solved = [lsq_linear(root.T, goal, (0, 1), method="bvls", tol=1e-14).x for goal in goals]
    return np.clip(np.array(solved).reshape(projected.shape), 0, 1)
