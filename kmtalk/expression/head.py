"""Rotations of the head while speaking.

Readers of single sentences hardly move the head (GRID: standard deviation 0.6° in pitch). Three public speakers,
tracked, move it by 4.0°, 3.4° and 2.2° in pitch, yaw and roll within some seconds, at 8, 6 and 4 °/s in median and 34,
29 and 15 °/s in the 95th percentile; the autocorrelation falls to a half in 0.3 s. The motion here has similar figures:
a part of the pitch follows the voice, the rest is random.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.expression.noise import smooth_noise
from kmtalk.face.joints import HEAD_DEGREES
from kmtalk.speech.prosody import Prosody

DEVIATION = (4.0, 3.4, 2.2)
"""Standard deviation of pitch, yaw and roll in degrees while speaking."""

HALF_SECONDS = (0.22, 0.75)  # autocorrelation of the quick and the slow part
QUICK_SHARE = 0.5  # of the variance
VOICE_SHARE = 0.35  # of the variance of pitch that follows the voice
RESTING = 0.35  # share of the motion in pauses
MOST_DEGREES = 9.5  # greatest rotation: the shapes are linear, and end at 10 degrees


def head_rotation(
    prosody: Prosody, talking: np.ndarray, times: np.ndarray, amount: float, rng: np.random.Generator
) -> np.ndarray:
    """Return pitch (up), yaw (to the left) and roll (to the left) of the head in degrees.

    Args:
        prosody: Loudness and pitch of the clip.
        talking: 1 at frames of speech (N,), else 0.
        times: (N,) frame times in seconds.
        amount: Factor on the motion; 1 moves as much as public speakers do.
        rng: Source of the random part.

    Returns:
        (N, 3).
    """
    if len(times) < 2:
        return np.zeros((len(times), 3))
    fps = 1 / (times[1] - times[0])
    activity = gaussian_filter1d(talking, 0.3 * fps, mode="nearest")
    quick, slow = np.sqrt(QUICK_SHARE), np.sqrt(1 - QUICK_SHARE)
    out = np.stack(
        [sum(s * smooth_noise(len(times), fps, half, rng) for s, half in zip((quick, slow), HALF_SECONDS, strict=True))
         for _ in DEVIATION],
        axis=1,
    )  # fmt: skip
    level = np.clip(prosody.interpolate(times, prosody.level_db) / 20 + 1, 0, 1)
    beat = gaussian_filter1d(level, 0.09 * fps) - gaussian_filter1d(level, 0.45 * fps)
    pitch = gaussian_filter1d(prosody.interpolate(times, prosody.pitch_semitones), 0.1 * fps)
    voice = _standardized(-beat) + _standardized(
        pitch
    )  # the head nods down on loud syllables, and rises with the pitch
    out[:, 0] = np.sqrt(1 - VOICE_SHARE) * out[:, 0] + np.sqrt(VOICE_SHARE) * _standardized(voice)
    degrees = amount * np.array(DEVIATION) * out * (RESTING + (1 - RESTING) * activity)[:, None]
    return MOST_DEGREES * np.tanh(degrees / MOST_DEGREES)


def _standardized(curve: np.ndarray) -> np.ndarray:
    deviation = float(curve.std())
    return (curve - curve.mean()) / deviation if deviation > 1e-9 else np.zeros_like(curve)


def head_weights(rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights (N,) of the head's shapes for pitch, yaw and roll (N, 3) in degrees."""
    out = {}
    for k, (plus, minus) in enumerate(
        (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))
    ):
        weight = rotation[:, k] / HEAD_DEGREES
        out[plus], out[minus] = np.clip(weight, 0, 1), np.clip(-weight, 0, 1)
    return out
