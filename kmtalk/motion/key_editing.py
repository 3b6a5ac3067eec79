"""Editing of key motions: updates a motion after the poses of its key frames were edited.

N frames, m key frames, R shapes of the rig.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kmtalk.articulation.targets import PHONE_TARGETS, Contact
from kmtalk.face.motion import Motion, frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.keys import POSE_TOLERANCE, KeyMotions
from kmtalk.motion.inference import network_frame_rate, predict_motion
from kmtalk.motion.model import KMTalkNetwork
from kmtalk.motion.postprocessing import seal_bilabials
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import SpeechFeatures
from kmtalk.speech.phones import canonical_phone

FADE_SECONDS = 0.4
"""Seconds beyond an edit's neighbouring keys over which its effect fades out."""

SEAL_RELEASE_FRAMES = 2  # frames around a pinned key over which the closure of the lips is relaxed


def interpolate_key_edits(edits: np.ndarray, key_frames: np.ndarray, frame_count: int) -> np.ndarray:
    """Interpolate edits between keys; each fades out smoothly towards its neighbouring keys.

    Args:
        edits: Amounts by which the poses change, shape (m, R).
        key_frames: Rising frame indices of the keys, shape (m,).
        frame_count: Number N of frames.

    Returns:
        Changes of the motion, shape (N, R).
    """
    if len(key_frames) < 2:
        return np.repeat(edits, frame_count, axis=0)
    frames = np.arange(frame_count)
    left = np.clip(np.searchsorted(key_frames, frames, side="right") - 1, 0, len(key_frames) - 2)
    t = np.clip((frames - key_frames[left]) / (key_frames[left + 1] - key_frames[left]), 0, 1)
    rise = (t * t * (3 - 2 * t))[:, None]
    out: np.ndarray = (1 - rise) * edits[left] + rise * edits[left + 1]
    return out


