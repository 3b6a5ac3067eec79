"""The template, which is the neutral mesh to be animated, and functions on triangle meshes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmtalk.face.appearance import Appearance
from kmtalk.face.joints import Joint


@dataclass(frozen=True)
class Template:
    """A neutral face mesh.

    Attributes:
        vertices: (V, 3) float32 in `units`.
        faces: (F, 3) int32 triangles.
        units: Unit of length, such as "m"; "unknown" where the file does not say.
        name: Name of the mesh.
        colors: (V, 3) uint8 sRGB vertex colours, or None.
        regions: Region name → vertex indices.
        landmarks: Landmark name → vertex index.
        shapes: Blendshapes of the file: name → offsets (V, 3).
        parts: Objects of the file: name → vertex indices.
        preview_colors: (V, 3) vertex colours for rendering a mesh without colours of its own; they are not
            exported.
        appearance: Materials, textures and texture coordinates, or None.
        source: Path of the file.
        node: Name of the file's node that was read; empty where all were.
        joints: Bones of the file on which head and eyes turn.
        expressions: VRM's expressions: name → blendshape → weight.
        shape_map: What the user says of blendshapes: name → standard shape, or empty to leave it alone.
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
    appearance: Appearance | None = None
    source: str = ""
    node: str = ""
    joints: tuple[Joint, ...] = ()
    expressions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shape_map: Mapping[str, str] = field(default_factory=dict)

    @property
    def display_name(self) -> str:
        """The name for messages: the path of the file, or else `name`."""
        return self.source or self.name

    @property
    def mm_per_unit(self) -> float:
        """Millimetres per unit, by the convention that the outer eye corners are 90 mm apart."""
        left, right = self.landmarks["eye_outer_left"], self.landmarks["eye_outer_right"]
        return 90.0 / float(np.linalg.norm(self.vertices[left] - self.vertices[right]))


def write_obj(path: Path, template: Template, comment: str = "") -> None:
    """Write vertices and triangles as OBJ, in their order, without normals or groups."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        if comment:
            file.write(f"# {comment}\n")
        for x, y, z in template.vertices:
            file.write(f"v {x:.7g} {y:.7g} {z:.7g}\n")
        for a, b, c in template.faces + 1:
            file.write(f"f {a} {b} {c}\n")


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """Return the unique undirected edges (E, 2) of triangles, smaller index first."""
    return edge_counts(faces)[0]


def edge_counts(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of `unique_edges` and, for each, the number of triangles that share it (E,)."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    low, high = pairs.min(1), pairs.max(1)
    span = int(high.max(initial=0)) + 1
    keys, counts = np.unique(low * span + high, return_counts=True)  # one integer per edge: sorting rows is far slower
    return np.stack([keys // span, keys % span], axis=1), counts


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return area-weighted unit vertex normals (V, 3)."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(vertices.shape, np.float64)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, k], face_normals[:, axis], len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1.0)
