"""Mouth metrics: numbers with a unit, a pooling and a name of their data.

A mouth is (N, 3) mm: aperture of the inner lips, width of the corners and drop of the chin, both
against rest, at ``fps``; frame n at (n + 0.5) / fps s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import welch

from kmtalk.articulation.targets import TARGETS, Contact, canonical
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import loudness

CLOSED = 1.0  # mm
BEFORE, AFTER = 0.06, 0.04  # seconds around a bilabial in which its closure may lie
BAND = (4.0, 10.0)  # Hz


@dataclass(frozen=True)
class Scored:
    """One clip: what the real lips did (N, 3), what was made (N, 3), which frames are speech (N,), the true
    phones, and the sound (S,) at 16 kHz."""

    real: np.ndarray
    made: np.ndarray
    speaking: np.ndarray
    alignment: Alignment
    samples: np.ndarray
    fps: float


def correlation(clips: list[Scored]) -> np.ndarray:
    """Pearson r of each channel (3,), pooled over frames of speech; 0 for a mouth that does not move."""
    real, made = _pooled(clips)
    moving = made.std(0) > 1e-9
    return np.array([np.corrcoef(real[:, k], made[:, k])[0, 1] if moving[k] else 0.0 for k in range(3)])


def rmse(clips: list[Scored]) -> np.ndarray:
    """Root mean squared error of each channel (3,) in mm, pooled over frames of speech."""
    real, made = _pooled(clips)
    error: np.ndarray = np.sqrt(((real - made) ** 2).mean(0))
    return error


def _pooled(clips: list[Scored]) -> tuple[np.ndarray, np.ndarray]:
    real = np.concatenate([c.real[c.speaking] for c in clips])
    return real, np.concatenate([c.made[c.speaking] for c in clips])


def closures(mouth: np.ndarray, alignment: Alignment, fps: float) -> list[float]:
    """The least aperture in mm about each p, b and m."""
    times, out = (np.arange(len(mouth)) + 0.5) / fps, []
    for phone in alignment.phones:
        near = (times > phone.start - BEFORE) & (times < phone.end + AFTER)
        if TARGETS[canonical(phone.label)].contact is Contact.BILABIAL and near.any():
            out.append(float(mouth[near, 0].min()))
    return out


def closed_share(clips: list[Scored]) -> float:
    """Share of bilabials whose aperture falls under CLOSED mm; NaN where there is none."""
    least = [a for c in clips for a in closures(c.made, c.alignment, c.fps)]
    return float((np.array(least) < CLOSED).mean()) if least else float("nan")


def open_range(mouth: np.ndarray) -> float:
    """How far the mouth opens, mm: the 95th percentile of its aperture over the least."""
    return float(np.percentile(mouth[:, 0], 95) - mouth[:, 0].min())


def silences(alignment: Alignment, duration: float, least: float = 0.3) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds of ``least`` s or more without a phone."""
    bounds = [0.0, *(t for p in alignment.phones for t in (p.start, p.end)), duration]
    return [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if b - a >= least]


def stillness(
    mouth: np.ndarray, fps: float, spans: list[tuple[float, float]], settle: float, ready: float
) -> list[float]:
    """Standard deviation of aperture, mm, in each span less its first ``settle`` and last ``ready`` s."""
    times = (np.arange(len(mouth)) + 0.5) / fps
    inside = [(times > a + settle) & (times < b - ready) for a, b in spans]
    return [float(mouth[i, 0].std()) for i in inside if i.sum() >= 2]


def fast_speed(clips: list[Scored]) -> float:
    """99th percentile of aperture speed, mm/s, over all frames."""
    speed = np.concatenate([np.abs(np.diff(c.made[:, 0])) * c.fps for c in clips])
    return float(np.percentile(speed, 99))


def band_power(mouths: list[np.ndarray], fps: float) -> float:
    """Power of aperture speed between 4 and 10 Hz, (mm/s)², mean over clips (Welch, Hann, ≤ 2 s)."""
    total = []
    for mouth in mouths:
        speed = np.diff(mouth[:, 0]) * fps
        frequency, density = welch(speed, fps, nperseg=min(len(speed), round(2 * fps)))
        inside = (frequency >= BAND[0]) & (frequency <= BAND[1])
        total.append(density[inside].sum() * (frequency[1] - frequency[0]))
    return float(np.mean(total))


def lead(mouth: np.ndarray, samples: np.ndarray, fps: float) -> float:
    """Seconds by which lip-opening velocity runs before the sound's envelope (dB above −60 dBFS): the lag
    of their best match within ±300 ms, in steps of 10 ms. Real lips (GRID s1) lead by 50 ms in median."""
    step, reach = 0.01, 30
    own = (np.arange(len(mouth)) + 0.5) / fps
    clock = np.arange(int(own[-1] / step)) * step
    opening = np.gradient(np.interp(clock, own, mouth[:, 0]))
    level = np.clip(loudness(samples, window=0.03, hop=step) + 60, 0, None)
    envelope = np.interp(clock, (np.arange(len(level)) + 0.5) * step, level)
    smooth = np.hanning(9) / np.hanning(9).sum()
    envelope = np.convolve(envelope, smooth, "same")
    opening, envelope = opening - opening.mean(), envelope - envelope.mean()
    lags = np.arange(-reach, reach + 1)
    match = [float((np.roll(opening, lag)[reach:-reach] * envelope[reach:-reach]).sum()) for lag in lags]
    return float(lags[int(np.argmax(match))] * step)
