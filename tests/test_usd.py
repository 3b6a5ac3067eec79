"""Characters in USD come back as they were, talking, and all USD that is written passes the validators."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from characters import BONES
from conftest import ROOT, SPEECH
from pxr import Gf, Sdf, Usd, UsdGeom, UsdSkel, UsdUtils, Vt
from scipy.spatial.transform import Rotation
from usd_avatars import RATE, WAVE, joint_paths, vec3f, write_usd_avatar

from kmtalk import InputError
from kmtalk.face.files.load import load_template
from kmtalk.face.joints import HEAD_DEGREES, HEAD_NAMES
from kmtalk.face.motion import Motion
from kmtalk.face.template import write_obj

FRAMES = (0, 15, 60, 150)
BODY = 8  # vertices of the body, which come last and have a motion of their own
HEAD = joint_paths()[BONES.index("Head")]
KINDS = {
    "own shapes": {},
    "no shapes": {"shapes": ()},
    "no skeleton": {"skinned": False},
    "neither": {"shapes": (), "skinned": False},
    "own rest pose": {"rest_turn": 30.0, "animated": False},
}


@pytest.fixture(scope="module")
def layers(talk, spoken, light_rig, tmp_path_factory):
    """Kind → the animation, the character's file and the layer."""
    folder = tmp_path_factory.mktemp("characters")
    out = {}
    for kind, options in KINDS.items():
        source, layer = folder / f"{kind}.usda", folder / f"{kind} talks.usdc"
        write_usd_avatar(source, light_rig, **options)
        before = source.read_bytes()
        animation = talk.animate(SPEECH, source, textgrid=spoken.alignment)
        animation.save(layer)
        assert source.read_bytes() == before
        out[kind] = animation, source, layer
    return out


def meshes_of(stage):
    return [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]


def skeleton_animation(stage):
    (found,) = (prim for prim in stage.Traverse() if prim.IsA(UsdSkel.Skeleton))
    return UsdSkel.Animation(stage.GetPrimAtPath(UsdSkel.BindingAPI(found).GetAnimationSourceRel().GetTargets()[0]))


def posed(path, frame, head_still=False):
    """Vertices (V, 3) of a stage in its space at a frame, by USD's own skinning."""
    stage = Usd.Stage.Open(Usd.Stage.Open(str(path)).Flatten())
    if head_still:
        animation = skeleton_animation(stage)
        place = list(animation.GetJointsAttr().Get()).index(HEAD)
        skeleton = UsdSkel.Skeleton(animation.GetPrim().GetParent())
        rest = skeleton.GetRestTransformsAttr().Get()[BONES.index("Head")]
        rotations = animation.GetRotationsAttr().Get(frame)
        rotations[place] = Gf.Quatf(rest.ExtractRotationQuat())
        animation.GetRotationsAttr().Set(rotations, frame)
    return baked(stage, frame, frame)[0]


def baked(stage, first, last):
    """Vertices (N, V, 3) of frames of a stage, which is changed."""
    for prim in [prim for prim in stage.Traverse() if prim.IsA(UsdSkel.Root)]:
        assert UsdSkel.BakeSkinning(UsdSkel.Root(prim), Gf.Interval(first, last))
    out = []
    for frame in range(first, last + 1):
        transforms, parts = UsdGeom.XformCache(frame), []
        for prim in meshes_of(stage):
            matrix = np.array(transforms.GetLocalToWorldTransform(prim))
            parts.append(np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get(frame)) @ matrix[:3, :3] + matrix[3, :3])
        out.append(np.concatenate(parts))
    return np.stack(out)


