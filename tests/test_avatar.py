"""A web avatar with body, bones, materials and pictures, in all the forms in which others hand it over."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from avatars import changed, character_creator, ict, meaningless, numbered, skinned_vertices, turned, vrm
from conftest import ROOT, beginning, needs_detector
from pages import Opened, needs_browser
from scipy.spatial.transform import Rotation, Slerp

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.files.load import load_template
from kmtalk.face.joints import HEAD_DEGREES, HEAD_NAMES, joint_matrices
from kmtalk.keys import KeyFrames, KeyMotions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny is not installed"),
]
FRAMES = (5, 27, 45, 80)
BLENDER = ROOT / ".venv-blender" / "bin" / "python"
ARKIT_FORMS = {"numbered": numbered, "ict": ict, "character creator": character_creator}
needs_meshopt = pytest.mark.skipif(importlib.util.find_spec("meshoptimizer") is None, reason="no meshoptimizer here")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from make_avatar import write_avatar

    path = tmp_path_factory.mktemp("avatar") / "avatar.glb"
    write_avatar(path)
    return path


@pytest.fixture(scope="module")
def clip(spoken):
    """The first three seconds of the demo with their phones."""
    return beginning(spoken, 3.0)


@pytest.fixture(scope="module")
def talking(talk, base, clip, tmp_path_factory):
    """The avatar's animation, and the file that comes back."""
    out = tmp_path_factory.mktemp("talking") / "talking.glb"
    animation = talk.animate(clip[0], base, textgrid=clip[1])
    animation.save(out)
    return animation, out


def worst_mm(animation, path):
    """Greatest distance in mm between the vertices of a file after skinning and those of the animation."""
    shown = [skinned_vertices(path, "kmtalk", frame, animation.fps) for frame in FRAMES]
    return max(np.abs(v - animation.vertices[f]).max() for v, f in zip(shown, FRAMES, strict=True)) * (
        animation.template.mm_per_unit
    )


def opening_mm(animation):
    """Distance in mm between the middles of the inner lips by frame."""
    marks = animation.template.landmarks
    upper, lower = (animation.vertices[:, marks[f"lip_inner_{side}"]] for side in ("upper", "lower"))
    return np.linalg.norm(upper - lower, axis=1) * animation.template.mm_per_unit


