"""The shipped weights, through the public interface."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SAID, SPEECH

from kmtalk import KMTalk, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.errors import InputError
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples

EXPRESSION = ("brow", "eye", "head")


def mouth_of(animation):
    return MouthSolver(animation.motion.rig).measure(animation.weights).lip_channels


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_lips_close_at_every_bilabial_and_hold_still_in_a_pause(talk, fps):
    audio = talk.align(SPEECH, text=SAID)[0]
    rng = np.random.default_rng(0)
    quiet = (1e-4 * rng.normal(size=2 * SAMPLE_RATE)).astype(np.float32)
    paused = audio_from_samples(np.concatenate([quiet, audio.samples, quiet]), SAMPLE_RATE)
    animation = talk.animate(paused, text=SAID, fps=fps)
    mouth = mouth_of(animation)
    least = metrics.minimum_apertures(mouth, animation.alignment, fps)
    assert len(least) == 12
    assert max(least) < 0.1 * metrics.open_range(mouth)
    spans = metrics.find_silences(animation.alignment, paused.duration)
    assert len(spans) >= 2
    assert max(metrics.silence_deviations(mouth, fps, spans, 0.1, 0.1)) < 0.01 * metrics.open_range(mouth)
    assert metrics.open_range(mouth) > 6


def test_lips_go_with_the_sound(talk, spoken):
    assert -0.02 <= metrics.audiovisual_lead([(mouth_of(spoken), spoken.audio.samples, 30.0)]).value <= 0.1


def test_expression_is_a_layer_that_can_be_left_out(talk, spoken):
    plain = talk.animate(SPEECH, text=SAID, expression=False)
    upper = [i for i, n in enumerate(plain.shape_names) if n.startswith(EXPRESSION)]
    others = [i for i, n in enumerate(plain.shape_names) if not n.startswith(EXPRESSION)]
    assert not plain.weights[:, upper].any()
    assert spoken.weights[:, upper].max() > 0.1
    assert np.array_equal(plain.weights[:, others], spoken.weights[:, others])


def test_styles_and_intensity_show(talk, spoken):
    ranges = {
        style: metrics.open_range(mouth_of(talk.animate(SPEECH, text=SAID, style=style)))
        for style in ("relaxed", "clear", "relaxed:0.5,clear:0.5", "mean")
    }
    assert ranges["relaxed"] < ranges["relaxed:0.5,clear:0.5"] < ranges["clear"]
    more = talk.animate(SPEECH, text=SAID, intensity="jaw=1.5")
    lower = LIP_CHANNELS.index("lower lip")
    assert mouth_of(more)[:, lower].max() > 1.1 * mouth_of(spoken)[:, lower].max()
    assert min(metrics.minimum_apertures(mouth_of(more), more.alignment, 30.0)) < 0.5


def test_rules_stay_and_differ(talk, spoken):
    rules = talk.animate(SPEECH, text=SAID, motion="rules")
    assert rules.weights.shape == spoken.weights.shape
    assert not np.allclose(rules.weights, spoken.weights, atol=0.05)


def test_without_phones_the_network_still_hears(talk):
    """A hummed clip without words: keys are uniform and the mouth moves with the sound."""
    free = KMTalk(aligner="uniform", warn=lambda line: None).animate(SPEECH)
    assert free.alignment.status == "uniform"
    by_phones = talk.animate(SPEECH, text=SAID)
    r = np.corrcoef(mouth_of(free)[:, 0], mouth_of(by_phones)[:, 0])[0, 1]
    assert r > 0.7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"style": "angry"}, "angry: no such style"),
        ({"style": 3}, "3: no such style"),
        ({"motion": "dance"}, "motion dance: no such choice"),
        ({"intensity": "loud"}, "intensity loud"),
    ],
)
def test_wrong_wishes_are_refused_before_any_work(wrong, said):
    with pytest.raises(InputError, match=said):
        KMTalk().animate("/there/is/no/such.wav", **wrong)


def test_weights_that_cannot_serve_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such network weights"):
        KMTalk(network=tmp_path / "none.safetensors").animate(SPEECH)
