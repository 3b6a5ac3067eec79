"""Mesh file reader for all formats, with one check of the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError, describe_problem
from kmtalk.face.files.fbx import glb_of_fbx
from kmtalk.face.files.gltf import read_gltf
from kmtalk.face.files.mesh_merge import MAX_TRIANGLES, MAX_VERTICES, check_shape_size
from kmtalk.face.files.obj import read_obj
from kmtalk.face.files.usd import read_usd
from kmtalk.face.shape_matching import read_shape_map
from kmtalk.face.template import Template
from kmtalk.user_files import check_user_file

MAX_FILE_BYTES = 1 << 30
"""What a file may hold: as much as an OBJ file of `MAX_VERTICES`."""
MIN_SIZE, MAX_SIZE = 1e-9, 1e9
"""Bounds of a mesh's size, in any unit, within which squares and products stay exact enough."""
MIN_SIZE_AT_DISTANCE = 1e-5
"""Least size of a mesh as a share of its distance from the origin; single precision then holds 0.6 % of it."""
MAX_SHAPE_SIZE = 1e3
"""How far a shape may move a vertex, in sizes of the mesh; shapes that hide a part move it by some."""

CHARACTER_SUFFIXES = (".glb", ".gltf", ".vrm", ".fbx")
"""Suffixes of files that come back as they were, with an animation more."""

NEUTRAL_NAMES = ("neutral", "base", "basis", "rest", "default", "mean", "template")
"""File names for the neutral face in a folder of shapes."""


def load_template(
    path: str | Path, node: str | None = None, head_bone: str | None = None, shape_map: str | Path | None = None
) -> Template:
    """Read a mesh file, or a folder of OBJ files that are the shapes of one face.

    The vertex order is kept and polygons become triangle fans; blendshapes in the file are read as well.

    Args:
        path: A mesh file (one of `READERS`) or a folder.
        node: Name of the node to read of a glTF file with several characters.
        head_bone: Name of the bone of a glTF file on which the head turns; None finds it.
        shape_map: YAML file that says what the file's blendshapes are (see `read_shape_map`).

    Returns:
        The mesh.

    Raises:
        InputError: If the mesh is missing, unreadable, empty or damaged.
    """
    path = Path(path)
    if (node or head_bone) and path.suffix.lower() not in CHARACTER_SUFFIXES:
        raise InputError(f"{path}: nodes and bones are chosen in {', '.join(CHARACTER_SUFFIXES)} files only")
    template = _read_folder(path) if path.is_dir() else _read_file(path, node, head_bone)
    return template if shape_map is None else replace(template, shape_map=read_shape_map(Path(shape_map), template))


def character_glb(path: Path) -> Path:
    """Return the glTF file of a character: the file itself, or what Blender makes of an FBX file."""
    return glb_of_fbx(path) if path.suffix.lower() == ".fbx" else path


def _read_file(path: Path, node: str | None, head_bone: str | None) -> Template:
    if not path.exists():
        raise InputError(f"{path}: template not found; pass a mesh file ({', '.join(READERS)})")
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"{path}: unsupported mesh format; export it as GLB or one of {', '.join(READERS)}")
    check_user_file(path, MAX_FILE_BYTES)
    is_character = suffix in CHARACTER_SUFFIXES
    read = read_gltf(character_glb(path), node, head_bone) if is_character else READERS[suffix](path)
    template = replace(read, name=path.stem, source=str(path))
    check_mesh(path, template)
    return template


