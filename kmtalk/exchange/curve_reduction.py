"""Curves with few keys: motion as key frames, between which other programs interpolate.

Keys are frames of the motion and keep its values. N is the number of frames, K of curves, M of keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation, Slerp

PRIOR_WEIGHT = 1e-3  # pull of a tangent towards that of the monotone interpolation, relative to one sample
WINDOW = 8  # keys on either side of a key within which its removal is tried


@dataclass(frozen=True)
class KeyedCurve:
    """One curve, a cubic Hermite spline through its keys.

    Attributes:
        frames: Frame numbers of the keys (M,) int, rising; the first is 0, the last N − 1.
        values: Values at the keys (M,).
        slopes: Slopes at the keys (M,) in units per frame, the same on both sides of a key.
    """

    frames: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def evaluate(self, frames: np.ndarray) -> np.ndarray:
        """Values (F,) at frame numbers (F,) from 0 to N − 1, which may have fractions."""
        from scipy.interpolate import CubicHermiteSpline  # slow to import

        if len(self) == 1:
            return np.full(len(frames), self.values[0])
        out: np.ndarray = CubicHermiteSpline(self.frames, self.values, self.slopes)(frames)
        return out


def reduce_curve(values: np.ndarray, tolerance: float) -> KeyedCurve:
    """Reduce a curve to few keys with tangents.

    Keys are added where the error is largest until none exceeds the tolerance; then keys that are not needed are
    removed. Given the keys, the slopes are those of the least squared error.

    Args:
        values: The curve (N,).
        tolerance: Largest error at the frames; halfway between them, the largest distance from their monotone
            interpolation (PCHIP), so that the curve does not swing between frames.

    Returns:
        The keys; all frames where the tolerance is 0, one key for a constant curve.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    if count == 1 or np.ptp(values) <= tolerance:
        return KeyedCurve(np.zeros(1, np.int64), values[:1], np.zeros(1))
    fit = _HermiteFit(values, tolerance)
    keys = np.array([0, count - 1]) if tolerance > 0 else np.arange(count)
    keys = fit.insert_keys(keys)
    if tolerance > 0:
        keys = fit.insert_keys(fit.remove_keys(keys))
    return KeyedCurve(keys, values[keys], fit.slopes(keys))


