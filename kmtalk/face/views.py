"""Renders shaded views of a mesh by ray casting, without OpenGL, for the face detector."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import vertex_normals

FIELD_OF_VIEW = np.radians(28.0)
KEY_LIGHT = np.array([0.40, 0.50, 0.77]) / np.linalg.norm([0.40, 0.50, 0.77])
FILL_LIGHT = np.array([-0.60, 0.10, 0.60]) / np.linalg.norm([-0.60, 0.10, 0.60])
RAYS_AT_ONCE, MAX_SECONDS = 2048, 2.0
"""Rays cast by one call, and the time that the rays of one view may take; those of a usual mesh take 0.1 s."""
CLAY_COLOR = np.array([0.82, 0.80, 0.78])


@dataclass(frozen=True)
class Camera:
    """A perspective camera with field of view `FIELD_OF_VIEW`. Its axes are x right, y up and z towards the viewer.

    Attributes:
        rotation: (3, 3) rotation from mesh axes to camera axes.
        center: (3,) point in the middle of the image.
        radius: Radius of the sphere around `center` that just fits the image.
    """

    rotation: np.ndarray
    center: np.ndarray
    radius: float

    @property
    def eye(self) -> np.ndarray:
        """Position (3,) of the camera in mesh coordinates."""
        distance = 1.05 / np.tan(FIELD_OF_VIEW / 2)
        return self.center + self.radius * distance * self.rotation[2]

    def ray_directions(self, points: np.ndarray) -> np.ndarray:
        """Return unit ray directions (P, 3), in mesh axes, through image points (P, 2) in [0, 1], y down."""
        slope = np.tan(FIELD_OF_VIEW / 2)
        x, y = (2 * points[:, 0] - 1) * slope, (1 - 2 * points[:, 1]) * slope
        rays = np.stack([x, y, -np.ones(len(points))], axis=1)
        return (rays / np.linalg.norm(rays, axis=1, keepdims=True)) @ self.rotation


class MeshViews:
    """Casts rays at one mesh and renders it from any camera. Raises InputError if embreex is not installed."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError:
            raise InputError(
                "face detection on a mesh needs embreex: pip install 'kmtalk[fit]', or pass --landmarks FILE"
            ) from None
        self.vertices = np.asarray(vertices, np.float64)
        # scaled into the unit ball, because the ray caster computes in float32
        self._middle = (self.vertices.min(0) + self.vertices.max(0)) / 2
        self._size = float(np.linalg.norm(self.vertices - self._middle, axis=1).max())
        unit = (self.vertices - self._middle) / self._size
        self._normals = vertex_normals(unit, faces)
        self.faces = faces = _without_repeats(faces)
        self._scene: Any = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, unit[faces].astype(np.float32))

    def frame_whole_mesh(self, rotation: np.ndarray) -> Camera:
        """Return a camera of the given rotation (3, 3) that shows the whole mesh."""
        return Camera(rotation, self._middle, self._size)

    def cast_rays(self, camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Intersect rays through image points with the mesh.

        Args:
            camera: The camera.
            points: (P, 2) image points in [0, 1], y down.

        Returns:
            The first triangle of `faces` that is hit (P,), -1 for none, and the barycentric coordinates (P, 3) of the
            hit.

        Raises:
            TimeoutError: So many triangles lie over one another that the rays take too long.
        """
        directions = camera.ray_directions(points).astype(np.float32)
        origin = np.tile((camera.eye - self._middle) / self._size, (len(points), 1)).astype(np.float32)
        triangle = np.full(len(points), -1)
        u, v = np.zeros((2, len(points)))
        end = time.process_time() + MAX_SECONDS  # of work: a busy machine is no fault of the mesh
        for start in range(0, len(points), RAYS_AT_ONCE):  # between two calls, Python heeds signals
            part = slice(start, start + RAYS_AT_ONCE)
            hits = self._scene.run(origin[part], directions[part], output=True)
            triangle[part], u[part], v[part] = hits["primID"], hits["u"], hits["v"]
            if time.process_time() > end:
                raise TimeoutError(
                    "so many of its triangles lie over one another that the search for a face takes too long; repair "
                    "the mesh, or pass --landmarks FILE"
                )
        triangle[triangle >= len(self.faces)] = -1
        return triangle, np.stack([1 - u - v, u, v], axis=1)

    def render(self, camera: Camera, size: int) -> np.ndarray:
        """Render the mesh in one matte colour on white, lit from two sides.

        Returns:
            (size, size, 3) uint8 sRGB image.
        """
        line = (np.arange(size) + 0.5) / size
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        triangle, weights = self.cast_rays(camera, grid)
        hit = np.flatnonzero(triangle >= 0)
        normals = np.einsum("pk,pkx->px", weights[hit], self._normals[self.faces[triangle[hit]]])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        facing = np.einsum("px,px->p", normals, camera.ray_directions(grid[hit]))
        normals *= np.where(facing > 0, -1.0, 1.0)[:, None]
        normals = normals @ camera.rotation.T
        light = 0.22 + 0.62 * np.clip(normals @ KEY_LIGHT, 0, 1) + 0.25 * np.clip(normals @ FILL_LIGHT, 0, 1)
        out = np.ones((size * size, 3))
        out[hit] = np.clip(light[:, None] * CLAY_COLOR, 0, 1)
        return (out.reshape(size, size, 3) ** (1 / 1.3) * 255).astype(np.uint8)


def _without_repeats(faces: np.ndarray) -> np.ndarray:
    """The triangles (F, 3), each set of three vertices once: a ray meets its repeats at the same point."""
    ordered = np.sort(faces, axis=1)
    order = np.lexsort(ordered.T)
    repeats = (ordered[order[1:]] == ordered[order[:-1]]).all(1)
    if not repeats.any():
        return faces
    return np.delete(faces, order[1:][repeats], axis=0)
