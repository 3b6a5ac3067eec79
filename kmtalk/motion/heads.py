"""Output layers: to a rig's weights, or to vertex offsets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Box(torch.autograd.Function):
    """Clamp to [0, 1] whose gradient still leads back inside from beyond the bounds."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        outward = ((x < 0) & (gradient > 0)) | ((x > 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0.0)


class Head(nn.Module):
    """L(f, out), initialised to zero, so that training begins at the neutral face."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, lines: Tensor | None = None) -> Tensor:
        """What the decoder made (…, f), beside motion ``lines`` (…, out) → motion (…, out)."""
        out: Tensor = self.linear(x)
        return out if lines is None else out + lines


class RigHead(Head):
    """L(f, R) to weights in [0, 1]; the rig's fixed basis follows outside."""

    def forward(self, x: Tensor, lines: Tensor | None = None) -> Tensor:
        out: Tensor = _Box.apply(super().forward(x, lines))
        return out


class VertexHead(Head):
    """The paper's L(f, 3V): vertex offsets, flat."""


class BasisHead(Head):
    """L(f, K) and a fixed basis (K, 3V), from principal components of a corpus without a rig."""

    basis: Tensor

    def __init__(self, width: int, basis: Tensor) -> None:
        super().__init__(width, len(basis))
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor, lines: Tensor | None = None) -> Tensor:
        out: Tensor = self.linear(x) @ self.basis
        return out if lines is None else out + lines


def principal_basis(offsets: Tensor, components: int) -> Tensor:
    """Offsets (N, 3V) → the components (K, 3V) that hold most of their energy, each scaled by its own
    standard deviation. Not centred: the neutral face stays at zero."""
    _, size, rows = torch.linalg.svd(offsets, full_matrices=False)
    scale = size[:components] / max(len(offsets), 1) ** 0.5
    return rows[:components] * scale[:, None]
