"""Command line output for users, scripts and shells: logs, progress, completion and help."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SAID, SPEECH

KMTALK = str(Path(sys.executable).parent / "kmtalk")


def test_json_is_events_and_a_summary(kmtalk, tmp_path):
    done = kmtalk("animate", SPEECH, "--text", SAID, "-o", "out", "--no-video", "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert summary["ok"] is True
    assert all((tmp_path / name).is_file() for name in summary["written"])
    assert (summary["frames"], summary["fps"], summary["alignment"]) == (315, 30.0, "aligned")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    names = [e["name"] for e in events if e["event"] == "stage"]
    assert names[:3] == ["load", "read", "align"]
    assert {"encode", "motion", "export"} <= set(names)
    assert all(e["seconds"] >= 0 for e in events if e["event"] == "done")


def test_json_says_what_is_wrong(kmtalk):
    done = kmtalk("animate", "none.wav", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["ok"] is False
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["event"] == "error"
    assert "none.wav" in last["message"]


def test_quiet_says_nothing(kmtalk, tmp_path):
    done = kmtalk("animate", SPEECH, "--text", SAID, "-o", "a.npz", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "a.npz").is_file()


def test_a_terminal_sees_the_stages_and_the_time_left(tmp_path):
    """Uses a pseudo-terminal."""
    master, slave = pty.openpty()
    command = [KMTALK, "animate", str(SPEECH), "--text", SAID, "-o", "v.mp4", "--size", "128"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=slave, env=env)
    os.close(slave)
    seen = b""
    while running.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.2)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
    os.close(master)
    assert running.wait() == 0
    text = seen.decode(errors="replace")
    for word in ("load", "align", "encode", "render", "/315", "left"):
        assert word in text, word


def test_doctor_finds_what_is_here_and_names_what_is_not(kmtalk):
    done = kmtalk("doctor", "--json")
    assert done.returncode == 0, done.stderr
    parts = {p["part"]: p for p in json.loads(done.stdout)["parts"]}
    assert parts["aligner"]["found"].startswith("PocketSphinx")
    assert "natural" in parts["KMTalk network"]["found"]
    assert "egl" in parts["video (OpenGL)"]["found"] or "osmesa" in parts["video (OpenGL)"]["found"]
    assert parts["USD"]["found"] == "installed"
    assert all(p["remedy"] for p in parts.values() if p["found"] is None)
    shown = kmtalk("doctor").stdout
    assert "PocketSphinx" in shown


def test_doctor_fails_where_no_face_can_be_drawn(tmp_path):
    """Simulates an installation without imageio_ffmpeg by a module on PYTHONPATH that fails to import."""
    (tmp_path / "imageio_ffmpeg.py").write_text("raise ImportError('gone')")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([KMTALK, "doctor"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert "pip install imageio-ffmpeg" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    env = os.environ | {"_KMTALK_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "kmtalk ex"}
    env |= {"COMP_WORDS": "kmtalk ex", "COMP_CWORD": "1", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run([KMTALK], capture_output=True, text=True, env=env, check=False)
    assert "export" in done.stdout


def test_every_command_explains_itself(kmtalk):
    for name in [
        "animate",
        "align",
        "fit",
        "keys",
        "complete",
        "export",
        "view",
        "compare",
        "batch",
        "doctor",
        "train",
        "evaluate",
    ]:
        done = kmtalk(name, "--help")
        assert done.returncode == 0
        assert "--json" in done.stdout, name
