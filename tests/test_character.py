"""The user's own character comes back as it was, talking."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy

import numpy as np
import pytest
from avatars import skinned_vertices
from characters import write_avatar
from conftest import SPEECH

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.files.gltf_bones import find_bones
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.rig import ARKIT_NAMES


def animated(talk, spoken, folder, rig, shapes=ARKIT_NAMES):
    write_avatar(folder / "avatar.glb", rig, shapes)
    animation = talk.animate(SPEECH, folder / "avatar.glb", textgrid=spoken.alignment)
    animation.save(folder / "out.glb")
    return animation, *(GlbFile.of(GltfDocument.load(folder / name)) for name in ("avatar.glb", "out.glb"))


def without_additions(document, before):
    """The document without what was added: its lists cut to their former length, targets to their former number."""
    out = deepcopy(document)
    for key in ("accessors", "bufferViews", "animations"):
        out[key] = out[key][: len(before[key])]
    out["buffers"][0]["byteLength"] = before["buffers"][0]["byteLength"]
    for mesh, old in zip(out["meshes"], before["meshes"], strict=True):
        for primitive, former in zip(mesh["primitives"], old["primitives"], strict=True):
            if "targets" in primitive:
                primitive["targets"] = primitive["targets"][: len(former.get("targets", []))]
                if not primitive["targets"]:
                    del primitive["targets"]
        if "extras" in mesh and "extras" in old:
            mesh["extras"]["targetNames"] = mesh["extras"]["targetNames"][: len(old["extras"]["targetNames"])]
            mesh["weights"] = mesh["weights"][: len(old["weights"])]
        elif "extras" in mesh:
            del mesh["extras"]
    return out


@pytest.mark.parametrize("shapes", [ARKIT_NAMES, ()], ids=["arkit", "none"])
@pytest.mark.slow
def test_the_same_file_comes_back_with_one_animation_more(talk, spoken, light_rig, tmp_path, web, shapes):
    animation, before, after = animated(talk, spoken, tmp_path, light_rig, shapes)
    assert bytes(after.data[: len(before.data)]) == bytes(before.data)
    assert without_additions(after.document, before.document) == before.document
    assert [a["name"] for a in after.document["animations"]] == ["wave", "kmtalk"]
    made = after.document["animations"][-1]
    assert made["extras"]["words"] and made["extras"]["fps"] == 30
    for frame in (10, 60, 150):
        shown = skinned_vertices(tmp_path / "out.glb", "kmtalk", frame, 30.0)
        assert np.abs(shown - animation.vertices[frame]).max() * animation.template.mm_per_unit < 0.01
    done = subprocess.run(
        ["npm", "run", "validate", "--silent", "--", str(tmp_path / "out.glb")],
        cwd=web, capture_output=True, text=True, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["numErrors"] == 0, report["messages"]


@pytest.mark.parametrize(
    "name",
    [
        "Head",
        "mixamorig:Head",
        "mixamorigHead",
        "CC_Base_Head",
        "J_Bip_C_Head",
        "Bip01 Head",
        "DEF-spine.006",
        "head.x",
    ],
)
def test_the_head_bone_is_found_by_its_name(name):
    document = {"nodes": [{"name": "Hips"}, {"name": "HeadTop_End"}, {"name": name}], "skins": [{"joints": [0, 1, 2]}]}
    assert find_bones(document)["head"] == 2
    assert not find_bones({"nodes": [{"name": "Forehead"}, {"name": "Ahead"}], "skins": [{"joints": [0, 1]}]})
    vrm = {"nodes": [{}, {}], "extensions": {"VRMC_vrm": {"humanoid": {"humanBones": {"head": {"node": 1}}}}}}
    assert find_bones(vrm) == {"head": 1}
    assert find_bones(
        {"nodes": [{}], "extensions": {"VRM": {"humanoid": {"humanBones": [{"bone": "head", "node": 0}]}}}}
    ) == {"head": 0}


def test_an_animation_knows_its_character_later(kmtalk, spoken, talk, light_rig, tmp_path):
    animation = animated(talk, spoken, tmp_path, light_rig)[0]
    animation.save(tmp_path / "talk.npz")
    done = kmtalk("export", "talk.npz", "-o", "again.glb")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.glb").read_bytes() == (tmp_path / "out.glb").read_bytes()
    write_avatar(tmp_path / "avatar.glb", light_rig, shapes=())
    (tmp_path / "avatar.glb").rename(tmp_path / "moved.glb")
    gone = kmtalk("export", "talk.npz", "-o", "gone.glb")
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1 and "no longer there" in gone.stderr
    assert not (tmp_path / "gone.glb").exists()
    assert kmtalk("export", "talk.npz", "-o", "face.glb", "--bake").returncode == 0
