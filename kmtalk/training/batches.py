"""Clips → padded batches, every draw a function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from kmtalk.articulation.targets import PHONE_TARGETS, Contact, canonical_phone
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.motion.inference import select_key_frames
from kmtalk.motion.key_editing import interpolate_key_edits
from kmtalk.motion.losses import PHONES
from kmtalk.motion.model import Batch
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import Features

TRAINING_FRAME_RATES = (25.0, 30.0)
"""Frames per second that are trained on."""

MAX_TIME_OFFSET = 6.0
"""Seconds: a crop's clock begins anywhere up to here, so that no pose is tied to a time of day."""

MAX_EDIT_WEIGHT = 0.7  # greatest weight that an edit gives
EDIT_THRESHOLD = 0.02  # weight by which an edited frame differs

CLOSURE_CORE = 0.5  # of a bilabial's duration, about its middle, that the closure loss watches


class MotionFrames(Protocol):
    """Motion of a clip, (N, out) float32; vertices stay on disk until they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainingExample:
    """One clip made ready: features of its sound, and its motion at ``fps``. ``vertex_basis`` (R, 3V) turns weights into vertex
    offsets, for a head that makes those; ``extra_frame_rates`` are further ones at which crops may be cut; ``other_motion`` is another
    system's motion, whose poses at the key frames CMC completes."""

    name: str
    features: Features
    motion: MotionFrames
    fps: float
    alignment: Alignment
    style: str
    source: str
    vertex_basis: np.ndarray | None = None
    extra_frame_rates: tuple[float, ...] = ()
    other_motion: MotionFrames | None = None


@dataclass(frozen=True)
class Crop:
    """One crop of one example. ``bilabial_closure`` (N,) is 1 within bilabials. ``key_edits`` (m, out) is by how much the poses
    at ``key_frames`` were edited, None where they were not; ``motion`` is the edited one."""

    features: np.ndarray
    times: np.ndarray
    motion: np.ndarray
    key_frames: np.ndarray
    key_edits: np.ndarray | None
    bilabial_closure: np.ndarray
    phones: np.ndarray
    style: str
    given_keys: np.ndarray | None = None


