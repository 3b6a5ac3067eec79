"""GLBs in the Khronos validator."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from kmtalk.face.appearance import Appearance, Material


@pytest.fixture(scope="module")
def many_materials(spoken):
    """The animation with several materials, on a mesh with seams and a triangle without area."""
    template = spoken.template
    faces = np.concatenate([template.faces, [[len(template.vertices)] * 3]]).astype(np.int32)
    vertices = np.concatenate([template.vertices, template.vertices[:1]])
    materials = (
        Material("opaque", roughness=0.3),
        Material("cards", (0.2, 0.1, 0.1, 1.0), alpha_mode="MASK", double_sided=True),
        Material("glass", (1.0, 1.0, 1.0, 0.5), alpha_mode="BLEND"),
    )
    uv = np.random.default_rng(0).random((500, 2), np.float32)
    appearance = Appearance(materials, (np.arange(len(faces)) % 3).astype(np.uint8), uv, (faces * 7 + 3) % 500)
    rig = spoken.motion.rig
    offsets = np.concatenate([rig.offsets, rig.offsets[:, :1]], axis=1)
    changed = replace(template, vertices=vertices, faces=faces, appearance=appearance, colors=None)
    return replace(spoken, motion=replace(spoken.motion, rig=replace(rig, template=changed, offsets=offsets)))


@pytest.mark.slow
@pytest.mark.parametrize("bake", [False, True])
def test_the_validator_finds_no_errors(web, spoken, many_materials, tmp_path, bake):
    for animation in (spoken, many_materials):
        short = replace(animation, motion=replace(animation.motion, weights=animation.weights[:20]))
        short.save(tmp_path / "a.glb", bake=bake)
        command = ["npm", "run", "validate", "--silent", "--", str(tmp_path / "a.glb")]
        done = subprocess.run(command, cwd=web, capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        assert report["numErrors"] == 0, report["messages"]
