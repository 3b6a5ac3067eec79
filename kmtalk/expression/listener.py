"""The expression layer of a listener: nods, blinks, brows, gaze and an idle head, in answer to another's speech.

All of it are rules from the literature on conversation; none was fitted to, or measured on, real listeners. The layer
is causal: what it does at a time depends on what was heard and seen before that time. Its random parts depend on the
seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.expression.blinks import CLOSE_SECONDS, RESTING_RATE, SHUT_SECONDS
from kmtalk.expression.blinks import LEAST_INTERVAL as LEAST_BLINK_INTERVAL
from kmtalk.expression.emotion import EmotionCue, emotion_weights
from kmtalk.expression.gaze import LISTENING_WANDER_SHARE, Gaze, gaze_direction
from kmtalk.expression.head import DEVIATION, MOST_DEGREES, QUICK_SHARE
from kmtalk.expression.heard_speech import HeardSpeech
from kmtalk.expression.layer import ExpressionCurves
from kmtalk.expression.mimicry import mirrored_smile
from kmtalk.expression.nods import Nod, choose_nods, nod_rotation
from kmtalk.expression.noise import smooth_noise
from kmtalk.speech.prosody import HOP_SECONDS

SWAY, SWAY_SECONDS = 0.22, (0.5, 1.6)
"""Sway of the head relative to a speaker's, and how long it takes for its autocorrelation to fall to a half. It is less
and slower than in a speaker's pauses, so that nods stand out of it."""

BREATH_SECONDS, BREATH_DEGREES = 4.2, 0.3  # about 14 breaths a minute at rest; pitch of the head in them
TILT_SECONDS, TILT_DEGREES = 3.5, (0.9, 1.2)  # how long the head stays turned and tilted to a side, and how far
BEAT_DELAY, BEAT_DEGREES = 0.16, 0.6
"""Listeners make small movements in phase with the speaker's stressed syllables (Hadar, Steiner & Rose 1985)."""

BLINK_DELAY = (0.11, 0.36)
"""Seconds from a noticed pause, or from a nod, to a blink. Listeners blink 0.25 to 0.5 s after the speaker does so in a
pause (Nakano & Kitazawa 2010: Eyeblink entrainment at breakpoints of speech. Experimental Brain Research 205, 577-581),
and often with a nod (Hömke, Holler & Levinson 2017: Eye blinking as addressee feedback in face-to-face conversation.
Research on Language and Social Interaction 50, 54-70)."""

BLINK_REACH = 2.2  # seconds by which a pause or a nod brings a blink forward
BLINK_SHARE = 0.6  # of the pauses and nods that do

RAISE_DELAY = (0.25, 0.5)  # seconds from a noticed rise to the brows' lift
RAISES = {"rise": (0.85, 0.42), "nod": (0.22, 0.24)}
"""Share of the rises and nods with which the brows lift, and how far. Raised brows answer questions and mark interest
(Ekman 1979: About brows: emotional and conversational signals)."""

RAISE_SECONDS = (0.22, 0.3, 0.55)  # up, held and down


@dataclass(frozen=True)
class ListenerSettings:
    """How much a listener moves.

    Attributes:
        nod: Factor on the number and depth of the nods.
        head: Factor on all other motion of the head.
        gaze: "camera", or "wander" with glances aside for a quarter of the time.
        emotion: Cues of the emotion layer.
        smile: Factor on the smile in answer to the other's.
    """

    nod: float = 1.0
    head: float = 1.0
    gaze: Gaze = "wander"
    emotion: tuple[EmotionCue, ...] = ()
    smile: float = 1.0


@dataclass(frozen=True)
class SeenSmile:
    """The smile that a listener sees: weights (M,) at `fps` frames per second."""

    weights: np.ndarray
    fps: float