def worst_mm(animation, frame, vertices, head_still=False, without=0):
    """Greatest error in mm, but for the last `without` vertices."""
    weights = animation.weights[[frame]].copy()
    if head_still:
        weights[:, [animation.shape_names.index(n) for n in HEAD_NAMES]] = 0
    expected = animation.motion.rig.vertices(weights)[0]
    wrong = np.abs(vertices - expected)
    return float(wrong[: len(wrong) - without].max()) * animation.template.mm_per_unit


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_gives_the_motion(layers, kind):
    animation, _, layer = layers[kind]
    skinned = kind not in ("no skeleton", "neither")
    for frame in FRAMES:
        vertices = posed(layer, frame, head_still=skinned)
        assert worst_mm(animation, frame, vertices, skinned, without=BODY) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_character_changes(layers, kind):
    """All prims, and all their properties with their values, but for lists that became longer."""
    animation, source, layer = layers[kind]
    before, after = Usd.Stage.Open(str(source)), Usd.Stage.Open(str(layer))
    assert after.GetRootLayer().subLayerPaths[:] == [f"./{source.name}"]
    assert (after.GetStartTimeCode(), after.GetEndTimeCode()) == (0, len(animation.motion) - 1)
    assert (after.GetTimeCodesPerSecond(), after.GetFramesPerSecond()) == (30, 30)
    assert (UsdGeom.GetStageUpAxis(after), UsdGeom.GetStageMetersPerUnit(after)) == ("Z", 0.01)
    assert after.GetDefaultPrim().GetPath() == before.GetDefaultPrim().GetPath()
    assert animation.template.units == "cm"
    scale, compared = 30 / RATE, Counter()
    for prim in before.TraverseAll():
        shown = after.GetPrimAtPath(prim.GetPath())
        retyped = prim.GetPath() == "/Hero" and prim.GetTypeName() == "Xform"
        assert shown.GetTypeName() == ("SkelRoot" if retyped else prim.GetTypeName())
        assert shown.GetSpecifier() == Sdf.SpecifierDef
        assert set(prim.GetAppliedSchemas()) <= set(shown.GetAppliedSchemas())
        assert shown.GetCustomDataByKey("author") == prim.GetCustomDataByKey("author")
        for attribute in prim.GetAuthoredAttributes():
            other = shown.GetAttribute(attribute.GetName())
            compared[attribute.GetName()] += 1
            if attribute.GetName() == "skel:blendShapes":
                assert list(other.Get())[: len(attribute.Get())] == list(attribute.Get())
                continue
            assert np.allclose(other.GetTimeSamples(), np.array(attribute.GetTimeSamples()) * scale)
            times = attribute.GetTimeSamples() or [Usd.TimeCode.Default()]
            for time in times:
                assert other.Get(time * scale if attribute.GetTimeSamples() else time) == attribute.Get(time)
        for relation in prim.GetAuthoredRelationships():
            targets = shown.GetRelationship(relation.GetName()).GetTargets()
            if relation.GetName() != "skel:animationSource":
                assert targets[: len(relation.GetTargets())] == relation.GetTargets()
    assert min(compared[name] for name in ("points", "primvars:st", "faceVertexIndices", "inputs:roughness")) == 7


@pytest.mark.parametrize("kind", ["own shapes", "no shapes", "own rest pose"])
def test_the_head_turns_on_its_joint(layers, kind):
    animation, _, layer = layers[kind]
    stage = Usd.Stage.Open(str(layer))
    clip = skeleton_animation(stage)
    assert not set(HEAD_NAMES) & set(clip.GetBlendShapesAttr().Get())
    skeleton = UsdSkel.Cache().GetSkelQuery(UsdSkel.Skeleton(clip.GetPrim().GetParent()))
    head = BONES.index("Head")

    def world(frame, rest=False):
        to_stage = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(skeleton.GetPrim()))
        joint = np.array(skeleton.ComputeJointSkelTransforms(frame, rest))[head]
        return (joint @ to_stage)[:3, :3].T

    curve = {n: animation.weights[:, animation.shape_names.index(n)] for n in HEAD_NAMES}
    pairs = (("headYawLeft", "headYawRight"), ("headPitchDown", "headPitchUp"), ("headRollRight", "headRollLeft"))
    angles = HEAD_DEGREES * np.stack([curve[a] - curve[b] for a, b in pairs], axis=1)
    upright = animation.motion.rig.upright_rotation.astype(np.float64)
    for frame in FRAMES:
        turned = world(frame) @ np.linalg.inv(world(frame, rest=True))
        expected = upright.T @ Rotation.from_euler("YXZ", angles[frame], degrees=True).as_matrix() @ upright
        assert np.degrees(Rotation.from_matrix(turned @ expected.T).magnitude()) < 0.05
    assert np.abs(angles[list(FRAMES)]).max() > 2


