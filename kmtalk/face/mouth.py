"""A face's mouth in millimetres, measured at six of its vertices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kmtalk.face.template import Template

MOUTH_LANDMARKS = ("lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale")


@dataclass(frozen=True)
class MouthMeasurements:
    """Measures over time, mm: ``aperture`` of the inner lips, ``width`` of the corners and ``jaw`` drop of
    the chin against rest, ``protrusion`` of the lips; each (N,)."""

    aperture: np.ndarray
    width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray

    @cached_property
    def as_array(self) -> np.ndarray:
        """(N, 4)."""
        return np.stack([self.aperture, self.width, self.protrusion, self.jaw], axis=1)

    @cached_property
    def frontal_channels(self) -> np.ndarray:
        """Aperture, width and jaw (N, 3), which a camera sees from the front: what metrics compare."""
        return np.stack([self.aperture, self.width, self.jaw], axis=1)


@dataclass(frozen=True)
class MouthMeasurer:
    """Measures the mouth of a moving mesh. ``vertex_indices`` (6,) are the vertices of LANDMARKS, ``neutral`` (6, 3) where
    they are at rest, in units of ``mm_per_unit`` millimetres. The axes are the face's own: right to left between the corners of
    the mouth, down from subnasale to chin."""

    vertex_indices: np.ndarray
    neutral: np.ndarray
    mm_per_unit: float

    @classmethod
    def from_template(cls, template: Template, mm_per_unit: float | None = None) -> MouthMeasurer:
        """The ruler of a template with landmarks; ``mm_per_unit`` a unit (None: as ``Template.mm_per_unit`` has it)."""
        points = np.array([template.landmarks[n] for n in MOUTH_LANDMARKS])
        neutral = template.vertices[points].astype(np.float64)
        return cls(points, neutral, template.mm_per_unit if mm_per_unit is None else mm_per_unit)

    @cached_property
    def left(self) -> np.ndarray:
        """(3,)."""
        left = self.neutral[2] - self.neutral[3]
        out: np.ndarray = left / np.linalg.norm(left)
        return out

    @cached_property
    def down(self) -> np.ndarray:
        """(3,)."""
        down = self.neutral[4] - self.neutral[5]
        down = down - (down @ self.left) * self.left
        out: np.ndarray = down / np.linalg.norm(down)
        return out

    @cached_property
    def forward(self) -> np.ndarray:
        """(3,)."""
        return np.cross(self.left, -self.down)

    @cached_property
    def rest(self) -> np.ndarray:
        """Aperture, width, protrusion and jaw (4,) at rest, in units."""
        out: np.ndarray = self._raw(self.neutral[None])[0]
        return out

    def measure(self, moved: np.ndarray) -> MouthMeasurements:
        """The mouth of the six vertices ``moved`` (N, 6, 3)."""
        values = self._raw(moved.astype(np.float64)) - self.rest
        values[:, 0] += self.rest[0]  # the aperture is absolute
        return MouthMeasurements(*(values * self.mm_per_unit).T)

    def _raw(self, points: np.ndarray) -> np.ndarray:
        """Vertices (N, 6, 3) → aperture, width, protrusion and jaw, absolute, in units (N, 4)."""
        upper, lower, left, right, chin, nose = np.moveaxis(points, 1, 0)
        lips = (upper + lower) / 2
        return np.stack(
            [
                np.linalg.norm(upper - lower, axis=1),
                np.linalg.norm(left - right, axis=1),
                (lips - nose) @ self.forward,
                (chin - nose) @ self.down,
            ],
            axis=1,
        )
