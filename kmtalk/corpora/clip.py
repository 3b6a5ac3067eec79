"""Clip: one training example, whatever corpus it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, load_audio


@dataclass(frozen=True)
class Clip:
    """``audio`` a file, or samples (S,) at SAMPLE_RATE; ``weights`` (N, R) float32 the motion on a named
    rig, frame n at (n + 0.5) / ``fps`` s; ``style`` names who speaks or how; ``source`` says where the
    motion comes from ("simulated", "GRID s1, tracked, monocular")."""

    name: str
    audio: Path | np.ndarray
    alignment: Alignment
    weights: np.ndarray
    fps: float
    style: str
    source: str

    def load_samples(self) -> np.ndarray:
        """Mono samples (S,) at SAMPLE_RATE; raises InputError where sound and motion differ in length."""
        samples = self.audio if isinstance(self.audio, np.ndarray) else load_audio(self.audio).samples
        sound, motion = len(samples) / SAMPLE_RATE, len(self.weights) / self.fps
        if abs(sound - motion) > 0.25:
            raise InputError(f"{self.name}: {sound:.2f} s of sound but {motion:.2f} s of motion; are they a pair?")
        return samples
