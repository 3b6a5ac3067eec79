"""Resampling of sound that arrives in blocks, with a delay of a few milliseconds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

CROSSINGS = 16  # zero crossings of the filter's sinc to either side
CUTOFF = 0.92  # of the lower rate's Nyquist frequency
KAISER_BETA = 7.0  # 70 dB of suppression
MOST_PHASES = 1024  # places between two samples for which there is a filter; all that occur, at the usual rates


class StreamResampler:
    """Resamples by a windowed sinc, which needs `delay` seconds of the future: 1 ms to 2 ms.

    Those of soxr hold 20 ms to 60 ms back, which a face that follows a voice would be later.

    Args:
        rate: Sample rate of the sound in Hz.
        target: Sample rate of the result in Hz.
    """

    def __init__(self, rate: float, target: float) -> None:
        self._step = rate / target
        cutoff = CUTOFF * min(1.0, target / rate)  # of the sound's Nyquist frequency
        self._reach = int(np.ceil(CROSSINGS / cutoff))  # samples to either side
        exact = Fraction(self._step).limit_denominator(MOST_PHASES)
        self._phases = exact.denominator if abs(float(exact) - self._step) < 1e-12 else MOST_PHASES
        self._offsets = np.arange(1 - self._reach, self._reach + 1)
        distance = self._offsets[None] - np.arange(self._phases)[:, None] / self._phases
        window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / self._reach) ** 2))) / np.i0(KAISER_BETA)
        self._filters = (cutoff * np.sinc(cutoff * distance) * window).astype(np.float32)
        self.delay = (self._reach + 1) / rate
        self._kept = np.zeros(self._reach, np.float32)  # silence before the sound
        self._first = -self._reach  # number of the first sample that is kept
        self._next = 0  # number of the next sample of the result
        self._received = 0

    def resample(self, samples: np.ndarray, ends: bool = False) -> np.ndarray:
        """Take further samples (S,), and return those of the result that are known with them, float32.

        Args:
            samples: Samples (S,).
            ends: Whether nothing follows, so that the result goes up to the end of the sound.
        """
        self._received += len(samples)
        after = np.zeros(self._reach + 1 if ends else 0, np.float32)
        kept = np.concatenate([self._kept, samples.astype(np.float32), after])
        if ends:
            stop = round(self._received / self._step)
        else:  # sample n of the result lies at n · step, and needs `reach` samples after that
            stop = max(self._next, int(np.floor((self._received - 1 - self._reach) / self._step)) + 1)
        place = np.rint(np.arange(self._next, stop) * (self._step * self._phases)).astype(np.int64)
        whole, phase = np.divmod(place, self._phases)
        sounding = kept[(whole - self._first)[:, None] + self._offsets]
        out: np.ndarray = np.einsum("nt,nt->n", sounding, self._filters[phase])
        self._next = stop
        passed = max(0, min(int(np.floor(stop * self._step)) + 1 - self._reach - self._first, len(kept)))
        self._kept, self._first = kept[passed:], self._first + passed
        return out
