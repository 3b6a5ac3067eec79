"""Cross-modal motion completion (CMC): audio and motion flow, mixed by the audio gate → motion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.motion.attention import Decoder
from kmtalk.motion.heads import Head


class AudioGate(nn.Module):
    """W = σ(L(2d, d)([A; Φ])) and Z = W ⊙ A + (1 − W) ⊙ Φ: the gate says how much is heard (paper, §3.3;
    which way it points is not said there)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.mix = nn.Linear(2 * dimension, dimension)

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        weight = torch.sigmoid(self.mix(torch.cat([audio, flow], -1)))
        return weight * audio + (1 - weight) * flow


class Sum(nn.Module):
    """The ablation "no audio gate": audio and flow are added."""

    def forward(self, audio: Tensor, flow: Tensor) -> Tensor:
        return audio + flow


class MotionDecoder(nn.Module):
    """Z (N, d) → Y: L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head."""

    def __init__(self, dimension: int, width: int, dropout: float, head: Head) -> None:
        super().__init__()
        self.enter = nn.Linear(dimension, width)
        self.decoder = Decoder(width, dropout)
        self.head = head

    def forward(self, mixed: Tensor, times: Tensor, real: Tensor, lines: Tensor | None = None) -> Tensor:
        """``mixed`` (B, N, d) at ``times`` (B, N) s → motion (B, N, out), beside ``lines`` (B, N, out)."""
        out: Tensor = self.head(self.decoder(self.enter(mixed), times, real), lines)
        return out


def key_lines(motion: Tensor, keys: Tensor, keys_real: Tensor, count: int) -> Tensor:
    """Key motions (B, M, out) at frames ``keys`` (B, M), joined smoothly over ``count`` frames: (B, N, out).

    Between two keys t²(3 − 2t) leads from the one's pose to the other's, as ``motion.editing.spread`` does; before
    the first and after the last, that key's pose stays. Keys that are not real are passed over.
    """
    frames = torch.arange(count, device=keys.device)[None, :, None]
    at = keys[:, None, :]
    before = torch.where(keys_real[:, None, :] & (at <= frames), at, -1).max(2)
    after = torch.where(keys_real[:, None, :] & (at >= frames), at, count).min(2)
    left = torch.where(before.values >= 0, before.indices, after.indices)
    right = torch.where(after.values < count, after.indices, left)
    low, high = keys.gather(1, left), keys.gather(1, right)
    t = ((frames[..., 0] - low) / (high - low).clamp(min=1)).clamp(0, 1)
    rise = (t * t * (3 - 2 * t))[..., None].to(motion.dtype)

    def taken(index: Tensor) -> Tensor:
        return motion.gather(1, index[..., None].expand(-1, -1, motion.shape[2]))

    return (1 - rise) * taken(left) + rise * taken(right)
