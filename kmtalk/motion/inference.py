"""The network at work on clips of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.keys import locate
from kmtalk.motion.ear import CONVOLUTIONS
from kmtalk.motion.model import Batch, Network
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encode import Encoder, Features, load_encoder

if TYPE_CHECKING:
    import whisper

WINDOW = 10.0
"""Seconds completed at once."""

OVERLAP = 3.0
"""Seconds over which windows are cross-faded; the outer fifth of it is left to the other window."""

WINDOW_TOLERANCE = 1.5
"""Millimetres: with the windows of network and encoder elsewhere the lips' opening moves by less, in 99 of
100 frames (0.2 in median; most of it is the encoder's, which hears each window from its beginning)."""

LOWEST, HIGHEST, USUAL = 23.0, 31.0, 30.0
"""Frames per second between which the network runs (it was trained at 25 and 30), and the rate at which it
runs for all others."""


def inner_rate(fps: float) -> float:
    """The rate at which the network runs for a motion at ``fps``."""
    return fps if LOWEST <= fps <= HIGHEST else USUAL


def encoder_of(network: Network, model: whisper.Whisper | None = None) -> Encoder:
    """What a network hears through; ``model`` is a Whisper already loaded. Raises InputError where it cannot be had, or
    is not what the network learnt with."""
    encoder = load_encoder(network.shape.encoder, model)
    check_encoder(network, encoder)
    return encoder


def check_encoder(network: Network, encoder: Encoder) -> None:
    """Raise InputError where a network learnt with another encoder."""
    shape, made = network.shape, getattr(encoder, "digest", None)
    if encoder.name != shape.encoder:
        raise InputError(f"these weights hear through {shape.encoder}, not {encoder.name}")
    heard = shape.dimension if network.ear is None else network.ear.heard
    if encoder.dimension != heard or (network.ear is not None and made != network.facts.get(CONVOLUTIONS)):
        raise InputError(f"{encoder.name} is not what these weights learnt with: other dimensions, or other weights")


def place_keys(alignment: Alignment, count: int, fps: float, keys: str) -> np.ndarray:
    """Key frames (m,) at phone boundaries ("phones"), as many of them placed evenly ("uniform"), or a share of all
    frames placed evenly ("uniform:0.2")."""
    located = locate(alignment, count, fps).frames
    if keys == "phones":
        return located
    share = keys.partition(":")[2]
    wanted = round(float(share) * count) if share else len(located)
    return np.unique(np.linspace(0, count - 1, max(2, wanted)).round().astype(int))


def windows(count: int, fps: float) -> list[tuple[int, int]]:
    """Frames (start, stop) of each window."""
    size, step = round(WINDOW * fps), round((WINDOW - OVERLAP) * fps)
    if count <= size:
        return [(0, count)]
    starts = list(range(0, count - (size - step), step))
    return [(s, min(s + size, count)) for s in starts]


def run(
    network: Network,
    features: Features,
    keys: np.ndarray,
    count: int,
    fps: float,
    style: np.ndarray,
    change: np.ndarray | None = None,
    given: np.ndarray | None = None,
) -> np.ndarray:
    """Motion (N, out) of ``count`` frames at ``fps`` with key frames ``keys`` (m,) and style shares (S,).

    ``change`` (m, out) is added to LKMA's key motions before CMC completes them; ``given`` (m, out) are key motions
    of another system, in their place. Time and memory grow with length,
    not with its square; where windows fall matters less than WINDOW_TOLERANCE.
    """
    return _over_windows(network, features, keys, count, fps, style, lambda batch: network(batch)[1], change, given)


def keys_only(
    network: Network, features: Features, keys: np.ndarray, count: int, fps: float, style: np.ndarray
) -> np.ndarray:
    """The paper's ablation without CMC: LKMA's key motions joined by straight lines. As ``run``."""

    def joined(batch: Batch) -> torch.Tensor:
        poses = network.keys(network.hear(batch), batch)[0].float().cpu().numpy()
        at, every = batch.keys[0].cpu().numpy(), np.arange(batch.times.shape[1])
        lines = np.stack([np.interp(every, at, poses[:, i]) for i in range(poses.shape[1])], 1)
        return torch.from_numpy(lines.astype(np.float32))[None]

    return _over_windows(network, features, keys, count, fps, style, joined)


@torch.inference_mode()
def _over_windows(
    network: Network,
    features: Features,
    keys: np.ndarray,
    count: int,
    fps: float,
    style: np.ndarray,
    perform: Callable[[Batch], torch.Tensor],
    change: np.ndarray | None = None,
    given: np.ndarray | None = None,
) -> np.ndarray:
    times = frame_times(count, fps)
    audio = features.at(times)
    out = np.zeros((count, network.shape.out), np.float32)
    total = np.zeros((count, 1), np.float32)
    for start, stop in windows(count, fps):
        here = (keys >= start) & (keys < stop)
        inside = keys[here] - start

        def picked(rows: np.ndarray | None, here: np.ndarray = here) -> torch.Tensor | None:
            if rows is None or not here.any():
                return None
            return torch.from_numpy(rows[here].astype(np.float32))[None]

        if not len(inside):
            inside = np.array([(stop - start) // 2])
        batch = Batch(
            torch.from_numpy(audio[start:stop])[None],
            torch.from_numpy((times[start:stop] - times[start] + times[0]).astype(np.float32))[None],
            torch.ones(1, stop - start, dtype=torch.bool),
            torch.from_numpy(inside)[None],
            torch.ones(1, len(inside), dtype=torch.bool),
            torch.from_numpy(style)[None],
            change=picked(change),
            given=picked(given),
        )
        motion = perform(batch.to(network.mean.device))
        weight = _fade(start, stop, count, fps)
        out[start:stop] += weight * motion[0].float().cpu().numpy()
        total[start:stop] += weight
    return out / total


def _fade(start: int, stop: int, count: int, fps: float) -> np.ndarray:
    """(n, 1): 1 inside a window, falling over its overlaps."""
    place, fade = np.arange(start, stop), OVERLAP * fps
    weight = np.ones(stop - start)
    if start > 0:
        weight = np.minimum(weight, ((place - start + 0.5) / fade - 0.2) / 0.6)
    if stop < count:
        weight = np.minimum(weight, ((stop - place - 0.5) / fade - 0.2) / 0.6)
    return np.clip(weight, 0, 1)[:, None].astype(np.float32)
