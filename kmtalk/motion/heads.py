"""Output layers of the decoders: weights of a rig's R shapes, or offsets of a mesh's V vertices.

f is the decoder's width (`d_model`), out the numbers per frame (R or 3V), K the number of principal components.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _ClampToUnitInterval(torch.autograd.Function):
    """Clamp to [0, 1]; outside the bounds the gradient is kept where descent leads back to the interval."""

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
    """L(f, out), initialised to zero so that training starts at the neutral face.

    Args:
        d_model: Width f of the decoder.
        output_dim: Numbers per frame, out.
    """

    def __init__(self, d_model: int, output_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, output_dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map decoder output to motion.

        Args:
            x: Tensor, shape (batch, frames, d_model).
            residual: Tensor, shape (batch, frames, output_dim): motion that is added to the output.

        Returns:
            motion: Tensor, shape (batch, frames, output_dim).
        """
        out: Tensor = self.linear(x)
        return out if residual is None else out + residual


class RigHead(OutputHead):
    """L(f, R), clamped to weights in [0, 1]; the rig turns weights into vertices outside the network."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map decoder output to weights in [0, 1]; arguments as in `OutputHead.forward`."""
        out: Tensor = _ClampToUnitInterval.apply(super().forward(x, residual))
        return out


class VertexHead(OutputHead):
    """The paper's L(f, 3V): vertex offsets, flattened."""


class PcaHead(OutputHead):
    """L(f, K) followed by a fixed basis of principal components of vertex offsets.

    Args:
        d_model: Width f of the decoder.
        basis: Principal components, shape (K, 3V), from `pca_basis`.
    """

    basis: Tensor

    def __init__(self, d_model: int, basis: Tensor) -> None:
        super().__init__(d_model, len(basis))
        self.register_buffer("basis", basis)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map decoder output to vertex offsets; arguments as in `OutputHead.forward`."""
        out: Tensor = self.linear(x) @ self.basis
        return out if residual is None else out + residual


def pca_basis(offsets: Tensor, components: int) -> Tensor:
    """Compute principal components of vertex offsets; uncentred, so that the neutral face stays at zero.

    Args:
        offsets: Vertex offsets, shape (N, 3V).
        components: Number K of components.

    Returns:
        The components with the most energy, each scaled by its standard deviation, shape (K, 3V); fewer than K where
        the offsets have a lower rank.
    """
    _, size, rows = torch.linalg.svd(offsets, full_matrices=False)
    scale = size[:components] / max(len(offsets), 1) ** 0.5
    return rows[:components] * scale[:, None]
