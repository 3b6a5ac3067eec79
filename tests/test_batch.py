"""Batches: a killed run resumes, a broken clip stops no other clip, and the outputs are byte-identical."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE, SPEECH
from filelock import FileLock

from kmtalk import InputError
from kmtalk.batch.jobs import JobSettings, collect_jobs

CLIPS = 60


@pytest.fixture(scope="module")
def clips(spoken, tmp_path_factory):
    """The words of the demo as 60 clips of different loudness, each with its text."""
    folder = tmp_path_factory.mktemp("clips")
    sound, rate = soundfile.read(SPEECH)
    words = spoken.alignment.words
    for n in range(CLIPS):
        word = words[n % len(words)]
        part = sound[int(max(0, word.start - 0.1) * rate) : int((word.end + 0.1) * rate)]
        soundfile.write(folder / f"{n:03d}.wav", part * (0.5 + 0.05 * (n // len(words))), rate)
        (folder / f"{n:03d}.txt").write_text(word.text)
    (folder / "020.wav").write_text("no sound at all")
    return folder


def outputs(folder):
    """The bytes of every output except the logs."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in ("batch.jsonl", ".batch.lock")
    }


def command(*arguments):
    return [str(Path(sys.executable).parent / "kmtalk"), "batch", *map(str, arguments)]


def batch(folder, *arguments):
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(clips, tmp_path):
    options = ("--formats", "csv,glb", "--json")
    whole = batch(tmp_path, clips, "-o", "whole", *options)
    assert whole.returncode == 1
    assert json.loads(whole.stdout) | {"written": []} == {
        **{"ok": False, "written": [], "completed": CLIPS - 1, "skipped": 0, "failed": 1},
    }
    running = subprocess.Popen(
        command(clips, "-o", "cut", *options), cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    )
    log = tmp_path / "cut" / "batch.jsonl"
    while not log.is_file() or len(log.read_text().splitlines()) < CLIPS // 2:
        assert running.poll() is None
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    with log.open("a") as file:
        file.write('{"speech": "half a li')  # a line cut short by a kill
    (tmp_path / "cut" / "007" / "animation.glb").unlink()  # and an output deleted by the user
    again = batch(tmp_path, clips, "-o", "cut", *options)
    told = json.loads(again.stdout)
    assert told["skipped"] >= CLIPS // 2 - 2
    assert told["completed"] + told["skipped"] == CLIPS - 1
    assert outputs(tmp_path / "cut") == outputs(tmp_path / "whole")
    messages = [json.loads(line) for line in again.stderr.splitlines()]
    assert any("020.wav" in m.get("message", "") for m in messages)
    assert any(m["event"] == "progress" for m in messages)
    third = batch(tmp_path, clips, "-o", "cut", *options)
    assert json.loads(third.stdout)["skipped"] == CLIPS - 1


@pytest.mark.slow
def test_on_a_ray_cluster_the_outputs_are_the_same(clips, tmp_path):
    """Uses a local Ray instance as the cluster."""
    pytest.importorskip("ray")
    rows = [
        {"speech": str(clips / f"{n:03d}.wav"), "text": (clips / f"{n:03d}.txt").read_text()} for n in (0, 1, 2, 20)
    ]
    (tmp_path / "few.json").write_text(json.dumps(rows))
    options = ("--motion", "rules", "--formats", "csv")  # the network would be loaded by each process
    here = batch(tmp_path, "few.json", "-o", "here", *options)
    there = batch(tmp_path, "few.json", "-o", "there", *options, "--ray", "local")
    for ran in (here, there):
        assert ran.stdout.splitlines()[-1] == "3 completed, 0 skipped, 1 failed", ran.stderr
    assert outputs(tmp_path / "here") == outputs(tmp_path / "there")
    assert len(outputs(tmp_path / "there")) > 9
    lost = batch(tmp_path, "few.json", "-o", "x", "--ray", "127.0.0.1:1")
    assert lost.returncode == 2
    assert lost.stderr.count("\n") == 1, lost.stderr
    assert "no cluster answers" in lost.stderr


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_searched_at_any_depth(tmp_path):
    for name in ("a.wav", "deep/b.MP3", "deep/b.flac", "notes.pdf", "out/c.wav"):
        touch(tmp_path / name)
    touch(tmp_path / "a.txt", "Hello.")
    touch(tmp_path / "deep" / "b.TextGrid")
    tasks = collect_jobs(tmp_path, tmp_path / "out")
    assert [t.output_dir.relative_to(tmp_path / "out").as_posix() for t in tasks] == ["a", "deep/b-MP3", "deep/b-flac"]
    assert tasks[0].text_file == tmp_path / "a.txt"
    assert tasks[1].textgrid == tmp_path / "deep" / "b.TextGrid"


