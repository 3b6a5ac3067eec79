"""Edited keys: what a change of poses at key frames does to the frames between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kmtalk.articulation.targets import PHONE_TARGETS, Contact, canonical_phone
from kmtalk.face.motion import Motion, frame_count, frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.keys import POSE_TOLERANCE, KeyMotions
from kmtalk.motion.inference import network_frame_rate, predict_motion
from kmtalk.motion.model import KMTalkNetwork
from kmtalk.motion.postprocessing import seal_bilabials
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import Features

FADE_SECONDS = 0.4
"""Seconds beyond the keys beside an edit within which its effect fades out."""

PINNED_RADIUS = 2  # frames about a pinned one in which a closure gives way to it


def interpolate_key_edits(edits: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """Changes (m, R) at rising key frames (m,) → (count, R): each fades out, smoothly, up to the keys beside it."""
    if len(keys) < 2:
        return np.repeat(edits, count, axis=0)
    frames = np.arange(count)
    left = np.clip(np.searchsorted(keys, frames, side="right") - 1, 0, len(keys) - 2)
    t = np.clip((frames - keys[left]) / (keys[left + 1] - keys[left]), 0, 1)
    rise = (t * t * (3 - 2 * t))[:, None]
    out: np.ndarray = (1 - rise) * edits[left] + rise * edits[left + 1]
    return out


def complete_motion(
    motion: Motion,
    alignment: Alignment,
    keys: KeyMotions,
    network: KMTalkNetwork,
    features: Features,
    style_weights: np.ndarray,
    duration: float,
) -> np.ndarray:
    """Weights (N, R) of ``motion`` after its ``keys`` were edited; ``features`` are the network's, of the same clip.

    CMC runs twice, with the key motions as LKMA makes them at the keys that were found, and with the edits added at
    the keys that are there now; by how much the two differ is added to the motion, in full between the keys beside
    each edit and fading out within REACH. What is then left to the pinned poses fades out at the keys beside each, so
    that these are met exactly. Lips that p, b and m hold together stay so, except at pinned keys of theirs.
    """
    base, rig, fps, count = motion.weights, motion.rig, motion.fps, len(motion)
    frames, poses, pinned = keys.frames, keys.poses, keys.pinned
    changed = np.abs(poses - base[frames]).max(1) > POSE_TOLERANCE
    touched = sorted({*keys.original_frames.tolist()} ^ {*frames.tolist()} | {*frames[changed].tolist()})
    if not touched:
        return base
    names = tuple(n for n in network.config.shape_names if n in rig.index)
    columns, scale = [rig.index[n] for n in names], rig.shape_gains(names)
    inner = network_frame_rate(fps)
    total = frame_count(duration, inner)

    def at_inner(which: np.ndarray) -> np.ndarray:
        return np.clip(np.floor((which + 0.5) / fps * inner), 0, total - 1).astype(int)

    asked = np.where(changed[:, None], (poses - base[frames])[:, columns] / scale, 0.0)
    at, change = _merge_colliding_keys(at_inner(frames), asked)
    before = predict_motion(network, features, np.unique(at_inner(keys.original_frames)), total, inner, style_weights)
    after = predict_motion(network, features, at, total, inner, style_weights, change)
    moved = after - before
    if inner != fps:
        moved = resample_motion(moved, inner, frame_times(count, fps))
    delta = np.zeros(base.shape)
    delta[:, columns] = (
        scale * moved[:count] * _edit_window(touched, np.union1d(keys.original_frames, frames), count, fps)[:, None]
    )
    held = frames[pinned]
    bilabial = {frame for frame, label in zip(frames, keys.labels, strict=True) if _is_bilabial(label)} & {
        *held.tolist()
    }
    sealing = _LipSealing(rig, alignment, held, sorted(bilabial), count, fps)
    out = base + sealing(delta)
    left = np.where(pinned[:, None], poses - np.clip(out[frames], 0, 1), 0.0)
    out = np.clip(out + sealing(interpolate_key_edits(left, frames, count)), 0, 1).astype(np.float32)
    out[held] = poses[pinned]
    return out


def _merge_colliding_keys(at: np.ndarray, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys that fall on one frame of the network's become one, with the greater change."""
    greatest: dict[int, np.ndarray] = {}
    for frame, row in zip(at.tolist(), change, strict=True):
        if frame not in greatest or np.abs(row).max() > np.abs(greatest[frame]).max():
            greatest[frame] = row
    frames = sorted(greatest)
    return np.array(frames), np.array([greatest[f] for f in frames], np.float32)


def _edit_window(touched: list[int], keys: np.ndarray, count: int, fps: float) -> np.ndarray:
    """(N,): 1 from the key before to the key after every touched frame, 0 beyond REACH of those."""
    out, reach = np.zeros(count), int(np.ceil(FADE_SECONDS * fps))
    for frame in touched:
        low = int(keys[max(int(np.searchsorted(keys, frame)) - 1, 0)])
        high = int(keys[min(int(np.searchsorted(keys, frame, side="right")), len(keys) - 1)])
        part = slice(max(low - reach, 0), high + reach + 1)
        frames = np.arange(count)[part]
        away = np.maximum(np.maximum(low - frames, frames - high), 0) / (FADE_SECONDS * fps)
        t = np.clip(1 - away, 0, 1)
        out[part] = np.maximum(out[part], t * t * (3 - 2 * t))
    return out


def _is_bilabial(label: str) -> bool:
    return PHONE_TARGETS[canonical_phone(label)].contact is Contact.BILABIAL


class _LipSealing:
    """Takes out of a change what would part lips that p, b or m hold together; not at frames that are pinned, nor
    through a closure whose own key is."""

    def __init__(
        self, rig: Rig, alignment: Alignment, held: np.ndarray, own: list[int], count: int, fps: float
    ) -> None:
        self._rig, self._times = rig, frame_times(count, fps)
        at = (np.array(own, float) + 0.5) / fps
        free = [
            p for p in alignment.phones if ((at > p.start - 1 / fps) & (at < p.end)).any() and _is_bilabial(p.label)
        ]
        self._alignment = replace(alignment, phones=tuple(p for p in alignment.phones if p not in free))
        exact = np.zeros(count)
        for step in range(-PINNED_RADIUS, PINNED_RADIUS + 1):
            near = held + step
            near = near[(near >= 0) & (near < count)]
            exact[near] = np.maximum(exact[near], 1 - abs(step) / PINNED_RADIUS)
        self._exact = exact[:, None]

    def __call__(self, change: np.ndarray) -> np.ndarray:
        if not self._alignment.phones:
            return change
        sealed = seal_bilabials(change, self._rig, self._alignment, self._times)
        return self._exact * change + (1 - self._exact) * sealed
