"""Round trips through Blender (bpy from pip, in a separate environment because it needs an older numpy)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from characters import head_joint, write_avatar
from conftest import ROOT
from scipy.spatial.transform import Rotation

from kmtalk.expression.head import DEGREES_PER_WEIGHT
from kmtalk.face.rig import HEAD_NAMES
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import audio_from_samples

PYTHON = ROOT / ".venv-blender" / "bin" / "python"
RATES = (24, 25, 30, 60, 29.97)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no bpy for this Python, or it cannot be installed (make blender)"),
]


@pytest.fixture(scope="module")
def takes(talk, spoken):
    """The first three seconds of the demo at every frame rate."""
    audio = spoken.audio
    cut = audio_from_samples(audio.original[: 3 * audio.original_rate], audio.original_rate)
    kept = Alignment(
        tuple(replace(p, end=min(p.end, 3.0)) for p in spoken.alignment.phones if p.start < 3.0), status="given"
    )
    return {fps: talk.animate(cut, textgrid=kept, fps=fps) for fps in RATES}


def through_blender(folders: list[Path]) -> list[dict]:
    script = ROOT / "tests" / "in_blender.py"
    ran = subprocess.run([PYTHON, script, *folders], capture_output=True, text=True, timeout=600, check=False)
    found = [json.loads(line[7:]) for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(found) == len(folders), ran.stdout[-2000:] + ran.stderr[-2000:]
    return found


@pytest.mark.parametrize("kind", ["glb", "glb baked", "usd", "usd baked", "abc", "pc2", "mdd"])
def test_round_trip(takes, tmp_path, kind):
    """At every rate: vertex error under 0.05 mm, sample n on frame n, no frame missing, the sound at its place."""
    name, _, bake = kind.partition(" ")
    folders = []
    for fps, take in takes.items():
        folder = tmp_path / f"{fps:g}"
        take.save(folder, formats=name, bake=bool(bake))
        vertices = take.vertices
        if name == "glb":  # one primitive per material, with vertices split at the seams of the texture
            submeshes = take.template.appearance.split(take.template.faces)
            vertices = vertices[:, np.concatenate([s.vertex_indices for s in submeshes])]
        np.savez(folder / "expected.npz", vertices=vertices, fps=fps, mm_per_unit=take.template.mm_per_unit)
        folders.append(folder)
    for (fps, take), seen in zip(takes.items(), through_blender(folders), strict=True):
        count = len(take.motion)
        assert count == round(3 * fps)
        assert seen["worst_mm"] < 0.05, seen
        assert seen["factor"] == pytest.approx(1, abs=1e-4)
        assert seen["fps"] == pytest.approx(fps)
        assert seen["range"] == [0, count - 1]
        assert seen["sound"] == [["SOUND", 0, pytest.approx(count, abs=1)]]
        if name in ("glb", "usd") and not bake:
            assert seen["shapes"] == len(take.shape_names)
            assert seen["last_key"] == pytest.approx(count - 1, abs=1e-3)


def test_a_character_talks_and_turns_its_head_on_the_bone(talk, light_rig, takes, tmp_path):
    """Its shapes and its head bone give the vertices that the motion has, in space; its other animation rests."""
    write_avatar(tmp_path / "avatar.glb", light_rig)
    take = takes[30]
    animation = talk.animate(take.audio, tmp_path / "avatar.glb", textgrid=take.alignment, fps=30)
    animation.save(tmp_path / "out", formats="glb")
    names = animation.shape_names
    curve = {name: animation.weights[:, names.index(name)] for name in HEAD_NAMES}
    pairs = (("headYawLeft", "headYawRight"), ("headPitchDown", "headPitchUp"), ("headRollRight", "headRollLeft"))
    angles = DEGREES_PER_WEIGHT * np.stack([curve[a] - curve[b] for a, b in pairs], axis=1)
    still = animation.weights.copy()
    still[:, [names.index(name) for name in HEAD_NAMES]] = 0
    skin = animation.motion.rig.vertices(still)[:, : len(light_rig.template.regions["skin"])]
    pivot = head_joint(light_rig)
    upright = animation.motion.rig.upright_rotation.astype(np.float64)  # the axes of its face
    turns = upright.T @ Rotation.from_euler("YXZ", angles, degrees=True).as_matrix() @ upright
    turned = (skin - pivot) @ turns.transpose(0, 2, 1) + pivot
    expected = {"vertices": turned.astype(np.float32), "mm_per_unit": animation.template.mm_per_unit}
    np.savez(tmp_path / "out" / "expected.npz", **expected)
    (found,) = through_blender([tmp_path / "out"])
    assert found["worst_mm"] < 0.1 and abs(found["factor"] - 1) < 1e-3
    assert np.ptp(angles, axis=0).max() > 3
