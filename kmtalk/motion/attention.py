"""Transformer blocks on a clock: attention that knows how far apart in seconds two tokens are.

Layer sizes are the paper's; normalisation before each layer and the fading with distance are ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOWEST, FASTEST = 16.0, 0.1
"""Periods in seconds of the time encoding."""

DECODER_HEADS = 4

REACHES = (0.06, 0.12, 0.25, 0.5, 1.0, 2.0)
"""Seconds after which a head's attention has faded by e, spread over the heads. Speech acts on the
mouth over about a second; the fading is what lets a clip be of any length, and be cut in windows."""


def encode_times(times: Tensor, size: int = 16) -> Tensor:
    """PE(16) of the paper, computed and not tabled: seconds (…) → (…, size) sines and cosines."""
    steps = torch.arange(size // 2, device=times.device, dtype=torch.float32) / (size // 2 - 1)
    periods = SLOWEST * (FASTEST / SLOWEST) ** steps
    angles = 2 * math.pi * times[..., None].float() / periods
    return torch.cat([angles.sin(), angles.cos()], -1)


class Distance(nn.Module):
    """Bias (B, H, T, S) that fades attention with distance in time and bars padded tokens."""

    slope: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        place = torch.linspace(0, len(REACHES) - 1, heads, device="cpu")
        reach = [REACHES[0] * (REACHES[-1] / REACHES[0]) ** (float(p) / (len(REACHES) - 1)) for p in place]
        self.register_buffer("slope", 1 / torch.tensor(reach), persistent=False)

    def forward(self, query_times: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """``query_times`` (B, T) and ``times`` (B, S) s, ``real`` (B, S) False where padded."""
        away = (query_times[:, :, None] - times[:, None, :]).abs()[:, None]
        bias = -self.slope[None, :, None, None] * away
        return bias.masked_fill(~real[:, None, None, :], -1e4)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.pair = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.pair(memory).chunk(2, -1)
        y = functional.scaled_dot_product_attention(split(self.query(x)), split(key), split(value), bias.to(x.dtype))
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Sequential):
    """f → kf → f; the paper does not say k."""

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__(nn.Linear(width, factor * width), nn.GELU(), nn.Linear(factor * width, width))


class Block(nn.Module):
    """[attention(f, heads), FFN], normalised before; attends to ``memory`` where given, else to itself."""

    def __init__(self, width: int, heads: int, dropout: float, factor: int = 2) -> None:
        super().__init__()
        self.before, self.middle = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed = Attention(width, heads), FeedForward(width, factor)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, memory: Tensor | None = None) -> Tensor:
        y = self.before(x)
        x = x + self.dropout(self.attention(y, y if memory is None else memory, bias))
        out: Tensor = x + self.dropout(self.feed(self.middle(x)))
        return out


class Decoder(nn.Module):
    """TransformerDecoder(f, 4 heads, 2f, 1 layer) of the paper: attends to itself, then to the same
    sequence as memory (as in SelfTalk), then FFN. No causal mask: the clip is known whole."""

    def __init__(self, width: int, dropout: float, heads: int = DECODER_HEADS) -> None:
        super().__init__()
        self.distance = Distance(heads)
        self.before, self.middle, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.itself, self.memory = Attention(width, heads), Attention(width, heads)
        self.feed = FeedForward(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """(B, T, f) at ``times`` (B, T) s, ``real`` (B, T) False where padded → (B, T, f)."""
        bias, memory = self.distance(times, times, real), x
        y = self.before(x)
        x = x + self.dropout(self.itself(y, y, bias))
        x = x + self.dropout(self.memory(self.middle(x), memory, bias))
        out: Tensor = x + self.dropout(self.feed(self.after(x)))
        return out
