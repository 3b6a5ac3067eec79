"""Merge the meshes of a file into one."""

from __future__ import annotations

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.template import Template

MAX_VERTICES, MAX_TRIANGLES = 10_000_000, 20_000_000
"""What a mesh may have; one of six million vertices takes minutes."""
MAX_SHAPES, MAX_SHAPE_BYTES = 4096, 512 << 20
"""Blendshapes of a mesh, and what their offsets may take; 300 shapes of 149,000 vertices do."""


class MeshMerger:
    """Collects meshes; blendshapes with the same name on several meshes (face, teeth, lashes) become one shape."""

    def __init__(self) -> None:
        self.vertex_count = 0
        self._vertices: list[np.ndarray] = [np.zeros((0, 3))]
        self._faces: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
        self._colors: list[np.ndarray | None] = []
        self._shapes: list[tuple[int, str, np.ndarray]] = []
        self._parts: dict[str, list[np.ndarray]] = {}

    def add_mesh(self, label: str, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None = None) -> None:
        """Append a mesh.

        Args:
            label: Name of the mesh or node; meshes with the same label become one part.
            vertices: Vertices (V, 3).
            faces: Triangles (F, 3), as indices into `vertices`.
            colors: sRGB vertex colours (V, 3) from 0 to 255, if any.
        """
        self._vertices.append(vertices)
        self._faces.append(faces.astype(np.int64) + self.vertex_count)
        self._colors.append(colors)
        self._parts.setdefault(label, []).append(np.arange(self.vertex_count, self.vertex_count + len(vertices)))
        self.vertex_count += len(vertices)

    def add_shape(self, name: str, offsets: np.ndarray) -> None:
        """Append a blendshape (V, 3) of the mesh that was added last."""
        self._shapes.append((self.vertex_count - len(self._vertices[-1]), name, offsets.astype(np.float32)))

    def build_template(self) -> Template:
        """The merged mesh; vertex colours only if all meshes have them. Raises InputError for too many shapes."""
        count = len({name for _, name, _ in self._shapes})
        check_shape_size(count, self.vertex_count)
        merged: dict[str, np.ndarray] = {}
        for start, name, offsets in self._shapes:
            shape = merged.setdefault(name, np.zeros((self.vertex_count, 3), np.float32))
            shape[start : start + len(offsets)] += offsets
        colors = [c for c in self._colors if c is not None]
        return Template(
            np.concatenate(self._vertices).astype(np.float32),
            np.concatenate(self._faces).astype(np.int32),
            colors=np.round(np.concatenate(colors)).astype(np.uint8)
            if colors and len(colors) == len(self._colors)
            else None,
            shapes=merged,
            parts={label: np.concatenate(index) for label, index in self._parts.items()},
        )


def check_shape_size(count: int, vertices: int) -> None:
    """Raise InputError where `count` blendshapes of so many vertices would take too much memory."""
    if count > MAX_SHAPES or 12 * count * vertices > MAX_SHAPE_BYTES:
        raise InputError(
            f"has {count:,} blendshapes of {vertices:,} vertices, which take {12e-6 * count * vertices:,.0f} MB; "
            "export only those of the face, or a mesh with fewer vertices"
        )
