"""Nods of a listener: which cues are answered by one, and how the head moves in it.

Nods of listeners are cyclic, of one to a few cycles at 1 to 4 Hz, the first the largest (Hadar, Steiner & Rose 1985:
Head movement during listening turns in conversation. Journal of Nonverbal Behavior 9, 214-228), and they fall in and
after the pauses of the speaker (Dittmann & Llewellyn 1968: Relationship between vocalizations and head nods as listener
responses. Journal of Personality and Social Psychology 9, 79-84).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.expression.heard_speech import HeardSpeech

FREQUENCY = (2.1, 0.22, 1.2, 3.6)  # of the cycles in Hz: median, deviation of its logarithm, least and greatest
DEGREES = (4.2, 0.35, 1.2, 8.0)  # depth of the first cycle, likewise
CYCLES, CYCLE_SHARES = (1, 2, 3, 4), (0.42, 0.33, 0.18, 0.07)
LATER_CYCLE = 0.68  # depth of a cycle relative to the one before
PAUSE_DELAY = (0.12, 0.5)  # least and greatest seconds from a noticed pause to the nod
ANSWERED = {"back-channel": 0.4, "pause": 0.6}  # share of the cues that are answered
REST_SECONDS = 0.35  # least time between two nods
SIDEWAYS = 0.16  # yaw and roll that go with a nod, relative to its depth: no head turns about one axis alone


@dataclass(frozen=True)
class Nod:
    """One nod.

    Attributes:
        start: Time in seconds.
        degrees: Depth of each cycle.
        seconds: Duration of each cycle.
        sideways: Yaw and roll relative to the depth.
    """

    start: float
    degrees: tuple[float, ...]
    seconds: tuple[float, ...]
    sideways: tuple[float, float]

    @property
    def end(self) -> float:
        """Time in seconds at which the head is back."""
        return self.start + sum(self.seconds)


def choose_nods(heard: HeardSpeech, amount: float, rng: np.random.Generator) -> tuple[Nod, ...]:
    """Return the nods with which a listener answers, in time order.

    Args:
        heard: What was noticed in the speech.
        amount: Factor on their number, as far as there are cues, and on their depth; 0 for none.
        rng: Source of the random variation. Cues take from it in time order, answered or not, so that neither a later
            cue nor `amount` changes what a nod is like.
    """
    cues = [(float(t), "back-channel") for t in heard.back_channels] + [(float(t), "pause") for t in heard.pauses]
    out: list[Nod] = []
    for time, kind in sorted(cues):
        chance, wait, sideways = rng.random(), rng.uniform(*PAUSE_DELAY), rng.normal(size=2) * SIDEWAYS
        cycles = int(rng.choice(CYCLES, p=CYCLE_SHARES))
        depth, frequency = _log_normal(DEGREES, rng), _log_normal(FREQUENCY, rng)
        variation = np.exp(rng.normal(size=(2, CYCLES[-1])) * [[0.15], [0.1]])
        start = time + (wait if kind == "pause" else 0.25 * (wait - PAUSE_DELAY[0]))
        if chance >= ANSWERED[kind] * amount or (out and start < out[-1].end + REST_SECONDS):
            continue
        degrees = min(amount, 1.5) * depth * LATER_CYCLE ** np.arange(cycles) * variation[0, :cycles]
        seconds = variation[1, :cycles] / frequency
        out.append(Nod(start, tuple(degrees), tuple(seconds), (float(sideways[0]), float(sideways[1]))))
    return tuple(out)


def _log_normal(figures: tuple[float, float, float, float], rng: np.random.Generator) -> float:
    median, deviation, least, greatest = figures
    return float(np.clip(median * np.exp(deviation * rng.normal()), least, greatest))


def nod_rotation(nods: Sequence[Nod], times: np.ndarray) -> np.ndarray:
    """Return pitch (up), yaw and roll (to the left) of the head in degrees (N, 3) at `times` (N,) in seconds.

    Each cycle goes down and back; between two cycles of one nod the head does not come up entirely.
    """
    out = np.zeros((len(times), 3))
    for nod in nods:
        phase = _cycle_phase(nod, times)
        inside = (phase >= 0) & (phase <= len(nod.degrees))
        at = phase[inside]
        number = np.minimum(at.astype(int), len(nod.degrees) - 1)
        depths = np.array([*nod.degrees, 0.0])
        share = at - number
        valley = 0.25 * depths[1:]  # how deep the head stays before the next cycle
        before = np.concatenate([[0.0], valley])[number]
        rest = before + (valley[number] - before) * share * share * (3 - 2 * share)
        curve = rest + (depths[number] - rest) * np.sin(np.pi * share) ** 2
        out[inside, 0] -= curve
        out[inside, 1:] += curve[:, None] * nod.sideways
    return out


def _cycle_phase(nod: Nod, times: np.ndarray) -> np.ndarray:
    """Position of each time in the nod, in cycles; outside it, -1."""
    edges = nod.start + np.concatenate([[0.0], np.cumsum(nod.seconds)])
    return np.interp(times, edges, np.arange(len(edges)), left=-1.0, right=-1.0)
