"""Shaded views of a mesh by ray casting: what a face detector looks at, without OpenGL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import vertex_normals

FIELD_OF_VIEW = np.radians(28.0)
KEY_LIGHT = np.array([0.40, 0.50, 0.77]) / np.linalg.norm([0.40, 0.50, 0.77])
FILL_LIGHT = np.array([-0.60, 0.10, 0.60]) / np.linalg.norm([-0.60, 0.10, 0.60])
CLAY_COLOR = np.array([0.82, 0.80, 0.78])


@dataclass(frozen=True)
class Camera:
    """Looks along the rotated mesh's -z: ``rotation`` (3, 3) takes mesh axes to the camera's (x right, y up, z
    to the viewer); ``center`` (3,) is in the middle, ``radius`` around it just fills the picture."""

    rotation: np.ndarray
    center: np.ndarray
    radius: float

    @property
    def eye(self) -> np.ndarray:
        distance = 1.05 / np.tan(FIELD_OF_VIEW / 2)
        return self.center + self.radius * distance * self.rotation[2]

    def ray_directions(self, points: np.ndarray) -> np.ndarray:
        """Unit directions (P, 3) in mesh axes through picture points (P, 2) in [0, 1], y down."""
        slope = np.tan(FIELD_OF_VIEW / 2)
        x, y = (2 * points[:, 0] - 1) * slope, (1 - 2 * points[:, 1]) * slope
        across = np.stack([x, y, -np.ones(len(points))], axis=1)
        return (across / np.linalg.norm(across, axis=1, keepdims=True)) @ self.rotation


class MeshViews:
    """One mesh, looked at from anywhere."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError:
            raise InputError(
                "finding a face on a mesh needs embreex: pip install 'kmtalk[fit]', or give --landmarks FILE"
            ) from None
        self.vertices, self.faces = np.asarray(vertices, np.float64), faces
        # within a unit ball, because the ray caster computes in float32
        self._middle = (self.vertices.min(0) + self.vertices.max(0)) / 2
        self._size = float(np.linalg.norm(self.vertices - self._middle, axis=1).max())
        unit = (self.vertices - self._middle) / self._size
        self._normals = vertex_normals(unit, faces)
        self._scene: Any = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, unit[faces].astype(np.float32))

    def frame_whole_mesh(self, rotation: np.ndarray) -> Camera:
        return Camera(rotation, self._middle, self._size)

    def cast_rays(self, camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays through picture points (P, 2) meet the mesh: triangles (P,), -1 for none, and
        barycentric coordinates (P, 3)."""
        directions = camera.ray_directions(points).astype(np.float32)
        origin = np.tile((camera.eye - self._middle) / self._size, (len(points), 1)).astype(np.float32)
        found = self._scene.run(origin, directions, output=True)
        triangle = np.asarray(found["primID"]).astype(np.int64)
        triangle[triangle >= len(self.faces)] = -1
        u, v = np.asarray(found["u"], np.float64), np.asarray(found["v"], np.float64)
        return triangle, np.stack([1 - u - v, u, v], axis=1)

    def render(self, camera: Camera, size: int) -> np.ndarray:
        """(size, size, 3) uint8 sRGB, clay on white, lit from the viewer's left and above."""
        line = (np.arange(size) + 0.5) / size
        grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        triangle, weights = self.cast_rays(camera, grid)
        seen = np.flatnonzero(triangle >= 0)
        normals = np.einsum("pk,pkx->px", weights[seen], self._normals[self.faces[triangle[seen]]])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        facing = np.einsum("px,px->p", normals, camera.ray_directions(grid[seen]))
        normals *= np.where(facing > 0, -1.0, 1.0)[:, None]
        normals = normals @ camera.rotation.T
        light = 0.22 + 0.62 * np.clip(normals @ KEY_LIGHT, 0, 1) + 0.25 * np.clip(normals @ FILL_LIGHT, 0, 1)
        out = np.ones((size * size, 3))
        out[seen] = np.clip(light[:, None] * CLAY_COLOR, 0, 1)
        return (out.reshape(size, size, 3) ** (1 / 1.3) * 255).astype(np.uint8)
