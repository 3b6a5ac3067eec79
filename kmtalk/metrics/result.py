"""What a metric returns: a number that says what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from kmtalk.errors import InputError

MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "mm": 1.0}
"""Millimetres in the units that vertices come in; "units" stands for what nobody knows."""


@dataclass(frozen=True)
class Mask:
    """Vertices that a metric looks at: ``indices`` (n,) and the name of where they come from."""

    name: str
    indices: np.ndarray

    @property
    def digest(self) -> str:
        """Eight hex digits by which two masks are told apart, whatever they are called."""
        return hashlib.sha256(np.sort(self.indices).astype("<i8").tobytes()).hexdigest()[:8]

    def __str__(self) -> str:
        return f"{self.name}:{self.digest} ({len(self.indices)} vertices)"


@dataclass(frozen=True)
class MetricResult:
    """A metric's ``value`` in ``unit``, how many of what were ``pooling`` and how, by which ``mask``, and, once
    ``with_source`` has said it, the data and the identity. Prints itself, a mean of squared distances (``squared``) with its
    root; ``float`` gives the value."""

    name: str
    value: float
    unit: str
    pooling: str
    mask: Mask | None = None
    data: str = ""
    identity: str = ""
    squared: bool = False

    def __float__(self) -> float:
        return self.value

    def with_source(self, data: str, identity: str = "") -> MetricResult:
        """The same number, with what it was measured on and whose identity the motion was conditioned on."""
        return replace(self, data=data, identity=identity)

    @property
    def root_mm(self) -> float:
        """The root of a mean of squared distances, mm; raises InputError for other metrics, and unknown units."""
        scale = MM_PER_UNIT.get(self.unit.removesuffix("²"))
        if not self.squared or scale is None:
            raise InputError(f"{self.name} in {self.unit} has no root in mm")
        return float(np.sqrt(self.value)) * scale

    def __str__(self) -> str:
        number = f"{self.name} {self.value:.6g} {self.unit}".rstrip()
        if self.squared and self.unit.removesuffix("²") in MM_PER_UNIT:
            number += f" (root {self.root_mm:.3g} mm)"
        parts = [number, self.pooling]
        parts += [f"mask {self.mask}"] if self.mask else []
        parts += [f"identity {self.identity}"] if self.identity else []
        parts += [self.data] if self.data else []
        return " | ".join(parts)


def as_mask(given: Mask | np.ndarray | list[int], name: str) -> Mask:
    """Indices made a mask called ``name``."""
    if isinstance(given, Mask):
        return given
    indices = np.asarray(given)
    if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu" or indices.min() < 0:
        raise InputError(f"mask {name}: give indices of vertices, one or more whole numbers of 0 or more")
    return Mask(name, indices.astype(np.int64))
