"""Measurements of the mouth in millimetres, taken at a few vertices of the face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kmtalk.face.template import Template

LIP_CHANNELS = ("aperture", "width", "upper lip", "lower lip", "inner width")
"""The measurements that a camera sees from the front, in the order of `MouthMeasurements.lip_channels`."""

MIN_LIP_PAIRS = 3  # below, the inner width is measured between the corners of the mouth


@dataclass(frozen=True)
class MouthMeasurements:
    """Measurements of the mouth over N frames, each (N,) in millimetres.

    Attributes:
        aperture: Distance between the inner lips at the middle of the mouth, as seen from the front.
        width: Distance between the corners of the mouth, minus its value at rest.
        upper_lip: Rise of the upper lip's inner edge from rest; negative where it is lower.
        lower_lip: Drop of the lower lip's inner edge from rest; negative where it is higher.
        inner_width: Distance between the ends of the line along which the lips part, minus its value at rest.
        protrusion: Forward displacement of the upper lip from rest; the lower lip also moves back with the jaw.
        jaw: Drop of the lower incisors from rest; of the chin on meshes without teeth.
    """

    aperture: np.ndarray
    width: np.ndarray
    upper_lip: np.ndarray
    lower_lip: np.ndarray
    inner_width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray

    @cached_property
    def lip_channels(self) -> np.ndarray:
        """The channels of `LIP_CHANNELS`, (N, 5): what a frontal camera sees, and what the metrics compare."""
        return np.stack([self.aperture, self.width, self.upper_lip, self.lower_lip, self.inner_width], axis=1)


@dataclass(frozen=True)
class MouthMeasurer:
    """Measures the mouth of a moving mesh along the axes of the face.

    The axes are `left`, from the right to the left corner of the mouth; `down`, from between the outer corners of the
    eyes to the chin, which is nearly the vertical of an upright head; and `forward`, out of the face. Displacements are
    those against the corners of the eyes, which stay with the skull.

    Attributes:
        vertex_indices: (9,) vertices: upper and lower inner lip, left and right corner of the mouth, left and right end
            of the line along which the lips part, jaw, and left and right outer corner of the eye.
        neutral: (9, 3) their positions at rest, in the mesh's units.
        left: Unit vector (3,).
        down: Unit vector (3,), orthogonal to `left`.
        mm_per_unit: Millimetres per unit of the mesh.
    """

    vertex_indices: np.ndarray
    neutral: np.ndarray
    left: np.ndarray
    down: np.ndarray
    mm_per_unit: float

    @classmethod
    def from_template(cls, template: Template, mm_per_unit: float | None = None) -> MouthMeasurer:
        """Return the measurer of a template with landmarks; `mm_per_unit` defaults to `Template.mm_per_unit`."""
        marks, vertices = template.landmarks, template.vertices.astype(np.float64)
        left = vertices[marks["mouth_left"]] - vertices[marks["mouth_right"]]
        left /= np.linalg.norm(left)
        eyes = [marks.get(f"eye_outer_{side}", marks["subnasale"]) for side in ("left", "right")]
        down = vertices[marks["chin"]] - vertices[eyes].mean(0)
        down -= (down @ left) * left
        down /= np.linalg.norm(down)
        ends = template.regions["lip_pairs"][[-1, 0], 0]
        if len(template.regions["lip_pairs"]) < MIN_LIP_PAIRS:
            ends = np.array([marks["mouth_left"], marks["mouth_right"]])
        elif (vertices[ends[0]] - vertices[ends[1]]) @ left < 0:
            ends = ends[::-1]
        points = [marks[n] for n in ("lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right")]
        index = np.array([*points, *ends, marks.get("incisor_lower", marks["chin"]), *eyes])
        return cls(index, vertices[index], left, down, template.mm_per_unit if mm_per_unit is None else mm_per_unit)

    @cached_property
    def forward(self) -> np.ndarray:
        """Unit vector (3,) out of the face, orthogonal to `left` and `down`."""
        return np.cross(self.left, -self.down)

    def measure(self, positions: np.ndarray) -> MouthMeasurements:
        """Measure the mouth from `positions` (N, 9, 3) of the vertices, in the mesh's units."""
        p = positions.astype(np.float64) * self.mm_per_unit
        rest = self.neutral * self.mm_per_unit

        def distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
            out: np.ndarray = np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1)
            return out

        between = p[:, 0] - p[:, 1]
        moved = p - rest
        moved = moved - moved[:, 7:].mean(1, keepdims=True)
        return MouthMeasurements(
            aperture=np.hypot(between @ self.left, between @ self.down),
            width=distance(p, 2, 3) - distance(rest, 2, 3),
            upper_lip=-moved[:, 0] @ self.down,
            lower_lip=moved[:, 1] @ self.down,
            inner_width=distance(p, 4, 5) - distance(rest, 4, 5),
            protrusion=moved[:, 0] @ self.forward,
            jaw=moved[:, 6] @ self.down,
        )