def find_edits(keys: KeyMotions, motion: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Find what was edited since the keys took their poses from a motion.

    Args:
        keys: The m keys.
        motion: Weights before the edit, shape (N, R).

    Returns:
        changed: Mask of the keys whose pose is another, shape (m,).
        edited: Rising frames of these, and of keys that were added, moved or removed.
    """
    changed = np.abs(keys.poses - motion[keys.frames]).max(1) > POSE_TOLERANCE
    moved = {*keys.original_frames.tolist()} ^ {*keys.frames.tolist()}
    return changed, sorted(moved | {*keys.frames[changed].tolist()})


def update_edited_motion(
    motion: Motion,
    alignment: Alignment,
    keys: KeyMotions,
    network: KMTalkNetwork,
    features: SpeechFeatures,
    style_weights: np.ndarray,
    duration: float,
) -> np.ndarray:
    """Update a motion after its keys were edited.

    CMC runs twice: with LKMA's key motions at the original keys, and with the edits added at the current keys. The
    difference is added to the motion, in full between the neighbouring keys of each edit and fading out within
    `FADE_SECONDS` beyond them. The remaining difference to pinned poses is interpolated between keys, so that they are
    met exactly. Lips closed at p, b and m stay closed, except at pinned keys of these phones.

    Args:
        motion: Motion before the edit.
        alignment: Phones of the clip.
        keys: Keys with their edited poses.
        network: Network that completes the motion.
        features: Audio features of the clip from the network's encoder.
        style_weights: Share of each style, shape (S,).
        duration: Length of the clip in seconds.

    Returns:
        Weights, shape (N, R), in [0, 1]; those of `motion` where nothing was edited.
    """
    base, rig, fps, count = motion.weights, motion.rig, motion.fps, len(motion)
    frames, poses = keys.frames, keys.poses
    changed, edited = find_edits(keys, base)
    if not edited:
        return base
    names = tuple(n for n in network.config.shape_names if n in rig.index)
    columns, scale = [rig.index[n] for n in names], rig.shape_gains(names)
    network_fps = network_frame_rate(fps)
    total = frame_count(duration, network_fps)

    def to_network_frames(indices: np.ndarray) -> np.ndarray:
        return np.clip(np.floor((indices + 0.5) / fps * network_fps), 0, total - 1).astype(int)

    edits = np.where(changed[:, None], (poses - base[frames])[:, columns] / scale, 0.0)
    network_keys, key_edits = _merge_colliding_keys(to_network_frames(frames), edits)
    before = predict_motion(
        network,
        features,
        alignment,
        np.unique(to_network_frames(keys.original_frames)),
        total,
        network_fps,
        style_weights,
    )
    after = predict_motion(network, features, alignment, network_keys, total, network_fps, style_weights, key_edits)
    difference = after - before
    if network_fps != fps:
        difference = resample_motion(difference, network_fps, frame_times(count, fps))
    delta = np.zeros(base.shape)
    delta[:, columns] = (
        scale * difference[:count] * edit_window(edited, np.union1d(keys.original_frames, frames), count, fps)[:, None]
    )
    return apply_key_change(motion, alignment, keys, delta)


def apply_key_change(motion: Motion, alignment: Alignment, keys: KeyMotions, delta: np.ndarray) -> np.ndarray:
    """Add the change that a model makes of edited keys to a motion, and meet the pinned keys exactly.

    Args:
        motion: Motion before the edit.
        alignment: Phones of the clip.
        keys: Keys with their edited poses.
        delta: Change of the weights, shape (N, R), zero where nothing was edited.

    Returns:
        Weights, shape (N, R), in [0, 1].
    """
    base, rig, fps, count = motion.weights, motion.rig, motion.fps, len(motion)
    frames, poses, pinned = keys.frames, keys.poses, keys.pinned
    pinned_frames = frames[pinned]
    bilabial = {frame for frame, label in zip(frames, keys.phone_labels, strict=True) if _is_bilabial(label)} & {
        *pinned_frames.tolist()
    }
    sealing = _LipSealing(rig, alignment, pinned_frames, sorted(bilabial), count, fps)
    out = base + sealing(delta)
    remaining = np.where(pinned[:, None], poses - np.clip(out[frames], 0, 1), 0.0)
    out = np.clip(out + sealing(interpolate_key_edits(remaining, frames, count)), 0, 1).astype(np.float32)
    out[pinned_frames] = poses[pinned]
    return out


def _merge_colliding_keys(frames: np.ndarray, edits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge keys that fall on the same frame of the network, keeping the larger edit."""
    greatest: dict[int, np.ndarray] = {}
    for frame, row in zip(frames.tolist(), edits, strict=True):
        if frame not in greatest or np.abs(row).max() > np.abs(greatest[frame]).max():
            greatest[frame] = row
    merged = sorted(greatest)
    return np.array(merged), np.array([greatest[f] for f in merged], np.float32)


def edit_window(edited: list[int], keys: np.ndarray, count: int, fps: float) -> np.ndarray:
    """Weight of the edits per frame, (N,): 1 between the keys around an edited frame, 0 from `FADE_SECONDS` beyond."""
    out, fade = np.zeros(count), int(np.ceil(FADE_SECONDS * fps))
    for frame in edited:
        low = int(keys[max(int(np.searchsorted(keys, frame)) - 1, 0)])
        high = int(keys[min(int(np.searchsorted(keys, frame, side="right")), len(keys) - 1)])
        part = slice(max(low - fade, 0), high + fade + 1)
        frames = np.arange(count)[part]
        distance = np.maximum(np.maximum(low - frames, frames - high), 0) / (FADE_SECONDS * fps)
        t = np.clip(1 - distance, 0, 1)
        out[part] = np.maximum(out[part], t * t * (3 - 2 * t))
    return out


def _is_bilabial(label: str) -> bool:
    return PHONE_TARGETS[canonical_phone(label)].contact is Contact.BILABIAL


class _LipSealing:
    """Removes from a change of weights what would open lips closed by p, b or m.

    Frames around pinned keys, and closures that have a pinned key of their own (`bilabial_keys`), are left unchanged.
    """

    def __init__(
        self, rig: Rig, alignment: Alignment, pinned: np.ndarray, bilabial_keys: list[int], count: int, fps: float
    ) -> None:
        self._rig, self._times = rig, frame_times(count, fps)
        key_times = (np.array(bilabial_keys, float) + 0.5) / fps
        pinned_phones = [
            p
            for p in alignment.phones
            if ((key_times > p.start - 1 / fps) & (key_times < p.end)).any() and _is_bilabial(p.label)
        ]
        self._alignment = replace(alignment, phones=tuple(p for p in alignment.phones if p not in pinned_phones))
        exact = np.zeros(count)
        for step in range(-SEAL_RELEASE_FRAMES, SEAL_RELEASE_FRAMES + 1):
            frames = pinned + step
            frames = frames[(frames >= 0) & (frames < count)]
            exact[frames] = np.maximum(exact[frames], 1 - abs(step) / SEAL_RELEASE_FRAMES)
        self._exact = exact[:, None]

    def __call__(self, change: np.ndarray) -> np.ndarray:
        if not self._alignment.phones:
            return change
        sealed = seal_bilabials(change, self._rig, self._alignment, self._times)
        return self._exact * change + (1 - self._exact) * sealed
