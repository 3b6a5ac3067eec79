"""Training of the streaming network on a tiny joint corpus."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import ROOT, SPEECH
from joint_networks import needs_joint, run
from safetensors.torch import load_file

from kmtalk import InputError, KMTalk
from kmtalk.cli import app
from kmtalk.joint.corpus import load_joint_corpus
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.motion.losses import RigSurfaceMetric
from kmtalk.progress import Progress
from kmtalk.streaming.log_mel import BANDS, LogMelStream
from kmtalk.streaming.model import CONTACTS, MEL_PER_TOKEN, StreamingConfig, StreamingNetwork
from kmtalk.streaming.network_file import load_streaming_network, save_streaming_network
from kmtalk.streaming.training import StreamingModule
from kmtalk.streaming.training_data import CACHE_NAME, StreamingSampler, prepare_streaming_examples
from kmtalk.weights import load_whisper_encoder

TINY = {
    "look_ahead": [1, 0], "look_back": 8, "d_model": 32, "num_heads": 2, "kernel": 3, "batch_size": 4,
    "crop_tokens": 48, "steps": 24, "decay_steps": 4, "eval_every": 12, "learning_rate": 3e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming") / "corpus"
    assert app(["corpus", "build", "joint", "-o", str(folder), "--hours", "0.012"], standalone_mode=False) == 0
    return folder


@pytest.fixture(scope="module")
def examples(corpus, light_rig):
    clips = load_joint_corpus(corpus, light_rig.shape_names)
    columns = np.flatnonzero(is_mouth(light_rig.shape_names))
    return prepare_streaming_examples(corpus, clips, columns, Progress())


def config(folder, corpus, name="c", **options):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"corpus": str(corpus)} | TINY | options))
    return path


@needs_joint
@pytest.mark.slow
def test_a_run_resumes_continues_and_moves_a_face(corpus, tmp_path, capfd):
    def train(name, output, **options):
        code, said = run(capfd, "train", config(tmp_path, corpus, name, **options), "-o", tmp_path / output)
        assert code == 0, said
        return load_streaming_network(tmp_path / output / "network.safetensors"), said

    whole, said = train("whole", "whole")
    assert "look-ahead of 20 ms" in said and "mostly simulated" in said and "opening r" in said
    train("half", "parts", steps=12, decay_steps=0)
    parts, said = train("whole", "parts")  # of the same run with more steps
    assert "resuming at step 12" in said and parts.config == whole.config
    assert whole.config.look_ahead == (1, 0) and "jawOpen" in whole.config.shape_names
    assert not any(n.startswith(("brow", "head", "eye")) for n in whole.config.shape_names)
    code, said = run(capfd, "train", config(tmp_path, corpus, "other", seed=5), "-o", tmp_path / "parts")
    assert code == 2 and "another config" in said

    stream = KMTalk(streaming=tmp_path / "parts" / "network.safetensors").stream(16_000, style=whole.config.styles[0])
    samples, _ = soundfile.read(SPEECH, frames=32_000)
    weights = np.array([p.weights for p in stream.feed(samples) + stream.finish()])
    assert weights.shape[0] == 120 and np.isfinite(weights).all() and weights.std(0).max() > 0
    assert stream.delay < 0.08  # that of its own look-ahead


@needs_joint
@pytest.mark.slow
def test_a_network_learns_what_whisper_hears(corpus, tmp_path, capfd):
    facts = {"encoder": "whisper-base-2", "encoder_look_ahead": [1, 1]}
    code, said = run(capfd, "train", config(tmp_path, corpus, **facts), "-o", tmp_path / "run")
    assert code == 0 and "look-ahead of 70 ms" in said, said
    network = load_streaming_network(tmp_path / "run" / "network.safetensors")
    assert network.encoder.dimension == 512
    published = load_whisper_encoder("base").blocks[1].mlp[0].weight
    assert torch.equal(network.encoder.blocks[1].mlp[0].weight, published)


@needs_joint
@pytest.mark.slow
def test_losses_fall(corpus, tmp_path, capfd):
    def error(steps):
        options = {"steps": steps, "decay_steps": 0, "eval_every": steps}
        code, said = run(
            capfd, "train", config(tmp_path, corpus, str(steps), **options), "-o", tmp_path / f"run{steps}"
        )
        assert code == 0, said
        score = said.split("opening RMSE mm ")[1].split()[0]
        return float(score)

    assert error(200) < 0.9 * error(1)


@needs_joint
@pytest.mark.slow
def test_examples_are_sound_and_motion_of_the_same_moment(corpus, examples, light_rig):
    """The network's input in training is what the stream gives, and contacts are where the lips are closed."""
    clips = load_joint_corpus(corpus, light_rig.shape_names)
    columns = np.flatnonzero(is_mouth(light_rig.shape_names))
    jaw, close = (list(columns).index(light_rig.index[n]) for n in ("jawOpen", "mouthClose"))
    closed = []
    for clip, example in zip(clips, examples, strict=True):
        count = len(example.motion)
        assert len(example.bands) == count * MEL_PER_TOKEN and example.bands.shape[1] == BANDS
        assert example.contacts.shape == (count, len(CONTACTS)) and len(example.labels) == count
        assert abs(count * 0.02 - len(clip.load_samples()) / 22_050) < 0.1
        found = example.contacts[:, 0] > 0.95
        closed += list(example.motion[found, close] > 0.6 * example.motion[found, jaw])
        quiet = example.contacts[:, CONTACTS.index("pause")] > 0.5
        loudness = example.bands.astype(np.float32).reshape(count, -1).mean(1)
        if quiet.any() and not quiet.all():
            assert loudness[quiet].mean() < loudness[~quiet].mean() - 6
    assert np.mean(closed) > 0.9 and len(closed) > 20
    again = prepare_streaming_examples(corpus, clips, columns, Progress())  # of the cache
    np.testing.assert_array_equal(again[0].bands, examples[0].bands)


