"""Linguistic key motion acquisition (LKMA): audio at the key frames → key motions."""

from __future__ import annotations

from torch import Tensor, nn

from kmtalk.motion.attention import TransformerDecoder
from kmtalk.motion.heads import OutputHead


class KeyMotionDecoder(nn.Module):
    """A[k] (m, d) → K: L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head (paper's supplement, Table 1)."""

    def __init__(self, audio_dim: int, d_model: int, dropout: float, head: OutputHead) -> None:
        super().__init__()
        self.input_projection = nn.Linear(audio_dim, d_model)
        self.decoder = TransformerDecoder(d_model, dropout)
        self.head = head

    def forward(self, audio: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """``audio`` (B, M, d) at key ``times`` (B, M) s, ``mask`` (B, M) → key motions (B, M, out)."""
        out: Tensor = self.head(self.decoder(self.input_projection(audio), times, mask))
        return out
