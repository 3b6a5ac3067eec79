"""Results of metrics: a value with its unit, pooling, mask and data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kmtalk.errors import InputError

MM_PER_UNIT = {"m": 1000.0, "cm": 10.0, "mm": 1.0}
"""Millimetres per unit of vertices; the unit "units" (unknown) is not included."""


@dataclass(frozen=True)
class Mask:
    """Vertices that a metric uses: `indices` (n,) and the `name` of their origin."""

    name: str
    indices: np.ndarray

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that identify the indices independently of the name."""
        return hashlib.sha256(np.sort(self.indices).astype("<i8").tobytes()).hexdigest()[:8]

    def __str__(self) -> str:
        return f"{self.name}:{self.digest} ({len(self.indices)} vertices)"


@dataclass(frozen=True)
class MetricResult:
    """Value of a metric with everything needed to read it; `str` formats it as one line, `float` returns the value.

    Attributes:
        name: Name of the metric.
        value: Its value.
        unit: Unit of the value; "" for none.
        pooling: What was pooled, how, and how many.
        mask: Vertices that were used, or None for all.
        data: What the value was measured on (set by `with_source`).
        identity: Identity that the motion was conditioned on (set by `with_source`).
        squared: Whether the value is a mean of squared distances, which is printed with its root.
    """

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
        """Return a copy with the measured data and the identity that the motion was conditioned on."""
        return replace(self, data=data, identity=identity)

    @property
    def root_mm(self) -> float:
        """Root of a mean of squared distances in mm; raises InputError for other metrics and unknown units."""
        scale = MM_PER_UNIT.get(self.unit.removesuffix("²"))
        if not self.squared or scale is None:
            raise InputError(f"{self.name} in {self.unit} cannot be converted to a root in mm")
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
    """Return `given` as a mask; indices get the name `name`. Raises InputError where they are not valid indices."""
    if isinstance(given, Mask):
        return given
    indices = np.asarray(given)
    if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu" or indices.min() < 0:
        raise InputError(f"mask {name}: needs one or more vertex indices, integers of 0 or more")
    return Mask(name, indices.astype(np.int64))


def check_clip_count(name: str, pred: Sequence[object], gt: Sequence[object]) -> None:
    """Raise InputError where there are no clips for the metric `name`, or the two differ in number."""
    if len(pred) != len(gt) or not len(pred):
        raise InputError(f"{name}: {len(pred)} predicted clips, but {len(gt)} true clips")


def pair_clips(
    name: str, pred: Sequence[np.ndarray], gt: Sequence[np.ndarray], dimensions: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of predicted and true clips in float64.

    Args:
        name: Name of the metric in messages.
        pred: Predicted clips, arrays of `dimensions` dimensions, the first of which is time.
        gt: True clips of the same shapes.
        dimensions: Number of dimensions.

    Raises:
        InputError: There are no clips, or the two differ in number or shape, or hold values that are not finite.
    """
    check_clip_count(name, pred, gt)
    pairs = []
    for number, (p, g) in enumerate(zip(pred, gt, strict=True)):
        if p.shape != g.shape or p.ndim != dimensions or not p.size:
            raise InputError(
                f"{name}: clip {number}: prediction {p.shape} and truth {g.shape} must have the same shape and "
                f"{dimensions} dimensions"
            )
        if not (np.isfinite(p).all() and np.isfinite(g).all()):
            raise InputError(f"{name}: clip {number}: holds values that are not finite")
        pairs.append((p.astype(np.float64), g.astype(np.float64)))
    return pairs
