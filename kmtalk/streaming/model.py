"""The streaming network: log mel frames in, the motion of mouth, jaw and tongue out, with a bounded look-ahead.

Dimensions:

- B: crops in a batch
- T: tokens, of 20 ms each; token i is at (i + 0.5) · 20 ms
- C: shapes of mouth, jaw and tongue
- S: speaking styles
- d: width

Every token is a key frame: keys are uniform, 20 ms apart, so that no boundary has to be found before a key is
predicted, and frames of other rates are completed by straight lines between keys. Each block's attention is a band: it
looks back `look_back` tokens, and ahead as many as `look_ahead` says for the block; the sum of these is the network's
look-ahead. Convolutions are causal. What a block needs of the past is kept in a `BlockMemory`, with which a stream
gives what the whole clip gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kmtalk.joint.blocks import MODULATIONS, RotaryPositions, StreamBlock
from kmtalk.joint.tokens import VOCABULARY
from kmtalk.streaming.log_mel import BANDS, HOP_SECONDS

MEL_PER_TOKEN = 2
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
    """

    shape_names: tuple[str, ...]
    styles: tuple[str, ...]
    look_ahead: tuple[int, ...] = (2, 2, 2, 1, 0)
    look_back: int = 32
    d_model: int = 192
    num_heads: int = 4
    ffn_multiplier: int = 3
    kernel: int = 7

    @property
    def look_ahead_seconds(self) -> float:
        """Seconds of sound after a token that the network needs: its look-ahead in tokens of 20 ms."""
        return sum(self.look_ahead) * TOKEN_SECONDS


