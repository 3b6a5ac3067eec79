"""Mouths in millimetres: closures, contacts, speed, stillness, and how near they come to real lips.

A mouth is (N, 3) mm: aperture of the inner lips, width of the corners and drop of the chin, both
against rest, at ``fps``; frame n at (n + 0.5) / fps s. ``face.mouth.MouthRuler`` measures one on a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import welch

from kmtalk.articulation.targets import PHONE_TARGETS, Contact, canonical_phone
from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import rms_level

CHANNELS = ("aperture", "width", "chin")
CLOSED_MM = 1.0  # mm
LABIODENTAL_MM = 4.0  # mm of aperture: mean and two deviations of the f of real lips (shared phonetics, GRID s1)
BEFORE, AFTER = 0.06, 0.04  # seconds around a phone in which its contact may lie
SYLLABLE_BAND = (4.0, 10.0)  # Hz
MIN_SECONDS = 0.5  # seconds of motion: two rounds of the slowest in the band
MAX_LAG = 0.3  # seconds by which sound and lips are held against each other


@dataclass(frozen=True)
class MouthComparison:
    """One clip: what the real lips did (N, 3), what was made (N, 3), which frames are speech (N,), the true
    phones, and the sound (S,) at 16 kHz."""

    reference: np.ndarray
    predicted: np.ndarray
    speech_mask: np.ndarray
    alignment: Alignment
    samples: np.ndarray
    fps: float


def correlation(clips: Sequence[MouthComparison]) -> tuple[MetricResult, ...]:
    """Pearson r of each channel, pooled over frames of speech; 0 for a mouth that does not move."""
    real, made = _pool_speech(clips)
    moving = made.std(0) > 1e-9
    r = [np.corrcoef(real[:, k], made[:, k])[0, 1] if moving[k] else 0.0 for k in range(3)]
    pooled = f"over {len(real)} frames of speech"
    return tuple(MetricResult(f"{name} r", float(v), "", pooled) for name, v in zip(CHANNELS, r, strict=True))


def rmse(clips: Sequence[MouthComparison]) -> tuple[MetricResult, ...]:
    """Root mean squared error of each channel in mm, pooled over frames of speech."""
    real, made = _pool_speech(clips)
    error, pooled = np.sqrt(((real - made) ** 2).mean(0)), f"over {len(real)} frames of speech"
    return tuple(MetricResult(f"{name} RMSE", float(v), "mm", pooled) for name, v in zip(CHANNELS, error, strict=True))


def _pool_speech(clips: Sequence[MouthComparison]) -> tuple[np.ndarray, np.ndarray]:
    real = np.concatenate([c.reference[c.speech_mask] for c in clips])
    return real, np.concatenate([c.predicted[c.speech_mask] for c in clips])


def minimum_apertures(
    mouth: np.ndarray, alignment: Alignment, fps: float, contact: Contact = Contact.BILABIAL
) -> list[float]:
    """The least aperture in mm about each phone of a ``contact``: p, b and m, or f and v."""
    times, out = (np.arange(len(mouth)) + 0.5) / fps, []
    for phone in alignment.phones:
        near = (times > phone.start - BEFORE) & (times < phone.end + AFTER)
        if PHONE_TARGETS[canonical_phone(phone.label)].contact is contact and near.any():
            out.append(float(mouth[near, 0].min()))
    return out


def closure_rate(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """Share of p, b and m whose aperture falls under CLOSED mm; NaN where there is none. ``mouths``: each with its
    phones and fps."""
    return _contact_rate(mouths, "closure rate", Contact.BILABIAL, CLOSED_MM, "p b m")


def labiodental_rate(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """Share of f and v whose aperture falls under NEAR_TEETH mm, as real lips' does; NaN where there is none."""
    return _contact_rate(mouths, "labiodental rate", Contact.LABIODENTAL, LABIODENTAL_MM, "f v")


def _contact_rate(
    mouths: Sequence[tuple[np.ndarray, Alignment, float]],
    name: str,
    contact: Contact,
    under: float,
    phones: str,
) -> MetricResult:
    least = np.array([a for m, spoken, fps in mouths for a in minimum_apertures(m, spoken, fps, contact)])
    share = float((least < under).mean()) if len(least) else float("nan")
    return MetricResult(name, share, "", f"of {len(least)} {phones} under {under:g} mm")


def open_range(mouth: np.ndarray) -> float:
    """How far the mouth opens, mm: the 95th percentile of its aperture over the least."""
    return float(np.percentile(mouth[:, 0], 95) - mouth[:, 0].min())


