"""A face that follows sound as it arrives: files, pipes, sockets, microphones, and the clock that they are held to."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import soundfile
from conftest import SPEECH
from joint_networks import run
from test_live import Listener

from kmtalk import InputError, load_animation
from kmtalk.exchange.arkit import LIVE_LINK_ORDER
from kmtalk.live import sources
from kmtalk.live.following import Recording, follow
from kmtalk.live.frames import LiveFrameConverter
from kmtalk.live.playback import PlaybackReport
from kmtalk.live.sources import MicrophoneSource, PipeSource, SampleBuffer, SourceReport, open_source, timed_blocks
from kmtalk.live.websocket import WebSocketReceiver, WebSocketSource

linkface = pytest.importorskip("pylivelinkface")
client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")

KMTALK = [sys.executable, "-m", "kmtalk.cli"]
PATIENCE = 60  # seconds after which a test that hangs fails


class Kept:
    """A receiver that keeps what it gets."""

    name = "kept"

    def __init__(self):
        self.frames, self.times = [], []

    def send(self, frame, at):
        self.frames.append(frame)
        self.times.append(at)

    def close(self):
        pass


@pytest.fixture
def listener():
    opened = Listener()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def speech():
    """1.5 s of speech, int16 at 16 kHz."""
    return soundfile.read(SPEECH, dtype="int16", start=16_000, frames=24_000)[0]


@pytest.fixture
def wav(speech, tmp_path):
    soundfile.write(tmp_path / "s.wav", speech, 16_000)
    return tmp_path / "s.wav"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def wait_for(condition):
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def connect(url, **options):
    """Connect as soon as someone listens."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            return client.connect(url, **options)
        except ConnectionRefusedError:
            assert time.monotonic() < limit
            time.sleep(0.05)


def streamed(talk, samples, rate=16_000, fps=60.0):
    """What the stream itself gives: weights (N, R), and ARKit's (N, 52)."""
    stream = talk.stream(rate, fps)
    weights = np.array([p.weights for p in stream.feed(samples) + stream.finish()])
    return weights, LiveFrameConverter(talk.rig, fps).convert(weights)[0]


