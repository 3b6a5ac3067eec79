"""The mesh that the rendering process draws: its vertices in each frame, and its normals."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from kmtalk.face.appearance import Appearance, Material
from kmtalk.face.joints import skin_vertices

FRAMES_PER_CHUNK = 64  # frames posed at once: bounds memory for clips of any length


class PosedMesh:
    """Vertices of each frame from the morph targets and their weights, turned upright: y up, z forward.

    Attributes:
        neutral: Vertices (V, 3) of the neutral mesh.
        faces: Triangles (F, 3), wound counter-clockwise seen from outside.
        colors: Vertex colours (V, 3) sRGB of 0 to 1, white where textures give the colour.
        appearance: Materials and texture coordinates.
        landmarks: Landmark name → vertex.
        low: Least coordinates (V, 3) of each vertex over all frames.
        high: Greatest coordinates (V, 3) of each vertex over all frames.
        widest: Vertices (V, 3) of the frame with the widest open mouth, the neutral where it never opens.
    """

    def __init__(self, path: Path) -> None:
        """Read what `video.write_render_input` wrote."""
        with np.load(path) as file:
            self.neutral, faces = file["vertices"], file["faces"]
            self._offsets, self.weights = file["offsets"], file["weights"]
            self.colors = file["colors"].astype(np.float32) / 255
            self._rotation = file["upright"]  # (3, 3)
            self.landmarks = dict(zip(file["landmark_names"].tolist(), file["landmark_vertices"].tolist(), strict=True))
            self.appearance = Appearance.from_arrays(file)
            self._joint_weights, self._joint_matrices = file["joint_weights"], file["joint_matrices"]
        self._moving = np.flatnonzero(np.abs(self._offsets).max((0, 2)) > 0)
        self._basis = self._offsets[:, self._moving].reshape(len(self._offsets), -1)
        self._rest = self.neutral.astype(np.float32)
        self.neutral = (self.neutral @ self._rotation.T).astype(np.float32)
        corners = self.neutral[faces]
        if np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) < 0:
            faces = np.ascontiguousarray(faces[:, ::-1])
            uv_faces = np.ascontiguousarray(self.appearance.uv_faces[:, ::-1])
            self.appearance = replace(self.appearance, uv_faces=uv_faces)
        self.faces = faces
        self._find_extremes()

    def frames(self, indices: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield the vertices (V, 3) of each frame, or of the frames in `indices`."""
        chosen = np.arange(len(self.weights)) if indices is None else np.asarray(indices)
        for start in range(0, len(chosen), FRAMES_PER_CHUNK):
            frames = chosen[start : start + FRAMES_PER_CHUNK]
            moved = (self.weights[frames] @ self._basis).reshape(len(frames), -1, 3)
            if len(self._joint_weights):
                for frame, offsets in zip(frames, moved, strict=True):
                    posed = self._rest[None].copy()
                    posed[0, self._moving] += offsets
                    skin_vertices(posed, self._joint_weights, self._joint_matrices[frame : frame + 1])
                    yield (posed[0] @ self._rotation.T).astype(np.float32)
                continue
            for offsets in (moved @ self._rotation.T).astype(np.float32):
                vertices = self.neutral.copy()
                vertices[self._moving] += offsets
                yield vertices

    def without_textures(self) -> PosedMesh:
        """The same mesh as one matt surface, to be painted by vertex."""
        out = copy(self)
        material = Material("plain", roughness=0.7, double_sided=True)
        no_uv = np.zeros((1, 2), np.float32), np.zeros(self.faces.shape, np.int32)
        out.appearance = Appearance((material,), np.zeros(len(self.faces), np.uint8), *no_uv)
        return out

    def mouth_opening(self, vertices: np.ndarray) -> float:
        """Distance between the inner lips in one frame, in the mesh's units; 0 without landmarks."""
        if not {"lip_inner_upper", "lip_inner_lower"} <= set(self.landmarks):
            return 0.0
        upper, lower = (vertices[self.landmarks[f"lip_inner_{side}"]] for side in ("upper", "lower"))
        return float(np.linalg.norm(upper - lower))

    @cached_property
    def mouth_width(self) -> float:
        """Distance between the corners of the mouth in the neutral, in the mesh's units; infinite without landmarks."""
        if not {"mouth_left", "mouth_right"} <= set(self.landmarks):
            return float("inf")
        left, right = (self.neutral[self.landmarks[f"mouth_{side}"]] for side in ("left", "right"))
        return float(np.linalg.norm(left - right))

    @cached_property
    def near_mouth(self) -> np.ndarray:
        """Mask (V,) of the vertices around and inside the mouth; none without landmarks."""
        if not np.isfinite(self.mouth_width):
            return np.zeros(len(self.neutral), bool)
        middle = self.neutral[[self.landmarks["mouth_left"], self.landmarks["mouth_right"]]].mean(0)
        near: np.ndarray = np.linalg.norm(self.neutral - middle, axis=1) < self.mouth_width
        return near

    def head_shift(self, vertices: np.ndarray) -> np.ndarray:
        """How far (3,) the head has moved in one frame where the nose meets the lip; zero without that landmark."""
        if "subnasale" not in self.landmarks:
            return np.zeros(3, np.float32)
        base = self.landmarks["subnasale"]
        shift: np.ndarray = vertices[base] - self.neutral[base]
        return shift

    def landmark_positions(self) -> dict[str, np.ndarray]:
        """Landmark name → positions (3, 3): in the neutral, and the least and greatest coordinates of all frames."""
        return {n: np.stack([self.neutral[i], self.low[i], self.high[i]]) for n, i in self.landmarks.items()}

    def _find_extremes(self) -> None:
        self.low, self.high, self.widest = self.neutral.copy(), self.neutral.copy(), self.neutral
        widest = self.mouth_opening(self.neutral)
        for vertices in self.frames():
            np.minimum(self.low, vertices, out=self.low)
            np.maximum(self.high, vertices, out=self.high)
            if (opening := self.mouth_opening(vertices)) > widest:
                widest, self.widest = opening, vertices


class VertexNormals:
    """Computes smooth vertex normals for one topology: sparse incidence matrix × face cross products.

    Vertices at one point whose surfaces face alike, as at the seams of a texture, share their normal.
    """

    def __init__(self, faces: np.ndarray, vertices: np.ndarray) -> None:
        """Prepare for triangles (F, 3) of a mesh whose neutral vertices are (V, 3)."""
        count = len(vertices)
        self._corners = [np.ascontiguousarray(faces[:, k]) for k in range(3)]
        data = (np.ones(3 * len(faces), np.float32), (faces.ravel(), np.repeat(np.arange(len(faces)), 3)))
        self._incidence = sp.csr_matrix(data, shape=(count, len(faces)))
        own = self(vertices)
        _, first, place = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
        if len(first) < count:
            alike = np.einsum("ij,ij->i", own, own[first][place.ravel()]) > 0.3
            _, group = np.unique(2 * place.ravel() + alike, return_inverse=True)
            joined = sp.csr_matrix((np.ones(count, np.float32), (group, np.arange(count))))
            self._incidence = (joined.T @ joined @ self._incidence).tocsr()

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals (V, 3) float32 of vertices (V, 3)."""
        a, b, c = (vertices.take(corner, axis=0) for corner in self._corners)
        b -= a
        c -= a
        cross = np.empty_like(a)
        cross[:, 0] = b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1]
        cross[:, 1] = b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2]
        cross[:, 2] = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
        out = self._incidence @ cross
        length = np.sqrt(np.einsum("ij,ij->i", out, out))
        return out / np.where(length > 0, length, 1)[:, None]
