"""Files that ask for far more than they hold, refer to themselves, or hold values that cannot be: one line, at once."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import re
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from kmtalk import InputError, KMTalk
from kmtalk.array_files import load_arrays, open_array
from kmtalk.corpora.mesh_corpus import find_frame_gaps
from kmtalk.face.files.load import load_template
from kmtalk.face.rig_file import load_rig_file, save_rig_file
from kmtalk.motion.model import load_network
from kmtalk.pickles import load_restricted_pickle
from kmtalk.settings import CharacterSettings
from kmtalk.speech.mfa_model import MfaModel

HEAD = ROOT / "assets" / "face.obj"
MFA = ROOT / "tests" / "fixtures" / "kmtalk_arpa.zip"


@pytest.fixture(autouse=True)
def at_once():
    began = time.process_time()
    yield
    assert time.process_time() - began < 10


def refused(read, path, said=""):
    """The one line that says why; it names the file."""
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 500 and re.search(said, text), text
    return text


def triangle_gltf(**changes):
    """A glTF of one triangle, whose positions are in a data URI."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36, "uri": "data:;base64," + base64.b64encode(points).decode()}],
    }
    return document | changes


DOUBLING = [{"children": [k + 1, k + 1]} for k in range(40)] + [{"mesh": 0}]
GLTF = {
    "nodes that double": (dict(nodes=DOUBLING), "over and over"),
    "a node below itself": (dict(nodes=[{"mesh": 0, "children": [1]}, {"children": [0]}]), "below itself"),
    "a node that is not there": (dict(nodes=[{"mesh": 0, "children": [7]}]), "does not exist"),
    "a huge accessor without a view": (
        dict(accessors=[{"componentType": 5126, "count": 300_000_000, "type": "VEC3"}]), "more than 10,000,000",
    ),
    "a count of infinity": (
        dict(accessors=[{"componentType": 5126, "count": 1e400, "type": "VEC3"}]), "readable|more than",
    ),
    "a huge accessor of a shape": (
        dict(
            meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "targets": [{"POSITION": 1}]}]}],
            accessors=[
                {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
                {"componentType": 5126, "count": 300_000_000, "type": "VEC3", "sparse": {
                    "count": 1, "indices": {"bufferView": 0, "componentType": 5125}, "values": {"bufferView": 0}}},
            ],
        ),
        "1024 MB",
    ),
    "a target 5,000 times": (
        dict(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "targets": [{"POSITION": 0}] * 5000}]}]), "4,096",
    ),
    "a scale of infinity": (dict(nodes=[{"mesh": 0, "scale": [1e400, 1, 1]}]), "finite|readable"),
    "a scale of 1e30": (dict(nodes=[{"mesh": 0, "scale": [1e30, 1e30, 1e30]}]), "units in size"),
    "a buffer elsewhere": (dict(buffers=[{"byteLength": 36, "uri": "../secret.bin"}]), "not in its folder"),
    "an absolute buffer": (dict(buffers=[{"byteLength": 36, "uri": "/etc/hostname"}]), "not in its folder"),
    "a file: buffer": (dict(buffers=[{"byteLength": 36, "uri": "file:/etc/hostname"}]), "not in its folder"),
    "a remote buffer": (dict(buffers=[{"byteLength": 36, "uri": "http://localhost/x.bin"}]), "not in its folder"),
    "a pipe as buffer": (dict(buffers=[{"byteLength": 36, "uri": "pipe.bin"}]), "pipe|missing"),
    "a view beyond its buffer": (dict(bufferViews=[{"buffer": 0, "byteLength": 2**40 - 1}]), "too short"),
    "a negative offset": (dict(bufferViews=[{"buffer": 0, "byteLength": 36, "byteOffset": -36}]), "no size"),
}  # fmt: skip


@pytest.mark.parametrize("case", GLTF)
def test_gltf(case, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(36))
    os.mkfifo(tmp_path / "in" / "pipe.bin")
    path, (changes, said) = tmp_path / "in" / "a.gltf", GLTF[case]
    path.write_text(json.dumps(triangle_gltf(**changes)))
    refused(load_template, path, said)


def test_gltf_without_a_fault_and_with_a_wrong_node(tmp_path):
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(triangle_gltf(nodes=[{"mesh": 0, "name": "face", "scale": [2, 2, 2]}])))
    assert load_template(path).vertices.max() == 2
    refused(lambda p: load_template(p, "nose"), path, "no node is named nose")
    path.write_text("[" * 100_000)
    refused(load_template, path, "nested")
    chain = [{"children": [k + 1]} for k in range(5000)] + [{"mesh": 0}]
    path.write_text(json.dumps(triangle_gltf(nodes=chain)))
    assert len(load_template(path).vertices) == 3


