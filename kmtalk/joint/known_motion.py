"""What is known of the motion, as the network is given it: known values, and straight lines between them.

B clips, M motion frames, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bridge_known(motion: Tensor, known: Tensor, longest: int) -> Tensor:
    """Fill what is unknown between two known frames of a channel by a straight line.

    Args:
        motion: (B, M, C) motion; anything where it is unknown.
        known: (B, M, C) 1 where a value is known, else 0.
        longest: Frames from one known frame to the next beyond which nothing is filled.

    Returns:
        (B, M, C): known values as they are, lines between them, and zeros elsewhere.
    """
    count = motion.shape[1]
    is_known = known > 0
    frames = torch.arange(count, device=motion.device)[None, :, None].expand_as(motion)
    before = torch.where(is_known, frames, -1).cummax(1).values
    after = torch.where(is_known, frames, count).flip(1).cummin(1).values.flip(1)
    gap = after - before
    between = (before >= 0) & (after < count) & (gap > 0) & (gap <= longest)
    start = motion.gather(1, before.clamp(min=0))
    end = motion.gather(1, after.clamp(max=count - 1))
    line = torch.lerp(start, end, (frames - before) / gap.clamp(min=1))
    return torch.where(is_known, motion, torch.where(between, line, torch.zeros_like(motion)))
