"""Key frames: the frames at phone boundaries (KMTalk §3.2, localisation)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.face.motion import frame_times
from kmtalk.speech.alignment import Alignment

UNIFORM_STRIDE = 3
SILENCE = "sil"


@dataclass(frozen=True)
class KeyFrames:
    """``frames`` (m,) int, rising, the first 0 and the last N − 1; ``labels`` (m,) name the phone that
    begins (or, at the clip's end, ends) there; ``fps`` frames per second."""

    frames: np.ndarray
    labels: tuple[str, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def times(self) -> np.ndarray:
        """Seconds (m,)."""
        return (self.frames + 0.5) / self.fps


def locate(alignment: Alignment, count: int, fps: float) -> KeyFrames:
    """The frame nearest to each phone's start and end, clipped to the clip, each once; 0 and N − 1 always.

    Where two boundaries fall on one frame, the phone that begins later names it. Without phones, or
    within a span where none were found, the keys are uniform, every third frame.
    """
    last = count - 1
    if not alignment.phones:
        frames = np.unique(np.append(np.arange(0, count, UNIFORM_STRIDE), last))
        return KeyFrames(frames, (SILENCE,) * len(frames), fps)
    label_of: dict[int, str] = {0: SILENCE, last: SILENCE}

    def nearest(time: float) -> int:
        return int(np.clip(np.floor(time * fps), 0, last))  # frame n is centred on (n + 0.5) / fps

    for start, end in alignment.unaligned:
        label_of |= dict.fromkeys(range(nearest(start), nearest(end) + 1, UNIFORM_STRIDE), SILENCE)
    for phone in alignment.phones:  # ends first, so that a following phone's start takes the name
        label_of[nearest(phone.end)] = SILENCE
    for phone in alignment.phones:
        label_of[nearest(phone.start)] = phone.label
    frames = np.array(sorted(label_of))
    return KeyFrames(frames, tuple(label_of[f] for f in frames.tolist()), fps)


def phone_frames(alignment: Alignment, count: int, fps: float) -> list[tuple[int, str]]:
    """The frame nearest to the middle of each phone, with its label."""
    times = frame_times(count, fps)
    return [(int(np.abs(times - (p.start + p.end) / 2).argmin()), p.label) for p in alignment.phones]
