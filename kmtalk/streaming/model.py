"""The streaming network: log mel frames in, the motion of mouth, jaw and tongue out, with a bounded look-ahead.

It hears the frames through the first layers of a Whisper encoder, or as they are.

Dimensions:

- B: crops in a batch
- T: tokens, of 20 ms each; token i is at (i + 0.5) · 20 ms
- C: shapes of mouth, jaw and tongue
- S: speaking styles
- d: width

Every token is a key frame: keys are uniform, 20 ms apart, so that no boundary has to be found before a key is
predicted, and frames of other rates are completed by straight lines between keys. Each block's attention is a band: it
looks back `look_back` tokens, and ahead as many as `look_ahead` says for the block; the sum of these is the network's
look-ahead, to which that of Whisper's layers is added. Convolutions are causal. What a block needs of the past is kept
in a `BandMemory`, with which a stream gives what the whole clip gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kmtalk.joint.blocks import MODULATIONS, RotaryPositions, StreamBlock
from kmtalk.joint.tokens import VOCABULARY
from kmtalk.streaming.band import BandMemory, attend_band, attend_stream
from kmtalk.streaming.encoders import (
    FRAMES_AFTER,
    LOG_MEL,
    MEL_PER_TOKEN,
    EncoderMemory,
    StackedFrames,
    WhisperLayers,
    load_streaming_encoder,
)
from kmtalk.streaming.log_mel import HOP_SECONDS

TOKEN_SECONDS = MEL_PER_TOKEN * HOP_SECONDS
TOKEN_RATE = 1 / TOKEN_SECONDS
"""Tokens per second, 50."""

CONTACTS = ("bilabial", "labiodental", "pause")
"""What the network finds beside the motion: closures of p, b and m, contacts of f and v, and pauses."""


@dataclass(frozen=True)
class StreamingConfig:
    """Architecture of a `StreamingNetwork`.

    Attributes:
        shape_names: Names of the C shapes of the rig that it moves.
        styles: Names of the S speaking styles.
        look_ahead: Tokens of 20 ms that each block sees of the future.
        look_back: Tokens of 20 ms that each block sees of the past.
        d_model: Width d.
        num_heads: Attention heads.
        ffn_multiplier: Width of the feed-forward layers as a multiple of d.
        kernel: Taps of the convolutions.
        encoder: "log-mel", or the layers of Whisper that it hears through, such as "whisper-base-2".
        encoder_look_ahead: Tokens that each of those layers sees of the future.
        encoder_look_back: Tokens that each of them sees of the past.
    """

    shape_names: tuple[str, ...]
    styles: tuple[str, ...]
    look_ahead: tuple[int, ...] = (2, 2, 2, 1, 0)
    look_back: int = 32
    d_model: int = 192
    num_heads: int = 4
    ffn_multiplier: int = 3
    kernel: int = 7
    encoder: str = LOG_MEL
    encoder_look_ahead: tuple[int, ...] = ()
    encoder_look_back: int = 50

    @property
    def look_ahead_tokens(self) -> int:
        """Tokens after a token that the network needs."""
        return sum(self.look_ahead) + sum(self.encoder_look_ahead)

    @property
    def look_ahead_seconds(self) -> float:
        """Seconds of sound after a token that the network needs."""
        frames = 0 if self.encoder == LOG_MEL else FRAMES_AFTER
        return self.look_ahead_tokens * TOKEN_SECONDS + frames * HOP_SECONDS


@dataclass
class StreamMemory:
    """What the network keeps of a stream.

    Attributes:
        encoder: Of what it hears through.
        blocks: Of each block.
    """

    encoder: EncoderMemory
    blocks: list[BandMemory]


@dataclass(frozen=True)
class StreamingOutput:
    """What the network finds.

    Attributes:
        motion: (B, T, C) weights of the shapes.
        contacts: (B, T, 3) logits of `CONTACTS`.
        phones: (B, T, V) logits of the phones and pauses of `kmtalk.joint.tokens.VOCABULARY`.
    """

    motion: Tensor
    contacts: Tensor
    phones: Tensor


class StreamingNetwork(nn.Module):
    """A transformer over tokens of log mel frames, whose blocks see little of the future.

    Args:
        config: Architecture.
        encoder: The encoder that `config` describes; None loads it.

    Attributes:
        config: Architecture.
        encoder: What it hears through, which does not learn, and is no part of its file.
        motion_mean: Mean of the shapes' weights, (C,).
        motion_std: Standard deviation of the shapes' weights, (C,).
    """

    motion_mean: Tensor
    motion_std: Tensor

    def __init__(self, config: StreamingConfig, encoder: StackedFrames | WhisperLayers | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or load_streaming_encoder(
            config.encoder, config.encoder_look_ahead, config.encoder_look_back
        )
        d, shapes = config.d_model, len(config.shape_names)
        self.register_buffer("motion_mean", torch.zeros(shapes))
        self.register_buffer("motion_std", torch.ones(shapes))
        self.style = nn.Linear(len(config.styles), MODULATIONS * d)
        self.input = nn.Sequential(
            nn.Linear(self.encoder.dimension, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.LayerNorm(d)
        )
        self.rotary = RotaryPositions(d // config.num_heads)
        self.blocks = nn.ModuleList(
            StreamBlock(d, config.num_heads, config.ffn_multiplier, config.kernel, causal=True)
            for _ in config.look_ahead
        )
        self.norm = nn.LayerNorm(d)
        self.motion = nn.Linear(d, shapes)
        self.contacts = nn.Linear(d, len(CONTACTS))
        self.phones = nn.Linear(d, len(VOCABULARY))

    def forward(self, mel: Tensor, style: Tensor, start: Tensor | None = None) -> StreamingOutput:
        """Animate whole clips.

        Args:
            mel: Frames (B, 2T, `BANDS`) of `kmtalk.streaming.log_mel`.
            style: Shares of the styles (B, S).
            start: Numbers of the first tokens in their streams (B,); None for 0.
        """
        x, condition, back = self.input(self.encoder(mel, start)), self._condition(style), self.config.look_back
        positions = self._positions(0, x.shape[1], x.device)
        for block, ahead in zip(self.blocks, self.config.look_ahead, strict=True):
            assert isinstance(block, StreamBlock)
            attended = attend_band(*block.qkv(x, condition, positions), back, ahead)
            x, _ = block.update(x, attended, condition)
        return self._heads(x)

    def advance(self, mel: Tensor, style: Tensor, memory: StreamMemory, ends: bool = False) -> StreamingOutput | None:
        """Animate as many tokens as can be with further frames of one stream.

        Args:
            mel: Further frames (1, n, `BANDS`), n 0 or more.
            style: Shares of the styles (1, S).
            memory: Of the stream; changed.
            ends: Whether nothing follows, so that no token waits any longer; a frame without its pair is left out.

        Returns:
            Of the next tokens; None where all wait for their look-ahead.
        """
        heard = self.encoder.advance(mel, memory.encoder, ends)
        x, condition = self.input(heard), self._condition(style)
        for block, kept, ahead in zip(self.blocks, memory.blocks, self.config.look_ahead, strict=True):
            assert isinstance(block, StreamBlock)
            x = self._advance_block(block, x, condition, kept, ahead, ends)
        return self._heads(x) if x.shape[1] else None

    def new_memory(self) -> StreamMemory:
        """Return the memory of a stream that begins."""
        return StreamMemory(self.encoder.new_memory(), [BandMemory() for _ in self.blocks])

    def _advance_block(
        self, block: StreamBlock, x: Tensor, condition: Tensor, kept: BandMemory, ahead: int, ends: bool
    ) -> Tensor:
        """Apply a block to what can leave it."""
        positions = self._positions(kept.seen, x.shape[1], x.device)
        qkv = block.qkv(x, condition, positions) if x.shape[1] else None
        found = attend_stream(kept, x, qkv, self.config.look_back, ahead, ends)
        if found is None:
            return x[:, :0]
        tokens, attended = found
        out, middle = block.update(tokens, attended, condition, before=kept.middle)
        past = block.convolution.past
        before = middle.new_zeros(1, past, middle.shape[2]) if kept.middle is None else kept.middle
        kept.middle = torch.cat([before, middle], 1)[:, before.shape[1] + middle.shape[1] - past :]
        return out

    def _condition(self, style: Tensor) -> Tensor:
        out: Tensor = self.style(style).unflatten(-1, (MODULATIONS, self.config.d_model))
        return out

    def _positions(self, start: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary positions of tokens; in double precision, since a stream may last for hours."""
        times = (torch.arange(start, start + count, dtype=torch.float64, device=device) + 0.5) * TOKEN_SECONDS
        out: tuple[Tensor, Tensor] = self.rotary(times)
        return out

    def _heads(self, x: Tensor) -> StreamingOutput:
        x = self.norm(x)
        motion = self.motion_mean + self.motion_std * self.motion(x)
        return StreamingOutput(motion, self.contacts(x), self.phones(x))
