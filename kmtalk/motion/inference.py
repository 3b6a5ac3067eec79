"""The network at work on clips of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.keys import locate_key_frames
from kmtalk.motion.finetuned_encoder import FEATURE_EXTRACTOR_DIGEST
from kmtalk.motion.model import Batch, KMTalkNetwork
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import Features, SpeechEncoder, load_encoder

if TYPE_CHECKING:
    import whisper

WINDOW = 10.0
"""Seconds completed at once."""

OVERLAP = 3.0
"""Seconds over which windows are cross-faded; the outer fifth of it is left to the other window."""

WINDOW_TOLERANCE = 1.5
"""Millimetres: with the windows of network and encoder elsewhere the lips' opening moves by less, in 99 of
100 frames (0.2 in median; most of it is the encoder's, which hears each window from its beginning)."""

MIN_FRAME_RATE, MAX_FRAME_RATE, DEFAULT_FRAME_RATE = 23.0, 31.0, 30.0
"""Frames per second between which the network runs (it was trained at 25 and 30), and the rate at which it
runs for all others."""


def network_frame_rate(fps: float) -> float:
    """The rate at which the network runs for a motion at ``fps``."""
    return fps if MIN_FRAME_RATE <= fps <= MAX_FRAME_RATE else DEFAULT_FRAME_RATE


def load_network_encoder(network: KMTalkNetwork, model: whisper.Whisper | None = None) -> SpeechEncoder:
    """What a network hears through; ``model`` is a Whisper already loaded. Raises InputError where it cannot be had, or
    is not what the network learnt with."""
    encoder = load_encoder(network.config.encoder, model)
    check_encoder(network, encoder)
    return encoder


def check_encoder(network: KMTalkNetwork, encoder: SpeechEncoder) -> None:
    """Raise InputError where a network learnt with another encoder."""
    shape, made = network.config, getattr(encoder, "feature_extractor_digest", None)
    if encoder.name != shape.encoder:
        raise InputError(f"these weights hear through {shape.encoder}, not {encoder.name}")
    heard = shape.audio_dim if network.finetuned_encoder is None else network.finetuned_encoder.feature_dim
    if encoder.dimension != heard or (
        network.finetuned_encoder is not None and made != network.metadata.get(FEATURE_EXTRACTOR_DIGEST)
    ):
        raise InputError(f"{encoder.name} is not what these weights learnt with: other dimensions, or other weights")


def select_key_frames(alignment: Alignment, frame_count: int, fps: float, placement: str) -> np.ndarray:
    """Key frames (m,) at phone boundaries ("phones"), as many of them placed evenly ("uniform"), or a share of all
    frames placed evenly ("uniform:0.2")."""
    located = locate_key_frames(alignment, frame_count, fps).frames
    if placement == "phones":
        return located
    share = placement.partition(":")[2]
    wanted = round(float(share) * frame_count) if share else len(located)
    return np.unique(np.linspace(0, frame_count - 1, max(2, wanted)).round().astype(int))


def split_into_windows(count: int, fps: float) -> list[tuple[int, int]]:
    """Frames (start, stop) of each window."""
    size, step = round(WINDOW * fps), round((WINDOW - OVERLAP) * fps)
    if count <= size:
        return [(0, count)]
    starts = list(range(0, count - (size - step), step))
    return [(s, min(s + size, count)) for s in starts]


def predict_motion(
    network: KMTalkNetwork,
    features: Features,
    key_frames: np.ndarray,
    frame_count: int,
    fps: float,
    style_weights: np.ndarray,
    key_edits: np.ndarray | None = None,
    given_keys: np.ndarray | None = None,
) -> np.ndarray:
    """Motion (N, out) of ``frame_count`` frames at ``fps`` with key frames ``placement`` (m,) and style shares (S,).

    ``key_edits`` (m, out) is added to LKMA's key motions before CMC completes them; ``given_keys`` (m, out) are key motions
    of another system, in their place. Time and memory grow with length,
    not with its square; where windows fall matters less than WINDOW_TOLERANCE.
    """
    return _predict_in_windows(
        network,
        features,
        key_frames,
        frame_count,
        fps,
        style_weights,
        lambda batch: network(batch)[1],
        key_edits,
        given_keys,
    )


def predict_without_completion(
    network: KMTalkNetwork,
    features: Features,
    key_frames: np.ndarray,
    frame_count: int,
    fps: float,
    style_weights: np.ndarray,
) -> np.ndarray:
    """The paper's ablation without CMC: LKMA's key motions joined by straight lines. As ``predict_motion``."""

    def joined(batch: Batch) -> torch.Tensor:
        poses = network.predict_keys(network.encode_audio(batch), batch)[0].float().cpu().numpy()
        at, every = batch.key_frames[0].cpu().numpy(), np.arange(batch.times.shape[1])
        lines = np.stack([np.interp(every, at, poses[:, i]) for i in range(poses.shape[1])], 1)
        return torch.from_numpy(lines.astype(np.float32))[None]

    return _predict_in_windows(network, features, key_frames, frame_count, fps, style_weights, joined)


@torch.inference_mode()
def _predict_in_windows(
    network: KMTalkNetwork,
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
    audio = features.interpolate(times)
    out = np.zeros((count, network.config.output_dim), np.float32)
    total = np.zeros((count, 1), np.float32)
    for start, stop in split_into_windows(count, fps):
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
            key_edits=picked(change),
            given_keys=picked(given),
        )
        motion = perform(batch.to(network.feature_mean.device))
        weight = _crossfade_weights(start, stop, count, fps)
        out[start:stop] += weight * motion[0].float().cpu().numpy()
        total[start:stop] += weight
    return out / total


def _crossfade_weights(start: int, stop: int, count: int, fps: float) -> np.ndarray:
    """(n, 1): 1 inside a window, falling over its overlaps."""
    place, fade = np.arange(start, stop), OVERLAP * fps
    weight = np.ones(stop - start)
    if start > 0:
        weight = np.minimum(weight, ((place - start + 0.5) / fade - 0.2) / 0.6)
    if stop < count:
        weight = np.minimum(weight, ((stop - place - 0.5) / fade - 0.2) / 0.6)
    return np.clip(weight, 0, 1)[:, None].astype(np.float32)
