"""Transformer blocks of one stream: rotary positions in seconds, adaptive layer norms, a depthwise convolution.

B clips, T tokens (frames) of a stream, H heads, d width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORTEST_PERIOD, LONGEST_PERIOD = 0.05, 20.0
"""Periods in seconds of the first and last rotary frequency."""

MODULATIONS = 4  # scale and shift of two norms


class RotaryPositions(nn.Module):
    """Rotary position embedding (RoFormer) of times in seconds, so that streams of different rates share positions.

    Args:
        head_dim: Width of one attention head, even.
    """

    frequencies: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        steps = torch.arange(head_dim // 2, dtype=torch.float64) / max(1, head_dim // 2 - 1)
        periods = SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** steps
        self.register_buffer("frequencies", (2 * math.pi / periods).float(), persistent=False)

    def forward(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (T, head_dim / 2) of times (T,)."""
        angles = times[:, None] * self.frequencies
        return angles.cos(), angles.sin()


def rotate(x: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys (B, H, T, head_dim) by their positions."""
    cos, sin = (p.to(x.dtype) for p in positions)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def timestep_encoding(t: Tensor, size: int) -> Tensor:
    """Encode the flow's time t (B,) in [0, 1] by sines and cosines, (B, size)."""
    frequencies = torch.exp(-math.log(1000.0) * torch.arange(size // 2, device=t.device) / (size // 2)) * 10.0
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


class DepthwiseConvolution(nn.Module):
    """Convolution over time of each channel by itself, centred or causal; padding tokens count as zero.

    Args:
        d_model: Channels.
        kernel: Taps, odd.
        causal: Whether no tap lies in the future.
    """

    def __init__(self, d_model: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.past, self.future = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        self.convolution = nn.Conv1d(d_model, d_model, kernel, groups=d_model)

    def forward(self, x: Tensor, valid: Tensor | None = None, before: Tensor | None = None) -> Tensor:
        """Convolve (B, T, d); `before` (B, past, d) are the tokens before a causal chunk."""
        x = x if valid is None else x * valid[..., None]
        left = x.new_zeros(len(x), self.past, x.shape[2]) if before is None else before
        x = functional.pad(torch.cat([left, x], 1), (0, 0, 0, self.future))
        out: Tensor = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        return out


class StreamBlock(nn.Module):
    """One block of a stream. Its attention is computed between `qkv` and `update`, so that streams can be joined in it.

    x ← x + W · attention(AdaLN(x));  x ← x + FFN(AdaLN(x + convolution(x))). The projections onto x start at zero.

    Args:
        d_model: Width d.
        num_heads: Attention heads.
        ffn_multiplier: Width of the feed-forward layer as a multiple of d.
        kernel: Taps of the convolution.
        causal: Whether the convolution is causal.
    """

    def __init__(self, d_model: int, num_heads: int, ffn_multiplier: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.ffn_norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.project_qkv = nn.Linear(d_model, 3 * d_model)
        self.project_out = nn.Linear(d_model, d_model)
        self.convolution = DepthwiseConvolution(d_model, kernel, causal)
        self.expand = nn.Linear(d_model, ffn_multiplier * d_model)
        self.contract = nn.Linear(ffn_multiplier * d_model, d_model)
        self.modulation = nn.Parameter(torch.zeros(MODULATIONS, d_model))
        for layer in (self.project_out, self.contract):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def qkv(self, x: Tensor, condition: Tensor, positions: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, each (B, H, T, head_dim).

        Args:
            x: Tokens (B, T, d).
            condition: Modulation of all blocks of the stream (B, `MODULATIONS`, d).
            positions: Rotary positions of the tokens.
        """
        scale, shift = (condition + self.modulation)[:, :2, None].unbind(1)
        y = self.project_qkv(self.attention_norm(x) * (1 + scale) + shift)
        q, k, v = (z.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for z in y.chunk(3, -1))
        return rotate(q, positions), rotate(k, positions), v

    def update(
        self,
        x: Tensor,
        attended: Tensor,
        condition: Tensor,
        valid: Tensor | None = None,
        before: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Add what attention (B, H, T, head_dim) gives, then the feed-forward layer.

        Returns:
            x: Tokens (B, T, d).
            middle: Tokens before the feed-forward layer, of which a streaming convolution needs the last ones.
        """
        x = x + self.project_out(attended.transpose(1, 2).flatten(2))
        scale, shift = (condition + self.modulation)[:, 2:, None].unbind(1)
        y = self.ffn_norm(x + self.convolution(x, valid, before)) * (1 + scale) + shift
        return x + self.contract(functional.gelu(self.expand(y))), x


class TokenBlock(nn.Module):
    """ConvNeXt block over the tokens of the text: depthwise convolution, norm, feed-forward layer.

    Args:
        d_model: Width d.
        kernel: Taps of the convolution.
        ahead: Tokens of the future that the convolution sees; at most half of the taps.
    """

    def __init__(self, d_model: int, kernel: int, ahead: int) -> None:
        super().__init__()
        self.padding = (kernel - 1 - ahead, ahead)
        self.convolution = nn.Conv1d(d_model, d_model, kernel, groups=d_model)
        self.norm = nn.LayerNorm(d_model)
        self.expand, self.contract = nn.Linear(d_model, 3 * d_model), nn.Linear(3 * d_model, d_model)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return tokens (B, T, d); padding, where `valid` (B, T) is False, counts as zero."""
        y = functional.pad((x * valid[..., None]).transpose(1, 2), self.padding)
        y = self.norm(self.convolution(y).transpose(1, 2))
        out: Tensor = x + self.contract(functional.gelu(self.expand(y)))
        return out
