"""Characters of wav2vec 2.0 as tokens of the joint model (AV-Flow). The recogniser here is small and untrained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from conftest import SPEECH, small_wav2vec2
from joint_networks import needs_joint, random_network, run

from kmtalk.errors import InputError
from kmtalk.joint.clock import MEL_RATE
from kmtalk.joint.joint_flow import JointFlow, Known, frames_of, silent_mel
from kmtalk.joint.network_file import load_joint_network, save_joint_network
from kmtalk.speech.audio import SAMPLE_RATE, load_audio

pytestmark = needs_joint


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return "wav2vec2-ctc:" + small_wav2vec2(tmp_path_factory.mktemp("recognizer"), characters=True)


@pytest.fixture(scope="module")
def flow(light_rig, source):
    return JointFlow(random_network(light_rig, "joint", character_encoder=source, num_characters=32))


@pytest.fixture(scope="module")
def samples():
    return load_audio(SPEECH).samples[: 2 * SAMPLE_RATE]


def test_characters_are_heard_on_the_clock_of_the_mel_spectrogram(flow, samples, light_rig):
    """Value i of 50 a second is centred on its 25 ms; and a network of phones alone hears none."""
    frames = frames_of(2.0)
    heard = flow.characters_of(samples, frames)
    assert heard.shape == (frames, 32) and np.allclose(heard.sum(1), 1, atol=1e-5)
    features = flow._character_encoder.encode(samples)
    at = round((0.0125 + 40 / 50) * MEL_RATE - 0.5)  # the mel frame nearest to value 40
    assert np.abs(heard[at] - features.values[40]).sum() < np.abs(heard[at] - features.values[38]).sum()
    assert JointFlow(random_network(light_rig, "joint")).characters_of(samples, frames) is None


def test_what_is_heard_changes_both_streams_and_no_known_frame(flow, samples):
    frames = 96
    heard = flow.characters_of(samples, frames)
    with_characters, without = (flow.sample(frames, Known(characters=c), steps=2) for c in (heard, None))
    assert np.abs(with_characters.mel - without.mel).max() > 1e-3
    assert np.abs(with_characters.weights - without.weights).max() > 1e-4
    mel = silent_mel(frames)
    np.testing.assert_array_equal(flow.sample(frames, Known(mel=mel, characters=heard), steps=2).mel, mel)
    given = flow.conditions(frames, Known(characters=heard)).without_text()
    assert not given.characters.any()
    with pytest.raises(InputError, match="characters of shape"):
        flow.sample(frames, Known(characters=heard[:-1]))


def test_another_recogniser_is_refused(light_rig, source, samples):
    other = JointFlow(random_network(light_rig, "joint", character_encoder=source, num_characters=30))
    with pytest.raises(InputError, match="has 32 characters, not 30"):
        other.characters_of(samples, 30)


@pytest.mark.parametrize(("encoder", "count"), [("", 32), ("wav2vec2-ctc:x", 0), (3, 32), ("x", 10**9), ("x", -1)])
def test_a_file_says_which_characters_it_was_trained_with(light_rig, tmp_path, encoder, count):
    network = random_network(light_rig, "joint")
    network.config = replace(network.config, character_encoder=encoder, num_characters=count)
    save_joint_network(network, tmp_path / "n.safetensors")
    with pytest.raises(InputError, match="number of characters"):
        load_joint_network(tmp_path / "n.safetensors")


@pytest.mark.slow
def test_they_are_trained_and_used(light_rig, source, tmp_path, capfd):
    """Training caches what is heard; `animate --motion flow` hears the characters of its sound."""
    code, said = run(capfd, "corpus", "build", "joint", "-o", tmp_path / "c", "--hours", "0.01")
    assert code == 0, said
    facts = {
        "corpus": "c", "coupling": "highway", "d_model": 32, "num_layers": 2, "num_heads": 2, "batch_size": 4,
        "crop_frames": 96, "steps": 6, "decay_steps": 2, "character_encoder": source,
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(facts))
    code, said = run(capfd, "train", tmp_path / "c.yaml", "-o", tmp_path / "run")
    assert code == 0, said
    assert any((tmp_path / "c" / "characters").iterdir())
    path = tmp_path / "run" / "network.safetensors"
    network = load_joint_network(path)
    assert (network.config.character_encoder, network.config.num_characters) == (source, 32)
    assert network.token_projection.weight[:, -32:].any()
    arguments = ("--motion", "flow", "--joint", path, "--formats", "npz", "-o", tmp_path / "out")
    code, said = run(capfd, "animate", SPEECH, *arguments)
    assert code == 0, said
    gone = replace(network.config, character_encoder="wav2vec2-ctc:nowhere")
    network.config = gone
    save_joint_network(network, path)
    code, said = run(capfd, "animate", SPEECH, *arguments)
    assert code == 2 and "nowhere: no wav2vec 2.0 weights found" in said and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["log-mel", "wav2vec2:x", "wav2vec2-ctc:"])
def test_other_encoders_have_no_characters(tmp_path, capfd, name):
    facts = {"corpus": "nowhere", "coupling": "joint", "character_encoder": name}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(facts))
    code, said = run(capfd, "train", tmp_path / "c.yaml", "-o", tmp_path / "run")
    assert code == 2 and "character_encoder" in said and len(said.strip().splitlines()) == 1


def test_a_stream_without_sound_hears_none(flow):
    assert torch.equal(flow.conditions(30, Known()).characters, torch.zeros(1, 30, 32))
