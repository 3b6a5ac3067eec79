"""Several meshes of one file put together as one."""

from __future__ import annotations

import numpy as np

from kmtalk.face.template import Template


class MeshMerger:
    """Grows mesh by mesh; blendshapes of one name on several of them (face, teeth, lashes) are one shape."""

    def __init__(self) -> None:
        self.count = 0
        self._vertices: list[np.ndarray] = [np.zeros((0, 3))]
        self._faces: list[np.ndarray] = [np.zeros((0, 3), np.int64)]
        self._colors: list[np.ndarray | None] = []
        self._shapes: list[tuple[int, str, np.ndarray]] = []
        self._parts: dict[str, list[np.ndarray]] = {}

    def add_mesh(self, label: str, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray | None = None) -> None:
        """Vertices (V, 3), triangles (F, 3) among them and colours (V, 3) sRGB 0 to 255."""
        self._vertices.append(vertices)
        self._faces.append(faces.astype(np.int64) + self.count)
        self._colors.append(colors)
        self._parts.setdefault(label, []).append(np.arange(self.count, self.count + len(vertices)))
        self.count += len(vertices)

    def add_shape(self, name: str, offsets: np.ndarray) -> None:
        """A blendshape (V, 3) of the mesh that was added last."""
        self._shapes.append((self.count - len(self._vertices[-1]), name, offsets))

    def build_template(self) -> Template:
        merged: dict[str, np.ndarray] = {}
        for start, name, offsets in self._shapes:
            merged.setdefault(name, np.zeros((self.count, 3), np.float32))[start : start + len(offsets)] += offsets
        painted = [c for c in self._colors if c is not None]
        return Template(
            np.concatenate(self._vertices).astype(np.float32),
            np.concatenate(self._faces).astype(np.int32),
            colors=np.round(np.concatenate(painted)).astype(np.uint8)
            if painted and len(painted) == len(self._colors)
            else None,
            shapes=merged,
            parts={label: np.concatenate(index) for label, index in self._parts.items()},
        )
