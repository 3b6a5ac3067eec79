"""Scores of mouths against tracked real lips, formatted as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk import metrics
from kmtalk.articulation.gestures import bilabial_closure
from kmtalk.corpora.grid import FPS, TrackedClip
from kmtalk.evaluation.lip_reader import LipReader, ReadableClip, readability
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.metrics import MouthComparison
from kmtalk.speech.audio import Audio

BOOTSTRAP_SAMPLES = 1000
"""Number of bootstrap samples of clips for each 95 % interval."""

OPEN_MM = 8.0
"""Aperture of the real lips in mm above which the mouth counts as open."""

_UPPER, _LOWER = LIP_CHANNELS.index("upper lip"), LIP_CHANNELS.index("lower lip")


@dataclass(frozen=True)
class ScoredClip:
    """A held-out clip with its real lips and its audio."""

    clip: TrackedClip
    audio: Audio


class ScoreTable:
    """Formats scores as rows of one table.

    Args:
        clips: The clips.
        reader: A lip reader.
    """

    def __init__(self, clips: Sequence[ScoredClip], reader: LipReader) -> None:
        self._clips, self._reader = clips, reader
        self._real = metrics.band_power([(c.clip.mouth_measurements, FPS) for c in clips]).value
        rng = np.random.default_rng(0)
        self._draws = rng.integers(0, len(clips), (BOOTSTRAP_SAMPLES, len(clips)))
        self._pressed = [bilabial_closure(c.clip.alignment, c.clip.times) > 0.5 for c in clips]

    def _compared(self, mouths: list[np.ndarray]) -> list[MouthComparison]:
        """The real and the given mouths of each clip, equally long."""
        out = []
        for c, mouth in zip(self._clips, mouths, strict=True):
            count = len(c.clip.mouth_measurements)
            predicted = np.pad(mouth, ((0, max(0, count - len(mouth))), (0, 0)), mode="edge")[:count]
            out.append(
                MouthComparison(
                    c.clip.mouth_measurements, predicted, c.clip.utterance_mask, c.clip.alignment, c.audio.samples, FPS
                )
            )
        return out

    def _intervals(self, clips: list[MouthComparison]) -> np.ndarray:
        """95 % intervals (2, C + 1) of r of each channel and of the aperture's RMSE, from sums per clip."""
        sums = []
        for c in clips:
            a, b = c.reference[c.utterance_mask], c.predicted[c.utterance_mask]
            n = np.full(a.shape[1], len(a))
            sums.append([n, a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)])
        n, a, b, aa, bb, ab = np.moveaxis(np.array(sums)[self._draws].sum(1), 1, 0)
        spread = np.sqrt(np.maximum(aa / n - (a / n) ** 2, 0) * np.maximum(bb / n - (b / n) ** 2, 1e-12))
        r = (ab / n - a * b / n**2) / np.maximum(spread, 1e-6)
        error = np.sqrt(np.maximum(aa + bb - 2 * ab, 0) / n)[:, :1]
        return np.percentile(np.concatenate([r, error], 1), [2.5, 97.5], axis=0)

    def _lip_heights(self, clips: list[MouthComparison]) -> str:
        """Mean height of both lips where the real ones are open, and where p, b and m press them together."""
        is_open = np.concatenate([c.utterance_mask & (c.reference[:, 0] > OPEN_MM) for c in clips])
        pressed = np.concatenate(self._pressed)
        heights = np.concatenate([c.predicted for c in clips])[:, [_UPPER, _LOWER]]
        parts = []
        for name, frames in (("open", is_open), ("pressed", pressed)):
            upper, lower = heights[frames].mean(0) if frames.any() else (np.nan, np.nan)
            parts.append(f"{name} {upper:+.1f} up {lower:+.1f} down")
        return "  ".join(parts)

    def format(self, name: str, mouths: list[np.ndarray]) -> Iterator[str]:
        """Yield the lines of one row; `mouths` (N, C) in mm are one per clip."""
        clips = self._compared(mouths)
        r, error = [m.value for m in metrics.correlation(clips)], [m.value for m in metrics.rmse(clips)]
        low, high = self._intervals(clips)
        moving = bool(np.ptp(clips[0].predicted[:, 0]) > 1e-9)
        power = metrics.band_power([(c.predicted, FPS) for c in clips]).value / self._real
        lead = (
            f"{1000 * metrics.audiovisual_lead([(c.predicted, c.samples, FPS) for c in clips]).value:+.0f}"
            if moving
            else "-"
        )
        closed = metrics.closure_rate([(c.predicted, c.alignment, FPS) for c in clips]).value
        speed = metrics.speed_percentile([(c.predicted, FPS) for c in clips]).value
        rs = "  ".join(
            f"{r[k]:.3f} [{low[k]:.3f} {high[k]:.3f}]" if moving else f"{0.0:.3f} {'':13s}" for k in range(len(r))
        )
        yield f"{name:21s} r {rs}"
        errors = " ".join(f"{e:.2f}" for e in error[1:])
        yield (
            f"{'':21s} RMSE {error[0]:.2f} [{low[-1]:.2f} {high[-1]:.2f}] {errors}  closed {100 * closed:5.1f} %  "
            f"speed {speed:3.0f} mm/s  4-10 Hz {power:.2f}  lead {lead} ms"
        )
        accuracies, (least, most) = readability(
            self._reader.read(
                [ReadableClip(c.predicted, s.clip.alignment.words) for c, s in zip(clips, self._clips, strict=True)]
            )
        )
        words = " ".join(f"{a.value:.2f}" for a in accuracies[:-1])
        yield (
            f"{'':21s} {self._lip_heights(clips)}  words read {words}  "
            f"mean {accuracies[-1].value:.3f} [{least:.3f} {most:.3f}]"
        )

    def format_seeds(self, name: str, seeds: list[list[np.ndarray]]) -> str:
        """Mean and range over the seeds of one network."""
        r = np.array([[c.value for c in metrics.correlation(self._compared(m))] for m in seeds])
        error = np.array([metrics.rmse(self._compared(m))[0].value for m in seeds])
        rs = "  ".join(f"{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for v in r.T)
        return (
            f"{name:21s} {len(seeds)} seeds: r {rs}  "
            f"RMSE mm {error.mean():.2f} ({error.min():.2f} to {error.max():.2f})"
        )
