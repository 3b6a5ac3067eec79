"""What users do with the joint model: spans made anew, frames between keys, voices for faces, texts spoken."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import SPEECH, beginning
from joint_networks import needs_joint, random_network, run

from kmtalk import InputError
from kmtalk.animation import Animation, load_animation
from kmtalk.face.motion import Motion, frame_count
from kmtalk.joint.clock import SAMPLE_RATE
from kmtalk.joint.joint_flow import JointFlow
from kmtalk.joint.network_file import save_joint_network
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.vocoder import HifiGan
from kmtalk.joint_tasks import complete_keys, face_of_sound, fill_span, voice_for_face
from kmtalk.keys import KeyMotions, locate_key_frames

pytestmark = needs_joint


@pytest.fixture(scope="module")
def vocoder():
    return HifiGan()


@pytest.fixture(scope="module")
def flow(light_rig):
    return JointFlow(random_network(light_rig, "joint"))


@pytest.fixture(scope="module")
def clip(spoken, light_rig, flow):
    """2.4 s of the demo on the light head."""
    audio, alignment = beginning(spoken, 2.4)
    count = frame_count(audio.duration, 30.0)
    motion = Motion(light_rig, spoken.weights[:count].astype(np.float32), 30.0)
    return Animation(motion, alignment, KeyMotions(locate_key_frames(alignment, count, 30.0), motion), audio)


@pytest.mark.parametrize("part", ["both", "face", "sound"])
def test_a_span_is_made_anew_and_nothing_else(clip, flow, vocoder, part):
    made = fill_span(clip, flow, vocoder, 1.0, 1.6, part)
    times = (np.arange(len(clip.motion)) + 0.5) / 30
    inside = (times >= 1.0) & (times < 1.6)
    np.testing.assert_array_equal(made.weights[~inside], clip.weights[~inside])
    assert np.array_equal(made.weights[inside], clip.weights[inside]) == (part == "sound")
    rate = clip.audio.original_rate
    sound = np.r_[made.audio.original[:rate, 0], made.audio.original[round(1.6 * rate) :, 0]]
    np.testing.assert_array_equal(
        sound, np.r_[clip.audio.original[:rate, 0], clip.audio.original[round(1.6 * rate) :, 0]]
    )
    assert np.array_equal(made.audio.original, clip.audio.original) == (part == "face")
    assert made.audio.original.shape == clip.audio.original.shape


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (1, 1), (2, 1), (1, 99), (1, 1.05), (float("nan"), 1)])
def test_spans_outside_the_clip_are_refused(clip, flow, start, stop):
    with pytest.raises(InputError, match="the span from"):
        fill_span(clip, flow, None, start, stop, "face")


def test_the_joint_model_completes_edited_keys(clip, flow):
    edited = replace(clip, keys=KeyMotions(locate_key_frames(clip.alignment, len(clip.motion), 30.0), clip.motion))
    assert complete_keys(edited, flow) is edited  # nothing to do
    frame = int(edited.keys.frames[len(edited.keys) // 2])
    edited.keys.set_weights(frame, jawOpen=0.61)
    done = complete_keys(edited, flow)
    jaw = clip.motion.rig.index["jawOpen"]
    assert done.weights[frame, jaw] == np.float32(0.61)
    moved = np.abs(done.weights - clip.weights).max(1) > 0
    assert moved.sum() > 5 and not moved[0] and not moved[-1]
    assert np.abs(np.flatnonzero(moved) - frame).max() < 1.2 * 30
    upper = [clip.motion.rig.index[n] for n in ("eyeBlinkLeft", "browInnerUp", "headPitchUp")]
    np.testing.assert_array_equal(done.weights[:, upper], clip.weights[:, upper])
    np.testing.assert_array_equal(
        done.weights[edited.keys.frames[edited.keys.pinned]], edited.keys.poses[edited.keys.pinned]
    )


def test_a_face_gets_a_voice_and_keeps_its_motion(clip, flow, vocoder):
    made = voice_for_face(clip, flow, vocoder, "Thank you for calling.")
    np.testing.assert_array_equal(made.weights, clip.weights)
    assert made.audio.duration == pytest.approx(clip.audio.duration, abs=1e-3)
    assert made.audio.original_rate == SAMPLE_RATE and made.audio.original.any()
    assert [p.label for p in made.alignment.phones] == [
        s.label for s in phones_of_text("Thank you for calling.").spans if not s.is_pause
    ]
    with pytest.raises(InputError, match="too many for"):
        voice_for_face(clip, flow, vocoder, "Thank you for calling, and more. " * 40)


def test_the_face_of_a_sound_is_postprocessed(clip, flow, light_rig):
    weights = face_of_sound(flow, light_rig, clip.audio, clip.alignment, 30.0, "lively")
    assert weights.shape == clip.weights.shape
    assert not weights[:, light_rig.index["eyeBlinkLeft"]].any() and weights[:, light_rig.index["jawOpen"]].any()


def test_a_rig_without_the_shapes_is_refused(clip, flow):
    names = tuple(n if n != "jawOpen" else "Maul" for n in clip.motion.rig.shape_names)
    other = replace(clip.motion.rig, shape_names=names)
    with pytest.raises(InputError, match="its rig lacks jawOpen"):
        fill_span(replace(clip, motion=replace(clip.motion, rig=other)), flow, None, 0.5, 1.0, "face")


# --- the commands


@pytest.fixture(scope="module")
def desk(clip, light_rig, tmp_path_factory):
    """An animation.npz, and the weights of a joint model with random weights."""
    folder = tmp_path_factory.mktemp("desk")
    clip.save(folder / "clip.npz")
    save_joint_network(random_network(light_rig, "joint"), folder / "joint.safetensors")
    return folder


def test_fill_keeps_all_but_the_span(desk, clip, capfd):
    out = desk / "filled.npz"
    code, err = run(
        capfd, "fill", desk / "clip.npz", "--from", 1.0, "--to", 1.6, "--joint", desk / "joint.safetensors", "-o", out
    )
    assert code == 0, err
    made, given = load_animation(out), load_animation(desk / "clip.npz")
    inside = (np.arange(len(clip.motion)) + 0.5) / 30
    inside = (inside >= 1.0) & (inside < 1.6)
    np.testing.assert_array_equal(made.weights[~inside], given.weights[~inside])
    assert not np.array_equal(made.weights[inside], given.weights[inside])
    assert not np.array_equal(made.audio.original, given.audio.original)
    assert made.provenance.role == "joint"
    folder = desk / "filled"
    run(
        capfd, "fill", desk / "clip.npz", "--from", 1.0, "--to", 1.6, "--joint", desk / "joint.safetensors",
        "--part", "face", "-o", folder, "--no-video",
    )  # fmt: skip
    # the sound alone does not give this motion again
    code, err = run(capfd, "complete", folder / "keys.json", folder / "speech.wav", "-o", desk / "again.npz")
    assert code == 2 and "belongs to a face of a joint model" in err
    code, err = run(capfd, "complete", folder / "keys.json", folder / "animation.npz", "-o", desk / "again.npz")
    assert code == 0, err


def test_speak_makes_sound_and_face_together(desk, capfd):
    out = desk / "spoken.npz"
    flow = ("--engine", "flow", "--joint", desk / "joint.safetensors")
    code, err = run(capfd, "speak", "Hello [happy] there, Bob.", *flow, "--style", "calm", "-o", out)
    assert code == 0, err
    made = load_animation(out)
    assert [w.text for w in made.alignment.words] == ["hello", "there", "bob"]
    assert made.audio.original_rate == SAMPLE_RATE and made.provenance.role == "joint"
    assert abs(len(made.motion) / 30 - made.audio.duration) < 1 / 30
    assert made.weights[-1, made.motion.rig.index["mouthSmileLeft"]] > 0.3
    for options, said in (
        ((*flow, "--speaker", "3"), "not for engine flow"),
        (("--joint", desk / "joint.safetensors"), "--joint is for --engine flow"),
        (("--voice-like", SPEECH), "for engine piper"),
        ((*flow, "--style", "angry"), "no such style"),
        ((*flow, "--language", "de"), "speaks English"),
    ):
        code, err = run(capfd, "speak", "Hello.", *options, "-o", desk / "no.npz")
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


def test_voice_keeps_the_motion(desk, capfd):
    out = desk / "voiced.npz"
    code, err = run(
        capfd, "voice", desk / "clip.npz", "--text", "Thank you for calling.", "--voice-like", SPEECH,
        "--joint", desk / "joint.safetensors", "-o", out,
    )  # fmt: skip
    assert code == 0, err
    made, given = load_animation(out), load_animation(desk / "clip.npz")
    np.testing.assert_array_equal(made.weights, given.weights)
    assert made.alignment.phones and made.audio.duration == pytest.approx(given.audio.duration, abs=1e-3)


def test_complete_takes_a_joint_model(desk, clip, capfd):
    keys = desk / "keys.json"
    assert run(capfd, "keys", desk / "clip.npz", "-o", keys)[0] == 0
    edited = json.loads(keys.read_text())
    chosen = edited["keys"][len(edited["keys"]) // 2]
    chosen["weights"]["jawOpen"] = 0.7
    keys.write_text(json.dumps(edited))
    options = ("--completer", "flow", "--joint", desk / "joint.safetensors")
    code, err = run(capfd, "complete", keys, desk / "clip.npz", "-o", desk / "done.npz", *options)
    assert code == 0, err
    done = load_animation(desk / "done.npz")
    assert done.weights[chosen["frame"], clip.motion.rig.index["jawOpen"]] == pytest.approx(0.7, abs=1e-3)
    code, err = run(capfd, "complete", keys, desk / "clip.npz", "-o", desk / "done.npz", *options[2:])
    assert code == 2 and "--joint is for --completer flow" in err


def test_animate_takes_the_mouth_of_a_joint_model(desk, light_rig, capfd):
    sound, joint = desk / "said.wav", desk / "joint.safetensors"
    soundfile.write(sound, soundfile.read(SPEECH)[0][:38400], 16000)
    given = ("animate", sound, "--text", "Please move", "--motion", "flow", "--template", "light", "--no-video")
    code, err = run(capfd, *given, "--joint", joint, "--style", "calm", "-o", desk / "flow")
    assert code == 0, err
    made = load_animation(desk / "flow" / "animation.npz")
    assert made.weights[:, light_rig.index["jawOpen"]].any() and made.weights[:, light_rig.index["eyeBlinkLeft"]].any()
    assert made.provenance.role == "speaker" and made.provenance.network_digest
    # keys of it are edited by the sound, with the same weights
    again = ("complete", desk / "flow" / "keys.json", sound, "--template", "light", "-o", desk / "x.npz")
    code, err = run(capfd, *again, "--joint", joint)
    assert code == 0, err
    save_joint_network(random_network(light_rig, "none"), desk / "other.safetensors")
    code, err = run(capfd, *again, "--joint", desk / "other.safetensors")
    assert code == 2 and "give the same --joint" in err
    for options, said in (
        (("--motion", "network", "--joint", joint), "--joint is for --motion flow"),
        (("--joint", joint, "--style", "angry"), "no such style"),
        (("--joint", desk / "gone"), "no such joint network"),
    ):
        code, err = run(capfd, *given, *options, "-o", desk / "no.npz")
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fill", "--from", 1, "--to", 9), "does not lie in the clip"),
        (("fill", "--from", -1, "--to", 1), "does not lie in the clip"),
        (("fill", "--from", 1, "--to", 1.01), "shorter than"),
        (("fill", "--from", 1, "--to", 2, "--joint", "gone"), "no such joint network"),
        (("fill", "--from", 1, "--to", 2, "--joint", SPEECH.parent / "network.safetensors"), "no joint network"),
        (("voice", "--text", ""), "empty"),
        (("voice", "--text", "?!"), "no letter or digit"),
        (("voice", "--text", "word " * 9000), "20,000"),
        (("voice", "--text", "word " * 300), "too many for"),
        (("voice", "--text", "Hello.", "--voice-like", "noise.wav"), "noise.wav"),
        (("voice", "--text", "Hello.", "--voice-like", "short.wav"), "short.wav"),
        (("voice", "--text", "Hello.", "--voice-like", "gone.wav"), "gone.wav"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(desk, capfd, monkeypatch, arguments, said):
    monkeypatch.chdir(desk)
    soundfile.write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    soundfile.write("short.wav", soundfile.read(SPEECH)[0][3000:6200], 16000)
    name, *options = arguments
    if "--joint" not in options:
        options += ["--joint", "joint.safetensors"]
    code, err = run(capfd, name, "clip.npz", *options, "-o", "out.npz")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err
    assert not (desk / "out.npz").exists()
