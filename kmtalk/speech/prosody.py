"""Loudness and pitch of speech."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, SILENCE_DB, rms_level

HOP_SECONDS = 0.010  # seconds


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
    voiced = (strength > 0.45) & (db > loud - 25)
    if voiced.sum() < 5:
        return Prosody(level, np.zeros_like(level), np.zeros_like(level))
    semitones = 12 * np.log2(f0 / np.median(f0[voiced]))
    semitones = np.clip(semitones, -10, 10)
    weight = gaussian_filter1d(voiced.astype(float), 8.0)
    smooth = gaussian_filter1d(np.where(voiced, semitones, 0.0), 8.0) / np.maximum(weight, 0.05)
    return Prosody(level, smooth * np.clip(weight * 2, 0, 1), weight)


def estimate_pitch(
    samples: np.ndarray, count: int, low: float = 70.0, high: float = 400.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the autocorrelation pitch in Hz and its strength in [0, 1] every `HOP_SECONDS`, from 40 ms windows."""
    width, hop = int(0.04 * SAMPLE_RATE), int(HOP_SECONDS * SAMPLE_RATE)
    padded = np.pad(samples, (width // 2, width + hop))
    shortest, longest = int(SAMPLE_RATE / high), int(SAMPLE_RATE / low)
    window = np.hanning(width)
    size = 2 * width
    window_correlation = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[: longest + 1]
    f0, strength = np.zeros(count), np.zeros(count)
    for start in range(0, count, 512):  # in blocks, to bound the memory
        stop = min(start + 512, count)
        index = np.arange(start, stop)[:, None] * hop + hop // 2 + np.arange(width)
        spectrum = np.fft.rfft(padded[index] * window, size, axis=1)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : longest + 1]
        zero = np.maximum(correlation[:, :1], 1e-9)
        relative = correlation / zero * (window_correlation[0] / window_correlation)
        band = relative[:, shortest : longest + 1]
        # taking the shortest lag that is nearly as good as the best avoids octave errors
        best = band.max(1, keepdims=True)
        first = (band > 0.92 * best).argmax(1)
        f0[start:stop] = SAMPLE_RATE / (first + shortest)
        strength[start:stop] = np.clip(best[:, 0], 0, 1)
    return f0, strength


def speech_activity(alignment: Alignment, prosody: Prosody, times: np.ndarray) -> np.ndarray:
    """Return 1 at `times` (N,) within 50 ms of a phone and 0 elsewhere; without phones, 1 at loud times."""
    if not alignment.phones:
        return (prosody.interpolate(times, prosody.level_db) > -25).astype(float)
    out = np.zeros(len(times))
    for phone in alignment.phones:
        out[slice(*np.searchsorted(times, (phone.start - 0.05, phone.end + 0.05)))] = 1.0
    return out
