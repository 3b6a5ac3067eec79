"""Meshes as other programs write them (shared/cases): each is read and written as it should be."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from conftest import SHARED, beginning, needs_shared

from kmtalk import KMTalk
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.files.load import load_template

pytestmark = [pytest.mark.slow, needs_shared]


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    subprocess.run([sys.executable, SHARED / "cases" / "make_meshes.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def clip(spoken):
    """The first three seconds of the demo with their phones."""
    return beginning(spoken, 3.0)


def mouth_mm(animation, light):
    """Opening and width of the mouth in mm by frame, on a mesh with the light head's vertices."""
    marks, mm = light.template.landmarks, light.template.mm_per_unit

    def distance(a, b):
        return np.linalg.norm(animation.vertices[:, marks[a]] - animation.vertices[:, marks[b]], axis=1) * mm

    return distance("lip_inner_upper", "lip_inner_lower"), distance("mouth_left", "mouth_right")


@pytest.mark.parametrize("name", ["names_in_primitive", "blender_001", "two_instances", "character_creator_names"])
def test_own_shapes_drive_the_face(talk, clip, meshes, tmp_path, name):
    """As wide and as open as the light head's own shapes make it; a second instance follows."""
    said = []
    animation = KMTalk(inform=said.append).animate(clip[0], meshes / f"{name}.glb", textgrid=clip[1])
    assert len(said) == 1 and "its own" in said[0]
    plain = talk.animate(clip[0], "light", textgrid=clip[1])
    (opening, width), (wanted_opening, wanted_width) = mouth_mm(animation, talk.rig), mouth_mm(plain, talk.rig)
    assert np.abs(opening - wanted_opening).max() < 2 and np.abs(width - wanted_width).max() < 2
    assert len(animation.template.vertices) == len(plain.template.vertices)
    animation.save(tmp_path / "out.glb")
    channels = GltfDocument.load(tmp_path / "out.glb").items("animations")[-1]["channels"]
    nodes = {c["target"]["node"] for c in channels if c["target"]["path"] == "weights"}
    assert nodes == ({0, 1} if name == "two_instances" else {0})


def test_vrm_groups_drive_the_face(talk, clip, meshes):
    animation = talk.animate(clip[0], meshes / "vrm0_groups.glb", textgrid=clip[1])
    opening, _ = mouth_mm(animation, talk.rig)
    assert animation.motion.rig.native_shapes is not None and opening.max() > 10 and opening.min() < 1


@pytest.mark.parametrize("name", ["face_comment.obj", "bom.obj", "instance.usda", "purposes.usda"])
def test_every_vertex_is_read_once(talk, meshes, name):
    template = load_template(meshes / name)
    assert np.abs(template.vertices - talk.rig.template.vertices).max() < 1e-5
    assert len(template.faces) == len(talk.rig.template.faces)


def test_what_lies_on_its_back_stands_up(talk, clip, meshes, tmp_path):
    animation = talk.animate(clip[0], meshes / "zup_cm.obj", textgrid=clip[1])
    animation.save(tmp_path / "a.glb")
    standing = load_template(tmp_path / "a.glb").vertices
    given = 100 * talk.rig.template.vertices
    assert np.abs(standing.min(0) - given.min(0)).max() < 0.01 and np.abs(standing.max(0) - given.max(0)).max() < 0.01
    pytest.importorskip("pxr", reason="usd-core is not installed")
    animation.save(tmp_path / "a.usda")
    assert 'upAxis = "Z"' in (tmp_path / "a.usda").read_text()
