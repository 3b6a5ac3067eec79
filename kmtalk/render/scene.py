"""Renders one face with one camera, frame by frame, with pyrender.

Imported only by the child process, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyrender
import scipy.sparse as sp
from OpenGL import GL
from pyrender.platforms import osmesa as osmesa_platform

BACKGROUND = (0.93, 0.94, 0.96)  # sRGB
SKIN = (0.80, 0.66, 0.58)  # sRGB, for templates without colours
FIELD_OF_VIEW = np.radians(18.0)  # vertical

# (direction towards the light in camera axes, colour) of the key, fill and rim light
LIGHTS = (
    ((-0.55, 0.60, 0.85), (0.78, 0.75, 0.71)),
    ((0.90, 0.10, 0.60), (0.24, 0.26, 0.29)),
    ((0.35, 0.75, -0.90), (0.30, 0.30, 0.30)),
)
AMBIENT = 0.20


class VertexNormals:
    """Computes smooth vertex normals for one topology: sparse incidence matrix × face cross products."""

    def __init__(self, faces: np.ndarray, count: int) -> None:
        self._corners = [np.ascontiguousarray(faces[:, k]) for k in range(3)]
        data = (np.ones(3 * len(faces), np.float32), (faces.ravel(), np.repeat(np.arange(len(faces)), 3)))
        self._incidence = sp.csr_matrix(data, shape=(count, len(faces)))

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals (V, 3) float32 of vertices (V, 3)."""
        a, b, c = (vertices.take(corner, axis=0) for corner in self._corners)
        b -= a
        c -= a
        cross = np.empty_like(a)
        cross[:, 0] = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
        cross[:, 1] = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
        cross[:, 2] = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
        out = self._incidence @ cross
        length = np.sqrt(np.einsum("ij,ij->i", out, out))
        return out / np.where(length > 0, length, 1)[:, None]


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Camera pose (4, 4) at `eye` that looks at `target`, y up."""
    z = (eye - target) / np.linalg.norm(eye - target)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, eye
    return pose


def frame_camera(points: np.ndarray, aspect: float, yaw: float, pitch: float) -> tuple[np.ndarray, float]:
    """Pose (4, 4) and distance of the nearest camera that has all points (P, 3) in view.

    Args:
        points: Points (P, 3).
        aspect: Width of the picture over its height.
        yaw: Horizontal view angle in radians.
        pitch: Vertical view angle in radians.
    """
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    axes = look_at(direction, np.zeros(3))[:3, :3]
    projected = points @ axes
    centre = (projected.min(0) + projected.max(0)) / 2
    projected = projected - centre
    tangent = np.tan(FIELD_OF_VIEW / 2)
    distance_for_height = np.abs(projected[:, 1]) / tangent + projected[:, 2]
    distance_for_width = np.abs(projected[:, 0]) / (tangent * aspect) + projected[:, 2]
    distance = float(max(distance_for_height.max(), distance_for_width.max())) * 1.05
    target = axes @ centre
    return look_at(target + direction * distance, target), distance


class _Renderer(pyrender.Renderer):
    """Reads back the colour buffer only: reading the unused depth buffer would double the cost."""

    def _read_main_framebuffer(self, scene: pyrender.Scene, flags: int) -> np.ndarray:
        width, height = self._main_fb_dims
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._main_fb_ms)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, self._main_fb)
        GL.glBlitFramebuffer(0, 0, width, height, 0, 0, width, height, GL.GL_COLOR_BUFFER_BIT, GL.GL_LINEAR)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._main_fb)
        pixels = GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)[::-1]


class _OSMesa(osmesa_platform.OSMesaPlatform):
    """OSMesa with framebuffer objects, which multisampling needs."""

    def supports_framebuffers(self) -> bool:
        return True


class _Offscreen(pyrender.OffscreenRenderer):
    _platform: Any
    _renderer: Any

    def _create(self) -> None:
        super()._create()
        if isinstance(self._platform, osmesa_platform.OSMesaPlatform):
            self._renderer.delete()
            self._platform.delete_context()
            self._platform = _OSMesa(self.viewport_width, self.viewport_height)
            self._platform.init_context()
            self._platform.make_current()
        self._renderer = _Renderer(self.viewport_width, self.viewport_height)


class SceneRenderer:
    """Renders a face, updating its vertex buffer in place for each frame.

    Args:
        vertices: Vertices of the first frame (V, 3), y up, z forward.
        faces: Triangles (F, 3).
        colors: Vertex colours (V, 3) sRGB of 0 to 255, or None.
        view_points: Points (P, 3) that the camera has in view.
        size: Width and height in pixels.
        quality: "draft" lights each vertex in numpy and draws unlit; "high" lights each pixel in OpenGL at twice the
            size and averages.
        yaw: Horizontal view angle in radians.
        pitch: Vertical view angle in radians.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        colors: np.ndarray | None,
        view_points: np.ndarray,
        size: tuple[int, int],
        quality: str = "draft",
        yaw: float = 0.18,
        pitch: float = 0.04,
    ) -> None:
        self.size, self.high = size, quality == "high"
        width, height = (2 * s for s in size) if self.high else size
        self._paint(np.tile(SKIN, (len(vertices), 1)) if colors is None else colors / 255.0)
        corners = vertices[faces]
        volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
        faces = faces if volume > 0 else np.ascontiguousarray(faces[:, ::-1])  # orient outwards
        self._normals = VertexNormals(faces, len(vertices))
        pose, distance = frame_camera(view_points, width / height, yaw, pitch)
        self._lights = [(_unit(pose[:3, :3] @ np.array(d)), np.array(c, np.float32)) for d, c in LIGHTS]
        # per vertex: position (3), normal (3), colour (4)
        self._buffer = np.ones((len(vertices), 10), np.float32)
        self._fill(vertices)
        self._primitive = pyrender.Primitive(
            positions=self._buffer[:, :3].copy(),
            normals=self._buffer[:, 3:6].copy(),
            color_0=self._buffer[:, 6:].copy(),
            indices=faces,
            mode=4,
            material=pyrender.MetallicRoughnessMaterial(
                baseColorFactor=[1.0, 1.0, 1.0, 1.0],
                metallicFactor=0.0,
                roughnessFactor=0.55,
                doubleSided=False,  # drawing back faces takes a third of the time
            ),
        )
        self._scene = pyrender.Scene(bg_color=[*BACKGROUND, 1.0], ambient_light=[AMBIENT] * 3)
        self._scene.add(pyrender.Mesh([self._primitive]))
        camera = pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, znear=distance * 0.3, zfar=distance * 2.5)
        self._scene.add(camera, pose=pose)
        if self.high:
            for direction, color in self._lights:
                light = pyrender.DirectionalLight(color=color / color.max(), intensity=float(color.max()) * np.pi)
                self._scene.add(light, pose=look_at(direction, np.zeros(3)))
        self._flags = pyrender.RenderFlags.NONE if self.high else pyrender.RenderFlags.FLAT
        self._renderer = _Offscreen(width, height)
        self._renderer.render(self._scene, self._flags)  # uploads the buffers once

    def _fill(self, vertices: np.ndarray) -> None:
        normals = self._normals(vertices)
        self._buffer[:, :3], self._buffer[:, 3:6] = vertices, normals
        if self.high:
            self._buffer[:, 6:9] = self._albedo
            return
        light = np.full(self._albedo.shape, AMBIENT, np.float32)
        for direction, color in self._lights:
            # wrap lighting: approximates subsurface scattering in skin
            lambert = np.clip((normals @ direction.astype(np.float32) + 0.15) / 1.15, 0, None)
            light += lambert[:, None] * color
        self._buffer[:, 6:9] = np.clip(self._albedo * light, 0, 1) ** (1 / 2.2)

    def _paint(self, srgb: np.ndarray) -> None:
        self._albedo = (srgb**2.2).astype(np.float32)

    def render(self, vertices: np.ndarray, colors: np.ndarray | None = None) -> np.ndarray:
        """Render vertices (V, 3) as a picture (H, W, 3) uint8; `colors` (V, 3), sRGB of 0 to 1, recolour it."""
        if colors is not None:
            self._paint(colors)
        self._fill(vertices)
        self._renderer._platform.make_current()
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._primitive._buffers[0])
        GL.glBufferSubData(GL.GL_ARRAY_BUFFER, 0, self._buffer.nbytes, self._buffer)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, 0)
        picture = self._renderer.render(self._scene, self._flags)
        if self.high:
            width, height = self.size
            picture = picture.reshape(height, 2, width, 2, 3).mean((1, 3), dtype=np.float32).astype(np.uint8)
        return np.ascontiguousarray(picture)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.delete()


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