class Following:
    """A face that follows a source in another thread."""

    def __init__(self, talk, source):
        self.kept, self.sent, self.heard, self.recording = Kept(), PlaybackReport(), SourceReport(), Recording()
        stream = talk.stream(source.rate)
        arguments = (source, stream, [self.kept], self.sent, self.heard, self.recording)
        self.thread = threading.Thread(target=follow, args=arguments, daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


# --- files


def test_a_sound_file_reaches_live_link_and_a_web_page(talk, speech, wav, listener, capfd):
    """The poses of the stream, all of them and in order, the same by both ways."""
    port, got = free_port(), []

    def listen():
        with connect(f"ws://127.0.0.1:{port}", origin="http://localhost:8000") as connection:
            got.extend(json.loads(m) for m in connection)
            got.append(connection.close_code)

    page = threading.Thread(target=listen)
    page.start()
    code, said = run(capfd, "live", wav, "--live-link", listener.address, "--websocket", port)
    page.join(PATIENCE)
    wait_for(lambda: len(listener.packets) >= 90)
    assert code == 0 and "1.5 s of sound" in said and "90 poses sent" in said, said
    wanted = streamed(talk, speech)[1]
    faces = [linkface.PyLiveLinkFace.decode(p)[1] for p in listener.packets]
    for name in ("JawOpen", "MouthClose", "EyeBlinkLeft"):
        values = [f.get_blendshape(linkface.FaceBlendShape[name]) for f in faces]
        column = LIVE_LINK_ORDER.index(name[0].lower() + name[1:])
        np.testing.assert_allclose(values, wanted[:, column], atol=1e-4)
    header, *poses, closed = got
    assert header["type"] == "header" and header["fps"] == 60
    assert header["names"] == list(LIVE_LINK_ORDER) and len(set(header["names"])) == 52
    assert len(header["rotations"]) == 9 and closed == 1001
    numbers = [p["frame"] for p in poses]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 89 and len(numbers) > 20
    np.testing.assert_allclose([p["weights"] for p in poses], wanted[numbers], atol=1e-4)
    np.testing.assert_allclose([p["time"] for p in poses], (np.array(numbers) + 0.5) / 60, atol=1e-4)
    assert all(len(p["rotations"]) == 9 for p in poses)


def test_a_recording_is_an_animation_that_exports(talk, speech, wav, tmp_path, capfd):
    code, said = run(capfd, "live", wav, "-o", tmp_path / "take.npz", "--fps", "30")
    assert code == 0, said
    take = load_animation(tmp_path / "take.npz")
    assert take.motion.fps == 30 and take.provenance.role == "live"
    np.testing.assert_allclose(take.motion.weights, streamed(talk, speech / 32768, fps=30.0)[0], atol=1e-3)
    assert len(take.audio.original) == len(speech)
    code, said = run(capfd, "export", tmp_path / "take.npz", "-o", tmp_path / "x.glb")
    assert code == 0 and (tmp_path / "x.glb").read_bytes()[:4] == b"glTF", said


# --- pipes


def pieces(data, size=777):
    return [data[i : i + size] for i in range(0, len(data), size)]


def test_a_pipe_whose_pieces_cut_samples_apart_gives_what_the_file_gives(talk, speech, tmp_path):
    command = [*KMTALK, "live", "-", "-o", tmp_path / "t.npz"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        for piece in pieces(speech.tobytes() + b"\x7f"):  # and half a sample at the end
            ran.stdin.write(piece)
            ran.stdin.flush()
        ran.stdin.close()
        said = ran.stderr.read().decode()
        assert ran.wait(PATIENCE) == 0, said
    take = load_animation(tmp_path / "t.npz")
    np.testing.assert_allclose(take.motion.weights, streamed(talk, speech)[0], atol=1e-3)


def test_channels_of_a_pipe_are_mixed_and_its_rate_is_kept(speech):
    reading, writing = os.pipe()
    both = np.stack([speech, np.zeros_like(speech)], 1)[:2000]
    with os.fdopen(reading, "rb") as stream:
        source = PipeSource(stream, 48_000, channels=2)
        source.start()
        for piece in pieces(both.tobytes(), 7):
            os.write(writing, piece)
        os.close(writing)
        wait_for(lambda: len(source.buffer) == 2000)
        np.testing.assert_allclose(source.buffer.take(2000, 1.0), speech[:2000] / 65536, atol=1e-6)
        assert source.buffer.take(1, PATIENCE) is None and source.rate == 48_000


def test_a_pipe_that_pauses_leaves_the_face_alive(talk, speech):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        following = Following(talk, PipeSource(stream, 16_000))
        os.write(writing, speech[:8000].tobytes())
        wait_for(lambda: following.kept.times and following.kept.times[-1] > 0.8)  # of 0.5 s of sound
        os.write(writing, speech[8000:16_000].tobytes())
        os.close(writing)
        following.join()
    heard = following.heard
    assert heard.seconds == pytest.approx(1.0)
    assert heard.missing > 0.25 and "came too late" in heard.describe()
    count = len(following.kept.frames)
    assert [f.number for f in following.kept.frames] == list(range(count))
    assert count == round((heard.seconds + heard.missing) * 60)
    assert sum(map(len, following.recording.samples)) == pytest.approx((1 + heard.missing) * 16_000, abs=1)
    assert following.sent.sent == count == len(following.sent.lateness)


def test_what_waited_in_a_recorder_s_pipe_is_left_out():
    """A recorder fills the pipe while the models load: the face shall not be late by that for good."""
    sound = np.ones(3 * 16_000, "<i2")

    class Pipe(io.BytesIO):
        def fileno(self):
            raise io.UnsupportedOperation

    for captures in (True, False):
        report = SourceReport()
        source = PipeSource(Pipe(sound.tobytes()), 16_000, captures=captures)
        source.start()
        time.sleep(0.3)  # all that the pipe holds is read, or as much as is read ahead
        taken = sum(len(block) for block, _ in timed_blocks(source, report)) / 16_000
        assert (report.dropped > 2.5 and taken < 0.5) if captures else (report.dropped == 0 and taken == 3)


@pytest.mark.parametrize("sound", [True, False])
def test_ctrl_c_writes_what_a_pipe_without_end_has_given(speech, tmp_path, sound):
    """With sound, and while a program that never sends any is waited for: no traceback and no fatal error of Python."""
    command = [*KMTALK, "live", "-", "-o", tmp_path / "t.npz"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as ran:
        if sound:
            ran.stdin.write(speech.tobytes())
        said = b""
        while b"following" not in said:
            said += ran.stderr.read(1)
        time.sleep(1.5)
        ran.send_signal(signal.SIGINT)
        said += ran.stderr.read()
        code = ran.wait(PATIENCE)
    said = said.decode()
    assert "Traceback" not in said and "Fatal" not in said, said
    if sound:
        assert code == 0, said
        take = load_animation(tmp_path / "t.npz")
        assert len(take.motion) > 20 and len(take.audio.original) >= len(take.motion) / 60 * 16_000
    else:
        assert code == 2 and "nothing was recorded" in said and not (tmp_path / "t.npz").exists(), said


# --- sockets


@pytest.fixture
def listening(talk):
    source = WebSocketSource("127.0.0.1:" + str(free_port()), 16_000)
    following = Following(talk, source)
    yield source, following
    source.buffer.end()
    following.join()


def test_a_program_sends_sound_in_messages_and_loses_some(talk, listening, speech):
    """Late ones leave the face alive; a gap is filled with silence; the second program is refused, and let in later."""
    source, following = listening
    sound = (speech / 32768).astype("<f4")
    with connect(source.name) as first:
        for start in range(0, 8000, 400):
            first.send(sound[start : start + 400].tobytes())
            time.sleep(0.025)
        with connect(source.name) as second, pytest.raises(exceptions.ConnectionClosed) as refused:
            second.recv(PATIENCE)
        assert refused.value.rcvd.code == 1013 and "already" in refused.value.rcvd.reason
        before = len(following.kept.frames)
        wait_for(lambda: following.heard.missing > 0.2 and len(following.kept.frames) > before + 10)
        first.send(sound[16_000:].tobytes())
    with connect(source.name) as again:
        again.send(sound[:1600].tobytes())
        taken = following.heard.seconds
        wait_for(lambda: following.heard.seconds + following.heard.dropped > taken)
    source.buffer.end()
    following.join()
    numbers = [f.number for f in following.kept.frames]
    assert numbers == list(range(len(numbers)))
    weights = np.array([f.weights for f in following.kept.frames])
    assert np.isfinite(weights).all() and weights[:, LIVE_LINK_ORDER.index("jawOpen")].max() > 0.05


@pytest.mark.parametrize("message", ["hello", b"\0\0\0", b"\0" * ((1 << 20) + 4)])
def test_what_is_no_sound_closes_the_connection_with_a_reason(listening, message, speech):
    source, following = listening
    with connect(source.name) as wrong:
        wrong.send(message)
        with pytest.raises(exceptions.ConnectionClosed) as closed:
            wrong.recv(PATIENCE)
    assert closed.value.rcvd.code in (1003, 1009) and closed.value.rcvd.reason
    with connect(source.name) as right:  # and the next is heard
        right.send((speech[:8000] / 32768).astype("<f4").tobytes())
        wait_for(lambda: following.heard.seconds > 0.2)


def test_pages_of_other_sites_are_refused(listening):
    source, _ = listening
    receiver = WebSocketReceiver(str(free_port()), 60.0)
    for url in (source.name, receiver.name.removeprefix("WebSocket ")):
        for origin in (
            "https://evil.example",
            "https://localhost.evil.example",
            "http://evil.example/localhost",
            "null",
        ):
            with pytest.raises(exceptions.InvalidStatus, match="403"):
                connect(url, origin=origin)
        for origin in (None, "http://localhost", "http://localhost:5173", "https://127.0.0.1:8000", "http://[::1]:80"):
            connect(url, origin=origin).close()
            time.sleep(0.05)  # until the place is free
    receiver.close()


def test_a_port_that_is_taken_is_said_in_one_line(wav, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments in ((wav, "--websocket", port), (f"ws://127.0.0.1:{port}", "--vmc", "localhost")):
            code, said = run(capfd, "live", *arguments)
            assert code == 2 and "cannot listen there" in said and len(said.strip().splitlines()) == 1, said


# --- microphones


def sounddevice(**members):
    """A module in place of sounddevice."""
    return types.SimpleNamespace(PortAudioError=type("PortAudioError", (Exception,), {}), **members)


@pytest.mark.parametrize("source", ["mic", "mic:headset"])
def test_a_microphone_without_portaudio_is_said_in_one_line(tmp_path, monkeypatch, capfd, source):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    code, said = run(capfd, "live", source, "--vmc", "localhost")
    assert code == 2 and "needs PortAudio" in said and len(said.strip().splitlines()) == 1, said


def test_a_microphone_that_is_not_there_is_said_in_one_line(monkeypatch, capfd):
    def query(device, kind):
        raise ValueError(f"Multiple input devices found for {device!r}:\n[0] a\n[1] b")

    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice(query_devices=query))
    code, said = run(capfd, "live", "mic:usb", "--vmc", "localhost")
    assert code == 2 and "mic:usb: no such microphone" in said and "[1] b" in said, said
    assert len(said.strip().splitlines()) == 1


def test_a_microphone_gives_its_blocks(monkeypatch):
    opened = []

    class InputStream:
        def __init__(self, rate, size, device, channels, kind, latency, callback):
            assert (rate, size, device, channels, kind) == (44_100, 441, 3, 1, "float32")
            self.callback, self.closed = callback, False
            opened.append(self)

        def start(self):
            block = np.full((441, 1), 0.25, np.float32)
            self.callback(block, 441, None, None)
            block[:] = 9.0  # PortAudio uses its memory again

        def close(self):
            self.closed = True

    found = {"name": "Headset", "default_samplerate": 44_100.0}
    fake = sounddevice(query_devices=lambda device, kind: found, InputStream=InputStream)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    source = open_source("mic:3", sys.stdin.buffer if hasattr(sys.stdin, "buffer") else None, None, 1)
    assert isinstance(source, MicrophoneSource) and source.name == "Headset" and source.rate == 44_100
    source.start()
    np.testing.assert_array_equal(source.buffer.take(441, 1.0), np.full(441, 0.25, np.float32))
    source.stop()
    assert opened[0].closed and source.buffer.take(1, 1.0) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.wav",), "none.wav"),
        (("ws://",), "is no address"),
        (("ws://localhost:0",), "is no address"),
        (("-", "--rate", "100"), "--rate 100"),
        ((SPEECH, "--rate", "16000"), "--rate is for"),
        ((SPEECH, "--loop"), "--loop"),
        ((SPEECH, "--style", "operatic"), "operatic"),
        ((SPEECH, "--fps", "500"), "frames per second"),
    ],
)
def test_sources_that_cannot_be_followed_are_said_in_one_line(capfd, arguments, said):
    code, err = run(capfd, "live", *arguments, "--vmc", "localhost")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


def test_a_source_that_cannot_start_is_stopped(talk):
    class Broken(sources.SoundSource):
        name, rate, captures, buffer = "broken", 16_000, True, SampleBuffer()

        def start(self):
            raise InputError("broken: is in use")

    with pytest.raises(InputError, match="in use"):
        follow(Broken(), talk.stream(16_000), [Kept()], PlaybackReport(), SourceReport())
