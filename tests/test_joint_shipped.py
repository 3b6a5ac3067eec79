"""The shipped joint model: five tasks of one file, each by its command, judged by Whisper and by the mouth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import SAID, SPEECH
from joint_networks import needs_joint, run

from kmtalk import metrics
from kmtalk.animation import Animation, load_animation
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.joint.joint_flow import JointFlow
from kmtalk.joint.tokens import spans_of_alignment
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples
from kmtalk.speech.openai_whisper import OpenAIWhisper

pytestmark = [needs_joint, pytest.mark.slow]

TEXT = "Please move the brown box to my room. Five people have been waiting for a very long time."
"""Eight p, b and m."""


@pytest.fixture(scope="module")
def transcriber():
    return OpenAIWhisper("base")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return tmp_path_factory.mktemp("shipped")


@pytest.fixture(scope="module")
def said(desk):
    assert not JointFlow.load().network.training
    from kmtalk.cli import app

    out = desk / "said.npz"
    arguments = ["speak", TEXT, "--engine", "flow", "--template", "light", "--seed", "1", "-o", str(out)]
    assert app(arguments, standalone_mode=False) == 0
    return load_animation(out)


def word_errors(transcriber, animation: Animation, text: str) -> float:
    """The word error rate of an animation's sound in %."""
    audio = audio_from_samples(animation.audio.samples, SAMPLE_RATE)
    return metrics.word_error_rate([transcriber.transcribe(audio, "en").text], [text]).value


def apertures(animation: Animation) -> np.ndarray:
    """The opening of the lips in mm."""
    measurer = MouthMeasurer.from_template(animation.template)
    return measurer.measure(animation.vertices[:, measurer.vertex_indices]).lip_channels


def test_a_text_is_spoken_with_its_face(said, transcriber):
    assert word_errors(transcriber, said, TEXT) <= 25
    closed = metrics.closure_rate([(apertures(said), said.alignment, said.fps)])
    assert closed.value >= 0.97
    index = said.motion.rig.index
    head = [i for name, i in index.items() if name.startswith("head")]
    assert said.weights[:, index["jawOpen"]].std() > 0.05 and said.weights[:, head].std(0).max() > 0.01
    assert said.weights[:, index["eyeBlinkLeft"]].max() > 0.5
    assert [w.text for w in said.alignment.words][:4] == ["please", "move", "the", "brown"]


def test_the_mouth_of_a_sound(desk, talk, capfd):
    out = desk / "animated.npz"
    code, err = run(
        capfd,
        "animate",
        SPEECH,
        "--text",
        SAID,
        "--motion",
        "flow",
        "--template",
        "light",
        "--no-expression",
        "-o",
        out,
    )
    assert code == 0, err
    flow, network = load_animation(out), talk.animate(SPEECH, "light", text=SAID, expression=False)
    assert np.corrcoef(apertures(flow)[:, 0], apertures(network)[:, 0])[0, 1] > 0.8
    np.testing.assert_array_equal(flow.audio.original, network.audio.original)


def test_a_span_is_made_anew(desk, said, transcriber, capfd):
    start, stop = 0.6, 1.6
    code, err = run(capfd, "fill", desk / "said.npz", "--from", start, "--to", stop, "--seed", 4, "-o", desk / "f.npz")
    assert code == 0, err
    made = load_animation(desk / "f.npz")
    times = (np.arange(len(said.motion)) + 0.5) / said.fps
    inside = (times >= start) & (times < stop)
    np.testing.assert_array_equal(made.weights[~inside], said.weights[~inside])
    assert not np.array_equal(made.weights[inside], said.weights[inside])
    assert word_errors(transcriber, made, TEXT) <= 30
    assert np.corrcoef(apertures(made)[inside, 0], apertures(said)[inside, 0])[0, 1] > 0.6


def test_frames_between_edited_keys(desk, said, capfd):
    keys = desk / "keys.json"
    assert run(capfd, "keys", desk / "said.npz", "-o", keys)[0] == 0
    edited = json.loads(keys.read_text())
    vowels = [k for k in edited["keys"] if k["weights"].get("jawOpen", 0) > 0.1 and k["frame"] > 10]
    vowels[len(vowels) // 2]["weights"]["jawOpen"] = 0.6
    frame = vowels[len(vowels) // 2]["frame"]
    keys.write_text(json.dumps(edited))
    code, err = run(capfd, "complete", keys, desk / "said.npz", "--completer", "flow", "-o", desk / "done.npz")
    assert code == 0, err
    done, jaw = load_animation(desk / "done.npz"), said.motion.rig.index["jawOpen"]
    assert done.weights[frame, jaw] == pytest.approx(0.6, abs=1e-3)
    change = np.abs(done.weights - said.weights).max(1)
    assert change[max(0, frame - 1) : frame + 2].min() > 0.02 and not change[: frame - 40].any()
    assert not change[frame + 40 :].any()


def test_a_voice_for_a_face(desk, said, transcriber, capfd):
    code, err = run(capfd, "voice", desk / "said.npz", "--text", TEXT, "--seed", 2, "-o", desk / "voiced.npz")
    assert code == 0, err
    made = load_animation(desk / "voiced.npz")
    np.testing.assert_array_equal(made.weights, said.weights)
    assert word_errors(transcriber, made, TEXT) <= 35
    moved = [abs(a.start - b.start) for a, b in zip(made.alignment.phones, said.alignment.phones, strict=True)]
    assert np.median(moved) < 0.04


def test_samples_are_those_of_the_seed(said, talk):
    def sample(seed):
        spans = spans_of_alignment(said.alignment, 2.0)
        from kmtalk.joint.joint_flow import Known

        return talk.joint_flow.sample(171, Known(spans), seed=seed, steps=4)

    np.testing.assert_array_equal(sample(1).mel, sample(1).mel)
    assert not np.array_equal(sample(1).weights, sample(2).weights)