def head_lines():
    lines = HEAD.read_text().splitlines()
    return [s for s in lines if s.startswith("v ")], [s for s in lines if s.startswith("f ")]


def moved(scale, offset):
    points, faces = head_lines()
    values = np.array([[float(x) for x in p.split()[1:4]] for p in points]) * scale + offset
    return "\n".join(["v {} {} {}".format(*v) for v in values] + faces)


MESHES = {
    "times 1e30": (".obj", lambda: moved(1e30, 0), "units in size"),
    "times 1e-30": (".obj", lambda: moved(1e-30, 0), "units in size|same point"),
    "a million metres away": (".obj", lambda: moved(1, 1e6), "move it to the origin"),
    "NaN": (".obj", lambda: "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3", "finite"),
    "one point": (".obj", lambda: "v 1 1 1\n" * 3 + "f 1 2 3", "same point"),
    "a word of 100 kB": (".obj", lambda: f"v {'x' * 100_000} 0 0", "line 1"),
    "a megabyte of digits": (".obj", lambda: f"v 0 0 0\nf {'1' * 1_000_000} 1 1", "thousands of digits"),
    "repeated faces": (
        ".obj", lambda: "v 0 0 0\nv 1 0 0\nv 0 1 0\n" + "f 1 2 3\n" * 100_000, "over one another",
    ),
    "more vertices than the file": (
        ".ply",
        lambda: "ply\nformat binary_little_endian 1.0\nelement vertex 1000000000\nproperty float x\n"
        "property float y\nproperty float z\nend_header\n1234",
        "readable",
    ),
    "more facets than the file": (".stl", lambda: "\0" * 80 + "\x7f\x7f\x7f\x7f" + "\0" * 50, "readable|no vertices"),
}  # fmt: skip


@pytest.mark.parametrize("case", MESHES)
def test_meshes(case, tmp_path, talk):
    suffix, content, said = MESHES[case]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content().encode("latin-1"))
    refused(talk.fit, path, said)


USD_MESH = """def Mesh "M" {
    point3f[] points = [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    int[] faceVertexCounts = [3]
    int[] faceVertexIndices = [0, 1, 2]
}
"""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("(subLayers = [@a.usda@])", "below itself"),
        ("(subLayers = [@b.usda@])", "below itself"),
        ('def Xform "A" (references = @http://localhost:9/x.usda@</A>) {}', "not on this machine"),
        (USD_MESH.replace("[3]", "[-3, 6]"), "no vertices"),
        (USD_MESH.replace("(1, 0, 0)", "(1e38, 0, 0)"), "units in size"),
        (USD_MESH.replace("(1, 0, 0)", "(nan, 0, 0)"), "finite"),
    ],
)
def test_usd(content, said, tmp_path, capfd):
    pytest.importorskip("pxr")
    path = tmp_path / "a.usda"
    path.write_text(f"#usda 1.0\n{content}")
    (tmp_path / "b.usda").write_text("#usda 1.0\n(subLayers = [@a.usda@])")
    refused(load_template, path, said)
    assert not capfd.readouterr().err


def test_meshes_are_regular_files(tmp_path):
    for suffix in (".obj", ".stl", ".glb", ".usda"):
        path = tmp_path / f"pipe{suffix}"
        os.mkfifo(path)
        refused(load_template, path, "pipe")


def test_a_head_without_its_triangles_is_no_head(tmp_path, talk):
    """All vertices are there, and all edges that are there are the head's."""
    points, faces = head_lines()
    path = tmp_path / "few.obj"
    path.write_text("\n".join(points + faces[:1]))
    refused(talk.fit, path, "no face")
    path.write_text("\n".join(points + faces[: int(0.7 * len(faces))]))
    report = talk.fit(path).report
    assert report.confidence == "low" and "missing" in report.warnings[0]
    path.write_bytes(b"o T\xeate\n" + "\n".join(points + faces).encode())  # a name in Latin-1
    assert talk.fit(path).report.confidence == "high"


