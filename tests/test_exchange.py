"""Every output format, read back with an independent reader."""

from __future__ import annotations

import csv
import json
import struct

import numpy as np
import pytest
import soundfile
import trimesh
from conftest import SAID, SPEECH, phones
from pxr import Usd, UsdGeom, UsdShade, UsdSkel

from kmtalk import InputError
from kmtalk.animation import load_animation
from kmtalk.exchange import arkit, viseme_cues
from kmtalk.exchange.gltf import write_glb
from kmtalk.face.appearance import texture_files, texture_path
from kmtalk.face.motion import Motion
from kmtalk.face.rig import ARKIT_NAMES, Rig

EVERYTHING = "npz,npz16,glb,usd,pc2,mdd,obj,csv,json,ovr,rhubarb,tsv"


@pytest.fixture(scope="module")
def folder(spoken, tmp_path_factory):
    path = tmp_path_factory.mktemp("formats") / "out"
    spoken.save(path, formats=EVERYTHING)
    return path


def worst_mm(spoken, vertices):
    return float(np.abs(vertices - spoken.vertices).max()) * spoken.template.mm_per_unit


def test_an_npz_is_the_whole_animation(folder, spoken):
    held = load_animation(folder / "animation.npz")
    assert np.array_equal(held.vertices, spoken.vertices)
    assert held.alignment == spoken.alignment
    assert held.provenance == spoken.provenance
    assert np.array_equal(held.keys.frames, spoken.keys.frames)
    assert held.keys.phone_labels == spoken.keys.phone_labels
    assert np.array_equal(held.audio.original, spoken.audio.original)
    assert np.array_equal(held.audio.samples, spoken.audio.samples)
    held.save(folder / "again.npz")
    assert (folder / "again.npz").read_bytes() == (folder / "animation.npz").read_bytes()


def test_float16_keeps_the_motion(folder, spoken):
    with np.load(folder / "animation.f16.npz") as z:
        assert z["vertex_offsets"].dtype == np.float16
        assert worst_mm(spoken, z["template"] + z["vertex_offsets"].astype(np.float32)) < 0.02
    assert np.array_equal(load_animation(folder / "animation.f16.npz").weights, spoken.weights)


def test_usd_tells_its_time(folder, spoken):
    stage = Usd.Stage.Open(str(folder / "animation.usd"))
    assert (stage.GetTimeCodesPerSecond(), stage.GetFramesPerSecond()) == (30, 30)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, len(spoken.motion) - 1)
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    mesh = next(p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh))
    animation = UsdSkel.Animation(next(p for p in stage.Traverse() if p.IsA(UsdSkel.Animation)))
    assert list(animation.GetBlendShapesAttr().Get()) == list(spoken.shape_names)
    weights = animation.GetBlendShapeWeightsAttr()
    assert weights.GetTimeSamples() == list(range(len(spoken.motion)))
    assert np.allclose(weights.Get(100), spoken.weights[100])
    # pose a frame with USD's own deformation
    query = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(mesh))
    points = UsdGeom.Mesh(mesh).GetPointsAttr().Get()
    sub, shapes, parts = query.ComputeSubShapeWeights(weights.Get(100))
    query.ComputeDeformedPoints(
        sub, shapes, parts, query.ComputeBlendShapePointIndices(), query.ComputeSubShapePointOffsets(), points
    )
    assert np.abs(np.array(points) - spoken.vertices[100]).max() * 1000 < 0.05


def test_usd_carries_the_materials(folder, rig):
    stage = Usd.Stage.Open(str(folder / "animation.usd"))
    mesh = next(UsdGeom.Mesh(p) for p in stage.Traverse() if p.IsA(UsdGeom.Mesh))
    subsets = UsdShade.MaterialBindingAPI(mesh).GetMaterialBindSubsets()
    materials = {m.name: m for m in rig.template.appearance.materials}
    assert {s.GetPrim().GetName() for s in subsets} == set(materials)
    assert sum(len(s.GetIndicesAttr().Get()) for s in subsets) == len(rig.template.faces)
    st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    assert st.GetInterpolation() == UsdGeom.Tokens.faceVarying
    expected = rig.template.appearance.uv[rig.template.appearance.uv_faces].reshape(-1, 2) * [1, -1] + [0, 1]
    assert np.abs(np.array(st.ComputeFlattened()) - expected).max() < 1e-6
    for subset in subsets:
        bound, _ = UsdShade.MaterialBindingAPI(subset.GetPrim()).ComputeBoundMaterial()
        surface = bound.ComputeSurfaceSource()[0]
        source = surface.GetInput("diffuseColor").GetConnectedSource()
        given = materials[bound.GetPrim().GetName()].base_color_texture
        if given is None:
            assert source is None
        else:
            path = source[0].GetPrim().GetAttribute("inputs:file").Get().resolvedPath
            assert path.endswith(f"animation-{given}")
            assert (folder / f"animation-{given}").read_bytes() == texture_path(given).read_bytes()


