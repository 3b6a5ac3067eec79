"""Meshes with native shapes: ARKit shapes driven by name, or mixtures of visemes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from conftest import SAID, SPEECH, needs_detector
from heads import closures

from kmtalk import InputError, Template
from kmtalk.exchange.upright import upright_turn
from kmtalk.face.files.load import load_template
from kmtalk.face.rig import ARKIT_NAMES
from kmtalk.face.shape_names import match_shape_names
from kmtalk.face.template import write_obj

pytestmark = needs_detector


def test_names_of_shapes():
    given = [
        "jawOpen",
        "Head_mouthSmile_L",
        "BS.eyeBlink_R",
        "mouth_pucker",
        "browDownLeft",
        "fat",
        "JawLeft",
        "noseSneerR",
    ]
    assert match_shape_names(given) == {
        "jawOpen": "jawOpen",
        "Head_mouthSmile_L": "mouthSmileLeft",
        "BS.eyeBlink_R": "eyeBlinkRight",
        "mouth_pucker": "mouthPucker",
        "browDownLeft": "browDownLeft",
        "JawLeft": "jawLeft",
        "noseSneerR": "noseSneerRight",
    }
    assert set(match_shape_names(["viseme_PP", "vrc.v_aa", "v_ou", "viseme_sil"]).values()) == {
        "viseme_PP",
        "viseme_aa",
        "viseme_U",
        "viseme_sil",
    }
    assert match_shape_names(["A", "I", "U", "E", "O"])["E"] == "vrm_ee"
    assert match_shape_names(["A", "B"]) == {}
    assert set(match_shape_names([f"Fcl_MTH_{v}" for v in "AIUEO"])) == {f"Fcl_MTH_{v}" for v in "AIUEO"}


@pytest.fixture(scope="module")
def avatar(talk, tmp_path_factory):
    """A GLB with the 52 ARKit shapes: written by kmtalk, then rotated, scaled and split at texture-like seams."""
    from kmtalk.exchange.gltf import write_glb
    from kmtalk.face.motion import Motion

    path = tmp_path_factory.mktemp("avatar") / "avatar.glb"
    plain = replace(talk.rig, template=replace(talk.rig.template, appearance=None))  # one primitive, vertex colours
    write_glb(path, Motion(plain, np.zeros((2, len(plain.shape_names)), np.float32), 30.0))
    return path


def test_a_glb_is_read_with_its_shapes(talk, avatar):
    template = load_template(avatar)
    rig = talk.rig
    assert np.abs(template.vertices - rig.template.vertices).max() < 1e-6
    assert tuple(template.shapes) == rig.shape_names
    assert np.abs(template.shapes["jawOpen"] - rig.offsets[rig.index["jawOpen"]]).max() < 1e-6
    assert template.colors is not None and np.abs(template.colors.astype(int) - rig.template.colors).max() <= 1


def test_arkit_shapes_of_a_file_are_driven_by_name(talk, avatar, tmp_path):
    """On a mesh of unknown topology the native shapes are driven and written, without the face detector."""
    import pygltflib

    template = load_template(avatar)
    order = np.random.default_rng(2).permutation(len(template.vertices))
    turned = template.vertices[order][:, [0, 2, 1]] * np.float32([100, -100, 100])
    shapes = {
        (name[:-4] + "_L" if name.endswith("Left") else name): offsets[order][:, [0, 2, 1]]
        * np.float32([100, -100, 100])
        for name, offsets in template.shapes.items()
        if not name.startswith(("head", "tongueTip", "tongueInter", "tongueDors", "mouthLabio", "mouthProt"))
    }
    theirs = Template(turned, np.argsort(order)[template.faces].astype(np.int32), name="avatar", shapes=shapes)
    fit = talk.fit(theirs)
    assert fit.report.method == "own shapes" and fit.report.confidence == "high"
    jaw = fit.rig.offsets[fit.rig.index["jawOpen"]]
    assert np.abs(jaw - shapes["jawOpen"]).max() < 1e-4
    corner = talk.rig.template.vertices[talk.rig.template.landmarks["mouth_left"]]
    found = fit.rig.template.vertices[fit.rig.template.landmarks["mouth_left"]]
    assert np.linalg.norm(found[[0, 2, 1]] * [0.01, 0.01, -0.01] - corner) < 0.006
    assert fit.rig.mouth_gain == pytest.approx(1, abs=0.15)
    animation = talk.animate(SPEECH, fit, text=SAID)
    assert closures(animation, animation.alignment).max() <= 0.1
    animation.save(tmp_path / "out.glb")
    out = pygltflib.GLTF2().load(str(tmp_path / "out.glb"))
    names = out.meshes[0].extras["targetNames"]
    assert set(shapes) <= set(names) and "mouthSmile_L" in names and "headYawLeft" in names
    # the shapes and weights in the file reproduce the vertices
    played = load_template(tmp_path / "out.glb")
    weights = fit.rig.morph_targets(animation.weights[40:41])[2][0]
    posed = played.vertices + sum(w * played.shapes[n] for n, w in zip(names, weights, strict=True))
    turn = upright_turn(fit.rig)  # the mesh lies, and the file's node turns it upright
    assert not np.allclose(turn, np.eye(3), atol=0.1)
    assert np.abs(posed - animation.vertices[40] @ turn.T).max() < 1e-3


def test_the_order_of_shapes_changes_nothing(talk):
    """Shapes that a file lacks, such as the tongue between the teeth, are the same mixtures of its own."""
    rig, rng = talk.rig, np.random.default_rng(4)
    made = []
    for turn in range(3):
        names = sorted(ARKIT_NAMES) if turn == 0 else rng.permutation(ARKIT_NAMES).tolist()
        order = rng.permutation(len(rig.template.vertices))  # of no known topology, nor in the cache of rigs
        place = np.argsort(order)
        shapes = {name: rig.offsets[rig.index[name]][order] for name in names}
        faces = place[rig.template.faces].astype(np.int32)
        fit = talk.fit(Template(rig.template.vertices[order], faces, name="avatar", shapes=shapes))
        assert fit.report.method == "own shapes"
        made.append(fit.rig.offsets[:, place] * fit.rig.template.mm_per_unit)
    assert max(np.abs(one - made[0]).max() for one in made[1:]) < 1e-3
    tongue = np.abs(rig.offsets[rig.index["tongueOut"]]).max(1) > 0
    assert np.abs(made[0][rig.index["tongueInterdental"]][~tongue]).max() < 1e-3  # it moves alone


@pytest.mark.slow
def test_visemes_are_mixed_where_a_file_has_no_arkit(talk):
    """The five VRM mouth shapes: lips still close, and every frame is a mixture of the native shapes."""
    rig = talk.rig
    mouths = {
        "A": {"jawOpen": 0.6},
        "I": {"jawOpen": 0.12, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5},
        "U": {"mouthPucker": 0.8, "jawOpen": 0.08},
        "E": {"jawOpen": 0.25, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
        "O": {"jawOpen": 0.35, "mouthFunnel": 0.5},
    }
    shapes = {v: sum(w * rig.offsets[rig.index[n]] for n, w in pose.items()) for v, pose in mouths.items()}
    order = np.random.default_rng(3).permutation(len(rig.template.vertices))
    theirs = Template(
        rig.template.vertices[order],
        np.argsort(order)[rig.template.faces].astype(np.int32),
        name="vrm",
        shapes={v: s[order].astype(np.float32) for v, s in shapes.items()},
    )
    fit = talk.fit(theirs)
    assert fit.report.method == "own shapes"
    animation = talk.animate(SPEECH, fit, text=SAID)
    assert (closures(animation, animation.alignment) <= 0.1).mean() >= 0.95
    _, _, weights = fit.rig.morph_targets(animation.weights)
    assert weights.min() >= 0 and weights[:, :5].max() > 0.2


def test_a_folder_of_obj_shapes(talk, tmp_path):
    rig = talk.rig
    folder = tmp_path / "face"
    folder.mkdir()
    faces = rig.template.faces[::-1]
    write_obj(folder / "neutral.obj", Template(rig.template.vertices, faces))
    for name in rig.shape_names[:52]:
        write_obj(folder / f"{name}.obj", Template(rig.template.vertices + rig.offsets[rig.index[name]], faces))
    template = load_template(folder)
    assert len(template.shapes) == 52
    assert talk.fit(template).report.method == "own shapes"
    (folder / "neutral.obj").rename(folder / "someone.obj")
    with pytest.raises(InputError, match=r"neutral\.obj"):
        load_template(folder)


@pytest.mark.skipif(importlib.util.find_spec("pxr") is None, reason="usd-core is not installed")
def test_usd_with_blend_shapes(talk, tmp_path):
    from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt

    rig = talk.rig
    stage = Usd.Stage.CreateNew(str(tmp_path / "face.usda"))
    body = UsdGeom.Xform.Define(stage, "/body")
    body.AddScaleOp().Set(Gf.Vec3f(2, 2, 2))
    mesh = UsdGeom.Mesh.Define(stage, "/body/face")
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(rig.template.vertices))
    mesh.CreateFaceVertexCountsAttr([3] * len(rig.template.faces))
    mesh.CreateFaceVertexIndicesAttr(rig.template.faces.ravel().tolist())
    shape = UsdSkel.BlendShape.Define(stage, "/body/face/jawOpen")
    shape.CreateOffsetsAttr(Vt.Vec3fArray.FromNumpy(rig.offsets[rig.index["jawOpen"]]))
    UsdSkel.BindingAPI.Apply(mesh.GetPrim()).CreateBlendShapeTargetsRel().AddTarget(shape.GetPath())
    stage.Save()
    template = load_template(tmp_path / "face.usda")
    assert np.abs(template.vertices - 2 * rig.template.vertices).max() < 1e-5
    assert np.array_equal(template.faces, rig.template.faces)
    assert np.abs(template.shapes["jawOpen"] - 2 * rig.offsets[rig.index["jawOpen"]]).max() < 1e-5
