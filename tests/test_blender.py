"""Round trips through Blender (bpy from pip, in a separate environment because it needs an older numpy)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from characters import write_avatar
from conftest import ROOT

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


@pytest.mark.parametrize("name", ["glb", "usd"])
def test_few_keys_show_the_same_motion(takes, tmp_path, name):
    """The import script sets Bezier keys, between which Blender shows the frames that were left out."""
    for fps in (30, 29.97):
        folder, take = tmp_path / f"{fps:g}", takes[fps]
        take.save(folder, formats=name, reduce=0.002)
        vertices = take.vertices
        if name == "glb":
            submeshes = take.template.appearance.split(take.template.faces)
            vertices = vertices[:, np.concatenate([s.vertex_indices for s in submeshes])]
        np.savez(folder / "expected.npz", vertices=vertices, mm_per_unit=take.template.mm_per_unit)
        (seen,) = through_blender([folder])
        assert seen["keys"] < take.weights.size / 4
        assert 0 < seen["worst_mm"] < 0.2, seen


def test_a_character_talks_and_turns_its_head_on_the_bone(talk, light_rig, takes, tmp_path):
    """Its shapes and its head bone give the vertices that the motion has, in space; its other animation rests."""
    write_avatar(tmp_path / "avatar.glb", light_rig)
    take = takes[30]
    animation = talk.animate(take.audio, tmp_path / "avatar.glb", textgrid=take.alignment, fps=30)
    animation.save(tmp_path / "out", formats="glb")
    skin = animation.vertices[:, : len(light_rig.template.regions["skin"])]
    expected = {"vertices": skin, "mm_per_unit": animation.template.mm_per_unit}
    np.savez(tmp_path / "out" / "expected.npz", **expected)
    (found,) = through_blender([tmp_path / "out"])
    assert found["worst_mm"] < 0.1 and abs(found["factor"] - 1) < 1e-3
