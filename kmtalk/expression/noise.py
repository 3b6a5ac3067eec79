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
