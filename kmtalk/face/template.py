"""Template: the neutral mesh that talks. Reading and checking of mesh files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError

READABLE = (".obj", ".ply", ".glb", ".gltf")


@dataclass(frozen=True)
class Template:
    """A neutral face mesh.

    ``vertices`` (V, 3) float32 in ``units``; ``faces`` (F, 3) int32 triangles; ``regions`` name →
    vertex indexes; ``landmarks`` name → vertex index; ``colors`` (V, 3) uint8 sRGB or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    units: str = "unknown"
    name: str = "template"
    colors: np.ndarray | None = None
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    landmarks: Mapping[str, int] = field(default_factory=dict)

    @property
    def mm_per_unit(self) -> float:
        """Millimetres in one unit, from the convention that outer eye corners are 90 mm apart."""
        left, right = self.landmarks["eye_outer_left"], self.landmarks["eye_outer_right"]
        return 90.0 / float(np.linalg.norm(self.vertices[left] - self.vertices[right]))


def load_template(path: str | Path) -> Template:
    """Read a mesh file; vertex order is kept, polygons become triangle fans.

    Raises InputError for a missing, unreadable, empty or damaged mesh.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such template; give a mesh file ({', '.join(READABLE)})")
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise InputError(f"{path}: not a mesh format kmtalk reads; use {', '.join(READABLE)}")
    vertices, faces = _read_obj(path) if suffix == ".obj" else _read_with_trimesh(path)
    check_mesh(path, vertices, faces)
    return Template(vertices=vertices, faces=faces, name=path.stem)


def check_mesh(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise InputError where a mesh cannot be animated as it is."""
    if len(vertices) == 0:
        raise InputError(f"{path}: the mesh has no vertices")
    if len(faces) == 0:
        raise InputError(f"{path}: the mesh has no faces (a point cloud?); export it with its polygons")
    if not np.isfinite(vertices).all():
        first = int(np.flatnonzero(~np.isfinite(vertices).all(1))[0])
        raise InputError(f"{path}: vertex {first + 1} is not a finite number; repair the mesh")
    if not np.ptp(vertices, axis=0).any():
        raise InputError(f"{path}: all vertices are at one point; repair the mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{path}: a face names a vertex that does not exist; repair the mesh")
    loose = np.setdiff1d(np.arange(len(vertices)), faces)
    if len(loose):
        raise InputError(
            f"{path}: {len(loose)} vertices belong to no face (first: {loose[0] + 1}); delete loose vertices first"
        )


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                word, *rest = line.split() or [""]
                if word == "v":
                    x, y, z = rest[:3]
                    vertices.append([float(x), float(y), float(z)])
                elif word == "f":
                    corner = [int(token.split("/")[0]) for token in rest]
                    corner = [i - 1 if i > 0 else len(vertices) + i for i in corner]
                    faces += [(corner[0], corner[k], corner[k + 1]) for k in range(1, len(corner) - 1)]
        return np.array(vertices, np.float32).reshape(-1, 3), np.array(faces, np.int32).reshape(-1, 3)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"{path}: not a readable OBJ file ({error})") from None


def _read_with_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
    except Exception as error:
        raise InputError(f"{path}: not a readable mesh ({error})") from None
    faces = getattr(mesh, "faces", np.zeros((0, 3)))
    return np.asarray(mesh.vertices, np.float32).reshape(-1, 3), np.asarray(faces, np.int32).reshape(-1, 3)


def write_obj(path: Path, template: Template, comment: str = "") -> None:
    """Write vertices and triangles as OBJ, in order, without normals or groups."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        if comment:
            file.write(f"# {comment}\n")
        for x, y, z in template.vertices:
            file.write(f"v {x:.7g} {y:.7g} {z:.7g}\n")
        for a, b, c in template.faces + 1:
            file.write(f"f {a} {b} {c}\n")


def edges(faces: np.ndarray) -> np.ndarray:
    """Unique undirected edges (E, 2) of triangles, smaller index first."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) of one mesh."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(vertices.shape, np.float64)
    for k in range(3):
        np.add.at(normals, faces[:, k], flat)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1.0)
