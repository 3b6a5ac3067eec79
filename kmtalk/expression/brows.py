"""Brows: they rise on accents and with the pitch, and lower a little where the voice falls."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.speech.prosody import Prosody

ACCENT_SEMITONES = 2.0  # prominence of the pitch's peaks that count as accents
ACCENT_LIFT = 0.28  # weight of a lift at an accent of 5 semitones
RISE_SECONDS, FALL_SECONDS = 0.16, 0.42
LEAST_INTERVAL = 0.7  # seconds between two lifts


def brow_weights(prosody: Prosody, times: np.ndarray, scale: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the weights (N,) of the brows' shapes by name.

    Args:
        prosody: Loudness and pitch of the clip.
        times: (N,) frame times in seconds.
        scale: Factor on the motion.
        rng: Source of the random variation: not every accent lifts the brows, and not equally.
    """
    from scipy.signal import find_peaks  # slow to import

    zero = np.zeros(len(times))
    if len(times) < 2:
        return dict.fromkeys(("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), zero)
    fps = 1 / (times[1] - times[0])
    pitch = gaussian_filter1d(prosody.interpolate(times, prosody.pitch_semitones), 0.06 * fps)
    level = np.clip(prosody.interpolate(times, prosody.level_db) / 20 + 1, 0, 1)
    peaks, found = find_peaks(pitch * level, prominence=ACCENT_SEMITONES, distance=max(1, int(LEAST_INTERVAL * fps)))
    lift = zero.copy()
    for peak, prominence in zip(peaks, found["prominences"], strict=True):
        size = ACCENT_LIFT * min(prominence / 5.0, 1.5) * rng.choice([0.0, 0.6, 1.0, 1.3], p=[0.25, 0.25, 0.35, 0.15])
        part = slice(*np.searchsorted(times, (times[peak] - RISE_SECONDS, times[peak] + FALL_SECONDS)))
        t = times[part] - times[peak]
        bump = np.where(t < 0, np.clip(1 + t / RISE_SECONDS, 0, 1), np.clip(1 - t / FALL_SECONDS, 0, 1))
        lift[part] = np.maximum(lift[part], size * bump * bump * (3 - 2 * bump))
    lift = scale * (lift + 0.03 * np.clip(pitch, 0, 5))
    frown = scale * np.clip(-0.03 * (pitch + 2.0), 0, 0.25)
    return {
        "browInnerUp": np.clip(0.9 * lift, 0, 0.8),
        "browOuterUpLeft": np.clip(0.75 * lift, 0, 0.8),
        "browOuterUpRight": np.clip(0.65 * lift, 0, 0.8),
        "browDownLeft": frown,
        "browDownRight": frown,
    }
