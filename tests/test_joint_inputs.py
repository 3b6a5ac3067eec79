"""What the joint model is given of sounds, texts and animations, and how its samples come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import beginning
from joint_networks import needs_joint, random_network

from kmtalk import InputError
from kmtalk.animation import Animation, load_animation
from kmtalk.face.motion import Motion, frame_count
from kmtalk.face.rig import MOUTH_SEAL, Rig
from kmtalk.joint import joint_flow, vocoder
from kmtalk.joint.clock import MEL_RATE, MOTION_RATE
from kmtalk.joint.joint_flow import SENTENCE_PAUSE, JointFlow, Known, frames_of
from kmtalk.joint.reading import align_phones
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import TOKEN, VOCABULARY, Span, frame_tokens, spans_of_alignment
from kmtalk.joint.vocoder import HifiGan, VocoderStream
from kmtalk.joint_conversion import finish_mouth, heard_mel, level_gain, motion_at_model_rate
from kmtalk.joint_tasks import fill_span, voice_for_face
from kmtalk.keys import KeyMotions, locate_key_frames
from kmtalk.settings import Provenance, SoundSettings
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import audio_from_samples

pytestmark = needs_joint


@pytest.fixture(scope="module")
def flow(light_rig):
    return JointFlow(random_network(light_rig, "joint"))


@pytest.fixture(scope="module")
def clip(spoken, light_rig):
    """2.4 s of the demo on the light head."""
    audio, alignment = beginning(spoken, 2.4)
    count = frame_count(audio.duration, 30.0)
    motion = Motion(light_rig, spoken.weights[:count].astype(np.float32), 30.0)
    return Animation(motion, alignment, KeyMotions(locate_key_frames(alignment, count, 30.0), motion), audio)


def test_lids_and_head_go_on_in_a_pause(flow, light_rig):
    """The mouth is held in pauses; a blink and a turn of the head are not."""
    alignment = Alignment((Phone("AA", 0.0, 0.5), Phone("AA", 2.1, 2.6)), status="given")
    weights = np.zeros((78, len(light_rig.shape_names)))
    blink, yaw, jaw = (light_rig.index[n] for n in ("eyeBlinkLeft", "headYawLeft", "jawOpen"))
    weights[36:40, blink] = [0.5, 1, 1, 0.5]
    weights[:, yaw] = 0.3 + 0.2 * np.sin(np.arange(78) / 9)
    weights[:, jaw] = 0.3 + 0.2 * np.sin(np.arange(78) / 2)
    made = finish_mouth(weights, flow, light_rig, alignment, 30.0)
    np.testing.assert_array_equal(made[:, [blink, yaw]], weights[:, [blink, yaw]])
    assert np.ptp(made[25:55, jaw]) < 0.02 < np.ptp(weights[25:55, jaw])


def test_sentences_have_a_pause_between_them(flow):
    def dots(text):
        spans = flow.durations(phones_of_text(text).spans)
        return [(s.stop - s.start) / MEL_RATE for s in spans if s.label == "."]

    between, last = dots("Hello. Hello.")
    assert between > SENTENCE_PAUSE - 0.02 and last < between - 0.1
    assert len(dots("Hello.")) == 1


def test_one_channel_is_heard_where_one_is_chosen(spoken):
    voice = spoken.audio.samples[:32_000]
    two = np.stack([voice, np.roll(voice, 9000)], 1)
    left, right, mixed = (heard_mel(audio_from_samples(two, 16_000, channel=c), 171) for c in ("left", "right", "mix"))
    alone = heard_mel(audio_from_samples(voice, 16_000), 171)
    np.testing.assert_array_equal(left, alone)
    assert np.abs(left - right).mean() > 0.5 and np.abs(left - mixed).mean() > 0.1
    opposite = heard_mel(audio_from_samples(np.stack([voice, -voice], 1), 16_000), 171)
    assert np.abs(opposite - alone).mean() < 0.1
    quiet = heard_mel(audio_from_samples(voice * 0.01, 16_000), 171)
    assert np.abs(quiet - alone)[alone > -7].mean() < 0.6
    assert level_gain(voice * 0.01) > 5 and level_gain(np.zeros(16_000, np.float32)) == 1.0


def test_speech_without_phones_is_no_pause():
    assert spans_of_alignment(Alignment(), 2.0) == []
    phones = (Phone("AA", 0.0, 0.4), Phone("B", 2.6, 2.8))
    spans = spans_of_alignment(Alignment(phones, unaligned=((0.5, 2.5),)), 3.0)
    labels = frame_tokens(spans, frames_of(3.0)).labels
    at = [round(seconds * MEL_RATE) for seconds in (0.2, 1.5, 2.7, 2.95)]
    assert labels[at].tolist() == [TOKEN["AA"], 0, TOKEN["B"], TOKEN["SIL"]]
    silent = frame_tokens(spans_of_alignment(Alignment(phones), 3.0), frames_of(3.0)).labels
    assert silent[round(1.5 * MEL_RATE)] == TOKEN["SIL"]


@pytest.mark.parametrize("duration", [0.01, 1.0, 1.1179375, 2.0, 3.999, 61.003])
def test_frames_cover_the_whole_clip(duration):
    assert duration <= frames_of(duration) / MEL_RATE < duration + 3.1 / MEL_RATE


def test_only_what_is_unknown_and_what_it_depends_on_is_sampled(flow, light_rig, monkeypatch):
    frames, shapes = 900, len(light_rig.shape_names)
    rng = np.random.default_rng(0)
    mel, weights = rng.normal(-5, 1, (frames, 80)), rng.uniform(0, 0.5, (frames // 3, shapes)).astype(np.float32)
    known = np.ones((frames // 3, len(flow.network.config.channels)), bool)
    known[140:150] = False
    monkeypatch.setattr(joint_flow, "CONTEXT_FRAMES", 90)
    sizes = []
    original = joint_flow.sample
    monkeypatch.setattr(
        joint_flow, "sample", lambda n, part, **o: sizes.append(part.mel.shape[1]) or original(n, part, **o)
    )
    made = flow.sample(frames, Known((), mel, None, weights, known), steps=2)
    assert sizes == [30 + 2 * 90]
    changed = (made.weights != weights).any(1)
    assert changed[140:150].any() and not changed[:140].any() and not changed[150:].any()
    everything = Known((), mel, None, weights, np.ones_like(known))
    np.testing.assert_array_equal(flow.sample(frames, everything, steps=2).weights, weights)


def test_windows_see_what_comes_after_them(flow, monkeypatch):
    """Frames at the end of a window are sampled again in the next one."""
    monkeypatch.setattr(joint_flow, "WINDOW_FRAMES", 120)
    monkeypatch.setattr(joint_flow, "OVERLAP_FRAMES", 60)
    spans = [Span(label, i * 10, i * 10 + 10, 0) for i, label in enumerate(["AA", "B"] * 10)]
    windowed = flow.sample(198, Known(spans), steps=2).mel
    other = [*spans[:14], replace(spans[14], label="S", start=140), *spans[15:]]
    changed = np.abs(flow.sample(198, Known(other), steps=2).mel - windowed).max(1) > 1e-4
    assert changed[91:120].any()  # of the first window, whose 30 last frames are those of the second
    assert not changed[:60].any()


def test_the_vocoder_is_the_same_in_parts(spoken, monkeypatch):
    made, mel = HifiGan(), heard_mel(spoken.audio, 180)
    whole = made.synthesize(mel)
    monkeypatch.setattr(vocoder, "CHUNK_FRAMES", 50)
    parts = made.synthesize(mel)
    assert parts.shape == whole.shape and np.abs(parts - whole).max() < 1e-3
    assert made.synthesize(mel[:0]).shape == (0,)


@pytest.mark.parametrize("size", [1, 12, 50])
def test_a_streamed_voice_is_the_whole(spoken, size):
    made, mel = HifiGan(), heard_mel(spoken.audio, 96)
    stream, parts = VocoderStream(made), []
    for start in range(0, len(mel), size):
        parts.append(stream.feed(mel[start : start + size]))
        have = sum(map(len, parts)) // 256
        assert have == max(0, min(start + size, len(mel)) - made.context)  # the promised look-ahead
    parts.append(stream.finish())
    streamed, whole = np.concatenate(parts), made.synthesize(mel)
    assert streamed.shape == whole.shape and np.abs(streamed - whole).max() < 1e-3
    assert not len(VocoderStream(made).finish())


def test_a_causal_mask_is_that_of_the_beginning_after_minutes(light_rig):
    network = random_network(light_rig, "highway")
    for rate in (MEL_RATE, MOTION_RATE):
        early, late = (
            network.causal_band(*[(torch.arange(60) + first + 0.5) / rate] * 2) for first in (0, 3 * round(100 * rate))
        )
        assert torch.equal(early, late)


def test_a_pause_that_the_text_does_not_have_is_found():
    words = [Span("AA", 0, 9, 0, 0), Span("B", 9, 18, 0, 0), Span("AA", 18, 27, 0, 1), Span("S", 27, 36, 0, 1)]
    truth = ["AA"] * 4 + ["B"] * 3 + ["SIL"] * 20 + ["AA"] * 4 + ["S"] * 3
    scores = np.full((len(truth), len(VOCABULARY)), -6.0)
    scores[np.arange(len(truth)), [TOKEN[label] for label in truth]] = -0.1
    found = align_phones(scores, words)
    assert [s.label for s in found] == ["AA", "B", "SIL", "AA", "S"]
    assert [s.start // 3 for s in found] == [0, 4, 7, 27, 31] and found[-1].stop == 3 * len(truth)
    spoken = scores[[label != "SIL" for label in truth]]
    assert [s.label for s in align_phones(spoken, words)] == ["AA", "B", "AA", "S"]


def test_a_mesh_with_a_mouth_of_its_own_keeps_its_seal_and_gain(clip, flow, light_rig):
    """A mesh that is open at rest has `mouthSeal` in every frame, and another size of its mouth's shapes."""
    names = (*light_rig.shape_names, MOUTH_SEAL)
    offsets = np.concatenate([light_rig.offsets, light_rig.offsets[:1] * 0.1])
    rig = Rig(light_rig.template, names, offsets, mouth_gain=0.5)
    motion = Motion(rig, rig.retarget(clip.weights, light_rig.shape_names), 30.0)
    on_mesh = replace(
        clip, motion=motion, keys=KeyMotions(locate_key_frames(clip.alignment, len(motion), 30.0), motion)
    )
    frames = frames_of(clip.audio.duration)
    np.testing.assert_allclose(
        motion_at_model_rate(on_mesh, flow, frames), motion_at_model_rate(clip, flow, frames), atol=1e-5
    )
    made, plain = (fill_span(a, flow, None, 1.0, 1.6, "face") for a in (on_mesh, clip))
    assert (made.weights[:, rig.index[MOUTH_SEAL]] == 1).all()
    jaw = light_rig.index["jawOpen"]
    np.testing.assert_allclose(made.weights[35:44, jaw], 0.5 * plain.weights[35:44, jaw], atol=0.05)


