"""Every notebook runs from the first cell to the last."""

from __future__ import annotations

import shutil
import sys

import nbformat
import pytest
from conftest import ROOT, needs_detector
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


DETECTED = [pytest.param(p, marks=needs_detector if p.stem == "animate_your_face" else ()) for p in NOTEBOOKS]


@pytest.mark.slow
@pytest.mark.parametrize("path", DETECTED, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    copy = tmp_path / "notebooks" / path.name
    shutil.copy(path, copy)
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")
    notebook = nbformat.read(copy, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": copy.parent}}
    ).execute()
    drawn = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert drawn, "nothing was drawn"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_committed_small_and_whole(path):
    assert path.stat().st_size < 400_000
    notebook = nbformat.read(path, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code), "run it before committing"
    assert "/work/" not in path.read_text()
    assert "/root/" not in path.read_text()