@dataclass
class BlockMemory:
    """What one block keeps of a stream.

    Attributes:
        waiting: Tokens (1, n, d) that wait for their look-ahead.
        queries: Their queries (1, H, n, head_dim).
        keys: Keys (1, H, k, head_dim) of the last tokens, those that wait among them.
        values: Values (1, H, k, head_dim) of the same.
        middle: Last tokens (1, past, d) before the convolution.
        done: Number of tokens that have left the block.
        seen: Number of tokens that have entered it.
    """

    waiting: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    middle: Tensor | None = None
    done: int = 0
    seen: int = 0


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

    Attributes:
        config: Architecture.
        motion_mean: Mean of the shapes' weights, (C,).
        motion_std: Standard deviation of the shapes' weights, (C,).
    """

    motion_mean: Tensor
    motion_std: Tensor

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.config = config
        d, shapes = config.d_model, len(config.shape_names)
        self.register_buffer("motion_mean", torch.zeros(shapes))
        self.register_buffer("motion_std", torch.ones(shapes))
        self.style = nn.Linear(len(config.styles), MODULATIONS * d)
        self.input = nn.Sequential(
            nn.Linear(MEL_PER_TOKEN * BANDS, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.LayerNorm(d)
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

    def forward(self, mel: Tensor, style: Tensor) -> StreamingOutput:
        """Animate whole clips.

        Args:
            mel: Frames (B, 2T, `BANDS`) of `kmtalk.streaming.log_mel`.
            style: Shares of the styles (B, S).
        """
        x, condition = self._tokens(mel), self._condition(style)
        count = x.shape[1]
        for block, ahead in zip(self.blocks, self.config.look_ahead, strict=True):
            assert isinstance(block, StreamBlock)
            q, k, v = block.qkv(x, condition, self._positions(0, count, x.device))
            seen = self._band(torch.arange(count), torch.arange(count), ahead).to(x.device)
            attended = functional.scaled_dot_product_attention(q, k, v, seen)
            x, _ = block.update(x, attended, condition)
        return self._heads(x)

    def advance(
        self, mel: Tensor, style: Tensor, memory: list[BlockMemory], ends: bool = False
    ) -> StreamingOutput | None:
        """Animate as many tokens as can be with further frames of one stream.

        Args:
            mel: Further frames (1, 2n, `BANDS`), n 0 or more.
            style: Shares of the styles (1, S).
            memory: Of each block; changed.
            ends: Whether nothing follows, so that no token waits any longer.

        Returns:
            Of the next tokens; None where all wait for their look-ahead.
        """
        x, condition = self._tokens(mel), self._condition(style)
        for block, kept, ahead in zip(self.blocks, memory, self.config.look_ahead, strict=True):
            assert isinstance(block, StreamBlock)
            x = self._advance_block(block, x, condition, kept, 0 if ends else ahead, ahead)
        return self._heads(x) if x.shape[1] else None

    def new_memory(self) -> list[BlockMemory]:
        """Return the memory of a stream that begins."""
        return [BlockMemory() for _ in self.blocks]

    def _advance_block(
        self, block: StreamBlock, x: Tensor, condition: Tensor, kept: BlockMemory, held_back: int, ahead: int
    ) -> Tensor:
        """Apply a block to what can leave it; the last `held_back` tokens wait."""
        if x.shape[1]:
            q, k, v = block.qkv(x, condition, self._positions(kept.seen, x.shape[1], x.device))
            kept.waiting = x if kept.waiting is None else torch.cat([kept.waiting, x], 1)
            kept.queries = q if kept.queries is None else torch.cat([kept.queries, q], 2)
            kept.keys = k if kept.keys is None else torch.cat([kept.keys, k], 2)
            kept.values = v if kept.values is None else torch.cat([kept.values, v], 2)
            kept.seen += x.shape[1]
        count = max(0, kept.seen - held_back - kept.done)
        if not count or kept.waiting is None:
            return x[:, :0]
        assert kept.queries is not None and kept.keys is not None and kept.values is not None
        queries = torch.arange(kept.done, kept.done + count)
        keys = torch.arange(kept.seen - kept.keys.shape[2], kept.seen)
        seen = self._band(queries, keys, ahead).to(x.device)
        attended = functional.scaled_dot_product_attention(kept.queries[:, :, :count], kept.keys, kept.values, seen)
        out, middle = block.update(kept.waiting[:, :count], attended, condition, before=kept.middle)
        past = block.convolution.past
        before = middle.new_zeros(1, past, middle.shape[2]) if kept.middle is None else kept.middle
        kept.middle = torch.cat([before, middle], 1)[:, before.shape[1] + middle.shape[1] - past :]
        kept.waiting, kept.queries = kept.waiting[:, count:], kept.queries[:, :, count:]
        kept.done += count
        needed = self.config.look_back + kept.seen - kept.done
        kept.keys, kept.values = kept.keys[:, :, -needed:], kept.values[:, :, -needed:]
        return out

    def _tokens(self, mel: Tensor) -> Tensor:
        out: Tensor = self.input(mel.unflatten(1, (mel.shape[1] // MEL_PER_TOKEN, MEL_PER_TOKEN)).flatten(2))
        return out

    def _condition(self, style: Tensor) -> Tensor:
        out: Tensor = self.style(style).unflatten(-1, (MODULATIONS, self.config.d_model))
        return out

    def _positions(self, start: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary positions of tokens; in double precision, since a stream may last for hours."""
        times = (torch.arange(start, start + count, dtype=torch.float64, device=device) + 0.5) * TOKEN_SECONDS
        out: tuple[Tensor, Tensor] = self.rotary(times)
        return out

    def _band(self, queries: Tensor, keys: Tensor, ahead: int) -> Tensor:
        """Which keys (K,) each query (Q,) sees, by their token numbers, (Q, K)."""
        distance = keys[None] - queries[:, None]
        return (distance >= -self.config.look_back) & (distance <= ahead)

    def _heads(self, x: Tensor) -> StreamingOutput:
        x = self.norm(x)
        motion = self.motion_mean + self.motion_std * self.motion(x)
        return StreamingOutput(motion, self.contacts(x), self.phones(x))
