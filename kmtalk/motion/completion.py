"""Cross-modal motion completion (CMC): fuses audio features A and motion flow Φ, and decodes the motion Y.

Dimensions are those of `model.py`: B clips, N frames, M padded key frames, d audio features, f decoder width
(`d_model`). W is the audio gate and Z the fused latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import TransformerDecoderLayer
from kmtalk.motion.heads import OutputHead


class AudioGate(nn.Module):
    """Audio gate: W = σ(L(2d, d)([A; Φ])), Z = W ⊙ A + (1 − W) ⊙ Φ (paper, §3.3).

    The paper does not state whether W weighs A or Φ; here it weighs A.

    Args:
        dimension: Width d of A and Φ.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dimension, dimension)

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        """Fuse audio and flow.

        Args:
            audio: Tensor, shape (batch, frames, audio_dim).
            flow: Tensor, shape (batch, frames, audio_dim).

        Returns:
            fused: Tensor, shape (batch, frames, audio_dim).
        """
        weight = torch.sigmoid(self.linear(torch.cat([audio, flow], -1)))
        return weight * audio + (1 - weight) * flow


class AdditiveFusion(nn.Module):
    """The paper's ablation without the audio gate: Z = A + Φ."""

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        """Add audio and flow.

        Args:
            audio: Tensor, shape (batch, frames, audio_dim).
            flow: Tensor, shape (batch, frames, audio_dim).

        Returns:
            fused: Tensor, shape (batch, frames, audio_dim).
        """
        return audio + flow


class MotionDecoder(nn.Module):
    """Z (N, d) → Y (N, out): L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head.

    Args:
        audio_dim: Width d of the fused latent.
        d_model: Width f of the decoder.
        dropout: Dropout probability.
        head: Output layer.
    """

    def __init__(self, audio_dim: int, d_model: int, dropout: float, head: OutputHead) -> None:
        super().__init__()
        self.input_projection = nn.Linear(audio_dim, d_model)
        self.decoder = TransformerDecoderLayer(d_model, dropout)
        self.head = head

    def forward(self, fused: Tensor, times: Tensor, mask: Tensor, residual: Tensor | None = None) -> Tensor:
        """Decode motion.

        Args:
            fused: Tensor, shape (batch, frames, audio_dim).
            times: Tensor, shape (batch, frames): time of each frame in seconds.
            mask: Tensor, shape (batch, frames): False at padding.
            residual: Tensor, shape (batch, frames, output_dim): motion that is added to the head's output.

        Returns:
            motion: Tensor, shape (batch, frames, output_dim).
        """
        out: Tensor = self.head(self.decoder(self.input_projection(fused), times, mask), residual)
        return out


def interpolate_keys(motion: Tensor, key_frames: Tensor, key_mask: Tensor, frame_count: int) -> Tensor:
    """Interpolate key motions smoothly.

    Between two keys the pose follows t²(3 − 2t), as in `kmtalk.motion.key_editing.interpolate_key_edits`. Before the
    first and after the last key the pose is constant. Padded keys are ignored.

    Args:
        motion: Key motions, shape (B, M, out).
        key_frames: Frame indices of the keys, shape (B, M).
        key_mask: False at padding, shape (B, M).
        frame_count: Number N of frames.

    Returns:
        Motion, shape (B, N, out).
    """
    frames = torch.arange(frame_count, device=key_frames.device)[None, :, None]
    keys = key_frames[:, None, :]
    before = torch.where(key_mask[:, None, :] & (keys <= frames), keys, -1).max(2)
    after = torch.where(key_mask[:, None, :] & (keys >= frames), keys, frame_count).min(2)
    left = torch.where(before.values >= 0, before.indices, after.indices)
    right = torch.where(after.values < frame_count, after.indices, left)
    low, high = key_frames.gather(1, left), key_frames.gather(1, right)
    t = ((frames[..., 0] - low) / (high - low).clamp(min=1)).clamp(0, 1)
    rise = (t * t * (3 - 2 * t))[..., None].to(motion.dtype)

    def pose_at(index: Tensor) -> Tensor:
        return motion.gather(1, index[..., None].expand(-1, -1, motion.shape[2]))

    return (1 - rise) * pose_at(left) + rise * pose_at(right)
