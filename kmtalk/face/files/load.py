"""Mesh files in: one reader a format, one check for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.gltf import read_gltf
from kmtalk.face.files.obj import read_obj
from kmtalk.face.files.usd import read_usd
from kmtalk.face.template import Template

NEUTRAL_NAMES = ("neutral", "base", "basis", "rest", "default", "mean", "template")
"""What the resting face is called in a folder of shapes."""


def load_template(path: str | Path) -> Template:
    """Read a mesh file, or a folder of OBJ files that are the shapes of one face; vertex order is kept, polygons
    become triangle fans, the file's own blendshapes come along.

    Raises InputError for a missing, unreadable, empty or damaged mesh.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(f"{path}: no such template; give a mesh file ({', '.join(READERS)})")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: not a mesh format kmtalk reads; export it as GLB, or as {', '.join(READERS)}")
    template = replace(READERS[suffix](path), name=path.stem, source=str(path))
    check_mesh(path, template)
    return template


def check_mesh(path: Path, template: Template) -> None:
    """Raise InputError where a mesh cannot be animated as it is."""
    vertices, faces = template.vertices, template.faces
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
    for name, offsets in template.shapes.items():
        if not np.isfinite(offsets).all():
            raise InputError(f"{path}: shape {name} holds what is not a finite number; repair the mesh")


def _read_folder(folder: Path) -> Template:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".obj")
    if not files:
        raise InputError(f"{folder}: a folder without OBJ files; give a mesh, or a folder of neutral.obj and shapes")
    resting = [p for p in files if p.stem.lower() in (*NEUTRAL_NAMES, folder.name.lower())]
    if len(resting) != 1:
        what = "no file" if not resting else "more than one"
        raise InputError(f"{folder}: {what} is the resting face; name it neutral.obj")
    neutral = load_template(resting[0])
    shapes = {}
    for path in files:
        if path == resting[0]:
            continue
        shape = read_obj(path)
        if len(shape.vertices) != len(neutral.vertices):
            raise InputError(
                f"{path}: {len(shape.vertices)} vertices, but {resting[0].name} has {len(neutral.vertices)}; "
                "export all shapes from one mesh, in one vertex order"
            )
        shapes[path.stem] = shape.vertices - neutral.vertices
    template = replace(neutral, shapes=shapes, name=folder.name, source=str(folder))
    check_mesh(folder, template)
    return template


def _read_with_trimesh(path: Path) -> Template:
    import trimesh

    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        colors = None
        if getattr(mesh, "visual", None) is not None and mesh.visual.kind == "vertex":
            colors = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(np.uint8)
    except Exception as error:
        raise InputError(f"{path}: not a readable mesh ({error})") from None
    vertices = np.asarray(mesh.vertices, np.float32).reshape(-1, 3)
    faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), np.int32).reshape(-1, 3)
    return Template(vertices, faces, colors=colors)


READERS: dict[str, Callable[[Path], Template]] = {
    ".obj": read_obj,
    ".ply": _read_with_trimesh,
    ".stl": _read_with_trimesh,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".usd": read_usd,
    ".usda": read_usd,
    ".usdc": read_usd,
    ".usdz": read_usd,
}
