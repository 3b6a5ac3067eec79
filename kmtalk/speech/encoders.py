"""Speech encoders, which convert audio into feature sequences for the motion network."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
import whisper

from kmtalk.errors import InputError
from kmtalk.shared_property import shared_property
from kmtalk.speech.audio import SAMPLE_RATE, rms_level
from kmtalk.weights import WHISPER_LOCK, load_wav2vec2, load_whisper_encoder

WINDOW_SECONDS = 10.0
"""Longest input in seconds that is encoded at once. Longer audio is encoded in overlapping windows."""

OVERLAP_SECONDS = 4.0
"""Overlap in seconds of neighbouring windows, over which they are cross-faded. In its first
tenth only the earlier window is used, in its last tenth only the later one."""

PAPER_ENCODER = "facebook/wav2vec2-base-960h"
"""The paper's encoder, by its name on the Hugging Face Hub."""

Wav2Vec2Kind = Literal["wav2vec2", "wav2vec2-conv", "wav2vec2-ctc"]

MIN_SECONDS = 0.1  # seconds; shorter audio is padded
SPEAKING_LEVEL_DB = -20.0  # dBFS of loud parts after normalization
MAX_GAIN_DB = 30.0  # dB; limits the amplification of room noise in clips without speech


@dataclass(frozen=True)
class SpeechFeatures:
    """A feature sequence.

    Attributes:
        values: (T, d) float32; value i is at `start` + i / `rate` seconds.
        rate: Feature vectors per second.
        start: Time of the first feature vector in seconds.
    """

    values: np.ndarray
    rate: float
    start: float = 0.0

    def interpolate(self, times: np.ndarray) -> np.ndarray:
        """Return features (N, d) float32 at `times` (N,) in seconds: linear interpolation, end values outside."""
        place = np.clip((times - self.start) * self.rate, 0, len(self.values) - 1)
        before = np.minimum(place.astype(int), max(len(self.values) - 2, 0))
        share = (place - before)[:, None].astype(np.float32)
        after = np.minimum(before + 1, len(self.values) - 1)
        return (1 - share) * self.values[before] + share * self.values[after]


class SpeechEncoder(Protocol):
    """Converts audio into features.

    Attributes:
        name: Name that a checkpoint stores and `load_encoder` accepts.
        dimension: Feature dimension d.
        rate: Feature vectors per second.
    """

    name: str
    dimension: int
    rate: float

    def encode(self, samples: np.ndarray) -> SpeechFeatures:
        """Return the features of mono samples (S,) at `SAMPLE_RATE`."""
        ...


def normalize_level(samples: np.ndarray) -> np.ndarray:
    """Scale mono samples (S,) so that their loud parts (95th percentile of the level) are at `SPEAKING_LEVEL_DB`.

    The gain is at most `MAX_GAIN_DB`. Returns float32, padded with zeros to at least `MIN_SECONDS`.
    """
    samples = np.pad(samples, (0, max(0, round(MIN_SECONDS * SAMPLE_RATE) - len(samples))))
    loud = float(np.percentile(rms_level(samples), 95))
    gain = min(SPEAKING_LEVEL_DB - loud, MAX_GAIN_DB)
    return (samples * 10 ** (gain / 20)).astype(np.float32)


def _encode_in_windows(encode: Callable[[int, int], np.ndarray], count: int, rate: float) -> np.ndarray:
    """Return `count` feature vectors (count, d) from `encode(start, stop)`, called on overlapping windows."""
    size, step = round(WINDOW_SECONDS * rate), round((WINDOW_SECONDS - OVERLAP_SECONDS) * rate)
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


_MEL_BLOCK = 60_000  # frames of 10 ms


