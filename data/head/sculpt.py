"""Mesh tools for the default head: readers for OBJ and MakeHuman targets, smooth deformation, simple solids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu


def read_obj(path: Path) -> tuple[np.ndarray, list[list[int]], list[str]]:
    """Read an OBJ file; returns vertices (V, 3), polygons and the group of each polygon."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    groups: list[str] = []
    group = ""
    for line in path.read_text(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif word == "g":
            group = rest.strip()
        elif word == "f":
            polygons.append([int(t.split("/")[0]) - 1 for t in rest.split()])
            groups.append(group)
    return np.array(vertices), polygons, groups


def read_target(path: Path, count: int) -> np.ndarray:
    """Read the offsets (count, 3) of a MakeHuman .target or .target.gz file."""
    import gzip

    opener = gzip.open if path.suffix == ".gz" else open
    offsets = np.zeros((count, 3))
    with opener(path, "rt") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) == 4 and fields[0].isdigit():
                offsets[int(fields[0])] = [float(x) for x in fields[1:]]
    return offsets


def triangulate(polygons: list[list[int]]) -> np.ndarray:
    """Triangulate polygons as fans; returns (F, 3) int32."""
    return np.array([[p[0], p[k], p[k + 1]] for p in polygons for k in range(1, len(p) - 1)], np.int32)


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


def make_eyeball(centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a sphere facing +z with edge rings at pupil and iris: vertices, faces, colours in [0, 1]."""
    sclera, iris, pupil, limbus = [0.93, 0.91, 0.89], [0.33, 0.23, 0.14], [0.02, 0.02, 0.02], [0.16, 0.11, 0.07]
    rings = [  # degrees from the axis, colour
        (9.0, pupil),
        (10.5, iris),
        (18.0, [0.45, 0.31, 0.18]),
        (24.0, iris),
        (26.5, limbus),
        (29.0, sclera),
        (45.0, sclera),
        (62.0, [0.90, 0.84, 0.81]),
        (85.0, [0.85, 0.72, 0.69]),
        (120.0, [0.8, 0.6, 0.57]),
        (150.0, [0.8, 0.6, 0.57]),
    ]
    around = 24
    points, colours = [[0.0, 0.0, 1.0]], [pupil]
    for degrees, colour in rings:
        a = np.radians(degrees)
        for k in range(around):
            b = 2 * np.pi * k / around
            points.append([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)])
            colours.append(colour)
    points.append([0.0, 0.0, -1.0])
    colours.append(rings[-1][1])
    faces = [[0, 1 + k, 1 + (k + 1) % around] for k in range(around)]
    for ring in range(len(rings) - 1):
        base = 1 + ring * around
        for k in range(around):
            a, b = base + k, base + (k + 1) % around
            faces += [[a, a + around, b], [b, a + around, b + around]]
    last, base = len(points) - 1, 1 + (len(rings) - 1) * around
    faces += [[base + k, last, base + (k + 1) % around] for k in range(around)]
    return centre + radius * np.array(points), np.array(faces, np.int32), np.array(colours)


def rotation_matrix(axis: str, degrees: float) -> np.ndarray:
    """Return the matrix (3, 3) of a rotation about the x, y or z axis."""
    a = np.radians(degrees)
    c, s = np.cos(a), np.sin(a)
    if axis == "x":
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def make_dental_arch(front: np.ndarray, edge: float, gum: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a row of twelve teeth: vertices, faces, colours in [0, 1].

    `front` (n, 3) are points on the labial surface, to which the arch is fitted as a parabola z(x). `edge` and
    `gum` are the heights of the biting edge and of the gum, in mm.
    """
    widths = np.array([8.5, 6.6, 7.6, 7.0, 6.8, 9.5]) if gum > edge else np.array([5.4, 5.9, 6.9, 7.0, 7.2, 10.0])
    a, b = np.polyfit(front[:, 0] ** 2, front[:, 2], 1)
    x = np.linspace(0, np.abs(front[:, 0]).max() * 1.3, 600)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(a * x**2)))])
    starts = np.concatenate([[0], np.cumsum(widths)])
    samples = 7
    s = np.concatenate([np.linspace(p, q, samples)[:-1] for p, q in zip(starts[:-1], starts[1:], strict=True)])
    s = np.append(s, starts[-1])
    tooth = np.clip(np.searchsorted(starts, s, side="right") - 1, 0, 5)
    inside = np.clip((s - starts[tooth]) / widths[tooth], 0, 1)
    bulge = (1 - (2 * np.abs(inside - 0.5)) ** 4) * (np.arange(len(s)) % (samples - 1) != 0)
    px = np.interp(s, along, x)
    normal = np.column_stack([-2 * a * px, np.ones_like(px)])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    length = np.array([1.0, 0.9, 1.02, 0.85, 0.8, 0.72])[tooth]
    # profile from the gum over the edge to the palatal side: share of height, depth in mm, 1 for tooth or 0 for gum
    profile = [
        (1.25, -0.6, 0),
        (1.0, 0.0, 0),
        (0.8, 0.75, 1),
        (0.35, 0.6, 1),
        (0.0, 0.0, 1),
        (0.03, -1.4, 1),
        (0.9, -4, 1),
    ]
    rows, colours = [], []
    for share, depth, is_tooth in profile:
        h = (share if not is_tooth else share * length) - (0.16 * bulge if share == 1.0 else 0)
        h = h + (0.10 * (1 - bulge) if share < 0.1 else 0)
        out = depth - 0.55 * (1 - bulge) * is_tooth
        y = edge + (gum - edge) * (h + (1 - length) * (0.15 if is_tooth else 0))
        rows.append(np.column_stack([px + out * normal[:, 0], y, a * px**2 + b + out * normal[:, 1]]))
        shade = np.where(bulge > 0, 1.0, 0.72)[:, None]
        ivory = np.array([0.93, 0.90, 0.82]) * shade
        pink = np.tile([0.70, 0.38, 0.38], (len(s), 1))
        colours.append(ivory if is_tooth else pink)
    half, hue = np.stack(rows, 1), np.stack(colours, 1)  # (S, P, 3)
    mirror = half[:0:-1] * [-1, 1, 1]
    grid, hue = np.concatenate([mirror, half]), np.concatenate([hue[:0:-1], hue])
    dark = smoothstep(np.abs(grid[..., 0]), 8, 26)[..., None]
    hue = hue * (1 - 0.5 * dark)
    columns, rows_n = grid.shape[:2]
    faces = []
    for i in range(columns - 1):
        for j in range(rows_n - 1):
            p = i * rows_n + j
            quad = [p, p + 1, p + rows_n + 1, p + rows_n]
            if gum > edge:
                quad = quad[::-1]
            faces += [[quad[0], quad[2], quad[1]], [quad[0], quad[3], quad[2]]]
    return grid.reshape(-1, 3), np.array(faces, np.int32), hue.reshape(-1, 3)
