"""Transformer blocks on a clock: attention that knows how far apart in seconds two tokens are.

Layer sizes are the paper's; normalisation before each layer and the fading with distance are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST_PERIOD, SHORTEST_PERIOD = 16.0, 0.1
"""Periods in seconds of the time encoding."""

DECODER_HEADS = 4

DECAY_SECONDS = (0.06, 0.12, 0.25, 0.5, 1.0, 2.0)
"""Seconds after which a head's attention has faded by e, spread over the heads. Speech acts on the
mouth over about a second; the fading is what lets a clip be of any length, and be cut in windows."""


def sinusoidal_encoding(times: Tensor, size: int = 16) -> Tensor:
    """PE(16) of the paper, computed and not tabled: seconds (…) → (…, size) sines and cosines."""
    steps = torch.arange(size // 2, device=times.device, dtype=torch.float32) / (size // 2 - 1)
    periods = LONGEST_PERIOD * (SHORTEST_PERIOD / LONGEST_PERIOD) ** steps
    angles = 2 * math.pi * times[..., None].float() / periods
    return torch.cat([angles.sin(), angles.cos()], -1)


class DistanceBias(nn.Module):
    """Bias (B, H, T, S) that fades attention with distance in time and bars padded tokens."""

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        place = torch.linspace(0, len(DECAY_SECONDS) - 1, heads, device="cpu")
        reach = [
            DECAY_SECONDS[0] * (DECAY_SECONDS[-1] / DECAY_SECONDS[0]) ** (float(p) / (len(DECAY_SECONDS) - 1))
            for p in place
        ]
        self.register_buffer("slopes", 1 / torch.tensor(reach), persistent=False)

    def forward(self, query_times: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """``query_times`` (B, T) and ``times`` (B, S) s, ``mask`` (B, S) False where padded."""
        away = (query_times[:, :, None] - times[:, None, :]).abs()[:, None]
        bias = -self.slopes[None, :, None, None] * away
        return bias.masked_fill(~mask[:, None, None, :], -1e4)


class MultiheadAttention(nn.Module):
    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        key, value = self.key_value(memory).chunk(2, -1)
        y = functional.scaled_dot_product_attention(split(self.query(x)), split(key), split(value), bias.to(x.dtype))
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Sequential):
    """f → kf → f; the paper does not say k."""

    def __init__(self, d_model: int, multiplier: int = 2) -> None:
        super().__init__(nn.Linear(d_model, multiplier * d_model), nn.GELU(), nn.Linear(multiplier * d_model, d_model))


class TransformerBlock(nn.Module):
    """[attention(f, heads), FFN], normalised before; attends to ``cross_attn`` where given, else to itself."""

    def __init__(self, d_model: int, num_heads: int, dropout: float, ffn_multiplier: int = 2) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn, self.ffn = MultiheadAttention(d_model, num_heads), FeedForward(d_model, ffn_multiplier)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None = None) -> Tensor:
        y = self.attn_norm(x)
        x = x + self.dropout(self.attn(y, y if memory is None else memory, bias))
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out


class TransformerDecoder(nn.Module):
    """TransformerDecoder(f, 4 heads, 2f, 1 layer) of the paper: attends to itself, then to the same
    sequence as memory (as in SelfTalk), then FFN. No causal mask: the clip is known whole."""

    def __init__(self, d_model: int, dropout: float, num_heads: int = DECODER_HEADS) -> None:
        super().__init__()
        self.distance_bias = DistanceBias(num_heads)
        self.self_attn_norm, self.cross_attn_norm, self.ffn_norm = (nn.LayerNorm(d_model) for _ in range(3))
        self.self_attn, self.cross_attn = MultiheadAttention(d_model, num_heads), MultiheadAttention(d_model, num_heads)
        self.ffn = FeedForward(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """(B, T, f) at ``times`` (B, T) s, ``mask`` (B, T) False where padded → (B, T, f)."""
        bias, memory = self.distance_bias(times, times, mask), x
        y = self.self_attn_norm(x)
        x = x + self.dropout(self.self_attn(y, y, bias))
        x = x + self.dropout(self.cross_attn(self.cross_attn_norm(x), memory, bias))
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out
