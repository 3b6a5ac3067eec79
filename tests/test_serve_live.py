"""A face that follows a voice on the server: its socket, and its page in a browser with a file as the microphone."""

from __future__ import annotations

import json
import time
from collections import deque

import numpy as np
import pytest
import soundfile
from conftest import SPEECH
from pages import ARGUMENTS, CHROMIUM, needs_browser
from running_server import Server

from kmtalk import KMTalk
from kmtalk.exchange.arkit import LIVE_LINK_ORDER, LIVE_LINK_ROTATIONS

client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")
TOKEN = "sixteen characters or more"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    opened = Server(tmp_path_factory.mktemp("server"), "--max-live", 2)
    yield opened
    code, _, err = opened.stop()
    assert code == 130 and "Traceback" not in err, err


@pytest.fixture(scope="module")
def speech():
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    return samples[: 2 * rate], rate


def connect(server, **options):
    address = server.address.partition("?")[0].replace("http", "ws") + "live/socket"
    return client.connect(address, compression=None, open_timeout=60, **options)


def follow(server, samples, rate, **wanted):
    """Send samples in blocks of 20 ms; returns the header and the poses."""
    with connect(server) as socket:
        socket.send(json.dumps({"rate": rate, **wanted}))
        header = json.loads(socket.recv(timeout=120))
        for start in range(0, len(samples), rate // 50):
            socket.send(samples[start : start + rate // 50].astype("<f4").tobytes())
        socket.send("end")
        return header, [json.loads(message) for message in socket]


@pytest.mark.slow
def test_the_socket_gives_what_the_stream_gives(server, speech):
    samples, rate = speech
    header, poses = follow(server, samples, rate, fps=30, shapes="rig", seed=3)
    stream = KMTalk().stream(rate, 30, seed=3)
    expected = stream.feed(samples) + stream.finish()
    assert header["names"] == list(stream.rig.shape_names) and header["fps"] == 30
    assert [p["frame"] for p in poses] == [p.number for p in expected] == list(range(60))
    np.testing.assert_allclose([p["weights"] for p in poses], np.stack([p.weights for p in expected]), atol=1e-3)
    header, poses = follow(server, samples, rate)
    assert header["names"] == list(LIVE_LINK_ORDER) and header["rotations"] == list(LIVE_LINK_ROTATIONS)
    assert len(poses) == 120 and len(poses[0]["weights"]) == 52 and len(poses[0]["rotations"]) == 9
    jaw = np.array([p["weights"] for p in poses])[:, LIVE_LINK_ORDER.index("jawOpen")]
    assert jaw.max() > 0.1


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([b"\0\0\0\0"], "the first message must be text"),
        (["{}"], "rate"),
        (['{"rate": 16000, "mouth": 1}'], "mouth"),
        (['{"rate": 100}'], "100 Hz"),
        (['{"rate": 16000, "fps": 0}'], "frames per second"),
        (['{"rate": 16000, "style": "loud"}'], "no such style"),
        (['{"rate": 16000}', b"\0\0\0"], "float32 samples"),
        (['{"rate": 16000}', "hello"], "binary messages"),
        (['{"rate": 16000}', bytes(4 * 16_000 * 4)], "ahead of the clock"),
    ],
)
def test_messages_that_cannot_be_used_close_the_socket(server, messages, said):
    with connect(server) as socket:
        for message in messages:
            socket.send(message)
        with pytest.raises(exceptions.ConnectionClosedError) as closed:
            deque(iter(lambda: socket.recv(timeout=60), None), maxlen=0)  # until it closes
    assert closed.value.rcvd.code == 1003 and said in closed.value.rcvd.reason
    assert server.client.get("/health").status_code == 200


def test_places_are_limited_and_given_back(server):
    first, second = connect(server), connect(server)
    with connect(server) as third, pytest.raises(exceptions.ConnectionClosed) as closed:
        third.recv(timeout=60)
    assert closed.value.rcvd.code == 1013 and "as many faces" in closed.value.rcvd.reason
    first.close()
    for _ in range(100):  # the server learns of it a moment later
        with connect(server) as again:
            again.send('{"rate": 16000}')
            try:
                assert json.loads(again.recv(timeout=60))["type"] == "header"
                break
            except exceptions.ConnectionClosed:
                time.sleep(0.05)
    else:
        raise AssertionError("the place was not given back")
    second.close()


def test_pages_of_other_origins_and_strangers_are_refused(server, tmp_path):
    for options in ({"origin": "https://evil.example"}, {"additional_headers": {"Host": "evil.example"}}):
        with pytest.raises(exceptions.InvalidStatus), connect(server, **options):
            pass
    guarded = Server(tmp_path / "guarded", "--token", TOKEN)
    with pytest.raises(exceptions.InvalidStatus), connect(guarded):
        pass
    with connect(guarded, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        socket.send("{}")
        with pytest.raises(exceptions.ConnectionClosedError, match="rate"):
            socket.recv(timeout=60)
    guarded.stop()


def wait(page, condition):
    """Wait for a condition; the page's policy forbids playwright's own way."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(condition)


@needs_browser
@pytest.mark.slow
def test_a_face_on_the_page_follows_the_microphone(server, tmp_path):
    """Chromium's microphone is a sound file; the face's own shapes move, and rest when nobody speaks."""
    samples, rate = soundfile.read(SPEECH)
    quiet = np.zeros(4 * rate)
    soundfile.write(tmp_path / "microphone.wav", np.concatenate([samples[: 4 * rate], quiet]), rate)
    from playwright.sync_api import sync_playwright

    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}"]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *fake])
        page = chromium.new_page(viewport={"width": 900, "height": 800})
        problems = []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.goto(server.address + "live")
        wait(page, "Boolean(document.getElementById('face').contentWindow.kmtalk?.setShapes)")
        page.click("#microphone")
        wait(page, "kmtalkLive.poses > 100")
        assert "follows the microphone" in page.inner_text("#state")
        jaws, delays = [], []
        for _ in range(60):
            page.wait_for_timeout(100)
            jaws.append(page.evaluate("document.getElementById('face').contentWindow.kmtalk.weights().jawOpen ?? 0"))
            delays.append(page.evaluate("kmtalkLive.delay"))
        page.screenshot(path=tmp_path / "live.png")
        assert max(jaws) > 0.1 and min(jaws) < 0.06  # in speech and in the pause
        assert 0.1 < np.median(delays) < 1.0
        page.click("#stop")
        stopped = page.evaluate("kmtalkLive.poses")
        page.wait_for_timeout(500)
        assert page.evaluate("kmtalkLive.poses") - stopped < 5
        # a file is played, and heard as late as the face is
        page.set_input_files("#file", SPEECH)
        wait(page, "kmtalkLive.poses > 60 && document.getElementById('state').textContent.includes('behind')")
        chromium.close()
    assert not problems
