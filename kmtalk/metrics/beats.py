"""Whether motion keeps the beat of the sound."""

from __future__ import annotations

import numpy as np
from scipy.signal import find_peaks

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult
from kmtalk.speech.audio import rms_level

SIGMA = 0.1  # seconds
MIN_BEAT_GAP = 0.1  # seconds between two beats
HOP = 0.01  # seconds
MIN_RISE_DB = 3.0  # dB in 30 ms, from which a rise of loudness is a beat


def audio_beats(samples: np.ndarray) -> np.ndarray:
    """Onsets (m,) in s of mono sound (S,) at 16 kHz: where loudness (dB, 30 ms) rises fastest."""
    level = np.clip(rms_level(samples, window=0.03, hop=HOP), -60, None)
    rise = np.convolve(np.gradient(level), np.ones(3), "same")
    peaks, _ = find_peaks(rise, height=MIN_RISE_DB, distance=round(MIN_BEAT_GAP / HOP))
    return (peaks + 0.5) * HOP


def motion_beats(path: np.ndarray, fps: float) -> np.ndarray:
    """Where motion (N, k), such as head turns or the mouth's opening, comes to rest, s: least speed between peaks."""
    speed = np.linalg.norm(np.diff(path.reshape(len(path), -1), axis=0), axis=1) * fps
    lows, _ = find_peaks(-speed, distance=max(1, round(MIN_BEAT_GAP * fps)), prominence=0.05 * (np.ptp(speed) + 1e-12))
    return (lows + 1) / fps  # a step lies between two frames


def beat_consistency(motion: np.ndarray, audio: np.ndarray, sigma: float = SIGMA) -> MetricResult:
    """BC = mean over audio beats (s) of exp(−d² / 2σ²), d to the nearest motion beat (Bailando's beat align score, in
    seconds); 1 where every beat is moved to. To ask whether every move falls on a beat, as AI Choreographer does, give
    the two the other way round."""
    if not len(motion) or not len(audio):
        raise InputError("beat consistency: no beats in the " + ("motion" if len(audio) else "sound"))
    motion = np.sort(motion)
    after = np.searchsorted(motion, audio).clip(1, max(len(motion) - 1, 1))
    away = np.minimum(np.abs(audio - motion[after - 1]), np.abs(audio - motion[after.clip(max=len(motion) - 1)]))
    value = float(np.exp(-np.square(away) / (2 * sigma**2)).mean())
    return MetricResult("beat consistency", value, "", f"mean of {len(audio)} audio beats, sigma {sigma:g} s")