def crop_example(
    example: TrainingExample,
    rng: np.random.Generator,
    max_seconds: float,
    key_placement: str,
    key_edit_rate: float = 0.0,
) -> Crop:
    """A crop of up to ``max_seconds`` s at one of RATES; ``key_frames`` as in motion.model.Shape; with the chance ``key_edit_rate``
    some of its keys are edited."""
    own = len(example.motion)
    fps = (
        example.fps
        if rng.random() < 0.6 or not example.extra_frame_rates
        else float(rng.choice(example.extra_frame_rates))
    )
    count = round(own / example.fps * fps)
    most = min(count, round(max_seconds * fps))
    begin = int(rng.integers(0, count - most + 1))
    times = frame_times(count, fps)[begin : begin + most]
    if fps == example.fps:
        motion = example.motion[begin : begin + most]
    else:
        motion = resample_motion(example.motion[:own], example.fps, times)
    located = select_key_frames(example.alignment, count, fps, key_placement)
    located = located[(located >= begin) & (located < begin + most)] - begin
    if not len(located):
        located = np.array([most // 2])
    change, moved = None, np.zeros(most, bool)
    if rng.random() < key_edit_rate:
        untouched = motion
        located, motion = random_key_edits(motion, located, rng)
        change = motion[located] - untouched[located]
        moved = np.abs(motion - untouched).max(1) > EDIT_THRESHOLD
    if example.vertex_basis is not None:
        motion = motion @ example.vertex_basis
        change = None if change is None else change @ example.vertex_basis
    start, end = begin / fps, (begin + most) / fps
    shut = np.zeros(most, np.float32)
    heard: list[int] = []
    for phone in example.alignment.phones:
        middle, label = (phone.start + phone.end) / 2, canonical_phone(phone.label)
        if start <= middle < end:
            heard.append(PHONES.index(label) + 1)
        if PHONE_TARGETS[label].contact is Contact.BILABIAL:
            half = max(CLOSURE_CORE * (phone.end - phone.start) / 2, 0.5 / fps)
            shut[np.abs(times - middle) <= half] = 1.0
    shut[moved] = 0.0  # what was edited need not close
    shift = float(rng.uniform(0, MAX_TIME_OFFSET)) - start
    return Crop(
        example.features.interpolate(times),
        (times + shift).astype(np.float32),
        motion.astype(np.float32),
        located,
        None if change is None else change.astype(np.float32),
        shut,
        np.array(heard[: most // 2], np.int64),
        example.style,
        None if example.other_motion is None else example.other_motion[begin : begin + most][located],
    )


def random_key_edits(motion: np.ndarray, keys: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Keys (m,) and motion (N, R) in [0, 1] as an animator might leave them: a few poses changed in a few shapes, or
    a shape made larger or smaller in all; now and then a key at no phone. An edit ends at the keys beside it."""
    count, shapes = motion.shape
    if rng.random() < 0.3:
        keys = np.union1d(keys, rng.integers(0, count))
    poses = motion[keys].copy()
    if rng.random() < 0.2:
        some = rng.random(shapes) < 0.5
        poses[:, some] *= rng.uniform(0.2, 2.0)
    else:
        for key in rng.choice(len(keys), min(len(keys), int(rng.integers(1, 5))), replace=False):
            some = rng.choice(shapes, min(shapes, int(rng.integers(1, 4))), replace=False)
            poses[key, some] = rng.uniform(0, MAX_EDIT_WEIGHT, len(some))
    change = interpolate_key_edits(np.clip(poses, 0, 1) - motion[keys], keys, count)
    return keys, np.clip(motion + change, 0, 1)


def collate(pieces: Sequence[Crop], styles: Sequence[str], rng: np.random.Generator) -> Batch:
    """Pad to one batch; one in ten is shown the mean style, so that it can be left there."""
    count, most = max(len(p.times) for p in pieces), max(len(p.key_frames) for p in pieces)
    b, d, out = len(pieces), pieces[0].features.shape[1], pieces[0].motion.shape[1]
    features, motion = np.zeros((b, count, d), np.float32), np.zeros((b, count, out), np.float32)
    times, shut = np.zeros((b, count), np.float32), np.zeros((b, count), np.float32)
    real, keys_real = np.zeros((b, count), bool), np.zeros((b, most), bool)
    located, style = np.zeros((b, most), np.int64), np.zeros((b, len(styles)), np.float32)
    edited = any(p.key_edits is not None for p in pieces)
    change = np.zeros((b, most, out), np.float32) if edited else None
    given = None if pieces[0].given_keys is None else np.zeros((b, most, out), np.float32)
    for i, p in enumerate(pieces):
        n, m = len(p.times), len(p.key_frames)
        features[i, :n], motion[i, :n], times[i, :n], shut[i, :n] = p.features, p.motion, p.times, p.bilabial_closure
        real[i, :n], keys_real[i, :m], located[i, :m] = True, True, p.key_frames
        if change is not None and p.key_edits is not None:
            change[i, :m] = p.key_edits
        if given is not None and p.given_keys is not None:
            given[i, :m] = p.given_keys
        style[i] = 1 / len(styles)
        if p.style in styles and rng.random() > 0.1:
            style[i] = np.array([s == p.style for s in styles], np.float32)
    make = torch.from_numpy
    return Batch(
        make(features),
        make(times),
        make(real),
        make(located),
        make(keys_real),
        make(style),
        make(motion),
        make(shut),
        None if change is None else make(change),
        None if given is None else make(given),
        [make(p.phones) for p in pieces],
    )


def sample_batch(
    groups: Sequence[Sequence[TrainingExample]],
    sampling_weights: Sequence[float],
    batch_size: int,
    styles: Sequence[str],
    max_seconds: float,
    key_placement: str,
    rng: np.random.Generator,
    key_edit_rate: float = 0.0,
) -> Batch:
    """One batch: from each corpus its share."""
    chances = np.array(sampling_weights) / sum(sampling_weights)
    pieces = []
    for _ in range(batch_size):
        group = groups[int(rng.choice(len(groups), p=chances))]
        pieces.append(
            crop_example(group[int(rng.integers(len(group)))], rng, max_seconds, key_placement, key_edit_rate)
        )
    return collate(pieces, styles, rng)


def corrupt_keys(
    truth: torch.Tensor, batch: Batch, predicted: torch.Tensor, generator: torch.Generator, teacher_forcing: float = 0.5
) -> tuple[torch.Tensor, Batch]:
    """Keys as CMC will meet them: of a share ``other_motion`` of clips the truth (two fifths of it jittered in size), of
    the others LKMA's ``predicted``; some that nobody edited are dropped; edits come on top. Returns key motions (B, M, out)
    and the batch with the keys that are left."""
    b, m = batch.key_frames.shape
    device = truth.device
    kind = torch.rand(b, 1, 1, generator=generator).to(device)
    noise = (torch.randn(b, m, 1, generator=generator) * 0.25).to(device)
    shaken = (truth * (1 + noise)).clamp(0, 1) if truth.min() >= 0 else truth * (1 + noise)
    motion = torch.where(kind < 0.6 * teacher_forcing, truth, torch.where(kind < teacher_forcing, shaken, predicted))
    kept = batch.key_mask & (torch.rand(b, m, generator=generator).to(device) > 0.1)
    if batch.key_edits is not None:
        motion = motion + batch.key_edits
        kept |= batch.key_mask & (batch.key_edits != 0).any(-1)
    kept[:, 0] = batch.key_mask[:, 0]
    fields = {**vars(batch), "key_mask": kept}
    return motion, Batch(**fields)
