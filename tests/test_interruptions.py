"""Killed, stopped, on full disks, side by side: nothing half-written or mixed under a final name, and nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE

from kmtalk import load_animation
from kmtalk.face.rig_file import load_cached_rig, store_cached_rig
from kmtalk.output import check_writable

KMTALK = [str(Path(sys.executable).parent / "kmtalk")]
NAMES = ("a.npz", "b.json", "c.glb")
MOVE = """
import os, sys
from pathlib import Path
from kmtalk.output import atomic_write

folder, letter, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = 0

def kill_at_step(event, arguments):
    global steps
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and ".kmtalk-" in str(arguments):
        steps += 1
        if steps == stop:
            os.kill(os.getpid(), 9)

sys.addaudithook(kill_at_step)
with atomic_write(folder) as made:
    made.mkdir()
    for name in ("a.npz", "b.json", "c.glb"):
        (made / name).write_text(letter)
"""


def letters(folder):
    return "".join((folder / name).read_text() for name in NAMES)


def hidden(folder):
    return [p.name for p in folder.rglob("*") if "kmtalk-" in p.name]


def test_a_kill_at_any_step_leaves_the_old_or_the_new_files(tmp_path):
    """Into a folder that is there, and whose other files stay; the next command that works there finishes the move."""
    outcomes = set()
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name in (*NAMES, "notes.txt"):
            (folder / name).write_text("A")
        killed = subprocess.run([sys.executable, "-c", MOVE, folder, "B", str(step)], check=False).returncode
        check_writable(folder / "x.npz")
        assert letters(folder) in ("AAA", "BBB"), step
        outcomes.add(letters(folder))
        assert (folder / "notes.txt").read_text() == "A"
        assert hidden(folder) == [], step
        if not killed:
            break
    assert killed == 0
    assert step > 15
    assert outcomes == {"AAA", "BBB"}


def test_runs_into_one_folder_at_once_are_not_mixed(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for _ in range(6):
        runs = [subprocess.Popen([sys.executable, "-c", MOVE, folder, letter, "0"]) for letter in "BCDE"]
        assert [run.wait() for run in runs] == [0] * 4
        assert letters(folder) in ("BBB", "CCC", "DDD", "EEE")
    assert hidden(folder) == []


def test_what_lives_or_is_not_ours_is_not_swept(tmp_path):
    holder = MOVE.replace("    made.mkdir()", "    print(flush=True); sys.stdin.read(); made.mkdir()")
    command = [sys.executable, "-c", holder, tmp_path / "out", "B", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        alive.stdout.readline()
        (name,) = hidden(tmp_path)
        another_host = tmp_path / ".kmtalk-0a0a0a-abcdefgh"
        users_own = tmp_path / ".kmtalk-notes"
        for folder in (another_host, users_own):
            folder.mkdir()
        check_writable(tmp_path / "x.npz")
        assert set(hidden(tmp_path)) == {name, another_host.name, users_own.name}
        alive.stdin.close()
        assert alive.wait() == 0
    assert letters(tmp_path / "out") == "BBB"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_at_any_moment(tmp_path, number):
    """The command, its renderer and ffmpeg end; the files are those of one run; the next run works."""
    moments = random.Random(int(number))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for name, pitch in (("a.wav", 220), ("b.wav", 330)):
        samples = 0.3 * np.sin(2 * np.pi * pitch * np.arange(16000) / 16000)
        soundfile.write(tmp_path / name, samples, 16000)
    environment = os.environ | {"TMPDIR": str(temporary)}

    def start(name):
        command = [*KMTALK, "animate", name, "--aligner", "uniform", "--text", "la", "-o", "out", "--size", "64"]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    began = time.monotonic()
    first = start("a.wav")
    assert first.communicate()[1] == ""
    duration = time.monotonic() - began
    for _ in range(2):
        run = start("b.wav")
        time.sleep(moments.uniform(0.1, 1) * duration)
        run.send_signal(number)
        said = run.communicate(timeout=60)[1]
        assert run.returncode in (0, -number, 130)
        assert "Traceback" not in said
        deadline = time.monotonic() + 10
        while processes_of(run.pid):
            assert time.monotonic() < deadline, processes_of(run.pid)
            time.sleep(0.1)
        sources = {load_animation(tmp_path / "out" / "animation.npz").audio.digest}
        sources.add(load_sound(tmp_path / "out" / "speech.wav"))
        assert len(sources) == 1
        assert (tmp_path / "out" / "animation.mp4").read_bytes().find(b"moov") > 0
    last = start("a.wav")
    assert last.communicate()[1] == ""
    assert last.returncode == 0
    assert hidden(tmp_path / "out") == []
    assert list(temporary.iterdir()) == []


def load_sound(path):
    from kmtalk.speech.audio import load_audio

    return load_audio(path).digest


def processes_of(session):
    """Commands of the processes of a session."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            facts = (place / "stat").read_text().rpartition(")")[2].split()
            if place.name.isdecimal() and int(facts[3]) == session and facts[0] != "Z":
                found.append((place / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_ctrl_c_while_it_starts_is_one_line():
    """From the moment in which Python begins with kmtalk."""
    code = (
        "from kmtalk.cli import app; print('here', flush=True); app(['animate', 'none.wav', '--template', 'none.obj'])"
    )
    for seconds in (0.02, 0.1, 0.2, 0.3, 0.5, 0.8):
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(seconds)
            run.send_signal(signal.SIGINT)
            said = run.communicate(timeout=60)[1]
        assert said in ("kmtalk: stopped\n", "kmtalk: none.wav: no such file\n")
        assert run.returncode == (130 if "stopped" in said else 2)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many bytes; where that is not allowed, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(place)
        return place

    yield mount
    for _ in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["v.mp4", "x.usd", "x.npz", "x.pc2", "x.####.obj", "out"])
def test_a_full_disk_is_one_line_and_leaves_nothing(kmtalk, tmp_path, spoken, small_disk, name):
    spoken.save(tmp_path / "a.npz")
    disk = small_disk(48 * 1024)
    done = kmtalk("export", "a.npz", "-o", disk / name, "--size", "256")
    assert done.returncode == 2
    assert done.stderr == (
        f"kmtalk: {disk / name}: cannot be written (the disk is full; free some space or write to another one)\n"
    )
    assert list(disk.rglob("*")) == []


@pytest.mark.slow
def test_a_batch_on_a_full_disk_is_no_traceback(kmtalk, tmp_path, tone, small_disk):
    disk = small_disk(256 * 1024)
    (tmp_path / "clips").mkdir()
    tone.rename(tmp_path / "clips" / "tone.wav")
    done = kmtalk("batch", "clips", "-o", disk / "out", "--aligner", "uniform", "--jobs", "1")
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "the disk is full" in done.stderr
    assert not (disk / "out" / "tone").exists()


def test_a_damaged_cache_is_made_anew(talk, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fitted = talk.fit(FACE)
    store_cached_rig("a-mesh", fitted)
    (cached,) = tmp_path.rglob("*.kmrig")
    content = cached.read_bytes()
    middle = len(content) // 2
    for damaged in (b"", content[:middle], bytes(len(content)), content[:middle] + bytes(99) + content[middle + 99 :]):
        cached.write_bytes(damaged)
        assert load_cached_rig("a-mesh") is None
        store_cached_rig("a-mesh", fitted)
        assert load_cached_rig("a-mesh") is not None
    assert list(cached.parent.iterdir()) == [cached]


@pytest.mark.slow
def test_the_package_is_complete_and_works():
    """The wheel, in a fresh environment of this Python."""
    command = [sys.executable, Path(__file__).parent / "package.py", "--here"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no registry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "doctor, animate" in done.stdout