class _HermiteFit:
    """Fits Hermite splines to the samples of one curve: its frames, and between two frames their interpolation."""

    def __init__(self, values: np.ndarray, tolerance: float) -> None:
        from scipy.interpolate import PchipInterpolator  # slow to import

        frames = np.arange(len(values))
        monotone = PchipInterpolator(frames, values)
        self._times = np.arange(2 * len(values) - 1) / 2
        self._samples, self._prior = monotone(self._times), monotone.derivative()(frames)
        self._tolerance = tolerance

    def slopes(self, keys: np.ndarray) -> np.ndarray:
        """Slopes (M,) of the least squared error between the first and the last of the keys (M,)."""
        inside = slice(2 * keys[0], 2 * keys[-1] + 1)
        times, samples = self._times[inside], self._samples[inside]
        span = np.clip(np.searchsorted(keys, times, side="right") - 1, 0, len(keys) - 2)
        length = (keys[span + 1] - keys[span]).astype(np.float64)
        u = (times - keys[span]) / length
        start, end = self._samples[2 * keys[span]], self._samples[2 * keys[span + 1]]
        missing = samples - (1 + 2 * u) * (1 - u) ** 2 * start - u * u * (3 - 2 * u) * end
        left, right = length * u * (1 - u) ** 2, -length * u * u * (1 - u)  # effect of the slopes of a span's keys
        count = len(keys)
        bands = np.zeros((2, count))
        bands[1] = PRIOR_WEIGHT + np.bincount(span, left**2, count) + np.bincount(span + 1, right**2, count)
        bands[0, 1:] = np.bincount(span, left * right, count)[:-1]
        target = PRIOR_WEIGHT * self._prior[keys]
        target += np.bincount(span, left * missing, count) + np.bincount(span + 1, right * missing, count)
        out: np.ndarray = solveh_banded(bands, target)
        return out

    def _errors(self, keys: np.ndarray) -> np.ndarray:
        """Errors of the samples between the first and the last of the keys."""
        from scipy.interpolate import CubicHermiteSpline  # slow to import

        inside = slice(2 * keys[0], 2 * keys[-1] + 1)
        spline = CubicHermiteSpline(keys, self._samples[2 * keys], self.slopes(keys))
        out: np.ndarray = np.abs(spline(self._times[inside]) - self._samples[inside])
        return out

    def insert_keys(self, keys: np.ndarray) -> np.ndarray:
        """Add keys until no error exceeds the tolerance, or every frame is a key."""
        while len(keys) < keys[-1] + 1:
            errors = self._errors(keys)
            added: list[int] = []
            for start, end in zip(keys[:-1].tolist(), keys[1:].tolist(), strict=True):
                part = errors[2 * start : 2 * end + 1]
                if part.max() <= self._tolerance:
                    continue
                if end - start > 1:
                    added.append(start + min(max(round(int(part.argmax()) / 2), 1), end - start - 1))
                else:  # the slopes suit the longer neighbours; shorten them
                    added += [max(start - 1, 0), min(end + 1, int(keys[-1]))]
            together = np.union1d(keys, np.array(added, keys.dtype))
            if len(together) == len(keys):
                break
            keys = together
        return keys

    def remove_keys(self, keys: np.ndarray) -> np.ndarray:
        """Remove the keys, those nearest to the line between their neighbours first, that the tolerance can spare."""
        at = self._samples[2 * keys]
        share = (keys[1:-1] - keys[:-2]) / (keys[2:] - keys[:-2])
        bend = np.abs(at[1:-1] - (1 - share) * at[:-2] - share * at[2:])
        for key in keys[1:-1][np.argsort(bend, kind="stable")].tolist():
            place = int(np.searchsorted(keys, key))
            first, last = max(place - WINDOW, 0), min(place + WINDOW + 1, len(keys))
            near = np.delete(keys[first:last], place - first)
            if self._errors(near).max() <= self._tolerance:
                keys = np.delete(keys, place)
        return keys


def reduce_weights(weights: np.ndarray, tolerance: float) -> np.ndarray:
    """Choose key frames that all curves share, as the targets of a mesh do in glTF, for linear interpolation.

    The more curves there are, the fewer frames can be spared.

    Args:
        weights: The curves (N, K).
        tolerance: Largest error of a curve at a frame.

    Returns:
        Frame numbers of the keys (M,) int, rising, with the first and the last frame.
    """
    values = np.asarray(weights, np.float64)
    keys, start, count = [0], 0, len(values)
    while start < count - 1:
        low, high = np.full(values.shape[1], -np.inf), np.full(values.shape[1], np.inf)
        reached = start + 1
        for end in range(start + 1, count):
            length = end - start
            slope = (values[end] - values[start]) / length
            if ((low <= slope) & (slope <= high)).all():
                reached = end
            low = np.maximum(low, slope - tolerance / length)
            high = np.minimum(high, slope + tolerance / length)
            if (low > high).any():
                break
        keys.append(reached)
        start = reached
    return np.array(keys, np.int64)


def reduce_rotations(quaternions: np.ndarray, tolerance: float) -> np.ndarray:
    """Choose key frames of a rotation for spherical linear interpolation, which glTF's LINEAR is for rotations.

    Args:
        quaternions: The rotation (N, 4), xyzw.
        tolerance: Largest error at a frame in radians.

    Returns:
        Frame numbers of the keys (M,) int, rising, with the first and the last frame.
    """
    rotations = Rotation.from_quat(quaternions)
    keys, open_spans = {0, len(quaternions) - 1}, [(0, len(quaternions) - 1)]
    while open_spans:
        start, end = open_spans.pop()
        if end - start < 2:
            continue
        between = np.arange(start, end + 1)
        errors = (Slerp([start, end], rotations[[start, end]])(between).inv() * rotations[between]).magnitude()
        worst = start + int(errors.argmax())
        if errors.max() > tolerance:
            keys.add(worst)
            open_spans += [(start, worst), (worst, end)]
    return np.array(sorted(keys), np.int64)
