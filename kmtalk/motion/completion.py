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

    def forward(self, mixed: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """``mixed`` (B, N, d) at ``times`` (B, N) s → motion (B, N, out)."""
        out: Tensor = self.head(self.decoder(self.enter(mixed), times, real))
        return out
