"""Motion flow encoder: turns sparse key motions K into a dense latent Φ, one token per frame.

Dimensions are those of `model.py`: B clips, N frames, M padded key frames, d audio features, f width (`d_model`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import FeedForward, TemporalDistanceBias, TransformerBlock, sinusoidal_encoding

TIME_ENCODING_DIM = 16
"""Size of the time encoding, PE(16) of the paper."""

KERNEL_SIZE = 3
"""Frames that a convolution of the manifold spans."""


class MotionFlowEncoder(nn.Module):
    """K (m, out) → Φ (N, d) (paper's supplement, Table 1).

    - Key encoder: motion and PE(16) of the key's time → L(16 + f, f) → self-attention blocks.
    - Non-key encoder: PE(16) of the frame's time → L(16, f) → blocks with cross-attention to the keys.
    - Manifold: FFN(Φk) at key frames and Φn elsewhere → Conv1D → self-attention blocks → Conv1D → L(f, d).

    Ours: both convolutions are residual, and attention decays with distance in time.

    Args:
        motion_dim: Numbers per frame of motion, out.
        audio_dim: Width d of the latent, which equals that of the audio features.
        d_model: Width f of the blocks.
        num_heads: Attention heads.
        num_layers: Blocks in each of the three stacks.
        dropout: Dropout probability.
        ffn_multiplier: Width of the feed-forward layers as a multiple of `d_model`.
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
        self.distance_bias = TemporalDistanceBias(num_heads)
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
        """Encode key motions as the flow Φ.

        Args:
            motion: Tensor, shape (batch, keys, output_dim): key motions.
            key_frames: Tensor, shape (batch, keys): frame indices of the keys.
            key_mask: Tensor, shape (batch, keys): False at padding.
            times: Tensor, shape (batch, frames): time of each frame in seconds.
            mask: Tensor, shape (batch, frames): False at padding.

        Returns:
            flow: Tensor, shape (batch, frames, audio_dim).
        """
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
        # padded keys are written to an extra frame at the end, which is then removed
        targets = torch.where(key_mask, key_frames, torch.full_like(key_frames, y.shape[1]))
        y = torch.cat([self.frame_norm(y), torch.zeros_like(y[:, :1])], 1)
        y = y.scatter(1, targets[..., None].expand(-1, -1, y.shape[2]), self.key_ffn(x).to(y.dtype))[:, :-1]
        y = y + _masked_convolution(self.conv_in, y, mask)
        bias = self.distance_bias(times, times, mask)
        for block in self.manifold_blocks:
            y = block(y, bias)
        y = y + _masked_convolution(self.conv_out, y, mask)
        out: Tensor = self.output_projection(self.manifold_norm(y))
        return out


def _masked_convolution(convolution: nn.Conv1d, x: Tensor, mask: Tensor) -> Tensor:
    """Convolve over frames with padding set to zero: (B, N, f) → (B, N, f)."""
    out: Tensor = convolution((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)
    return out