def listener_expression(
    heard: HeardSpeech | None,
    seen: SeenSmile | None,
    times: np.ndarray,
    settings: ListenerSettings,
    rng: np.random.Generator,
) -> ExpressionCurves:
    """Return what moves above the mouth of a listener, and the emotion.

    Args:
        heard: What was noticed in the other's speech; None where there is none, which leaves the listener idle.
        seen: The other's smile; None where it cannot be seen.
        times: (N,) frame times in seconds.
        settings: How much moves.
        rng: Source of the random variation; each part takes a generator of its own, so that none changes another.
    """
    for_head, for_gaze, for_nods, for_blinks, for_brows = rng.spawn(5)
    nods = () if heard is None else choose_nods(heard, settings.nod, for_nods)
    head = settings.head * _idle_rotation(times, for_head)
    if heard is not None:
        hop_times = (np.arange(len(heard.beat)) + 0.5) * HOP_SECONDS
        head[:, 0] -= settings.head * BEAT_DEGREES * np.interp(times - BEAT_DELAY, hop_times, heard.beat)
    head += nod_rotation(nods, times)
    emotion = emotion_weights(settings.emotion, times)
    smile = {} if seen is None else mirrored_smile(seen.weights, seen.fps, times, settings.smile, emotion)
    return ExpressionCurves(
        MOST_DEGREES * np.tanh(head / MOST_DEGREES),
        gaze_direction(times, settings.gaze, for_gaze, LISTENING_WANDER_SHARE),
        _blinks(heard, nods, times, for_blinks),
        (_brow_raises(heard, nods, times, for_brows), emotion, smile),
    )


def _idle_rotation(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the sway (N, 3) in degrees of a head that is at rest, with its breathing and slow tilts."""
    count, fps = len(times), 1 / (times[1] - times[0]) if len(times) > 1 else 30.0
    generators = iter(rng.spawn(9))
    shares = np.sqrt([QUICK_SHARE, 1 - QUICK_SHARE])
    out = np.stack(
        [
            SWAY
            * deviation
            * sum(
                share * smooth_noise(count, fps, half, next(generators))
                for share, half in zip(shares, SWAY_SECONDS, strict=True)
            )
            for deviation in DEVIATION
        ],
        axis=1,
    )
    for_breath = next(generators)
    breaths = np.exp(0.18 * smooth_noise(count, fps, BREATH_SECONDS, for_breath)) / BREATH_SECONDS
    out[:, 0] += BREATH_DEGREES * np.sin(2 * np.pi * np.cumsum(breaths) / fps)
    for axis, degrees in enumerate(TILT_DEGREES, 1):
        out[:, axis] += degrees * smooth_noise(count, fps, TILT_SECONDS, next(generators))
    return out


def _blinks(
    heard: HeardSpeech | None, nods: tuple[Nod, ...], times: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return rising times of blinks, at the rate of people at rest; pauses and nods bring the next one forward."""
    for_times, for_pulls = rng.spawn(2)
    calls = sorted([nod.start for nod in nods] + ([] if heard is None else heard.pauses.tolist()))
    pulls = [at + for_pulls.uniform(*BLINK_DELAY) for at in calls if for_pulls.random() < BLINK_SHARE]
    out: list[float] = []
    due, end = for_times.uniform(0.3, 3.0), float(times[-1]) + CLOSE_SECONDS + SHUT_SECONDS
    while True:
        earliest = out[-1] + 2 * LEAST_BLINK_INTERVAL if out else 0.0
        at = next((p for p in pulls if earliest < p < due and due - p < BLINK_REACH), due)
        if at >= end:
            return np.array(out)
        out.append(at)
        interval = for_times.lognormal(np.log(1 / RESTING_RATE) - 0.245, 0.7)  # the mean is 1 / rate
        due = at + max(LEAST_BLINK_INTERVAL, interval)


def _brow_raises(
    heard: HeardSpeech | None, nods: tuple[Nod, ...], times: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the weights (N,) of the brows' shapes: they rise after a rise of the other's pitch, and with some nods."""
    rises = [] if heard is None else heard.rises.tolist()
    up, held, down = RAISE_SECONDS
    lift = np.zeros(len(times))
    for at, kind in sorted([(t, "rise") for t in rises] + [(nod.start, "nod") for nod in nods]):
        share, height = RAISES[kind]
        chance, delay, size = rng.random(), rng.uniform(*RAISE_DELAY), np.exp(0.25 * rng.normal())
        if chance >= share:
            continue
        t = times - at - (delay if kind == "rise" else 0.0)
        ramp = np.minimum(np.clip(t / up, 0, 1), np.clip((up + held * size + down - t) / down, 0, 1))
        lift = np.maximum(lift, height * size * ramp * ramp * (3 - 2 * ramp))
    return {
        "browInnerUp": np.clip(0.9 * lift, 0, 0.8),
        "browOuterUpLeft": np.clip(0.85 * lift, 0, 0.8),
        "browOuterUpRight": np.clip(0.75 * lift, 0, 0.8),
    }
