"""Beat consistency of motion and audio."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult
from kmtalk.speech.audio import rms_level

SIGMA = 0.1  # seconds, width of the Gaussian in `beat_consistency`
MIN_BEAT_GAP = 0.1  # seconds, shortest distance of two beats
HOP_SECONDS = 0.01  # seconds, step of the loudness curve
MIN_RISE_DB = 3.0  # dB in 30 ms, least rise of loudness of a beat


def audio_beats(samples: np.ndarray) -> np.ndarray:
    """Return the onsets (m,) in s of mono samples (S,) at 16 kHz: peaks of the rise of loudness (dB, 30 ms window)."""
    level = np.clip(rms_level(samples, window=0.03, hop=HOP_SECONDS), -60, None)
    rise = np.convolve(np.gradient(level), np.ones(3), "same")
    peaks, _ = find_peaks(rise, height=MIN_RISE_DB, distance=round(MIN_BEAT_GAP / HOP_SECONDS))
    return (peaks + 0.5) * HOP_SECONDS


def motion_beats(path: np.ndarray, fps: float) -> np.ndarray:
    """Return the times (m,) in s where motion (N, k), such as head rotation or mouth opening, has minima of speed."""
    speed = np.linalg.norm(np.diff(path.reshape(len(path), -1), axis=0), axis=1) * fps
    lows, _ = find_peaks(-speed, distance=max(1, round(MIN_BEAT_GAP * fps)), prominence=0.05 * (np.ptp(speed) + 1e-12))
    return (lows + 1) / fps  # speed k is between frames k and k + 1


def beat_consistency(motion: np.ndarray, audio: np.ndarray, sigma: float = SIGMA) -> MetricResult:
    """Beat consistency, the mean over audio beats of exp(−d² / 2σ²), d the distance in s to the nearest motion beat.

    This is Bailando's beat align score, in seconds. Swap the two arguments for AI Choreographer's score, the mean over
    motion beats.

    Args:
        motion: Times of the motion beats in s.
        audio: Times of the audio beats in s.
        sigma: σ in s.

    Returns:
        A number from 0 to 1, without unit; 1 where each audio beat coincides with a motion beat.

    Raises:
        InputError: One of the two has no beats.
    """
    if not len(motion) or not len(audio):
        raise InputError("beat consistency: no beats in the " + ("motion" if len(audio) else "audio"))
    motion = np.sort(motion)
    following = np.searchsorted(motion, audio).clip(1, max(len(motion) - 1, 1))
    distance = np.minimum(
        np.abs(audio - motion[following - 1]), np.abs(audio - motion[following.clip(max=len(motion) - 1)])
    )
    value = float(np.exp(-np.square(distance) / (2 * sigma**2)).mean())
    return MetricResult("beat consistency", value, "", f"mean of {len(audio)} audio beats, sigma {sigma:g} s")
