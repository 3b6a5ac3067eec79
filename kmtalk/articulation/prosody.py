"""Loudness and pitch of speech, and the brow, eyelid and head movement derived from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, SILENCE_DB, rms_level

HOP_SECONDS = 0.010  # seconds
TALKING_BLINK_RATE = 26 / 60.0  # per second; Bentivoglio et al. 1997
RESTING_BLINK_RATE = 17 / 60.0


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


def analyze_prosody(samples: np.ndarray) -> Prosody:
    """Compute loudness and pitch of mono samples (S,) at `SAMPLE_RATE`."""
    db = rms_level(samples, window=0.03, hop=HOP_SECONDS)
    loud = max(float(np.percentile(db, 95)), SILENCE_DB)
    level = np.clip(gaussian_filter1d(np.clip(db - loud, -40, 6), 2.0), -40, 6)
    f0, strength = _estimate_pitch(samples, len(db))
    voiced = (strength > 0.45) & (db > loud - 25)
    if voiced.sum() < 5:
        return Prosody(level, np.zeros_like(level), np.zeros_like(level))
    semitones = 12 * np.log2(f0 / np.median(f0[voiced]))
    semitones = np.clip(semitones, -10, 10)
    weight = gaussian_filter1d(voiced.astype(float), 8.0)
    smooth = gaussian_filter1d(np.where(voiced, semitones, 0.0), 8.0) / np.maximum(weight, 0.05)
    return Prosody(level, smooth * np.clip(weight * 2, 0, 1), weight)


def _estimate_pitch(
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


def _smooth_noise(count: int, fps: float, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise (count,) of unit variance, low-pass filtered at `cutoff` Hz."""
    sigma = fps / (2 * np.pi * cutoff)
    pad = int(4 * sigma) + 1
    noise = gaussian_filter1d(rng.normal(size=count + 2 * pad), sigma)[pad : pad + count]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def upper_face_weights(
    prosody: Prosody, alignment: Alignment, times: np.ndarray, fps: float, scale: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Compute brow, eyelid and head movement from the voice.

    Brows rise with pitch peaks and in loud parts. The head nods with slow pitch changes, drifts slightly and rests in
    pauses. Blinks have the rates of talking and resting people and tend to fall on the ends of words.

    Args:
        prosody: Loudness and pitch of the clip.
        alignment: Its phones and words.
        times: (N,) frame times in seconds.
        fps: Frames per second.
        scale: Scale of brow and head movement.
        rng: Source of the random head drift and blink times.

    Returns:
        Weights (N,) by shape name.
    """
    count = len(times)
    talking = _speech_activity(alignment, prosody, times)
    activity = np.clip(gaussian_filter1d(talking, 0.25 * fps), 0, 1)
    pitch = gaussian_filter1d(prosody.interpolate(times, prosody.pitch_semitones), 0.06 * fps)
    slow = gaussian_filter1d(pitch, 0.35 * fps)
    level = np.clip(prosody.interpolate(times, prosody.level_db) / 20 + 1, 0, 1)
    brow = np.clip(0.055 * np.maximum(pitch - 1.0, 0) + 0.10 * (level - 0.6).clip(0), 0, 0.6)
    brow = gaussian_filter1d(brow, 0.07 * fps) * scale
    frown = np.clip(-0.03 * (pitch + 2.0), 0, 0.25) * scale
    out = {
        "browInnerUp": np.clip(brow * 0.9, 0, 1),
        "browOuterUpLeft": np.clip(brow * 0.6, 0, 1),
        "browOuterUpRight": np.clip(brow * 0.6, 0, 1),
        "browDownLeft": frown,
        "browDownRight": frown,
    }
    drift = [_smooth_noise(count, fps, cutoff, rng) for cutoff in (0.35, 0.30, 0.45)]
    beat = gaussian_filter1d(level - gaussian_filter1d(level, 0.6 * fps), 0.08 * fps)
    nod = activity * scale * (0.030 * slow + 0.10 * beat + 0.035 * drift[0])
    turn = activity * scale * 0.055 * drift[1]
    tilt = activity * scale * 0.035 * drift[2]
    for name, curve in (("headPitch", nod), ("headYaw", turn), ("headRoll", tilt)):
        plus, minus = {"headPitch": ("Up", "Down")}.get(name, ("Left", "Right"))
        # one curve drives the shapes of both directions
        out[name + plus], out[name + minus] = np.clip(curve, 0, 0.5), np.clip(-curve, 0, 0.5)
    lids = _blink_curve(alignment, talking, times, rng)
    out["eyeBlinkLeft"] = out["eyeBlinkRight"] = lids
    return out


def _speech_activity(alignment: Alignment, prosody: Prosody, times: np.ndarray) -> np.ndarray:
    """Return 1 at `times` (N,) within 50 ms of a phone and 0 elsewhere; without phones, 1 at loud times."""
    if not alignment.phones:
        return (prosody.interpolate(times, prosody.level_db) > -25).astype(float)
    out = np.zeros(len(times))
    for phone in alignment.phones:
        out[(times >= phone.start - 0.05) & (times < phone.end + 0.05)] = 1.0
    return out


def _blink_curve(alignment: Alignment, talking: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return eyelid closure (N,) in [0, 1]; a blink closes in 75 ms, stays shut for 40 ms and opens in 150 ms."""
    lids = np.zeros(len(times))
    ends = np.array([w.end for w in alignment.words])
    now = rng.uniform(0.3, 2.5)
    while now < times[-1]:
        blink_time = now
        if len(ends):
            nearest = float(ends[np.abs(ends - now).argmin()])
            if abs(nearest - now) < 0.35:
                blink_time = nearest
        t = times - blink_time
        closing, opening = np.clip((t + 0.095) / 0.075, 0, 1), np.clip((0.17 - t) / 0.15, 0, 1)
        closure = np.minimum(closing, opening)
        lids = np.maximum(lids, closure * closure * (3 - 2 * closure))
        talking_now = float(np.interp(now, times, talking))
        rate = RESTING_BLINK_RATE + talking_now * (TALKING_BLINK_RATE - RESTING_BLINK_RATE)
        now += max(0.4, rng.lognormal(np.log(1 / rate) - 0.245, 0.7))  # the mean is 1 / rate
    return lids