def test_usd_baked_holds_every_frame(spoken, tmp_path):
    for name in ("baked.usda", "baked.usdc"):
        spoken.save(tmp_path / name, bake=True)
        stage = Usd.Stage.Open(str(tmp_path / name))
        points = UsdGeom.Mesh(next(p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh))).GetPointsAttr()
        assert points.GetTimeSamples() == list(range(len(spoken.motion)))
        assert worst_mm(spoken, np.stack([points.Get(n) for n in range(len(spoken.motion))])) < 0.001


def test_point_caches(folder, spoken):
    count, vertices = spoken.vertices.shape[:2]
    data = (folder / "animation.pc2").read_bytes()
    assert struct.unpack("<12siiffi", data[:32]) == (b"POINTCACHE2\0", 1, vertices, 0.0, 1.0, count)
    # vertices are posed in chunks, and processors round products of other sizes differently in the last bit
    cached = np.frombuffer(data, "<f4", offset=32).reshape(spoken.vertices.shape)
    assert np.abs(cached - spoken.vertices).max() < 1e-7  # metres
    data = (folder / "animation.mdd").read_bytes()
    assert struct.unpack(">ii", data[:8]) == (count, vertices)
    assert np.allclose(np.frombuffer(data, ">f4", count, 8), np.arange(count) / 30, atol=1e-6)
    cached = np.frombuffer(data, ">f4", offset=8 + 4 * count).reshape(spoken.vertices.shape)
    assert np.abs(cached - spoken.vertices).max() < 1e-7
    neutral = trimesh.load(folder / "animation-neutral.obj", process=False)
    assert np.allclose(neutral.vertices, spoken.template.vertices, atol=1e-6)


def test_obj_sequence(folder, spoken):
    files = sorted((folder / "frames").iterdir())
    assert [f.name for f in files] == [f"animation.{n:04d}.obj" for n in range(len(spoken.motion))]
    for n in (0, 100, len(files) - 1):
        mesh = trimesh.load(files[n], process=False)
        assert np.abs(mesh.vertices - spoken.vertices[n]).max() * 1000 < 0.001
        assert np.array_equal(mesh.faces, spoken.template.faces)


