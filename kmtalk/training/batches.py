"""Random crops of clips and padded batches; every random number depends on the run's seed and step only.

N frames, m key frames, M padded key frames, B crops, S styles, R shapes, V vertices, out numbers per frame of motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from kmtalk.articulation.targets import PHONE_TARGETS, PHONES, Contact
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.motion.inference import select_key_frames
from kmtalk.motion.key_editing import interpolate_key_edits
from kmtalk.motion.model import Batch
from kmtalk.motion.phone_input import phone_activity
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import SpeechFeatures
from kmtalk.speech.phones import canonical_phone

TRAINING_FRAME_RATES = (25.0, 30.0)
"""Frame rates, in frames per second, at which crops of rig corpora are trained."""

MAX_TIME_SHIFT_SECONDS = 6.0
"""Maximum start time of a crop in seconds; it is drawn at random, so that poses do not depend on absolute time."""

MAX_EDITED_WEIGHT = 0.7  # largest weight that a random edit sets
EDITED_FRAME_THRESHOLD = 0.02  # change of a weight above which a frame counts as edited

CLOSURE_CORE_SHARE = 0.5  # middle share of a bilabial's duration on which the lip closure loss acts


class MotionFrames(Protocol):
    """Motion of a clip, (N, out) float32, read by slices; vertices stay on disk until then."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainingExample:
    """A clip prepared for training.

    Attributes:
        name: Name of the clip.
        features: Audio features.
        motion: Motion, shape (N, out).
        fps: Frames per second of `motion`.
        alignment: Phones.
        style: Name of the style.
        motion_source: Where the motion comes from, for example "simulated".
        shape_offsets: Vertex offsets of each shape, shape (R, 3V), to turn weights into vertex offsets; for heads other
            than "rig".
        extra_frame_rates: Further frame rates, in frames per second, at which crops may be taken.
        other_system_motion: Motion of another system, shape (N, out), whose poses at the key frames CMC completes.
    """

    name: str
    features: SpeechFeatures
    motion: MotionFrames
    fps: float
    alignment: Alignment
    style: str
    motion_source: str
    shape_offsets: np.ndarray | None = None
    extra_frame_rates: tuple[float, ...] = ()
    other_system_motion: MotionFrames | None = None


@dataclass(frozen=True)
class Crop:
    """A random part of an example.

    Attributes:
        features: Audio features at the frames, shape (N, d).
        times: Time of each frame in seconds, shape (N,).
        phones: Activity of the phones, shape (N, 2P), see `kmtalk.motion.phone_input.phone_activity`.
        target_motion: Ground truth motion, with edits where there are any, shape (N, out).
        key_frames: Frame indices of the keys, shape (m,).
        key_edits: Amounts by which the poses at the keys were edited, shape (m, out); None without edits.
        bilabial_closure: 1 in the middle of p, b and m, else 0, shape (N,).
        ctc_targets: Phone classes, see `kmtalk.articulation.targets.PHONES`.
        style: Name of the style.
        other_system_keys: Key motions of another system, shape (m, out).
    """

    features: np.ndarray
    times: np.ndarray
    phones: np.ndarray
    target_motion: np.ndarray
    key_frames: np.ndarray
    key_edits: np.ndarray | None
    bilabial_closure: np.ndarray
    ctc_targets: np.ndarray
    style: str
    other_system_keys: np.ndarray | None = None


