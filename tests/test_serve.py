"""The server: a real one in a process of its own, spoken to over HTTP, killed and started again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FACE, SPEECH
from joint_networks import run
from pages import needs_browser
from running_server import RULES, WORDS, Server

from kmtalk.animation import load_animation
from kmtalk.errors import InputError
from kmtalk.server.settings import JobOptions, ServerSettings
from kmtalk.server.worker import EndMessage, StageMessage, decode_message, encode_message

httpx = pytest.importorskip("httpx")
psutil = pytest.importorskip("psutil")
pytest.importorskip("fastapi")

TOKEN = "sixteen characters or more"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The first two seconds of the demo."""
    samples, rate = soundfile.read(SPEECH)
    path = tmp_path_factory.mktemp("sound") / "hello there.wav"
    soundfile.write(path, samples[: 2 * rate], rate)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    opened = Server(tmp_path_factory.mktemp("server"), "--requests-per-minute", 1000, "--max-megabytes", 3,
                    "--max-minutes", 0.1)  # fmt: skip
    yield opened
    code, _, err = opened.stop()
    assert code == 130 and "Traceback" not in err, err


@pytest.mark.slow
def test_a_job_gives_what_the_command_gives(server, talk, short, tmp_path):
    """Its progress is followed by events, and its files are those that it lists."""
    job = server.add(short, {"text": WORDS, "formats": ["html", "npz"], "emotion": "happy:0.5", "seed": 3})
    states, stages = [], set()
    with server.client.stream("GET", f"/jobs/{job}/events", timeout=180) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        for line in events.iter_lines():
            if line.startswith("data:"):
                status = json.loads(line.removeprefix("data:"))
                states.append(status["state"])
                stages.add(status["stage"])
    assert states[-1] == "done" and "running" in states, status
    assert len(stages) > 2 and status["speech"] == "hello there.wav" and status["error"] is None
    names = {f["name"]: f["bytes"] for f in status["files"]}
    assert {"animation.html", "animation.npz", "speech.wav"} <= set(names)
    for name, size in names.items():
        fetched = server.client.get(f"/jobs/{job}/files/{name}")
        assert (fetched.status_code, len(fetched.content)) == (200, size)
        assert fetched.headers["content-security-policy"].startswith("sandbox")
        (tmp_path / Path(name).name).write_bytes(fetched.content)
    got = load_animation(tmp_path / "animation.npz")
    alone = talk.animate(short, text=WORDS, emotion="happy:0.5", seed=3)
    np.testing.assert_allclose(got.weights, alone.weights, atol=2e-3)
    assert server.client.delete(f"/jobs/{job}").status_code == 204
    assert server.client.get(f"/jobs/{job}").status_code == 404
    assert not (server.folder / "jobs" / job).exists()


