"""Characters with what real files have: each comes back with the vertices of its animation, or is refused in a line."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest
from avatars import changed, skinned_vertices, vrm
from conftest import SPEECH, beginning, needs_detector

from kmtalk import CharacterSettings, InputError
from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.speech.alignment import Alignment, Phone, write_textgrid

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="anny is not installed"),
]
FRAMES = (5, 20, 27)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The head of the avatar without body, with ARKit's shapes."""
    from make_avatar import write_avatar

    path = tmp_path_factory.mktemp("avatar") / "avatar.glb"
    write_avatar(path, visemes=False, body=False)
    return path


@pytest.fixture(scope="module")
def clip(spoken):
    """The first second of the demo with its phones."""
    return beginning(spoken, 1.0)


@pytest.fixture
def talked(talk, clip, tmp_path):
    """Animates a changed character; checks the file against the animation's vertices, and returns both."""

    def run(source, change):
        changed(source, tmp_path / "given.glb", change)
        animation = talk.animate(clip[0], tmp_path / "given.glb", textgrid=clip[1])
        animation.save(tmp_path / "out.glb")
        for frame in FRAMES:
            shown = skinned_vertices(tmp_path / "out.glb", "kmtalk", frame, animation.fps)
            assert np.abs(shown - animation.vertices[frame]).max() * animation.template.mm_per_unit < 0.02
        marks = animation.template.landmarks
        gap = animation.vertices[:, marks["lip_inner_upper"]] - animation.vertices[:, marks["lip_inner_lower"]]
        assert np.linalg.norm(gap, axis=1).max() * animation.template.mm_per_unit > 5
        return animation, GltfDocument.load(tmp_path / "out.glb")

    return run


def write_clip(folder):
    """Write a sound and its phones into a folder."""
    shutil.copy(SPEECH, folder / "speech.wav")
    alignment = Alignment((Phone("AA1", 0.1, 0.4), Phone("M", 0.4, 0.6)), status="given")
    write_textgrid(alignment, folder / "speech.TextGrid", 7.0)


def mesh_of(file: GlbFile, name: str):
    return next(m for m in file.document["meshes"] if m["name"] == name)


def test_nodes_in_another_order_than_in_the_cached_fit(talked, base):
    def shifted(file: GlbFile):
        document = file.document
        document["nodes"].insert(0, {"name": "Nothing"})
        for node in document["nodes"]:
            if "children" in node:
                node["children"] = [c + 1 for c in node["children"]]
        skin = document["skins"][0]
        skin["joints"] = [j + 1 for j in skin["joints"]]
        skin["skeleton"] += 1
        document["scenes"][0]["nodes"] = [1]
        for channel in document["animations"][0]["channels"]:
            channel["target"]["node"] += 1

    talked(base, lambda file: None)
    animation, out = talked(base, shifted)
    turned = {c["target"]["node"] for c in out.items("animations")[-1]["channels"] if c["target"]["path"] == "rotation"}
    assert {out.items("nodes")[n]["name"] for n in turned} == {"Neck", "Head", "LeftEye", "RightEye"}
    assert {j.node for j in animation.template.joints} == turned


def test_a_file_that_has_changed_since_is_refused(talk, clip, base, tmp_path):
    changed(base, tmp_path / "given.glb", lambda file: None)
    animation = talk.animate(clip[0], tmp_path / "given.glb", textgrid=clip[1])

    def renamed(file: GlbFile):
        next(n for n in file.document["nodes"] if n.get("name") == "Head")["name"] = "Foot"

    changed(base, tmp_path / "given.glb", renamed)
    with pytest.raises(InputError, match="has changed"):
        animation.save(tmp_path / "out.glb")


