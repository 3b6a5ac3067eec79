"""Depth maps seen from far away along a direction: shadows of a light, and ambient occlusion.

Imported only by the child process, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

import numpy as np
from OpenGL import GL

from kmtalk.render.camera import look_at
from kmtalk.render.surfaces import Surface

CARD_LIGHT = 0.3  # least fraction of light that reaches a card of hair, brows or lashes


class DepthMap:
    """A square depth texture with an orthographic camera.

    Args:
        size: Width and height in texels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.texture = GL.glGenTextures(1)
        GL.glBindTexture(GL.GL_TEXTURE_2D, self.texture)
        GL.glTexImage2D(
            *(GL.GL_TEXTURE_2D, 0, GL.GL_DEPTH_COMPONENT24, size, size, 0),
            *(GL.GL_DEPTH_COMPONENT, GL.GL_FLOAT, None),
        )
        for name, value in (
            (GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR),
            (GL.GL_TEXTURE_MAG_FILTER, GL.GL_LINEAR),
            (GL.GL_TEXTURE_WRAP_S, GL.GL_CLAMP_TO_EDGE),
            (GL.GL_TEXTURE_WRAP_T, GL.GL_CLAMP_TO_EDGE),
            (GL.GL_TEXTURE_COMPARE_MODE, GL.GL_COMPARE_REF_TO_TEXTURE),
            (GL.GL_TEXTURE_COMPARE_FUNC, GL.GL_LEQUAL),
        ):
            GL.glTexParameteri(GL.GL_TEXTURE_2D, name, value)
        self._framebuffer = GL.glGenFramebuffers(1)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_DEPTH_ATTACHMENT, GL.GL_TEXTURE_2D, self.texture, 0)
        GL.glDrawBuffer(GL.GL_NONE)
        GL.glReadBuffer(GL.GL_NONE)

    def draw(self, surfaces: list[Surface], matrix: np.ndarray) -> None:
        """Draw the surfaces' depth with the projection `matrix` (4, 4)."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        GL.glViewport(0, 0, self.size, self.size)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthFunc(GL.GL_LESS)
        GL.glClear(GL.GL_DEPTH_BUFFER_BIT)
        for surface in surfaces:
            surface.draw_depth(matrix)

    def read(self) -> np.ndarray:
        """The depths (H, W) float32, 0 (near) to 1, the lowest row first."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._framebuffer)
        depths = GL.glReadPixels(0, 0, self.size, self.size, GL.GL_DEPTH_COMPONENT, GL.GL_FLOAT)
        return np.frombuffer(depths, np.float32).reshape(self.size, self.size)

    def delete(self) -> None:
        """Free the texture."""
        GL.glDeleteFramebuffers(1, [self._framebuffer])
        GL.glDeleteTextures([self.texture])


def orthographic(direction: np.ndarray, centre: np.ndarray, radius: float, depth: float) -> np.ndarray:
    """Matrix (4, 4) that projects along `direction`, which points to the viewer.

    A square of half width `radius` around `centre` becomes -1 to 1, and depths up to `depth` before and behind it.
    """
    view = np.linalg.inv(look_at(centre + direction, centre))
    view[2, 3] += 1  # the viewer stands at the centre
    scale: np.ndarray = np.diag([1 / radius, 1 / radius, -1 / depth, 1.0])
    return scale @ view


def ambient_occlusion(
    surfaces: list[Surface], vertices: np.ndarray, normals: np.ndarray, directions: int, size: int = 384
) -> np.ndarray:
    """Fraction (V,) float32 of the light from all around that reaches each vertex, by depth maps from all sides.

    Args:
        surfaces: The surfaces, with `vertices` uploaded.
        vertices: Vertices (V, 3).
        normals: Their normals (V, 3).
        directions: Number of directions.
        size: Width and height of the depth maps in texels.
    """
    low, high = vertices.min(0), vertices.max(0)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    depth_map = DepthMap(size)
    n = np.arange(directions) + 0.5
    height, angle = 1 - 2 * n / directions, np.pi * (1 + 5**0.5) * n  # Fibonacci sphere
    ring = np.sqrt(1 - height**2)
    sphere = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], axis=1)
    texel = 2 * radius / size
    # tested one texel above the surface, so that a triangle does not hide its own corners
    points = np.concatenate([vertices + normals * texel, np.ones((len(vertices), 1))], axis=1)
    two_sided = np.zeros(len(vertices), bool)
    for surface in surfaces:
        two_sided[surface.vertices] |= surface.is_masked
    total, open_ = np.full(len(vertices), 1e-6), np.zeros(len(vertices))
    for direction in sphere:
        matrix = orthographic(direction, centre, radius, radius)
        depth_map.draw(surfaces, matrix)
        depths = depth_map.read()
        weight = np.where(two_sided, 0.5, np.clip(normals @ direction, 0, None))
        x, y, z = (points @ matrix[:3].T * 0.5 + 0.5).T
        column, row = (np.clip((c * size).astype(int), 0, size - 1) for c in (x, y))
        visible = z <= depths[row, column] + 0.75 / size
        total += weight
        open_ += weight * visible
    depth_map.delete()
    # a card of hair lies on others and receives light from the half that is open, and some through them
    fraction = np.where(two_sided, CARD_LIGHT + (1 - CARD_LIGHT) * np.clip(1.6 * open_ / total, 0, 1), open_ / total)
    return fraction.astype(np.float32)
