"""Operators on triangle meshes: welding, components, gradients, distances along the surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra

from kmtalk.face.template import edge_counts, unique_edges, vertex_normals

TRIANGLE_SOUP_RATIO = 2.5  # vertices a triangle from which every triangle has its own, and creases are no seams
SOUP_NORMAL_COSINE = -0.7
SEAM_NORMAL_COSINE = 0.3  # cosine from which normals of two vertices at one place are one surface's


def nondegenerate_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mask (F,) of triangles that have an area: no corner named twice, not thinner than float32 sees."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    doubled = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    longest = np.maximum(np.maximum(((b - a) ** 2).sum(1), ((c - b) ** 2).sum(1)), ((a - c) ** 2).sum(1))
    out: np.ndarray = doubled > 1e-6 * longest
    return out & (longest > 0)


def boundary_edges(faces: np.ndarray) -> np.ndarray:
    """Edges (B, 2) that belong to one triangle alone."""
    found, times = edge_counts(faces)
    return found[times == 1]


def count_nonmanifold_edges(faces: np.ndarray) -> int:
    """How many edges more than two triangles share: there the mesh is no surface."""
    return int((edge_counts(faces)[1] > 2).sum())


def weld_seams(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Index (V,) of each vertex's representative, where files split a surface along seams.

    Joined are vertices at exactly one place that lie on borders, along a chain of normals each of which agrees with
    the next: glTF splits at texture seams, STL everywhere. Lips that touch face one another and stay apart.
    """
    out = np.arange(len(vertices))
    index = np.unique(boundary_edges(faces))
    if not len(index):
        return out
    normals = vertex_normals(vertices.astype(np.float64), faces)[index]
    _, place = np.unique(np.ascontiguousarray(vertices[index]), axis=0, return_inverse=True)
    alike = SEAM_NORMAL_COSINE if len(vertices) < TRIANGLE_SOUP_RATIO * len(faces) else SOUP_NORMAL_COSINE
    order = np.argsort(place.ravel(), kind="stable")
    index, place, normals = index[order], place.ravel()[order], normals[order]
    pairs = []
    for step in range(1, int(np.bincount(place).max())):
        first = np.flatnonzero(place[step:] == place[:-step])
        agree = np.einsum("ij,ij->i", normals[first], normals[first + step]) > alike
        pairs.append(np.stack([first[agree], first[agree] + step]))
    if not pairs:
        return out
    rows, columns = np.concatenate(pairs, axis=1)
    graph = sp.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (len(index), len(index)))
    group = connected_components(graph, directed=False)[1]
    lead = np.full(int(group.max()) + 1, len(vertices))
    np.minimum.at(lead, group, index)
    out[index] = lead[group]
    return out


def component_labels(count: int, faces: np.ndarray) -> np.ndarray:
    """Number (V,) of the connected piece that each vertex is in."""
    rows, columns = faces[:, :2].ravel(), faces[:, 1:].ravel()
    graph = sp.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (count, count))
    return connected_components(graph, directed=False)[1]


def edge_length_graph(vertices: np.ndarray, faces: np.ndarray) -> sp.csr_matrix:
    """Edge lengths as a symmetric graph (V, V)."""
    ends = unique_edges(faces)
    length = np.maximum(np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1), 1e-12)
    rows, columns = np.r_[ends[:, 0], ends[:, 1]], np.r_[ends[:, 1], ends[:, 0]]
    return sp.csr_matrix((np.r_[length, length], (rows, columns)), (len(vertices), len(vertices)))


def geodesic_distance(graph: sp.csr_matrix, sources: np.ndarray) -> np.ndarray:
    """Distance (V,) along edges to the nearest source; inf where none is reached."""
    if not len(sources):
        return np.full(graph.shape[0], np.inf)
    found: np.ndarray = dijkstra(graph, indices=sources, min_only=True)
    return found