def test_its_own_animation_plays_on(layers):
    """The arm and the body's shape move as in the character's file, at the same seconds."""
    _, source, layer = layers["own shapes"]
    found = []
    for path in (source, layer):
        stage = Usd.Stage.Open(str(path))
        skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/Hero/Armature"))
        query = UsdSkel.Cache().GetSkelQuery(skeleton)
        arm, clip = BONES.index("LeftArm"), query.GetAnimQuery()
        times = np.array([*WAVE, 6.0, 15.0]) / RATE * stage.GetTimeCodesPerSecond()
        place = list(clip.GetBlendShapeOrder()).index("belly")
        arms = [np.array(query.ComputeJointLocalTransforms(time))[arm] for time in times]
        found.append((np.array(arms), [clip.ComputeBlendShapeWeights(time)[place] for time in times]))
    assert np.abs(found[0][0] - found[1][0]).max() < 1e-4
    assert np.allclose(found[0][1], found[1][1], atol=1e-6) and max(found[0][1]) == 1
    assert np.ptp(found[0][0], axis=0).max() > 0.3


def test_the_rest_pose_is_read(layers, light_rig):
    """Vertices stand as the skeleton's rest pose puts them; the fifth character's differs from its bind pose."""
    (straight, *_), (turned, *_) = layers["own shapes"], layers["own rest pose"]
    turn = Rotation.from_euler("y", -30, degrees=True).as_matrix()  # z up: the hips' turn about z comes to lie on -y
    count = len(light_rig.template.regions["skin"])
    a, b = straight.template.vertices[:count], turned.template.vertices[:count]
    assert np.abs(a @ turn.T - b).max() < 1e-3
    assert np.abs(straight.motion.rig.upright_rotation[1] - [0, 0, 1]).max() < 0.2


def test_a_binding_that_usd_cannot_use_is_as_none(talk, light_rig, tmp_path):
    """Too few weights, joints that do not exist, no bind pose: the mesh stands where its prim does."""
    count = len(light_rig.template.regions["skin"])
    for damage in ("weights", "joints", "bind pose"):
        write_usd_avatar(tmp_path / f"{damage}.usda", light_rig, rest_turn=30)
        stage = Usd.Stage.Open(str(tmp_path / f"{damage}.usda"))
        binding = UsdSkel.BindingAPI(stage.GetPrimAtPath("/Hero/skin/geo"))
        if damage == "weights":
            binding.GetJointWeightsPrimvar().Set(Vt.FloatArray([1, 0]))
        elif damage == "joints":
            binding.GetJointIndicesPrimvar().Set(Vt.IntArray([99, 0] * count))
        else:
            UsdSkel.Skeleton(stage.GetPrimAtPath("/Hero/Armature")).GetBindTransformsAttr().Block()
        stage.Save()
        seen = load_template(tmp_path / f"{damage}.usda").vertices[:count]
        expected = 100 * light_rig.template.vertices[light_rig.template.regions["skin"]][:, [0, 2, 1]] * [1, -1, 1]
        assert np.abs(seen - expected).max() < 1e-3


def plain_stage(path, rig, root="/Head", name="geo"):
    stage = Usd.Stage.CreateNew(str(path))
    if root:
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, root).GetPrim())
    return stage, plain_mesh(stage, f"{root}/{name}", rig)


def plain_mesh(stage, path, rig, scale=2.0):
    """A mesh of the light head; in its own size kmtalk takes it for the light head itself."""
    template = rig.template
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(vec3f(scale * template.vertices))
    mesh.CreateFaceVertexCountsAttr([3] * len(template.faces))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(template.faces.ravel(), np.int32)))
    return mesh


