"""Metrics of mouth motion in mm: accuracy, closures, contacts, speed, stillness in silence and audio-visual lead.

A mouth is an array (N, 5) in mm, the channels of `kmtalk.face.mouth.LIP_CHANNELS`: aperture of the inner lips, and,
relative to rest, distance of the corners, rise of the upper and drop of the lower lip, and inner width; frame n is at
(n + 0.5) / fps s. `kmtalk.face.mouth.MouthMeasurer` measures it on a mesh. Where a
function takes several mouths, each comes with its alignment or samples, and its fps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import welch

from kmtalk.articulation.targets import PHONE_TARGETS, Contact
from kmtalk.errors import InputError
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.metrics.result import MetricResult
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import rms_level
from kmtalk.speech.phones import canonical_phone

CLOSED_MM = 1.0  # mm of aperture below which lips count as closed
LABIODENTAL_MM = 4.0  # mm of aperture: mean plus two standard deviations of f in real lips (shared phonetics, GRID s1)
BEFORE, AFTER = 0.06, 0.04  # seconds before and after a phone in which its contact may occur
SYLLABLE_BAND = (4.0, 10.0)  # Hz, rate of syllables
MIN_SECONDS = 0.5  # seconds of motion: two periods of the lowest frequency of the band
MAX_LAG = 0.3  # seconds, greatest lag at which audio and lips are correlated


@dataclass(frozen=True)
class MouthComparison:
    """A clip's true and predicted mouth.

    Attributes:
        reference: True mouth (N, 5) in mm.
        predicted: Predicted mouth (N, 5) in mm.
        utterance_mask: Frames of speech (N,).
        alignment: True phones.
        samples: Mono samples (S,) at 16 kHz.
        fps: Frames per second.
    """

    reference: np.ndarray
    predicted: np.ndarray
    utterance_mask: np.ndarray
    alignment: Alignment
    samples: np.ndarray
    fps: float


def correlation(clips: Sequence[MouthComparison]) -> tuple[MetricResult, ...]:
    """Pearson r of each channel, pooled over frames of speech; 0 where a channel does not move."""
    real, predicted = _pool_speech(clips)
    moving = predicted.std(0) > 1e-9
    r = [np.corrcoef(real[:, k], predicted[:, k])[0, 1] if moving[k] else 0.0 for k in range(len(moving))]
    pooling = f"over {len(real)} frames of speech"
    return tuple(MetricResult(f"{name} r", float(v), "", pooling) for name, v in zip(LIP_CHANNELS, r, strict=True))


def rmse(clips: Sequence[MouthComparison]) -> tuple[MetricResult, ...]:
    """Root mean squared error of each channel in mm, pooled over frames of speech."""
    real, predicted = _pool_speech(clips)
    error, pooling = np.sqrt(((real - predicted) ** 2).mean(0)), f"over {len(real)} frames of speech"
    return tuple(
        MetricResult(f"{name} RMSE", float(v), "mm", pooling) for name, v in zip(LIP_CHANNELS, error, strict=True)
    )


def _pool_speech(clips: Sequence[MouthComparison]) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted mouths (n, 5) in all frames of speech."""
    real = np.concatenate([c.reference[c.utterance_mask] for c in clips])
    return real, np.concatenate([c.predicted[c.utterance_mask] for c in clips])


def minimum_apertures(
    mouth: np.ndarray, alignment: Alignment, fps: float, contact: Contact = Contact.BILABIAL
) -> list[float]:
    """Return the least aperture in mm around each phone of a `contact` (bilabial: p, b, m; labiodental: f, v)."""
    times, minima = (np.arange(len(mouth)) + 0.5) / fps, []
    for phone in alignment.phones:
        near = (times > phone.start - BEFORE) & (times < phone.end + AFTER)
        if PHONE_TARGETS[canonical_phone(phone.label)].contact is contact and near.any():
            minima.append(float(mouth[near, 0].min()))
    return minima


