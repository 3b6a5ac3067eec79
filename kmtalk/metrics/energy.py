"""Correlation of the energy of motion and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult

LOG_FLOOR = float(np.log(1e-5))
"""Log mel of silence: HiFi-GAN's mel spectrograms are clamped there."""


@dataclass(frozen=True)
class SoundAndMotion:
    """A clip's motion and sound, which begin at the same time.

    Attributes:
        motion: (N, k) weights of blend shapes, or other features that are 0 at rest.
        fps: Frames of motion per second; frame n is at (n + 0.5) / fps s.
        log_mel: (L, K) natural logarithm of the amplitudes of mel bands, for samples in [-1, 1].
        mel_rate: Frames of `log_mel` per second; frame l is at (l + 0.5) / mel_rate s.
    """

    motion: np.ndarray
    fps: float
    log_mel: np.ndarray
    mel_rate: float


def energy_correlation(clips: Sequence[SoundAndMotion]) -> MetricResult:
    """Pearson correlation over time of the energies of motion and sound, mean over clips.

    The energy is the squared L2 norm of a frame of the motion, and of the log mel above `LOG_FLOOR`, as in Fig. 4 of
    AV-Flow's supplement (ICCV 2025); their normalization does not change r. The sound's is interpolated at the times of
    the frames of motion. Squared amplitudes instead of logarithms would make a few loud vowels the whole energy.

    Returns:
        A number from -1 to 1, without unit; clips whose motion or sound has constant energy count as 0.

    Raises:
        InputError: There are no clips, or one has fewer than two frames or values that are not finite.
    """
    if not clips:
        raise InputError("energy correlation: no clips")
    return MetricResult(
        "energy correlation", float(np.mean([_clip_correlation(c) for c in clips])), "", f"mean of {len(clips)} clips"
    )


def _clip_correlation(clip: SoundAndMotion) -> float:
    """Correlation of one clip."""
    for name, values in (("motion", clip.motion), ("log mel", clip.log_mel)):
        if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
            raise InputError(f"energy correlation: the {name} must be finite and (N, k) with two or more frames")
    moving = np.square(clip.motion.astype(np.float64)).sum(1)
    sounding = np.square(np.maximum(clip.log_mel.astype(np.float64) - LOG_FLOOR, 0.0)).sum(1)
    times, mel_times = (np.arange(len(moving)) + 0.5) / clip.fps, (np.arange(len(sounding)) + 0.5) / clip.mel_rate
    sounding = np.interp(times, mel_times, sounding)
    if min(np.ptp(moving), np.ptp(sounding)) <= 1e-12:
        return 0.0
    return float(np.corrcoef(moving, sounding)[0, 1])
