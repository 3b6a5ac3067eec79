"""The mel spectrogram of the sound stream, by the recipe with which HiFi-GAN and BigVGAN were trained at 22,050 Hz."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from kmtalk.joint.clock import HOP_SAMPLES, SAMPLE_RATE
from kmtalk.synthesis.mel import mel_filterbank

N_FFT = 1024
BANDS = 80
F_MIN, F_MAX = 0.0, 8000.0
SMALLEST = 1e-5  # amplitude at which the logarithm is cut off
SILENCE = float(np.log(SMALLEST))
"""Value of a band without sound."""


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    return torch.from_numpy(mel_filterbank(SAMPLE_RATE, N_FFT, BANDS, F_MIN, F_MAX))


def mel_spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return the log mel spectrogram of mono samples.

    Frame n is centred at (n + 0.5) · `HOP_SAMPLES` samples: the signal is padded by reflection, not centred by the
    transform.

    Args:
        samples: (S,) in [-1, 1] at `SAMPLE_RATE`.

    Returns:
        (S // `HOP_SAMPLES`, `BANDS`) float32, natural logarithm of the amplitude.
    """
    padding = (N_FFT - HOP_SAMPLES) // 2
    x = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    if len(x) <= padding:  # reflection needs more samples than it pads
        x = functional.pad(x, (0, padding + 1 - len(x)))
    padded = functional.pad(x[None, None], (padding, padding), mode="reflect")[0, 0]
    if len(padded) < N_FFT:
        padded = functional.pad(padded, (0, N_FFT - len(padded)))
    spectrum = torch.stft(
        padded, N_FFT, HOP_SAMPLES, N_FFT, torch.hann_window(N_FFT), center=False, return_complex=True
    )
    amplitude = torch.sqrt(spectrum.abs() ** 2 + 1e-9)
    mel = torch.log((_filters() @ amplitude).clamp(min=SMALLEST))
    return np.ascontiguousarray(mel.T[: len(samples) // HOP_SAMPLES].numpy())
