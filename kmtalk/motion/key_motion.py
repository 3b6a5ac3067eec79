"""Linguistic key motion acquisition (LKMA): audio at the key frames → key motions."""

from __future__ import annotations

from torch import Tensor, nn

from kmtalk.motion.attention import Decoder
from kmtalk.motion.heads import Head


class KeyMotionDecoder(nn.Module):
    """A[k] (m, d) → K: L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head (paper's supplement, Table 1)."""

    def __init__(self, dimension: int, width: int, dropout: float, head: Head) -> None:
        super().__init__()
        self.enter = nn.Linear(dimension, width)
        self.decoder = Decoder(width, dropout)
        self.head = head

    def forward(self, audio: Tensor, times: Tensor, real: Tensor) -> Tensor:
        """``audio`` (B, M, d) at key ``times`` (B, M) s, ``real`` (B, M) → key motions (B, M, out)."""
        out: Tensor = self.head(self.decoder(self.enter(audio), times, real))
        return out
