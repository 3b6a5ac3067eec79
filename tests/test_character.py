"""The user's own character comes back as it was, talking."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy

import numpy as np
import pytest
from characters import BONES, write_avatar
from conftest import SPEECH
from scipy.spatial.transform import Rotation

from kmtalk.exchange.character import find_head_bone
from kmtalk.exchange.glb_file import GlbFile
from kmtalk.expression.head import DEGREES_PER_WEIGHT
from kmtalk.face.files.gltf import _GltfFile
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES


def values(path, accessor):
    return _GltfFile(path).read_accessor(accessor)


def animated(talk, spoken, folder, rig, shapes=ARKIT_NAMES):
    write_avatar(folder / "avatar.glb", rig, shapes)
    animation = talk.animate(SPEECH, folder / "avatar.glb", textgrid=spoken.alignment)
    animation.save(folder / "out.glb")
    return animation, GlbFile.load(folder / "avatar.glb"), GlbFile.load(folder / "out.glb")


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


def pose_of(path, file, node, frame):
    """Vertices of a mesh's node at a frame in its own space, before skinning, by the animation's weights."""
    document = file.document
    animation = document["animations"][-1]
    mesh = document["meshes"][document["nodes"][node]["mesh"]]
    primitive = mesh["primitives"][0]
    out = values(path, primitive["attributes"]["POSITION"]).astype(np.float64)
    channels = [c for c in animation["channels"] if c["target"] == {"node": node, "path": "weights"}]
    for channel in channels:
        targets = primitive["targets"]
        sampler = animation["samplers"][channel["sampler"]]
        weights = values(path, sampler["output"]).reshape(-1, len(targets))[frame]
        for weight, target in zip(weights, targets, strict=True):
            if weight:
                out += weight * values(path, target["POSITION"])
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
    # vertices, without the head's turn, which is on the bone
    weights = animation.weights.copy()
    weights[:, [animation.shape_names.index(n) for n in HEAD_NAMES]] = 0
    frames = [10, 60, 150]
    expected = animation.motion.rig.vertices(weights[frames])
    nodes = [k for k, n in enumerate(after.document["nodes"]) if "mesh" in n]
    for row, frame in enumerate(frames):
        shown = np.concatenate([pose_of(tmp_path / "out.glb", after, node, frame) for node in nodes])
        assert np.abs(shown - expected[row]).max() * animation.template.mm_per_unit < 0.1
    # the head bone turns as far as the head does, about the same axes in space
    bone = 1 + BONES.index("Head")
    (turn,) = [c for c in made["channels"] if c["target"] == {"node": bone, "path": "rotation"}]
    quaternions = values(tmp_path / "out.glb", made["samplers"][turn["sampler"]]["output"])
    rest = Rotation.from_quat(after.document["nodes"][bone]["rotation"])
    degrees = np.degrees((Rotation.from_quat(quaternions) * rest.inv()).magnitude())
    pairs = (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))
    curves = {n: animation.weights[:, animation.shape_names.index(n)] for n in HEAD_NAMES}
    turned = DEGREES_PER_WEIGHT * np.stack([curves[a] - curves[b] for a, b in pairs], 1)
    assert np.abs(degrees - np.linalg.norm(turned, axis=1)).max() < 0.7
    assert degrees.max() > 3
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
    assert find_head_bone(document) == 2
    assert find_head_bone({"nodes": [{"name": "Forehead"}, {"name": "Ahead"}], "skins": [{"joints": [0, 1]}]}) is None
    vrm = {"nodes": [{}, {}], "extensions": {"VRMC_vrm": {"humanoid": {"humanBones": {"head": {"node": 1}}}}}}
    assert find_head_bone(vrm) == 1
    assert (
        find_head_bone(
            {"nodes": [{}], "extensions": {"VRM": {"humanoid": {"humanBones": [{"bone": "head", "node": 0}]}}}}
        )
        == 0
    )


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