@pytest.mark.slow
def test_a_character_speaks(server, short):
    job = server.add(short, RULES | {"formats": ["glb"]}, FACE)
    found = server.wait(job)
    assert found["state"] == "done", found
    assert "animation.glb" in {f["name"] for f in found["files"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.wav", b"no sound at all", "a.wav: "),
        ("../../etc/passwd", b"RIFF\0\0\0\0WAVE", "passwd: "),
        ("b.wav", SPEECH.read_bytes()[:20], "b.wav: "),
        ("long.wav", SPEECH, "long.wav: lasts 0.2 minutes; this server takes 0.1"),
    ],
)
def test_what_cannot_be_animated_fails_in_one_line(server, name, content, said):
    """The line names the file as it was given, and no folder of the server."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    answer = server.client.post("/jobs", files={"speech": (name, data)}, data={"options": json.dumps(RULES)})
    assert answer.status_code == 201, answer.text
    found = server.wait(answer.json()["id"])
    assert found["state"] == "failed" and found["error"].startswith(said), found
    assert "\n" not in found["error"] and str(server.folder) not in found["error"] and "/jobs/" not in found["error"]
    assert found["files"] == []


@pytest.mark.slow
def test_a_mesh_without_a_face_fails_in_one_line(server, short, tmp_path):
    (tmp_path / "cube.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    found = server.wait(server.add(short, RULES, tmp_path / "cube.obj"))
    assert found["state"] == "failed" and "character.obj" in found["error"]
    assert str(server.folder) not in found["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "/etc/passwd"}, "template"),
        ({"emotion": "/etc/passwd.json"}, "emotion"),
        ({"motion": "magic"}, "motion"),
        ({"formats": []}, "formats"),
        ({"formats": ["exe"]}, "formats"),
        ({"fps": "never"}, "never"),
        ({"style": "../x"}, "style"),
        ({"language": "english"}, "language"),
        ({"seed": -1}, "seed"),
        ("no options", "options"),
    ],
)
def test_options_that_cannot_be_used_are_refused(server, short, options, said):
    answer = server.post(short, options)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"] and "\n" not in answer.json()["detail"]


@pytest.mark.slow
def test_requests_that_are_refused(server, short, tmp_path):
    before = sorted(p.name for p in (server.folder / "jobs").iterdir())
    client = server.client
    too_much = b"\0" * 3_200_000
    for _ in range(30):  # a connection closed over unread bytes loses the answer now and then
        assert client.post("/jobs", files={"speech": ("a.wav", too_much)}).status_code == 413

    def stream():  # without a length in its header
        yield b'--x\r\ncontent-disposition: form-data; name="speech"; filename="a.wav"\r\n\r\n'
        yield from [b"\0" * 100_000] * 40

    chunked = client.post("/jobs", content=stream(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert chunked.status_code == 413
    (tmp_path / "empty.wav").write_bytes(b"")
    assert server.post(tmp_path / "empty.wav").status_code == 422
    (tmp_path / "a.gltf").write_text("{}")
    assert "mesh of one file" in server.post(short, RULES, tmp_path / "a.gltf").json()["detail"]
    assert server.post(short, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/jobs", headers={"host": "evil.example"}).status_code == 400
    assert client.post("/jobs", data={"options": "{}"}).status_code == 422
    assert client.get("/jobs/..%2f..%2fetc").status_code in (404, 422)
    assert client.get("/jobs/" + "0" * 32).status_code == 404
    assert sorted(p.name for p in (server.folder / "jobs").iterdir()) == before  # nothing is left of any


@pytest.mark.slow
def test_no_name_of_a_file_leads_out_of_a_job(server, short):
    job = server.add(short)
    assert server.wait(job)["state"] == "done"
    for name in ("../speech", "..%2fspeech", "%2e%2e/%2e%2e/jobs.sqlite", "/etc/passwd", "animation.npz/..", "", "."):
        assert server.client.get(f"/jobs/{job}/files/{name}").status_code in (404, 405), name


@pytest.mark.slow
def test_jobs_are_cancelled(server, short):
    """One that runs, whose process is ended, and one that waits."""
    first, second = server.add(short), server.add(short)
    assert server.get(second)["state"] == "waiting"
    for job in (second, first):
        assert server.client.delete(f"/jobs/{job}").status_code == 204
        assert server.get(job)["state"] == "cancelled"
    third = server.add(short)
    assert server.wait(third)["state"] == "done"
    assert [j["id"] for j in server.client.get("/jobs").json()][:3] == [third, second, first]


@pytest.mark.slow
def test_no_job_is_lost_when_processes_and_the_server_are_killed(tmp_path, short):
    """Four jobs: a worker is killed, then the server with its worker; another one goes on where it was."""
    server = Server(tmp_path / "s")
    jobs = [server.add(short) for _ in range(4)]
    deadline = time.monotonic() + 60
    while server.get(jobs[0])["stage"] == "" and server.get(jobs[0])["state"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for child in server.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    while server.get(jobs[1])["state"] != "done":
        time.sleep(0.1)
    orphans = server.kill()
    assert psutil.wait_procs(orphans, timeout=10)[1] == []  # the processes end with their server
    server.start()
    found = [server.wait(job) for job in jobs]
    assert [f["state"] for f in found] == ["done"] * 4, found
    assert all("animation.npz" in {f["name"] for f in one["files"]} for one in found)
    assert server.stop()[0] == 130


@pytest.mark.slow
def test_jobs_go_on_after_the_database_failed(tmp_path, short):
    """Another program holds its lock for longer than SQLite waits, while a job runs."""
    server = Server(tmp_path / "s")
    job = server.add(short)
    with contextlib.closing(sqlite3.connect(server.folder / "jobs.sqlite", isolation_level=None)) as other:
        while server.get(job)["state"] != "running":
            time.sleep(0.02)
        other.execute("BEGIN IMMEDIATE")
        assert server.post(short).status_code == 503
        limit = time.monotonic() + 120
        while "the database of the jobs fails" not in server.said():  # at the job's end, after SQLite's patience
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert server.get(job)["state"] == "running"
        other.execute("ROLLBACK")
    assert server.wait(job)["state"] == "done"
    assert server.wait(server.add(short))["state"] == "done"
    assert server.stop()[0] == 130


@pytest.mark.slow
def test_a_job_that_takes_too_long_ends(tmp_path, short):
    server = Server(tmp_path / "s", "--job-minutes", "0.01")
    found = server.wait(server.add(short))
    assert found["state"] == "failed" and "longer than 0.01 minutes" in found["error"]
    assert server.stop()[0] == 130


@pytest.mark.slow
def test_a_token_is_needed_where_one_is_set(tmp_path):
    server = Server(tmp_path / "s", environment={"KMTALK_TOKEN": TOKEN})
    client = server.client
    for header in ({}, {"authorization": "Bearer wrong"}, {"cookie": "kmtalk-token=wrong"}, {"cookie": '=;;"='}):
        assert client.get("/jobs", headers=header).status_code == 401
        assert client.get("/", headers=header).status_code == 401
    assert client.get("/jobs?token=x").status_code == 401
    assert client.get("/jobs", headers={"authorization": f"Bearer {TOKEN}"}).json() == []
    opened = client.get(f"/?token={TOKEN}")
    assert opened.status_code == 303 and "HttpOnly" in opened.headers["set-cookie"]
    assert client.get("/").status_code == 200 and client.get("/jobs").json() == []  # by the cookie
    assert server.stop()[0] == 130


@pytest.mark.slow
def test_too_many_jobs_are_refused(tmp_path, short):
    server = Server(tmp_path / "s", "--requests-per-minute", 3, "--max-waiting", 2)
    answers = [server.post(short) for _ in range(4)]
    assert [a.status_code for a in answers].count(429) >= 1
    assert "retry-after" in answers[-1].headers and "later" in answers[-1].json()["detail"]
    assert server.stop()[0] == 130


@pytest.mark.slow
def test_no_request_of_the_interface_s_own_description_breaks_it(tmp_path):
    """schemathesis over the OpenAPI: no answer of 500, and each as it is described."""
    server = Server(tmp_path / "s", "--requests-per-minute", 100000, "--max-waiting", 100000)
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [Path(sys.executable).parent / "schemathesis", "run", f"{server.address}openapi.json", "--checks", checks,
         "--max-examples", "15", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color",
         "--exclude-path-regex", "events"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert server.stop()[0] == 130


@pytest.mark.slow
@needs_browser
def test_the_page_animates_a_dropped_file(browser, tmp_path, short):
    server = Server(tmp_path / "s")
    context = browser.new_context(viewport={"width": 900, "height": 900})
    page, said = context.new_page(), []
    page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto(server.address)
    page.set_input_files("#speech", short)
    page.fill("#text", WORDS)
    page.select_option("#motion", "rules")
    page.click("#send")
    page.wait_for_selector(".job[data-state=done]", timeout=120_000)
    assert page.inner_text(".job h2") == "hello there.wav"
    assert page.frame_locator(".job iframe").locator("h1").inner_text() == "hello there · kmtalk default head"
    frame = page.frame_locator(".job iframe")
    frame.locator("#play").wait_for(timeout=60_000)
    inside = page.frames[-1]
    inside.evaluate("kmtalk.ready")
    inside.evaluate("kmtalk.seek(1)")
    assert inside.evaluate("kmtalk.frame()") == 30
    links = page.locator(".job li a").all_inner_texts()
    assert any(link.startswith("animation.glb") for link in links)
    with page.expect_download() as download:
        page.locator(".job li a", has_text="animation.glb").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"glTF"
    page.set_input_files("#speech", {"name": "b.wav", "mimeType": "audio/wav", "buffer": b"no sound"})
    page.click("#send")
    page.wait_for_selector(".job[data-state=failed]", timeout=60_000)
    assert "b.wav" in page.inner_text(".job[data-state=failed] .error")
    page.reload()  # finished jobs are still there
    page.wait_for_selector(".job[data-state=done]", timeout=60_000)
    assert said == []
    context.close()
    assert server.stop()[0] == 130


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "--token"),
        (("--token", "short"), "token"),
        (("--workers", "0"), "workers"),
        (("--port", "99999"), "port"),
        (("-o", SPEECH), "speech.wav"),
    ],
)
def test_a_server_that_cannot_be_started_says_why(tmp_path, capfd, arguments, said):
    code, err = run(capfd, "serve", *(() if "-o" in arguments else ("-o", tmp_path / "s")), *arguments)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "s").exists()


def test_messages_of_processes_are_no_pickles():
    for message in (StageMessage("render", 3, 10), EndMessage(None, {"a.npz": 5}, ("x",)), EndMessage("no", {}, ())):
        assert decode_message(encode_message(message)) == message
    for wrong in (b"", b"\x80\x04N.", b"[]", b'{"kind": "end"}', b'{"kind": "stage", "name": 1, "done": "x"}'):
        with pytest.raises(ValueError):
            decode_message(wrong)


def test_options_name_no_file():
    assert JobOptions(emotion="happy:0.5,sad:0.2").animation().emotion
    for wrong in ("a.json", "happy:2x", "../happy"):
        with pytest.raises(ValueError, match="emotion"):
            JobOptions(emotion=wrong)
    with pytest.raises(InputError, match="token"):
        ServerSettings.create(token="x")
