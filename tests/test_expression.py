"""What moves above the mouth, against what is known of people."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import SAID, SPEECH, phones
from scipy.ndimage import label

from kmtalk import KMTalk
from kmtalk.animation.formats import facing_camera
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.expression.emotion import EMOTIONS, emotion_weights, parse_emotion
from kmtalk.expression.layer import ExpressionSettings, expression_weights
from kmtalk.face.joints import EYE_DEGREES, HEAD_DEGREES
from kmtalk.face.motion import frame_times
from kmtalk.metrics import CLOSED_MM, minimum_apertures
from kmtalk.render.camera import VIEW_ANGLES
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples, load_audio
from kmtalk.speech.prosody import analyze_prosody

FPS = 30.0
PUBLIC = {  # three public speakers, tracked: standard deviation, median and 95th percentile of speed, degrees (/ s)
    "headPitchUp": (4.0, 8.0, 34.0),
    "headYawLeft": (3.4, 6.0, 29.0),
    "headRollLeft": (2.2, 4.0, 15.0),
}
OPPOSITE = {"headPitchUp": "headPitchDown", "headYawLeft": "headYawRight", "headRollLeft": "headRollRight"}


@pytest.fixture(scope="module")
def minute():
    """A minute of speech, its prosody and its frame times."""
    audio = load_audio(SPEECH)
    samples = np.tile(audio.samples, 6)[: 60 * SAMPLE_RATE]
    return analyze_prosody(samples), frame_times(int(60 * FPS), FPS)


def layer(rig, minute, seed=0, **settings):
    prosody, times = minute
    rng = np.random.default_rng(seed)
    weights = expression_weights(rig, phones(), prosody, times, ExpressionSettings(**settings), rng)
    return {name: weights[:, k] for name, k in rig.index.items()}


def rotation(curves, name):
    return HEAD_DEGREES * (curves[name] - curves[OPPOSITE[name]])


@pytest.mark.parametrize("seed", range(3))
def test_the_head_moves_as_public_speakers_do(light_rig, minute, seed):
    curves = layer(light_rig, minute, seed)
    for name, expected in PUBLIC.items():
        turned = rotation(curves, name)
        speed = np.abs(np.diff(turned)) * FPS
        made = turned.std(), np.median(speed), np.percentile(speed, 95)
        for value, real in zip(made, expected, strict=True):
            assert real / 1.5 < value < real * 1.5, (name, made)


def test_the_head_follows_its_factor_and_nothing_else_does(light_rig, minute):
    still, full, twice = (layer(light_rig, minute, head=amount) for amount in (0.0, 1.0, 2.0))
    for name in PUBLIC:
        assert not rotation(still, name).any()
        assert rotation(twice, name).std() > 1.2 * rotation(full, name).std()
    for name in ("eyeBlinkLeft", "browInnerUp"):
        assert np.array_equal(still[name], twice[name])


def test_every_blink_closes_and_opens_again(light_rig, minute):
    rates = []
    for seed in range(6):
        lids = layer(light_rig, minute, seed)["eyeBlinkLeft"]
        shut, blinks = label(lids > 0.95)
        _, moved = label(lids > 0.05)
        assert blinks == moved  # each one closes, and opens before the next
        assert np.bincount(shut.ravel())[1:].max() <= 4
        rates.append(blinks)
    assert 18 <= np.mean(rates) <= 34  # 26 a minute while talking


def test_the_gaze_stays_on_the_camera_or_wanders(light_rig, minute):
    def gaze(curves, name):
        return (
            EYE_DEGREES["Out"] * curves["eyeLookOutLeft"]
            - EYE_DEGREES["In"] * curves["eyeLookInLeft"]
            + rotation(curves, name)
        )

    camera, wander = (gaze(layer(light_rig, minute, gaze=kind), "headYawLeft") for kind in ("camera", "wander"))
    assert np.abs(camera).max() < 4  # the eyes turn against the head
    assert 4 < wander.std() < 12
    moving = np.abs(np.diff(wander)) * FPS > 30
    assert 0.01 < moving.mean() < 0.15  # fixations, and quick jumps between them
    assert np.abs(np.diff(wander)).max() * FPS > 100


def test_brows_lift_on_accents_now_and_then(light_rig, minute):
    brow = layer(light_rig, minute)["browInnerUp"]
    _, lifts = label(brow > 0.12)
    assert 3 <= lifts <= 40 and brow.max() < 0.8


def test_the_film_is_looked_at(spoken):
    """Eyes turn to a camera that stands aside, as far as it does, and keep their own motion."""
    names = spoken.shape_names

    def leftwards(weights):
        w = {n: weights[:, names.index(n)] for n in names if n.startswith("eyeLook")}
        return 25 * (w["eyeLookOutLeft"] - w["eyeLookInLeft"]), 25 * (w["eyeLookInRight"] - w["eyeLookOutRight"])

    aside = facing_camera(spoken, "portrait")
    for before, after in zip(leftwards(spoken.weights), leftwards(aside.weights), strict=True):
        free = (after > -24.9) & (after < 24.9)
        assert free.mean() > 0.9
        assert np.abs(after - before - np.degrees(VIEW_ANGLES["portrait"][0]))[free].max() < 0.01
    others = [k for k, n in enumerate(names) if not n.startswith("eyeLook")]
    assert np.array_equal(aside.weights[:, others], spoken.weights[:, others])
    for view in ("front", "profile"):
        assert facing_camera(spoken, view) is spoken.motion


@pytest.mark.parametrize("emotion", sorted(EMOTIONS))
def test_no_emotion_parts_lips_that_speech_closes(talk, spoken, emotion):
    moved = talk.animate(SPEECH, textgrid=spoken.alignment, emotion=emotion)
    plain = MouthSolver(talk.rig).measure(spoken.weights).lip_channels
    mouth = MouthSolver(talk.rig).measure(moved.weights).lip_channels
    least = minimum_apertures(mouth, spoken.alignment, 30.0)
    assert max(least) < CLOSED_MM
    assert np.corrcoef(mouth[:, 0], plain[:, 0])[0, 1] > 0.97
    assert np.abs(moved.weights - spoken.weights).max() > 0.05


def test_cues_follow_one_another(tmp_path):
    path = tmp_path / "emotion.json"
    rows = [{"time": 2.0, "name": "happy", "amount": 0}, {"time": 1.0, "name": "happy", "amount": 0.8}]
    path.write_text(json.dumps(rows))
    times = frame_times(120, FPS)
    smile = emotion_weights(parse_emotion(str(path)), times)["mouthSmileLeft"]
    assert smile[times < 0.4].max() < 0.02 and smile[times > 2.6].max() < 0.02
    assert smile[np.abs(times - 1.5) < 0.1].min() > 0.45
    assert np.abs(np.diff(smile)).max() < 0.1
    both = emotion_weights(parse_emotion("happy:0.5, surprised"), times)
    assert both["browInnerUp"][0] == pytest.approx(0.8) and both["mouthSmileLeft"][0] == pytest.approx(0.425)


def test_cues_in_the_text_begin_with_the_next_word(talk):
    words = SAID.split()
    text = " ".join([*words[:4], "[happy:0.6]", *words[4:8], "[surprised]", *words[8:11], "[neutral]", *words[11:]])
    animation = talk.animate(SPEECH, text=text, keys="apex")
    plain = talk.animate(SPEECH, text=SAID, emotion="friendly:0")
    assert [w.text for w in animation.alignment.words] == [w.text for w in plain.alignment.words]
    starts = [animation.alignment.words[i].start for i in (4, 8, 11)]
    cues = [(c.time, c.name, c.amount) for c in animation.provenance.settings.emotion]
    assert cues == [
        (starts[0], "happy", 0.6),
        (starts[1], "happy", 0.0),
        (starts[1], "surprised", 1.0),
        (starts[2], "surprised", 0.0),
    ]
    smile = animation.weights[:, animation.shape_names.index("mouthSmileLeft")]
    times = frame_times(len(smile), animation.fps)
    assert smile[np.abs(times - (starts[0] + starts[1]) / 2) < 0.1].min() > 0.25
    assert smile[times > starts[2] + 1].max() < 0.02


@pytest.mark.parametrize("wrong", ["[happy:2] Hello", "[happy:much] Hello", "[sad,happy:-1] [happy:-1] Hello"])
def test_other_amounts_in_the_text_are_refused(kmtalk, wrong):
    done = kmtalk("animate", SPEECH, "--text", wrong, "--no-video")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "the text: [" in done.stderr


def test_other_brackets_are_not_spoken(talk):
    words = SAID.split()
    lines = []
    marked = KMTalk(warn=lines.append)
    _, alignment = marked.align(SPEECH, text=" ".join(["[laughs]", *words[:6], "[turns to the door]", *words[6:]]))
    assert [w.text for w in alignment.words] == [w.text for w in talk.align(SPEECH, text=SAID)[1].words]
    assert len(lines) == 1 and "[laughs], [turns to the door] left out" in lines[0]


@pytest.mark.parametrize("wrong", ["bored", "happy:2", "happy:much", "none.json", "happy:-1"])
def test_other_emotions_are_refused_in_one_line(kmtalk, wrong):
    done = kmtalk("animate", SPEECH, "--emotion", wrong, "--no-video")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and wrong.partition(":")[0] in done.stderr


def test_a_loud_tone_and_silence_are_bearable(light_rig):
    for samples in (np.zeros(SAMPLE_RATE), np.ones(SAMPLE_RATE // 4)):
        audio = audio_from_samples(samples.astype(np.float32), SAMPLE_RATE)
        times = frame_times(int(audio.duration * FPS), FPS)
        rng = np.random.default_rng(0)
        weights = expression_weights(
            light_rig, phones(), analyze_prosody(audio.samples), times, ExpressionSettings(), rng
        )
        assert np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1
