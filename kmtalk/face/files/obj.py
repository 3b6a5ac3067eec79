"""Wavefront OBJ reader."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError, describe_problem
from kmtalk.face.files.mesh_merge import MAX_TRIANGLES, MAX_VERTICES
from kmtalk.face.template import Template
from kmtalk.text_files import read_text_file

MAX_FILE_BYTES = 1 << 30
_COMMENT = re.compile(r"(?:^|\s)#")  # a name may contain the character, as head#1


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Lines of a file without their comments, and with backslash continuations joined."""
    pending = ""
    for written in lines:
        line = _COMMENT.split(written, maxsplit=1)[0].rstrip()  # a backslash in a comment continues nothing
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        yield pending + line
        pending = ""
    if pending:
        yield pending


def read_obj(path: Path) -> Template:
    """Read an OBJ file: vertices in file order, polygons as triangle fans, objects or groups, vertex colours.

    Raises InputError if the file is unreadable.
    """
    vertices: list[list[float]] = []
    colors: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    name, start, number = "", 0, 0
    try:
        lines = io.StringIO(read_text_file(path, "replace", MAX_FILE_BYTES), newline=None)
        for number, line in enumerate(_joined(lines), 1):  # noqa: B007 (for the error message)
            word, *rest = line.split() or [""]
            if word in ("v", "f") and "#" in line:
                rest = " ".join(rest).partition("#")[0].split()
            if word == "v":
                x, y, z = rest[:3]
                vertices.append([float(x), float(y), float(z)])
                if len(rest) >= 6:
                    colors.append([float(c) for c in rest[3:6]])
            elif word == "f":
                corner = [int(token.split("/")[0]) for token in rest]
                if 0 in corner:
                    raise ValueError("a face refers to vertex 0, but OBJ counts from 1")
                corner = [i - 1 if i > 0 else len(vertices) + i for i in corner]
                faces += [(corner[0], corner[k], corner[k + 1]) for k in range(1, len(corner) - 1)]
            elif word in ("o", "g"):
                spans[name].append((start, len(faces)))
                name, start = " ".join(rest), len(faces)
            if len(vertices) > MAX_VERTICES or len(faces) > MAX_TRIANGLES:
                raise InputError(
                    f"{path}: more than {MAX_VERTICES:,} vertices or {MAX_TRIANGLES:,} triangles; decimate the mesh"
                )
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a readable OBJ file (line {number}: {describe_problem(error)})") from None
    spans[name].append((start, len(faces)))
    try:
        triangles = np.array(faces, np.int32).reshape(-1, 3)
    except OverflowError as error:
        raise InputError(f"{path}: not a readable OBJ file ({error})") from None
    parts = {
        part: np.unique(np.concatenate([triangles[a:b].ravel() for a, b in ranges]))
        for part, ranges in spans.items()
        if part and any(b > a for a, b in ranges)
    }
    vertex_colors = None
    if colors and len(colors) == len(vertices):
        scale = 255.0 if max(map(max, colors)) <= 1.0 else 1.0
        vertex_colors = np.clip(np.round(np.array(colors) * scale), 0, 255).astype(np.uint8)
    return Template(np.array(vertices, np.float32).reshape(-1, 3), triangles, colors=vertex_colors, parts=parts)