@needs_joint
@pytest.mark.slow
def test_crops_are_varied_and_padded(examples):
    styles = sorted({e.style for e in examples})
    sampler = StreamingSampler(examples, styles, 400)
    batch, again = (sampler.sample(64, np.random.default_rng(0)) for _ in range(2))
    assert torch.equal(batch.mel, again.mel) and batch.mel.shape == (64, 800, BANDS)
    assert torch.isfinite(batch.mel).all() and batch.mel.abs().max() <= 3
    assert torch.equal(batch.style.sum(1), torch.ones(64)) and batch.style.shape[1] == len(styles)
    assert not batch.valid.all() and not batch.motion[~batch.valid].any()
    silent = ~(batch.labels > 0).any(1)
    assert 0 < silent.sum() < 20  # crops in which nobody speaks, and in which the mouth rests
    assert not batch.motion[silent].any() and batch.motion[~silent].any()
    plain = StreamingSampler(examples, styles, 400, augment=False).sample(64, np.random.default_rng(0))
    assert (plain.labels > 0).any(1).all() and not torch.equal(plain.mel, batch.mel)
    tracked = [replace(e, tracked=i == 0) for i, e in enumerate(examples)]
    first = examples[0].motion[: len(examples[0].motion)]
    drawn = StreamingSampler(tracked, styles, 20, tracked_share=1.0, augment=False).sample(8, np.random.default_rng(0))
    length = min(20, len(first))
    rows = np.lib.stride_tricks.sliding_window_view(first, length, 0).transpose(0, 2, 1)
    assert all((rows == m[:length].numpy()).all((1, 2)).any() for m in drawn.motion)


def test_a_batch_in_which_nobody_speaks_has_finite_losses(light_rig):
    names = ("jawOpen", "mouthClose")
    network = StreamingNetwork(StreamingConfig(names, ("a",), (1,), d_model=32, num_heads=2))
    module = StreamingModule(network, RigSurfaceMetric(light_rig, names))
    sampler_batch = StreamingSampler([silent_example(names)], ["a"], 20).sample(2, np.random.default_rng(0))
    losses = module(sampler_batch)
    assert float(losses["phones"].detach()) == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def silent_example(names):
    from kmtalk.streaming.training_data import StreamingExample

    count = 30
    return StreamingExample(
        "s", np.full((2 * count, BANDS), -80, np.float16), -20.0, np.zeros((count, len(names)), np.float32),
        np.zeros((count, len(CONTACTS)), np.float32), np.zeros(count, np.int64), "a", "v", False, False,
    )  # fmt: skip


