"""Poses in real time: packets read by other programs' own decoders."""

from __future__ import annotations

import socket
import struct
import threading
import time

import numpy as np
import pytest
import soundfile
from conftest import FACE
from joint_networks import run
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.exchange.arkit import LIVE_LINK_ORDER, LIVE_LINK_ROTATIONS, arkit_curves, head_and_eye_rotations
from kmtalk.face.files.load import load_template
from kmtalk.face.motion import Motion
from kmtalk.face.rig import ARKIT_NAMES
from kmtalk.live.frames import live_frames
from kmtalk.live.live_link import LiveLinkEncoder
from kmtalk.live.playback import play
from kmtalk.live.receivers import parse_address
from kmtalk.live.vmc import bone_rotations

linkface = pytest.importorskip("pylivelinkface")
osc_server = pytest.importorskip("pythonosc.osc_server")
dispatcher = pytest.importorskip("pythonosc.dispatcher")


class Listener:
    """Collects the UDP packets that come to a free port."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.packets, self.times, self.open = [], [], True
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self):
        while self.open:
            try:
                self.packets.append(self.socket.recv(65536))
                self.times.append(time.monotonic())
            except TimeoutError:
                pass

    def close(self):
        self.open = False
        self.thread.join()
        self.socket.close()


@pytest.fixture
def listener():
    opened = Listener()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def saved(spoken, tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "a.npz"
    spoken.save(path)
    return path


def pose(rig, **weights):
    """A motion of one frame."""
    values = np.zeros((1, len(rig.shape_names)))
    for name, weight in weights.items():
        values[0, rig.index[name]] = weight
    return next(iter(live_frames(Motion(rig, values, 30.0), 30.0)))


def test_a_packet_is_what_the_decoder_of_live_link_face_reads(light_rig):
    """Each of the 61 values at its name in Unreal's order, time and rate."""
    for name in sorted(ARKIT_NAMES):
        data = LiveLinkEncoder("Ana", 60).encode(pose(light_rig, **{name: 0.5}), 3600.25)
        found, face = linkface.PyLiveLinkFace.decode(data)
        assert found
        assert face.name and face._version == 6 and face.fps == 60 and face._denominator == 1
        assert face._frames == 3600 * 60 + 15
        shape = linkface.FaceBlendShape[name[0].upper() + name[1:]]
        assert face.get_blendshape(shape) == pytest.approx(0.5, abs=1e-6), name
    turned = pose(light_rig, headYawLeft=0.5, headPitchDown=0.2)
    _, face = linkface.PyLiveLinkFace.decode(LiveLinkEncoder("Ana", 29.97).encode(turned, 1.0))
    shapes = linkface.FaceBlendShape
    assert face.get_blendshape(shapes.HeadYaw) == pytest.approx(turned.rotations[0])
    assert face.get_blendshape(shapes.HeadPitch) == pytest.approx(turned.rotations[1]) and turned.rotations[1] < 0
    assert face.fps / face._denominator == pytest.approx(29.97, abs=1e-3)


def test_names_are_counted_in_bytes(light_rig):
    data = LiveLinkEncoder("Zoë", 60).encode(pose(light_rig), 0.0)
    device_length = struct.unpack("!i", data[1:5])[0]
    name_length = struct.unpack("!i", data[5 + device_length : 9 + device_length])[0]
    assert data[9 + device_length :][:name_length].decode() == "Zoë"
    assert len(data) == 9 + device_length + name_length + 16 + 1 + 61 * 4