def closure_rate(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """Share of p, b and m whose aperture falls below `CLOSED_MM`; NaN where there are none.

    `mouths` are given with their alignment and fps.
    """
    return _contact_rate(mouths, "closure rate", Contact.BILABIAL, CLOSED_MM, "p b m")


def labiodental_rate(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """Share of f and v whose aperture falls below `LABIODENTAL_MM`, as in real lips; NaN where there are none."""
    return _contact_rate(mouths, "labiodental rate", Contact.LABIODENTAL, LABIODENTAL_MM, "f v")


def _contact_rate(
    mouths: Sequence[tuple[np.ndarray, Alignment, float]],
    name: str,
    contact: Contact,
    under: float,
    phones: str,
) -> MetricResult:
    minima = np.array([a for m, spoken, fps in mouths for a in minimum_apertures(m, spoken, fps, contact)])
    share = float((minima < under).mean()) if len(minima) else float("nan")
    return MetricResult(name, share, "", f"of {len(minima)} {phones} under {under:g} mm")


def open_range(mouth: np.ndarray) -> float:
    """Return the open range of a mouth in mm: the 95th percentile of its aperture minus the minimum."""
    return float(np.percentile(mouth[:, 0], 95) - mouth[:, 0].min())


def find_silences(alignment: Alignment, duration: float, min_duration: float = 0.3) -> list[tuple[float, float]]:
    """Return the spans (start, end) in s of at least `min_duration` s without a phone."""
    bounds = [0.0, *(t for p in alignment.phones for t in (p.start, p.end)), duration]
    return [(a, b) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if b - a >= min_duration]


def silence_deviations(
    mouth: np.ndarray,
    fps: float,
    spans: list[tuple[float, float]],
    margin_before: float = 0.1,
    margin_after: float = 0.1,
) -> list[float]:
    """Return the standard deviation of aperture in mm in each span, leaving out the margins (seconds) at its ends."""
    times = (np.arange(len(mouth)) + 0.5) / fps
    inside = [(times > a + margin_before) & (times < b - margin_after) for a, b in spans]
    return [float(mouth[i, 0].std()) for i in inside if i.sum() >= 2]


def stillness(mouths: Sequence[tuple[np.ndarray, Alignment, float]]) -> MetricResult:
    """Motion in silence: the median over silences of the aperture's standard deviation, relative to the open range.

    Silences are 0.3 s or longer; 0.1 s at each end is ignored. 0 is no motion; NaN where there are no silences.
    `mouths` are given with their alignment and fps.
    """
    shares: list[float] = []
    for mouth, alignment, fps in mouths:
        deviations = silence_deviations(mouth, fps, find_silences(alignment, len(mouth) / fps))
        shares += [d / max(open_range(mouth), 1e-9) for d in deviations]
    value = float(np.median(shares)) if shares else float("nan")
    return MetricResult("silence stillness", value, "of the open range", f"median of {len(shares)} silences")


def speed_percentile(mouths: Sequence[tuple[np.ndarray, float]]) -> MetricResult:
    """99th percentile of aperture speed in mm/s over all frames; `mouths` are given with their fps."""
    speed = np.concatenate([np.abs(np.diff(m[:, 0])) * fps for m, fps in mouths])
    return MetricResult("aperture speed", float(np.percentile(speed, 99)), "mm/s", f"99 % of {len(speed)} frames")


def band_power(mouths: Sequence[tuple[np.ndarray, float]]) -> MetricResult:
    """Power of aperture speed between 4 and 10 Hz in (mm/s)², mean over clips (Welch, Hann window, up to 2 s).

    Syllables are in this band; averages of many motions lose power in it. Clips under 0.5 s are ignored; NaN where none
    is left. `mouths` are given with their fps.
    """
    powers = []
    for mouth, fps in mouths:
        speed = np.diff(mouth[:, 0]) * fps
        if len(speed) < MIN_SECONDS * fps:
            continue
        frequency, density = welch(speed, fps, nperseg=min(len(speed), round(2 * fps)))
        inside = (frequency >= SYLLABLE_BAND[0]) & (frequency <= SYLLABLE_BAND[1])
        powers.append(density[inside].sum() * (frequency[1] - frequency[0]))
    value = float(np.mean(powers)) if powers else float("nan")
    return MetricResult("4-10 Hz power", value, "(mm/s)²", f"mean of {len(powers)} clips")


def audiovisual_lead(mouths: Sequence[tuple[np.ndarray, np.ndarray, float]]) -> MetricResult:
    """Seconds by which lip-opening velocity precedes the audio envelope (dB above −60 dBFS), median over clips.

    A clip's lead is the lag of greatest correlation within ±300 ms, in steps of 10 ms. Clips that leave less than 0.5 s
    to correlate are ignored; NaN where none is left. Real lips (GRID s1) lead by 50 ms. `mouths` are given with their
    samples at 16 kHz and fps.
    """
    leads = [_clip_lead(m, s, fps) for m, s, fps in mouths if len(m) / fps >= 2 * MAX_LAG + MIN_SECONDS]
    value = float(np.median(leads)) if leads else float("nan")
    return MetricResult("A/V lead", value, "s", f"median of {len(leads)} clips")


def _clip_lead(mouth: np.ndarray, samples: np.ndarray, fps: float) -> float:
    """The audio-visual lead of one clip in s."""
    step = 0.01
    reach = round(MAX_LAG / step)
    frame_seconds = (np.arange(len(mouth)) + 0.5) / fps
    clock = np.arange(int(frame_seconds[-1] / step)) * step
    opening = np.gradient(np.interp(clock, frame_seconds, mouth[:, 0]))
    level = np.clip(rms_level(samples, window=0.03, hop=step) + 60, 0, None)
    envelope = np.interp(clock, (np.arange(len(level)) + 0.5) * step, level)
    smooth = np.hanning(9) / np.hanning(9).sum()
    envelope = np.convolve(envelope, smooth, "same")
    opening, envelope = opening - opening.mean(), envelope - envelope.mean()
    lags = np.arange(-reach, reach + 1)
    correlations = [float((np.roll(opening, lag)[reach:-reach] * envelope[reach:-reach]).sum()) for lag in lags]
    return float(lags[int(np.argmax(correlations))] * step)


def ldtw(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Dynamic time warping distance of mouth opening, mean over clips, in mm.

    A clip's distance is the least sum of |p − g| along a warping path, divided by N + M; steps along both sequences
    count twice, steps along one count once (Sakoe and Chiba's symmetric form, whose normalization does not depend on
    the path).

    Args:
        pred: Predicted apertures (N,) in mm, one per clip.
        gt: True apertures (M,) in mm.

    Returns:
        The distance in mm.

    Raises:
        InputError: There are no clips, or the two differ in number.
    """
    if len(pred) != len(gt) or not len(pred):
        raise InputError(f"LDTW: {len(pred)} predicted clips, but {len(gt)} true clips")
    distances = [_dtw_distance(np.asarray(p, float), np.asarray(g, float)) for p, g in zip(pred, gt, strict=True)]
    return MetricResult("LDTW", float(np.mean(distances)), "mm", f"mean of {len(distances)} clips")


def _dtw_distance(p: np.ndarray, g: np.ndarray) -> float:
    """Least cost of a warping path, divided by n + m; computed by antidiagonals."""
    cost = np.abs(p[:, None] - g[None])
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, n + m + 1):
        i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
        j = diagonal - i
        local_cost = cost[i - 1, j - 1]
        total[i, j] = np.minimum(
            total[i - 1, j - 1] + 2 * local_cost, np.minimum(total[i - 1, j], total[i, j - 1]) + local_cost
        )
    return float(total[n, m] / (n + m))
