"""Data flows one way: a lower room never imports a higher one."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

RANK = {
    "errors": 0,
    "assets": 1,
    "pickles": 1,
    "progress": 0,
    "output": 1,
    "weights": 1,
    "speech": 2,
    "face": 3,
    "keys": 4,
    "articulation": 5,
    "corpora": 6,
    "motion": 6,
    "metrics": 6,
    "exchange": 6,
    "render": 6,
    "training": 7,
    "animation": 7,
    "pipeline": 8,
    "evaluation": 9,
    "batch": 9,
    "doctor": 9,
    "cli": 10,
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
        assert other == room or RANK[other] < RANK[room] or (room == "render" and other == "exchange"), (room, other)


def test_the_rendering_process_never_imports_torch():
    code = "import sys, kmtalk.render.worker; sys.exit('torch' in sys.modules or 'whisper' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
