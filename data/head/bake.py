"""Bakes textures: a mesh drawn in texture space, noise in space, occlusion, and normals of a height field."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates


def rasterize(
    uv: np.ndarray, uv_faces: np.ndarray, corner_values: np.ndarray, size: int, order: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate values over triangles in texture space.

    Triangles that texture space shows from behind, where a projection folds, are left out.

    Args:
        uv: (U, 2) texture coordinates, origin at the upper left.
        uv_faces: (F, 3) texture coordinates of the triangles' corners.
        corner_values: (F, 3, C) values of the corners.
        size: Width and height of the texture.
        order: (F,) where triangles overlap, the one with the highest order is drawn. None for any.

    Returns:
        The image (size, size, C) float32 and which texels are covered, (size, size) bool.
    """
    corners = uv[uv_faces].astype(np.float64) * size - 0.5
    image = np.zeros((size, size, corner_values.shape[2]), np.float32)
    covered = np.zeros((size, size), bool)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.maximum(np.ceil(corners.min(1) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(corners.max(1) + 1e-6), size - 1).astype(int)
    sequence = np.arange(len(uv_faces)) if order is None else np.argsort(order, kind="stable")
    for f in sequence[area[sequence] < -1e-9]:
        (x0, y0), (x1, y1) = low[f], high[f]
        if x1 < x0 or y1 < y0:
            continue
        x, y = np.arange(x0, x1 + 1)[None], np.arange(y0, y1 + 1)[:, None]
        (ax, ay), (bx, by), (cx, cy) = corners[f]
        wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area[f]
        wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area[f]
        wc = 1 - wa - wb
        inside = (wa >= -1e-6) & (wb >= -1e-6) & (wc >= -1e-6)
        if not inside.any():
            continue
        weights = np.stack([wa[inside], wb[inside], wc[inside]], axis=1)
        image[y0 : y1 + 1, x0 : x1 + 1][inside] = weights @ corner_values[f]
        covered[y0 : y1 + 1, x0 : x1 + 1] |= inside
    return image, covered


def dilate(image: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Give every texel that is not covered the value of the nearest one that is."""
    rows, columns = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.asarray(image[rows, columns])


class Noise:
    """Smooth random fields in space, with mean 0 and standard deviation 1, which repeat after 64 wavelengths."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, points: np.ndarray, wavelength: float | tuple[float, float, float], number: int) -> np.ndarray:
        """Return field `number` at points (..., 3); `wavelength` is the size of its details in mm, or one per axis."""
        lattice = np.random.default_rng([self._seed, number]).standard_normal((64, 64, 64)).astype(np.float32)
        at = (points / (np.asarray(wavelength) / 2)).reshape(-1, 3).T.astype(np.float32)
        # without a prefilter the spline smooths the lattice, to a third of its standard deviation
        out = map_coordinates(lattice, at, order=3, mode="grid-wrap", prefilter=False, output=np.float32)
        return np.asarray(out.reshape(points.shape[:-1]) / 0.332)


def occlusion(
    points: np.ndarray, normals: np.ndarray, triangles: np.ndarray, rays: int = 192, reach: float = 90.0
) -> np.ndarray:
    """Return the share of the sky that is visible from points (V, 3) on a mesh: 1 in the open, 0 when enclosed.

    Args:
        points: (V, 3) positions.
        normals: (V, 3) unit normals.
        triangles: (F, 3, 3) corners of the triangles that hide the sky.
        rays: Number of directions, distributed as the cosine to the normal.
        reach: Length beyond which nothing hides.
    """
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, triangles.astype(np.float32))
    k = np.arange(rays) + 0.5
    radius, turn = np.sqrt(k / rays), k * np.pi * (3 - np.sqrt(5))  # sunflower
    disk = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)], axis=1)
    side = np.where(np.abs(normals[:, [1]]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    u = np.cross(side, normals)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    frame = np.stack([u, np.cross(normals, u), normals], axis=1)
    visible = np.zeros(len(points))
    start = (points + 0.15 * normals).astype(np.float32)
    for direction in disk:
        distance = scene.run(start, (direction @ frame).astype(np.float32), query="DISTANCE")
        visible += np.clip(distance / reach, 0, 1)
    return visible / rays


def smooth_on_mesh(values: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Average values (V,) with those of the neighbouring vertices, `rounds` times."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = sp.csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (len(values), len(values)))
    graph = graph + graph.T + sp.eye(len(values))
    graph = sp.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph
    for _ in range(rounds):
        values = graph @ values
    return values


def normal_map(height: np.ndarray, positions: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Return the tangent-space normals of a height field as an image (H, W, 3) uint8: red along u, green against v.

    Args:
        height: (H, W) height in mm.
        positions: (H, W, 3) position of each texel in mm, which gives the size of texels.
        strength: Factor on the slopes.
    """
    size_v, size_u = (
        np.clip(np.linalg.norm(gaussian_filter(np.gradient(positions, axis=a), (3, 3, 0)), axis=2), 0.06, 3.0)
        for a in (0, 1)
    )
    dv, du = np.gradient(height)
    x, y = -strength * du / size_u, strength * dv / size_v
    scale = 1 / np.sqrt(1 + x * x + y * y)
    return to_bytes(np.stack([x * scale, y * scale, scale], axis=2) / 2 + 0.5)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
