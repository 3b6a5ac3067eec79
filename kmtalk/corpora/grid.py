"""GRID speakers 1 and 4: sentences with audio, true phones and tracked lips (CC BY 4.0, Cooke et al. 2006).

The user passes the corpus' path. Its landmarks are MediaPipe's from one camera, without depth and therefore without lip
protrusion. The chin is tracked too, but follows a third of what the jaw does, so that it is no measure of the jaw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.array_files import load_arrays
from kmtalk.articulation.gestures import bilabial_closure
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.assets import asset_path
from kmtalk.corpora.clip import Clip
from kmtalk.errors import InputError
from kmtalk.speech.alignment import Alignment, Phone, Word, is_silence
from kmtalk.speech.audio import load_audio
from kmtalk.text_files import read_json_file

FPS = 25.0
OUTER_EYE_CORNER_DISTANCE_MM = 90.0  # distance of the outer eye corners, which sets the scale
SPEAKERS = ("s1", "s4")
STYLES = {"s1": "natural", "s4": "natural-s4"}
"""Name of each speaker's style; these styles are learnt from real speakers."""
NON_SPEECH_LABELS = frozenset({"SIL", "+SPN+", "+NSN+"})
REST_FRAMES = 8  # number of frames that show the lips at rest
MOST_REST_MM = 1.5  # mm of aperture above contact up to which the last frames of a clip count as rest


@dataclass(frozen=True)
class TrackedClip:
    """One sentence with its tracked mouth; frame n is at (n + 0.5) / 25 s.

    Attributes:
        name: Name of the clip.
        speaker: One of `SPEAKERS`.
        audio: Audio file.
        alignment: True phones and words.
        mouth_measurements: (T, 5) in mm, the channels of `kmtalk.face.mouth.LIP_CHANNELS`. The tracker reports a gap
            between lips in contact, which is subtracted from the aperture. The other channels are relative to rest:
            the median of the last 8 frames, or, where the lips are parted there, of the 8 pausing frames in which they
            are nearest.
        utterance_mask: Frames of speech (T,), from `Alignment.utterance_mask`.
    """

    name: str
    speaker: str
    audio: Path
    alignment: Alignment
    mouth_measurements: np.ndarray
    utterance_mask: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """Times (T,) of the frames in s."""
        return (np.arange(len(self.mouth_measurements)) + 0.5) / FPS

    @property
    def source(self) -> str:
        """Where the motion comes from."""
        return data_source(self.speaker)


def data_source(speaker: str) -> str:
    """Return the description of a speaker's data."""
    return f"GRID {speaker}, tracked, monocular"


def load_tracked_grid(folder: Path, speaker: str = "s1") -> Iterator[TrackedClip]:
    """Yield the aligned clips of a speaker in order of name.

    Args:
        folder: Folder with `landmarks.npz`, `alignment.json` and `audio/`.
        speaker: One of `SPEAKERS`.

    Raises:
        InputError: `folder` is not the corpus, or there is no such speaker.
    """
    if speaker not in SPEAKERS:
        raise InputError(f"{speaker}: no such speaker of GRID; one of {', '.join(SPEAKERS)}")
    try:
        aligned, arrays = read_json_file(folder / "alignment.json"), load_arrays(folder / "landmarks.npz")
        names, points, xyz = arrays["clip"], arrays["point"].tolist(), arrays["xyz"]
        phones, words = aligned["phones"], aligned["words"]
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: not the GRID corpus with tracked lips ({error})") from None
    column = {p: i for i, p in enumerate(points)}
    measured: list[tuple[str, Alignment, np.ndarray]] = []
    for row in np.argsort(names):
        name = str(names[row])
        if name not in phones:  # 112 of speaker 1's 836 have no alignment
            continue
        try:
            mouth = measure_mouth({p: xyz[row, :, i].astype(float) / 64 for p, i in column.items()})
            measured.append((name, _read_alignment(phones[name], words[name]), mouth))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"{folder}: clip {name} is damaged ({type(error).__name__}: {error})") from None
    contact = _contact_gap([(alignment, mouth) for _, alignment, mouth in measured])
    for name, alignment, mouth in measured:
        speaking = alignment.utterance_mask((np.arange(len(mouth)) + 0.5) / FPS)
        mouth = _relative_to_rest(mouth, speaking, contact)
        yield TrackedClip(name, speaker, folder / "audio" / f"{name}.flac", alignment, mouth, speaking)


