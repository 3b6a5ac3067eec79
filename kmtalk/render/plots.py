"""Plots for notebooks and papers, with time in seconds on the x axis.

Each function draws on `ax`, or on new axes if it is None, and returns the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.timeline import lip_aperture
from kmtalk.face.motion import Motion, frame_times
from kmtalk.keys import KeyMotions
from kmtalk.speech.alignment import Alignment, Phone, Word
from kmtalk.speech.audio import SAMPLE_RATE, Audio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_COLOR, KEY_COLOR, INTERPOLATION_COLOR = "#2c5d8f", "#c4422b", "#999999"


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise InputError("plots need matplotlib; pip install 'kmtalk[notebooks]'") from None
    return plt


def _axes(ax: Axes | None, height: float = 1.6) -> Axes:
    if ax is not None:
        return ax
    new_axes: Axes = _pyplot().subplots(figsize=(11, height), layout="constrained")[1]
    return new_axes


def plot_waveform(audio: Audio, ax: Axes | None = None) -> Axes:
    """Plot the samples of the sound, -1 to 1."""
    ax = _axes(ax)
    ax.plot(np.arange(len(audio.samples)) / SAMPLE_RATE, audio.samples, color=CURVE_COLOR, linewidth=0.4)
    ax.set(ylabel="sound", xlim=(0, audio.duration))
    return ax


def plot_spectrogram(audio: Audio, ax: Axes | None = None) -> Axes:
    """Plot the level in dB by time and frequency up to 8 kHz, with windows of 25 ms every 5 ms."""
    ax = _axes(ax)
    width, hop = round(0.025 * SAMPLE_RATE), round(0.005 * SAMPLE_RATE)
    ax.specgram(
        audio.samples + 1e-9, NFFT=width, noverlap=width - hop, Fs=SAMPLE_RATE, cmap="magma", vmin=-140, vmax=-40
    )
    ax.set(ylabel="Hz", xlim=(0, audio.duration))
    return ax


def plot_spans(spans: Sequence[Phone | Word], ax: Axes | None = None, label: str = "") -> Axes:
    """Plot phones or words as labelled boxes."""
    ax = _axes(ax, 0.6)
    for n, span in enumerate(spans):
        name = span.label if isinstance(span, Phone) else span.text
        ax.axvspan(span.start, span.end, color=CURVE_COLOR, alpha=0.16 + 0.12 * (n % 2), linewidth=0)
        ax.text((span.start + span.end) / 2, 0.5, name, ha="center", va="center", fontsize=7, clip_on=True)
    ax.set(ylim=(0, 1), yticks=[])
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
    return ax


def plot_lip_aperture(motion: Motion, keys: KeyMotions, ax: Axes | None = None) -> Axes:
    """Plot the lip aperture in mm per frame, the key frames and straight lines through them (the paper's Fig. 4)."""
    ax = _axes(ax, 2.4)
    aperture, times = lip_aperture(motion), frame_times(len(motion), motion.fps)
    ax.plot(times, aperture, color=CURVE_COLOR, label="lips")
    label = "straight lines through the keys"
    ax.plot(keys.times, aperture[keys.frames], "--", color=INTERPOLATION_COLOR, linewidth=1, label=label)
    ax.plot(keys.times, aperture[keys.frames], ".", color=KEY_COLOR, markersize=5, label="key frames")
    ax.set(ylabel="aperture, mm", xlabel="s")
    ax.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)
    return ax


def plot_shape_weights(motion: Motion, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Plot the weights of the named shapes, 0 to 1; raises InputError for a shape that the rig lacks."""
    ax = _axes(ax, 2.4)
    times = frame_times(len(motion), motion.fps)
    for name in names:
        if name not in motion.rig.index:
            raise InputError(f"{name}: no such shape; the rig has {', '.join(motion.rig.shape_names[:4])} …")
        ax.plot(times, motion.weights[:, motion.rig.index[name]], label=name, linewidth=1.2)
    ax.set(ylabel="weight", xlabel="s", ylim=(0, 1))
    ax.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)
    return ax


def plot_phone_boundaries(
    motion: Motion, keys: KeyMotions, alignment: Alignment, audio: Audio, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """Plot waveform, spectrogram, words, phones and lip aperture with key frames above each other (the paper's Fig. 4).

    Args:
        motion: The motion.
        keys: Its key frames.
        alignment: Its words and phones.
        audio: Its sound.
        start: Start of the time axis in seconds.
        end: End of the time axis in seconds; None for the end of the sound.

    Returns:
        The five axes (5,).
    """
    figure, axes = _pyplot().subplots(
        5, 1, figsize=(11, 6.4), sharex=True, height_ratios=[1, 1.4, 0.4, 0.4, 2], layout="constrained"
    )
    plot_waveform(audio, axes[0])
    plot_spectrogram(audio, axes[1])
    plot_spans(alignment.words, axes[2], "words")
    plot_spans(alignment.phones, axes[3], "phones")
    plot_lip_aperture(motion, keys, axes[4])
    for time in keys.times:
        for ax in axes[2:]:
            ax.axvline(time, color=KEY_COLOR, linewidth=0.4, alpha=0.5)
    axes[0].set_xlim(start, audio.duration if end is None else end)
    figure.align_ylabels(axes)
    result: np.ndarray = axes
    return result
