"""The joint corpus: sound at 22,050 Hz with frame-aligned phones and motion at `MOTION_RATE`.

Most of it is the Piper voice joe, whose phones are exact, and other synthetic voices. Their motion is simulated: by
the shipped network, in its styles, and by the simulated speaker, with brows, lids, gaze and head by prosody. Speakers 1
and 4 of GRID have real voices and tracked lips. `kmtalk.joint.corpus_building` builds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.array_files import load_arrays
from kmtalk.errors import InputError
from kmtalk.joint.clock import HOP_SAMPLES, MEL_FRAMES_PER_MOTION_FRAME, SAMPLE_RATE
from kmtalk.joint.tokens import Span

MANIFEST_NAME = "joint.json"
FORMAT_VERSION = 1
SIMULATED = "simulated"
SAMPLES_PER_POSE = HOP_SAMPLES * MEL_FRAMES_PER_MOTION_FRAME


@dataclass(frozen=True)
class JointClip:
    """One utterance of the corpus.

    Attributes:
        name: Name of the clip.
        voice: Name of the speaker.
        style: Name of the speaking style of the motion.
        source: Where the motion comes from ("simulated, network", "simulated, rules", "GRID s1, tracked, monocular").
        text: What is spoken, empty where unknown.
        spans: Phones and pauses.
        held_out: Whether it is kept for validation.
        audio: Sound file at `SAMPLE_RATE`.
        weights: (M, R) float32, weights of the rig's R shapes at `MOTION_RATE`.
        other: Name of the clip of the other speaker of a conversation, which is as long; "" for none.
    """

    name: str
    voice: str
    style: str
    source: str
    text: str
    spans: tuple[Span, ...]
    held_out: bool
    audio: Path
    weights: np.ndarray
    other: str = ""

    def load_samples(self) -> np.ndarray:
        """Load the sound, (S,) float32 at `SAMPLE_RATE`."""
        samples, _ = soundfile.read(self.audio, dtype="float32")
        return np.asarray(samples)


@dataclass(frozen=True)
class Utterance:
    """What was spoken: samples (S,) at `SAMPLE_RATE`, phones and pauses, the voice's name and the text."""

    samples: np.ndarray
    spans: list[Span]
    voice: str
    text: str


def write_clip(
    folder: Path,
    number: int,
    spoken: Utterance,
    weights: np.ndarray,
    style: str,
    source: str,
    held_out: bool,
    other: int | None = None,
) -> dict[str, object]:
    """Write sound and motion of one clip, and return its row of the manifest.

    Args:
        folder: Folder of the corpus.
        number: Number of the clip.
        spoken: What is spoken; samples beyond the motion are left out.
        weights: (M, R) weights at `MOTION_RATE`.
        style: Name of the speaking style.
        source: Where the motion comes from.
        held_out: Whether it is kept for validation.
        other: Number of the clip of the other speaker of a conversation.
    """
    samples = spoken.samples[: len(weights) * SAMPLES_PER_POSE]
    stem = f"{number:05d}"
    soundfile.write(folder / "audio" / f"{stem}.flac", samples / max(1.0, np.abs(samples).max()), SAMPLE_RATE)
    packed = np.round(np.clip(weights, 0, 1) * 65535).astype(np.uint16)
    np.savez_compressed(folder / "motion" / f"{stem}.npz", weights=packed)
    row: dict[str, object] = {
        "name": stem,
        "voice": spoken.voice,
        "style": style,
        "source": source,
        "text": spoken.text,
        "held_out": held_out,
        "spans": [[s.label, s.start, s.stop, s.stress] for s in spoken.spans],
    }
    return row if other is None else row | {"other": f"{other:05d}"}


def load_joint_corpus(folder: Path, shape_names: Sequence[str]) -> list[JointClip]:
    """Load the clips of a corpus made by `build_joint_corpus`.

    Raises:
        InputError: The folder has none, a clip is damaged, or it was made for another rig.
    """
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        version, names, rows = manifest["version"], tuple(manifest["names"]), manifest["clips"]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: not a joint corpus ({error}); make one with kmtalk corpus build joint") from None
    if version != FORMAT_VERSION or names != tuple(shape_names):
        raise InputError(f"{folder}: was made for another rig or version of kmtalk; build it again")
    clips = []
    for row in rows:
        try:
            clips.append(_read_clip(folder, row, len(names)))
        except Exception as error:
            raise InputError(f"{folder}: clip {row} is damaged ({type(error).__name__}); build it again") from None
    return clips


def _read_clip(folder: Path, row: dict[str, Any], shapes: int) -> JointClip:
    weights = load_arrays(folder / "motion" / f"{row['name']}.npz")["weights"].astype(np.float32) / 65535
    if weights.ndim != 2 or weights.shape[1] != shapes:
        raise ValueError("motion of another rig")
    return JointClip(
        str(row["name"]), str(row["voice"]), str(row["style"]), str(row["source"]), str(row["text"]),
        tuple(Span(str(s[0]), int(s[1]), int(s[2]), int(s[3])) for s in row["spans"]), bool(row["held_out"]),
        folder / "audio" / f"{row['name']}.flac", weights, str(row.get("other", "")),
    )  # fmt: skip
