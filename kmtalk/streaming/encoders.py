"""What the streaming network hears through: log mel frames as they are, or the first layers of a Whisper encoder.

Whisper's convolutions and layers keep their weights; its attention is a band, so that each token is computed once, a
fraction of the work of encoding the last seconds anew for each block. Of its sinusoidal positions the fast ones run on
for as long as the stream lasts, so that tokens of the band tell each other apart; the slow ones, which would come to
phases that Whisper never saw, stay as in the middle of its thirty seconds. Beyond the beginning and the end of the
sound there is silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from whisper.model import AudioEncoder, ResidualAttentionBlock

from kmtalk.speech.encoders import SPEAKING_LEVEL_DB
from kmtalk.streaming.band import BandMemory, attend_band, attend_stream
from kmtalk.streaming.log_mel import BANDS, LOWEST, SCALE, WHISPER_BAND_DB
from kmtalk.weights import load_whisper_encoder

LOG_MEL = "log-mel"
"""Name of the encoder that gives log mel frames as they are."""

MEL_PER_TOKEN = 2
SILENCE = LOWEST / SCALE  # in the network's input

WHISPER_LAYERS = {"tiny": 4, "base": 6, "small": 12, "medium": 24}
"""Layers of the Whisper encoders that hear 80 bands."""

LONGEST_PERIOD, SLOW_POSITION = 63.0, 700.0
"""Tokens of the longest period of positions that run on, and the position at which slower ones stay."""

FRAMES_BEFORE, FRAMES_AFTER = 2, 1
"""Frames of 10 ms that Whisper's convolutions see before and after the two of a token."""


def check_streaming_encoder(name: str, look_ahead: tuple[int, ...]) -> tuple[str, int]:
    """Return the size of Whisper and the number of its layers; "" and 0 for log mel.

    Raises:
        ValueError: The name is wrong, or `look_ahead` does not have a number for each layer.
    """
    kind, _, rest = name.partition("-")
    size, _, layers = rest.partition("-")
    if name == LOG_MEL:
        size, layers = "", "0"
    elif kind != "whisper" or size not in WHISPER_LAYERS or not layers.isdecimal():
        raise ValueError(f"encoder {name[:40]!r}: choose log-mel, or such as whisper-base-2")
    elif not 1 <= int(layers) <= WHISPER_LAYERS[size]:
        raise ValueError(f"encoder {name}: Whisper {size} has {WHISPER_LAYERS[size]} layers")
    if len(look_ahead) != int(layers):
        raise ValueError(f"encoder {name}: encoder_look_ahead needs {int(layers)} numbers, one for each of its layers")
    return size, int(layers)


@dataclass
class EncoderMemory:
    """What an encoder keeps of a stream.

    Attributes:
        frames: Last frames (1, n, `BANDS`) that later tokens need; None before the first.
        layers: Of each layer, where it has any.
    """

    frames: Tensor | None = None
    layers: list[BandMemory] = field(default_factory=list)


