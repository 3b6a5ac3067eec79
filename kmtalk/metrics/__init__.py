"""Metrics of talking faces; each returns a `MetricResult` with its unit, pooling and mask."""

from kmtalk.metrics.beats import audio_beats, beat_consistency, motion_beats
from kmtalk.metrics.energy import SoundAndMotion, energy_correlation
from kmtalk.metrics.expression import SMILE_MM, closure_f1, frechet_distance, smile_f1
from kmtalk.metrics.masks import load_mask, mask_from_template
from kmtalk.metrics.mel_spectra import global_variance_ratio, log_mel_error, mel_cepstral_distortion, mel_cepstrum
from kmtalk.metrics.mouth import (
    CLOSED_MM,
    MouthComparison,
    audiovisual_lead,
    band_power,
    closure_rate,
    correlation,
    find_silences,
    labiodental_rate,
    ldtw,
    minimum_apertures,
    open_range,
    rmse,
    silence_deviations,
    speed_percentile,
    stillness,
)
from kmtalk.metrics.pitch import pitch_accuracy
from kmtalk.metrics.result import MM_PER_UNIT, Mask, MetricResult
from kmtalk.metrics.samples import coverage_error, diversity, mean_estimate_error
from kmtalk.metrics.speech import stoi, voice_similarity, word_error_rate
from kmtalk.metrics.vertices import fdd, lip_max, lve, mve, velocity_error

__all__ = [
    "CLOSED_MM",
    "MM_PER_UNIT",
    "SMILE_MM",
    "Mask",
    "MetricResult",
    "MouthComparison",
    "SoundAndMotion",
    "audio_beats",
    "audiovisual_lead",
    "band_power",
    "beat_consistency",
    "closure_f1",
    "closure_rate",
    "correlation",
    "coverage_error",
    "diversity",
    "energy_correlation",
    "fdd",
    "find_silences",
    "frechet_distance",
    "global_variance_ratio",
    "labiodental_rate",
    "ldtw",
    "lip_max",
    "load_mask",
    "log_mel_error",
    "lve",
    "mask_from_template",
    "mean_estimate_error",
    "mel_cepstral_distortion",
    "mel_cepstrum",
    "minimum_apertures",
    "motion_beats",
    "mve",
    "open_range",
    "pitch_accuracy",
    "rmse",
    "silence_deviations",
    "smile_f1",
    "speed_percentile",
    "stillness",
    "stoi",
    "velocity_error",
    "voice_similarity",
    "word_error_rate",
]
