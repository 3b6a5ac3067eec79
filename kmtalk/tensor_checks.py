"""Checks of the weights in a file before they are used."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch


def check_tensors(tensors: Mapping[str, torch.Tensor], may_be_zero: str = r"(?!)") -> None:
    """Raise ValueError where tensors cannot be those of a trained network.

    Args:
        tensors: The tensors by name.
        may_be_zero: Pattern of names of weights that training may begin with at zero.

    Raises:
        ValueError: A value is not finite, or all weights of a layer are zero, as in a file that was not downloaded
            completely. The message names the tensor.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")
        if name.endswith(".weight") and not re.search(may_be_zero, name) and not tensor.any():
            raise ValueError(f"{name} holds nothing but zeros")


def check_shapes(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError where names or shapes differ from those of a network, which may be on the device "meta"."""
    missing = [name for name in expected if name not in tensors]
    further = [name for name in tensors if name not in expected]
    if missing or further:
        raise ValueError(f"{(missing + further)[0]} is {'missing' if missing else 'not part of the network'}")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise ValueError(f"{name} is {tuple(tensors[name].shape)}, not {tuple(tensor.shape)}")
