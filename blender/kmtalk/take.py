"""Reads animation.npz, the arrays that kmtalk writes (its documentation's page on file formats lists them).

N frames, V vertices, R shapes of kmtalk's rig, K shapes that move the mesh: the mesh's own, or again those of the rig.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .process import KMTalkError

HEAD_SHAPES = ("headYawLeft", "headYawRight", "headPitchUp", "headPitchDown", "headRollLeft", "headRollRight")
DEGREES_PER_WEIGHT = 10.0  # rotation of the head's shapes at weight 1
MIN_OFFSET_MM = 2e-4  # mm; a shape that moves a mesh by less does not move it
EYE_CORNERS_MM = 90.0  # mm between the outer corners of the eyes, by which kmtalk measures a mesh


@dataclass(frozen=True)
class Take:
    """One animation.

    Attributes:
        fps: Frames per second.
        vertices: Neutral vertices (V, 3), y up.
        names: Names of the shapes that move the mesh (K,).
        weights: Their weights (N, K) in [0, 1].
        rig_names: Names of the rig's shapes (R,), which keys.json uses.
        rig_weights: Their weights (N, R) in [0, 1].
        mixing_matrix: Weights (R, K) of the mesh's shapes in each shape of the rig.
        key_frames: Frame numbers of the keys (m,).
        phones: Label, start and end in seconds of each phone.
        upright: Rotation (3, 3) that turns the face upright: y up, looking along +z.
        unit_mm: Millimetres in one unit of the mesh.
    """

    fps: float
    vertices: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray
    rig_names: tuple[str, ...]
    rig_weights: np.ndarray
    mixing_matrix: np.ndarray
    key_frames: np.ndarray
    phones: tuple[tuple[str, float, float], ...]
    upright: np.ndarray
    unit_mm: float
    _starts: np.ndarray
    _offset_vertices: np.ndarray
    _offsets: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Take:
        """Read an animation.npz; raises KMTalkError where that fails."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name not in ("audio", "vertices")}
            rig_names = tuple(arrays["shape_names"].tolist())
            rig_weights = arrays["weights"].astype(np.float32)
            mixing, names, weights = np.eye(len(rig_names), dtype=np.float32), rig_names, rig_weights
            if "mixing_matrix" in arrays:
                mixing = arrays["mixing_matrix"].astype(np.float32)
                names = tuple(arrays["native_shape_names"].tolist())
                weights = np.clip(rig_weights @ mixing, 0, 1)
            vertices = arrays["template"]
            marks = json.loads(str(arrays["rig_metadata"]))["landmarks"]
            corners = vertices[marks["eye_outer_left"]] - vertices[marks["eye_outer_right"]]
            spans = zip(arrays["phones"].tolist(), arrays["phone_times"].tolist(), strict=True)
            return cls(
                fps=float(arrays["fps"]),
                vertices=vertices,
                names=names,
                weights=weights,
                rig_names=rig_names,
                rig_weights=rig_weights,
                mixing_matrix=mixing,
                key_frames=arrays["key_frames"],
                phones=tuple((label, start, end) for label, (start, end) in spans),
                upright=_rotation_between(vertices, arrays.get("upright_vertices", vertices)),
                unit_mm=EYE_CORNERS_MM / float(np.linalg.norm(corners)),
                _starts=arrays["offset_starts"],
                _offset_vertices=arrays["offset_vertices"],
                _offsets=arrays["offsets"],
            )
        except FileNotFoundError:
            raise KMTalkError(f"{path}: is gone; press Animate again") from None
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or ["unknown"])[0]
            raise KMTalkError(f"{path}: cannot be read ({reason[:80]}); press Animate again") from None

    def __len__(self) -> int:
        return len(self.weights)

    def frames(self, only_keys: bool) -> np.ndarray:
        """Frames that get keyframes: the key frames, or all."""
        return self.key_frames if only_keys else np.arange(len(self))

    def offsets(self, name: str, first: int, count: int) -> np.ndarray | None:
        """Offsets (count, 3) of `count` vertices from `first` on under a shape, or None if it does not move them."""
        shape = self.names.index(name)
        part = slice(int(self._starts[shape]), int(self._starts[shape + 1]))
        index, offsets = self._offset_vertices[part] - first, self._offsets[part]
        inside = (index >= 0) & (index < count)
        if np.abs(offsets[inside]).max(initial=0) * self.unit_mm <= MIN_OFFSET_MM:
            return None
        out = np.zeros((count, 3), np.float32)
        out[index[inside]] = offsets[inside]
        return out

    @cached_property
    def head_rotations(self) -> np.ndarray:
        """Rotation (N, 3, 3) of the head in the mesh's axes, y up."""
        yaw_left, yaw_right, up, down, left, right = (self._curve(name) for name in HEAD_SHAPES)
        yaw, pitch, roll = np.radians(DEGREES_PER_WEIGHT) * np.stack([yaw_left - yaw_right, down - up, right - left])
        turned = _rotation(1, yaw) @ _rotation(0, pitch) @ _rotation(2, roll)
        upright = self.upright if np.linalg.det(self.upright) > 0 else -self.upright
        rotations: np.ndarray = upright.T @ turned @ upright
        return rotations

    def _curve(self, name: str) -> np.ndarray:
        return self.weights[:, self.names.index(name)].astype(np.float64) if name in self.names else np.zeros(len(self))


def _rotation(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotation matrices (N, 3, 3) about axis 0, 1 or 2 by angles (N,) in radians."""
    out = np.tile(np.eye(3), (len(angles), 1, 1))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out[:, a, a] = out[:, b, b] = np.cos(angles)
    out[:, b, a] = np.sin(angles)
    out[:, a, b] = -out[:, b, a]
    return out


def _rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that best turns points (V, 3) into others; with a reflection where these are mirrored."""
    a, b = source - source.mean(0), target - target.mean(0)
    left, _, right = np.linalg.svd(b.T.astype(np.float64) @ a)
    rotation: np.ndarray = left @ right
    return rotation