def test_the_spectrum_of_a_stream_is_that_of_the_whole_sound():
    """In blocks as at once; a click is in the frames around it, and a louder voice looks the same after a moment."""
    rng = np.random.default_rng(0)
    sound = rng.normal(size=16_000).astype(np.float32) * np.linspace(0, 0.3, 16_000, dtype=np.float32)
    whole, level, _ = LogMelStream().feed(sound)
    stream, parts = LogMelStream(), []
    for start in range(0, 16_000, 77):
        parts.append(stream.feed(sound[start : start + 77])[0])
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    assert len(whole) == len(level) == 99  # the last window lacks 7.5 ms
    click = np.zeros(16_000, np.float32)
    click[40 * 160 + 80] = 1
    assert LogMelStream().feed(click)[1].argmax() == 40


@needs_joint
@pytest.mark.slow
def test_a_damaged_foreign_or_old_cache_is_not_used(corpus, examples, light_rig, tmp_path, capfd):
    cache = corpus / CACHE_NAME
    whole = cache.read_bytes()
    try:
        for wrong in (whole[: len(whole) // 2], b"none"):
            cache.write_bytes(wrong)
            code, said = run(capfd, "train", config(tmp_path, corpus), "-o", tmp_path / "run")
            assert code == 2 and CACHE_NAME in said and len(said.strip().splitlines()) == 1, said
        np.savez(cache, other=np.zeros(3))
        code, said = run(capfd, "train", config(tmp_path, corpus), "-o", tmp_path / "run")
        assert code == 2 and "another corpus" in said, said
        os.utime(corpus / "joint.json")  # as of a corpus that was built again
        clips = load_joint_corpus(corpus, light_rig.shape_names)
        again = prepare_streaming_examples(corpus, clips, np.arange(2), Progress())
        np.testing.assert_array_equal(again[0].bands, examples[0].bands)
    finally:
        cache.write_bytes(whole)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "kmtalk corpus build joint"),
        ({"look_ahead": []}, "look_ahead"),
        ({"look_ahead": [1, -1]}, "look_ahead"),
        ({"look_ahead": "two"}, "look_ahead"),
        ({"kernel": 4}, "kernel"),
        ({"d_model": 30}, "d_model"),
        ({"look_back": 0}, "look_back"),
        ({"decay_steps": 100}, "decay_steps"),
        ({"tracked_share": 2}, "tracked_share"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"look_sideways": 1}, "look_sideways"),
        ({"encoder": "wav2vec2"}, "whisper-base-2"),
        ({"encoder": "whisper-base-9", "encoder_look_ahead": [0] * 9}, "6 layers"),
        ({"encoder": "whisper-base-2"}, "encoder_look_ahead"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, capfd, facts, said):
    code, err = run(capfd, "train", config(tmp_path, "nowhere", **facts), "-o", tmp_path / "run")
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err


def test_a_corpus_without_clips_is_said(tmp_path, light_rig, capfd):
    (tmp_path / "joint.json").write_text(
        yaml.safe_dump({"version": 1, "names": list(light_rig.shape_names), "clips": []})
    )
    code, err = run(capfd, "train", config(tmp_path, tmp_path), "-o", tmp_path / "run")
    assert code == 2 and len(err.strip().splitlines()) == 1 and ("no clip" in err or "not a joint corpus" in err), err


def test_a_rig_without_the_network_s_shapes_is_refused(light_rig):
    from kmtalk.streaming.mouth_stream import MouthStream

    network = StreamingNetwork(StreamingConfig(("jawOpen", "earWiggle"), ("a",), (1,), d_model=32, num_heads=2))
    with pytest.raises(InputError, match="earWiggle"):
        MouthStream(network.eval(), light_rig, np.ones(1))


def test_the_mean_of_two_networks_lies_between_them_and_others_are_refused(tmp_path):
    shipped = ROOT / "assets/streaming.safetensors"
    network = load_streaming_network(shipped)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.5)
    other, out = tmp_path / "other.safetensors", tmp_path / "mean.safetensors"
    save_streaming_network(network, other)
    command = [sys.executable, ROOT / "data/average_weights.py"]
    subprocess.run([*command, shipped, other, "-o", out], check=True)
    mean, began, ended = (load_file(path) for path in (out, shipped, other))
    assert all(torch.allclose(mean[n].float(), (began[n].float() + ended[n].float()) / 2, atol=2e-3) for n in began)
    assert not any(torch.equal(mean[n], began[n]) for n, _ in network.named_parameters() if n in began)
    load_streaming_network(out)
    joint = ROOT / "assets/joint.safetensors"
    failed = subprocess.run([*command, joint, shipped, "-o", tmp_path / "no"], capture_output=True, text=True)
    assert failed.returncode and "of the same size" in failed.stderr and not list(tmp_path.glob("no*"))
