"""Metrics of talking faces: each returns a Result, with its unit, its pooling and its mask."""

from kmtalk.metrics.beats import audio_beats, beat_consistency, motion_beats
from kmtalk.metrics.masks import load_mask, own_mask
from kmtalk.metrics.mouth import (
    CLOSED,
    Scored,
    band_power,
    closure_rate,
    correlation,
    fast_speed,
    labiodental_rate,
    ldtw,
    lead,
    least_apertures,
    open_range,
    rmse,
    silences,
    still_spans,
    stillness,
)
from kmtalk.metrics.result import MM, Mask, Result
from kmtalk.metrics.samples import coverage_error, diversity, mean_estimate_error
from kmtalk.metrics.vertices import fdd, lip_max, lve, mve, velocity_error

__all__ = [
    "CLOSED",
    "MM",
    "Mask",
    "Result",
    "Scored",
    "audio_beats",
    "band_power",
    "beat_consistency",
    "closure_rate",
    "correlation",
    "coverage_error",
    "diversity",
    "fast_speed",
    "fdd",
    "labiodental_rate",
    "ldtw",
    "lead",
    "least_apertures",
    "lip_max",
    "load_mask",
    "lve",
    "mean_estimate_error",
    "motion_beats",
    "mve",
    "open_range",
    "own_mask",
    "rmse",
    "silences",
    "still_spans",
    "stillness",
    "velocity_error",
]
