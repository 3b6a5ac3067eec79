"""Clip: audio with motion on a rig, the training example of corpora with a rig's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import SAMPLE_RATE, load_audio


@dataclass(frozen=True)
class Clip:
    """One utterance with its motion.

    Attributes:
        name: Name of the clip.
        audio: A file, or mono samples (S,) at `SAMPLE_RATE`.
        alignment: Phones and their times.
        weights: Weights (N, R) float32 of the rig's R shapes; frame n is at (n + 0.5) / `fps` s.
        fps: Frames per second.
        style: Name of the speaker or of the speaking style.
        source: Where the motion comes from ("simulated", "GRID s1, tracked, monocular").
    """

    name: str
    audio: Path | np.ndarray
    alignment: Alignment
    weights: np.ndarray
    fps: float
    style: str
    source: str

    def load_samples(self) -> np.ndarray:
        """Load mono samples (S,) at `SAMPLE_RATE`.

        Raises InputError where audio and motion differ in length by more than 0.25 s.
        """
        samples = self.audio if isinstance(self.audio, np.ndarray) else load_audio(self.audio).samples
        sound, motion = len(samples) / SAMPLE_RATE, len(self.weights) / self.fps
        if abs(sound - motion) > 0.25:
            raise InputError(
                f"{self.name}: {sound:.2f} s of audio but {motion:.2f} s of motion; check that they belong together"
            )
        return samples
