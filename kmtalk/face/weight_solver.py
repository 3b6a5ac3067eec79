"""A mesh's motion as weights of its rig."""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear

from kmtalk.face.rig import MOUTH_SEAL, Rig

REGULARIZATION = 1e-5  # of the shapes' mean energy: keeps shapes that undo one another from growing together


def solve_weights(rig: Rig, offsets: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (N, R) in [0, 1] that come nearest to offsets (N, V, 3) from the neutral, by bounded least squares;
    and the root mean square, in mm over the vertices that move, of what they leave."""
    moving = np.flatnonzero(np.abs(rig.offsets).max((0, 2)) > 0)
    basis = rig.offsets[:, moving].reshape(len(rig.names), -1).astype(np.float64)
    fixed = np.zeros(len(rig.names))
    if MOUTH_SEAL in rig.index:
        fixed[rig.index[MOUTH_SEAL]] = 1.0
    free = np.array([n != MOUTH_SEAL for n in rig.names])
    gram = basis[free] @ basis[free].T
    gram += REGULARIZATION * np.trace(gram) / len(gram) * np.eye(len(gram))
    root = np.linalg.cholesky(gram)
    wanted = offsets[:, moving].reshape(len(offsets), -1) - fixed @ basis
    out = np.tile(fixed, (len(offsets), 1))
    for row, goal in zip(out, wanted, strict=True):
        row[free] = lsq_linear(root.T, np.linalg.solve(root, basis[free] @ goal), (0, 1)).x
    left = (out[:, free] @ basis[free] - wanted).reshape(len(offsets), -1, 3)
    missed = np.sqrt((left**2).sum(2).mean()) * rig.template.mm_per_unit
    return out.astype(np.float32), float(missed)
