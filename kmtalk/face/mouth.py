"""Measurements of the mouth in millimetres, taken at six vertices of the face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kmtalk.face.template import Template

MOUTH_LANDMARKS = ("lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale")


@dataclass(frozen=True)
class MouthMeasurements:
    """Measurements of the mouth over N frames, each (N,) in millimetres.

    Attributes:
        aperture: Distance between the inner lips.
        width: Distance between the corners of the mouth, minus its value at rest.
        protrusion: Forward displacement of the lips from rest.
        jaw: Downward displacement of the chin from rest.
    """

    aperture: np.ndarray
    width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray

    @cached_property
    def as_array(self) -> np.ndarray:
        """Aperture, width, protrusion and jaw as one (N, 4) array."""
        return np.stack([self.aperture, self.width, self.protrusion, self.jaw], axis=1)

    @cached_property
    def frontal_channels(self) -> np.ndarray:
        """Aperture, width and jaw, (N, 3): the measurements visible to a frontal camera, which the metrics compare."""
        return np.stack([self.aperture, self.width, self.jaw], axis=1)


@dataclass(frozen=True)
class MouthMeasurer:
    """Measures the mouth of a moving mesh along the axes of the face.

    The axes are `left`, from the right to the left corner of the mouth; `down`, from the subnasale to the
    chin; and `forward`, out of the face.

    Attributes:
        vertex_indices: (6,) vertices of `MOUTH_LANDMARKS`, in that order.
        neutral: (6, 3) their positions at rest, in the mesh's units.
        mm_per_unit: Millimetres per unit of the mesh.
    """

    vertex_indices: np.ndarray
    neutral: np.ndarray
    mm_per_unit: float

    @classmethod
    def from_template(cls, template: Template, mm_per_unit: float | None = None) -> MouthMeasurer:
        """Return the measurer of a template with landmarks; `mm_per_unit` defaults to `Template.mm_per_unit`."""
        points = np.array([template.landmarks[n] for n in MOUTH_LANDMARKS])
        neutral = template.vertices[points].astype(np.float64)
        return cls(points, neutral, template.mm_per_unit if mm_per_unit is None else mm_per_unit)

    @cached_property
    def left(self) -> np.ndarray:
        """Unit vector (3,) from the right to the left corner of the mouth at rest."""
        left = self.neutral[2] - self.neutral[3]
        out: np.ndarray = left / np.linalg.norm(left)
        return out

    @cached_property
    def down(self) -> np.ndarray:
        """Unit vector (3,) from the subnasale to the chin at rest, orthogonal to `left`."""
        down = self.neutral[4] - self.neutral[5]
        down = down - (down @ self.left) * self.left
        out: np.ndarray = down / np.linalg.norm(down)
        return out

    @cached_property
    def forward(self) -> np.ndarray:
        """Unit vector (3,) out of the face, orthogonal to `left` and `down`."""
        return np.cross(self.left, -self.down)

    @cached_property
    def rest(self) -> np.ndarray:
        """Aperture, width, protrusion and jaw at rest, (4,) in the mesh's units."""
        out: np.ndarray = self._raw(self.neutral[None])[0]
        return out

    def measure(self, positions: np.ndarray) -> MouthMeasurements:
        """Measure the mouth from `positions` (N, 6, 3) of the six vertices, in the mesh's units."""
        values = self._raw(positions.astype(np.float64)) - self.rest
        values[:, 0] += self.rest[0]  # the aperture is absolute, the others are relative to rest
        return MouthMeasurements(*(values * self.mm_per_unit).T)

    def _raw(self, points: np.ndarray) -> np.ndarray:
        """Return absolute aperture, width, protrusion and jaw, (N, 4) in the mesh's units, of points (N, 6, 3)."""
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
