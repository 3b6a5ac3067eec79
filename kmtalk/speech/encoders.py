"""Speech encoders: sound → features for the motion network, each with its dimension and clock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import whisper

from kmtalk.errors import InputError
from kmtalk.speech.audio import SAMPLE_RATE, rms_level
from kmtalk.weights import load_wav2vec2, load_whisper

WINDOW = 10.0
"""Seconds that an encoder hears at once; longer sound goes through overlapping windows."""

OVERLAP = 4.0
"""Seconds over which neighbouring windows are cross-faded. The first and last tenth of it is left to
the window that lies deeper there."""

PAPER_ENCODER = "facebook/wav2vec2-base-960h"
"""The paper's encoder, by its name on the hub."""

MIN_SECONDS = 0.1  # seconds: shorter sound is padded
SPEAKING_LEVEL = -20.0  # dBFS that loud parts are brought to
MAX_GAIN = 30.0  # dB: room noise must not become speech


@dataclass(frozen=True)
class Features:
    """``values`` (T, d) float32, value i at ``start`` + i / ``rate`` seconds."""

    values: np.ndarray
    rate: float
    start: float = 0.0

    def interpolate(self, times: np.ndarray) -> np.ndarray:
        """(N, d) float32 at ``times`` (N,) in seconds, linearly interpolated, held beyond the ends."""
        place = np.clip((times - self.start) * self.rate, 0, len(self.values) - 1)
        before = np.minimum(place.astype(int), max(len(self.values) - 2, 0))
        share = (place - before)[:, None].astype(np.float32)
        after = np.minimum(before + 1, len(self.values) - 1)
        return (1 - share) * self.values[before] + share * self.values[after]


class SpeechEncoder(Protocol):
    """``name`` is what a checkpoint records; ``dimension`` d; ``rate`` Hz."""

    name: str
    dimension: int
    rate: float

    def encode(self, samples: np.ndarray) -> Features:
        """Features of mono samples (S,) at SAMPLE_RATE."""
        ...


def normalize_level(samples: np.ndarray) -> np.ndarray:
    """Samples whose loud parts stand at SPEAKING_LEVEL, raised by MOST_GAIN at the most, and at least
    SHORTEST s of them."""
    samples = np.pad(samples, (0, max(0, round(MIN_SECONDS * SAMPLE_RATE) - len(samples))))
    loud = float(np.percentile(rms_level(samples), 95))
    gain = min(SPEAKING_LEVEL - loud, MAX_GAIN)
    return (samples * 10 ** (gain / 20)).astype(np.float32)


def _encode_in_windows(encode: Callable[[int, int], np.ndarray], count: int, rate: float) -> np.ndarray:
    """``encode(start, stop)`` over values 0…count, in windows cross-faded where they overlap."""
    size, step = round(WINDOW * rate), round((WINDOW - OVERLAP) * rate)
    if count <= size:
        return encode(0, count)
    out: np.ndarray | None = None
    total = np.zeros((count, 1), np.float32)
    for start in range(0, count - (size - step), step):
        stop = min(start + size, count)
        part = encode(start, stop)
        place = np.arange(start, stop)
        fade = size - step
        weight = np.ones(len(part), np.float32)
        if start > 0:
            weight = np.minimum(weight, ((place - start + 0.5) / fade - 0.1) / 0.8)
        if stop < count:
            weight = np.minimum(weight, ((stop - place - 0.5) / fade - 0.1) / 0.8)
        weight = np.clip(weight, 0, 1)[:, None]
        if out is None:
            out = np.zeros((count, part.shape[1]), np.float32)
        out[start:stop] += weight * part
        total[start:stop] += weight
    assert out is not None
    return out / total


class LogMelEncoder:
    """80 log-mel bands at 50 Hz, no model: tiny, for tests and for the smallest networks."""

    name = "log-mel"
    dimension = 80
    rate = 50.0

    def encode(self, samples: np.ndarray) -> Features:
        mel = whisper.log_mel_spectrogram(torch.from_numpy(normalize_level(samples)), 80).numpy()
        return Features(np.ascontiguousarray(mel.T[::2], np.float32), self.rate)