def test_live_link_face_csv(folder, spoken):
    with (folder / "animation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(spoken.motion)
    columns = list(rows[0])
    assert columns[:3] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft"]
    assert columns[-1] == "RightEyeRoll"
    assert len(columns) == 2 + 61
    assert {c[0].lower() + c[1:] for c in columns[2:54]} == set(ARKIT_NAMES)
    assert [rows[n]["Timecode"] for n in (0, 29, 30)] == ["00:00:00:00.000", "00:00:00:58.000", "00:00:01:00.000"]
    jaw = np.array([float(r["JawOpen"]) for r in rows])
    own = spoken.weights[:, spoken.shape_names.index("jawOpen")]
    assert np.corrcoef(jaw, own)[0, 1] > 0.98
    values = np.array([[float(v) for v in list(r.values())[2:54]] for r in rows])
    assert values.min() >= 0
    assert values.max() <= 1


def test_shapes_that_arkit_lacks_become_its_own(rig):
    weights = np.zeros((2, len(rig.shape_names)), np.float32)
    weights[1, rig.index["mouthProtrude"]] = 1.0
    curves = dict(zip(arkit.LIVE_LINK_ORDER, arkit.arkit_curves(Motion(rig, weights, 30.0))[1], strict=True))
    assert curves["mouthPucker"] + curves["mouthFunnel"] > 0.2


def test_the_gain_of_a_small_mouth_stays_at_home(rig):
    weights = np.zeros((1, len(rig.shape_names)), np.float32)
    weights[0, rig.index["jawOpen"]] = 0.6
    strong = Rig(rig.template, rig.shape_names, rig.offsets, mouth_gain=1.5)
    jaw = arkit.LIVE_LINK_ORDER.index("jawOpen")
    assert arkit.arkit_curves(Motion(strong, weights, 30.0))[0, jaw] == pytest.approx(0.4)


def test_arkit_json(folder, spoken):
    document = json.loads((folder / "animation.json").read_text())
    assert document["fps"] == 30
    assert set(document["names"]) == set(ARKIT_NAMES)
    assert document["frames"][3]["time"] == pytest.approx(3.5 / 30, abs=1e-6)
    assert len(document["frames"]) == len(spoken.motion)


def test_cues_follow_the_phones():
    spoken = phones(("P", 0.1, 0.2), ("AA", 0.2, 0.4), ("B", 0.5, 0.6), ("M", 0.6, 0.7))
    ovr = viseme_cues.visemes_from_phones(spoken, 1.0, viseme_cues._OVR, viseme_cues.OVR_SILENCE)
    assert [(round(a, 2), round(b, 2), n) for a, b, n in ovr] == [
        *(
            (0.0, 0.1, "sil"),
            (0.1, 0.2, "PP"),
            (0.2, 0.4, "aa"),
            (0.4, 0.5, "sil"),
            (0.5, 0.7, "PP"),
            (0.7, 1.0, "sil"),
        ),
    ]


def test_cue_files(folder, spoken):
    document = json.loads((folder / "animation.ovr.json").read_text())
    names = {v["viseme"] for v in document["visemes"]}
    assert names <= {"sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U"}
    assert {"PP", "SS", "aa", "sil"} <= names
    edges = [(v["start"], v["end"]) for v in document["visemes"]]
    assert edges[0][0] == 0
    assert edges[-1][1] == pytest.approx(spoken.audio.duration, abs=1e-3)
    assert all(a[1] == b[0] for a, b in zip(edges, edges[1:], strict=False))
    rhubarb = json.loads((folder / "animation.rhubarb.json").read_text())
    assert {c["value"] for c in rhubarb["mouthCues"]} <= set("ABCDEFGHX")
    lines = (folder / "animation.tsv").read_text().splitlines()
    assert len(lines) == len(rhubarb["mouthCues"]) + 1
    assert lines[-1].endswith("\tX")


def test_every_phone_has_a_cue():
    from kmtalk.articulation.targets import PHONE_TARGETS

    plain = {name for name in PHONE_TARGETS if not name.endswith("2")}
    assert plain == set(viseme_cues._by_phone(viseme_cues._OVR)) == set(viseme_cues._by_phone(viseme_cues._RHUBARB))


def test_beside_a_folder_lie_sound_and_script(folder, spoken):
    sound, rate = soundfile.read(folder / "speech.wav")
    assert len(sound) / rate == spoken.audio.duration
    script = (folder / "import_blender.py").read_text()
    assert "animation.glb" in script
    compile(script, "import_blender.py", "exec")


def test_a_glb_of_ten_thousand_vertices_is_small(rig, spoken, tmp_path):
    """300 frames with all shapes take at most 7 MB for each 10,000 vertices, besides the textures."""
    count = len(rig.template.vertices)
    assert count > 10_000
    write_glb(tmp_path / "f.glb", Motion(rig, spoken.weights[:300], 30.0))
    names = texture_files(rig.template.appearance.materials)
    textures = sum(texture_path(name).stat().st_size for name in names)
    assert 1e6 < textures < 6e6
    assert (tmp_path / "f.glb").stat().st_size - textures < 7e6 * count / 10_000


def test_the_commands(kmtalk, tmp_path):
    assert kmtalk("animate", SPEECH, "--text", SAID, "-o", "a.npz").returncode == 0
    for name in ("b.glb", "b.usdc", "b.abc", "b.mdd", "seq/b.##.obj", "b.csv", "b.rhubarb.json", "b.f16.npz"):
        done = kmtalk("export", "a.npz", "-o", name)
        assert (done.returncode, done.stderr) == (0, ""), name
    assert (tmp_path / "b-neutral.obj").is_file()
    assert (tmp_path / "seq" / "b.00.obj").is_file()
    done = kmtalk("export", "a.npz", "-o", "out", "--formats", "abc,csv")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *("animation.abc", "animation.csv", "import_blender.py", "keys.json", "speech.TextGrid", "speech.wav"),
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a.npz", "-o", "x.dae"], "x.dae"),
        (["a.npz", "-o", "x.obj"], "####"),
        (["a.npz", "-o", "out", "--formats", "fbx"], "fbx"),
        (["a.npz", "-o", "x.glb", "--formats", "usd"], "formats"),
        (["a.npz", "-o", "x.csv", "--bake"], "baked"),
        (["a.npz", "-o", "a.npz"], "is an input"),
        (["none.npz", "-o", "x.glb"], "none.npz"),
        (["broken.npz", "-o", "x.glb"], "broken.npz"),
        (["old.npz", "-o", "x.glb"], "old.npz"),
    ],
)
def test_bad_exports_are_one_line(spoken, kmtalk, tmp_path, arguments, named):
    spoken.save(tmp_path / "a.npz")
    (tmp_path / "broken.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:1000])
    np.savez(tmp_path / "old.npz", vertices=np.zeros(3))
    before = sorted(p.name for p in tmp_path.iterdir())
    done = kmtalk("export", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert named in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_single_obj_cache_replaces_no_other_file(spoken, tmp_path):
    """The neutral mesh of a .pc2 is written beside it under a separate name."""
    (tmp_path / "face.obj").write_text("mine")
    written = spoken.save(tmp_path / "face.pc2")
    assert [p.name for p in written] == ["face-neutral.obj", "face.pc2"]
    with pytest.raises(InputError):
        spoken.save(tmp_path / "seq.obj")
    assert (tmp_path / "face.obj").read_text() == "mine"