@needs_detector
@pytest.mark.parametrize("kept", [(), ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")], ids=["placeholders", "three"])
def test_shapes_of_the_file_that_are_not_used_do_not_stand_in_for_ours(talked, base, kept):
    """Placeholders that move nothing, and too few shapes: the fitted ones are added under other names."""

    def emptied(file: GlbFile):
        for mesh in file.document["meshes"]:
            names = mesh.get("extras", {}).get("targetNames", [])
            for primitive in mesh["primitives"]:
                for name, target in zip(names, primitive.get("targets", []), strict=False):
                    if name not in kept:
                        target["POSITION"] = file.add_zeros(file.document["accessors"][target["POSITION"]]["count"])

    animation, out = talked(base, emptied)
    names = out.items("meshes")[0]["extras"]["targetNames"]
    assert "jawOpen_kmtalk" in names and animation.motion.rig.native_shapes is None


def test_teeth_whose_shapes_move_nothing_follow_the_jaw(talked, base):
    def emptied(file: GlbFile):
        for target in mesh_of(file, "Wolf3D_Teeth")["primitives"][0]["targets"]:
            target["POSITION"] = file.add_zeros(file.document["accessors"][target["POSITION"]]["count"])

    _, out = talked(base, emptied)
    teeth = next(m for m in out.items("meshes") if m["name"] == "Wolf3D_Teeth")
    assert teeth["extras"]["targetNames"][-1].startswith("jawOpen_kmtalk")


@pytest.mark.parametrize("where", ["mesh", "node"])
def test_default_weights_stay(talked, base, where):
    """A morph target that is no face shape keeps its weight, in the file and in the arrays."""

    def customised(file: GlbFile):
        document = file.document
        for mesh in document["meshes"]:
            if mesh["name"] == "Wolf3D_Head":
                primitive = mesh["primitives"][0]
                count = document["accessors"][primitive["attributes"]["POSITION"]]["count"]
                primitive["targets"].append({"POSITION": file.add_offsets(np.full((count, 3), 0.004), 0.0)})
                mesh["extras"]["targetNames"].append("Face_Custom")
                weights = [*mesh["weights"], 1.0]
                mesh["weights"] = weights if where == "mesh" else [*mesh["weights"], 0.0]
                if where == "node":
                    next(n for n in document["nodes"] if n.get("name") == "Wolf3D_Head")["weights"] = weights

    plain, _ = talked(base, lambda file: None)
    animation, _ = talked(base, customised)
    head = next(iter(animation.template.parts.values())) if animation.template.parts else slice(0, 100)
    moved = animation.template.vertices[head] - plain.template.vertices[head]
    assert np.allclose(moved, 0.004, atol=1e-4)


@pytest.mark.parametrize("how", ["scale", "matrix"])
def test_mirrored_characters(talked, base, how):
    def mirrored(file: GlbFile):
        nodes = file.document["nodes"]
        matrix = np.diag([-1.0, 1, 1, 1]).ravel().tolist()
        mirror = {"scale": [-1, 1, 1]} if how == "scale" else {"matrix": matrix}
        nodes.append({"name": "Mirror", "children": [0], **mirror})
        file.document["scenes"][0]["nodes"] = [len(nodes) - 1]

    talked(base, mirrored)


def test_primitives_with_fewer_targets_and_other_oddities(talked, base):
    """A second primitive without targets, extras that are a list, a vertex without weights, names beyond ASCII."""

    def odd(file: GlbFile):
        document = file.document
        head = mesh_of(file, "Wolf3D_Head")
        teeth = mesh_of(file, "Wolf3D_Teeth")
        second = {k: v for k, v in teeth["primitives"][0].items() if k != "targets"}
        head["primitives"].append(second)
        mesh_of(file, "EyeLeft")["extras"] = ["a list"]
        document["nodes"][0]["name"] = "Gerüst 骨"
        lashes = mesh_of(file, "Wolf3D_Eyelashes")["primitives"][0]["attributes"]["WEIGHTS_0"]
        count = document["accessors"][lashes]["count"]
        document["accessors"][lashes] = {**document["accessors"][lashes]}
        weights = np.zeros((count, 4), np.float32)
        weights[1:, 0] = 1
        document["accessors"][lashes]["bufferView"] = file.add_view(weights)

    talked(base, odd)


def test_damaged_vrm_data_is_left_alone(talked, base):
    def damaged(file: GlbFile):
        vrm(0)(file)
        given = file.document["extensions"]["VRM"]
        groups = given["blendShapeMaster"]["blendShapeGroups"]
        groups.append({"name": "Bad", "binds": [{"mesh": -5, "index": 0, "weight": 100}, {"mesh": 0, "index": -1}]})
        groups.append({"name": "Worse", "binds": [{"mesh": 99, "index": 0, "weight": None}]})
        given["humanoid"]["humanBones"].append({"bone": "jaw", "node": 9999})
        file.document["extensions"]["VRMC_vrm"] = None

    # the blink and vowels of the VRM are kept: without OVR's visemes there are none here
    def with_visemes(file: GlbFile):
        mesh = mesh_of(file, "Wolf3D_Head")
        names = mesh["extras"]["targetNames"]
        for viseme, shape in {"aa": "jawOpen", "I": "mouthSmileLeft", "U": "mouthPucker", "E": "mouthStretchLeft",
                              "O": "mouthFunnel"}.items():  # fmt: skip
            names[names.index(shape)] = f"viseme_{viseme}"
        damaged(file)

    talked(base, with_visemes)


def test_bad_materials_do_not_cost_the_character(talked, base, tmp_path):
    def damaged(file: GlbFile):
        document = file.document
        document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["index"] = 99
        document["materials"][1]["alphaMode"] = "GLASS"
        view = document["bufferViews"][document["images"][2]["bufferView"]]
        file.data[view["byteOffset"] + 20 : view["byteOffset"] + 60] = b"x" * 40

    animation, _ = talked(base, damaged)
    animation.save(tmp_path / "film.mp4", size="64")
    assert (tmp_path / "film.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("uri", "words"), [("../secret.png", "not in its folder"), ("gone.png", "is missing"), ("http://x/y.png", "not in")]
)
def test_files_outside_the_character_are_not_taken_along(kmtalk, base, tmp_path, uri, words):
    def pointing(file: GlbFile):
        del file.document["images"][0]["bufferView"], file.document["images"][0]["mimeType"]
        file.document["images"][0]["uri"] = uri

    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "models").mkdir()
    changed(base, tmp_path / "models" / "given.glb", lambda file: None)
    document = GltfDocument.load(tmp_path / "models" / "given.glb")
    file = GlbFile.of(document)
    pointing(file)
    file.save(tmp_path / "models" / "given.glb")
    write_clip(tmp_path)
    given = ("--template", "models/given.glb", "--textgrid", "speech.TextGrid")
    done = kmtalk("animate", "speech.wav", *given, "-o", "out.glb")
    assert done.returncode == 2 and done.stderr.count("\n") <= 2 and words in done.stderr, done.stderr
    assert not (tmp_path / "out.glb").exists()


def test_hair_on_bones_of_its_own_is_no_second_character(talked, base):
    def haired(file: GlbFile):
        document = file.document
        lashes = next(n for n in document["nodes"] if n.get("name") == "Wolf3D_Eyelashes")
        document["nodes"].append({"name": "hair_head"})
        document["nodes"][0]["children"].append(len(document["nodes"]) - 1)
        matrix = file.add_accessor(np.eye(4, dtype=np.float32).ravel())
        document["accessors"][matrix] |= {"type": "MAT4", "count": 1}
        document["skins"].append({"joints": [len(document["nodes"]) - 1], "inverseBindMatrices": matrix})
        lashes["skin"] = 1
        attributes = mesh_of(file, "Wolf3D_Eyelashes")["primitives"][0]["attributes"]
        count = document["accessors"][attributes["POSITION"]]["count"]
        attributes["JOINTS_0"] = file.add_accessor(np.zeros((count, 4), np.uint16))
        attributes["WEIGHTS_0"] = file.add_accessor(np.tile([1, 0, 0, 0], (count, 1)))

    animation, _ = talked(base, haired)
    assert next(j for j in animation.template.joints if j.part == "head").name == "Head"


def test_a_head_bone_without_vertices_is_refused(kmtalk, base, tmp_path):
    done = kmtalk("fit", base, "-o", "a.kmrig", "--head-bone", "HeadTop_End")
    assert done.returncode == 2 and "moves no vertices" in done.stderr and done.stderr.count("\n") == 1


@needs_detector
def test_instances_follow_and_a_chosen_one_moves_alone(talk, clip, base, tmp_path):
    def twice(file: GlbFile):
        document = file.document
        shift = len(document["nodes"])
        for node in list(document["nodes"]):
            copied = {**node}
            if "children" in node:
                copied["children"] = [c + shift for c in node["children"]]
            if "skin" in node:
                copied["skin"] = 1
            document["nodes"].append(copied)
        document["nodes"][0] = {**document["nodes"][0], "name": "First"}
        document["nodes"][shift] |= {"name": "Second", "translation": [1, 0, 0]}
        skin = document["skins"][0]
        document["skins"].append({**skin, "joints": [j + shift for j in skin["joints"]], "skeleton": 1 + shift})
        document["scenes"][0]["nodes"].append(shift)

    changed(base, tmp_path / "two.glb", twice)
    for chosen in (None, "Second"):
        settings = CharacterSettings(**({"node": chosen} if chosen else {}))
        animation = talk.animate(clip[0], tmp_path / "two.glb", textgrid=clip[1], character=settings)
        animation.save(tmp_path / "out.glb")
        out = GltfDocument.load(tmp_path / "out.glb")
        channels = [c["target"] for c in out.items("animations")[-1]["channels"]]
        shift = len(out.items("nodes")) // 2
        talking = {t["node"] >= shift for t in channels if t["path"] == "weights"}
        assert talking == ({True} if chosen else {False, True})


def test_ktx_textures_are_passed_through_and_named_where_they_cannot_be_shown(talked, kmtalk, base, tmp_path):
    """Stand-in bytes with KTX 2's signature: nothing here decodes them."""
    content = b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(64)

    def compressed(file: GlbFile):
        document = file.document
        image = document["images"][0]
        image |= {"bufferView": file.add_view(np.frombuffer(content, np.uint8)), "mimeType": "image/ktx2"}
        del document["textures"][0]["source"]
        document["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": 0}}
        document["extensionsUsed"] = document["extensionsRequired"] = ["KHR_texture_basisu"]

    animation, out = talked(base, compressed)
    assert out.image(0) == content and out.json["extensionsRequired"] == ["KHR_texture_basisu"]
    animation.save(tmp_path / "film.mp4", size="64")
    done = kmtalk("view", "out.glb")
    assert done.returncode == 0 and "KTX2" in done.stderr and done.stderr.count("\n") == 1