def test_a_filled_span_joins_the_frames_around_it(clip, flow):
    made = fill_span(clip, flow, None, 1.0, 1.6, "face")
    before = np.abs(np.diff(clip.weights, axis=0)).max()
    assert np.abs(made.weights[30] - clip.weights[29]).max() < max(before, 0.3)


def test_a_voice_has_no_trace_of_the_old_sound(clip, flow, tmp_path, light_rig):
    two = audio_from_samples(
        np.stack([clip.audio.original[:, 0]] * 2, 1), clip.audio.original_rate, "interview.wav", channel="left"
    )
    given = replace(clip, audio=two, provenance=Provenance(sound=SoundSettings(channel="left")))
    made = voice_for_face(given, flow, HifiGan(), "[happy] Thank you for calling.")
    said = phones_of_text("Thank you for calling.").spans
    assert [p.label for p in made.alignment.phones] == [s.label for s in said if not s.is_pause]
    made.save(tmp_path / "voiced.npz")
    again = load_animation(tmp_path / "voiced.npz")
    assert again.audio.channel == "mix" and again.provenance.role == "joint"
    assert len(again.motion) == frame_count(again.audio.duration, 30.0)
    # cut to an odd length, it still fits its frames
    short = audio_from_samples(clip.audio.samples[:17_887], 16_000)
    count = frame_count(short.duration, 30.0)
    motion = Motion(light_rig, clip.weights[:count], 30.0)
    odd = replace(
        clip, audio=short, motion=motion, keys=KeyMotions(locate_key_frames(clip.alignment, count, 30.0), motion)
    )
    spoken_again = voice_for_face(odd, flow, HifiGan(), "Thank you.")
    assert frame_count(spoken_again.audio.duration, 30.0) == count


