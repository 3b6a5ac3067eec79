"""Import order of the packages: a package imports only packages of lower rank."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

RANK = {
    "errors": 0,
    "progress": 0,
    "shared_property": 0,
    "working_folders": 0,
    "user_files": 1,
    "assets": 2,
    "pickles": 2,
    "array_files": 2,
    "text_files": 2,
    "timecode": 2,
    "output": 2,
    "tensor_checks": 1,
    "network_files": 1,
    "ctranslate2_format": 1,
    "whisper_wheels": 1,
    "weights": 2,
    "blender_process": 2,
    "speech": 3,
    "face": 4,
    "synthesis": 4,
    "articulation": 5,
    "expression": 5,
    "keys": 6,
    "settings": 6,
    "sound_input": 7,
    "listener_settings": 7,
    "corpora": 7,
    "motion": 7,
    "metrics": 7,
    "exchange": 7,
    "render": 8,
    "training": 8,
    "dialogue_motion": 8,
    "animation": 9,
    "joint": 9,
    "joint_conversion": 10,
    "joint_tasks": 11,
    "streaming": 10,
    "stream_settings": 7,
    "live": 14,
    "key_editing": 10,
    "motion_import": 10,
    "speaking": 12,
    "faces": 10,
    "speech_reader": 10,
    "mouth_animator": 12,
    "conversation": 10,
    "dialogue": 11,
    "pipeline": 13,
    "evaluation": 14,
    "batch": 14,
    "doctor": 14,
    "server": 15,
    "cli": 16,
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kmtalk."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "kmtalk":
            yield from (a.name for a in node.names if a.name in RANK)


@pytest.mark.parametrize("path", sorted((ROOT / "kmtalk").rglob("*.py")), ids=lambda p: p.stem)
def test_no_room_imports_a_higher_one(path):
    room = path.relative_to(ROOT / "kmtalk").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imports(path):
        assert other == room or RANK[other] < RANK[room], (room, other)


SLOW_PARTS = ("scipy.interpolate", "scipy.optimize", "scipy.signal", "scipy.stats")
SLOW = ("av", "matplotlib", "mediapipe", "numba", "pxr", "ray", "scipy", "torch", "transformers", "trimesh", "whisper")


def imported(code, names):
    """Those of the modules that a new Python has after running code."""
    code = f"import sys\n{code}\nprint('IMPORTED', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_help_comes_without_slow_imports():
    """A prompt answer: the help of all commands and of one, the version, and a usage error."""
    for arguments in (["--help"], ["animate", "--help"], ["--version"], ["animate", "--nonsense"]):
        code = f"from kmtalk.cli import app\napp({arguments!r}, standalone_mode=False)"
        assert imported(code, SLOW) == [], arguments


def test_the_first_stage_waits_for_no_needless_imports():
    needless = [name for name in SLOW if name not in ("numba", "scipy", "torch", "whisper")]
    assert imported("import kmtalk.pipeline", [*needless, *SLOW_PARTS]) == []


def test_the_rendering_process_never_imports_torch():
    code = "import sys, kmtalk.render.worker; sys.exit('torch' in sys.modules or 'whisper' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
