"""Template: the neutral mesh that talks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Template:
    """A neutral face mesh.

    ``vertices`` (V, 3) float32 in ``units``; ``faces`` (F, 3) int32 triangles; ``regions`` name →
    vertex indexes; ``landmarks`` name → vertex index; ``colors`` (V, 3) uint8 sRGB or None.
    As read from a file: ``shapes`` name → offsets (V, 3), its own blendshapes; ``parts`` object name → vertices;
    ``preview_colors`` (V, 3) are colours
    for looking at a mesh that brings none; files never get them. ``source`` is the file.
    """

    vertices: np.ndarray
    faces: np.ndarray
    units: str = "unknown"
    name: str = "template"
    colors: np.ndarray | None = None
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    landmarks: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    preview_colors: np.ndarray | None = None
    source: str = ""

    @property
    def display_name(self) -> str:
        """What messages call it: its file, or its name."""
        return self.source or self.name

    @property
    def mm_per_unit(self) -> float:
        """Millimetres in one unit, from the convention that outer eye corners are 90 mm apart."""
        left, right = self.landmarks["eye_outer_left"], self.landmarks["eye_outer_right"]
        return 90.0 / float(np.linalg.norm(self.vertices[left] - self.vertices[right]))


def write_obj(path: Path, template: Template, comment: str = "") -> None:
    """Write vertices and triangles as OBJ, in order, without normals or groups."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        if comment:
            file.write(f"# {comment}\n")
        for x, y, z in template.vertices:
            file.write(f"v {x:.7g} {y:.7g} {z:.7g}\n")
        for a, b, c in template.faces + 1:
            file.write(f"f {a} {b} {c}\n")


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """Unique undirected edges (E, 2) of triangles, smaller index first."""
    return edge_counts(faces)[0]


def edge_counts(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, and of how many triangles each is a side (E,)."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    low, high = pairs.min(1), pairs.max(1)
    span = int(high.max(initial=0)) + 1
    keys, counts = np.unique(low * span + high, return_counts=True)  # one number an edge: rows sort far slower
    return np.stack([keys // span, keys % span], axis=1), counts


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) of one mesh."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(vertices.shape, np.float64)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, k], flat[:, axis], len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1.0)
