"""Key frames at phone boundaries (KMTalk §3.2, key motion localisation) and their editable poses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kmtalk.articulation.targets import VOWELS
from kmtalk.errors import InputError
from kmtalk.face.motion import Motion, frame_times
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.phones import canonical_phone

UNIFORM_KEY_STRIDE = 3  # frames between keys where there are no phones
SILENCE_LABEL = "sil"
POSE_TOLERANCE = 1e-4  # largest weight difference between equal poses: files round, machines differ in their last bits


@dataclass(frozen=True)
class KeyFrames:
    """The key frames of a clip of N frames.

    Attributes:
        frames: Frame numbers (m,) int, ascending; the first is 0, the last N − 1.
        phone_labels: The phone that starts, or has its middle, at each key (m,), or "sil".
        fps: Frames per second.
    """

    frames: np.ndarray
    phone_labels: tuple[str, ...]
    fps: float

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def times(self) -> np.ndarray:
        """Times of the key frames (m,) in seconds, (n + 0.5) / fps."""
        return (self.frames + 0.5) / self.fps


def locate_key_frames(alignment: Alignment, frame_count: int, fps: float, apex: bool = False) -> KeyFrames:
    """Place key frames at phone boundaries: the frame nearest to each phone's start and end, and the first and last.

    With `apex`, the middle of each vowel is a key too, where the mouth is open furthest. If several keys fall on one
    frame, the phone that starts last gives its label. Without phones, and within unaligned spans, the keys are uniform,
    every third frame.

    Args:
        alignment: The phones and the unaligned spans.
        frame_count: Number N of frames of the clip.
        fps: Frames per second.
        apex: Whether vowels have a key in their middle.

    Returns:
        The key frames, each frame once.
    """
    last = frame_count - 1
    if not alignment.phones:
        frames = np.unique(np.append(np.arange(0, frame_count, UNIFORM_KEY_STRIDE), last))
        return KeyFrames(frames, (SILENCE_LABEL,) * len(frames), fps)
    label_of: dict[int, str] = {0: SILENCE_LABEL, last: SILENCE_LABEL}

    def nearest_frame(time: float) -> int:
        return int(np.clip(np.floor(time * fps), 0, last))  # frame n is centred on (n + 0.5) / fps

    for start, end in alignment.unaligned:
        label_of |= dict.fromkeys(
            range(nearest_frame(start), nearest_frame(end) + 1, UNIFORM_KEY_STRIDE), SILENCE_LABEL
        )
    for phone in alignment.phones:  # ends first, so that the start of the next phone overrides the label
        label_of[nearest_frame(phone.end)] = SILENCE_LABEL
    for phone in alignment.phones:
        if apex and canonical_phone(phone.label) in VOWELS:
            label_of.setdefault(nearest_frame((phone.start + phone.end) / 2), phone.label)
        label_of[nearest_frame(phone.start)] = phone.label
    frames = np.array(sorted(label_of))
    return KeyFrames(frames, tuple(label_of[f] for f in frames.tolist()), fps)


def phone_midpoints(alignment: Alignment, frame_count: int, fps: float) -> list[tuple[int, str]]:
    """The frame nearest to the middle of each phone, as (frame, label)."""
    times = frame_times(frame_count, fps)
    return [(int(np.abs(times - (p.start + p.end) / 2).argmin()), p.label) for p in alignment.phones]


def unknown_shape_message(name: str, known: Iterable[str]) -> str:
    """Error message for a shape that a rig lacks, with the most similar known name."""
    by_lower = {n.lower(): n for n in known}
    similar = difflib.get_close_matches(name.lower(), by_lower, 1, 0.5)
    return f"{name}: no such shape" + (f"; did you mean {by_lower[similar[0]]}?" if similar else "")


@dataclass
class _Key:
    label: str
    pose: np.ndarray
    pinned: bool = False


class KeyMotions:
    """The editable key frames of a motion, with their poses.

    `Animation.complete` and `kmtalk complete` regenerate the frames between the keys. A key becomes *pinned* when its
    pose is set or it is moved: completion reproduces a pinned pose exactly. Poses are weights in [0, 1] by the rig's
    shape names. Below, m is the number of keys and R the number of shapes.

    Args:
        key_frames: Frames and labels of the keys.
        motion: The motion from which the keys take their poses.
        original_frames: Key frames of the unedited motion; None for those of `key_frames`.

    >>> animation.keys.set_weights(41, jawOpen=0.4)
    >>> animation.keys.move(52, 54)
    >>> animation = animation.complete()
    """

    def __init__(self, key_frames: KeyFrames, motion: Motion, original_frames: np.ndarray | None = None) -> None:
        self._motion = motion
        self.original_frames = np.array(key_frames.frames if original_frames is None else original_frames, np.int64)
        """The key frames (m',) of the unedited motion, from which `change_counts` counts."""
        self._keys = {
            frame: _Key(label, motion.weights[frame].astype(np.float32))
            for frame, label in zip(key_frames.frames.tolist(), key_frames.phone_labels, strict=True)
        }

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, frame: object) -> bool:
        return frame in self._keys

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self._motion.fps

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Names of the rig's shapes (R,)."""
        return self._motion.rig.shape_names

    @property
    def frames(self) -> np.ndarray:
        """Frame numbers of the keys (m,) int, ascending."""
        return np.array(sorted(self._keys), np.int64)

    @property
    def phone_labels(self) -> tuple[str, ...]:
        """The phone that starts at each key (m,), or "sil"."""
        return tuple(self._keys[f].label for f in sorted(self._keys))

    @property
    def times(self) -> np.ndarray:
        """Times of the keys (m,) in seconds, (n + 0.5) / fps."""
        return (self.frames + 0.5) / self.fps

    @property
    def poses(self) -> np.ndarray:
        """Weights at the keys (m, R) float32."""
        return np.array([self._keys[f].pose for f in sorted(self._keys)], np.float32)

    @property
    def pinned(self) -> np.ndarray:
        """Whether each key is pinned (m,) bool: completion reproduces it exactly."""
        return np.array([self._keys[f].pinned for f in sorted(self._keys)], bool)

    @property
    def change_counts(self) -> dict[str, int]:
        """Number of keys with a `changed` pose, `added` and `removed`; a moved key counts as added and removed."""
        current, original = {*self.frames.tolist()}, {*self.original_frames.tolist()}
        kept = sorted(current & original)
        changed = [f for f in kept if np.abs(self._keys[f].pose - self._motion.weights[f]).max() > POSE_TOLERANCE]
        return {"changed": len(changed), "added": len(current - original), "removed": len(original - current)}

    def nonzero_weights(self, frame: int) -> dict[str, float]:
        """The nonzero weights of a key by shape name; raises InputError if `frame` is not a key."""
        pose = self.pose_vector(frame)
        return {name: float(w) for name, w in zip(self.shape_names, pose, strict=True) if w > POSE_TOLERANCE / 10}

    def pose_vector(self, frame: int) -> np.ndarray:
        """The weights (R,) float32 of a key; raises InputError if `frame` is not a key."""
        return self._require_key(frame).pose

    def set_weights(self, frame: int, **weights: float) -> None:
        """Set weights at a frame and pin it; a frame that is not a key becomes one with its current pose.

        Args:
            frame: Frame number.
            weights: New weights by shape name; the other shapes keep theirs.

        Raises:
            InputError: The frame is outside the clip, a shape is unknown, or a weight is outside [0, 1].
        """
        key = self._keys.get(frame) or _Key(
            SILENCE_LABEL, self._motion.weights[self._check_frame(frame)].astype(np.float32)
        )
        pose = key.pose.copy()
        for name, weight in weights.items():
            if name not in self._motion.rig.index:
                raise InputError(unknown_shape_message(name, self.shape_names))
            if not 0 <= weight <= 1:
                raise InputError(f"{name} {weight:g} at frame {frame}: weights must be from 0 to 1")
            pose[self._motion.rig.index[name]] = weight
        self._keys[frame] = _Key(key.label, pose, pinned=True)

    def insert_key(self, frame: int, label: str, pose: np.ndarray, pinned: bool) -> None:
        """Set the label, pose (R,) and pinned state of a key; raises InputError for a frame outside the clip."""
        self._keys[self._check_frame(frame)] = _Key(label, np.asarray(pose, np.float32), pinned)

    def pin(self, frame: int) -> None:
        """Pin a frame at its current pose, so that completion keeps it; it becomes a key if it is not one."""
        self.set_weights(frame)

    def move(self, frame: int, to: int) -> None:
        """Move a key with its pose to another frame and pin it there.

        Args:
            frame: Frame of the key.
            to: The new frame.

        Raises:
            InputError: `frame` is not a key or is the first or last frame of the clip, `to` is outside the clip, or
                `to` is already a key.
        """
        key = self._require_key(frame)
        if to in self._keys and to != frame:
            raise InputError(f"frame {to}: is already a key; remove it first")
        self._check_frame(to)
        self.remove(frame)
        self._keys[to] = _Key(key.label, key.pose, pinned=True)

    def remove(self, frame: int) -> None:
        """Remove a key, so that completion fills its frame.

        Raises:
            InputError: `frame` is not a key or is the first or last frame of the clip.
        """
        self._require_key(frame)
        if frame in (0, len(self._motion) - 1):
            raise InputError(f"frame {frame}: the first and last frame of the clip must stay keys")
        del self._keys[frame]

    def with_poses_from(self, motion: Motion) -> KeyMotions:
        """The same keys with the poses of another motion of the same clip; pinned keys stay pinned."""
        keys = KeyMotions(KeyFrames(self.frames, self.phone_labels, self.fps), motion)
        for frame in self.frames[self.pinned].tolist():
            keys.pin(frame)
        return keys

    def _require_key(self, frame: int) -> _Key:
        if frame not in self._keys:
            nearest = self.frames[np.argsort(np.abs(self.frames - frame))[:2]]
            raise InputError(
                f"frame {frame}: not a key; the nearest keys are at {' and '.join(map(str, sorted(nearest)))}"
            )
        return self._keys[frame]

    def _check_frame(self, frame: int) -> int:
        if not 0 <= frame < len(self._motion):
            raise InputError(f"frame {frame}: the clip has frames 0 to {len(self._motion) - 1}")
        return frame
