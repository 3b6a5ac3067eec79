"""Clips → padded batches, every draw a function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from kmtalk.articulation.targets import TARGETS, Contact, canonical
from kmtalk.face.motion import at_times, frame_times
from kmtalk.motion.editing import spread
from kmtalk.motion.inference import place_keys
from kmtalk.motion.losses import PHONES
from kmtalk.motion.model import Batch
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encode import Features

RATES = (25.0, 30.0)
"""Frames per second that are trained on."""

BEGINNING = 6.0
"""Seconds: a crop's clock begins anywhere up to here, so that no pose is tied to a time of day."""

MOST = 0.7  # greatest weight that an edit gives
EDITED = 0.02  # weight by which an edited frame differs

CLOSED_SHARE = 0.5  # of a bilabial's duration, about its middle, that the closure loss watches


class Frames(Protocol):
    """Motion of a clip, (N, out) float32; vertices stay on disk until they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Example:
    """One clip made ready: features of its sound, and its motion at ``fps``. ``flat`` (R, 3V) turns weights into vertex
    offsets, for a head that makes those; ``rates`` are further ones at which crops may be cut; ``given`` is another
    system's motion, whose poses at the key frames CMC completes."""

    name: str
    features: Features
    motion: Frames
    fps: float
    alignment: Alignment
    style: str
    source: str
    flat: np.ndarray | None = None
    rates: tuple[float, ...] = ()
    given: Frames | None = None


@dataclass(frozen=True)
class Piece:
    """One crop of one example. ``shut`` (N,) is 1 within bilabials. ``change`` (m, out) is by how much the poses
    at ``keys`` were edited, None where they were not; ``motion`` is the edited one."""

    features: np.ndarray
    times: np.ndarray
    motion: np.ndarray
    keys: np.ndarray
    change: np.ndarray | None
    shut: np.ndarray
    phones: np.ndarray
    style: str
    given: np.ndarray | None = None


def cut(example: Example, rng: np.random.Generator, longest: float, keys: str, edits: float = 0.0) -> Piece:
    """A crop of up to ``longest`` s at one of RATES; ``keys`` as in motion.model.Shape; with the chance ``edits``
    some of its keys are edited."""
    own = len(example.motion)
    fps = example.fps if rng.random() < 0.6 or not example.rates else float(rng.choice(example.rates))
    count = round(own / example.fps * fps)
    most = min(count, round(longest * fps))
    begin = int(rng.integers(0, count - most + 1))
    times = frame_times(count, fps)[begin : begin + most]
    if fps == example.fps:
        motion = example.motion[begin : begin + most]
    else:
        motion = at_times(example.motion[:own], example.fps, times)
    located = place_keys(example.alignment, count, fps, keys)
    located = located[(located >= begin) & (located < begin + most)] - begin
    if not len(located):
        located = np.array([most // 2])
    change, moved = None, np.zeros(most, bool)
    if rng.random() < edits:
        untouched = motion
        located, motion = edited(motion, located, rng)
        change = motion[located] - untouched[located]
        moved = np.abs(motion - untouched).max(1) > EDITED
    if example.flat is not None:
        motion = motion @ example.flat
        change = None if change is None else change @ example.flat
    start, end = begin / fps, (begin + most) / fps
    shut = np.zeros(most, np.float32)
    heard: list[int] = []
    for phone in example.alignment.phones:
        middle, label = (phone.start + phone.end) / 2, canonical(phone.label)
        if start <= middle < end:
            heard.append(PHONES.index(label) + 1)
        if TARGETS[label].contact is Contact.BILABIAL:
            half = max(CLOSED_SHARE * (phone.end - phone.start) / 2, 0.5 / fps)
            shut[np.abs(times - middle) <= half] = 1.0
    shut[moved] = 0.0  # what was edited need not close
    shift = float(rng.uniform(0, BEGINNING)) - start
    return Piece(
        example.features.at(times),
        (times + shift).astype(np.float32),
        motion.astype(np.float32),
        located,
        None if change is None else change.astype(np.float32),
        shut,
        np.array(heard[: most // 2], np.int64),
        example.style,
        None if example.given is None else example.given[begin : begin + most][located],
    )


def edited(motion: np.ndarray, keys: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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
            poses[key, some] = rng.uniform(0, MOST, len(some))
    change = spread(np.clip(poses, 0, 1) - motion[keys], keys, count)
    return keys, np.clip(motion + change, 0, 1)


def stack(pieces: Sequence[Piece], styles: Sequence[str], rng: np.random.Generator) -> Batch:
    """Pad to one batch; one in ten is shown the mean style, so that it can be left there."""
    count, most = max(len(p.times) for p in pieces), max(len(p.keys) for p in pieces)
    b, d, out = len(pieces), pieces[0].features.shape[1], pieces[0].motion.shape[1]
    features, motion = np.zeros((b, count, d), np.float32), np.zeros((b, count, out), np.float32)
    times, shut = np.zeros((b, count), np.float32), np.zeros((b, count), np.float32)
    real, keys_real = np.zeros((b, count), bool), np.zeros((b, most), bool)
    located, style = np.zeros((b, most), np.int64), np.zeros((b, len(styles)), np.float32)
    edited = any(p.change is not None for p in pieces)
    change = np.zeros((b, most, out), np.float32) if edited else None
    given = None if pieces[0].given is None else np.zeros((b, most, out), np.float32)
    for i, p in enumerate(pieces):
        n, m = len(p.times), len(p.keys)
        features[i, :n], motion[i, :n], times[i, :n], shut[i, :n] = p.features, p.motion, p.times, p.shut
        real[i, :n], keys_real[i, :m], located[i, :m] = True, True, p.keys
        if change is not None and p.change is not None:
            change[i, :m] = p.change
        if given is not None and p.given is not None:
            given[i, :m] = p.given
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


def draw(
    groups: Sequence[Sequence[Example]],
    shares: Sequence[float],
    size: int,
    styles: Sequence[str],
    longest: float,
    keys: str,
    rng: np.random.Generator,
    edits: float = 0.0,
) -> Batch:
    """One batch: from each corpus its share."""
    chances = np.array(shares) / sum(shares)
    pieces = []
    for _ in range(size):
        group = groups[int(rng.choice(len(groups), p=chances))]
        pieces.append(cut(group[int(rng.integers(len(group)))], rng, longest, keys, edits))
    return stack(pieces, styles, rng)


def repairable(
    truth: torch.Tensor, batch: Batch, own: torch.Tensor, generator: torch.Generator, given: float = 0.5
) -> tuple[torch.Tensor, Batch]:
    """Keys as CMC will meet them: of a share ``given`` of clips the truth (two fifths of it jittered in size), of
    the others LKMA's ``own``; some that nobody edited are dropped; edits come on top. Returns key motions (B, M, out)
    and the batch with the keys that are left."""
    b, m = batch.keys.shape
    device = truth.device
    kind = torch.rand(b, 1, 1, generator=generator).to(device)
    noise = (torch.randn(b, m, 1, generator=generator) * 0.25).to(device)
    shaken = (truth * (1 + noise)).clamp(0, 1) if truth.min() >= 0 else truth * (1 + noise)
    motion = torch.where(kind < 0.6 * given, truth, torch.where(kind < given, shaken, own))
    kept = batch.keys_real & (torch.rand(b, m, generator=generator).to(device) > 0.1)
    if batch.change is not None:
        motion = motion + batch.change
        kept |= batch.keys_real & (batch.change != 0).any(-1)
    kept[:, 0] = batch.keys_real[:, 0]
    fields = {**vars(batch), "keys_real": kept}
    return motion, Batch(**fields)
