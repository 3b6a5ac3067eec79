"""Metrics of mel spectrograms: their error, mel cepstral distortion and global variance, pooled over clips.

A log mel X is an array (N, K): N frames, K mel bands, natural logarithm of the amplitude. Only frames of sound count:
those of which the true one is at most `SOUND_RANGE_DB` below the loudest frame of its clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import dct

from kmtalk.errors import InputError
from kmtalk.metrics.result import MetricResult, check_clip_count, pair_clips

SOUND_RANGE_DB = 40.0
"""dB below a clip's loudest frame in which a frame counts as sound, as in STOI."""

DB_PER_NEPER = 20 / np.log(10)
"""dB per unit of the natural logarithm of an amplitude."""

MCD_ORDER = 13
"""Mel cepstral coefficients of MCD, without c0."""

GV_ORDER = 39
"""Mel cepstral coefficients of the global variance, without c0: as many as statistical synthesis uses."""


def mel_cepstrum(log_mel: np.ndarray, order: int) -> np.ndarray:
    """Return mel cepstral coefficients c_1 to c_`order`, (N, order), of a log mel X (N, K).

    c_d = 2/K · Σ_k X_k cos(π d (k + ½) / K), so that X_k = c_0 / 2 + Σ_d c_d cos(π d (k + ½) / K) for d below K; the
    level, c_0, is left out. These are the coefficients of SPTK's and WORLD's mel cepstra, on the bands' mel scale.

    Raises InputError where the log mel has too few bands or values that are not finite.
    """
    if log_mel.ndim != 2 or not log_mel.size or log_mel.shape[1] <= order:
        raise InputError(f"a log mel must be (N, K) with more than {order} bands, not {log_mel.shape}")
    if not np.isfinite(log_mel).all():
        raise InputError("a log mel holds values that are not finite")
    coefficients: np.ndarray = dct(log_mel.astype(np.float64), type=2, axis=1) / log_mel.shape[1]
    return coefficients[:, 1 : order + 1]


def frames_of_sound(log_mel: np.ndarray) -> np.ndarray:
    """Return which frames (N,) of a log mel (N, K) are at most `SOUND_RANGE_DB` below the loudest one."""
    level = 0.5 * np.log(np.exp(2 * log_mel.astype(np.float64)).sum(1)) * DB_PER_NEPER
    sound: np.ndarray = level >= level.max() - SOUND_RANGE_DB
    return sound


def log_mel_error(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Mean |p − g| over the bands and frames of sound of log mels (N, K), in nepers (1 Np = 8.686 dB).

    Raises InputError where the two differ in number or shape.
    """
    pairs = _sounding_pairs("log mel error", pred, gt)
    errors = np.concatenate([np.abs(p - g).mean(1) for p, g in pairs])
    return MetricResult("log mel error", float(errors.mean()), "Np", f"mean of {len(errors)} frames of sound")


def mel_cepstral_distortion(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Mel cepstral distortion (MCD) of log mels (N, K), frame by frame: mean over the frames of sound, in dB.

    MCD = 10 / ln 10 · √(2 Σ_{d=1..13} (c_d − c'_d)²) with the coefficients of `mel_cepstrum` (Kubichek 1993,
    Mel-cepstral distance measure for objective speech quality assessment). It is the root mean square over the bands of
    the difference of the smoothed log spectra in dB; the level does not count. Durations must be equal: nothing is
    warped. Coefficients with another scale, such as those of an orthonormal DCT, give several times as much, so that
    figures of other software compare only where the formula is the same.

    Raises InputError where the two differ in number or shape.
    """
    distortions = []
    for p, g in _sounding_pairs("MCD", pred, gt):
        difference = mel_cepstrum(p, MCD_ORDER) - mel_cepstrum(g, MCD_ORDER)
        distortions.append(DB_PER_NEPER / 2 * np.sqrt(2 * np.square(difference).sum(1)))
    pooled = np.concatenate(distortions)
    return MetricResult("MCD", float(pooled.mean()), "dB", f"mean of {len(pooled)} frames of sound, {MCD_ORDER} c_d")


def global_variance_ratio(pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]) -> MetricResult:
    """Spectral sharpness: global variance (GV) of the mel cepstrum relative to that of real sound; 1 as sharp, less
    where it is smeared.

    GV v(d) is the variance over the frames of sound of c_d, d = 1..39, mean over clips (Toda and Tokuda 2007, A speech
    parameter generation algorithm considering global variance, eq. 10). The value is the geometric mean over d of the
    ratio of standard deviations, exp(mean_d ½ ln(v_pred(d) / v_gt(d))). Averages of many spectra lose variance, in fine
    detail (large d) most. Clips need not be aligned, but should say the same.

    Args:
        pred: Log mels (N, K), K ≥ 40, one per clip.
        gt: Log mels (M, K) of real sound, or of a vocoder's round trip.

    Returns:
        The ratio, without unit.

    Raises:
        InputError: The two differ in number or bands, or a clip of `gt` has no variance.
    """
    check_clip_count("global variance", pred, gt)
    wide = [np.mean([_global_variance(m) for m in clips], axis=0) for clips in (pred, gt)]
    if not (wide[1] > 0).all():
        raise InputError("global variance: the true clips are constant")
    ratio = float(np.exp(0.5 * np.mean(np.log(np.maximum(wide[0], 1e-12) / wide[1]))))
    return MetricResult("global variance ratio", ratio, "", f"geometric mean of {GV_ORDER} c_d over {len(gt)} clips")


def _global_variance(log_mel: np.ndarray) -> np.ndarray:
    """Variances (39,) of the mel cepstrum over the frames of sound of a log mel (N, K)."""
    variance: np.ndarray = mel_cepstrum(log_mel, GV_ORDER)[frames_of_sound(log_mel)].var(0)
    return variance


def _sounding_pairs(
    name: str, pred: Sequence[np.ndarray], gt: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of predicted and true log mels (n, K), limited to the frames of sound of the true one."""
    return [(p[sound], g[sound]) for p, g in pair_clips(name, pred, gt, 2) for sound in [frames_of_sound(g)]]
