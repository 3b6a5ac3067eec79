"""Inference on clips of any length, in overlapping windows.

N frames, m key frames, S styles, out numbers per frame of motion; frame n is at (n + 0.5) / fps seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.keys import locate_key_frames
from kmtalk.motion.finetuned_encoder import FEATURE_EXTRACTOR_DIGEST
from kmtalk.motion.model import Batch, KMTalkNetwork
from kmtalk.motion.phone_input import phone_activity
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.encoders import SpeechEncoder, SpeechFeatures, load_encoder

if TYPE_CHECKING:
    import whisper

WINDOW_SECONDS = 10.0
"""Length in seconds of the windows in which the network runs."""

OVERLAP_SECONDS = 3.0
"""Overlap in seconds of neighbouring windows, which are cross-faded there; a window has weight 0 in its outer fifth."""

BATCHED_WINDOWS = 8
"""Windows that go through the network at once: enough for large matrices, few enough for little memory."""

WINDOW_TOLERANCE_MM = 1.5
"""Millimetres by which the lip opening changes at most, in 99 of 100 frames, when the windows of network and encoder
are shifted (0.2 in median; most of it comes from the encoder, which encodes each window from its start)."""

MIN_FRAME_RATE, MAX_FRAME_RATE, DEFAULT_FRAME_RATE = 23.0, 31.0, 30.0
"""Frames per second: the range in which the network runs at the motion's own rate (it is trained at 25 and 30), and the
rate at which it runs otherwise."""


def network_frame_rate(fps: float) -> float:
    """Return the frame rate at which the network runs for a motion at `fps`, both in frames per second."""
    return fps if MIN_FRAME_RATE <= fps <= MAX_FRAME_RATE else DEFAULT_FRAME_RATE


def load_network_encoder(network: KMTalkNetwork, model: whisper.Whisper | None = None) -> SpeechEncoder:
    """Load the speech encoder that a network was trained with.

    Args:
        network: Network.
        model: A loaded Whisper model to reuse.

    Raises:
        InputError: The encoder cannot be loaded, or is not the one the network was trained with.
    """
    try:
        encoder = load_encoder(network.config.encoder, model)
    except InputError as error:
        raise InputError(f"{network.source}: its speech encoder: {error}") from None
    check_encoder(network, encoder)
    return encoder


def check_encoder(network: KMTalkNetwork, encoder: SpeechEncoder) -> None:
    """Raise InputError where a network was trained with another encoder."""
    config, digest = network.config, getattr(encoder, "feature_extractor_digest", None)
    if encoder.name != config.encoder:
        raise InputError(
            f"{network.source}: these weights were trained with the encoder {config.encoder}, not {encoder.name}"
        )
    dimension = config.audio_dim if network.finetuned_encoder is None else network.finetuned_encoder.feature_dim
    if encoder.dimension != dimension or (
        network.finetuned_encoder is not None and digest != network.metadata.get(FEATURE_EXTRACTOR_DIGEST)
    ):
        raise InputError(
            f"{network.source}: {encoder.name} is not the encoder these weights were trained with: its dimension or "
            "weights differ"
        )


def select_key_frames(alignment: Alignment, frame_count: int, fps: float, placement: str) -> np.ndarray:
    """Select the key frames of a clip.

    Args:
        alignment: Phones of the clip.
        frame_count: Number N of frames.
        fps: Frames per second.
        placement: "phones" (phone boundaries), "apex" (and the middle of vowels), "mixed" (in training either of both,
            else as "phones"), "uniform" (the same number, evenly spaced) or, for example,
            "uniform:0.2" (this share of all frames, evenly spaced).

    Returns:
        Rising frame indices, shape (m,).
    """
    located = locate_key_frames(alignment, frame_count, fps, apex=placement == "apex").frames
    if placement in ("phones", "apex", "mixed"):
        return located
    share = placement.partition(":")[2]
    key_count = round(float(share) * frame_count) if share else len(located)
    return np.unique(np.linspace(0, frame_count - 1, max(2, key_count)).round().astype(int))


def split_into_windows(count: int, fps: float) -> list[tuple[int, int]]:
    """Return the frame range (start, stop) of each window over `count` frames at `fps` frames per second."""
    size, step = round(WINDOW_SECONDS * fps), round((WINDOW_SECONDS - OVERLAP_SECONDS) * fps)
    if count <= size:
        return [(0, count)]
    starts = list(range(0, count - (size - step), step))
    return [(s, min(s + size, count)) for s in starts]


def predict_motion(
    network: KMTalkNetwork,
    features: SpeechFeatures,
    alignment: Alignment,
    key_frames: np.ndarray,
    frame_count: int,
    fps: float,
    style_weights: np.ndarray,
    key_edits: np.ndarray | None = None,
    other_system_keys: np.ndarray | None = None,
) -> np.ndarray:
    """Predict the motion of a clip by LKMA and CMC.

    Time and memory grow linearly with the length. The position of the windows changes the result by less than
    `WINDOW_TOLERANCE_MM`.

    Args:
        network: Network in evaluation mode.
        features: Audio features from the network's encoder.
        alignment: Phones of the clip, an input of networks with `NetworkConfig.phone_input`.
        key_frames: Rising frame indices of the keys, shape (m,).
        frame_count: Number N of frames.
        fps: Frames per second.
        style_weights: Share of each style, shape (S,), from `kmtalk.motion.styles.style_mixture`.
        key_edits: Amounts added to LKMA's key motions before CMC completes them, shape (m, out).
        other_system_keys: Key motions of another system that replace those of LKMA, shape (m, out).

    Returns:
        Motion, shape (N, out), float32.
    """
    return _predict_in_windows(
        network,
        features,
        alignment,
        key_frames,
        frame_count,
        fps,
        style_weights,
        lambda batch: network(batch)[1],
        key_edits,
        other_system_keys,
    )


def predict_without_completion(
    network: KMTalkNetwork,
    features: SpeechFeatures,
    alignment: Alignment,
    key_frames: np.ndarray,
    frame_count: int,
    fps: float,
    style_weights: np.ndarray,
) -> np.ndarray:
    """Interpolate LKMA's key motions linearly: the paper's ablation without CMC.

    Arguments and result are those of `predict_motion`.
    """

    def interpolate(batch: Batch) -> torch.Tensor:
        poses = network.predict_keys(network.encode_audio(batch), batch).float().cpu().numpy()
        frames, motion = np.arange(batch.times.shape[1]), []
        for keys, real, values in zip(batch.key_frames.cpu().numpy(), batch.key_mask.cpu().numpy(), poses, strict=True):
            motion.append(np.stack([np.interp(frames, keys[real], v[real]) for v in values.T], 1))
        return torch.from_numpy(np.stack(motion).astype(np.float32))

    return _predict_in_windows(network, features, alignment, key_frames, frame_count, fps, style_weights, interpolate)


@torch.inference_mode()
def _predict_in_windows(
    network: KMTalkNetwork,
    features: SpeechFeatures,
    alignment: Alignment,
    keys: np.ndarray,
    count: int,
    fps: float,
    style: np.ndarray,
    predict: Callable[[Batch], torch.Tensor],
    key_edits: np.ndarray | None = None,
    other_system_keys: np.ndarray | None = None,
) -> np.ndarray:
    """Run `predict` (batch → motion (1, n, out)) on every window and cross-fade the results: (N, out)."""
    times = frame_times(count, fps)
    audio = features.interpolate(times)
    phones = phone_activity(alignment, times) if network.config.phone_input else None
    out = np.zeros((count, network.config.output_dim), np.float32)
    total = np.zeros((count, 1), np.float32)
    windows = split_into_windows(count, fps)
    for together in [*_chunks(windows[:-1], BATCHED_WINDOWS), windows[-1:]]:  # the last one may be shorter
        in_windows = [np.flatnonzero((keys >= start) & (keys < stop)) for start, stop in together]
        inside = [
            keys[found] - start if len(found) else np.array([(stop - start) // 2])
            for found, (start, stop) in zip(in_windows, together, strict=True)
        ]

        def select(rows: np.ndarray | None, in_windows: list[np.ndarray] = in_windows) -> torch.Tensor | None:
            if rows is None or not any(map(len, in_windows)):
                return None
            none = np.zeros_like(rows[:1])  # of a window without keys
            return _padded([(rows[found] if len(found) else none).astype(np.float32) for found in in_windows])

        def cut(values: np.ndarray, together: list[tuple[int, int]] = together) -> torch.Tensor:
            return torch.from_numpy(np.stack([values[start:stop] for start, stop in together]))

        first = times[[start for start, _ in together]][:, None]
        batch = Batch(
            cut(audio),
            (cut(times) - torch.from_numpy(first) + times[0]).float(),
            torch.ones(len(together), together[0][1] - together[0][0], dtype=torch.bool),
            _padded(inside),
            _padded([np.ones(len(found), bool) for found in inside]),
            torch.from_numpy(style).expand(len(together), -1),
            None if phones is None else cut(phones),
            key_edits=select(key_edits),
            other_system_keys=select(other_system_keys),
        )
        motion = predict(batch.to(network.feature_mean.device)).float().cpu().numpy()
        for (start, stop), predicted in zip(together, motion, strict=True):
            weight = _crossfade_weights(start, stop, count, fps)
            out[start:stop] += weight * predicted
            total[start:stop] += weight
    return out / total


def _chunks(windows: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    return [windows[n : n + size] for n in range(0, len(windows), size)]


def _padded(rows: list[np.ndarray]) -> torch.Tensor:
    """Arrays of different lengths, at least one row long, as one batch with zeros after each."""
    return pad_sequence([torch.from_numpy(r) for r in rows], batch_first=True)


def _crossfade_weights(start: int, stop: int, count: int, fps: float) -> np.ndarray:
    """Weight of each frame of a window, shape (n, 1): 1 inside it, falling to 0 over its overlaps."""
    frames, fade = np.arange(start, stop), OVERLAP_SECONDS * fps
    weight = np.ones(stop - start)
    if start > 0:
        weight = np.minimum(weight, ((frames - start + 0.5) / fade - 0.2) / 0.6)
    if stop < count:
        weight = np.minimum(weight, ((stop - frames - 0.5) / fade - 0.2) / 0.6)
    return np.clip(weight, 0, 1)[:, None].astype(np.float32)
