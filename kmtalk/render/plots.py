"""Plots for notebooks and papers, over one clock in seconds. Each draws on ``ax``, or on new axes, and returns them."""

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

INK, KEY, FIT = "#2c5d8f", "#c4422b", "#999999"


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise InputError("plots need matplotlib: pip install 'kmtalk[notebooks]'") from None
    return plt


def _axes(ax: Axes | None, height: float = 1.6) -> Axes:
    if ax is not None:
        return ax
    _, made = _pyplot().subplots(figsize=(11, height), layout="constrained")
    out: Axes = made
    return out


def plot_waveform(audio: Audio, ax: Axes | None = None) -> Axes:
    """The sound's samples, -1 to 1."""
    ax = _axes(ax)
    ax.plot(np.arange(len(audio.samples)) / SAMPLE_RATE, audio.samples, color=INK, linewidth=0.4)
    ax.set(ylabel="sound", xlim=(0, audio.duration))
    return ax


def plot_spectrogram(audio: Audio, ax: Axes | None = None) -> Axes:
    """Level in dB by time and frequency up to 8 kHz, windows of 25 ms every 5 ms."""
    ax = _axes(ax)
    width, hop = round(0.025 * SAMPLE_RATE), round(0.005 * SAMPLE_RATE)
    ax.specgram(
        audio.samples + 1e-9, NFFT=width, noverlap=width - hop, Fs=SAMPLE_RATE, cmap="magma", vmin=-140, vmax=-40
    )
    ax.set(ylabel="Hz", xlim=(0, audio.duration))
    return ax


def plot_spans(spans: Sequence[Phone | Word], ax: Axes | None = None, label: str = "") -> Axes:
    """Phones or words as boxes with their names."""
    ax = _axes(ax, 0.6)
    for n, span in enumerate(spans):
        name = span.label if isinstance(span, Phone) else span.text
        ax.axvspan(span.start, span.end, color=INK, alpha=0.16 + 0.12 * (n % 2), linewidth=0)
        ax.text((span.start + span.end) / 2, 0.5, name, ha="center", va="center", fontsize=7, clip_on=True)
    ax.set(ylim=(0, 1), yticks=[])
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
    return ax


def plot_lip_aperture(motion: Motion, keys: KeyMotions, ax: Axes | None = None) -> Axes:
    """The lips' opening in mm by frame, its key points, and the straight lines through them (as the paper's Fig. 4)."""
    ax = _axes(ax, 2.4)
    opening, times = lip_aperture(motion), frame_times(len(motion), motion.fps)
    ax.plot(times, opening, color=INK, label="lips")
    ax.plot(keys.times, opening[keys.frames], "--", color=FIT, linewidth=1, label="straight lines through the keys")
    ax.plot(keys.times, opening[keys.frames], ".", color=KEY, markersize=5, label="key frames")
    ax.set(ylabel="opening, mm", xlabel="s")
    ax.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)
    return ax


def plot_shape_weights(motion: Motion, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Curves of some shapes by name, 0 to 1; raises InputError for one that the rig lacks."""
    ax = _axes(ax, 2.4)
    times = frame_times(len(motion), motion.fps)
    for name in names:
        if name not in motion.rig.index:
            raise InputError(f"{name}: no such shape; the rig has {', '.join(motion.rig.names[:4])} …")
        ax.plot(times, motion.weights[:, motion.rig.index[name]], label=name, linewidth=1.2)
    ax.set(ylabel="weight", xlabel="s", ylim=(0, 1))
    ax.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)
    return ax


def plot_phone_boundaries(
    motion: Motion, keys: KeyMotions, alignment: Alignment, audio: Audio, start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """Sound, spectrogram, words, phones and lips with their key points, one above the other, from ``start`` to ``end``
    s: the paper's Fig. 4. Returns the axes (5,)."""
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
            ax.axvline(time, color=KEY, linewidth=0.4, alpha=0.5)
    axes[0].set_xlim(start, audio.duration if end is None else end)
    figure.align_ylabels(axes)
    out: np.ndarray = axes
    return out
