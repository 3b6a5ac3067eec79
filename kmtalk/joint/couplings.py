"""How the two streams of the joint model see each other, after three papers.

- `Highway` (AV-Flow): a linear layer on both streams after every block.
- joint attention (JAM-Flow) is computed in `kmtalk.joint.model`: queries of either stream, keys and values of both.
- `CrossAttentionBlock` (Narrating For You): queries of the own stream, keys and values of the other and of the text.

B clips, N mel frames, M = N / 3 motion frames, d width of both streams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME

COUPLINGS = ("highway", "joint", "ste", "ete", "none")
"""Couplings: AV-Flow, JAM-Flow, Narrating For You with shared and with explicit weights, and two separate models."""


def lift(motion: Tensor) -> Tensor:
    """Repeat motion frames (B, M, d) at the rate of the mel frames (B, 3M, d)."""
    return motion.repeat_interleave(MEL_FRAMES_PER_MOTION_FRAME, 1)


def pool(sound: Tensor) -> Tensor:
    """Average mel frames (B, 3M, …) to motion frames (B, M, …)."""
    return sound.unflatten(1, (-1, MEL_FRAMES_PER_MOTION_FRAME)).mean(2)


class Highway(nn.Module):
    """AV-Flow's highway: Linear(2d, 2d) on the concatenated streams, split and added back. It starts at zero.

    Args:
        d_model: Width d.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * d_model, 2 * d_model)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, sound: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams, (B, N, d) and (B, M, d), each with its half added."""
        to_sound, to_motion = self.linear(torch.cat([sound, lift(motion)], -1)).chunk(2, -1)
        return sound + to_sound, motion + pool(to_motion)


class CrossAttentionBlock(nn.Module):
    """The transformer encoder of Narrating For You (supplement, Table 1): 1,575,936 parameters at width 512.

    LayerNorm → multi-head attention without bias → LayerNorm → Linear → LayerNorm → Linear, each with its residual.
    Their released weights start at zero throughout, which is the identity and has no gradient; here the projection of
    the attention and the last linear layer alone start at zero.

    Args:
        d_model: Width d, 512 in the paper.
        num_heads: Attention heads, 8 in the paper.
    """

    def __init__(self, d_model: int = 512, num_heads: int = 8) -> None:
        super().__init__()
        self.norm_1, self.norm_3, self.norm_5 = (nn.LayerNorm(d_model) for _ in range(3))
        self.attention = nn.MultiheadAttention(d_model, num_heads, bias=False, batch_first=True)
        self.linear_4 = nn.Linear(d_model, d_model, bias=False)
        self.linear_6 = nn.Linear(d_model, d_model, bias=False)
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.linear_6.weight)

    def forward(self, own: Tensor, others: Tensor, blocked: Tensor) -> Tensor:
        """Attend from the own stream to the other stream and the text.

        Args:
            own: (B, T, d).
            others: (B, K, d), tokens of the other stream and of the text.
            blocked: (T, K) or (B · heads, T, K), True where a token is not seen.

        Returns:
            (B, T, d).
        """
        attended, _ = self.attention(self.norm_1(own), others, others, attn_mask=blocked, need_weights=False)
        own = own + attended
        out: Tensor = own + self.linear_6(self.norm_5(torch.relu(self.linear_4(self.norm_3(own)))))
        return out
