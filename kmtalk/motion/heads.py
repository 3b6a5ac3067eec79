"""Output layers: to a rig's weights, or to vertex offsets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _ClampToUnitInterval(torch.autograd.Function):
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


class OutputHead(nn.Module):
    """L(f, out), initialised to zero, so that training begins at the neutral face."""

    def __init__(self, d_model: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, output_dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """What the decoder made (…, f), beside motion ``residual`` (…, out) → motion (…, out)."""
        out: Tensor = self.linear(x)
        return out if residual is None else out + residual


class RigHead(OutputHead):
    """L(f, R) to weights in [0, 1]; the rig's fixed basis follows outside."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out: Tensor = _ClampToUnitInterval.apply(super().forward(x, residual))
        return out


class VertexHead(OutputHead):
    """The paper's L(f, 3V): vertex offsets, flat."""


class PcaHead(OutputHead):
    """L(f, K) and a fixed basis (K, 3V), from principal components of a corpus without a rig."""

    basis: Tensor

    def __init__(self, d_model: int, basis: Tensor) -> None:
        super().__init__(d_model, len(basis))
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out: Tensor = self.linear(x) @ self.basis
        return out if residual is None else out + residual


def pca_basis(offsets: Tensor, components: int) -> Tensor:
    """Offsets (N, 3V) → the components (K, 3V) that hold most of their energy, each scaled by its own
    standard deviation. Not centred: the neutral face stays at zero."""
    _, size, rows = torch.linalg.svd(offsets, full_matrices=False)
    scale = size[:components] / max(len(offsets), 1) ** 0.5
    return rows[:components] * scale[:, None]