def validator_errors(web, path):
    command = ["npm", "run", "validate", "--silent", "--", str(path)]
    done = subprocess.run(command, cwd=web, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["numErrors"]


def test_nothing_of_the_avatar_is_lost(talking, base, web):
    animation, path = talking
    before, after = GltfDocument.load(base), GltfDocument.load(path)
    lists = {key: len(before.items(key)) for key in ("meshes", "materials", "images", "textures", "nodes", "skins")}
    assert lists["meshes"] >= 8 and lists["materials"] >= 6 and len(before.items("skins")[0]["joints"]) >= 60
    assert {key: len(after.items(key)) for key in lists} == lists
    assert after.chunk[: len(before.chunk)] == before.chunk
    for key in ("materials", "images", "textures", "samplers", "nodes", "skins", "scenes"):
        assert after.json[key] == before.json[key], key
    cut = deepcopy(after.json)
    assert cut["animations"][:-1] == before.json["animations"] and cut["animations"][-1]["name"] == "kmtalk"
    for mesh, former in zip(cut["meshes"], before.json["meshes"], strict=True):
        names = former.get("extras", {}).get("targetNames", [])
        assert mesh.get("extras", {}).get("targetNames", [])[: len(names)] == names
        for primitive, old in zip(mesh["primitives"], former["primitives"], strict=True):
            assert primitive["attributes"] == old["attributes"] and primitive["material"] == old["material"]
    assert validator_errors(web, path) == 0
    assert worst_mm(animation, path) < 0.01
    assert opening_mm(animation).max() > 8


def test_head_and_eyes_turn_on_their_bones(talking):
    animation, path = talking
    file = GltfDocument.load(path)
    nodes = file.items("nodes")
    turned_nodes = {
        nodes[c["target"]["node"]]["name"]
        for c in file.items("animations")[-1]["channels"]
        if c["target"]["path"] == "rotation"
    }
    assert turned_nodes == {"Neck", "Head", "LeftEye", "RightEye"}
    names = animation.shape_names
    curves = {n: animation.weights[:, names.index(n)] for n in HEAD_NAMES}
    pairs = (("headYawLeft", "headYawRight"), ("headPitchDown", "headPitchUp"), ("headRollRight", "headRollLeft"))
    angles = HEAD_DEGREES * np.stack([curves[a] - curves[b] for a, b in pairs], axis=1)
    assert np.ptp(angles, axis=0).max() > 3
    rig = animation.motion.rig
    upright = rig.upright_rotation.astype(np.float64)
    expected = upright.T @ Rotation.from_euler("YXZ", angles, degrees=True).as_matrix() @ upright
    joints = animation.template.joints
    matrices = joint_matrices(joints, rig.joint_rotations(animation.weights))
    head = [j.part for j in joints].index("head")
    assert np.abs(matrices[:, head, :, :3] - expected).max() < 1e-5
    # the eyes look at the viewer, whatever the head does
    eye = [j.part for j in joints].index("eye_left")
    assert (matrices[:, eye, 2, 2] > np.cos(np.radians(6))).all()


@pytest.mark.parametrize("form", ARKIT_FORMS)
def test_names_of_other_programs_drive_the_same(talk, talking, clip, tmp_path, form):
    from make_avatar import write_avatar

    write_avatar(tmp_path / "avatar.glb", ARKIT_FORMS[form], visemes=False)
    animation = talk.animate(clip[0], tmp_path / "avatar.glb", textgrid=clip[1])
    animation.save(tmp_path / "out.glb")
    assert worst_mm(animation, tmp_path / "out.glb") < 0.01
    expected, _ = talking
    assert np.abs(animation.vertices - expected.vertices).max() * animation.template.mm_per_unit < 0.05


@needs_detector
@pytest.mark.parametrize("form", ["meaningless names", "no shapes"])
def test_without_names_the_face_talks_all_the_same(talk, talking, clip, tmp_path, form):
    from make_avatar import write_avatar

    write_avatar(tmp_path / "avatar.glb", meaningless, shapes=form != "no shapes", visemes=False)
    fit = talk.fit(tmp_path / "avatar.glb")
    if form == "meaningless names":
        assert fit.report.method == "own shapes" and any("matched by what they do" in n for n in fit.report.notes)
        named = fit.report.measurements["driven_by_name"]
        assert named >= 30
    animation = talk.animate(clip[0], tmp_path / "avatar.glb", textgrid=clip[1])
    animation.save(tmp_path / "out.glb")
    assert worst_mm(animation, tmp_path / "out.glb") < 0.01
    expected, _ = talking
    assert np.corrcoef(opening_mm(animation), opening_mm(expected))[0, 1] > 0.95
    if form == "no shapes":
        after = GltfDocument.load(tmp_path / "out.glb")
        head = after.items("meshes")[0]
        assert "jawOpen" in head["extras"]["targetNames"]
        assert (
            after.items("meshes")[6]["name"] == "Wolf3D_Outfit"
            and "targets" not in after.items("meshes")[6]["primitives"][0]
        )


@needs_detector
@pytest.mark.parametrize("version", [0, 1])
def test_vrm(talk, talking, clip, base, web, tmp_path, version):
    changed(base, tmp_path / "avatar.vrm", vrm(version))
    animation = talk.animate(clip[0], tmp_path / "avatar.vrm", textgrid=clip[1])
    animation.save(tmp_path / "out.vrm")
    assert worst_mm(animation, tmp_path / "out.vrm") < 0.01
    assert {j.part for j in animation.template.joints} == {"neck", "head", "eye_left", "eye_right"}
    assert len(set(animation.motion.rig.native_shapes.names) & {f"Wolf3D_Head_{k}" for k in range(99)}) == 7
    assert np.corrcoef(opening_mm(animation), opening_mm(talking[0]))[0, 1] > 0.9
    # its shapes are on the head alone: teeth and lashes get ours
    made = GltfDocument.load(tmp_path / "out.vrm").items("animations")[-1]["channels"]
    moved = {c["target"]["node"] for c in made if c["target"]["path"] == "weights"}
    names = {m.get("name"): k for k, m in enumerate(GltfDocument.load(base).items("nodes"))}
    assert {names["Wolf3D_Head"], names["Wolf3D_Teeth"], names["Wolf3D_Eyelashes"]} <= moved
    before, after = (GltfDocument.load(tmp_path / name) for name in ("avatar.vrm", "out.vrm"))
    assert after.json["extensions"] == before.json["extensions"]
    assert validator_errors(web, tmp_path / "out.vrm") == 0


@pytest.mark.parametrize(("scale", "angles"), [(100, (-90, 0, 0)), (0.01, (0, 180, 0)), (39.37, (0, 0, 90))])
def test_axes_and_scales(talk, talking, clip, base, tmp_path, scale, angles):
    changed(base, tmp_path / "avatar.glb", turned(scale, angles))
    animation = talk.animate(clip[0], tmp_path / "avatar.glb", textgrid=clip[1])
    animation.save(tmp_path / "out.glb")
    assert worst_mm(animation, tmp_path / "out.glb") < 0.01
    assert np.abs(opening_mm(animation) - opening_mm(talking[0])).max() < 0.05


@pytest.fixture(scope="module")
def compressed(base, web, tmp_path_factory):
    """Compresses the avatar with glTF Transform."""
    folder = tmp_path_factory.mktemp("compressed")

    def make(kind):
        path = folder / f"{kind}.glb"
        if not path.exists():
            subprocess.run(["node", "compress.js", kind, base, path], cwd=web, capture_output=True, check=True)
        return path

    return make


@needs_meshopt
@pytest.mark.parametrize("kind", ["meshopt", "draco", "quantize"])
def test_compressed_files_stay_compressed(talk, talking, clip, compressed, web, tmp_path, kind):
    source = compressed(kind)
    animation = talk.animate(clip[0], source, textgrid=clip[1])
    animation.save(tmp_path / "out.glb")
    before, after = GltfDocument.load(source), GltfDocument.load(tmp_path / "out.glb")
    assert before.json["extensionsUsed"] == after.json["extensionsUsed"]
    assert after.chunk[: len(before.chunk)] == before.chunk
    assert worst_mm(animation, tmp_path / "out.glb") < 0.01
    assert np.abs(opening_mm(animation) - opening_mm(talking[0])).max() < 0.5
    assert validator_errors(web, tmp_path / "out.glb") == validator_errors(web, source)


def test_few_keys_within_the_tolerance(talking, tmp_path):
    """Weights between the keys are interpolated linearly, rotations on the sphere."""
    animation, path = talking
    animation.save(tmp_path / "few.glb", reduce=0.02)
    full, few = GltfDocument.load(path), GltfDocument.load(tmp_path / "few.glb")
    made, reduced = full.items("animations")[-1], few.items("animations")[-1]
    kept = []
    for mine, theirs, channel in zip(reduced["samplers"], made["samplers"], reduced["channels"], strict=True):
        times, values = few.read_accessor(mine["input"]).ravel(), few.read_accessor(mine["output"])
        at, wanted = full.read_accessor(theirs["input"]).ravel(), full.read_accessor(theirs["output"])
        kept.append(len(times) / len(at))
        if channel["target"]["path"] == "rotation":
            between = Slerp(times, Rotation.from_quat(values))(at)
            assert (between * Rotation.from_quat(wanted).inv()).magnitude().max() <= 0.02 * np.radians(10) + 1e-6
            continue
        values, wanted = values.reshape(len(times), -1), wanted.reshape(len(at), -1)
        between = np.stack([np.interp(at, times, column) for column in values.T], axis=1)
        assert np.abs(between - wanted).max() <= 0.02 + 1e-6
    assert min(kept) < 0.6 and max(kept) <= 1


def test_an_animation_file_alone(talking, base, web, kmtalk, tmp_path):
    animation, path = talking
    animation.save(tmp_path / "motion.glb", animation_only=True)
    assert (tmp_path / "motion.glb").stat().st_size < 0.2 * path.stat().st_size
    full, bare = GltfDocument.load(path), GltfDocument.load(tmp_path / "motion.glb")
    assert [n.get("name") for n in bare.items("nodes")] == [n.get("name") for n in full.items("nodes")]
    assert not bare.items("materials") and not bare.items("images") and not bare.items("skins")
    (one,), two = bare.items("animations"), full.items("animations")[-1]
    assert one["channels"] == two["channels"]
    for mine, theirs in zip(one["samplers"], two["samplers"], strict=True):
        np.testing.assert_array_equal(bare.read_accessor(mine["output"]), full.read_accessor(theirs["output"]))
    names = {m["name"]: m["extras"]["targetNames"] for m in full.items("meshes") if "extras" in m}
    assert {m["name"]: m["extras"]["targetNames"] for m in bare.items("meshes")} == names
    assert validator_errors(web, tmp_path / "motion.glb") == 0
    done = kmtalk("view", "motion.glb")
    assert done.returncode == 2 and "no mesh to show" in done.stderr


@needs_browser
@pytest.mark.parametrize("made", ["html", "view", "meshopt", "draco"])
def test_the_page_shows_the_same_vertices(browser, talk, talking, clip, compressed, kmtalk, tmp_path, made):
    """three.js skins to the vertices of the animation; compressed files are decoded for the page."""
    if made in ("meshopt", "draco"):
        pytest.importorskip("meshoptimizer", reason="no meshoptimizer here")
        animation = talk.animate(clip[0], compressed(made), textgrid=clip[1])
    else:
        animation, _ = talking
    animation.save(tmp_path / ("a.html" if made == "html" else "a.glb"))
    if made != "html":
        done = kmtalk("view", "a.glb")
        assert done.returncode == 0, done.stderr
    opened = Opened(browser, tmp_path / "a.html")
    for frame in FRAMES:
        opened.page.evaluate(f"kmtalk.seek({(frame + 0.5) / animation.fps})")
        shown = np.array(opened.page.evaluate("kmtalk.skinnedPositions()")).reshape(-1, 3)
        assert np.abs(shown - animation.vertices[frame]).max() * animation.template.mm_per_unit < 0.01
    opened.close()


@pytest.mark.skipif(not BLENDER.exists(), reason="no bpy for this Python, or it cannot be installed (make blender)")
def test_blender_shows_the_same_vertices(talking, talk, base, clip, tmp_path, monkeypatch):
    """GLB by the import script, FBX by Blender's importer; and an FBX character is animated as well."""
    monkeypatch.setenv("KMTALK_BLENDER", str(BLENDER))
    animation, _ = talking
    animation.save(tmp_path / "out", formats="glb,fbx")
    parts = load_template(base).parts
    frames = list(FRAMES)
    expected = {f"part {name}": animation.vertices[frames][:, index] for name, index in parts.items()}
    facts = {"frames": frames, "mm_per_unit": animation.template.mm_per_unit, "fps": animation.fps}
    np.savez(tmp_path / "expected.npz", **facts, **expected)

    def in_blender(source):
        command = [BLENDER, ROOT / "tests" / "character_in_blender.py", source, tmp_path / "expected.npz"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        found = [json.loads(line[7:]) for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
        assert found, ran.stdout[-2000:] + ran.stderr[-2000:]
        return found[0]

    for source in (tmp_path / "out", tmp_path / "out" / "animation.fbx"):
        found = in_blender(source)
        assert max(found["worst_mm"].values()) < 0.01
        assert found["bones"] >= 60 and found["materials"] >= 6 and found["images"] >= 6 and found["meshes"] >= 8
    given = tmp_path / "given.fbx"
    (tmp_path / "out" / "animation.fbx").rename(given)
    again = talk.animate(clip[0], given, textgrid=clip[1])
    again.save(tmp_path / "again.glb")
    assert worst_mm(again, tmp_path / "again.glb") < 0.1
    # what is left is the rounding of positions in metres to 32 bits, twice, and of Blender's scale
    assert np.abs(opening_mm(again) - opening_mm(animation)).max() < 0.01
    assert len(GltfDocument.load(tmp_path / "again.glb").items("materials")) >= 6


def test_fbx_without_blender_is_one_line(kmtalk, tmp_path, monkeypatch):
    if importlib.util.find_spec("bpy") is not None or shutil.which("blender"):
        pytest.skip("there is a Blender here")
    monkeypatch.delenv("KMTALK_BLENDER", raising=False)
    (tmp_path / "a.fbx").write_bytes(b"Kaydara FBX Binary  ")
    for arguments in (
        ("--template", "a.fbx", "-o", "out.glb"),
        ("-o", "out.fbx"),
        ("--formats", "npz,fbx", "-o", "out"),
    ):
        done = kmtalk("animate", "speech.wav", *arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "kmtalk[blender]" in done.stderr, done.stderr
    done = kmtalk("fit", "a.fbx")
    assert done.returncode == 2 and "KMTALK_BLENDER" in done.stderr


def test_a_vrm_animation_is_read_by_three_vrm(talking, web, tmp_path):
    animation, _ = talking
    animation.save(tmp_path / "a.vrma")
    done = subprocess.run(["node", "vrma.js", tmp_path / "a.vrma"], cwd=web, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["duration"] == pytest.approx((len(animation.motion) - 1) / animation.fps, abs=1e-4)
    assert set(found["presets"]) >= {"aa", "ih", "ou", "ee", "oh", "blinkLeft", "blinkRight"}
    names = animation.shape_names
    np.testing.assert_allclose(
        found["customs"]["eyeBlinkLeft"], animation.weights[:, names.index("eyeBlinkLeft")], atol=1e-3
    )
    turns = [Rotation.from_quat(np.reshape(found["rotations"][bone], (-1, 4))) for bone in ("neck", "head")]
    pairs = (("headYawLeft", "headYawRight"), ("headPitchDown", "headPitchUp"), ("headRollRight", "headRollLeft"))
    curve = {n: animation.weights[:, names.index(n)] for n in HEAD_NAMES}
    angles = HEAD_DEGREES * np.stack([curve[a] - curve[b] for a, b in pairs], axis=1)
    expected = Rotation.from_euler("YXZ", angles, degrees=True)
    assert np.degrees((turns[0] * turns[1] * expected.inv()).magnitude()).max() < 0.01
    # the five mouths together open and close as the mouth does
    assert np.corrcoef(np.array(found["presets"]["aa"]) + found["presets"]["oh"], opening_mm(animation))[0, 1] > 0.7
    assert validator_errors(web, tmp_path / "a.vrma") == 0


def test_the_film_shows_its_materials(talking, tmp_path):
    """Dark hair above, skin in the middle, blue clothes below: none of it the grey of clay."""
    animation, _ = talking
    still = replace(animation, motion=replace(animation.motion, weights=animation.weights[:1]))
    still.save(tmp_path / "film.mp4", frame="head", view="front", background="white", size="256")
    import av

    with av.open(str(tmp_path / "film.mp4")) as film:
        picture = next(film.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    hair, skin, shirt = picture[32:40, 118:138], picture[125:131, 100:110], picture[230:250, 118:138]
    assert hair.mean() < 110
    red, _, blue = skin.reshape(-1, 3).mean(0)
    assert red > blue + 25
    red, _, blue = shirt.reshape(-1, 3).mean(0)
    assert blue > red + 15


def test_saved_animations_keep_bones_and_materials(talking, kmtalk, tmp_path):
    animation, path = talking
    animation.save(tmp_path / "talk.npz")
    done = kmtalk("export", "talk.npz", "-o", "again.glb")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.glb").read_bytes() == path.read_bytes()
    done = kmtalk("export", "talk.npz", "-o", "face.glb", "--bake")
    assert done.returncode == 0, done.stderr
    baked = GltfDocument.load(tmp_path / "face.glb")
    assert len(baked.items("images")) >= 6 and {m["name"] for m in baked.items("materials")} >= {"Skin", "Hair"}


def test_a_project_that_has_moved(talking, base, kmtalk, tmp_path):
    """The character is found beside the arrays; without it, films say what they lack and GLB is refused."""
    animation, _ = talking
    given = replace(animation.template, source=str(tmp_path / "gone" / "avatar.glb"))
    motion = replace(animation.motion, rig=replace(animation.motion.rig, template=given), weights=animation.weights[:2])
    keys = KeyMotions(KeyFrames(np.array([0, 1]), ("", ""), 30.0), motion)
    replace(animation, motion=motion, keys=keys).save(tmp_path / "talk.npz")
    done = kmtalk("export", "talk.npz", "-o", "film.mp4", "--size", "64")
    assert done.returncode == 0 and "no longer there" in done.stderr and done.stderr.count("\n") == 1
    done = kmtalk("export", "talk.npz", "-o", "out.glb")
    assert done.returncode == 2 and "beside the animation.npz" in done.stderr
    shutil.copy(base, tmp_path / "avatar.glb")
    done = kmtalk("export", "talk.npz", "-o", "out.glb")
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--node", "Nobody"], "no node is named Nobody"),
        (["--head-bone", "Nobody"], "no node is named Nobody"),
        (["--head-bone", "head"], "did you mean Head"),
        (["--map", "map.yaml"], "has no shape nothing"),
    ],
)
def test_wrong_choices_are_one_line(kmtalk, base, tmp_path, options, words):
    (tmp_path / "map.yaml").write_text("nothing: jawOpen\n")
    done = kmtalk("animate", "speech.wav", "--template", str(base), "-o", "out.glb", *options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
    assert not (tmp_path / "out.glb").exists()


def test_two_characters_need_a_choice(talk, kmtalk, base, clip, tmp_path):
    """Two avatars in one file; --node picks one, and the other stays as it is."""

    def twice(file: GlbFile):
        document = file.document
        shift = len(document["nodes"])
        copies = deepcopy(document["nodes"])
        for node in copies:
            node["children"] = [c + shift for c in node.get("children", [])]
            if not node["children"]:
                del node["children"]
            if "skin" in node:
                node["skin"] = 1
            if "mesh" in node:
                node["mesh"] += len(document["meshes"])
        skin = deepcopy(document["skins"][0])
        skin["joints"] = [j + shift for j in skin["joints"]]
        skin["skeleton"] += shift
        copies[0] |= {"name": "Bob", "translation": [2, 0, 0]}
        document["nodes"][0]["name"] = "Alice"
        document["nodes"] += copies
        document["meshes"] += deepcopy(document["meshes"])
        document["skins"].append(skin)
        document["scenes"][0]["nodes"].append(shift)

    changed(base, tmp_path / "two.glb", twice)
    done = kmtalk("animate", "speech.wav", "--template", "two.glb", "-o", "out.glb")
    assert done.returncode == 2 and "has 2 characters (Alice, Bob); choose one with --node Alice" in done.stderr
    from kmtalk import CharacterSettings

    animation = talk.animate(clip[0], tmp_path / "two.glb", textgrid=clip[1], character=CharacterSettings(node="Bob"))
    animation.save(tmp_path / "out.glb")
    animation.save(tmp_path / "talk.npz")
    file = GltfDocument.load(tmp_path / "out.glb")
    shift = len(file.items("nodes")) // 2
    assert all(c["target"]["node"] >= shift for c in file.items("animations")[-1]["channels"])
    assert opening_mm(animation).max() > 8
    done = kmtalk("export", "talk.npz", "-o", "again.glb")
    assert done.returncode == 0 and (tmp_path / "again.glb").read_bytes() == (tmp_path / "out.glb").read_bytes()


def test_teeth_without_shapes_follow_the_jaw(talk, talking, base, clip, tmp_path):
    def without(file: GlbFile):
        mesh = next(m for m in file.document["meshes"] if m["name"] == "Wolf3D_Teeth")
        del mesh["primitives"][0]["targets"], mesh["extras"], mesh["weights"]

    changed(base, tmp_path / "avatar.glb", without)
    animation = talk.animate(clip[0], tmp_path / "avatar.glb", textgrid=clip[1])
    animation.save(tmp_path / "out.glb")
    assert worst_mm(animation, tmp_path / "out.glb") < 0.01
    index = load_template(base).parts["Wolf3D_Teeth"]
    mm = animation.template.mm_per_unit
    expected, seen = (one.vertices[:, index] - one.vertices[:1, index] for one in (talking[0], animation))
    assert np.ptp(expected[..., 1]) * mm > 5
    # upper teeth stay, lower teeth and tongue come down, as the file's own shapes have them
    assert np.abs(seen - expected).mean() * mm < 1.0
    assert np.corrcoef(seen[..., 1].ravel(), expected[..., 1].ravel())[0, 1] > 0.95


def test_the_fit_report_lists_what_was_matched(kmtalk, tmp_path):
    from make_avatar import write_avatar

    write_avatar(tmp_path / "avatar.glb", meaningless, visemes=False)
    done = kmtalk("fit", "avatar.glb")
    assert done.returncode == 0, done.stderr
    (jaw,) = meaningless("jawOpen")
    assert f"{jaw} = jawOpen (" in done.stderr and "turns on Neck and Head" in done.stderr
    report = json.loads((tmp_path / "avatar-fit.json").read_text())
    assert f"{jaw} = jawOpen" in report["measurements"]["matched_by_effect"]
    assert (tmp_path / "avatar-fit.png").stat().st_size > 10_000


def test_shapes_by_a_map(talk, tmp_path):
    """The user says which shape is which, and leaves one out."""
    from make_avatar import write_avatar

    write_avatar(tmp_path / "avatar.glb", meaningless, visemes=False)
    (key,) = meaningless("jawOpen")
    (left,) = meaningless("cheekPuff")
    (tmp_path / "map.yaml").write_text(f"{key}: jawOpen\n{left}:\n")
    from kmtalk import CharacterSettings

    fit = talk.fit(tmp_path / "avatar.glb", character=CharacterSettings(map=str(tmp_path / "map.yaml")))
    rig = fit.rig
    assert rig.native_shapes.mixing_matrix[rig.index["jawOpen"], rig.native_shapes.names.index(key)] == 1
    assert left not in rig.native_shapes.names
