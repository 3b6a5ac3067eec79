"""Motion flow encoder: sparse key motions → a dense latent, one token a frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import Block, Distance, FeedForward, encode_times

TIME_SIZE = 16
KERNEL = 3


class FlowEncoder(nn.Module):
    """K → Φ (paper's supplement, Table 1).

    Key encoder: motion and PE(16) → L(16 + f, f) → blocks of self-attention. Non-key encoder: PE(16) of
    the frame's own time → L(16, f) → blocks that cross-attend to the keys. Manifold: FFN(Φk) at the
    keys and Φn elsewhere → Conv1D → blocks of self-attention → Conv1D → L(f, d). Ours: both convolutions
    are added to what goes in, and attention fades with distance in time.
    """

    def __init__(
        self, motion: int, dimension: int, width: int, heads: int, blocks: int, dropout: float, factor: int = 2
    ) -> None:
        super().__init__()
        self.distance = Distance(heads)
        self.motion = nn.Linear(motion, width)
        self.key_enter, self.frame_enter = nn.Linear(TIME_SIZE + width, width), nn.Linear(TIME_SIZE, width)

        def stack() -> nn.ModuleList:
            return nn.ModuleList(Block(width, heads, dropout, factor) for _ in range(blocks))

        self.key_blocks, self.frame_blocks, self.manifold = stack(), stack(), stack()
        self.key_end, self.frame_end, self.end = (nn.LayerNorm(width) for _ in range(3))
        self.key_feed = FeedForward(width, factor)
        self.first = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.last = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.leave = nn.Linear(width, dimension)

    def forward(self, motion: Tensor, keys: Tensor, keys_real: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """``motion`` (B, M, out) at frames ``keys`` (B, M), of frames at ``times`` (B, N) s → Φ (B, N, d)."""
        key_times = times.gather(1, keys)
        x = self.key_enter(torch.cat([self.motion(motion), encode_times(key_times, TIME_SIZE)], -1))
        bias = self.distance(key_times, key_times, keys_real)
        for block in self.key_blocks:
            x = block(x, bias)
        x = self.key_end(x)
        y = self.frame_enter(encode_times(times, TIME_SIZE))
        bias = self.distance(times, key_times, keys_real)
        for block in self.frame_blocks:
            y = block(y, bias, memory=x)
        # padded keys are written to a frame past the end, which is cut off again
        spare = torch.where(keys_real, keys, torch.full_like(keys, y.shape[1]))
        y = torch.cat([self.frame_end(y), torch.zeros_like(y[:, :1])], 1)
        y = y.scatter(1, spare[..., None].expand(-1, -1, y.shape[2]), self.key_feed(x).to(y.dtype))[:, :-1]
        y = y + _over_time(self.first, y, real)
        bias = self.distance(times, times, real)
        for block in self.manifold:
            y = block(y, bias)
        y = y + _over_time(self.last, y, real)
        out: Tensor = self.leave(self.end(y))
        return out


def _over_time(convolution: nn.Conv1d, x: Tensor, real: Tensor) -> Tensor:
    out: Tensor = convolution((x * real[..., None]).transpose(1, 2)).transpose(1, 2)
    return out
