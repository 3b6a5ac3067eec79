"""Random curves that move as living things do."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


def smooth_noise(count: int, fps: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise (count,) of unit variance whose autocorrelation falls to a half in `seconds`."""
    # noise smoothed by a Gaussian of width s has the autocorrelation exp(-t² / 4s²)
    sigma = max(seconds * fps / (2 * np.sqrt(np.log(2))), 1e-3)
    pad = int(4 * sigma) + 1
    noise = gaussian_filter1d(rng.normal(size=count + 2 * pad), sigma)[pad : pad + count]
    out: np.ndarray = noise * np.sqrt(2 * np.sqrt(np.pi) * sigma)
    return out


class NoiseStream:
    """`smooth_noise` without an end, some values at a time.

    Args:
        fps: Values per second.
        seconds: Time in which the autocorrelation falls to a half.
        rng: Source of the randomness.
    """

    def __init__(self, fps: float, seconds: float, rng: np.random.Generator) -> None:
        sigma = max(seconds * fps / (2 * np.sqrt(np.log(2))), 1e-3)
        reach = int(4 * sigma) + 1
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        self._kernel = kernel / np.sqrt((kernel**2).sum())
        self._rng, self._white = rng, rng.normal(size=2 * reach)

    def next(self, count: int) -> np.ndarray:
        """Return the next values (count,)."""
        white = np.concatenate([self._white, self._rng.normal(size=count)])
        self._white = white[count:]
        return np.convolve(white, self._kernel, "valid")
