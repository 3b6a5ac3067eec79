"""Tools for sculpting the default head: smooth deformation by handles, smooth steps and rotations."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu


def adjacency_matrix(faces: np.ndarray, count: int) -> sp.csr_matrix:
    """Return the symmetric 0/1 vertex adjacency matrix (count, count)."""
    a, b, c = faces.T
    rows = np.concatenate([a, b, c, b, c, a])
    cols = np.concatenate([b, c, a, a, b, c])
    matrix = sp.csr_matrix((np.ones(len(rows)), (rows, cols)), (count, count))
    matrix.data[:] = 1.0
    return matrix


class LaplacianDeformer:
    """Smooth deformation of a surface by handles, which are vertices with prescribed displacements.

    `deform` solves the bi-Laplacian equation of the displacement field (Botsch & Kobbelt 2004) with uniform
    weights for the vertices within `reach` of a handle; all other vertices stay in place.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self.vertices = vertices
        matrix = adjacency_matrix(faces, len(vertices))
        degree = np.asarray(matrix.sum(1)).ravel()
        laplacian = sp.diags(degree) - matrix
        self.operator = (laplacian.T @ sp.diags(1.0 / np.maximum(degree, 1)) @ laplacian).tocsr()
        self.connected = degree > 0

    def deform(self, handles: np.ndarray, shifts: np.ndarray, reach: float) -> np.ndarray:
        """Return displacements (V, 3) of all vertices that move `handles` (n,) by `shifts` (n, 3)."""
        from scipy.spatial import cKDTree

        handles, first = np.unique(handles, return_index=True)
        shifts = shifts[first]
        distance, _ = cKDTree(self.vertices[handles]).query(self.vertices)
        free = (distance < reach) & self.connected
        free[handles] = False
        free_at = np.flatnonzero(free)
        out = np.zeros_like(self.vertices)
        out[handles] = shifts
        system = self.operator[free_at][:, free_at].tocsc()
        right = -self.operator[free_at][:, handles] @ shifts
        out[free_at] = splu(system).solve(right)
        return out


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step of x: 0 below `low`, 1 above `high`, a cubic between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def rotation_matrix(axis: str, degrees: float) -> np.ndarray:
    """Return the matrix (3, 3) of a rotation about the x, y or z axis."""
    a = np.radians(degrees)
    c, s = np.cos(a), np.sin(a)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