def test_an_instance_is_read_and_animated(talk, spoken, light_rig, tmp_path):
    stage, _ = plain_stage(tmp_path / "asset.usda", light_rig)
    stage.Save()
    stage = Usd.Stage.CreateNew(str(tmp_path / "world.usda"))
    for name in ("hero", "crowd"):
        prim = UsdGeom.Xform.Define(stage, f"/World/{name}").GetPrim()
        prim.GetReferences().AddReference("./asset.usda")
        prim.SetInstanceable(True)
    UsdGeom.Imageable(stage.GetPrimAtPath("/World/crowd")).MakeInvisible()
    stage.Save()
    assert len(load_template(tmp_path / "world.usda").vertices) == len(light_rig.template.vertices)
    animation = talk.animate(SPEECH, tmp_path / "world.usda", textgrid=spoken.alignment)
    animation.save(tmp_path / "talks.usda")
    count = len(light_rig.template.vertices)
    for frame in FRAMES:
        assert worst_mm(animation, frame, posed(tmp_path / "talks.usda", frame)[-count:]) < 0.1
    shown = Usd.Stage.Open(str(tmp_path / "talks.usda"))
    assert shown.GetPrimAtPath("/World/crowd").IsInstance()
    assert not shown.GetPrimAtPath("/World/hero").IsInstance()


def test_proxies_guides_and_hidden_meshes_are_left_out(light_rig, tmp_path):
    stage, mesh = plain_stage(tmp_path / "purposes.usda", light_rig)
    mesh.CreatePurposeAttr("render")
    plain_mesh(stage, "/Head/proxy", light_rig, 2.1).CreatePurposeAttr("proxy")
    plain_mesh(stage, "/Head/guide", light_rig, 4).CreatePurposeAttr("guide")
    plain_mesh(stage, "/Head/hidden", light_rig, 3).MakeInvisible()
    stage.Save()
    template = load_template(tmp_path / "purposes.usda")
    assert list(template.parts) == ["/Head/geo"]
    assert np.array_equal(template.vertices, 2 * light_rig.template.vertices)
    assert template.units == "unknown"
    stage.RemovePrim("/Head/geo")
    stage.RemovePrim("/Head/hidden")
    stage.Save()
    assert list(load_template(tmp_path / "purposes.usda").parts) == ["/Head/proxy", "/Head/guide"]


def test_a_mesh_that_no_skelroot_can_hold_moves_by_its_points(talk, spoken, light_rig, tmp_path, failures):
    """A mesh at the root of the stage, one that moves on its own, and one beside a skeleton that rests."""
    stage, _ = plain_stage(tmp_path / "root.usda", light_rig, root="")
    stage.Save()
    stage, _ = plain_stage(tmp_path / "beside.usda", light_rig)
    UsdSkel.Skeleton.Define(stage, "/Head/rest")
    stage.Save()
    stage, mesh = plain_stage(tmp_path / "moving.usda", light_rig)
    move = mesh.AddTranslateOp()
    move.Set(Gf.Vec3d(0, 0, 0), 0)
    move.Set(Gf.Vec3d(1, 0, 0), 24)
    stage.Save()
    for name, speed in (("root", 0.0), ("moving", 1 / 30), ("beside", 0.0)):
        animation = talk.animate(SPEECH, tmp_path / f"{name}.usda", textgrid=spoken.alignment)
        animation.save(tmp_path / f"{name} talks.usdc")
        for frame in (0, 15, 30):
            vertices = posed(tmp_path / f"{name} talks.usdc", frame) - [speed * frame, 0, 0]
            assert worst_mm(animation, frame, vertices) < 0.1
        assert failures(tmp_path / f"{name} talks.usdc") - failures(tmp_path / f"{name}.usda") == {}


def test_a_packed_character_is_cited_as_it_is(layers, talk, spoken, tmp_path):
    assert UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(layers["own shapes"][1])), str(tmp_path / "hero.usdz"))
    animation = talk.animate(SPEECH, tmp_path / "hero.usdz", textgrid=spoken.alignment)
    animation.save(tmp_path / "talks.usda")
    layer = Sdf.Layer.FindOrOpen(str(tmp_path / "talks.usda"))
    assert layer.subLayerPaths[:] == ["./hero.usdz"]
    assert worst_mm(animation, 60, posed(tmp_path / "talks.usda", 60, head_still=True), True, without=BODY) < 0.1


