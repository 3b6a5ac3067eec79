"""The Blender extension, installed into a real Blender (bpy) and used there as by an animator."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from characters import head_joint, write_avatar
from conftest import FACE, ROOT, SPEECH, phones
from scipy.spatial.transform import Rotation

from kmtalk import __version__, load_animation
from kmtalk.exchange.gltf import write_glb
from kmtalk.face.joints import HEAD_DEGREES
from kmtalk.face.motion import Motion
from kmtalk.face.rig import ARKIT_NAMES, HEAD_NAMES
from kmtalk.speech.alignment import write_textgrid

PYTHON = ROOT / ".venv-blender" / "bin" / "python"
KMTALK = Path(sys.executable).parent / "kmtalk"
SAID = ("TH", "AE", "NG", "K", "Y", "UW", "F", "ER", "K", "AO", "L", "IH", "NG", "S", "UW", "P", "ER")

needs_blender = pytest.mark.skipif(
    not PYTHON.exists(), reason="no bpy for this Python, or it cannot be installed (make blender)"
)


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, ROOT / "blender" / "build.py", "-o", folder]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return Path(built.stdout.strip())


@pytest.fixture(scope="module")
def process():
    """The extension's module that knows nothing of Blender."""
    spec = importlib.util.spec_from_file_location("extension_process", ROOT / "blender" / "kmtalk" / "process.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_package_has_the_manifest_at_its_root(extension):
    assert extension.name == f"kmtalk-blender-{__version__}.zip"
    with zipfile.ZipFile(extension) as archive:
        names = archive.namelist()
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert {"__init__.py", "operators.py", "LICENSE"} <= set(names)
    assert manifest["id"] == "kmtalk" and manifest["version"] == __version__
    assert manifest["schema_version"] == "1.0.0" and manifest["blender_version_min"] == "4.2.0"
    assert manifest["license"] == ["SPDX:MIT"] and list(manifest["permissions"]) == ["files"]
    assert len(manifest["tagline"]) <= 64 and not manifest["tagline"].endswith(".")


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_ends_the_command_and_its_children(process, tmp_path, stubborn):
    folder = tmp_path / "work"
    folder.mkdir()
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    sleep = ignore + "import sys, time; print('started', file=sys.stderr, flush=True); time.sleep(60)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleep!r}])"
    job = process.Job([sys.executable, "-c", both], folder)
    while not job._other_lines:
        time.sleep(0.05)
    began = time.monotonic()
    job.close()
    assert time.monotonic() - began < 0.5  # the user interface goes on
    job.wait()  # until the child, too, has closed the pipe
    while folder.exists():
        time.sleep(0.05)
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_cancelling_kmtalk_leaves_nothing(process, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    job = process.Job([KMTALK, "animate", SPEECH, f"--output={folder / 'out'}", "--formats=npz"], folder)
    while job.stage in ("start", "load"):
        time.sleep(0.02)
    assert not job.finished
    job.close()
    job.wait()
    assert job.error  # it did not come to its end
    while folder.exists():
        time.sleep(0.05)


def test_an_error_of_kmtalk_is_one_line(process, tmp_path):
    job = process.Job([KMTALK, "animate", tmp_path / "none.wav"], tmp_path)
    job.wait()
    assert job.finished and job.error.startswith(f"{tmp_path / 'none.wav'}: ")
    job.close()


def test_a_missing_command_is_named(process, monkeypatch, tmp_path):
    monkeypatch.setenv("KMTALK", "/nowhere/kmtalk")
    with pytest.raises(process.KMTalkError, match="/nowhere/kmtalk: no such command"):
        process.find_command()
    monkeypatch.setenv("KMTALK", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(process.KMTalkError, match="install it"):
        process.find_command()
    monkeypatch.setenv("KMTALK", f"env FEW=1 {KMTALK}")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert process.find_command() == ["env", "FEW=1", str(KMTALK)]


@pytest.fixture(scope="module")
def blender(extension, light_rig, tmp_path_factory):
    """What the script saw in Blender, and its folder."""
    folder = tmp_path_factory.mktemp("blender")
    samples, rate = soundfile.read(SPEECH)
    soundfile.write(folder / "short.wav", samples[: 2 * rate], rate)
    times = np.round(np.linspace(0.1, 1.9, len(SAID) + 1), 3)
    spoken = phones(*zip(SAID, times[:-1].tolist(), times[1:].tolist(), strict=True))
    write_textgrid(spoken, folder / "short.TextGrid", 2.0)
    kept = [light_rig.index[name] for name in ARKIT_NAMES]
    rig = replace(light_rig, shape_names=ARKIT_NAMES, offsets=light_rig.offsets[kept])
    write_glb(folder / "shapes.glb", Motion(rig, np.zeros((2, len(kept)), np.float32), 30.0))
    (folder / "face.obj").write_bytes(FACE.read_bytes())
    write_avatar(folder / "avatar.glb", light_rig, prefix="mixamorig:")
    environment = os.environ | {"KMTALK": str(KMTALK), "BLENDER_USER_RESOURCES": str(folder / "user")}
    command = [PYTHON, ROOT / "tests" / "extension_in_blender.py", extension, folder]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    found = [json.loads(line[7:]) for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(found) == 1, ran.stdout[-3000:] + ran.stderr[-3000:]
    return found[0], folder


def check_scene(found, animation):
    """Markers at the phones, the sound at the start, keyframes in an action of its own."""
    count = len(animation.motion)
    assert count == 48 and found["end"] >= count - 1
    first = [int(p.start * animation.fps) for p in animation.alignment.phones]
    assert found["markers"] == [[f"km:{name}", frame] for name, frame in zip(SAID, first, strict=True)]
    assert found["strips"] == [["SOUND", 0, pytest.approx(count, abs=1)]] and found["sync"] == "AUDIO_SYNC"
    assert found["actions"] and all(name.startswith("kmtalk short") for name in found["actions"])


def native(animation):
    names, _, weights = animation.motion.rig.morph_targets(animation.weights)
    return {name: weights[:, k] for k, name in enumerate(names)}


@pytest.mark.slow
@needs_blender
def test_a_mesh_moves_by_its_own_shape_keys(blender):
    found, folder = blender[0]["own_shapes"], blender[1]
    animation = load_animation(Path(found["take"]) / "animation.npz")
    check_scene(found, animation)
    assert found["undone"] == pytest.approx(0.625, abs=1e-6)
    assert found["former"] and animation.fps == 24
    assert found["keyframes"] == list(range(48)) and found["interpolation"] == ["LINEAR"]
    assert found["again"] == {name: found[name] for name in ("markers", "strips")}
    seen, expected = np.load(folder / "seen-shapes.npz"), native(animation)
    assert set(seen["names"].tolist()) == set(expected) >= set(ARKIT_NAMES)
    for name, values in zip(seen["names"].tolist(), seen["values"].T, strict=True):
        assert np.abs(values - expected[name]).max() < 1e-4, name
    error = np.abs(seen["points"] - animation.vertices[seen["frames"]]).max()
    assert error * animation.template.mm_per_unit < 0.1


@pytest.mark.slow
@needs_blender
def test_a_changed_keyframe_is_completed(blender):
    found, folder = blender[0]["own_shapes"], blender[1]
    before, after = np.load(folder / "seen-shapes.npz"), np.load(folder / "seen-completed.npz")
    assert before["names"].tolist() == after["names"].tolist()
    jaw, frame = before["names"].tolist().index("jawOpen"), found["edited"]
    assert after["values"][frame, jaw] == pytest.approx(0.625, abs=1e-6)
    moved = np.abs(after["values"] - before["values"]).max(1)
    assert moved[frame - 1] > 1e-3 and moved[frame + 1] > 1e-3
    assert moved[frame + 20 :].max() < 1e-6
    others = np.delete(np.arange(len(before["names"])), jaw)
    assert np.abs(after["values"] - before["values"])[frame, others].max() < 1e-4


@pytest.mark.slow
@needs_blender
def test_a_bare_mesh_gets_shape_keys_with_keyframes_at_phones(blender):
    found, folder = blender[0]["bare_mesh"], blender[1]
    animation = load_animation(Path(found["take"]) / "animation.npz")
    check_scene(found, animation)
    assert found["keyframes"] == animation.keys.frames.tolist() and found["interpolation"] == ["BEZIER"]
    assert set(found["shapes"]) == {"Basis", *animation.shape_names} and found["shapes again"]
    seen = np.load(folder / "seen-bare.npz")
    error = np.abs(seen["points"] - animation.vertices[seen["frames"]]).max()
    assert error * animation.template.mm_per_unit < 0.1
    # a changed keyframe is met, and a moved one is a key at its new frame
    moved = found["moved"]
    assert moved in found["keys"] and moved not in found["completed"] and moved + 1 in found["completed"]
    assert len(found["completed"]) == len(found["keys"])
    assert found["jaw"] == pytest.approx(0.5, abs=1e-6)
    completed = load_animation(Path(found["completed take"]) / "animation.npz")
    assert completed.keys.frames[completed.keys.pinned].tolist() == sorted([found["edited"], moved + 1])


@pytest.mark.slow
@needs_blender
def test_a_character_turns_its_head_on_the_bone(blender, light_rig):
    found, folder = blender[0]["character"], blender[1]
    animation = load_animation(Path(found["take"]) / "animation.npz")
    check_scene(found, animation)
    assert found["bone curves"] == [f'pose.bones["mixamorig:Head"].rotation_quaternion{k}' for k in range(4)]
    assert found["wave kept"] and found["bone"].startswith("kmtalk short") and not found["added"]
    expected = native(animation)
    pairs = (("headYawLeft", "headYawRight"), ("headPitchDown", "headPitchUp"), ("headRollRight", "headRollLeft"))
    angles = HEAD_DEGREES * np.stack([expected[a] - expected[b] for a, b in pairs], axis=1)
    assert np.ptp(angles, axis=0).max() > 3
    still = animation.weights.copy()
    still[:, [animation.shape_names.index(name) for name in HEAD_NAMES]] = 0
    seen = np.load(folder / "seen-character.npz")
    assert not set(seen["names"].tolist()) & set(HEAD_NAMES)
    upright = animation.motion.rig.upright_rotation.astype(np.float64)
    turns = upright.T @ Rotation.from_euler("YXZ", angles, degrees=True).as_matrix() @ upright
    vertices, pivot = animation.motion.rig.vertices(still), head_joint(light_rig)
    turned = (vertices - pivot) @ turns.transpose(0, 2, 1) + pivot
    part = np.repeat(["Body" in name for name in found["objects"]], found["counts"])
    turned[:, part] = vertices[:, part]  # the body is on another bone
    error = np.abs(seen["points"] - turned[seen["frames"]]).max()
    assert error * animation.template.mm_per_unit < 0.1


@pytest.mark.slow
@needs_blender
def test_faults_are_one_line_with_a_remedy(blender):
    parts = ("no mesh is selected; ", "no such style", "Skull: no such bone", "Mirror modifier", "its scale is 0")
    parts += ("press Animate first", "Cube: is in Edit Mode; ", "Cube: its mesh is linked from a library; ")
    parts += ("/nowhere/kmtalk: no such command; correct it in the extension's preferences",)
    said = blender[0]["faults"]
    assert len(said) == len(parts)
    for line, part in zip(said, parts, strict=True):
        assert part in line and "\n" not in line
