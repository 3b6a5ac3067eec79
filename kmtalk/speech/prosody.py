"""Loudness and pitch of speech."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, SILENCE_DB, rms_level

HOP_SECONDS = 0.010  # seconds
VOICED_STRENGTH = 0.45  # autocorrelation from which sound is voiced
VOICED_RANGE_DB = 25.0  # dB below the loud parts of a clip in which voiced sound is
_SHORTEST, _LONGEST = SAMPLE_RATE // 400, SAMPLE_RATE // 70  # samples: periods of 400 and of 70 Hz


@dataclass(frozen=True)
class Prosody:
    """Loudness and pitch curves of a clip. Value i is at (i + 0.5) · `HOP_SECONDS` seconds.

    Attributes:
        level_db: Level in dB relative to the loud parts of the clip (95th percentile); quieter is negative.
        pitch_semitones: Smoothed pitch in semitones relative to the speaker's median; 0 in unvoiced parts.
        voiced: Voicing, in [0, 1].
    """

    level_db: np.ndarray
    pitch_semitones: np.ndarray
    voiced: np.ndarray

    def interpolate(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return `values`, one of the curves, interpolated at `times` in seconds."""
        value_times = (np.arange(len(values)) + 0.5) * HOP_SECONDS
        return np.interp(times, value_times, values)


def loudness(samples: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the level (N,) of mono samples (S,) at `times` (N,) in seconds, in dB as `Prosody.level_db`."""
    level = _relative_level(rms_level(samples, window=0.03, hop=HOP_SECONDS))[0]
    return np.interp(times, (np.arange(len(level)) + 0.5) * HOP_SECONDS, level)


def _relative_level(db: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the smoothed level relative to the loud parts, and the level of those, in dB."""
    loud = max(float(np.percentile(db, 95)), SILENCE_DB)
    return np.clip(gaussian_filter1d(np.clip(db - loud, -40, 6), 2.0), -40, 6), loud


def analyze_prosody(samples: np.ndarray) -> Prosody:
    """Compute loudness and pitch of mono samples (S,) at `SAMPLE_RATE`."""
    db = rms_level(samples, window=0.03, hop=HOP_SECONDS)
    level, loud = _relative_level(db)
    f0, strength = estimate_pitch(samples, len(db))
    voiced = (strength > VOICED_STRENGTH) & (db > loud - VOICED_RANGE_DB)
    if voiced.sum() < 5:
        return Prosody(level, np.zeros_like(level), np.zeros_like(level))
    semitones = 12 * np.log2(f0 / np.median(f0[voiced]))
    semitones = np.clip(semitones, -10, 10)
    weight = gaussian_filter1d(voiced.astype(float), 8.0)
    smooth = gaussian_filter1d(np.where(voiced, semitones, 0.0), 8.0) / np.maximum(weight, 0.05)
    return Prosody(level, smooth * np.clip(weight * 2, 0, 1), weight)


def pitch_contour(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the fundamental frequency of mono samples (S,) at `SAMPLE_RATE`, one value every `HOP_SECONDS`.

    Returns:
        (M,) Hz, from 70 to 400, and (M,) bool, whether the sound is voiced; the frequency means nothing where it is
        not. Both are measured in the 40 ms around (i + 0.5) · `HOP_SECONDS` seconds, by autocorrelation, and are the
        raw data of `Prosody` with the lag interpolated between samples.
    """
    db = rms_level(samples, window=0.03, hop=HOP_SECONDS)
    f0, voiced = np.zeros(len(db)), np.zeros(len(db), bool)
    for start, band in _lag_correlations(samples, len(db)):
        lag = _shortest_good_lag(band)
        rows = np.arange(len(band))
        for _ in range(_LONGEST - _SHORTEST):  # up to the peak on whose flank it is
            following = np.minimum(lag + 1, band.shape[1] - 1)
            higher = band[rows, following] > band[rows, lag]
            if not higher.any():
                break
            lag = np.where(higher, following, lag)
        middle = np.clip(lag, 1, band.shape[1] - 2)
        left, peak, right = (band[rows, middle + k] for k in (-1, 0, 1))
        curvature = left - 2 * peak + right
        shift = np.where(curvature < 0, 0.5 * (left - right) / np.minimum(curvature, -1e-12), 0.0)
        f0[start : start + len(band)] = SAMPLE_RATE / (middle + np.clip(shift, -1, 1) + _SHORTEST)
        voiced[start : start + len(band)] = band.max(1) > VOICED_STRENGTH
    return f0, voiced & (db > _relative_level(db)[1] - VOICED_RANGE_DB)


def estimate_pitch(samples: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pitch in Hz, by the nearest lag, and its strength in [0, 1] every `HOP_SECONDS`."""
    f0, strength = np.zeros(count), np.zeros(count)
    for start, band in _lag_correlations(samples, count):
        f0[start : start + len(band)] = SAMPLE_RATE / (_shortest_good_lag(band) + _SHORTEST)
        strength[start : start + len(band)] = np.clip(band.max(1), 0, 1)
    return f0, strength


def _shortest_good_lag(band: np.ndarray) -> np.ndarray:
    """Return the index (n,) of the shortest lag that is nearly as good as the best, which avoids octave errors."""
    first: np.ndarray = (band > 0.92 * band.max(1, keepdims=True)).argmax(1)
    return first


def _lag_correlations(samples: np.ndarray, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield, in blocks, the first row and the autocorrelation (n, lags) of 40 ms windows every `HOP_SECONDS`.

    The lags are `_SHORTEST` to `_LONGEST` samples.
    """
    width, hop = int(0.04 * SAMPLE_RATE), int(HOP_SECONDS * SAMPLE_RATE)
    padded = np.pad(samples, (width // 2, width + hop))
    window = np.hanning(width)
    size = 2 * width
    window_correlation = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[: _LONGEST + 1]
    for start in range(0, count, 512):  # in blocks, to bound the memory
        stop = min(start + 512, count)
        index = np.arange(start, stop)[:, None] * hop + hop // 2 + np.arange(width)
        spectrum = np.fft.rfft(padded[index] * window, size, axis=1)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : _LONGEST + 1]
        zero = np.maximum(correlation[:, :1], 1e-9)
        relative = correlation / zero * (window_correlation[0] / window_correlation)
        yield start, relative[:, _SHORTEST : _LONGEST + 1]


def speech_activity(alignment: Alignment, prosody: Prosody, times: np.ndarray) -> np.ndarray:
    """Return 1 at `times` (N,) within 50 ms of a phone and 0 elsewhere; without phones, 1 at loud times."""
    if not alignment.phones:
        return (prosody.interpolate(times, prosody.level_db) > -25).astype(float)
    out = np.zeros(len(times))
    for phone in alignment.phones:
        out[(times >= phone.start - 0.05) & (times < phone.end + 0.05)] = 1.0
    return out