class WhisperEncoder:
    """The state after one layer of a Whisper encoder, the sound unpadded (positions sliced).

    Transcription pads every window to 30 s, which changes the states (cosine 0.93), so it shares the
    model with this encoder but not the pass. ``model`` is a loaded Whisper; by default ``size`` is.
    """

    def __init__(self, size: str = "base", layer: int = 4, model: whisper.Whisper | None = None) -> None:
        self.name = f"whisper-{size}-{layer}"
        self._size, self._layer, self._given = size, layer, model
        self.rate = 50.0
        self.dimension = {"tiny": 384, "base": 512, "small": 768, "medium": 1024}.get(size.split(".")[0], 1280)

    @cached_property
    def _model(self) -> whisper.Whisper:
        model = self._given if self._given is not None else load_whisper(self._size)
        if not 1 <= self._layer <= len(model.encoder.blocks):
            raise InputError(f"{self.name}: this Whisper has layers 1 to {len(model.encoder.blocks)}")
        self.dimension = int(model.dims.n_audio_state)
        return model

    def encode(self, samples: np.ndarray) -> Features:
        encoder, device = self._model.encoder, self._model.device
        mel = whisper.log_mel_spectrogram(torch.from_numpy(normalize_level(samples)), self._model.dims.n_mels)
        mel = mel[:, : mel.shape[1] // 2 * 2].to(device)

        @torch.inference_mode()
        def states(start: int, stop: int) -> np.ndarray:
            x = torch.nn.functional.gelu(encoder.conv1(mel[None, :, 2 * start : 2 * stop]))
            x = torch.nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
            x = x + encoder.positional_embedding[: x.shape[1]]
            for block in encoder.blocks[: self._layer]:
                x = block(x)
            return x[0].float().cpu().numpy()

        # the second convolution strides by two mel frames and is centred on the first: value i at i / 50 s
        return Features(_encode_in_windows(states, mel.shape[1] // 2, self.rate), self.rate)


class Wav2Vec2Encoder:
    """Last hidden state of wav2vec 2.0 (the paper's encoder), through transformers; what its convolutions make, with
    ``feature_extractor_only`` alone, for a network that learns the rest along (motion.ear).

    ``source`` is a folder with weights or a name on the hub. Value i is centred on its 25 ms of sound.
    """

    rate = 50.0

    def __init__(self, source: str = PAPER_ENCODER, feature_extractor_only: bool = False) -> None:
        self.name = f"{'wav2vec2-conv' if feature_extractor_only else 'wav2vec2'}:{source}"
        self._source, self._feature_extractor_only = source, feature_extractor_only
        config = self.model.config
        self.dimension = int(config.conv_dim[-1] if feature_extractor_only else config.hidden_size)

    @cached_property
    def model(self) -> Any:
        """The Wav2Vec2Model of transformers."""
        return load_wav2vec2(self._source)

    @cached_property
    def feature_extractor_digest(self) -> str:
        """Sixteen hex digits that tell these convolutions' weights from others."""
        held = hashlib.sha256()
        for tensor in self.model.feature_extractor.state_dict().values():
            held.update(tensor.numpy().tobytes())
        return held.hexdigest()[:16]

    def encode(self, samples: np.ndarray) -> Features:
        x = normalize_level(samples)
        x = (x - x.mean()) / (x.std() + 1e-7)
        hop, width = 320, 400
        x = np.pad(x, (0, max(0, width - len(x))))
        count = (len(x) - width) // hop + 1

        @torch.inference_mode()
        def states(start: int, stop: int) -> np.ndarray:
            piece = torch.from_numpy(x[start * hop : (stop - 1) * hop + width][None].astype(np.float32))
            if self._feature_extractor_only:
                made = self.model.feature_extractor(piece)[0].T
            else:
                made = self.model(piece).last_hidden_state[0]
            values: np.ndarray = made.float().numpy()
            return values

        return Features(_encode_in_windows(states, count, self.rate), self.rate, start=width / 2 / SAMPLE_RATE)


def load_encoder(name: str, model: whisper.Whisper | None = None) -> SpeechEncoder:
    """ "log-mel", "whisper-SIZE-LAYER" or "wav2vec2:FOLDER-OR-NAME"; raises InputError for others.

    ``model`` is a Whisper already loaded, taken where it is of that size.
    """
    if name == LogMelEncoder.name:
        return LogMelEncoder()
    kind, _, rest = name.partition(":")
    if kind in ("wav2vec2", "wav2vec2-conv"):
        return Wav2Vec2Encoder(rest or PAPER_ENCODER, feature_extractor_only=kind == "wav2vec2-conv")
    parts = name.split("-")
    if parts[0] == "whisper" and len(parts) >= 3 and parts[-1].isdecimal():
        return WhisperEncoder("-".join(parts[1:-1]), int(parts[-1]), model)
    raise InputError(f"{name}: no such speech encoder; log-mel, whisper-base-4 or wav2vec2:FOLDER")


def encode_cached(encoder: SpeechEncoder, samples: np.ndarray, cache: Path | None) -> Features:
    """``encoder.encode(samples)``, kept as float16 under ``cache`` by the sound's own content."""
    if cache is None:
        return encoder.encode(samples)
    digest = hashlib.sha256(encoder.name.encode() + samples.tobytes()).hexdigest()[:24]
    path = cache / f"{digest}.npz"
    if path.is_file():
        try:
            with np.load(path) as file:
                return Features(file["values"].astype(np.float32), float(file["rate"]), float(file["start"]))
        except Exception:
            path.unlink()  # cut off by a kill: made again
    features = encoder.encode(samples)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part.npz")  # several processes may make the same
    np.savez(temporary, values=features.values.astype(np.float16), rate=features.rate, start=features.start)
    temporary.replace(path)
    return Features(features.values.astype(np.float16).astype(np.float32), features.rate, features.start)
