"""Linguistic key motion acquisition (LKMA): predicts key motions K from the audio features at the key frames, A[k].

Dimensions are those of `model.py`: B clips, M padded key frames, d audio features, f decoder width (`d_model`).
"""

from __future__ import annotations

from torch import Tensor, nn

from kmtalk.motion.attention import TransformerDecoderLayer
from kmtalk.motion.heads import OutputHead


class KeyMotionDecoder(nn.Module):
    """A[k] (m, d) → K (m, out): L(d, f) → TransformerDecoder(f, 4, 2f, 1) → head (paper's supplement, Table 1).

    Args:
        audio_dim: Width d of the audio features.
        d_model: Width f of the decoder.
        dropout: Dropout probability.
        head: Output layer.
    """

    def __init__(self, audio_dim: int, d_model: int, dropout: float, head: OutputHead) -> None:
        super().__init__()
        self.input_projection = nn.Linear(audio_dim, d_model)
        self.decoder = TransformerDecoderLayer(d_model, dropout)
        self.head = head

    def forward(self, audio: Tensor, times: Tensor, mask: Tensor) -> Tensor:
        """Predict key motions.

        Args:
            audio: Tensor, shape (batch, keys, audio_dim): audio features at the key frames.
            times: Tensor, shape (batch, keys): times of the key frames in seconds.
            mask: Tensor, shape (batch, keys): False at padding.

        Returns:
            key_motions: Tensor, shape (batch, keys, output_dim).
        """
        out: Tensor = self.head(self.decoder(self.input_projection(audio), times, mask))
        return out
