"""A simplified copy of a dense surface, on which shapes are fitted, and the mapping back to the dense one."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np

from kmtalk.face.geometry import SurfacePoints, nondegenerate_faces

VERTICES_PER_CHUNK = 200_000  # dense vertices bound to the proxy at once, to limit memory

MAX_TRIANGLES_AROUND = 16  # of a vertex, among which a dense vertex is bound to one


@dataclass(frozen=True)
class ProxySurface:
    """A simplified surface and the points on it that stand for the vertices of the dense surface.

    Attributes:
        vertices: (P, 3) vertices of the simplified surface.
        faces: (F, 3) its triangles.
        surface_points: (V,) a point on the simplified surface for each dense vertex. The point lies on a
            triangle around the vertex that the dense vertex collapsed into, so that no vertex of one lip is
            bound to the other lip.
    """

    vertices: np.ndarray
    faces: np.ndarray
    surface_points: SurfacePoints


def simplify_surface(vertices: np.ndarray, faces: np.ndarray, count: int) -> ProxySurface:
    """Simplify a surface (V, 3) to about `count` vertices by edge collapses with the quadric error metric."""
    middle, size = vertices.mean(0), float(np.ptp(vertices, axis=0).max())
    unit = ((vertices - middle) / size).astype(np.float32)
    simplified, triangles, collapses = fast_simplification.simplify(
        unit, faces.astype(np.int32), 1 - min(count / len(vertices), 0.999), return_collapses=True
    )
    simplified, triangles, collapsed_into = fast_simplification.replay_simplification(
        unit, faces.astype(np.int32), collapses
    )
    triangles = triangles[nondegenerate_faces(simplified, triangles)]
    around = _triangles_around(triangles, len(simplified))
    corners, weights = np.empty((len(vertices), 3), np.int64), np.empty((len(vertices), 3))
    for start in range(0, len(vertices), VERTICES_PER_CHUNK):
        part = slice(start, start + VERTICES_PER_CHUNK)
        candidates = around[collapsed_into[part]]
        corner = triangles[np.maximum(candidates, 0)]
        coordinates, distance = project_onto_triangles(
            simplified[corner].astype(np.float64), unit[part, None].astype(np.float64)
        )
        distance[candidates < 0] = np.inf
        best = distance.argmin(1)
        rows = np.arange(len(best))
        corners[part], weights[part] = corner[rows, best], coordinates[rows, best]
        orphaned = ~np.isfinite(distance[rows, best])  # no triangle is left around the vertex
        corners[part][orphaned], weights[part][orphaned] = collapsed_into[part][orphaned, None], [1.0, 0.0, 0.0]
    return ProxySurface(
        simplified.astype(np.float64) * size + middle, triangles.astype(np.int64), SurfacePoints(corners, weights)
    )


def _triangles_around(faces: np.ndarray, count: int) -> np.ndarray:
    """Return the triangles around every vertex, (V, K) with K up to `MAX_TRIANGLES_AROUND`, padded with -1."""
    order = np.argsort(faces.ravel(), kind="stable")
    owner = faces.ravel()[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = rank < MAX_TRIANGLES_AROUND
    out = np.full((count, MAX_TRIANGLES_AROUND), -1)
    out[owner[kept], rank[kept]] = order[kept] // 3
    return out[:, : int(rank.max(initial=0)) + 1]


def project_onto_triangles(triangles: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project points onto triangles.

    Coordinates outside a triangle are clipped to it and rescaled, so the result is near the closest point but
    not always the closest one.

    Args:
        triangles: (..., 3, 3) corners of the triangles.
        points: (..., 3).

    Returns:
        Barycentric coordinates (..., 3) of the projected points, and their distances (...) from `points`.
    """
    a = triangles[..., 0, :]
    u, v, w = triangles[..., 1, :] - a, triangles[..., 2, :] - a, points - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    det = np.maximum(uu * vv - uv**2, 1e-30)
    share = np.stack([np.zeros_like(det), (vv * wu - uv * wv) / det, (uu * wv - uv * wu) / det], axis=-1)
    share[..., 0] = 1 - share[..., 1] - share[..., 2]
    share = np.clip(share, 0, None)
    share /= share.sum(-1, keepdims=True)
    distance = np.linalg.norm((share[..., None] * triangles).sum(-2) - points, axis=-1)
    return share, distance
