"""Transformer blocks whose attention depends on the distance in seconds between two tokens.

Layer sizes are the paper's; pre-normalisation and the decay of attention with distance are ours. Dimensions: B clips,
T query tokens, S key tokens (frames or key frames), H heads, f width (`d_model`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST_PERIOD_SECONDS, SHORTEST_PERIOD_SECONDS = 16.0, 0.1
"""Longest and shortest period of the time encoding, in seconds."""

DECODER_HEADS = 4
"""Attention heads of the decoders of LKMA and CMC."""

SHORTEST_DECAY_SECONDS, LONGEST_DECAY_SECONDS = 0.06, 2.0
"""Distances in seconds at which the attention of the first and last head has decayed by a factor of e; a geometric
series over the heads. Speech affects the mouth over about a second. The decay allows clips of any length, and their
division into windows."""

MASKED_SECONDS = 2e4
"""Distance in seconds at which padding is put: attention has decayed to zero."""


def sinusoidal_encoding(times: Tensor, size: int = 16) -> Tensor:
    """Encode times by sines and cosines: PE(16) of the paper, computed instead of tabulated.

    Args:
        times: Times in seconds, shape (…).
        size: Size of the encoding, even.

    Returns:
        Encoding, shape (…, size).
    """
    steps = torch.arange(size // 2, device=times.device, dtype=torch.float32) / (size // 2 - 1)
    periods = LONGEST_PERIOD_SECONDS * (SHORTEST_PERIOD_SECONDS / LONGEST_PERIOD_SECONDS) ** steps
    angles = 2 * math.pi * times[..., None].float() / periods
    return torch.cat([angles.sin(), angles.cos()], -1)


class TemporalDistanceBias(nn.Module):
    """Attention bias that decays with distance in time and masks padding.

    Args:
        heads: Number H of attention heads.
    """

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        ratio = LONGEST_DECAY_SECONDS / SHORTEST_DECAY_SECONDS
        # from 0 to 5 and back: other steps round differently, and the shipped networks were trained with these slopes
        decay = [SHORTEST_DECAY_SECONDS * ratio ** (float(p) / 5) for p in torch.linspace(0, 5, heads, device="cpu")]
        self.register_buffer("slopes", 1 / torch.tensor(decay), persistent=False)

    def forward(self, query_times: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """Compute the bias, to be added to attention logits.

        Args:
            query_times: Tensor, shape (batch, queries): times of the queries in seconds.
            times: Tensor, shape (batch, keys): times of the attention keys in seconds.
            mask: Tensor, shape (batch, keys): False at padding.

        Returns:
            bias: Tensor, shape (batch, heads, queries, keys).
        """
        distance = (query_times[:, :, None] - times[:, None, :]).abs()[:, None]
        distance = distance.masked_fill(~mask[:, None, None, :], MASKED_SECONDS)  # before there are as many as heads
        return -self.slopes[None, :, None, None] * distance


class MultiheadAttention(nn.Module):
    """Multi-head scaled dot-product attention with an additive bias.

    Args:
        d_model: Width f, a multiple of `num_heads`.
        num_heads: Attention heads.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """Attend from `x` to `memory`.

        Args:
            x: Tensor, shape (batch, queries, d_model).
            memory: Tensor, shape (batch, keys, d_model).
            bias: Tensor, shape (batch, heads, queries, keys).

        Returns:
            Tensor, shape (batch, queries, d_model).
        """

        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        key, value = self.key_value(memory).chunk(2, -1)
        y = functional.scaled_dot_product_attention(split(self.query(x)), split(key), split(value), bias.to(x.dtype))
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Sequential):
    """Feed-forward network, f → kf → GELU → f; the paper does not give k (`multiplier`)."""

    def __init__(self, d_model: int, multiplier: int = 2) -> None:
        super().__init__(nn.Linear(d_model, multiplier * d_model), nn.GELU(), nn.Linear(multiplier * d_model, d_model))


class TransformerBlock(nn.Module):
    """Pre-normalised block of attention(f, heads) and FFN; self-attention, or cross-attention where `memory` is given.

    Args:
        d_model: Width f.
        num_heads: Attention heads.
        dropout: Dropout probability.
        ffn_multiplier: Width of the feed-forward layer as a multiple of `d_model`.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, ffn_multiplier: int = 2) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn, self.ffn = MultiheadAttention(d_model, num_heads), FeedForward(d_model, ffn_multiplier)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: Tensor, shape (batch, queries, d_model).
            bias: Tensor, shape (batch, heads, queries, keys), from `TemporalDistanceBias`.
            memory: Tensor, shape (batch, keys, d_model); None for self-attention.

        Returns:
            Tensor, shape (batch, queries, d_model).
        """
        y = self.attn_norm(x)
        x = x + self.dropout(self.attn(y, y if memory is None else memory, bias))
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out


class TransformerDecoderLayer(nn.Module):
    """TransformerDecoder(f, 4 heads, 2f, 1 layer) of the paper.

    Self-attention, then cross-attention to the input sequence (as in SelfTalk), then FFN. There is no causal mask,
    because the whole clip is known.

    Args:
        d_model: Width f.
        dropout: Dropout probability.
        num_heads: Attention heads.
    """

    def __init__(self, d_model: int, dropout: float, num_heads: int = DECODER_HEADS) -> None:
        super().__init__()
        self.distance_bias = TemporalDistanceBias(num_heads)
        self.self_attn_norm, self.cross_attn_norm, self.ffn_norm = (nn.LayerNorm(d_model) for _ in range(3))
        self.self_attn, self.cross_attn = MultiheadAttention(d_model, num_heads), MultiheadAttention(d_model, num_heads)
        self.ffn = FeedForward(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """Decode a sequence.

        Args:
            x: Tensor, shape (batch, tokens, d_model).
            times: Tensor, shape (batch, tokens): time of each token in seconds.
            mask: Tensor, shape (batch, tokens): False at padding.

        Returns:
            Tensor, shape (batch, tokens, d_model).
        """
        bias, memory = self.distance_bias(times, times, mask), x
        y = self.self_attn_norm(x)
        x = x + self.dropout(self.self_attn(y, y, bias))
        x = x + self.dropout(self.cross_attn(self.cross_attn_norm(x), memory, bias))
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out