def crop_example(
    example: TrainingExample,
    rng: np.random.Generator,
    max_seconds: float,
    key_placement: str,
    key_edit_rate: float = 0.0,
) -> Crop:
    """Take a random crop of an example.

    Args:
        example: Example.
        rng: Random generator.
        max_seconds: Maximum length of the crop in seconds.
        key_placement: Placement of the keys, see `kmtalk.motion.inference.select_key_frames`.
        key_edit_rate: Probability that keys of the crop are edited.
    """
    source_count = len(example.motion)
    fps = (
        example.fps
        if rng.random() < 0.6 or not example.extra_frame_rates
        else float(rng.choice(example.extra_frame_rates))
    )
    count = round(source_count / example.fps * fps)
    crop_count = min(count, round(max_seconds * fps))
    begin = int(rng.integers(0, count - crop_count + 1))
    times = frame_times(count, fps)[begin : begin + crop_count]
    if fps == example.fps:
        motion = example.motion[begin : begin + crop_count]
    else:
        motion = resample_motion(example.motion[:source_count], example.fps, times)
    if key_placement == "mixed":
        key_placement = "apex" if rng.random() < 0.5 else "phones"
    key_frames = select_key_frames(example.alignment, count, fps, key_placement)
    key_frames = key_frames[(key_frames >= begin) & (key_frames < begin + crop_count)] - begin
    if not len(key_frames):
        key_frames = np.array([crop_count // 2])
    key_edits, edited = None, np.zeros(crop_count, bool)
    if rng.random() < key_edit_rate:
        unedited_motion = motion
        key_frames, motion = apply_random_key_edits(motion, key_frames, rng)
        key_edits = motion[key_frames] - unedited_motion[key_frames]
        edited = np.abs(motion - unedited_motion).max(1) > EDITED_FRAME_THRESHOLD
    if example.shape_offsets is not None:
        motion = motion @ example.shape_offsets
        key_edits = None if key_edits is None else key_edits @ example.shape_offsets
    start, end = begin / fps, (begin + crop_count) / fps
    closure = np.zeros(crop_count, np.float32)
    phones: list[int] = []
    for phone in example.alignment.phones:
        middle, label = (phone.start + phone.end) / 2, canonical_phone(phone.label)
        if start <= middle < end:
            phones.append(PHONES.index(label) + 1)
        if PHONE_TARGETS[label].contact is Contact.BILABIAL:
            half = max(CLOSURE_CORE_SHARE * (phone.end - phone.start) / 2, 0.5 / fps)
            closure[np.abs(times - middle) <= half] = 1.0
    closure[edited] = 0.0  # edited frames need not close
    shift = float(rng.uniform(0, MAX_TIME_SHIFT_SECONDS)) - start
    other = example.other_system_motion
    return Crop(
        example.features.interpolate(times),
        (times + shift).astype(np.float32),
        phone_activity(example.alignment, times),
        motion.astype(np.float32),
        key_frames,
        None if key_edits is None else key_edits.astype(np.float32),
        closure,
        np.array(phones[: crop_count // 2], np.int64),
        example.style,
        None if other is None else other[begin : begin + crop_count][key_frames],
    )


def apply_random_key_edits(
    motion: np.ndarray, keys: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Edit key motions at random, as an animator might.

    Either a few poses change in a few shapes, or some shapes are scaled in all poses; sometimes a key is added away
    from phone boundaries. An edit ends at its neighbouring keys.

    Args:
        motion: Weights, shape (N, R), in [0, 1].
        keys: Rising frame indices of the keys, shape (m,).
        rng: Random generator.

    Returns:
        keys: Frame indices of the keys, with any added key.
        motion: Edited weights, shape (N, R), in [0, 1].
    """
    count, shapes = motion.shape
    if rng.random() < 0.3:
        keys = np.union1d(keys, rng.integers(0, count))
    poses = motion[keys].copy()
    if rng.random() < 0.2:
        selected = rng.random(shapes) < 0.5
        poses[:, selected] *= rng.uniform(0.2, 2.0)
    else:
        for key in rng.choice(len(keys), min(len(keys), int(rng.integers(1, 5))), replace=False):
            selected = rng.choice(shapes, min(shapes, int(rng.integers(1, 4))), replace=False)
            poses[key, selected] = rng.uniform(0, MAX_EDITED_WEIGHT, len(selected))
    edits = interpolate_key_edits(np.clip(poses, 0, 1) - motion[keys], keys, count)
    return keys, np.clip(motion + edits, 0, 1)


def collate(crops: Sequence[Crop], styles: Sequence[str], rng: np.random.Generator) -> Batch:
    """Pad crops to one batch.

    One crop in ten, and crops of unknown style, get equal shares of all styles, so that the mean style is trained too.

    Args:
        crops: Crops.
        styles: Names of the S styles.
        rng: Random generator.
    """
    count, key_count = max(len(p.times) for p in crops), max(len(p.key_frames) for p in crops)
    b, d, out = len(crops), crops[0].features.shape[1], crops[0].target_motion.shape[1]
    features, motion = np.zeros((b, count, d), np.float32), np.zeros((b, count, out), np.float32)
    times, closure = np.zeros((b, count), np.float32), np.zeros((b, count), np.float32)
    phone_input = np.zeros((b, count, crops[0].phones.shape[1]), np.float32)
    mask, key_mask = np.zeros((b, count), bool), np.zeros((b, key_count), bool)
    key_frames, style = np.zeros((b, key_count), np.int64), np.zeros((b, len(styles)), np.float32)
    has_edits = any(p.key_edits is not None for p in crops)
    key_edits = np.zeros((b, key_count, out), np.float32) if has_edits else None
    other_system_keys = None if crops[0].other_system_keys is None else np.zeros((b, key_count, out), np.float32)
    for i, p in enumerate(crops):
        n, m = len(p.times), len(p.key_frames)
        features[i, :n], motion[i, :n], times[i, :n], closure[i, :n] = (
            p.features,
            p.target_motion,
            p.times,
            p.bilabial_closure,
        )
        phone_input[i, :n] = p.phones
        mask[i, :n], key_mask[i, :m], key_frames[i, :m] = True, True, p.key_frames
        if key_edits is not None and p.key_edits is not None:
            key_edits[i, :m] = p.key_edits
        if other_system_keys is not None and p.other_system_keys is not None:
            other_system_keys[i, :m] = p.other_system_keys
        style[i] = 1 / len(styles)
        if p.style in styles and rng.random() > 0.1:
            style[i] = np.array([s == p.style for s in styles], np.float32)
    tensor = torch.from_numpy
    return Batch(
        tensor(features),
        tensor(times),
        tensor(mask),
        tensor(key_frames),
        tensor(key_mask),
        tensor(style),
        tensor(phone_input),
        tensor(motion),
        tensor(closure),
        None if key_edits is None else tensor(key_edits),
        None if other_system_keys is None else tensor(other_system_keys),
        [tensor(p.ctc_targets) for p in crops],
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
    """Draw one batch of random crops.

    Args:
        groups: Examples of each corpus.
        sampling_weights: Relative probability of each corpus.
        batch_size: Number of crops.
        styles: Names of the S styles.
        max_seconds: Maximum length of a crop in seconds.
        key_placement: Placement of the keys, see `kmtalk.motion.inference.select_key_frames`.
        rng: Random generator.
        key_edit_rate: Probability that keys of a crop are edited.
    """
    probabilities = np.array(sampling_weights) / sum(sampling_weights)
    crops = []
    for _ in range(batch_size):
        group = groups[int(rng.choice(len(groups), p=probabilities))]
        crops.append(crop_example(group[int(rng.integers(len(group)))], rng, max_seconds, key_placement, key_edit_rate))
    return collate(crops, styles, rng)


def sample_key_motions(
    truth: torch.Tensor, batch: Batch, predicted: torch.Tensor, generator: torch.Generator, teacher_forcing: float = 0.5
) -> tuple[torch.Tensor, Batch]:
    """Choose the key motions on which CMC is trained.

    For a share `teacher_forcing` of crops they are the ground truth (two fifths of these with poses scaled at random),
    otherwise LKMA's prediction. Keys without edits are dropped at random; edits are added.

    Args:
        truth: Ground truth key motions before any edit, shape (B, M, out).
        batch: Batch.
        predicted: Key motions predicted by LKMA, shape (B, M, out).
        generator: Random generator.
        teacher_forcing: Share of crops with ground truth key motions.

    Returns:
        key_motions: Key motions, shape (B, M, out).
        batch: The batch without the dropped keys in its `key_mask`.
    """
    b, m = batch.key_frames.shape
    device = truth.device
    draw = torch.rand(b, 1, 1, generator=generator).to(device)
    noise = (torch.randn(b, m, 1, generator=generator) * 0.25).to(device)
    scaled = (truth * (1 + noise)).clamp(0, 1) if truth.min() >= 0 else truth * (1 + noise)
    motion = torch.where(draw < 0.6 * teacher_forcing, truth, torch.where(draw < teacher_forcing, scaled, predicted))
    key_mask = batch.key_mask & (torch.rand(b, m, generator=generator).to(device) > 0.1)
    if batch.key_edits is not None:
        motion = motion + batch.key_edits
        key_mask |= batch.key_mask & (batch.key_edits != 0).any(-1)
    key_mask[:, 0] = batch.key_mask[:, 0]
    fields = {**vars(batch), "key_mask": key_mask}
    return motion, Batch(**fields)
