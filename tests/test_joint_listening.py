"""Joint models that listen to another speaker: their inputs, streaming, corpus and training."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import SPEECH
from joint_networks import needs_joint, random_network, run

from kmtalk import InputError
from kmtalk.animation import load_animation
from kmtalk.joint.corpus import load_joint_corpus
from kmtalk.joint.flow import sample
from kmtalk.joint.joint_flow import JointFlow, Known, silent_mel
from kmtalk.joint.network_file import load_joint_network, save_joint_network
from kmtalk.joint.streaming import JointStream
from kmtalk.joint.tokens import Span, frame_tokens

pytestmark = needs_joint

FRAMES = 120
SILENT = [Span("SIL", 0, FRAMES, 0)]


@pytest.fixture(scope="module")
def network(light_rig):
    return random_network(light_rig, "highway", listens=True)


@pytest.fixture(scope="module")
def other(light_rig):
    """Sound and face of another speaker."""
    rng = np.random.default_rng(0)
    return rng.normal(-5, 2, (FRAMES, 80)), rng.uniform(0, 1, (FRAMES // 3, len(light_rig.shape_names)))


def test_a_listener_hears_and_sees_the_other_of_its_time_and_before(network, other, light_rig):
    mel, weights = other
    flow = JointFlow(network)

    def listened(**known):
        return flow.sample(FRAMES, Known(SILENT, silent_mel(FRAMES), **known), steps=2).weights

    alone, heard = listened(), listened(other_mel=mel)
    both = listened(other_mel=mel, other_weights=weights)
    assert not np.array_equal(alone, heard) and not np.array_equal(heard, both)
    later = mel.copy()
    later[60:] = -11.0
    changed = np.abs(listened(other_mel=later) - heard).max(1) > 0
    assert not changed[:20].any() and changed[20:].any()  # causal
    deaf = JointFlow(random_network(light_rig, "highway"))
    with pytest.raises(InputError, match="does not listen"):
        deaf.sample(FRAMES, Known(SILENT, other_mel=mel), steps=2)


def test_a_stream_that_listens_is_the_whole(network, other, light_rig):
    mel, weights = other
    tokens = frame_tokens(SILENT, FRAMES)
    stream = JointStream(network, steps=3)
    parts = []
    for start in range(0, FRAMES, 12):
        piece = slice(start, start + 12)
        stream.hear(mel[piece], weights[start // 3 : start // 3 + 4])
        parts.append(
            stream.feed(
                replace(tokens, labels=tokens.labels[piece], stress=tokens.stress[piece], place=tokens.place[piece])
            )
        )
    parts.append(stream.finish())
    streamed = np.concatenate([motion for _, motion in parts])
    given = JointFlow(network).conditions(FRAMES, Known(SILENT, other_mel=mel, other_weights=weights))
    _, whole = sample(network, given, steps=3, noise=stream.noise)
    assert np.abs(network.restore_motion(whole)[0].numpy() - streamed).max() < 1e-3
    with pytest.raises(InputError, match="does not listen"):
        JointStream(random_network(light_rig, "highway")).hear(mel)
    with pytest.raises(InputError, match="multiple of 3"):
        stream.hear(mel[:4])


def test_listens_is_kept_in_the_file(network, tmp_path):
    save_joint_network(network, tmp_path / "n.safetensors")
    assert load_joint_network(tmp_path / "n.safetensors").config.listens


def test_the_command_listens_by_a_joint_model(network, light_rig, tmp_path, capfd):
    save_joint_network(network, tmp_path / "listens.safetensors")
    save_joint_network(random_network(light_rig, "highway"), tmp_path / "deaf.safetensors")
    flow = ("listen", SPEECH, "--template", "light", "--motion", "flow")
    code, err = run(capfd, *flow, "--joint", tmp_path / "listens.safetensors", "-o", tmp_path / "made.npz")
    assert code == 0, err
    made = load_animation(tmp_path / "made.npz")
    assert made.provenance.role == "listener" and made.provenance.network_digest and made.weights.any()
    for options, said in (
        (("--joint", tmp_path / "deaf.safetensors"), "does not listen"),
        (("--joint", tmp_path / "gone.safetensors"), "no such joint network"),
        (("--nod", "2"), "not for motion flow"),
        (("--motion", "rules", "--joint", tmp_path / "deaf.safetensors"), "--joint is for --motion flow"),
    ):
        code, err = run(capfd, *flow, *options, "-o", tmp_path / "no.npz")
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, err
    code, err = run(capfd, "fill", tmp_path / "made.npz", "--from", 0.5, "--to", 1, "-o", tmp_path / "no.npz")
    assert code == 2 and "listens to another's sound" in err


@pytest.mark.slow
def test_conversations_are_built_and_learnt(tmp_path, light_rig, capfd):
    corpus = tmp_path / "corpus"
    code, err = run(capfd, "corpus", "build", "joint", "-o", corpus, "--hours", "0.01", "--dialogues", "0.004")
    assert code == 0, err
    clips = {c.name: c for c in load_joint_corpus(corpus, light_rig.shape_names)}
    pairs = [(c, clips[c.other]) for c in clips.values() if c.other]
    assert pairs and len(pairs) % 2 == 0 and len(pairs) < len(clips)
    for clip, partner in pairs:
        assert clips[partner.other] is clip and len(clip.weights) == len(partner.weights)
        assert clip.source == "simulated, conversation"
        spoken = np.zeros((2, clip.spans[-1].stop), bool)
        for row, one in zip(spoken, (clip, partner), strict=True):
            for span in one.spans:
                row[span.start : span.stop] = not span.is_pause
        assert spoken.any(1).all() and not spoken.all(0).any()  # both speak, never at once
        # the face moves while it listens, and its mouth less than while it speaks
        own = spoken[0][1::3][: len(clip.weights)]
        jaw = clip.weights[:, light_rig.index["jawOpen"]]
        assert jaw[own].mean() > 3 * jaw[~own].mean()
        head = clip.weights[:, [i for n, i in light_rig.index.items() if n.startswith("head")]]
        assert head[~own].std(0).max() > 0

    def train(name, **options):
        facts = {
            "corpus": str(corpus), "coupling": "highway", "d_model": 32, "num_layers": 2, "num_heads": 2,
            "batch_size": 4, "crop_frames": 96, "steps": 4, "decay_steps": 0, "eval_every": 4,
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(facts | options))
        return run(capfd, "train", tmp_path / f"{name}.yaml", "-o", tmp_path / name)

    code, all_of_it = train("listening", listens=True)
    assert code == 0, all_of_it
    learnt = load_joint_network(tmp_path / "listening" / "network.safetensors")
    heard = learnt.sound_in.weight[:, -81:]
    assert learnt.config.listens and torch.isfinite(heard).all()
    code, err = train("speaking")
    assert code == 0, err
    used, without_pairs = (int(re.search(r"(\d+) clips", said)[1]) for said in (all_of_it, err))
    assert without_pairs < used
    assert not load_joint_network(tmp_path / "speaking" / "network.safetensors").config.listens
