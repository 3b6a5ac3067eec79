"""Motion flow encoder: sparse key motions → a dense latent, one token a frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import DistanceBias, FeedForward, TransformerBlock, sinusoidal_encoding

TIME_ENCODING_DIM = 16
KERNEL_SIZE = 3


class MotionFlowEncoder(nn.Module):
    """K → Φ (paper's supplement, Table 1).

    Key encoder: motion and PE(16) → L(16 + f, f) → blocks of self-attention. Non-key encoder: PE(16) of
    the frame's own time → L(16, f) → blocks that cross-attend to the keys. Manifold: FFN(Φk) at the
    keys and Φn elsewhere → Conv1D → blocks of self-attention → Conv1D → L(f, d). Ours: both convolutions
    are added to what goes in, and attention fades with distance in time.
    """

    def __init__(
        self,
        motion_dim: int,
        audio_dim: int,
        d_model: int,
        num_heads: int,
        num_layers: int,
        dropout: float,
        ffn_multiplier: int = 2,
    ) -> None:
        super().__init__()
        self.distance_bias = DistanceBias(num_heads)
        self.motion_projection = nn.Linear(motion_dim, d_model)
        self.key_projection, self.frame_projection = (
            nn.Linear(TIME_ENCODING_DIM + d_model, d_model),
            nn.Linear(TIME_ENCODING_DIM, d_model),
        )

        def stack() -> nn.ModuleList:
            return nn.ModuleList(
                TransformerBlock(d_model, num_heads, dropout, ffn_multiplier) for _ in range(num_layers)
            )

        self.key_blocks, self.frame_blocks, self.manifold_blocks = stack(), stack(), stack()
        self.key_norm, self.frame_norm, self.manifold_norm = (nn.LayerNorm(d_model) for _ in range(3))
        self.key_ffn = FeedForward(d_model, ffn_multiplier)
        self.conv_in = nn.Conv1d(d_model, d_model, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.conv_out = nn.Conv1d(d_model, d_model, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.output_projection = nn.Linear(d_model, audio_dim)

    def forward(self, motion: Tensor, key_frames: Tensor, key_mask: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """``motion_projection`` (B, M, out) at frames ``key_frames`` (B, M), of frames at ``times`` (B, N) s → Φ (B, N, d)."""
        key_times = times.gather(1, key_frames)
        x = self.key_projection(
            torch.cat([self.motion_projection(motion), sinusoidal_encoding(key_times, TIME_ENCODING_DIM)], -1)
        )
        bias = self.distance_bias(key_times, key_times, key_mask)
        for block in self.key_blocks:
            x = block(x, bias)
        x = self.key_norm(x)
        y = self.frame_projection(sinusoidal_encoding(times, TIME_ENCODING_DIM))
        bias = self.distance_bias(times, key_times, key_mask)
        for block in self.frame_blocks:
            y = block(y, bias, memory=x)
        # padded keys are written to a frame past the end, which is cut off again
        spare = torch.where(key_mask, key_frames, torch.full_like(key_frames, y.shape[1]))
        y = torch.cat([self.frame_norm(y), torch.zeros_like(y[:, :1])], 1)
        y = y.scatter(1, spare[..., None].expand(-1, -1, y.shape[2]), self.key_ffn(x).to(y.dtype))[:, :-1]
        y = y + _masked_convolution(self.conv_in, y, mask)
        bias = self.distance_bias(times, times, mask)
        for block in self.manifold_blocks:
            y = block(y, bias)
        y = y + _masked_convolution(self.conv_out, y, mask)
        out: Tensor = self.output_projection(self.manifold_norm(y))
        return out


def _masked_convolution(convolution: nn.Conv1d, x: Tensor, real: Tensor) -> Tensor:
    out: Tensor = convolution((x * real[..., None]).transpose(1, 2)).transpose(1, 2)
    return out
