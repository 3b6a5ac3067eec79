"""GRID speaker 1: sentences with sound, true phones and tracked lips (CC BY 4.0, Cooke et al. 2006).

The corpus is brought by path. Its landmarks are MediaPipe's, from one camera: depth, and so lip
protrusion, is not in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, Phone, Word, is_silence

FPS = 25.0
EYES_MM = 90.0  # between the outer eye corners, which sets the scale
NOISE_LABELS = frozenset({"SIL", "+SPN+", "+NSN+"})


@dataclass(frozen=True)
class TrackedClip:
    """One sentence. ``mouth`` (T, 3) mm: aperture of the inner lips, width of the corners and drop of
    the chin against rest (the median of the last 8 frames); ``speaking`` (T,) from 0.1 s before the
    first phone to 0.2 s after the last. Frame n is at (n + 0.5) / 25 s."""

    name: str
    audio: Path
    alignment: Alignment
    mouth: np.ndarray
    speaking: np.ndarray

    @property
    def times(self) -> np.ndarray:
        return (np.arange(len(self.mouth)) + 0.5) / FPS


def load_grid(folder: Path) -> Iterator[TrackedClip]:
    """Aligned clips in order of name; raises InputError where ``folder`` is not the corpus."""
    try:
        aligned = json.loads((folder / "alignment.json").read_text())
        with np.load(folder / "landmarks.npz") as file:
            names, points, xyz = file["clip"], file["point"].tolist(), file["xyz"]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: not the GRID corpus with tracked lips ({error})") from None
    column = {p: i for i, p in enumerate(points)}
    for row in np.argsort(names):
        name = str(names[row])
        if name not in aligned["phones"]:
            continue
        landmarks = {p: xyz[row, :, i].astype(float) / 64 for p, i in column.items()}
        alignment = Alignment(
            tuple(Phone(p, start, end) for _, p, start, end in aligned["phones"][name] if p not in NOISE_LABELS),
            tuple(Word(w, start, end) for w, start, end in aligned["words"][name] if not is_silence(w)),
            status="given",
            aligner="GRID",
        )
        mouth = mouth_channels(landmarks)
        times = (np.arange(len(mouth)) + 0.5) / FPS
        first, last = alignment.phones[0].start, alignment.phones[-1].end
        speaking = (times > first - 0.1) & (times < last + 0.2)
        yield TrackedClip(name, folder / "audio" / f"{name}.flac", alignment, mouth, speaking)


def mouth_channels(landmarks: dict[int, np.ndarray]) -> np.ndarray:
    """MediaPipe landmarks, each (T, 3), → aperture, width and chin in mm (T, 3)."""
    right, left = landmarks[33], landmarks[263]
    across = left - right
    eyes = np.linalg.norm(across, axis=1)
    across /= eyes[:, None]
    scale = EYES_MM / eyes
    down = landmarks[2] - (left + right) / 2
    down -= (down * across).sum(1)[:, None] * across
    down /= np.linalg.norm(down, axis=1)[:, None]
    aperture = np.linalg.norm(landmarks[13] - landmarks[14], axis=1) * scale
    width = np.linalg.norm(landmarks[61] - landmarks[291], axis=1) * scale
    chin = ((landmarks[152] - landmarks[2]) * down).sum(1) * scale
    return np.stack([aperture, width - np.median(width[-8:]), chin - np.median(chin[-8:])], axis=1)