def _log_mel(samples: np.ndarray, bands: int) -> torch.Tensor:
    """Return Whisper's log-mel spectrogram (bands, T) of mono samples (S,), T = S / 160.

    Of more than ten minutes in blocks, since the spectra of an hour would take a gigabyte.
    """
    audio = torch.from_numpy(samples)
    count, hop, width = len(samples) // whisper.audio.HOP_LENGTH, whisper.audio.HOP_LENGTH, whisper.audio.N_FFT
    if count <= _MEL_BLOCK:
        return whisper.log_mel_spectrogram(audio, bands)
    padded = torch.nn.functional.pad(audio[None], (width // 2, width // 2), mode="reflect")[0]
    filters, window = whisper.audio.mel_filters("cpu", bands), torch.hann_window(width)
    parts = []
    for start in range(0, count, _MEL_BLOCK):
        stop = min(start + _MEL_BLOCK, count)
        part = padded[start * hop : (stop - 1) * hop + width]
        spectrum = torch.stft(part, width, hop, window=window, center=False, return_complex=True)
        parts.append((filters @ spectrum.abs() ** 2).clamp(min=1e-10).log10())
    mel = torch.cat(parts, dim=1)
    return torch.maximum(mel, mel.max() - 8.0).add_(4.0).div_(4.0)


class LogMelEncoder:
    """80 log-mel bands at 50 Hz, without a pretrained model; for tests and very small networks."""

    name = "log-mel"
    dimension = 80
    rate = 50.0

    def encode(self, samples: np.ndarray) -> SpeechFeatures:
        mel = _log_mel(normalize_level(samples), 80).numpy()
        return SpeechFeatures(np.ascontiguousarray(mel.T[::2], np.float32), self.rate)


class WhisperEncoder:
    """Hidden states after one layer of a Whisper encoder, at 50 Hz.

    The audio is not padded to 30 s; the positional embedding is cut to its length. Transcription does pad,
    which changes the states (cosine 0.93), so it shares the model with this encoder but not the forward pass.

    Args:
        size: Name of a Whisper model.
        layer: Layer whose output is used, from 1.
        model: A Whisper model that is already loaded; by default the encoder of `size` is loaded on first use.

    Raises:
        InputError: The model has no such layer (on first use).
    """

    def __init__(self, size: str = "base", layer: int = 4, model: whisper.Whisper | None = None) -> None:
        self.name = f"whisper-{size}-{layer}"
        self._size, self._layer, self._given = size, layer, model
        self._loading = threading.RLock()
        self.rate = 50.0
        self.dimension = {"tiny": 384, "base": 512, "small": 768, "medium": 1024}.get(size.split(".")[0], 1280)

    @shared_property
    def _encoder(self) -> whisper.model.AudioEncoder:
        encoder = self._given.encoder if self._given is not None else load_whisper_encoder(self._size)
        if not 1 <= self._layer <= len(encoder.blocks):
            raise InputError(f"{self.name}: no such layer; this Whisper model has layers 1 to {len(encoder.blocks)}")
        self.dimension = int(encoder.conv1.out_channels)
        return encoder

    def encode(self, samples: np.ndarray) -> SpeechFeatures:
        encoder = self._encoder
        mel = _log_mel(normalize_level(samples), encoder.conv1.in_channels)
        mel = mel[:, : mel.shape[1] // 2 * 2].to(encoder.conv1.weight.device)

        @torch.inference_mode()
        def states(start: int, stop: int) -> np.ndarray:
            x = torch.nn.functional.gelu(encoder.conv1(mel[None, :, 2 * start : 2 * stop]))
            x = torch.nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
            x = x + encoder.positional_embedding[: x.shape[1]]
            for block in encoder.blocks[: self._layer]:
                x = block(x)
            return x[0].float().cpu().numpy()

        # the second convolution has a stride of two mel frames and is centred on the first: value i is at i / 50 s
        with WHISPER_LOCK:
            return SpeechFeatures(_encode_in_windows(states, mel.shape[1] // 2, self.rate), self.rate)


class Wav2Vec2Encoder:
    """wav2vec 2.0 (the paper's encoder) at 50 Hz, computed with transformers.

    Value i is centred on its 25 ms of audio.

    Args:
        source: Folder with weights, or a name on the Hugging Face Hub.
        kind: What is returned: the last hidden state ("wav2vec2"); the output of the convolutional feature extractor,
            for a network that fine-tunes the transformer (`motion.finetuned_encoder`, "wav2vec2-conv"); or the
            probabilities of the characters of a model that was fine-tuned by CTC ("wav2vec2-ctc").
    """

    rate = 50.0

    def __init__(self, source: str = PAPER_ENCODER, kind: Wav2Vec2Kind = "wav2vec2") -> None:
        self.name = f"{kind}:{source}"
        self._source, self._kind = source, kind
        self._loading = threading.RLock()
        config = self.model.config
        dimensions = {"wav2vec2-conv": config.conv_dim[-1], "wav2vec2-ctc": config.vocab_size}
        self.dimension = int(dimensions.get(kind, config.hidden_size))

    @shared_property
    def model(self) -> Any:
        """The `Wav2Vec2Model`, or `Wav2Vec2ForCTC`, of transformers, loaded on first use."""
        return load_wav2vec2(self._source, with_characters=self._kind == "wav2vec2-ctc")

    @shared_property
    def feature_extractor_digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the feature extractor's weights."""
        digest = hashlib.sha256()
        for tensor in self.model.feature_extractor.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def encode(self, samples: np.ndarray) -> SpeechFeatures:
        x = normalize_level(samples)
        x = (x - x.mean()) / (x.std() + 1e-7)
        hop, width = 320, 400
        x = np.pad(x, (0, max(0, width - len(x))))
        count = (len(x) - width) // hop + 1

        @torch.inference_mode()
        def states(start: int, stop: int) -> np.ndarray:
            window = torch.from_numpy(x[start * hop : (stop - 1) * hop + width][None].astype(np.float32))
            if self._kind == "wav2vec2-conv":
                features = self.model.feature_extractor(window)[0].T
            elif self._kind == "wav2vec2-ctc":
                features = self.model(window).logits[0].softmax(-1)
            else:
                features = self.model(window).last_hidden_state[0]
            values: np.ndarray = features.float().numpy()
            return values

        return SpeechFeatures(_encode_in_windows(states, count, self.rate), self.rate, start=width / 2 / SAMPLE_RATE)


def load_encoder(name: str, model: whisper.Whisper | None = None) -> SpeechEncoder:
    """Create a speech encoder from its name.

    Args:
        name: "log-mel", "whisper-SIZE-LAYER", or a kind of `Wav2Vec2Encoder` with a folder or name, as in
            "wav2vec2:FOLDER-OR-NAME".
        model: A Whisper model of size SIZE that is already loaded; by default it is loaded on first use.

    Raises:
        InputError: There is no such encoder.
    """
    if name == LogMelEncoder.name:
        return LogMelEncoder()
    kind, _, rest = name.partition(":")
    for wav2vec2_kind in get_args(Wav2Vec2Kind):
        if kind == wav2vec2_kind:
            return Wav2Vec2Encoder(rest or PAPER_ENCODER, wav2vec2_kind)
    parts = name.split("-")
    if parts[0] == "whisper" and len(parts) >= 3 and parts[-1].isdecimal():
        return WhisperEncoder("-".join(parts[1:-1]), int(parts[-1]), model)
    raise InputError(f"{name or repr(name)}: no such speech encoder; choose log-mel, whisper-base-4 or wav2vec2:FOLDER")


def encode_cached(encoder: SpeechEncoder, samples: np.ndarray, cache: Path | None) -> SpeechFeatures:
    """Return `encoder.encode(samples)`, rounded to float16 and cached in a folder.

    Args:
        encoder: The speech encoder.
        samples: (S,) mono at `SAMPLE_RATE`.
        cache: Folder of the cache, keyed by the encoder's name and the samples; None returns the features
            without caching or rounding.
    """
    if cache is None:
        return encoder.encode(samples)
    digest = hashlib.sha256(encoder.name.encode() + samples.tobytes()).hexdigest()[:24]
    path = cache / f"{digest}.npz"
    if path.is_file():
        try:
            with np.load(path) as file:
                return SpeechFeatures(file["values"].astype(np.float32), float(file["rate"]), float(file["start"]))
        except Exception:
            path.unlink()  # truncated by an interrupted write: encode again
    features = encoder.encode(samples)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part.npz")  # several processes can write the same file
    np.savez(temporary, values=features.values.astype(np.float16), rate=features.rate, start=features.start)
    temporary.replace(path)
    return SpeechFeatures(features.values.astype(np.float16).astype(np.float32), features.rate, features.start)