def zeros_member(name, header, size):
    """A compressed zip that says it holds an array of that header, followed by zeros."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with io.BytesIO() as file:
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(name, "w", force_zip64=True) as member,
        ):
            member.write(content.getvalue())
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        return file.getvalue()


def test_npz_and_npy(tmp_path):
    path = tmp_path / "a.npz"
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)}
    path.write_bytes(zeros_member("a.npy", header, 1 << 30))
    assert path.stat().st_size < 2 << 20
    with pytest.raises(ValueError, match="would take 1,074 MB"):
        load_arrays(path)
    path.write_bytes(zeros_member("a.npy", header | {"shape": (1 << 40,)}, 1 << 20))
    with pytest.raises(ValueError, match="not as long as its header"):
        load_arrays(path)
    np.savez(path, a=np.array([{}], object))
    with pytest.raises(ValueError, match="object"):
        load_arrays(path)
    np.savez_compressed(path, a=np.arange(6.0).reshape(2, 3), b=np.array("text"), c=np.zeros((0, 3)))
    read = load_arrays(path, skip=("c",))
    assert list(read) == ["a", "b"] and np.array_equal(read["a"], np.arange(6.0).reshape(2, 3))
    assert str(read["b"]) == "text"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="zip"):
        load_arrays(path)
    os.mkfifo(tmp_path / "pipe.npy")
    refused(open_array, tmp_path / "pipe.npy", "pipe")
    with (tmp_path / "long.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (1 << 40, 3)})
    with pytest.raises(ValueError):
        open_array(tmp_path / "long.npy")


def test_rigs(tmp_path, talk):
    fitted, path = talk.fit(HEAD), tmp_path / "a.kmrig"
    save_rig_file(path, fitted)
    held = load_arrays(path)
    for name, value, said in (
        ("offset_starts", np.zeros(1_000_000, np.int64), "damaged"),
        ("template", np.zeros((20_000_000, 3), np.float32), "damaged"),
        ("faces", held["faces"] + 1_000_000, "inconsistent"),
        ("region.lip_pairs", held["region.lip_pairs"].ravel(), "inconsistent"),
        ("fit_landmarks", np.array(np.nan), "inconsistent"),
        ("offsets", np.array(["x"]), "inconsistent"),
    ):
        np.savez_compressed(tmp_path / "b.npz", **held | {name: value})
        (tmp_path / "b.npz").replace(path)
        refused(load_rig_file, path, said)


def nested(levels, share):
    value = [1.0]
    for _ in range(levels):
        value = [value, value] if share else [value]
    return value


PICKLES = {
    "lists that double": (lambda: pickle.dumps({"a": nested(40, True)}), "too many values"),
    "lists in lists": (lambda: b"]" * 50_000 + b"a" * 49_999 + b".", "nested"),
    "a list in itself": (lambda: b"]q\x00h\x00a.", "contains itself"),
    "a far place of the memo": (lambda: b"]r" + struct.pack("<I", 2**28) + b".", "stores"),
    "tuples in tuples": (lambda: b")" + b"\x85" * 200_000 + b"K\x01s.", "too many values"),
    "a long string that is not there": (lambda: b"\x8e" + struct.pack("<Q", 2**40) + b"abc", "pickle"),
    "nothing": (lambda: b"", "pickle"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles(case, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(PICKLES[case][0]())
    refused(load_restricted_pickle, path, PICKLES[case][1])


def test_frame_numbers_of_any_size():
    assert find_frame_gaps({"a": [0, 10**9]}) == ("a: 999999999 of 1000000001 frames are missing, the first is 1",)
    assert find_frame_gaps({"a": [3, 4, 6], "b": [3, 4]}) == ("a: 1 of 4 frames are missing, the first is 5",)
    assert find_frame_gaps({"a": [3], "b": [4]}) == ("b: 1 of 2 frames are missing, the first is 3",)


def spoilt_network(path, config=(), tensors=None):
    with safe_open(ROOT / "assets" / "network.safetensors", "pt") as file:
        header = json.loads(file.metadata()["kmtalk"])
        held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    header["config"] |= dict(config)
    save_file({k: tensors(k, v) if tensors else v for k, v in held.items()}, path, {"kmtalk": json.dumps(header)})


@pytest.mark.parametrize(
    ("config", "tensors", "said"),
    [
        ({}, lambda name, v: torch.full_like(v, float("nan")), "not finite"),
        ({}, lambda name, v: torch.full_like(v, float("inf")) if "fusion" in name else v, "not finite"),
        ({}, lambda name, v: torch.zeros_like(v), "nothing but zeros"),
        ({}, lambda name, v: torch.zeros_like(v) if name == "feature_std" else v, "feature_std"),
        ({"num_heads": 0}, None, "num_heads"),
        ({"num_layers": 1_000_000}, None, "num_layers"),
        ({"d_model": 8192}, None, "d_model"),
        ({"audio_dim": -1}, None, "audio_dim"),
        ({"num_heads": 7}, None, "no multiple"),
        ({"head": "tail"}, None, "output"),
        ({"dropout": "much"}, None, "dropout"),
        ({"styles": [1]}, None, "styles"),
        ({"num_layers": 2}, None, "not part of the network"),
    ],
)
def test_networks(config, tensors, said, tmp_path):
    path = tmp_path / "a.safetensors"
    spoilt_network(path, config, tensors)
    refused(load_network, path, said)


def test_a_network_of_nan_ends_the_command_with_one_line(tmp_path, kmtalk):
    spoilt_network(tmp_path / "a.safetensors", (), lambda name, v: torch.full_like(v, float("nan")))
    done = kmtalk(
        "animate", ROOT / "assets" / "speech.wav", "--network", tmp_path / "a.safetensors", "-o", tmp_path / "o"
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "not finite" in done.stderr
    assert not (tmp_path / "o").exists()


def spoilt_mfa(path, name=None, content=b"", **features):
    """The fixture's model with other settings of its features, or another file in it."""
    with zipfile.ZipFile(MFA) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            data, own = old.read(info), Path(info.filename).name
            if own == "meta.json" and features:
                meta = json.loads(data)
                top = {k: features[k] for k in features if k.startswith(("optional", "silence"))}
                meta = meta | top
                meta["features"] = meta["features"] | {k: v for k, v in features.items() if k not in top}
                data = json.dumps(meta).encode()
            new.writestr(info.filename, content(data) if own == name else data)
    return path