def test_a_shape_of_the_same_name_that_is_another_is_not_driven(talk, spoken, light_rig, tmp_path):
    """A file with too few shapes is fitted; its own jawOpen, which the motion does not mean, stays at rest."""
    write_usd_avatar(tmp_path / "few.usda", light_rig, shapes=("jawOpen", "mouthPucker"))
    animation = talk.animate(SPEECH, tmp_path / "few.usda", textgrid=spoken.alignment)
    animation.save(tmp_path / "talks.usda")
    assert worst_mm(animation, 0, posed(tmp_path / "talks.usda", 0, head_still=True), head_still=True) < 0.1
    stage = Usd.Stage.Open(str(tmp_path / "talks.usda"))
    tokens = skeleton_animation(stage).GetBlendShapesAttr().Get()
    assert "jawOpen_kmtalk" in tokens and "jawOpen" not in tokens and "mouthSmileLeft" in tokens


def test_the_layer_finds_the_character_wherever_it_is_written(layers, tmp_path, kmtalk):
    animation, source, _ = layers["own shapes"]
    animation.save(source.parent / "out", formats="usd")
    layer = Sdf.Layer.FindOrOpen(str(source.parent / "out" / "animation.usd"))
    assert layer.subLayerPaths[:] == [f"../{source.name}"]
    animation.save(tmp_path / "talk.npz")
    done = kmtalk("export", "talk.npz", "-o", "deep/er/talks.usda")
    assert done.returncode == 0, done.stderr
    for path in (source.parent / "out" / "animation.usd", tmp_path / "deep" / "er" / "talks.usda"):
        assert worst_mm(animation, 0, posed(path, 0, head_still=True), head_still=True) < 0.1


def test_a_character_that_is_gone_or_changed_is_one_line(layers, light_rig, tmp_path):
    animation, source, _ = layers["own shapes"]
    other = tmp_path / "hero.usda"

    def moved():
        rig = animation.motion.rig
        template = replace(rig.template, source=str(other))
        return replace(animation, motion=replace(animation.motion, rig=replace(rig, template=template)))

    with pytest.raises(InputError, match="no longer there"):
        moved().save(tmp_path / "talks.usda")
    moved().save(tmp_path / "face.usda", bake=True)
    stage, _ = plain_stage(other, light_rig)
    stage.Save()
    with pytest.raises(InputError, match="has changed"):
        moved().save(tmp_path / "talks.usda")
    with pytest.raises(InputError, match="is an input"):
        animation.save(source)
    del stage
    other.write_text("nothing")
    with pytest.raises(InputError, match="not a readable USD"):
        moved().save(tmp_path / "talks.usda")
    assert not (tmp_path / "talks.usda").exists()


@pytest.mark.parametrize("turn", ["z up", "tilted", "mirrored"])
@pytest.mark.parametrize("bake", [False, True], ids=["shapes", "baked"])
def test_a_lying_template_comes_out_standing(talk, spoken, light_rig, tmp_path, turn, bake):
    upright = light_rig.template.vertices.astype(np.float64)
    rotation = Rotation.from_euler("xyz", {"tilted": [50, 11, -17]}.get(turn, [90, 0, 0]), degrees=True).as_matrix()
    if turn == "mirrored":
        rotation = rotation @ np.diag([-1, 1, 1])
    write_obj(tmp_path / "face.obj", replace(light_rig.template, vertices=100 * upright @ rotation.T))
    animation = talk.animate(SPEECH, tmp_path / "face.obj", textgrid=spoken.alignment)
    short = replace(animation, motion=Motion(animation.motion.rig, animation.weights[:20], 30.0))
    short.save(tmp_path / "face.usdc", bake=bake)
    stage = Usd.Stage.Open(str(tmp_path / "face.usdc"))
    axis = 1 if turn == "tilted" else 2
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage)) == ("XYZ"[axis], 0.01)
    shown = posed(tmp_path / "face.usdc", 0)
    marks = animation.template.landmarks
    eyes = (shown[marks["eye_outer_left"]] + shown[marks["eye_outer_right"]]) / 2
    up = eyes - shown[marks["chin"]]
    assert up[axis] / np.linalg.norm(up) > 0.9
    if turn == "tilted":
        expected = short.vertices[0] @ animation.motion.rig.upright_rotation.T
        assert np.abs(shown - expected).max() * animation.template.mm_per_unit < 0.1