def test_manifests(tmp_path):
    touch(tmp_path / "m.csv", "speech,text,seed,output_dir\na.wav,Hello.,3,first\nb.wav,,,\n")
    one, two = collect_jobs(tmp_path / "m.csv", tmp_path / "o")
    assert (one.speech, one.text, one.overrides, one.output_dir) == (
        tmp_path / "a.wav",
        "Hello.",
        {"seed": "3"},
        tmp_path / "o" / "first",
    )
    assert (two.text, two.overrides, two.output_dir) == (None, {}, tmp_path / "o" / "b")
    touch(tmp_path / "m.jsonl", '{"speech": "a.wav", "style": "clear"}\n\n{"speech": "b.wav"}\n')
    assert [t.overrides for t in collect_jobs(tmp_path / "m.jsonl", tmp_path / "o")] == [{"style": "clear"}, {}]


def test_text_files_of_a_manifest_are_found_from_any_folder(tmp_path, monkeypatch):
    """A one-word text that ends in .txt, in any case, names a file; workers elsewhere get absolute paths."""
    touch(tmp_path / "m.csv", "speech,text,text_file\na.wav,A.TXT,\nb.wav,,b.txt\nc.wav,Read notes.txt,\n")
    monkeypatch.chdir(tmp_path)
    jobs = [job.with_absolute_paths() for job in collect_jobs(Path("m.csv"), Path("o"))]
    assert [(job.text, job.text_file) for job in jobs] == [
        (None, tmp_path / "A.TXT"),
        (None, tmp_path / "b.txt"),
        ("Read notes.txt", None),
    ]
    assert jobs[0].speech == tmp_path / "a.wav" and jobs[0].output_dir == tmp_path / "o" / "a"
    shared = JobSettings(template=Path("face.obj")).with_absolute_paths()
    assert shared.template == tmp_path / "face.obj"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "file\na.wav\n", "no such column"),
        ("m.csv", "speech,seed\na.wav,x\n", "row 1"),
        ("m.csv", "speech\na.wav,b,c\n", "more fields"),
        ("m.csv", "speech,output_dir\na.wav,x\nb.wav,x\n", "both be written"),
        ("m.csv", "speech,output_dir\na.wav,../../etc\n", "outside"),
        ("m.json", '{"speech": 1}', "list of clips"),
        ("m.json", "[", "not valid JSON"),
        ("m.json", "[]", "no clips"),
        ("m.csv", "speech;text\na.wav;b\n", "commas"),
        ("m.txt", "a.wav", "manifest"),
    ],
)
def test_bad_manifests_are_one_line(tmp_path, name, text, said):
    touch(tmp_path / name, text)
    with pytest.raises(InputError, match=said) as refusal:
        collect_jobs(tmp_path / name, tmp_path / "o")
    assert name in str(refusal.value)