@pytest.mark.parametrize(
    "features",
    [
        {"frame_shift": 0},
        {"frame_shift": -10},
        {"frame_shift": "ten"},
        {"frame_shift": float("inf")},
        {"frame_length": 1e9},
        {"num_mel_bins": 100_000},
        {"num_mel_bins": 128},
        {"num_mel_bins": 2.5},
        {"num_coefficients": 24},
        {"low_frequency": 7900},
        {"splice_left_context": 10**9},
        {"snip_edges": "no"},
        {"optional_silence_phone": "hush"},
        {"silence_probability": 7},
    ],
)
def test_mfa_settings(features, tmp_path):
    name = next(iter(features))
    said = {"optional_silence_phone": "silence phone hush", "num_mel_bins": "mel", "num_coefficients": "coefficients"}
    refused(MfaModel, spoilt_mfa(tmp_path / "a.zip", **features), said.get(name, name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tree", lambda data: data[: len(data) // 2]),
        ("tree", lambda data: data.replace(b"CE \x04", b"CE \x04\xff\xff\xff\x7f", 1)),
        ("final.mdl", lambda data: data[: len(data) // 2]),
        ("final.mdl", lambda data: data[:-2000] + bytes(2000)),
        ("meta.json", lambda data: b"[" * 100_000),
        ("meta.json", lambda data: b"7"),
        ("final.mdl", lambda data: bytes(300 << 20)),
        ("phones.txt", lambda data: b"sil"),
    ],
)
def test_mfa_members(name, content, tmp_path):
    refused(MfaModel, spoilt_mfa(tmp_path / "a.zip", name, content))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".a2f.json", ".vrma", ".anim", ".ovr.json"])
def test_imported_vertices_are_no_curves(suffix, tmp_path, talk):
    """`kmtalk render` and `export` of vertices by frame: they have no ARKit shapes and no phones."""
    template = load_template(HEAD)
    frames = np.tile(template.vertices, (30, 1, 1))
    np.save(tmp_path / "m.npy", frames)
    soundfile.write(tmp_path / "s.wav", np.sin(np.arange(16000) / 20), 16000)
    animation = talk.from_vertices(tmp_path / "m.npy", HEAD, tmp_path / "s.wav")
    refused(animation.save, tmp_path / f"x{suffix}", "imported vertices")
    assert not (tmp_path / f"x{suffix}").exists()
    assert animation.save(tmp_path / "x.pc2")


def test_a_wrong_node_is_told_before_the_models_are_loaded(tmp_path):
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(triangle_gltf(nodes=[{"mesh": 0, "name": "face"}])))
    talk = KMTalk(warn=lambda line: None)
    node = CharacterSettings(node="nose")
    refused(lambda p: talk.animate(ROOT / "assets" / "speech.wav", p, character=node), path, "nose")
    assert "network" not in talk.__dict__
