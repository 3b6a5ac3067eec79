"""Parts that grow from the skin of the default head (hair, brows, lashes) or lie on it (clothes).

Each vertex of a part is anchored to a point of the skin; `bind` lets the part follow every shape of the skin.
Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from kmtalk.face.appearance import Material
from kmtalk.face.geometry import SurfacePoints
from kmtalk.face.proxy_surface import project_onto_triangles

FRAME_POINTS = 24  # nearest skin vertices whose motion gives a vertex its rotation


@dataclass(frozen=True)
class Anchors:
    """Where the n vertices of a part are attached to a skin of V vertices.

    Attributes:
        surface: The points of the skin that the vertices translate with.
        frame: Sparse matrix (n K, V) whose products with skin vertices are, for each vertex, K points that move like
            a rigid body together with it; their rotation turns the vertex about its surface point.
    """

    surface: SurfacePoints
    frame: sp.csr_matrix


@dataclass(frozen=True)
class Part:
    """A part of the head with its look.

    Attributes:
        vertices: Vertices (n, 3) in mm.
        faces: Triangles (m, 3) int32, counter-clockwise from outside.
        uv: Texture coordinates (u, 2), origin at the upper left.
        uv_faces: Texture coordinates (m, 3) int32 of the triangles' corners, as indices into `uv`.
        material: Its material.
        anchors: Its attachment to the skin, or None if it stays still.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    material: Material
    anchors: Anchors | None = None


def closest_points(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> SurfacePoints:
    """Return the points of a mesh that are closest to points (P, 3), among the 24 triangles with nearest centres."""
    triangles = vertices[faces]
    _, near = cKDTree(triangles.mean(1)).query(points, k=min(24, len(faces)))
    weights, distance = project_onto_triangles(triangles[near], points[:, None])
    best = distance.argmin(1)
    rows = np.arange(len(points))
    return SurfacePoints(faces[near[rows, best]], weights[rows, best])


def anchor(roots: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> Anchors:
    """Anchor vertices to the skin (V, 3), (F, 3) at the points closest to their roots (n, 3)."""
    surface = closest_points(roots, vertices, faces)
    index = np.unique(faces)
    _, near = cKDTree(vertices[index]).query(surface(vertices), k=FRAME_POINTS)
    columns = index[near].ravel()
    frame = sp.csr_matrix((np.ones(len(columns)), columns, np.arange(len(columns) + 1)), (len(columns), len(vertices)))
    return Anchors(surface, frame)


def bind(part: Part, vertices: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the offsets of a part under shapes of the skin.

    Each vertex moves rigidly with the skin around its anchor: with the translation of the anchor and with the
    rotation that fits its frame points best.

    Args:
        part: The part, of n vertices.
        vertices: Skin vertices (V, 3) at rest.
        offsets: Shapes of the skin (R, V, 3), at weight 1.

    Returns:
        Offsets (R, n, 3).
    """
    anchors, count = part.anchors, len(part.vertices)
    if anchors is None:
        return np.zeros((len(offsets), count, 3))
    arms = part.vertices - anchors.surface(vertices)
    rest = (anchors.frame @ vertices).reshape(count, -1, 3)
    rest -= rest.mean(1, keepdims=True)
    out = anchors.surface(offsets).astype(np.float64)
    for row, shape in enumerate(offsets):
        motion = (anchors.frame @ shape).reshape(count, -1, 3)
        motion -= motion.mean(1, keepdims=True)
        turned = np.flatnonzero(np.abs(motion).max((1, 2)) > 1e-6)
        if len(turned):
            turn = fit_rotations(rest[turned], rest[turned] + motion[turned])
            out[row, turned] += np.einsum("nij,nj->ni", turn - np.eye(3), arms[turned])
    return out


def fit_rotations(rest: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return the rotations (n, 3, 3) that best map centred points (n, K, 3) to moved ones (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("nki,nkj->nij", rest, moved))
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    vt[:, 2] *= sign[:, None]
    return np.einsum("nij,njk->nki", u, vt)


def merge(parts: list[Part]) -> Part:
    """Join anchored parts of one material into one."""
    starts = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    uv_starts = np.cumsum([0] + [len(p.uv) for p in parts[:-1]])
    anchors = [p.anchors for p in parts if p.anchors is not None]
    surfaces = [a.surface for a in anchors]
    return Part(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.faces + np.int32(start) for p, start in zip(parts, starts, strict=True)]),
        np.concatenate([p.uv for p in parts]),
        np.concatenate([p.uv_faces + np.int32(start) for p, start in zip(parts, uv_starts, strict=True)]),
        parts[0].material,
        Anchors(
            SurfacePoints(np.concatenate([s.corners for s in surfaces]), np.concatenate([s.weights for s in surfaces])),
            sp.vstack([a.frame for a in anchors]).tocsr(),
        ),
    )


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Return the triangles (m, 3) int32 of a grid of vertices, row by row."""
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    quads = np.stack([a, a + columns, a + columns + 1, a + 1], axis=1)
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) at length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