def _read_alignment(phones: list[Any], words: list[Any]) -> Alignment:
    return Alignment(
        tuple(Phone(p, start, end) for _, p, start, end in phones if p not in NON_SPEECH_LABELS),
        tuple(Word(w, start, end) for w, start, end in words if not is_silence(w)),
        status="given",
        aligner="GRID",
    )


def measure_mouth(landmarks: dict[int, np.ndarray]) -> np.ndarray:
    """Return aperture, width, and distances of upper and lower lip below the subnasale, and inner width.

    Down is from between the outer corners of the eyes to the chin, as in `kmtalk.face.mouth.MouthMeasurer`. From the
    eyes to the subnasale, which stands forward, drops of the lower lip would be a quarter too small.

    Args:
        landmarks: MediaPipe landmarks (T, 3) by number.

    Returns:
        (T, 5) in mm.
    """
    right, left = landmarks[33], landmarks[263]
    across = left - right
    eyes = np.linalg.norm(across, axis=1)
    across /= eyes[:, None]
    scale = OUTER_EYE_CORNER_DISTANCE_MM / eyes
    down = landmarks[152] - (left + right) / 2
    down -= (down * across).sum(1)[:, None] * across
    down /= np.linalg.norm(down, axis=1)[:, None]

    def distance(a: int, b: int) -> np.ndarray:
        out: np.ndarray = np.linalg.norm(landmarks[a] - landmarks[b], axis=1) * scale
        return out

    upper, lower = (((landmarks[p] - landmarks[2]) * down).sum(1) * scale for p in (13, 14))
    return np.stack([distance(13, 14), distance(61, 291), upper, lower, distance(78, 308)], axis=1)


def _contact_gap(clips: list[tuple[Alignment, np.ndarray]]) -> float:
    """Return the aperture in mm that the tracker reports for lips in contact: the median over p, b and m."""
    minima = []
    for alignment, mouth in clips:
        times = (np.arange(len(mouth)) + 0.5) / FPS
        closed = bilabial_closure(alignment, times) > 0.5
        if closed.any():
            starts = np.flatnonzero(np.diff(np.concatenate([[False], closed])) & closed)
            ends = np.flatnonzero(np.diff(np.concatenate([closed, [False]])) & closed)
            minima += [float(mouth[a : b + 1, 0].min()) for a, b in zip(starts, ends, strict=True)]
    return float(np.median(minima)) if minima else 0.0


def _relative_to_rest(mouth: np.ndarray, speaking: np.ndarray, contact: float) -> np.ndarray:
    """Return the channels (T, 5) of `TrackedClip.mouth_measurements` of what `measure_mouth` returns."""
    resting = np.arange(len(mouth) - REST_FRAMES, len(mouth))
    pausing = np.flatnonzero(~speaking)
    if np.median(mouth[resting, 0]) > contact + MOST_REST_MM and len(pausing):
        resting = pausing[np.argsort(mouth[pausing, 0])[:REST_FRAMES]]
    out = mouth - np.median(mouth[resting], axis=0)
    out[:, 0] = np.maximum(mouth[:, 0] - contact, 0)
    out[:, 2] *= -1  # the upper lip's rise
    return out


def fit_rig_to_tracking(clip: TrackedClip, speaker: SimulatedSpeaker) -> Clip:
    """Fit a tracked mouth with the speaker's rig.

    The weights reproduce the measured lips and keep their contacts; jaw, tongue, protrusion and labiodental contact
    follow the simulated speaker's rules. Raises InputError where audio and motion differ in length by more than 0.25 s.
    """
    audio = load_audio(clip.audio)
    if abs(audio.duration - len(clip.mouth_measurements) / FPS) > 0.25:
        seconds = len(clip.mouth_measurements) / FPS
        lengths = f"{audio.duration:.2f} s of audio but {seconds:.2f} s of lips"
        raise InputError(f"{clip.audio}: {lengths}; check that they belong together")
    weights = speaker.fit_tracked_mouth(clip.alignment, audio, FPS, clip.mouth_measurements)
    style = STYLES[clip.speaker]
    return Clip(clip.name, clip.audio, clip.alignment, weights.astype(np.float32), FPS, style, clip.source)


def held_out_clip_names(speaker: str) -> frozenset[str]:
    """Names of a speaker's clips that are excluded from training and calibration (data/grid/held_out_SPEAKER.txt)."""
    lines = asset_path(f"grid/held_out_{speaker}.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
