"""Renders one mesh frame by frame, with its light, shadows and background.

Imported only by the child process, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyrender
from OpenGL import GL

from kmtalk.render.camera import FIELD_OF_VIEW, Camera
from kmtalk.render.canvas import Canvas
from kmtalk.render.depth_maps import DepthMap, ambient_occlusion, orthographic
from kmtalk.render.posed_mesh import PosedMesh, VertexNormals
from kmtalk.render.surfaces import load_program, make_surfaces

# (direction towards the light in camera axes, linear colour) of the key, fill and rim light
LIGHTS = (
    ((-0.58, 0.50, 0.86), (0.98, 0.91, 0.83)),
    ((0.95, 0.12, 0.55), (0.17, 0.19, 0.22)),
    ((0.55, 0.55, -0.85), (0.55, 0.58, 0.62)),
)
SKY, GROUND = (0.36, 0.37, 0.40), (0.20, 0.175, 0.16)  # linear colours of the light from all around
HIDDEN = 0.25  # occlusion below which a vertex counts as inside the closed mouth
STUDIO = ((0.72, 0.735, 0.75), (0.40, 0.42, 0.45))  # sRGB in the middle and in the corners


@dataclass(frozen=True)
class Quality:
    """What a quality spends time on.

    Attributes:
        shadow_size: Width and height of the shadow map in texels.
        per_pixel: Whether light is computed for each pixel; otherwise for each vertex, except on wet surfaces.
        directions: Number of directions for the ambient occlusion.
        supersampling: Factor on width and height of what is drawn and averaged.
        card_shadows: Whether cards of hair, brows and lashes cast shadows of the key light.
        texture_size: Greatest width and height of textures in texels; larger ones are reduced.
    """

    shadow_size: int
    per_pixel: bool
    directions: int
    supersampling: float
    card_shadows: bool
    texture_size: int


QUALITIES = {"draft": Quality(384, False, 24, 1.0, False, 1024), "high": Quality(1024, True, 96, 1.25, True, 4096)}


class SceneRenderer:
    """Renders a mesh, updating its vertex buffers in place for each frame.

    Args:
        mesh: The mesh.
        camera: The first camera.
        size: Width and height in pixels.
        quality: A key of `QUALITIES`.
        background: Colour (3,) sRGB of 0 to 255, or None for a studio wall.
        share: A renderer whose OpenGL context is used; it is closed last. pyrender can close only one.
    """

    def __init__(
        self,
        mesh: PosedMesh,
        camera: Camera,
        size: tuple[int, int],
        quality: str = "draft",
        background: Sequence[int] | None = None,
        share: SceneRenderer | None = None,
    ) -> None:
        self.size, self._quality, self._background = size, QUALITIES[quality], background
        self._mesh = mesh
        self._normals = VertexNormals(mesh.faces, mesh.neutral)
        per_pixel, texture_size = self._quality.per_pixel, self._quality.texture_size
        self._surfaces = make_surfaces(mesh.appearance, mesh.faces, mesh.colors, per_pixel, texture_size)
        self._owns_context = share is None
        # the size is that of a framebuffer that is not used
        self._context: pyrender.OffscreenRenderer = (
            pyrender.OffscreenRenderer(16, 16) if share is None else share._context
        )
        self._context._platform.make_current()
        for surface in self._surfaces:
            surface.load()
            surface.compile(per_pixel)
        self._backdrop = load_program("background")
        self._canvas = Canvas(size, self._quality.supersampling)
        self._shadows = DepthMap(self._quality.shadow_size)
        self._bake_occlusion()
        self.look(camera)

    def _bake_occlusion(self) -> None:
        """Compute the ambient occlusion with the mouth as in the neutral and as wide open as it gets."""
        mesh, baked = self._mesh, []
        for vertices in (mesh.neutral, mesh.widest):
            normals = self._normals(vertices)
            self._upload(vertices, normals, np.ones(len(vertices), np.float32))
            baked.append(ambient_occlusion(self._surfaces, vertices, normals, self._quality.directions))
        closed, open_ = baked
        # light that is thrown back and forth between lips, teeth and tongue
        self._in_mouth = np.flatnonzero((closed < HIDDEN) & (open_ > closed))
        open_[self._in_mouth] = np.sqrt(open_[self._in_mouth])
        self._occlusion = closed, open_
        self._near_mouth = np.flatnonzero((closed < HIDDEN) & mesh.near_mouth)
        self._opening = mesh.mouth_opening(mesh.neutral)
        self._opening_range = mesh.mouth_opening(mesh.widest) - self._opening

    def look(self, camera: Camera) -> None:
        """Turn to a camera; the light moves with it."""
        self._context._platform.make_current()
        mesh, pose, (width, height) = self._mesh, camera.pose, self.size
        axes, position = pose[:3, :3], pose[:3, 3]
        target = position - axes[:, 2] * camera.distance
        low, high = mesh.low.min(0), mesh.high.max(0)
        depth = float(np.linalg.norm(high - low)) + float(np.linalg.norm(target - (low + high) / 2))
        near = max(camera.distance - depth, 0.05 * camera.distance)
        lens = pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, znear=near, zfar=camera.distance + depth)
        projection = lens.get_projection_matrix(width=width, height=height)
        directions = [axes @ (np.array(d) / np.linalg.norm(d)) for d, _ in LIGHTS]
        # the shadow map covers what is in the picture, and a little around it
        half = camera.distance * np.tan(FIELD_OF_VIEW / 2)
        radius = min(1.25 * half * max(1.0, width / height), float(np.linalg.norm(high - low)) / 2)
        middle = target if radius < float(np.linalg.norm(high - low)) / 2 else (low + high) / 2
        self._shadow_matrix = orthographic(directions[0], middle, radius, depth)
        texel = 2 * radius / self._quality.shadow_size
        blur = max(1.5 / self._quality.shadow_size, 0.012 * half / radius)  # in the map's coordinates
        to_texture = np.array([[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0.5], [0, 0, 0, 1]])
        uniforms: dict[str, np.ndarray | float] = {
            "view_projection": projection @ np.linalg.inv(pose),
            "shadow_matrix": to_texture @ self._shadow_matrix,
            "shadow_radius": blur,
            "shadow_bias": 2.4 * radius * blur + 1.5 * texel,
            "camera_position": position,
            "up": axes[:, 1],
            "sky_color": np.array(SKY),
            "ground_color": np.array(GROUND),
        }
        for n, (direction, (_, color)) in enumerate(zip(directions, LIGHTS, strict=True)):
            uniforms |= {f"light_directions[{n}]": direction, f"light_colors[{n}]": np.array(color)}
        for surface in self._surfaces:
            surface.program._bind()
            for name, value in uniforms.items():
                surface.program.set_uniform(name, value)
        self._canvas.set_background(self._draw_background)

    def _upload(self, vertices: np.ndarray, normals: np.ndarray, occlusion: np.ndarray) -> None:
        both = np.concatenate([vertices, normals], axis=1)
        for surface in self._surfaces:
            surface.upload(both, occlusion)

    def paint(self, colors: np.ndarray) -> None:
        """Set the vertex colours (V, 3), sRGB of 0 to 1."""
        for surface in self._surfaces:
            surface.paint(colors)

    def render(self, vertices: np.ndarray) -> np.ndarray:
        """Render vertices (V, 3) as a picture (H, W, 3) uint8."""
        self._context._platform.make_current()
        closed, open_ = self._occlusion
        amount = 0.0
        if self._opening_range > 0:
            opened = (self._mesh.mouth_opening(vertices) - self._opening) / self._opening_range
            amount = float(np.sqrt(np.clip(opened, 0, 1)))  # most of the light comes in with the first millimetres
        occlusion = closed + amount * (open_ - closed)
        # a tongue that comes out of the mouth, as at th, comes into the light, and so does the underside of one that
        # rises in an open mouth, as at l
        inside = self._near_mouth
        moved = vertices[inside] - self._mesh.neutral[inside] - self._mesh.head_shift(vertices)
        _, upward, forward = moved.T / self._mesh.mouth_width
        lit = np.clip(np.maximum(3 * forward, 9 * amount * upward), 0, 0.7)
        occlusion[inside] = np.maximum(occlusion[inside], lit)
        self._upload(vertices, self._normals(vertices), occlusion)
        casters = [s for s in self._surfaces if self._quality.card_shadows or not s.is_masked]
        self._shadows.draw(casters, self._shadow_matrix)
        self._canvas.begin()
        GL.glActiveTexture(GL.GL_TEXTURE0)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self._shadows.texture)
        GL.glBlendFunc(GL.GL_SRC_ALPHA, GL.GL_ONE_MINUS_SRC_ALPHA)
        for surface in self._surfaces:
            (GL.glEnable if surface.material.alpha_mode != "OPAQUE" else GL.glDisable)(GL.GL_BLEND)
            surface.draw()
        GL.glDisable(GL.GL_BLEND)
        return self._canvas.read()

    def _draw_background(self) -> None:
        """Draw a plain colour, or the studio wall."""
        color = (0, 0, 0) if self._background is None else self._background
        GL.glClearColor(*(c / 255 for c in color), 1.0)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)
        if self._background is not None:
            return
        self._backdrop._bind()
        width, height = self.size
        inner, outer = (np.array(c) for c in STUDIO)
        for name, value in (("inner_color", inner), ("outer_color", outer), ("aspect", width / height)):
            self._backdrop.set_uniform(name, value)
        GL.glDisable(GL.GL_CULL_FACE)
        GL.glDisable(GL.GL_DEPTH_TEST)
        no_vertices = GL.glGenVertexArrays(1)
        GL.glBindVertexArray(no_vertices)
        GL.glDrawArrays(GL.GL_TRIANGLES, 0, 3)
        GL.glBindVertexArray(0)
        GL.glDeleteVertexArrays(1, [no_vertices])

    def close(self) -> None:
        """Free the OpenGL context, unless it is another renderer's."""
        if self._owns_context:
            self._context.delete()
