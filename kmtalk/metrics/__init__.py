"""Metrics of talking faces; each returns a `MetricResult` with its unit, pooling and mask."""

from kmtalk.metrics.beats import audio_beats, beat_consistency, motion_beats
from kmtalk.metrics.masks import load_mask, mask_from_template
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
from kmtalk.metrics.result import MM_PER_UNIT, Mask, MetricResult
from kmtalk.metrics.samples import coverage_error, diversity, mean_estimate_error
from kmtalk.metrics.vertices import fdd, lip_max, lve, mve, velocity_error

__all__ = [
    "CLOSED_MM",
    "MM_PER_UNIT",
    "Mask",
    "MetricResult",
    "MouthComparison",
    "audio_beats",
    "audiovisual_lead",
    "band_power",
    "beat_consistency",
    "closure_rate",
    "correlation",
    "coverage_error",
    "diversity",
    "fdd",
    "find_silences",
    "labiodental_rate",
    "ldtw",
    "lip_max",
    "load_mask",
    "lve",
    "mask_from_template",
    "mean_estimate_error",
    "minimum_apertures",
    "motion_beats",
    "mve",
    "open_range",
    "rmse",
    "silence_deviations",
    "speed_percentile",
    "stillness",
    "velocity_error",
]