def test_an_animation_plays_in_live_link_and_vmc(saved, spoken, listener, capfd):
    """Every pose in time and order, at the animation's rate, by the decoders of both protocols."""
    heard = []
    routes = dispatcher.Dispatcher()
    routes.set_default_handler(lambda address, *values: heard.append((address, values)))
    with osc_server.ThreadingOSCUDPServer(("127.0.0.1", 0), routes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        code, said = run(capfd, "live", saved, "--live-link", listener.address, "--vmc", f"127.0.0.1:{port}")
        time.sleep(0.3)
        server.shutdown()
    assert code == 0 and "poses sent" in said and "Live Link Face" in said, said
    count = len(spoken.motion)
    faces = [linkface.PyLiveLinkFace.decode(p)[1] for p in listener.packets]
    assert 0.9 * count < len(faces) <= count
    jaw = np.array([f.get_blendshape(linkface.FaceBlendShape.JawOpen) for f in faces])
    wanted = arkit_curves(spoken.motion)[:, LIVE_LINK_ORDER.index("jawOpen")]
    if len(faces) == count:
        np.testing.assert_allclose(jaw, wanted, atol=1e-6)
    assert jaw.max() == pytest.approx(wanted.max(), abs=0.05)
    assert listener.times[-1] - listener.times[0] == pytest.approx(count / 30, abs=0.3)
    bundles = sum(a == "/VMC/Ext/Blend/Apply" for a, _ in heard)
    assert bundles >= 0.9 * count
    values = {v[0] for a, v in heard if a == "/VMC/Ext/Blend/Val"}
    assert {"A", "I", "U", "E", "O", "Blink_L", "JawOpen", "MouthSmileLeft"} <= values
    bones = {v[0]: v[4:] for a, v in heard if a == "/VMC/Ext/Bone/Pos"}
    assert set(bones) == {"Neck", "Head", "LeftEye", "RightEye"}
    assert all(np.linalg.norm(q) == pytest.approx(1, abs=1e-5) for q in bones.values())


@pytest.mark.parametrize(
    ("angle", "looks"),
    [(0, (-1, 0, 0)), (1, (0, 1, 0))],  # yaw to the face's own left, which is -x in Unity; pitch up
)
def test_bones_turn_in_unity_s_axes(angle, looks):
    rotations = np.zeros(9)
    rotations[angle] = 0.3
    bones = bone_rotations(rotations)
    whole = Rotation.from_quat(bones["Neck"]) * Rotation.from_quat(bones["Head"])
    forward = whole.apply([0, 0, 1])  # rotation matrices are the same in either handedness
    assert forward @ np.array(looks) == pytest.approx(np.sin(0.3), abs=1e-6)
    rotations = np.zeros(9)
    rotations[2] = 0.3
    top = Rotation.from_quat(bone_rotations(rotations)["Head"]).apply([0, 1, 0])
    assert top[0] < 0  # tilted to its own left
    rotations = np.zeros(9)
    rotations[LIVE_LINK_ROTATIONS.index("LeftEyeYaw")] = 0.3
    assert Rotation.from_quat(bone_rotations(rotations)["LeftEye"]).apply([0, 0, 1])[0] == pytest.approx(-np.sin(0.3))


def test_another_rate_is_interpolated(spoken):
    frames = list(live_frames(spoken.motion, 60.0))
    assert abs(len(frames) - 2 * len(spoken.motion)) <= 1
    turns = head_and_eye_rotations(spoken.motion)
    between = (turns[10] * 0.75 + turns[11] * 0.25, turns[10] * 0.25 + turns[11] * 0.75)  # at 21.5 and 22.5 of 60
    np.testing.assert_allclose([frames[21].rotations, frames[22].rotations], between, atol=2e-3)


def test_a_slow_receiver_does_not_delay_the_face(light_rig):
    """Poses that come too late are left out, and the last is in time."""

    class Slow:
        name = "slow"

        def __init__(self):
            self.got = []

        def send(self, frame, at):
            self.got.append(frame.number)
            time.sleep(0.1)

    receiver = Slow()
    motion = Motion(light_rig, np.zeros((30, len(light_rig.shape_names))), 30.0)
    start = time.monotonic()
    report = play(live_frames(motion, 30.0), 30.0, [receiver])
    assert time.monotonic() - start < 1.3
    assert report.sent + report.dropped == 30 and report.dropped >= 15
    assert receiver.got == sorted(receiver.got) and "left out" in report.describe()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nobody receives"),
        (("--live-link", "a b"), "is no address"),
        (("--live-link", "localhost:99999"), "is no address"),
        (("--vmc", "no.such.host.invalid"), "no such host"),
        (("--live-link", "localhost", "--subject", "x" * 101), "--subject"),
        (("--live-link", "localhost", "--fps", "0"), "fps"),
    ],
)
def test_what_cannot_be_sent_is_said_in_one_line(saved, capfd, arguments, said):
    code, err = run(capfd, "live", saved, *arguments)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


def test_imported_vertices_have_nothing_to_send(talk, tmp_path, capfd):
    template = load_template(FACE)
    np.save(tmp_path / "m.npy", np.tile(template.vertices, (30, 1, 1)))
    soundfile.write(tmp_path / "s.wav", np.sin(np.arange(16000) / 20), 16000)
    talk.from_vertices(tmp_path / "m.npy", FACE, tmp_path / "s.wav").save(tmp_path / "v.npz")
    code, err = run(capfd, "live", tmp_path / "v.npz", "--live-link", "localhost")
    assert code == 2 and "imported vertices" in err and len(err.strip().splitlines()) == 1, err


def test_addresses():
    assert parse_address("unreal", 11111) == ("unreal", 11111)
    assert parse_address("10.0.0.2:5000", 11111) == ("10.0.0.2", 5000)
    assert parse_address("[::1]:7", 11111) == ("::1", 7)
    for wrong in ("", "::1", "a:0", "a:b", "a:1:2"):
        with pytest.raises(InputError, match="is no address"):
            parse_address(wrong, 1)
