"""GRID speaker 1: sentences with audio, true phones and tracked lips (CC BY 4.0, Cooke et al. 2006).

The user passes the corpus' path. Its landmarks are MediaPipe's from one camera, without depth and therefore without lip
protrusion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.assets import asset_path
from kmtalk.corpora.clip import Clip
from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, Phone, Word, is_silence
from kmtalk.speech.audio import load_audio

FPS = 25.0
OUTER_EYE_CORNER_DISTANCE_MM = 90.0  # distance of the outer eye corners, which sets the scale
DATA_SOURCE = "GRID s1, tracked, monocular"
GRID_STYLE = "natural"
"""Name of this speaker's style, the only one learnt from a real speaker."""
NON_SPEECH_LABELS = frozenset({"SIL", "+SPN+", "+NSN+"})


@dataclass(frozen=True)
class TrackedClip:
    """One sentence with its tracked mouth; frame n is at (n + 0.5) / 25 s.

    Attributes:
        name: Name of the clip.
        audio: Audio file.
        alignment: True phones and words.
        mouth_measurements: (T, 3) in mm: aperture of the inner lips; distance of the mouth corners and drop of the
            chin, both relative to rest (the median of the last 8 frames).
        utterance_mask: Frames of speech (T,), from `Alignment.utterance_mask`.
    """

    name: str
    audio: Path
    alignment: Alignment
    mouth_measurements: np.ndarray
    utterance_mask: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Times (T,) of the frames in s."""
        return (np.arange(len(self.mouth_measurements)) + 0.5) / FPS


def load_tracked_grid(folder: Path) -> Iterator[TrackedClip]:
    """Yield the aligned clips in order of name; raises InputError where `folder` is not the corpus."""
    try:
        aligned = json.loads((folder / "alignment.json").read_text())
        with np.load(folder / "landmarks.npz") as file:
            names, points, xyz = file["clip"], file["point"].tolist(), file["xyz"]
        phones, words = aligned["phones"], aligned["words"]
    except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"{folder}: not the GRID corpus with tracked lips ({error})") from None
    column = {p: i for i, p in enumerate(points)}
    for row in np.argsort(names):
        name = str(names[row])
        if name not in phones:  # 112 of the 836 have no alignment
            continue
        try:
            yield _read_clip(
                folder, name, {p: xyz[row, :, i].astype(float) / 64 for p, i in column.items()}, phones, words
            )
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"{folder}: clip {name} is damaged ({type(error).__name__}: {error})") from None


def _read_clip(
    folder: Path, name: str, landmarks: dict[int, np.ndarray], phones: dict[str, Any], words: dict[str, Any]
) -> TrackedClip:
    alignment = Alignment(
        tuple(Phone(p, start, end) for _, p, start, end in phones[name] if p not in NON_SPEECH_LABELS),
        tuple(Word(w, start, end) for w, start, end in words[name] if not is_silence(w)),
        status="given",
        aligner="GRID",
    )
    mouth = measure_mouth(landmarks)
    speaking = alignment.utterance_mask((np.arange(len(mouth)) + 0.5) / FPS)
    return TrackedClip(name, folder / "audio" / f"{name}.flac", alignment, mouth, speaking)


def measure_mouth(landmarks: dict[int, np.ndarray]) -> np.ndarray:
    """Return aperture, width and chin (T, 3) in mm from MediaPipe landmarks (T, 3) by number; see `TrackedClip`."""
    right, left = landmarks[33], landmarks[263]
    across = left - right
    eyes = np.linalg.norm(across, axis=1)
    across /= eyes[:, None]
    scale = OUTER_EYE_CORNER_DISTANCE_MM / eyes
    down = landmarks[2] - (left + right) / 2
    down -= (down * across).sum(1)[:, None] * across
    down /= np.linalg.norm(down, axis=1)[:, None]
    aperture = np.linalg.norm(landmarks[13] - landmarks[14], axis=1) * scale
    width = np.linalg.norm(landmarks[61] - landmarks[291], axis=1) * scale
    chin = ((landmarks[152] - landmarks[2]) * down).sum(1) * scale
    return np.stack([aperture, width - np.median(width[-8:]), chin - np.median(chin[-8:])], axis=1)


def fit_rig_to_tracking(clip: TrackedClip, speaker: SimulatedSpeaker) -> Clip:
    """Fit a tracked mouth with the speaker's rig.

    The weights reproduce the measured channels and keep lip contacts; all other shapes follow the simulated speaker's
    rules. Raises InputError where audio and motion differ in length by more than 0.25 s.
    """
    audio = load_audio(clip.audio)
    if abs(audio.duration - len(clip.mouth_measurements) / FPS) > 0.25:
        seconds = len(clip.mouth_measurements) / FPS
        lengths = f"{audio.duration:.2f} s of audio but {seconds:.2f} s of lips"
        raise InputError(f"{clip.audio}: {lengths}; check that they belong together")
    weights = speaker.fit_tracked_mouth(clip.alignment, audio, FPS, clip.mouth_measurements)
    return Clip(clip.name, clip.audio, clip.alignment, weights.astype(np.float32), FPS, GRID_STYLE, DATA_SOURCE)


def held_out_clip_names() -> frozenset[str]:
    """Names of the clips that are excluded from training and calibration (data/grid/held_out.txt)."""
    lines = asset_path("grid/held_out.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