def check_mesh(path: Path, template: Template) -> None:
    """Raise InputError if a mesh is empty or too large, or has values or faces that cannot be used."""
    vertices, faces = template.vertices, template.faces
    if len(vertices) == 0:
        raise InputError(f"{path}: the mesh has no vertices")
    if len(faces) == 0:
        raise InputError(f"{path}: the mesh has no faces (a point cloud?); export it with its polygons")
    if len(vertices) > MAX_VERTICES or len(faces) > MAX_TRIANGLES:
        raise InputError(
            f"{path}: {len(vertices):,} vertices and {len(faces):,} triangles; decimate the mesh to at most "
            f"{MAX_VERTICES:,} and {MAX_TRIANGLES:,}"
        )
    if not np.isfinite(vertices).all():
        first = int(np.flatnonzero(~np.isfinite(vertices).all(1))[0])
        raise InputError(f"{path}: vertex {first + 1} has a coordinate that is not finite; repair the mesh")
    if not np.ptp(vertices, axis=0).any():
        raise InputError(f"{path}: all vertices are at the same point; repair the mesh")
    size = float(np.linalg.norm(vertices.max(0).astype(np.float64) - vertices.min(0)))
    distance = float(np.abs(vertices).max())
    if not MIN_SIZE < size < MAX_SIZE:
        raise InputError(f"{path}: the mesh is {size:.2g} units in size; export it in metres, centimetres or the like")
    if size < MIN_SIZE_AT_DISTANCE * distance:
        raise InputError(
            f"{path}: the mesh, {size:.2g} units in size, is {distance:.2g} from the origin, where coordinates are too "
            "coarse for its form; move it to the origin"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{path}: a face refers to a vertex that does not exist; repair the mesh")
    for name, offsets in template.shapes.items():
        if not np.isfinite(offsets).all():
            raise InputError(f"{path}: shape {name} has a value that is not finite; repair the mesh")
        farthest = max(-float(offsets.min(initial=0)), float(offsets.max(initial=0)))
        if farthest > MAX_SHAPE_SIZE * size:
            raise InputError(
                f"{path}: shape {name} moves a vertex by {farthest:.2g} units, and the mesh is {size:.2g} in size; "
                "repair the mesh"
            )


def _read_folder(folder: Path) -> Template:
    """Read a folder of OBJ files: a neutral face and shapes of the same topology, named after their files."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".obj")
    if not files:
        raise InputError(
            f"{folder}: the folder has no OBJ files; pass a mesh file, or a folder with neutral.obj and its shapes"
        )
    neutral_files = [p for p in files if p.stem.lower() in (*NEUTRAL_NAMES, folder.name.lower())]
    if len(neutral_files) != 1:
        match_count = "no file" if not neutral_files else "more than one file"
        raise InputError(f"{folder}: {match_count} is named as the neutral face; name one neutral.obj")
    neutral = load_template(neutral_files[0])
    shapes = {}
    check_shape_size(len(files) - 1, len(neutral.vertices))
    for path in files:
        if path == neutral_files[0]:
            continue
        shape = read_obj(path)
        if len(shape.vertices) != len(neutral.vertices):
            raise InputError(
                f"{path}: {len(shape.vertices)} vertices, but {neutral_files[0].name} has {len(neutral.vertices)}; "
                "export all shapes from one mesh, with the same vertex order"
            )
        shapes[path.stem] = shape.vertices - neutral.vertices
    template = replace(neutral, shapes=shapes, name=folder.name, source=str(folder))
    check_mesh(folder, template)
    return template


def _read_with_trimesh(path: Path) -> Template:
    """Read a PLY or STL file."""
    import trimesh

    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        colors = None
        if getattr(mesh, "visual", None) is not None and mesh.visual.kind == "vertex":
            colors = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(np.uint8)
    except Exception as error:
        raise InputError(f"{path}: not a readable mesh ({describe_problem(error)}); export it again") from None
    vertices = np.asarray(mesh.vertices, np.float32).reshape(-1, 3)
    faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), np.int32).reshape(-1, 3)
    return Template(vertices, faces, colors=colors)


READERS: dict[str, Callable[[Path], Template]] = {
    ".obj": read_obj,
    ".ply": _read_with_trimesh,
    ".stl": _read_with_trimesh,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".vrm": read_gltf,
    ".fbx": lambda path: read_gltf(character_glb(path)),
    ".usd": read_usd,
    ".usda": read_usd,
    ".usdc": read_usd,
    ".usdz": read_usd,
}
