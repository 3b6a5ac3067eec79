"""A lighter surface that stands for a heavy one while shapes are fitted, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np

from kmtalk.face.geometry import SurfacePoints, nondegenerate_faces

CHUNK = 200_000  # vertices bound at once


@dataclass(frozen=True)
class ProxySurface:
    """``vertices`` (P, 3) and ``faces`` of the lighter surface; ``surface_points`` (V,) on it for every vertex of the
    heavy one, each among the triangles that the vertex was collapsed into, so that no lip is
    bound to the other."""

    vertices: np.ndarray
    faces: np.ndarray
    surface_points: SurfacePoints


def simplify_surface(vertices: np.ndarray, faces: np.ndarray, count: int) -> ProxySurface:
    """A surface of about ``count`` vertices (quadric error collapses)."""
    middle, size = vertices.mean(0), float(np.ptp(vertices, axis=0).max())
    unit = ((vertices - middle) / size).astype(np.float32)
    light, triangles, collapses = fast_simplification.simplify(
        unit, faces.astype(np.int32), 1 - min(count / len(vertices), 0.999), return_collapses=True
    )
    light, triangles, became = fast_simplification.replay_simplification(unit, faces.astype(np.int32), collapses)
    triangles = triangles[nondegenerate_faces(light, triangles)]
    around = _triangles_around(triangles, len(light))
    corners, weights = np.empty((len(vertices), 3), np.int64), np.empty((len(vertices), 3))
    for start in range(0, len(vertices), CHUNK):
        part = slice(start, start + CHUNK)
        candidates = around[became[part]]
        corner = triangles[np.maximum(candidates, 0)]
        share, away = closest_barycentric(light[corner].astype(np.float64), unit[part, None].astype(np.float64))
        away[candidates < 0] = np.inf
        best = away.argmin(1)
        rows = np.arange(len(best))
        corners[part], weights[part] = corner[rows, best], share[rows, best]
        lost = ~np.isfinite(away[rows, best])  # its point has no triangle left
        corners[part][lost], weights[part][lost] = became[part][lost, None], [1.0, 0.0, 0.0]
    return ProxySurface(
        light.astype(np.float64) * size + middle, triangles.astype(np.int64), SurfacePoints(corners, weights)
    )


def _triangles_around(faces: np.ndarray, count: int) -> np.ndarray:
    """Triangles around every vertex (V, K), filled up with -1."""
    order = np.argsort(faces.ravel(), kind="stable")
    owner = faces.ravel()[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    out = np.full((count, int(rank.max(initial=0)) + 1), -1)
    out[owner, rank] = order // 3
    return out[:, :16]


def closest_barycentric(triangles: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric coordinates (..., 3) of the places of triangles (..., 3, 3) near points (..., 3), clamped into
    the triangle, and their distances (...)."""
    a = triangles[..., 0, :]
    u, v, w = triangles[..., 1, :] - a, triangles[..., 2, :] - a, points - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    flat = np.maximum(uu * vv - uv**2, 1e-30)
    share = np.stack([np.zeros_like(flat), (vv * wu - uv * wv) / flat, (uu * wv - uv * wu) / flat], axis=-1)
    share[..., 0] = 1 - share[..., 1] - share[..., 2]
    share = np.clip(share, 0, None)
    share /= share.sum(-1, keepdims=True)
    away = np.linalg.norm((share[..., None] * triangles).sum(-2) - points, axis=-1)
    return share, away