def find_silences(alignment: Alignment, duration: float, least: float = 0.3) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds of ``least`` s or more without a phone."""
    bounds = [0.0, *(t for p in alignment.phones for t in (p.start, p.end)), duration]
    return [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if b - a >= least]


def silence_deviations(
    mouth: np.ndarray, fps: float, spans: list[tuple[float, float]], settle: float = 0.1, ready: float = 0.1
) -> list[float]:
    """Standard deviation of aperture, mm, in each span less its first ``settle`` and last ``ready`` s."""
    times = (np.arange(len(mouth)) + 0.5) / fps
    inside = [(times > a + settle) & (times < b - ready) for a, b in spans]
    return [float(mouth[i, 0].std()) for i in inside if i.sum() >= 2]


def stillness(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """How much lips stir in silence: the median, over silences of 0.3 s or more less 0.1 s at each end, of the
    aperture's standard deviation as a share of the clip's open range; NaN without silences. 0 is still."""
    shares: list[float] = []
    for mouth, alignment, fps in mouths:
        deviations = silence_deviations(mouth, fps, find_silences(alignment, len(mouth) / fps))
        shares += [d / max(open_range(mouth), 1e-9) for d in deviations]
    value = float(np.median(shares)) if shares else float("nan")
    return MetricResult("silence stillness", value, "of the open range", f"median of {len(shares)} silences")


def speed_percentile(mouths: Sequence[tuple[np.ndarray, float]]) -> MetricResult:
    """99th percentile of aperture speed, mm/s, over all frames of ``mouths``, each with its fps."""
    speed = np.concatenate([np.abs(np.diff(m[:, 0])) * fps for m, fps in mouths])
    return MetricResult("aperture speed", float(np.percentile(speed, 99)), "mm/s", f"99 % of {len(speed)} frames")


def band_power(mouths: Sequence[tuple[np.ndarray, float]]) -> MetricResult:
    """Power of aperture speed between 4 and 10 Hz, (mm/s)², mean over clips (Welch, Hann, ≤ 2 s): where lips make
    syllables, and what a mean of many motions has least of. Clips under 0.5 s are left out; NaN where none is left."""
    total = []
    for mouth, fps in mouths:
        speed = np.diff(mouth[:, 0]) * fps
        if len(speed) < MIN_SECONDS * fps:
            continue
        frequency, density = welch(speed, fps, nperseg=min(len(speed), round(2 * fps)))
        inside = (frequency >= SYLLABLE_BAND[0]) & (frequency <= SYLLABLE_BAND[1])
        total.append(density[inside].sum() * (frequency[1] - frequency[0]))
    value = float(np.mean(total)) if total else float("nan")
    return MetricResult("4-10 Hz power", value, "(mm/s)²", f"mean of {len(total)} clips")


def audiovisual_lead(mouths: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> MetricResult:
    """Seconds by which lip-opening velocity runs before the sound's envelope (dB above −60 dBFS): the lag of their
    best match within ±300 ms, in steps of 10 ms; the median over ``mouths``, each with its samples at 16 kHz and
    fps. Clips that leave no 0.5 s to match are left out; NaN where none is left. Real lips (GRID s1) lead by 50 ms."""
    each = [_clip_lead(m, s, fps) for m, s, fps in mouths if len(m) / fps >= 2 * MAX_LAG + MIN_SECONDS]
    value = float(np.median(each)) if each else float("nan")
    return MetricResult("A/V lead", value, "s", f"median of {len(each)} clips")


def _clip_lead(mouth: np.ndarray, samples: np.ndarray, fps: float) -> float:
    step = 0.01
    reach = round(MAX_LAG / step)
    own = (np.arange(len(mouth)) + 0.5) / fps
    clock = np.arange(int(own[-1] / step)) * step
    opening = np.gradient(np.interp(clock, own, mouth[:, 0]))
    level = np.clip(rms_level(samples, window=0.03, hop=step) + 60, 0, None)
    envelope = np.interp(clock, (np.arange(len(level)) + 0.5) * step, level)
    smooth = np.hanning(9) / np.hanning(9).sum()
    envelope = np.convolve(envelope, smooth, "same")
    opening, envelope = opening - opening.mean(), envelope - envelope.mean()
    lags = np.arange(-reach, reach + 1)
    match = [float((np.roll(opening, lag)[reach:-reach] * envelope[reach:-reach]).sum()) for lag in lags]
    return float(lags[int(np.argmax(match))] * step)


def ldtw(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Dynamic time warping of mouth opening: for apertures (N,) and (M,) mm of each clip, the least sum of |p − g|
    along a path that runs through both, over N + M; a step through both counts twice, one through either once (Sakoe
    and Chiba's symmetric form, which no path can make small by being long). The mean over clips, mm."""
    if len(pred) != len(gt) or not len(pred):
        raise InputError(f"LDTW: {len(pred)} predicted clips for {len(gt)} true ones")
    each = [_dtw_distance(np.asarray(p, float), np.asarray(g, float)) for p, g in zip(pred, gt, strict=True)]
    return MetricResult("LDTW", float(np.mean(each)), "mm", f"mean of {len(each)} clips")


def _dtw_distance(p: np.ndarray, g: np.ndarray) -> float:
    """Least cost of a path, by antidiagonals, over n + m."""
    cost = np.abs(p[:, None] - g[None])
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        here = cost[i - 1, j - 1]
        total[i, j] = np.minimum(total[i - 1, j - 1] + 2 * here, np.minimum(total[i - 1, j], total[i, j - 1]) + here)
    return float(total[n, m] / (n + m))
