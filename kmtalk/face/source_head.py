"""The source head: the default head, whose shapes are transferred to other meshes, with its landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

from kmtalk.assets import asset_path
from kmtalk.face.geometry import SurfacePoints, displacement_gradients
from kmtalk.face.rig import Rig, load_light_head


@dataclass(frozen=True)
class SourceHead:
    """The default head with the landmarks that MediaPipe's face detector finds on it.

    Attributes:
        rig: The rig of the head, in metres.
        detector_landmarks: (478,) points on the head where the detector places its landmarks.
        detector_landmarks_on_rims: The same, but with the inner-lip landmarks on the rims of the upper and the
            lower lip. On closed lips, the detector places both at the line of contact.
        usable_landmarks: (478,) bool mask of the landmarks that are fixed points on the skin. The outline of the
            face and the irises are excluded.
    """

    rig: Rig
    detector_landmarks: SurfacePoints
    detector_landmarks_on_rims: SurfacePoints
    usable_landmarks: np.ndarray

    @cached_property
    def skin(self) -> np.ndarray:
        """Indices of the skin's vertices (S,) in the template."""
        return np.asarray(self.rig.template.regions["skin"])

    @cached_property
    def vertices(self) -> np.ndarray:
        """Neutral vertices of the skin (S, 3) in metres."""
        return self.rig.template.vertices[self.skin].astype(np.float64)

    @cached_property
    def faces(self) -> np.ndarray:
        """Triangles of the skin (F, 3), as indices into `skin`."""
        local = self._local[self.rig.template.faces]
        return local[(local >= 0).all(1)]

    @cached_property
    def offsets(self) -> np.ndarray:
        """Offsets of the shapes on the skin (R, S, 3) in metres."""
        return self.rig.offsets[:, self.skin].astype(np.float64)

    @cached_property
    def displacement_gradients(self) -> np.ndarray:
        """Displacement gradients of the shapes on the skin (R, S, 3, 3)."""
        return displacement_gradients(self.vertices, self.faces, self.offsets)

    @cached_property
    def jaw_motion(self) -> np.ndarray:
        """Displacement of the skin under jawOpen (S,), as a share of its greatest value."""
        motion = np.linalg.norm(self.offsets[self.rig.index["jawOpen"]], axis=1)
        out: np.ndarray = motion / motion.max()
        return out

    @cached_property
    def lip_pairs(self) -> np.ndarray:
        """Upper and lower inner-lip vertices that touch at rest (P, 2), as indices into `skin`."""
        return self._local[self.rig.template.regions["lip_pairs"]]

    @cached_property
    def landmarks(self) -> Mapping[str, np.ndarray]:
        """Positions (3,) in metres of the landmarks that lie on the skin, by name."""
        t = self.rig.template
        return {name: t.vertices[v].astype(np.float64) for name, v in t.landmarks.items() if self._local[v] >= 0}

    @cached_property
    def _local(self) -> np.ndarray:
        """Index into `skin` of each template vertex; -1 for vertices that are not skin."""
        out = np.full(len(self.rig.template.vertices), -1)
        out[self.skin] = np.arange(len(self.skin))
        return out

    def detector_landmarks_on_skin(self, mask: np.ndarray, on_rims: bool = False) -> SurfacePoints:
        """Return the detector landmarks that a mask selects, as points on the skin.

        Args:
            mask: (478,) bool mask, or indices, of landmarks.
            on_rims: Take the inner-lip landmarks from `detector_landmarks_on_rims`.

        Returns:
            The points, with corners as indices into `skin`.
        """
        places = self.detector_landmarks_on_rims if on_rims else self.detector_landmarks
        return SurfacePoints(self._local[places.corners[mask]], places.weights[mask])

    def named_landmarks_on_skin(self, names: Sequence[str]) -> SurfacePoints:
        """Return landmarks by name as points on the skin, with corners as indices into `skin`."""
        corners = []
        for name in names:
            vertex = self._local[self.rig.template.landmarks[name]]
            face = self.faces[(self.faces == vertex).any(1)][0]
            corners.append(np.roll(face, -int(np.flatnonzero(face == vertex)[0])))
        return SurfacePoints(np.array(corners), np.tile([1.0, 0.0, 0.0], (len(corners), 1)))

    def nearest_skin_vertex(self, points: np.ndarray) -> np.ndarray:
        """Return the nearest skin vertex of each point (P, 3) as (P,) indices into `skin`."""
        nearest: np.ndarray = cKDTree(self.vertices).query(points)[1]
        return nearest


def load_source_head(rig: Rig | None = None) -> SourceHead:
    """Load the source head; pass `rig` if the default head's rig is loaded already."""
    marks = load_file(asset_path("landmarks.safetensors"))
    detected, on_rims = (
        SurfacePoints(marks[f"{kind}vertices"].astype(np.int64), marks[f"{kind}weights"].astype(np.float64))
        for kind in ("", "rim_")
    )
    return SourceHead(rig or load_light_head(), detected, on_rims, marks["usable"])
