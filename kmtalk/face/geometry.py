"""Operations on triangle meshes: seam welding, components, gradients, geodesic distances, surface points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra

from kmtalk.face.template import edge_counts, unique_edges, vertex_normals

TRIANGLE_SOUP_RATIO = 2.5  # vertices per triangle from which a mesh counts as a soup of separate triangles
SOUP_NORMAL_COSINE = -0.7  # the same as below, for triangle soups, where creases have diverging normals as well
MAX_COINCIDENT = 256  # vertices at one position: each is compared with as many of the next ones
SEAM_NORMAL_COSINE = 0.3  # least cosine between normals of coincident vertices that belong to one surface


def nondegenerate_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mask (F,) of triangles with an area: three distinct corners, and not too thin for float32."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    double_area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    longest_squared = np.maximum(np.maximum(((b - a) ** 2).sum(1), ((c - b) ** 2).sum(1)), ((a - c) ** 2).sum(1))
    has_area: np.ndarray = double_area > 1e-6 * longest_squared
    return has_area & (longest_squared > 0)


def boundary_edges(faces: np.ndarray) -> np.ndarray:
    """Edges (B, 2) that belong to a single triangle."""
    edges, face_count = edge_counts(faces)
    return edges[face_count == 1]


def count_nonmanifold_edges(faces: np.ndarray) -> int:
    """Number of edges that more than two triangles share."""
    return int((edge_counts(faces)[1] > 2).sum())


def weld_seams(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Find vertices that a file duplicates along seams of one surface: glTF at texture seams, STL everywhere.

    Border vertices at exactly the same position are welded if their normals are similar, directly or through a
    chain of others. Lips that touch have opposite normals and stay separate.

    Args:
        vertices: Vertices (V, 3).
        faces: Triangles (F, 3).

    Returns:
        Index (V,) of the vertex that represents each vertex; its own where it is not welded.
    """
    representative = np.arange(len(vertices))
    index = np.unique(boundary_edges(faces))
    if not len(index):
        return representative
    normals = vertex_normals(vertices.astype(np.float64), faces)[index]
    _, position = np.unique(np.ascontiguousarray(vertices[index]), axis=0, return_inverse=True)
    min_cosine = SEAM_NORMAL_COSINE if len(vertices) < TRIANGLE_SOUP_RATIO * len(faces) else SOUP_NORMAL_COSINE
    order = np.argsort(position.ravel(), kind="stable")
    index, position, normals = index[order], position.ravel()[order], normals[order]
    group = np.arange(len(index))  # of the vertices that are found to be one so far
    for step in range(1, min(int(np.bincount(position).max()), MAX_COINCIDENT)):
        first = np.flatnonzero(position[step:] == position[:-step])
        first = first[group[first] != group[first + step]]
        agree = np.einsum("ij,ij->i", normals[first], normals[first + step]) > min_cosine
        rows, columns = group[first[agree]], group[first[agree] + step]
        if len(rows):
            graph = sp.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (len(index), len(index)))
            group = connected_components(graph, directed=False)[1][group]
    first_in_group = np.full(int(group.max()) + 1, len(vertices))
    np.minimum.at(first_in_group, group, index)
    representative[index] = first_in_group[group]
    return representative


def component_labels(count: int, faces: np.ndarray) -> np.ndarray:
    """Label (V,) of the connected component of each of `count` vertices."""
    rows, columns = faces[:, :2].ravel(), faces[:, 1:].ravel()
    graph = sp.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (count, count))
    return connected_components(graph, directed=False)[1]


def edge_length_graph(vertices: np.ndarray, faces: np.ndarray) -> sp.csr_matrix:
    """Edge lengths as a symmetric sparse matrix (V, V)."""
    ends = unique_edges(faces)
    length = np.maximum(np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1), 1e-12)
    rows, columns = np.r_[ends[:, 0], ends[:, 1]], np.r_[ends[:, 1], ends[:, 0]]
    return sp.csr_matrix((np.r_[length, length], (rows, columns)), (len(vertices), len(vertices)))


def geodesic_distance(graph: sp.csr_matrix, sources: np.ndarray) -> np.ndarray:
    """Distance (V,) along edges to the nearest of the vertices `sources`; inf where no path exists."""
    if not len(sources):
        return np.full(graph.shape[0], np.inf)
    distance: np.ndarray = dijkstra(graph, indices=sources, min_only=True)
    return distance