def test_a_clip_changed_is_done_anew(kmtalk, clips, tmp_path):
    for n in ("000", "001"):
        touch(tmp_path / "in" / f"{n}.txt", (clips / f"{n}.txt").read_text())
        (tmp_path / "in" / f"{n}.wav").write_bytes((clips / f"{n}.wav").read_bytes())
    options = ("-o", "out", "--motion", "rules", "--formats", "csv", "--jobs", "1")
    assert "2 completed, 0 skipped" in kmtalk("batch", "in", *options).stdout
    (tmp_path / "in" / "001.wav").write_bytes((clips / "002.wav").read_bytes())
    assert "1 completed, 1 skipped" in kmtalk("batch", "in", *options).stdout
    assert "2 completed, 0 skipped" in kmtalk("batch", "in", *options, "--template", FACE).stdout
    for arguments, said in ((("--formats", "fbx"), "fbx"), (("--template", "none.obj"), "none.obj")):
        done = kmtalk("batch", "in", "-o", "out", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
    assert kmtalk("batch", "nowhere", "-o", "out").returncode == 2


@pytest.fixture
def humming(tmp_path):
    """A manifest of five short hums, which are animated in no time."""
    rows = []
    for n in range(5):
        path = tmp_path / "hums" / f"{n}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(8000) * (0.05 + 0.01 * n)), 16000)
        rows.append({"speech": str(path), "output_dir": str(n)})
    (tmp_path / "hums.json").write_text(json.dumps(rows))
    return tmp_path / "hums.json"


QUICK = ("--motion", "rules", "--aligner", "uniform", "--formats", "csv", "--jobs", "1")


@pytest.mark.slow
def test_parts_of_a_batch_make_the_whole(humming, tmp_path):
    first = batch(tmp_path, humming, "-o", "parts", *QUICK, "--shard", "1/2")
    assert first.stdout.splitlines() == [str(Path("parts/batch-1-of-2.jsonl")), "3 completed, 0 skipped, 0 failed"]
    assert sorted(p.name for p in (tmp_path / "parts").iterdir() if p.is_dir()) == ["0", "2", "4"]
    second = batch(tmp_path, humming, "-o", "parts", *QUICK, "--shard", "2/2")
    assert second.stdout.splitlines()[-1] == "2 completed, 0 skipped, 0 failed"
    again = batch(tmp_path, humming, "-o", "parts", *QUICK, "--shard", "2/3")  # in other parts, and whole
    assert again.stdout.splitlines()[-1] == "0 completed, 2 skipped, 0 failed"
    whole = batch(tmp_path, humming, "-o", "parts", *QUICK)
    assert whole.stdout.splitlines()[-1] == "0 completed, 5 skipped, 0 failed"


def test_no_whole_batch_runs_beside_a_part(humming, tmp_path, kmtalk):
    (tmp_path / "out").mkdir()
    for held, wanted in (("2-of-3", None), ("2-of-3", "2/3"), (None, "1/3")):
        name = ".batch.lock" if held is None else f".batch-{held}.lock"
        shard = () if wanted is None else ("--shard", wanted)
        with FileLock(tmp_path / "out" / name):
            done = kmtalk("batch", humming, "-o", tmp_path / "out", *QUICK, *shard)
        assert done.returncode == 2 and "another batch is writing there" in done.stderr, done.stderr


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/1/1", "-1/2"])
def test_parts_that_are_none_are_one_line(humming, tmp_path, kmtalk, shard):
    done = kmtalk("batch", humming, "-o", tmp_path / "out", "--shard", shard)
    assert done.returncode == 2 and "2/8" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_clip_whose_process_is_killed_is_begun_again(humming, tmp_path):
    psutil = pytest.importorskip("psutil")
    running = subprocess.Popen(command(humming, "-o", "out", *QUICK), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    killed, deadline = [], time.monotonic() + 120
    while len(killed) < 2 and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        workers = [p for p in psutil.Process(running.pid).children() if p.pid not in killed]
        spawned = [p for p in workers if "spawn_main" in " ".join(p.cmdline())]
        if spawned and spawned[0].cpu_times().user > 0.5:  # it has begun
            spawned[0].kill()
            killed.append(spawned[0].pid)
    out = running.communicate(timeout=300)[0]
    assert len(killed) == 2 and running.returncode == 0
    assert out.splitlines()[-1] == "5 completed, 0 skipped, 0 failed"
