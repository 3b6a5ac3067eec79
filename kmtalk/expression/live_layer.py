"""The expression layer of a face that follows a voice: head, blinks, gaze and brows, frame by frame without an end.

It does what `kmtalk.expression.layer` does for a whole clip, by what was heard so far alone: the head moves more while
there is speech and dips at loud syllables, brows lift at some of the loudest, and blinks come at the rates of talking
and of resting people, and at pauses. When nobody speaks, the face stays alive. Its rules are those of the literature
named there; none was fitted to real faces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kmtalk.expression.blinks import (
    CLOSE_SECONDS,
    LEAST_INTERVAL,
    OPEN_SECONDS,
    RESTING_RATE,
    SHUT_SECONDS,
    TALKING_RATE,
)
from kmtalk.expression.brows import ACCENT_LIFT, FALL_SECONDS, RISE_SECONDS
from kmtalk.expression.brows import LEAST_INTERVAL as LEAST_BROW_INTERVAL
from kmtalk.expression.gaze import Gaze, GazePath
from kmtalk.expression.head import DEVIATION, HALF_SECONDS, MOST_DEGREES, QUICK_SHARE, RESTING, VOICE_SHARE
from kmtalk.expression.heard_speech import BEAT_SECONDS, SPEECH_RANGE_DB
from kmtalk.expression.layer import ExpressionCurves
from kmtalk.expression.listener import BLINK_SHARE
from kmtalk.expression.noise import NoiseStream
from kmtalk.face.rig import Rig

ACTIVITY_SECONDS = 0.3  # time constant with which the head's motion follows speech and pauses
ACCENT_BEAT, ACCENT_END = 0.45, 0.2
"""Loudness of a syllable against that of the phrase, -1 to 1, above which it is an accent, and below which it ended."""

ACCENT_CHOICES, ACCENT_ODDS = (0.0, 0.6, 1.0, 1.3), (0.25, 0.25, 0.35, 0.15)  # as for a whole clip


@dataclass(frozen=True)
class LiveExpressionSettings:
    """How much moves above the mouth.

    Attributes:
        head: Factor on the head's motion.
        gaze: "camera" or "wander".
        brows: Factor on the brows' motion.
    """

    head: float = 1.0
    gaze: Gaze = "camera"
    brows: float = 1.0


class LiveExpression:
    """What moves above the mouth of a face that follows a voice.

    Args:
        rig: Rig.
        fps: Frames per second.
        settings: How much moves.
        seed: Seed of the random variation.
    """

    def __init__(self, rig: Rig, fps: float, settings: LiveExpressionSettings, seed: int = 0) -> None:
        for_head, for_gaze, for_blinks, for_brows = np.random.default_rng([seed, 7]).spawn(4)
        self._rig, self._settings, self._step = rig, settings, 1 / fps
        generators = iter(for_head.spawn(len(DEVIATION) * len(HALF_SECONDS)))
        self._noise = [[NoiseStream(fps, half, next(generators)) for half in HALF_SECONDS] for _ in DEVIATION]
        self._gaze = GazePath(settings.gaze, for_gaze)
        self._for_blinks, self._for_brows = for_blinks, for_brows
        self._blinks: list[float] = []
        self._next_blink = float(for_blinks.uniform(0.5, 2.5))
        self._activity, self._spoke = 0.0, False
        self._syllable = self._phrase = -SPEECH_RANGE_DB
        self._in_accent, self._lifts = False, [(-10.0, 0.0)]  # start and height of the brows' last lifts
        self._dip = 0.0

    def advance(self, times: np.ndarray, speaking: np.ndarray, level_db: np.ndarray) -> np.ndarray:
        """Return the weights (N, R) of the next frames.

        Args:
            times: Times (N,) of the frames in seconds.
            speaking: Whether there is speech, in [0, 1], (N,).
            level_db: Loudness relative to that of loud syllables in dB, (N,).
        """
        if not len(times):
            return np.zeros((0, len(self._rig.shape_names)))
        over = float(times[0]) - SHUT_SECONDS - OPEN_SECONDS - LEAST_INTERVAL
        self._blinks = [b for b in self._blinks if b > over]
        self._lifts = [x for x in self._lifts[:-1] if x[0] > times[0] - RISE_SECONDS - FALL_SECONDS] + self._lifts[-1:]
        activity, dips = np.empty(len(times)), np.empty(len(times))
        levels = np.maximum(level_db, -2 * SPEECH_RANGE_DB)
        for i, heard in enumerate(zip(times.tolist(), speaking.tolist(), levels.tolist(), strict=True)):
            activity[i], dips[i] = self._hear(*heard)
        quick, slow = math.sqrt(QUICK_SHARE), math.sqrt(1 - QUICK_SHARE)
        head = np.stack([quick * a.next(len(times)) + slow * b.next(len(times)) for a, b in self._noise], 1)
        head[:, 0] = math.sqrt(1 - VOICE_SHARE) * head[:, 0] - math.sqrt(VOICE_SHARE) * dips
        head *= np.array(DEVIATION) * self._settings.head * (RESTING + (1 - RESTING) * activity)[:, None]
        head = MOST_DEGREES * np.tanh(head / MOST_DEGREES)
        curves = ExpressionCurves(head, self._gaze.at(times), np.array(self._blinks), (self._brows(times),))
        return curves.weights(self._rig, times)

    def _hear(self, time: float, talking: float, level: float) -> tuple[float, float]:
        """Take one frame of sound; returns activity of speech in [0, 1], and the head's dip at loud syllables."""
        self._activity += (1 - math.exp(-self._step / ACTIVITY_SECONDS)) * (talking - self._activity)
        quick, slow = (1 - math.exp(-self._step / s) for s in BEAT_SECONDS)
        self._syllable += quick * (level - self._syllable)
        self._phrase += slow * (level - self._phrase)
        beat = math.tanh((self._syllable - self._phrase) / SPEECH_RANGE_DB) * talking
        self._dip += quick * (beat - self._dip)
        self._choose_blink(time, talking)
        self._choose_lift(time, beat)
        return self._activity, 2 * self._dip

    def _choose_blink(self, time: float, talking: float) -> None:
        """Add the blinks that begin now; a pause after speech brings the next one forward."""
        reach = CLOSE_SECONDS + SHUT_SECONDS  # the lids begin to close before the time of a blink
        paused = self._spoke and talking < 0.3
        self._spoke = talking > 0.7 or (self._spoke and not paused)
        if paused and self._for_blinks.random() < BLINK_SHARE:
            self._next_blink = min(self._next_blink, time + reach)
        if time + reach < self._next_blink:
            return
        if not self._blinks or self._next_blink - self._blinks[-1] >= LEAST_INTERVAL:
            self._blinks.append(max(self._next_blink, time + reach))
        rate = RESTING_RATE + self._activity * (TALKING_RATE - RESTING_RATE)
        interval = self._for_blinks.lognormal(math.log(1 / rate) - 0.245, 0.7)  # the mean is 1 / rate
        self._next_blink = time + reach + max(LEAST_INTERVAL, interval)

    def _choose_lift(self, time: float, beat: float) -> None:
        """Lift the brows at some of the accents."""
        begins = beat > ACCENT_BEAT and not self._in_accent
        self._in_accent = beat > (ACCENT_END if self._in_accent else ACCENT_BEAT)
        if begins and time - self._lifts[-1][0] >= LEAST_BROW_INTERVAL:
            self._lifts.append((time, ACCENT_LIFT * self._for_brows.choice(ACCENT_CHOICES, p=ACCENT_ODDS)))

    def _brows(self, times: np.ndarray) -> Mapping[str, np.ndarray]:
        lift = np.zeros(len(times))
        for start, height in self._lifts:
            t = times - start - RISE_SECONDS
            bump = np.where(t < 0, np.clip(1 + t / RISE_SECONDS, 0, 1), np.clip(1 - t / FALL_SECONDS, 0, 1))
            lift = np.maximum(lift, self._settings.brows * height * bump * bump * (3 - 2 * bump))
        shares = {"browInnerUp": 0.9, "browOuterUpLeft": 0.75, "browOuterUpRight": 0.65}
        return {name: np.clip(share * lift, 0, 0.8) for name, share in shares.items()}
