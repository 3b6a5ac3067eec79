"""Triangular filters on Slaney's mel scale, as in Auditory Toolbox and librosa."""

from __future__ import annotations

import numpy as np

from kmtalk.errors import InputError

BREAK_HZ = 1000.0  # the scale is linear below and logarithmic above
HZ_PER_MEL = 200.0 / 3
LOG_STEP = np.log(6.4) / 27  # of the natural logarithm of Hz per mel above the break


def hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Convert frequencies in Hz, of any shape, to mel on Slaney's scale (Auditory Toolbox, 1998)."""
    hz = np.asarray(hz, float)
    above = BREAK_HZ / HZ_PER_MEL + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / LOG_STEP
    return np.where(hz < BREAK_HZ, hz / HZ_PER_MEL, above)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """Convert mel on Slaney's scale, of any shape, to Hz; the inverse of `hz_to_mel`."""
    mel = np.asarray(mel, float)
    mel_break = BREAK_HZ / HZ_PER_MEL
    above = BREAK_HZ * np.exp(LOG_STEP * (np.maximum(mel, mel_break) - mel_break))
    return np.where(mel < mel_break, mel * HZ_PER_MEL, above)


def mel_filterbank(sample_rate: float, n_fft: int, n_mels: int, f_min: float, f_max: float) -> np.ndarray:
    """Return the weights of triangular mel filters, each with an area of 1 Hz (Slaney's norm).

    Their centres and edges are equidistant in mel. The same as `librosa.filters.mel` with its default scale and norm.

    Args:
        sample_rate: Hz.
        n_fft: Length of the Fourier transform in samples.
        n_mels: Number of filters.
        f_min: Lower edge of the first filter in Hz.
        f_max: Upper edge of the last filter in Hz; at most half of `sample_rate`.

    Returns:
        (n_mels, n_fft // 2 + 1) float32, to multiply a spectrum (n_fft // 2 + 1, frames) with.

    Raises:
        InputError: The frequencies are not in order, or a filter is too narrow for the bins of the transform.
    """
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise InputError(
            f"mel filters from {f_min:g} to {f_max:g} Hz at {sample_rate:g} Hz: needs 0 <= f_min < f_max <= half of it"
        )
    bins = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    edges = mel_to_hz(np.linspace(hz_to_mel(np.array(f_min)), hz_to_mel(np.array(f_max)), n_mels + 2))
    width = np.diff(edges)
    rising = (bins - edges[:-2, None]) / width[:-1, None]
    falling = (edges[2:, None] - bins) / width[1:, None]
    weights = np.clip(np.minimum(rising, falling), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]
    if not weights.any(1).all():
        raise InputError(f"{n_mels} mel filters are too many for a Fourier transform of {n_fft} samples")
    return weights.astype(np.float32)