def by_omniverse(path):
    validator = pytest.importorskip("omni.asset_validator", reason="omniverse-asset-validator is not installed")
    issues = [i for i in validator.ValidationEngine().validate(str(path)).issues() if i.rule is not None]
    # a text file is wanted where its suffix is .usda
    serious = [i for i in issues if i.severity.name in ("ERROR", "FAILURE") and "Ascii" not in i.rule.__name__]
    return Counter((i.rule.__name__, i.message) for i in serious)


def by_pixar(path):
    validation = pytest.importorskip("pxr.UsdValidation", reason="this usd-core has no UsdValidation")
    context = validation.ValidationContext(validation.ValidationRegistry().GetOrLoadAllValidators())
    errors = context.Validate(Usd.Stage.Open(str(path)))
    return Counter((error.GetName(), error.GetMessage().replace(str(path), "")) for error in errors)


@pytest.fixture(params=[by_omniverse, by_pixar], ids=["omniverse", "pixar"])
def failures(request):
    """Function from a file to what a validator finds wrong with it."""
    return request.param


@pytest.mark.parametrize("name", ["head.usd", "head.usda", "head.usdc", "baked.usd"])
def test_the_default_head_passes_the_validators(spoken, tmp_path, failures, name):
    spoken.save(tmp_path / name, bake=name.startswith("baked"))
    assert failures(tmp_path / name) == {}


@pytest.mark.parametrize("bake", [False, True], ids=["shapes", "baked"])
@pytest.mark.parametrize("template", ["materials", "colours", "turned", "fitted"])
def test_a_mesh_passes_the_validators(talk, spoken, layers, light_rig, tmp_path, failures, template, bake):
    """With the default head's materials, with vertex colours, turned upright by the root, and as a fit gives it."""
    rig = layers["no shapes"][0].motion.rig
    if template != "fitted":
        head = (talk.full_rig if template == "materials" else light_rig).template
        turn = Rotation.from_euler("x", 50 if template == "turned" else 0, degrees=True).as_matrix()
        write_obj(tmp_path / "face.obj", replace(head, vertices=2 * head.vertices @ turn.T))
        rig = talk.fit(tmp_path / "face.obj").rig
    rig = replace(rig, template=replace(rig.template, source=""))
    weights = np.zeros((20, len(rig.shape_names)), np.float32)
    weights[:, rig.index["jawOpen"]] = np.linspace(0, 1, 20)
    replace(spoken, motion=Motion(rig, weights, 30.0)).save(tmp_path / "face.usd", bake=bake)
    assert failures(tmp_path / "face.usd") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_adds_no_failure(layers, failures, kind):
    _, source, layer = layers[kind]
    assert failures(layer) - failures(source) == {}
    assert failures(layer) == {}


PYTHON = ROOT / ".venv-blender" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="no bpy for this Python, or it cannot be installed (make blender)")
@pytest.mark.parametrize("kind", ["own shapes", "no shapes", "neither"])
def test_blender_shows_the_character_talking(layers, light_rig, tmp_path, kind):
    """Its largest mesh, the skin, as USD's own skinning shows it if the head turns on a joint, else as the motion."""
    animation = layers[kind][0]
    animation.save(tmp_path / "out", formats="usd")
    vertices = animation.vertices
    if kind != "neither":
        stage = Usd.Stage.Open(str(tmp_path / "out" / "animation.usd"))
        vertices = baked(Usd.Stage.Open(stage.Flatten()), 0, len(vertices) - 1)
    vertices = vertices[:, : len(light_rig.template.regions["skin"])]
    # from z up and centimetres to the script's y up and Blender's metres
    expected = {"vertices": vertices[..., [0, 2, 1]] * [0.01, 0.01, -0.01], "mm_per_unit": 1000.0}
    np.savez(tmp_path / "out" / "expected.npz", **expected)
    script = ROOT / "tests" / "in_blender.py"
    command = [PYTHON, script, tmp_path / "out"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    (found,) = [json.loads(line[7:]) for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    assert found["worst_mm"] < 0.1, found
