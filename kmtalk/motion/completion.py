"""Cross-modal motion completion (CMC): audio and motion flow, mixed by the audio gate → motion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import TransformerDecoder
from kmtalk.motion.heads import OutputHead


class AudioGate(nn.Module):
    """W = σ(L(2d, d)([A; Φ])) and Z = W ⊙ A + (1 − W) ⊙ Φ: the gate says how much is heard (paper, §3.3;
    which way it points is not said there)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * dimension, dimension)

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        weight = torch.sigmoid(self.linear(torch.cat([audio, flow], -1)))
        return weight * audio + (1 - weight) * flow


class AdditiveFusion(nn.Module):
    """The ablation "no audio gate": audio and flow are added."""

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        return audio + flow


class MotionDecoder(nn.Module):
    """Z (N, d) → Y: L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head."""

    def __init__(self, audio_dim: int, d_model: int, dropout: float, head: OutputHead) -> None:
        super().__init__()
        self.input_projection = nn.Linear(audio_dim, d_model)
        self.decoder = TransformerDecoder(d_model, dropout)
        self.head = head

    def forward(self, fused: Tensor, times: Tensor, mask: Tensor, residual: Tensor | None = None) -> Tensor:
        """``fused`` (B, N, d) at ``times`` (B, N) s → motion (B, N, out), beside ``residual`` (B, N, out)."""
        out: Tensor = self.head(self.decoder(self.input_projection(fused), times, mask), residual)
        return out


def interpolate_keys(motion: Tensor, key_frames: Tensor, key_mask: Tensor, frame_count: int) -> Tensor:
    """Key motions (B, M, out) at frames ``key_frames`` (B, M), joined smoothly over ``frame_count`` frames: (B, N, out).

    Between two keys t²(3 − 2t) leads from the one's pose to the other's, as ``motion.editing.spread`` does; before
    the first and after the last, that key's pose stays. Keys that are not real are passed over.
    """
    frames = torch.arange(frame_count, device=key_frames.device)[None, :, None]
    at = key_frames[:, None, :]
    before = torch.where(key_mask[:, None, :] & (at <= frames), at, -1).max(2)
    after = torch.where(key_mask[:, None, :] & (at >= frames), at, frame_count).min(2)
    left = torch.where(before.values >= 0, before.indices, after.indices)
    right = torch.where(after.values < frame_count, after.indices, left)
    low, high = key_frames.gather(1, left), key_frames.gather(1, right)
    t = ((frames[..., 0] - low) / (high - low).clamp(min=1)).clamp(0, 1)
    rise = (t * t * (3 - 2 * t))[..., None].to(motion.dtype)

    def taken(index: Tensor) -> Tensor:
        return motion.gather(1, index[..., None].expand(-1, -1, motion.shape[2]))

    return (1 - rise) * taken(left) + rise * taken(right)
