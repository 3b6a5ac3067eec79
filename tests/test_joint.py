"""The joint model of sound and face: its streams, couplings, masks, streaming, training, and what users do with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import SPEECH
from joint_networks import needs_joint, random_network, run
from torch import nn

from kmtalk import InputError
from kmtalk.cli import app
from kmtalk.joint.clock import HOP_SAMPLES, MEL_RATE, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import load_joint_corpus
from kmtalk.joint.couplings import COUPLINGS, CrossAttentionBlock
from kmtalk.joint.flow import sample, sway
from kmtalk.joint.joint_flow import JointFlow, Known, frames_of
from kmtalk.joint.mel import SILENCE, mel_spectrogram
from kmtalk.joint.model import JointNetwork
from kmtalk.joint.motion_stream import channel_names, is_mouth, to_channels, to_weights
from kmtalk.joint.network_file import load_joint_network, save_joint_network
from kmtalk.joint.reading import align_phones
from kmtalk.joint.streaming import JointStream, frames_ahead
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import TOKEN, VOCABULARY, FrameTokens, Span, frame_tokens, spans_of_speech
from kmtalk.joint.vocoder import HifiGan
from kmtalk.synthesis.piper import default_piper_voice

pytestmark = needs_joint

SENTENCE = "Papa, my brave museum moved. Why?"


@pytest.fixture(scope="module")
def speech():
    return default_piper_voice().speak(SENTENCE)


@pytest.fixture(scope="module")
def vocoder():
    return HifiGan()


@pytest.fixture(scope="module")
def flow(light_rig):
    return JointFlow(random_network(light_rig, "joint"))


def evenly(labels: str, frames: int = 9) -> list[Span]:
    """Phones and pauses of equal length."""
    return [Span(label, i * frames, (i + 1) * frames, 0) for i, label in enumerate(labels.split())]


SPANS = evenly("SIL P AA P AH , M AY B R EY V SIL")
FRAMES = SPANS[-1].stop


# --- the streams


def test_a_mel_frame_is_at_the_time_of_its_middle():
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[40 * HOP_SAMPLES + HOP_SAMPLES // 2] = 1.0  # a click in the middle of frame 40
    mel = mel_spectrogram(samples)
    assert mel.shape == (SAMPLE_RATE // HOP_SAMPLES, 80) and mel.dtype == np.float32
    loud = mel.mean(1)
    assert loud.argmax() == 40
    assert loud[39] == pytest.approx(loud[41], abs=0.05)  # symmetric about it
    assert mel[0].max() == pytest.approx(SILENCE, abs=3.0) and mel[0].max() < -6
    for few in (0, 1, 255, 256, 400, 1023):  # shorter than the transform
        assert mel_spectrogram(np.ones(few, np.float32)).shape == (few // HOP_SAMPLES, 80)


def test_the_vocoder_gives_back_the_sound_of_its_training_recipe(speech, vocoder):
    mel = mel_spectrogram(speech.samples)
    sound = vocoder.synthesize(mel)
    assert len(sound) == len(mel) * HOP_SAMPLES
    error = np.abs(mel_spectrogram(sound) - mel).mean()
    assert error < 0.3  # .23; Griffin and Lim's algorithm gives .34
    context = vocoder.context  # nothing beyond it changes a frame
    part = vocoder.synthesize(mel[20:80])[context * HOP_SAMPLES : -context * HOP_SAMPLES]
    assert np.abs(part - sound[(20 + context) * HOP_SAMPLES : (80 - context) * HOP_SAMPLES]).max() < 1e-3


def test_motion_channels_are_the_weights_with_a_signed_head(light_rig):
    rng = np.random.default_rng(0)
    weights = rng.random((7, len(light_rig.shape_names))).astype(np.float32)
    for plus, minus in (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight")):
        weights[:3, light_rig.index[plus]] = 0
        weights[3:, light_rig.index[minus]] = 0
    weights[:, light_rig.index["headRollRight"]] = 0
    channels = to_channels(weights, light_rig.shape_names)
    names = channel_names(light_rig.shape_names)
    assert channels.shape == (7, len(names)) and len(names) == len(light_rig.shape_names) - 3
    assert (channels[:3, names.index("headPitchUp")] < 0).all()
    np.testing.assert_array_equal(to_weights(channels, light_rig.shape_names), weights)
    mouth = {n for n, m in zip(names, is_mouth(names), strict=True) if m}
    assert {"jawOpen", "mouthClose", "tongueTipUp", "mouthPucker"} <= mouth
    assert not {"eyeBlinkLeft", "browInnerUp", "headPitchUp", "noseSneerLeft"} & mouth


def test_tokens_are_the_voice_s_phones_with_stress_and_punctuation(speech):
    spans = spans_of_speech(speech)
    assert [s.start for s in spans] == [0] + [s.stop for s in spans[:-1]]  # no gaps
    assert spans[-1].stop * HOP_SAMPLES == len(speech.samples)
    phones = [s for s in spans if not s.is_pause]
    assert [round(p.start * MEL_RATE) for p in speech.phones] == pytest.approx([s.start for s in phones], abs=1)
    assert {s.label for s in spans if s.is_pause} == {"SIL", ",", ".", "?"}
    assert any(s.stress == 1 for s in phones) and all(s.stress == 0 for s in phones if s.label in ("P", "M", "B", "V"))
    assert [s.label for s in spans] == [s.label for s in phones_of_text(SENTENCE).spans]
    said = phones_of_text("Hello there, Dr. Smith. It is 3 o'clock.")
    assert said.words == ("hello", "there", "doctor", "smith", "it", "is", "three", "o'clock")
    assert [said.words[s.word] for s in said.spans if s.label == "TH"] == ["smith", "three"]
    tokens = frame_tokens(spans, spans[-1].stop + 5)
    assert (tokens.labels[-5:] == 0).all() and (tokens.labels[:-5] > 0).all()
    assert tokens.place[spans[3].start : spans[3].stop, :2].sum(1) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["", "…!?", "*** ---"])
def test_a_text_without_words_is_refused(text):
    with pytest.raises(InputError, match="nothing to speak"):
        phones_of_text(text)


# --- the network


def test_the_block_of_narrating_for_you_has_its_parameters_and_learns():
    block = CrossAttentionBlock()
    assert sum(p.numel() for p in block.parameters()) == 1_575_936  # supplement, table 1
    own, others = torch.randn(1, 6, 512), torch.randn(1, 9, 512)
    seen = torch.zeros(6, 9, dtype=torch.bool)
    torch.testing.assert_close(block(own, others, seen), own)  # the identity at first

    def moved() -> bool:
        target = own + torch.randn(1, 6, 512)
        optimizer = torch.optim.SGD(block.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            ((block(own, others, seen) - target) ** 2).mean().backward()
            optimizer.step()
        return not torch.equal(block(own, others, seen), own)

    assert moved()
    for p in block.parameters():  # as they were released
        nn.init.zeros_(p)
    assert not moved()


def encoded(network: JointNetwork, spans=SPANS, frames=FRAMES):
    return JointFlow(network).conditions(frames, Known(spans), None, None)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_stream_sees_the_other_where_it_is_coupled_and_not_switched_off(light_rig, coupling):
    network = random_network(light_rig, coupling)
    given = encoded(network)
    off = torch.zeros(1, dtype=torch.bool)

    def velocities(mel_seed, motion_seed, **switches):
        mel = torch.randn(given.mel.shape, generator=torch.Generator().manual_seed(mel_seed))
        motion = torch.randn(given.motion.shape, generator=torch.Generator().manual_seed(motion_seed))
        with torch.inference_mode():
            conditions = replace(given, **switches)
            return network(mel, motion, torch.tensor([0.3]), network.encode(conditions), conditions)

    mel, motion = velocities(1, 2)
    coupled = coupling != "none"
    assert torch.equal(velocities(1, 3)[0], mel) != coupled
    assert torch.equal(velocities(4, 2)[1], motion) != coupled
    assert torch.equal(velocities(1, 3, sound_sees_motion=off)[0], velocities(1, 2, sound_sees_motion=off)[0])
    assert torch.equal(velocities(4, 2, motion_sees_sound=off)[1], velocities(1, 2, motion_sees_sound=off)[1])


@pytest.mark.parametrize("coupling", ["joint", "highway"])
def test_attention_is_local_in_time(light_rig, coupling):
    """JAM-Flow's local mask of the other stream, and AV-Flow's band."""
    network = random_network(light_rig, coupling)
    given = encoded(network)
    times = (torch.arange(FRAMES) + 0.5) / MEL_RATE
    if network.config.is_causal:
        seen = network.causal_band(times, times)
        ahead = (torch.arange(FRAMES)[None] - torch.arange(FRAMES)[:, None])[seen]
        assert ahead.max() == 2 and ahead.min() == -10  # AV-Flow: 10 frames back, 2 ahead
    else:
        cross = network._cross_mask(times, times, given.valid)[0, 0]
        assert (times[None] - times[:, None])[cross].abs().max() <= network.config.coupling_seconds


def test_known_frames_come_back_bit_for_bit_in_every_task(light_rig):
    rng = np.random.default_rng(0)
    mel = (rng.standard_normal((FRAMES, 80)) * 2 - 5).astype(np.float32)
    weights = rng.random((FRAMES // 3, len(light_rig.shape_names))).astype(np.float32)
    for plus, minus in (
        ("headPitchUp", "headPitchDown"),
        ("headYawLeft", "headYawRight"),
        ("headRollLeft", "headRollRight"),
    ):
        weights[:, light_rig.index[plus]] *= rng.random(len(weights)) > 0.5
        weights[:, light_rig.index[minus]] *= weights[:, light_rig.index[plus]] == 0
    channels = channel_names(light_rig.shape_names)
    half = np.arange(FRAMES) < FRAMES // 2
    keys = np.zeros((FRAMES // 3, len(channels)), bool)
    keys[::4] = True
    tasks = {
        "text to both": Known(SPANS),
        "sound to motion": Known(mel=mel),
        "motion to sound": Known(SPANS, weights=weights),
        "span of both": Known(SPANS, mel, half, weights, np.repeat(half[1::3, None], len(channels), 1)),
        "keys to motion": Known(SPANS, mel, None, weights, keys),
        "mouth alone": Known(SPANS, mel, None, weights, np.repeat(~is_mouth(channels)[None], FRAMES // 3, 0)),
    }
    for coupling in COUPLINGS:
        flow = JointFlow(random_network(light_rig, coupling))
        for task, known in tasks.items():
            made = flow.sample(FRAMES, known, steps=2, style="calm")
            assert made.mel.shape == mel.shape and made.weights.shape == weights.shape, task
            assert np.isfinite(made.mel).all() and made.weights.min() >= 0 and made.weights.max() <= 1
            known_mel = np.zeros(FRAMES, bool) if known.mel is None else known.mel_known
            known_mel = np.ones(FRAMES, bool) if known_mel is None else known_mel
            np.testing.assert_array_equal(made.mel[known_mel], mel[known_mel])
            assert known_mel.all() or not np.allclose(made.mel[~known_mel], mel[~known_mel])
            if known.weights is not None:
                mask = np.ones_like(keys) if known.motion_known is None else known.motion_known
                for i, name in enumerate(channels):
                    column = light_rig.index[name]
                    np.testing.assert_array_equal(made.weights[mask[:, i], column], weights[mask[:, i], column])


def test_samples_depend_on_the_seed_the_style_and_the_voice_alone(flow):
    def made(**options):
        return flow.sample(FRAMES, Known(SPANS), steps=2, **options)

    first = made(seed=1)
    np.testing.assert_array_equal(made(seed=1).mel, first.mel)
    for options in ({"seed": 2}, {"seed": 1, "style": "calm"}, {"seed": 1, "voice": np.full(256, 0.06)}):
        assert not np.array_equal(made(**options).mel, first.mel)
    assert (
        np.abs(made(seed=1, draws=4).weights - made(seed=2, draws=4).weights).mean()
        < np.abs(first.weights - made(seed=2).weights).mean()
    )
    guided = made(seed=1, guidance=(1.0, 0.0))
    assert not np.array_equal(guided.mel, first.mel)
    assert not np.array_equal(made(seed=1, guidance=(0.0, 1.0)).weights, first.weights)
    with pytest.raises(InputError, match="no such style"):
        made(style="angry")
    with pytest.raises(InputError, match="256 values"):
        made(voice=np.zeros(3))
    with pytest.raises(InputError, match="multiple of 3"):
        flow.sample(4, Known())


def test_long_clips_are_sampled_in_windows_that_continue_each_other(flow):
    labels = " ".join(["SIL"] + ["P AA M AY B R EY V"] * 34)
    spans = evenly(labels)
    frames = -(-spans[-1].stop // 3) * 3
    made = flow.sample(frames, Known(spans), steps=2)
    assert made.mel.shape[0] == frames > 1536
    assert np.isfinite(made.mel).all()


def test_euler_steps_lie_denser_at_the_noise():
    times = sway(16).numpy()
    assert times[0] == 0 and times[-1] == pytest.approx(1) and (np.diff(times) > 0).all()
    assert (np.diff(times, 2) > 0).all()


# --- streaming


def test_streamed_is_the_whole(light_rig):
    network = random_network(light_rig, "highway")
    tokens = frame_tokens(SPANS, FRAMES)
    stream = JointStream(network, steps=3)
    parts = []
    for start in range(0, FRAMES, 7):
        piece = slice(start, start + 7)
        parts.append(stream.feed(FrameTokens(tokens.labels[piece], tokens.stress[piece], tokens.place[piece])))
        have = sum(len(mel) for mel, _ in parts)
        assert have == max(0, min(start + 7, FRAMES) - frames_ahead(network)) // 3 * 3  # the promised look-ahead
    parts.append(stream.finish())
    mel, motion = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    whole, whole_motion = sample(network, encoded(network), steps=3, noise=stream.noise)
    assert mel.shape == (FRAMES, 80)
    assert np.abs(network.restore_mel(whole)[0].numpy() - mel).max() < 1e-3
    assert np.abs(network.restore_motion(whole_motion)[0].numpy() - motion).max() < 1e-3
    with pytest.raises(InputError, match="only a network with coupling highway"):
        JointStream(random_network(light_rig, "joint"))


# --- phones of a text in a moving mouth


def test_phones_are_found_where_they_are():
    truth = [Span(s.label, s.start, s.stop + 0, 0) for s in evenly("SIL P AA P AH , M AY B SIL", 12)]
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 0.7, (truth[-1].stop // 3, len(VOCABULARY)))
    for span in truth:
        scores[span.start // 3 : span.stop // 3, TOKEN[span.label]] += 3
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    expected = [Span(s.label, i * 9, i * 9 + 9, 0) for i, s in enumerate(truth)]
    found = align_phones(scores, expected)
    assert [s.label for s in found] == [s.label for s in truth]
    assert found[0].start == 0 and found[-1].stop == truth[-1].stop
    assert np.abs([f.start - t.start for f, t in zip(found, truth, strict=True)]).max() <= 3
    with pytest.raises(InputError, match="too many for 5 frames"):
        align_phones(scores[:5], expected)


# --- files


def test_a_network_is_read_as_it_was_written(tmp_path, light_rig):
    for coupling in COUPLINGS:
        network = random_network(light_rig, coupling)
        path = tmp_path / f"{coupling}.safetensors"
        save_joint_network(network, path, {"steps": 3})
        again = load_joint_network(path)
        assert again.config == network.config
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], tensor.half().float(), rtol=0, atol=0)


def test_damaged_and_foreign_weights_are_refused(tmp_path, light_rig):
    path = tmp_path / "joint.safetensors"
    with pytest.raises(InputError, match="no such joint network"):
        load_joint_network(path)
    save_joint_network(random_network(light_rig, "joint"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a joint network"):
        load_joint_network(path)
    for old, new in ((b'"d_model": 32', b'"d_model": 64'), (b'"joint"', b'"joins"'), (b"headYawLeft", b"headYawLoft")):
        assert old in whole.replace(b'\\"', b'"')
        path.write_bytes(whole.replace(old.replace(b'"', b'\\"'), new.replace(b'"', b'\\"')))
        with pytest.raises(InputError, match=r"joint\.safetensors"):
            load_joint_network(path)
    with pytest.raises(InputError, match="no joint network"):
        load_joint_network(SPEECH.parent / "network.safetensors")


# --- corpus and training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / "corpus"
    assert app(["corpus", "build", "joint", "-o", str(folder), "--hours", "0.012"], standalone_mode=False) == 0
    return folder


@pytest.mark.slow
def test_the_corpus_has_sound_phones_and_motion_on_one_clock(corpus, light_rig):
    clips = load_joint_corpus(corpus, light_rig.shape_names)
    assert len(clips) >= 8 and {c.voice for c in clips} > {"piper-joe"}
    assert {c.source for c in clips} == {"simulated, network", "simulated, rules"}
    for clip in clips:
        samples = clip.load_samples()
        assert len(samples) == len(clip.weights) * 3 * HOP_SAMPLES
        assert clip.weights.shape[1] == len(light_rig.shape_names) and clip.weights.any()
        assert clip.spans[0].start == 0 and abs(clip.spans[-1].stop * HOP_SAMPLES - len(samples)) <= 3 * HOP_SAMPLES
        assert clip.text
    # the lips are shut where p, b and m are heard
    jaw_and_close = [light_rig.index[n] for n in ("jawOpen", "mouthClose")]
    closed = []
    for clip in clips:
        for span in clip.spans:
            middle = int((span.start + span.stop) / 2 / 3)
            if span.label in ("P", "B", "M") and middle < len(clip.weights):
                jaw, close = clip.weights[middle, jaw_and_close]
                closed.append(close > 0.6 * jaw)
    assert np.mean(closed) > 0.9


@pytest.mark.slow
def test_a_run_learns_resumes_and_continues(corpus, tmp_path, light_rig, capfd):
    def config(name, **options):
        path = tmp_path / f"{name}.yaml"
        facts = {
            "corpus": str(corpus), "coupling": "joint", "d_model": 32, "num_layers": 2, "num_heads": 2, "batch_size": 4,
            "crop_frames": 96, "steps": 24, "decay_steps": 4, "eval_every": 12, "learning_rate": 3e-3,
        }  # fmt: skip
        path.write_text(yaml.safe_dump(facts | options))
        return path

    def train(name, output, **options):
        code, said = run(capfd, "train", config(name, **options), "-o", tmp_path / output)
        assert code == 0, said
        return (tmp_path / output / "network.safetensors").read_bytes(), said

    whole, said = train("whole", "whole")
    assert "mostly simulated" in said
    train("half", "parts", steps=12, decay_steps=0)
    network = load_joint_network(tmp_path / "parts" / "network.safetensors")
    continued, said = train("whole", "parts")  # of the same run with more steps
    assert "resuming at step 12" in said and len(continued) == len(whole)
    assert network.config.styles and set(network.config.shape_names) == set(light_rig.shape_names)
    code, said = run(capfd, "train", config("other", seed=5), "-o", tmp_path / "parts")
    assert code == 2 and "another config" in said

    begin = "whole/network.safetensors"  # one small step away from there
    few = {"steps": 1, "decay_steps": 0, "learning_rate": 1e-9, "initial_weights": begin}
    shares = {"span": 0, "sound_to_motion": 0, "motion_to_sound": 1, "keys_to_motion": 0}
    _, said = train("tuned", "tuned", task_shares=shares, **few)
    assert "motion 0.000" in said  # all motion is known, so that there is none to learn
    tuned, began = (load_joint_network(tmp_path / n / "network.safetensors").state_dict() for n in ("tuned", "whole"))
    assert all(torch.allclose(tuned[n], began[n], atol=1e-6) for n in began)
    code, said = run(capfd, "train", config("wider", initial_weights=begin, d_model=64), "-o", tmp_path / "wider")
    assert code == 2 and "d_model 32, not 64" in said


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"coupling": "joint"}, "kmtalk corpus build joint"),
        ({"coupling": "glue"}, "coupling"),
        ({"coupling": "joint", "crop_frames": 100}, "multiple of 3"),
        ({"coupling": "joint", "steps": 3}, "decay_steps"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, capfd, facts, said):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"corpus": "nowhere"} | facts))
    code, err = run(capfd, "train", path, "-o", tmp_path / "run")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_speakers_of_grid_are_for_the_joint_corpus(tmp_path, capfd):
    code, err = run(capfd, "corpus", "build", "joint", "-o", tmp_path / "c", "--grid", "s1")
    assert code == 2 and "s1=FOLDER" in err
    code, err = run(capfd, "corpus", "build", "simulated", "-o", tmp_path / "c", "--grid", "s1=x")
    assert code == 2 and "--grid is for the joint corpus" in err


def test_frames_cover_the_clip():
    assert frames_of(0.001) == 3
    for seconds in (0.5, 1.0, 2.37):
        assert frames_of(seconds) % 3 == 0 and frames_of(seconds) / MEL_RATE >= seconds - 0.5 / MEL_RATE
    assert pytest.approx(MOTION_RATE * 3) == MEL_RATE
