"""The framebuffer that pictures are drawn in.

Imported only by the child process, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from OpenGL import GL


class Canvas:
    """A framebuffer that is drawn larger than the picture and averaged when it is read.

    With the small triangles of a head, software OpenGL draws larger pictures faster than multisampled ones.

    Args:
        size: Width and height of the picture in pixels.
        supersampling: Factor on both, from 1 to 2.
    """

    def __init__(self, size: tuple[int, int], supersampling: float) -> None:
        self.size = size
        self.drawn_size = (round(size[0] * supersampling), round(size[1] * supersampling))
        self._drawn, self._background = (self._make(self.drawn_size, depth) for depth in (True, False))
        self._picture = self._make(size, False)

    @staticmethod
    def _make(size: tuple[int, int], depth: bool) -> int:
        framebuffer: int = GL.glGenFramebuffers(1)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, framebuffer)
        buffers = [(GL.GL_RGBA8, GL.GL_COLOR_ATTACHMENT0)]
        if depth:
            buffers.append((GL.GL_DEPTH_COMPONENT24, GL.GL_DEPTH_ATTACHMENT))
        for form, attachment in buffers:
            buffer = GL.glGenRenderbuffers(1)
            GL.glBindRenderbuffer(GL.GL_RENDERBUFFER, buffer)
            GL.glRenderbufferStorage(GL.GL_RENDERBUFFER, form, *size)
            GL.glFramebufferRenderbuffer(GL.GL_FRAMEBUFFER, attachment, GL.GL_RENDERBUFFER, buffer)
        return framebuffer

    def set_background(self, draw: Callable[[], None]) -> None:
        """Draw the background once, for all pictures."""
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._background)
        GL.glViewport(0, 0, *self.drawn_size)
        draw()

    def begin(self) -> None:
        """Start a picture: the background, and nothing before it."""
        self._copy(self._background, self._drawn, self.drawn_size, self.drawn_size)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, self._drawn)
        GL.glViewport(0, 0, *self.drawn_size)
        GL.glEnable(GL.GL_DEPTH_TEST)
        GL.glDepthMask(GL.GL_TRUE)
        GL.glDepthFunc(GL.GL_LESS)
        GL.glClear(GL.GL_DEPTH_BUFFER_BIT)

    def read(self) -> np.ndarray:
        """Return the picture (H, W, 3) uint8."""
        framebuffer = self._drawn
        if self.drawn_size != self.size:
            framebuffer = self._picture
            self._copy(self._drawn, framebuffer, self.drawn_size, self.size)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, framebuffer)
        width, height = self.size
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        pixels = GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
        return np.ascontiguousarray(np.frombuffer(pixels, np.uint8).reshape(height, width, 3)[::-1])

    @staticmethod
    def _copy(source: int, target: int, source_size: tuple[int, int], target_size: tuple[int, int]) -> None:
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, source)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, target)
        filtering = GL.GL_NEAREST if source_size == target_size else GL.GL_LINEAR
        GL.glBlitFramebuffer(0, 0, *source_size, 0, 0, *target_size, GL.GL_COLOR_BUFFER_BIT, filtering)
