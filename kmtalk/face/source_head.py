"""The head that shapes are carried from, with what a fit needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

from kmtalk.assets import asset_path
from kmtalk.face.geometry import SurfacePoints, displacement_gradients
from kmtalk.face.rig import Rig, load_rig


@dataclass(frozen=True)
class SourceHead:
    """``rig`` of the default head; ``detector_landmarks`` (478,) places where a face detector sees its landmarks, of
    which those ``usable_landmarks`` (478,) lie on skin that a landmark names; ``detector_landmarks_on_rims`` are the same with those of the inner
    lips on the rims themselves, which a detector does not tell apart on closed lips."""

    rig: Rig
    detector_landmarks: SurfacePoints
    detector_landmarks_on_rims: SurfacePoints
    usable_landmarks: np.ndarray

    @cached_property
    def skin(self) -> np.ndarray:
        """Vertices of the skin (S,)."""
        return np.asarray(self.rig.template.regions["skin"])

    @cached_property
    def vertices(self) -> np.ndarray:
        """The skin alone (S, 3), metres."""
        return self.rig.template.vertices[self.skin].astype(np.float64)

    @cached_property
    def faces(self) -> np.ndarray:
        """Triangles (F, 3) among the skin's vertices."""
        local = self._local[self.rig.template.faces]
        return local[(local >= 0).all(1)]

    @cached_property
    def offsets(self) -> np.ndarray:
        """The shapes on the skin (R, S, 3)."""
        return self.rig.offsets[:, self.skin].astype(np.float64)

    @cached_property
    def displacement_gradients(self) -> np.ndarray:
        """Displacement gradients of the shapes on the skin (R, S, 3, 3)."""
        return displacement_gradients(self.vertices, self.faces, self.offsets)

    @cached_property
    def jaw_motion(self) -> np.ndarray:
        """Motion of the skin under jawOpen as a share of the greatest (S,)."""
        motion = np.linalg.norm(self.offsets[self.rig.index["jawOpen"]], axis=1)
        out: np.ndarray = motion / motion.max()
        return out

    @cached_property
    def lip_pairs(self) -> np.ndarray:
        """Upper and lower inner-lip vertices that touch (P, 2), in the skin's numbering."""
        return self._local[self.rig.template.regions["lip_pairs"]]

    @cached_property
    def landmarks(self) -> Mapping[str, np.ndarray]:
        """Named landmarks of the skin (3,)."""
        t = self.rig.template
        return {name: t.vertices[v].astype(np.float64) for name, v in t.landmarks.items() if self._local[v] >= 0}

    @cached_property
    def _local(self) -> np.ndarray:
        out = np.full(len(self.rig.template.vertices), -1)
        out[self.skin] = np.arange(len(self.skin))
        return out

    def detector_landmarks_on_skin(self, which: np.ndarray, on_rims: bool = False) -> SurfacePoints:
        """Those of the detector's landmarks (mask of 478), in the skin's numbering."""
        places = self.detector_landmarks_on_rims if on_rims else self.detector_landmarks
        return SurfacePoints(self._local[places.corners[which]], places.weights[which])

    def named_landmarks_on_skin(self, names: Sequence[str]) -> SurfacePoints:
        """Landmarks by name, in the skin's numbering."""
        corners = []
        for name in names:
            vertex = self._local[self.rig.template.landmarks[name]]
            face = self.faces[(self.faces == vertex).any(1)][0]
            corners.append(np.roll(face, -int(np.flatnonzero(face == vertex)[0])))
        return SurfacePoints(np.array(corners), np.tile([1.0, 0.0, 0.0], (len(corners), 1)))

    def nearest_skin_vertex(self, points: np.ndarray) -> np.ndarray:
        """The nearest skin vertex of each point (P,), in the skin's numbering."""
        nearest: np.ndarray = cKDTree(self.vertices).query(points)[1]
        return nearest


def load_source_head(rig: Rig | None = None) -> SourceHead:
    """The default head (or ``rig``, if it is loaded already) with its landmarks."""
    marks = load_file(asset_path("landmarks.safetensors"))
    seen, rimmed = (
        SurfacePoints(marks[f"{kind}vertices"].astype(np.int64), marks[f"{kind}weights"].astype(np.float64))
        for kind in ("", "rim_")
    )
    return SourceHead(rig or load_rig(asset_path("head.safetensors")), seen, rimmed, marks["usable"])
