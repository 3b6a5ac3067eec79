"""Key frames: the frames at phone boundaries (KMTalk §3.2, localisation), and their poses, to be edited."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion, frame_times
from kmtalk.speech.alignment import Alignment

UNIFORM_STRIDE = 3
SILENCE_LABEL = "sil"
POSE_TOLERANCE = (
    1e-4  # of a weight: poses that differ by no more are the same (files round, machines differ in their last bits)
)


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


def locate_key_frames(alignment: Alignment, frame_count: int, fps: float) -> KeyFrames:
    """The frame nearest to each phone's start and end, clipped to the clip, each once; 0 and N − 1 always.

    Where two boundaries fall on one frame, the phone that begins later names it. Without phones, or
    within a span where none were found, the keys are uniform, every third frame.
    """
    last = frame_count - 1
    if not alignment.phones:
        frames = np.unique(np.append(np.arange(0, frame_count, UNIFORM_STRIDE), last))
        return KeyFrames(frames, (SILENCE_LABEL,) * len(frames), fps)
    label_of: dict[int, str] = {0: SILENCE_LABEL, last: SILENCE_LABEL}

    def nearest(time: float) -> int:
        return int(np.clip(np.floor(time * fps), 0, last))  # frame n is centred on (n + 0.5) / fps

    for start, end in alignment.unaligned:
        label_of |= dict.fromkeys(range(nearest(start), nearest(end) + 1, UNIFORM_STRIDE), SILENCE_LABEL)
    for phone in alignment.phones:  # ends first, so that a following phone's start takes the name
        label_of[nearest(phone.end)] = SILENCE_LABEL
    for phone in alignment.phones:
        label_of[nearest(phone.start)] = phone.label
    frames = np.array(sorted(label_of))
    return KeyFrames(frames, tuple(label_of[f] for f in frames.tolist()), fps)


def phone_center_frames(alignment: Alignment, frame_count: int, fps: float) -> list[tuple[int, str]]:
    """The frame nearest to the middle of each phone, with its label."""
    times = frame_times(frame_count, fps)
    return [(int(np.abs(times - (p.start + p.end) / 2).argmin()), p.label) for p in alignment.phones]


def unknown_shape_message(name: str, known: Iterable[str]) -> str:
    """What to say of a shape that a rig lacks."""
    by_lower = {n.lower(): n for n in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return f"{name}: no such shape" + (f"; {by_lower[near[0]]} is meant?" if near else "")


@dataclass
class _Key:
    label: str
    pose: np.ndarray
    pinned: bool = False


class KeyMotions:
    """The key frames of one motion with their poses, which may be changed; completion (``Animation.complete``,
    ``kmtalk complete``) makes the frames between anew.

    A key whose pose is set, or that is moved, becomes *pinned*: completion meets it exactly. The others say how it
    was. Poses are weights in [0, 1] by the rig's shape names.

    >>> animation.keys.set(41, jawOpen=0.4)
    >>> animation.keys.move(52, 54)
    >>> animation = animation.complete()
    """

    def __init__(self, key_frames: KeyFrames, motion: Motion, original_frames: np.ndarray | None = None) -> None:
        self._motion = motion
        self.original_frames = np.array(key_frames.frames if original_frames is None else original_frames, np.int64)
        """The frames (m',) that were keys when the motion was made; what differs from them is an edit."""
        self._keys = {
            frame: _Key(label, motion.weights[frame].astype(np.float32))
            for frame, label in zip(key_frames.frames.tolist(), key_frames.labels, strict=True)
        }

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, frame: object) -> bool:
        return frame in self._keys

    @property
    def fps(self) -> float:
        return self._motion.fps

    @property
    def names(self) -> tuple[str, ...]:
        """Shape names (R,)."""
        return self._motion.rig.names

    @property
    def frames(self) -> np.ndarray:
        """(m,) int, rising."""
        return np.array(sorted(self._keys), np.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        """The phone that begins at each key (m,)."""
        return tuple(self._keys[f].label for f in sorted(self._keys))

    @property
    def times(self) -> np.ndarray:
        """Seconds (m,)."""
        return (self.frames + 0.5) / self.fps

    @property
    def poses(self) -> np.ndarray:
        """Weights (m, R) float32."""
        return np.array([self._keys[f].pose for f in sorted(self._keys)], np.float32)

    @property
    def pinned(self) -> np.ndarray:
        """(m,) bool: keys that completion meets exactly."""
        return np.array([self._keys[f].pinned for f in sorted(self._keys)], bool)

    @property
    def edit_counts(self) -> dict[str, int]:
        """How many keys were ``changed`` in pose, ``added`` and ``removed`` (one that was moved counts as both)."""
        own, found = {*self.frames.tolist()}, {*self.original_frames.tolist()}
        stayed = sorted(own & found)
        changed = [f for f in stayed if np.abs(self._keys[f].pose - self._motion.weights[f]).max() > POSE_TOLERANCE]
        return {"changed": len(changed), "added": len(own - found), "removed": len(found - own)}

    def pose(self, frame: int) -> dict[str, float]:
        """The weights that are not zero, by shape name; raises InputError where there is no key."""
        pose = self.pose_vector(frame)
        return {name: float(w) for name, w in zip(self.names, pose, strict=True) if w > POSE_TOLERANCE / 10}

    def pose_vector(self, frame: int) -> np.ndarray:
        """The weights (R,) float32 at a key; raises InputError where there is none."""
        return self._require_key(frame).pose

    def set(self, frame: int, **weights: float) -> None:
        """Give shapes other weights at a frame, and pin it. A frame that is no key yet becomes one, with the pose it
        has. Raises InputError for a frame outside the clip, an unknown shape, or a weight outside [0, 1]."""
        key = self._keys.get(frame) or _Key(
            SILENCE_LABEL, self._motion.weights[self._check_frame(frame)].astype(np.float32)
        )
        pose = key.pose.copy()
        for name, weight in weights.items():
            if name not in self._motion.rig.index:
                raise InputError(unknown_shape_message(name, self.names))
            if not 0 <= weight <= 1:
                raise InputError(f"{name} {weight:g} at frame {frame}: weights lie from 0 to 1")
            pose[self._motion.rig.index[name]] = weight
        self._keys[frame] = _Key(key.label, pose, pinned=True)

    def set_pose(self, frame: int, label: str, pose: np.ndarray, pinned: bool) -> None:
        """Set a whole pose (R,), pinned or as it was found; raises InputError for a frame outside the clip."""
        self._keys[self._check_frame(frame)] = _Key(label, np.asarray(pose, np.float32), pinned)

    def pin(self, frame: int) -> None:
        """Hold the pose that a frame has, whatever changes around it."""
        self.set(frame)

    def move(self, frame: int, to: int) -> None:
        """Carry a key, with its pose, to another frame, and pin it there. Raises InputError where there is no key,
        or one at ``to`` already, or for the clip's first and last frame, which stay."""
        key = self._require_key(frame)
        if to in self._keys and to != frame:
            raise InputError(f"frame {to}: there is a key already; remove it first")
        self._check_frame(to)
        self.remove(frame)
        self._keys[to] = _Key(key.label, key.pose, pinned=True)

    def remove(self, frame: int) -> None:
        """Take a key out, so that its neighbours decide; the clip's first and last frame stay keys."""
        self._require_key(frame)
        if frame in (0, len(self._motion) - 1):
            raise InputError(f"frame {frame}: the clip's first and last frame stay keys")
        del self._keys[frame]

    def rebased_on(self, motion: Motion) -> KeyMotions:
        """The same keys over another motion of the same clip, whose poses they take; what was pinned stays so."""
        out = KeyMotions(KeyFrames(self.frames, self.labels, self.fps), motion)
        for frame in self.frames[self.pinned].tolist():
            out.pin(frame)
        return out

    def _require_key(self, frame: int) -> _Key:
        if frame not in self._keys:
            near = self.frames[np.argsort(np.abs(self.frames - frame))[:2]]
            raise InputError(f"frame {frame}: no key there; the nearest are at {' and '.join(map(str, sorted(near)))}")
        return self._keys[frame]

    def _check_frame(self, frame: int) -> int:
        if not 0 <= frame < len(self._motion):
            raise InputError(f"frame {frame}: the clip has frames 0 to {len(self._motion) - 1}")
        return frame