def gradient_operator(vertices: np.ndarray, faces: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Gradient operator of piecewise linear functions on a mesh.

    Returns:
        Sparse matrix (3F, V) whose rows 3f to 3f + 2 are the gradient's axes in triangle f, and the triangles' areas
        (F,).
    """
    corners = vertices[faces].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(normal, axis=1)
    safe_area = np.maximum(double_area, 1e-12 * double_area.max())
    unit_normal = normal / safe_area[:, None]
    gradient = np.stack(
        [
            np.cross(unit_normal, corners[:, (k + 2) % 3] - corners[:, (k + 1) % 3]) / safe_area[:, None]
            for k in range(3)
        ],
        axis=1,
    )  # (F, corner, axis)
    rows = np.repeat(np.arange(3 * len(faces)).reshape(-1, 1, 3), 3, axis=1)
    columns = np.repeat(faces[:, :, None], 3, axis=2)
    shape = (3 * len(faces), len(vertices))
    return sp.csr_matrix((gradient.ravel(), (rows.ravel(), columns.ravel())), shape), double_area / 2


def sample_triangles(faces: np.ndarray, samples_per_triangle: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample 1, 4, 6 or 10 points in every triangle, always at the same barycentric coordinates.

    Returns:
        Triangle (S,) and barycentric coordinates (S, 3) of each point.
    """
    third = 1 / 3
    barycentric = [[third, third, third]]
    barycentric += [[2 / 3, 1 / 6, 1 / 6], [1 / 6, 2 / 3, 1 / 6], [1 / 6, 1 / 6, 2 / 3]]
    barycentric += [[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    barycentric += [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    weights = np.array(barycentric[:samples_per_triangle])
    return np.repeat(np.arange(len(faces)), samples_per_triangle), np.tile(weights, (len(faces), 1))


def interpolate_barycentric(
    values: np.ndarray, faces: np.ndarray, triangle: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Interpolate `values` (V, ...) at vertices to points (P, ...) in triangles.

    The points are given by `triangle` (P,), which indexes `faces`, and barycentric `weights` (P, 3).
    """
    out: np.ndarray = np.einsum("pk,pk...->p...", weights, values[faces[triangle]])
    return out


def displacement_gradients(vertices: np.ndarray, faces: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Displacement gradients of blendshapes at vertices.

    They are computed per triangle, with the normal as an additional edge (Sumner & Popović 2004, section 3), and
    averaged over each vertex's triangles with their areas as weights.

    Args:
        vertices: Vertices (V, 3) at rest.
        faces: Triangles (F, 3).
        offsets: Blendshapes (R, V, 3).

    Returns:
        Gradients (R, V, 3, 3) float32: rows are the displacement's axes, columns the axes of space.
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
    face_to_vertex = sp.csr_matrix((np.repeat(area, 3), (faces.ravel(), np.repeat(np.arange(len(faces)), 3))), shape)
    vertex_area = np.maximum(np.asarray(face_to_vertex.sum(1)).ravel(), 1e-20)[:, None]
    gradients = np.empty((len(offsets), len(vertices), 9), np.float32)
    for row, displacement in enumerate(offsets):
        gradient = frame(corners + displacement[faces])[0] @ inverse - np.eye(3)
        gradients[row] = (face_to_vertex @ gradient.reshape(-1, 9)) / vertex_area
    return gradients.reshape(len(offsets), -1, 3, 3)


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a mesh's triangles.

    Attributes:
        corners: Vertex indices (P, 3) of each point's triangle.
        weights: Barycentric coordinates (P, 3).
    """

    corners: np.ndarray
    weights: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Interpolate values (..., V, 3) at vertices to the points (..., P, 3)."""
        out: np.ndarray = np.einsum("pk,...pkx->...px", self.weights, values[..., self.corners, :])
        return out

    def matrix(self, count: int) -> sp.csr_matrix:
        """The interpolation as a sparse matrix (P, `count`), for a mesh of `count` vertices."""
        rows = np.repeat(np.arange(len(self.corners)), 3)
        return sp.csr_matrix((self.weights.ravel(), (rows, self.corners.ravel())), (len(self.corners), count))

    def remap(self, vertex_index: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Express the points on a mesh whose vertices are renumbered.

        Args:
            vertex_index: New index (V,) of each vertex.
            faces: Triangles (F, 3) of the renumbered mesh.

        Returns:
            Triangle (P,) and barycentric coordinates (P, 3) of each point.
        """
        corners = vertex_index[self.corners]
        order = np.argsort(corners, axis=1)
        rows = {tuple(face): row for row, face in enumerate(np.sort(faces, axis=1).tolist())}
        triangle = np.array([rows[tuple(c)] for c in np.take_along_axis(corners, order, axis=1).tolist()])
        rank = np.argsort(np.argsort(faces[triangle], axis=1), axis=1)
        return triangle, np.take_along_axis(np.take_along_axis(self.weights, order, axis=1), rank, axis=1)


def invert_maps(linear: np.ndarray) -> np.ndarray:
    """Return the inverses (P, 3, 3) of each vertex's map (P, 3, 3), and pseudoinverses of those that have none."""
    volume, size = np.abs(np.linalg.det(linear)), np.linalg.norm(linear, axis=(1, 2))
    singular = volume <= 1e-12 * size**3
    out = np.zeros_like(linear)
    out[~singular] = np.linalg.inv(linear[~singular])
    out[singular] = np.linalg.pinv(linear[singular])
    return out