def gradient_operator(vertices: np.ndarray, faces: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """The gradient of piecewise linear functions: (3F, V), rows 3f to 3f+2 its axes in triangle f; and areas (F,)."""
    corners = vertices[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(normal, axis=1)
    flat = np.maximum(double, 1e-12 * double.max())
    unit = normal / flat[:, None]
    slope = np.stack(
        [np.cross(unit, corners[:, (k + 2) % 3] - corners[:, (k + 1) % 3]) / flat[:, None] for k in range(3)], axis=1
    )  # (F, corner, axis)
    rows = np.repeat(np.arange(3 * len(faces)).reshape(-1, 1, 3), 3, axis=1)
    columns = np.repeat(faces[:, :, None], 3, axis=2)
    shape = (3 * len(faces), len(vertices))
    return sp.csr_matrix((slope.ravel(), (rows.ravel(), columns.ravel())), shape), double / 2


def sample_triangles(faces: np.ndarray, per: int) -> tuple[np.ndarray, np.ndarray]:
    """``per`` (1, 4, 6 or 10) places in every triangle: triangle (S,) and barycentric coordinates (S, 3)."""
    third = 1 / 3
    spots = [[third, third, third]]
    spots += [[2 / 3, 1 / 6, 1 / 6], [1 / 6, 2 / 3, 1 / 6], [1 / 6, 1 / 6, 2 / 3]]
    spots += [[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    spots += [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    chosen = np.array(spots[:per])
    return np.repeat(np.arange(len(faces)), per), np.tile(chosen, (len(faces), 1))


def interpolate_barycentric(
    values: np.ndarray, faces: np.ndarray, triangle: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Values at vertices (V, ...) → at places in triangles (P, ...)."""
    out: np.ndarray = np.einsum("pk,pk...->p...", weights, values[faces[triangle]])
    return out


def displacement_gradients(vertices: np.ndarray, faces: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Displacement gradients (R, V, 3, 3) of shapes (R, V, 3): rows are the displacement's axes, columns space's.

    Per triangle, with the normal as a fourth edge (Sumner & Popović 2004, section 3), averaged over each
    vertex's triangles by area.
    """

    def frame(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        normal = np.cross(edge, other)
        area = np.maximum(np.linalg.norm(normal, axis=1), 1e-20)
        return np.stack([edge, other, normal / np.sqrt(area)[:, None]], axis=2), area

    corners = vertices[faces].astype(np.float64)
    rest, area = frame(corners)
    inverse = np.linalg.pinv(rest)
    shape = (len(vertices), len(faces))
    spread = sp.csr_matrix((np.repeat(area, 3), (faces.ravel(), np.repeat(np.arange(len(faces)), 3))), shape)
    total = np.maximum(np.asarray(spread.sum(1)).ravel(), 1e-20)[:, None]
    out = np.empty((len(offsets), len(vertices), 9), np.float32)
    for row, moved in enumerate(offsets):
        change = frame(corners + moved[faces])[0] @ inverse - np.eye(3)
        out[row] = (spread @ change.reshape(-1, 9)) / total
    return out.reshape(len(offsets), -1, 3, 3)


@dataclass(frozen=True)
class SurfacePoints:
    """Points on triangles: ``corners`` (P, 3) vertex indexes, ``weights`` (P, 3)."""

    corners: np.ndarray
    weights: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values at vertices (..., V, 3) → at the places (..., P, 3)."""
        out: np.ndarray = np.einsum("pk,...pkx->...px", self.weights, values[..., self.corners, :])
        return out

    def matrix(self, count: int) -> sp.csr_matrix:
        rows = np.repeat(np.arange(len(self.corners)), 3)
        return sp.csr_matrix((self.weights.ravel(), (rows, self.corners.ravel())), (len(self.corners), count))

    def remapped(self, renamed: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same places as triangles (P,) of ``faces`` and coordinates (P, 3); vertices were ``renamed`` (V,)."""
        corners = renamed[self.corners]
        order = np.argsort(corners, axis=1)
        rows = {tuple(face): row for row, face in enumerate(np.sort(faces, axis=1).tolist())}
        triangle = np.array([rows[tuple(c)] for c in np.take_along_axis(corners, order, axis=1).tolist()])
        rank = np.argsort(np.argsort(faces[triangle], axis=1), axis=1)
        return triangle, np.take_along_axis(np.take_along_axis(self.weights, order, axis=1), rank, axis=1)
