"""Two small networks beside the flow: durations of phones from a text, and phones from a moving mouth.

B clips, P phones and pauses of an utterance, M motion frames, C channels of the motion stream.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.joint.blocks import TokenBlock
from kmtalk.joint.tokens import VOCABULARY

DURATION_KERNEL, READER_KERNEL = 5, 7


class DurationPredictor(nn.Module):
    """Predicts how long each phone and pause of a text lasts, as Matcha-TTS does: squared error of the logarithm.

    Args:
        condition_dim: Width of the condition of voice and style.
        d_model: Width.
        num_layers: Blocks.
    """

    def __init__(self, condition_dim: int, d_model: int = 128, num_layers: int = 4) -> None:
        super().__init__()
        self.label_embedding, self.stress_embedding = nn.Embedding(len(VOCABULARY), d_model), nn.Embedding(4, d_model)
        self.condition = nn.Linear(condition_dim, d_model)
        self.blocks = nn.ModuleList(
            TokenBlock(d_model, DURATION_KERNEL, DURATION_KERNEL // 2) for _ in range(num_layers)
        )
        self.norm, self.out = nn.LayerNorm(d_model), nn.Linear(d_model, 1)

    def forward(self, labels: Tensor, stress: Tensor, valid: Tensor, clip: Tensor) -> Tensor:
        """Predict the logarithm of durations in mel frames.

        Args:
            labels: Token numbers (B, P).
            stress: (B, P).
            valid: (B, P), False at padding.
            clip: Condition of voice and style (B, condition_dim).

        Returns:
            (B, P).
        """
        x = self.label_embedding(labels) + self.stress_embedding(stress) + self.condition(clip)[:, None]
        for block in self.blocks:
            x = block(x, valid)
        out: Tensor = self.out(self.norm(x))[..., 0]
        return out


class PhoneReader(nn.Module):
    """Reads phones from motion: which phone or pause each motion frame belongs to.

    Args:
        channels: Number C of channels.
        d_model: Width.
        num_layers: Blocks.
    """

    def __init__(self, channels: int, d_model: int = 128, num_layers: int = 4) -> None:
        super().__init__()
        self.project = nn.Linear(channels, d_model)
        self.blocks = nn.ModuleList(TokenBlock(d_model, READER_KERNEL, READER_KERNEL // 2) for _ in range(num_layers))
        self.norm, self.out = nn.LayerNorm(d_model), nn.Linear(d_model, len(VOCABULARY))

    def forward(self, motion: Tensor, valid: Tensor) -> Tensor:
        """Return log probabilities (B, M, vocabulary) of normalised motion (B, M, C); `valid` (B, M) marks padding."""
        x = self.project(motion)
        for block in self.blocks:
            x = block(x, valid)
        return torch.log_softmax(self.out(self.norm(x)), -1)