def test_a_span_of_one_channel_is_filled_on_that_channel(clip, flow):
    noise = np.random.default_rng(0).normal(0, 0.05, len(clip.audio.original))
    two = audio_from_samples(
        np.stack([clip.audio.original[:, 0], noise], 1), clip.audio.original_rate, "two.wav", channel="left"
    )
    made = fill_span(replace(clip, audio=two), flow, HifiGan(), 1.0, 1.6, "sound")
    np.testing.assert_array_equal(made.audio.original[:, 1], two.original[:, 1])
    assert not np.array_equal(made.audio.original[:, 0], two.original[:, 0]) and made.audio.channel == "left"


def test_a_network_of_one_layer_is_not_coupled_and_refused(tmp_path):
    from kmtalk.joint.training import JointTrainingConfig, load_joint_config

    (tmp_path / "c.yaml").write_text("corpus: x\ncoupling: joint\nnum_layers: 1\n")
    with pytest.raises(InputError, match="two layers"):
        load_joint_config(tmp_path / "c.yaml")
    assert JointTrainingConfig(corpus="x", coupling="highway", num_layers=1, steps=9, decay_steps=1).num_layers == 1


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("{keys_to_motion: 0.8, span: 0.3}", "exceed 1 together"),
        ("{text_dropout: -0.1}", "task_shares: shares must be from 0 to 1"),
        ("{keys: 0.5}", "task_shares.keys: Unexpected keyword"),
        ("half", "task_shares: Input should be a dictionary"),
    ],
)
def test_shares_of_the_tasks_that_cannot_be_are_refused(tmp_path, shares, said):
    from kmtalk.joint.training import load_joint_config

    (tmp_path / "c.yaml").write_text(f"corpus: x\ncoupling: joint\ntask_shares: {shares}\n")
    with pytest.raises(InputError, match=said):
        load_joint_config(tmp_path / "c.yaml")