class StackedFrames(nn.Module):
    """The log mel frames of a token, one after the other. Arguments and results are those of `WhisperLayers`."""

    dimension = MEL_PER_TOKEN * BANDS

    def forward(self, mel: Tensor, start: Tensor | None = None) -> Tensor:
        """Return tokens (B, T, d) of frames (B, 2T, `BANDS`), wherever they are in a stream."""
        return mel.unflatten(1, (mel.shape[1] // MEL_PER_TOKEN, MEL_PER_TOKEN)).flatten(2)

    def advance(self, mel: Tensor, memory: EncoderMemory, ends: bool = False) -> Tensor:
        """Return the next tokens (1, m, d) of a stream."""
        frames = mel if memory.frames is None else torch.cat([memory.frames, mel], 1)
        whole = frames.shape[1] // MEL_PER_TOKEN * MEL_PER_TOKEN
        memory.frames = frames[:, whole:]
        return self(frames[:, :whole])

    def new_memory(self) -> EncoderMemory:
        """Return the memory of a stream that begins."""
        return EncoderMemory()


class WhisperLayers(nn.Module):
    """Convolutions and first layers of a Whisper encoder, whose weights do not change.

    Args:
        encoder: The encoder, of 80 bands.
        look_ahead: Tokens of 20 ms of the future that each layer sees; there are as many layers as numbers.
        look_back: Tokens of the past that each layer sees.

    Attributes:
        dimension: Width d.
    """

    offset: Tensor

    def __init__(self, encoder: AudioEncoder, look_ahead: tuple[int, ...], look_back: int) -> None:
        super().__init__()
        self.look_ahead, self.look_back = look_ahead, look_back
        self.conv1, self.conv2 = encoder.conv1, encoder.conv2
        self.dimension = encoder.conv2.out_channels
        self.blocks = nn.ModuleList(list(encoder.blocks)[: len(look_ahead)])
        level = torch.from_numpy(WHISPER_BAND_DB + SPEAKING_LEVEL_DB).float()
        self.register_buffer("offset", level, persistent=False)
        self.requires_grad_(False)

    def forward(self, mel: Tensor, start: Tensor | None = None) -> Tensor:
        """Return tokens (B, T, d) of whole clips.

        Args:
            mel: Frames (B, 2T, `BANDS`) of `kmtalk.streaming.log_mel`.
            start: Numbers of the first tokens in their streams (B,); None for 0.
        """
        x = self._convolve(functional.pad(mel, (0, 0, FRAMES_BEFORE, FRAMES_AFTER), value=SILENCE))
        x = x + self._positions(mel.new_zeros(len(mel)) if start is None else start, x.shape[1])
        for block, ahead in zip(self.blocks, self.look_ahead, strict=True):
            x = _update(block, x, attend_band(*_qkv(block, x), self.look_back, ahead))
        return x

    def advance(self, mel: Tensor, memory: EncoderMemory, ends: bool = False) -> Tensor:
        """Return the next tokens (1, m, d) of a stream.

        Args:
            mel: Further frames (1, n, `BANDS`).
            memory: Of the stream; changed.
            ends: Whether nothing follows.
        """
        if memory.frames is None:
            memory.frames = mel.new_full((1, FRAMES_BEFORE, BANDS), SILENCE)
        frames = torch.cat([memory.frames, mel], 1)
        if ends:
            frames = functional.pad(frames, (0, 0, 0, FRAMES_AFTER), value=SILENCE)
        count = max(0, (frames.shape[1] - FRAMES_BEFORE - FRAMES_AFTER) // 2)
        memory.frames = frames[:, 2 * count :]
        x = None
        if count:
            x = self._convolve(frames[:, : 2 * count + FRAMES_BEFORE + FRAMES_AFTER])
            x = x + self._positions(torch.tensor([memory.layers[0].seen], device=x.device), count)
        empty = mel.new_zeros(1, 0, self.dimension)
        for block, kept, ahead in zip(self.blocks, memory.layers, self.look_ahead, strict=True):
            qkv = None if x is None else _qkv(block, x)
            found = attend_stream(kept, empty if x is None else x, qkv, self.look_back, ahead, ends)
            x = None if found is None else _update(block, *found)
        return empty if x is None else x

    def _positions(self, start: Tensor, count: int) -> Tensor:
        """Positions (B, count, d) of tokens from `start` (B,) on; in double precision, since streams last for hours."""
        half = self.dimension // 2
        speed = 10_000.0 ** -(torch.arange(half, dtype=torch.float64, device=start.device) / (half - 1))
        tokens = start.double()[:, None] + torch.arange(count, device=start.device)
        angle = torch.where(speed > 2 * math.pi / LONGEST_PERIOD, tokens[..., None] * speed, SLOW_POSITION * speed)
        return torch.cat([angle.sin(), angle.cos()], -1).float()

    def new_memory(self) -> EncoderMemory:
        """Return the memory of a stream that begins."""
        return EncoderMemory(None, [BandMemory() for _ in self.blocks])

    def _convolve(self, mel: Tensor) -> Tensor:
        """Return tokens (B, T, d) of frames (B, 2T + 3, `BANDS`), each of five of them."""
        x = ((mel * SCALE + self.offset) / 10 + 4) / 4  # as Whisper's log mel spectrogram of normalised sound
        x = functional.gelu(functional.conv1d(x.transpose(1, 2), self.conv1.weight, self.conv1.bias))
        x = functional.gelu(functional.conv1d(x, self.conv2.weight, self.conv2.bias, stride=2))
        return x.transpose(1, 2)


def _qkv(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a layer, (B, H, T, head_dim) each."""
    attention, y = block.attn, block.attn_ln(x)
    q, k, v = (
        layer(y).unflatten(-1, (attention.n_head, -1)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    return q, k, v


def _update(block: ResidualAttentionBlock, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.attn.out(attended.transpose(1, 2).flatten(2))
    out: Tensor = x + block.mlp(block.mlp_ln(x))
    return out


def load_streaming_encoder(name: str, look_ahead: tuple[int, ...], look_back: int) -> StackedFrames | WhisperLayers:
    """Load the encoder of a name.

    Args:
        name: "log-mel", or the layers of Whisper, such as "whisper-base-2".
        look_ahead: Tokens of 20 ms of the future that each layer sees.
        look_back: Tokens of the past that each layer sees.

    Raises:
        ValueError: The name is wrong, or `look_ahead` does not have a number for each layer.
        InputError: The model is not there and cannot be downloaded.
    """
    size, layers = check_streaming_encoder(name, look_ahead)
    return WhisperLayers(load_whisper_encoder(size), look_ahead, look_back) if layers else StackedFrames()
