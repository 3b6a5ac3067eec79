from __future__ import annotations

import numpy as np
import pytest
from conftest import phones

from kmtalk import Alignment
from kmtalk.articulation.mouth_solver import MouthTarget
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES, SpeakingStyle, parse_speaking_style
from kmtalk.articulation.targets import PHONE_TARGETS
from kmtalk.errors import InputError
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples
from kmtalk.speech.phones import canonical_phone

WORD = phones(
    *[("HH", 0.50, 0.58), ("AE", 0.58, 0.72), ("P", 0.72, 0.80), ("IY", 0.80, 0.95), ("F", 0.95, 1.05)],
    *[("AA", 1.05, 1.25), ("M", 1.25, 1.32), ("UW", 1.32, 1.55), ("S", 1.55, 1.68), ("AH", 1.68, 1.8)],
)


@pytest.fixture(scope="module")
def speaker(rig):
    return SimulatedSpeaker(rig)


@pytest.fixture(scope="module")
def voice():
    """Three seconds of sound with a loud middle: the rules use the sound only for its loudness."""
    t = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    samples = 0.2 * np.sin(2 * np.pi * 120 * t) * ((t > 0.5) & (t < 1.8))
    return audio_from_samples(samples.astype(np.float32), SAMPLE_RATE)


def mouth(speaker, motion):
    return speaker.solver.measure(motion.weights.astype(np.float64))


def during(motion, start, end):
    times = (np.arange(len(motion)) + 0.5) / motion.fps
    return (times >= start) & (times < end)


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 60, 120])
@pytest.mark.parametrize("style", [*SPEAKING_STYLES, 3, 11])
def test_bilabials_close_at_every_frame_rate_and_style(speaker, voice, fps, style):
    motion = speaker.animate(WORD, voice, fps, parse_speaking_style(style))
    assert len(motion) == round(3 * fps)
    aperture = mouth(speaker, motion).aperture
    for start, end in ((0.72, 0.80), (1.25, 1.32)):
        assert aperture[during(motion, start - 0.02, end + 0.02)].min() < 0.5


def test_vowels_open_rounds_round_and_sibilants_hold_the_jaw(speaker, voice):
    motion = speaker.animate(WORD, voice, 60, SpeakingStyle(noise_mm=0))
    m = mouth(speaker, motion)
    open_, round_, hiss = (during(motion, *span) for span in ((1.10, 1.22), (1.40, 1.55), (1.58, 1.65)))
    assert m.aperture[open_].max() > 7
    assert m.width[round_].min() < -2.5
    assert m.protrusion[round_].max() > 2.5
    assert m.jaw[hiss].max() < 2.5
    bite = motion.weights[during(motion, 0.97, 1.03), speaker.rig.index["mouthLabiodental"]]
    assert bite.max() > 0.7
    assert m.aperture[during(motion, 0.97, 1.03)].min() < 2.2


def test_the_mouth_makes_ready_and_comes_to_rest(speaker, voice):
    motion = speaker.animate(WORD, voice, 100, SpeakingStyle(noise_mm=0))
    aperture = mouth(speaker, motion).aperture
    assert aperture[during(motion, 0, 0.05)].max() < 0.5
    assert aperture[during(motion, 0.25, 0.5)].max() > 0.8  # before the first phone
    still = aperture[during(motion, 2.2, 3.0)]
    assert still.max() < 0.5
    assert still.std() < 0.01 * np.ptp(aperture)


def test_weights_stay_in_range_and_the_same_call_gives_the_same_motion(speaker, voice):
    a, b = (speaker.animate(WORD, voice, 30, parse_speaking_style("expressive"), seed=5) for _ in range(2))
    assert a.weights.min() >= 0
    assert a.weights.max() <= 1
    assert np.array_equal(a.weights, b.weights)
    other = speaker.animate(WORD, voice, 30, parse_speaking_style("expressive"), seed=6)
    assert not np.array_equal(a.weights, other.weights)


def test_styles_differ_as_they_say(speaker, voice):
    opening = {
        name: mouth(speaker, speaker.animate(WORD, voice, 60, parse_speaking_style(name))).aperture.max()
        for name in ("relaxed", "neutral", "clear")
    }
    assert opening["relaxed"] < opening["neutral"] < opening["clear"]
    assert parse_speaking_style(4) == parse_speaking_style("4") != parse_speaking_style(5)
    with pytest.raises(InputError, match="style"):
        parse_speaking_style("angry")


def test_silence_is_a_still_face(speaker):
    quiet = audio_from_samples(np.zeros(32000, np.float32), SAMPLE_RATE)
    motion = speaker.animate(Alignment(status="silent"), quiet, 30, SpeakingStyle())
    assert len(motion) == 60
    assert not motion.weights.any()


def test_the_solver_hits_what_it_aims_at(speaker):
    rng = np.random.default_rng(1)
    count = 400
    jaw = rng.uniform(0, 9, count)
    aperture = rng.uniform(0.8, 1.2, count) * jaw + 1
    width = rng.uniform(-6, 2, count)
    upper = rng.uniform(0, 1.5, count)
    aim = MouthTarget(aperture, upper, width, np.clip(-0.8 * width, -0.5, 5), jaw)
    got = speaker.solver.measure(speaker.solver.solve(aim))
    for name, tolerance in (("aperture", 0.4), ("upper_lip", 0.5), ("width", 0.4), ("jaw", 0.4)):
        assert np.percentile(np.abs(getattr(got, name) - getattr(aim, name)), 95) < tolerance, name


def test_every_lip_pair_meets_where_closed_is_asked_for(speaker, rig):
    zero = np.zeros(5)
    weights = speaker.solver.solve(
        MouthTarget(zero, np.linspace(-2, 0, 5), np.linspace(-5, 2, 5), np.linspace(4, 0, 5), np.linspace(0, 8, 5))
    )
    upper, lower = rig.template.regions["lip_pairs"].T
    vertices = rig.vertices(weights)
    assert np.linalg.norm(vertices[:, upper] - vertices[:, lower], axis=2).max() * 1000 < 0.5


@pytest.mark.parametrize(
    ("label", "expected"),
    [("AA1", "AA"), ("sh", "SH"), ("B", "B"), ("b", "B"), ("tʃ", "CH"), ("aj", "AY"), ("pʰ", "P"), ("ə", "AH"),
     ("iː", "IY"), ("y", "UW"), ("m̩", "M"), ("ʈʂ", "T"), ("T", "T"), ("Y", "Y"),
     ("B_B", "B"), ("AA1_E", "AA"), ("spn", "AH"), ("<unk>", "AH"), ("aɪə", "AY")],
)  # fmt: skip
def test_labels_of_many_kinds_are_understood(label, expected):
    assert canonical_phone(label) == expected
    assert expected in PHONE_TARGETS
