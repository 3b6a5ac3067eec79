"""Blinks: when they come, and how the lids close and open."""

from __future__ import annotations

import numpy as np

from kmtalk.speech.alignment import Alignment

TALKING_RATE, RESTING_RATE = 26 / 60.0, 17 / 60.0  # per second; Bentivoglio et al. 1997
CLOSE_SECONDS, SHUT_SECONDS, OPEN_SECONDS = 0.075, 0.045, 0.16
LEAST_INTERVAL = 0.45  # seconds between two blinks, so that each opens again
WORD_END_REACH = 0.35  # seconds within which a blink moves to the end of a word


def blink_times(alignment: Alignment, talking: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the times in seconds at which the lids close.

    Intervals are log-normal with the rates of talking and of resting people; blinks tend to fall on the ends of words.

    Args:
        alignment: Words of the clip.
        talking: 1 at frames of speech (N,), else 0.
        times: (N,) frame times in seconds.
        rng: Source of the random variation.

    Returns:
        Rising times.
    """
    ends = np.array([w.end for w in alignment.words])
    out: list[float] = []
    now = rng.uniform(0.3, 2.5)
    while len(times) and now < times[-1]:
        at = now
        if len(ends):
            nearest = float(ends[np.abs(ends - now).argmin()])
            at = nearest if abs(nearest - now) < WORD_END_REACH else now
        if not out or at - out[-1] >= LEAST_INTERVAL:
            out.append(at)
        rate = RESTING_RATE + float(np.interp(now, times, talking)) * (TALKING_RATE - RESTING_RATE)
        now += max(LEAST_INTERVAL, rng.lognormal(np.log(1 / rate) - 0.245, 0.7))  # the mean is 1 / rate
    return np.array(out)


def blink_curve(blinks: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the closure of the lids (N,) in [0, 1] at rising `times` (N,), for blinks at the given times.

    The lids close in 75 ms, stay shut for 45 ms, in which at least one frame of 24 a second lies, and open in 160 ms.
    """
    lids = np.zeros(len(times))
    for blink in blinks:
        first, last = blink - SHUT_SECONDS / 2 - CLOSE_SECONDS, blink + SHUT_SECONDS / 2 + OPEN_SECONDS
        part = slice(*np.searchsorted(times, (first, last)))
        t = times[part] - blink
        before, after = -SHUT_SECONDS / 2 - t, t - SHUT_SECONDS / 2
        closure = 1 - np.maximum(np.clip(before / CLOSE_SECONDS, 0, 1), np.clip(after / OPEN_SECONDS, 0, 1))
        lids[part] = np.maximum(lids[part], closure * closure * (3 - 2 * closure))
    return lids
