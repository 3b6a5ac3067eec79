"""Films that several processes draw: the pictures of one, no process left behind, and one line where one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from kmtalk.face.motion import Motion
from kmtalk.render.video import write_render_input

psutil = pytest.importorskip("psutil")

COMPARE = """
import json, sys
from pathlib import Path
import numpy as np
from kmtalk.render.parallel_drawing import draw_frames

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    size = (job["width"], job["height"])
    one, two = ([picture.copy() for picture, _ in draw_frames(folder, job, size, count)] for count in (1, 2))
    assert "torch" not in sys.modules
    different = [int(np.abs(a.astype(int) - b).max()) for a, b in zip(one, two, strict=True)]
    moved = int(np.abs(one[0].astype(int) - one[10]).max())
    print(len(one), max(different), moved)
"""


@pytest.fixture
def talking(rig):
    """A motion of 130 frames whose jaw moves."""
    weights = np.zeros((130, len(rig.shape_names)), np.float32)
    weights[:, rig.index["jawOpen"]] = 0.5 - 0.5 * np.cos(np.arange(130) * 0.3)
    return Motion(rig, weights, 30.0)


def test_several_processes_draw_what_one_draws(tmp_path, talking):
    """In order, the last and shorter run too."""
    write_render_input(tmp_path / "face.npz", talking)
    look = {"quality": "draft", "frame": "face", "view": "front", "background": None}
    job = {"kind": "video", "width": 128, "height": 96, "frames": len(talking), "threads": 2} | look
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = tmp_path / "compare.py"
    script.write_text(COMPARE)
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, different, moved = map(int, done.stdout.split())
    assert count == len(talking) and different == 0 and moved > 50


def draws(process):
    """Whether a process is one of those that draw."""
    try:
        return "multiprocessing.spawn" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


@pytest.fixture
def filming(tmp_path):
    """A command that films a minute, once several processes draw: the process, and those that draw."""
    soundfile.write(tmp_path / "hum.wav", 0.1 * np.sin(np.arange(16000 * 60) * 0.05), 16000)
    command = [sys.executable, "-m", "kmtalk.cli", "animate", tmp_path / "hum.wav", "--template", "light"]
    two = os.environ | {"OMP_NUM_THREADS": "2"}
    command += ["--text", "la", "--motion", "rules", "-o", tmp_path / "out"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=two)
    deadline, drawing = time.monotonic() + 120, []
    while len(drawing) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
        drawing = [p for p in psutil.Process(process.pid).children(recursive=True) if draws(p)]
    yield process, drawing
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


@pytest.mark.slow
def test_a_drawing_process_that_is_killed_is_one_line(filming, tmp_path):
    process, drawing = filming
    drawing[0].kill()
    said = process.communicate(timeout=60)[1].strip().splitlines()
    assert process.returncode == 2 and "drawing process was ended" in said[-1] and "Traceback" not in "".join(said)
    assert not (tmp_path / "out").exists()
    assert psutil.wait_procs(drawing, timeout=20)[1] == []


@pytest.mark.slow
def test_drawing_processes_end_with_a_command_that_is_killed(filming):
    process, drawing = filming
    process.kill()
    assert psutil.wait_procs(drawing, timeout=20)[1] == []
