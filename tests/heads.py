"""Test heads with ground truth: other MakeHuman identities with their own shapes, in another topology."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import fast_simplification
import numpy as np
import trimesh
from conftest import ROOT
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from kmtalk.face.rig import Rig

sys.path.insert(0, str(ROOT / "data" / "head"))

IDENTITIES = {
    "square": {
        "head/head-square": 0.7,
        "nose/nose-scale-vert-incr": 0.6,
        "nose/nose-width2-incr": 0.5,
        "mouth/mouth-scale-horiz-incr": 0.6,
        "chin/chin-width-incr": 0.6,
        "chin/chin-height-incr": 0.5,
        "cheek/l-cheek-volume-incr": 0.5,
        "cheek/r-cheek-volume-incr": 0.5,
    },
    "old": {
        "head/head-oval": 0.8,
        "head/head-age-incr": 0.5,
        "nose/nose-hump-incr": 0.7,
        "nose/nose-point-down": 0.5,
        "mouth/mouth-upperlip-volume-incr": 0.7,
        "mouth/mouth-lowerlip-volume-incr": 0.8,
        "mouth/mouth-trans-down": 0.3,
        "chin/chin-prominent-incr": 0.5,
        "forehead/forehead-scale-vert-incr": 0.5,
    },
    "round": {
        "head/head-round": 1.0,
        "head/head-fat-incr": 0.6,
        "nose/nose-scale-depth-decr": 0.6,
        "mouth/mouth-scale-horiz-decr": 0.6,
        "chin/chin-jaw-drop-incr": 0.5,
        "mouth/mouth-scale-vert-incr": 0.5,
        "head/head-scale-vert-decr": 0.4,
    },
}


@dataclass(frozen=True)
class Head:
    """A mesh with its true shape `offsets` (R, V, 3) in its units, `mm` per unit, and its `skin` vertices."""

    vertices: np.ndarray
    faces: np.ndarray
    names: tuple[str, ...]
    offsets: np.ndarray
    mm: float
    skin: np.ndarray

    def of(self, name: str) -> np.ndarray:
        return self.offsets[self.names.index(name)]

    def save(self, path) -> None:
        trimesh.Trimesh(self.vertices, self.faces, process=False).export(path)


def identity(name: str) -> Rig:
    """A MakeHuman identity with shapes built in the same way as those of the default head."""
    import make_head

    return make_head.build_light_rig(IDENTITIES[name])


def retopologised(rig: Rig, count: int, seed: int = 0, upright: bool = False) -> Head:
    """The rig's head in another topology of about `count` vertices: shuffled, rotated, scaled and translated.

    The result is z up in arbitrary units, unless `upright`.
    """
    template = rig.template
    part = np.full(len(template.vertices), -1)  # hair, brows and lashes are left out
    for number, name in enumerate(("skin", "tongue", "upper_teeth", "lower_teeth", "eye_left", "eye_right")):
        part[template.regions[name]] = number
    values = np.concatenate([template.vertices, *rig.offsets], axis=1).astype(np.float64)
    skin_faces = template.faces[(part[template.faces] == 0).all(1)]
    used = np.unique(skin_faces)
    faces = np.searchsorted(used, skin_faces)
    attributes = values[used]
    while len(attributes) < 1.3 * count:  # subdivide first, so that the decimated mesh has other triangles
        attributes, faces = trimesh.remesh.subdivide(attributes, faces)
    points, triangles, collapses = fast_simplification.simplify(
        attributes[:, :3].astype(np.float32), faces.astype(np.int32), 1 - count / len(attributes), return_collapses=True
    )
    points, triangles, place = fast_simplification.replay_simplification(
        attributes[:, :3].astype(np.float32), faces.astype(np.int32), collapses
    )
    attributes = _carried(attributes, faces, points.astype(np.float64), place)
    solids = np.flatnonzero(part > 0)
    solid_faces = template.faces[(part[template.faces] > 0).all(1)]
    attributes = np.concatenate([attributes, values[solids]])
    triangles = np.concatenate([triangles, np.searchsorted(solids, solid_faces) + len(points)])
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(attributes))
    attributes, triangles = attributes[order], np.argsort(order)[triangles]
    turn = np.eye(3) if upright else Rotation.from_euler("xyz", [90, 11, -17], degrees=True).as_matrix()
    scale, shift = (1.0, np.zeros(3)) if upright else (370.0, np.array([5.0, -40.0, 12.0]))
    vertices = scale * attributes[:, :3] @ turn.T + shift
    offsets = scale * attributes[:, 3:].reshape(len(attributes), -1, 3).transpose(1, 0, 2) @ turn.T
    skin = np.flatnonzero(order < len(points))
    mm = template.mm_per_unit / scale
    return Head(vertices.astype(np.float32), triangles.astype(np.int32), rig.shape_names, offsets, mm, skin)


def _carried(values: np.ndarray, faces: np.ndarray, points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Transfer values (V, 3 + 3R) of a surface to the points of its simplification.

    Each point takes the value at its nearest location on the triangles that were collapsed into it, so that nothing
    leaks from one lip to the other.
    """
    owner = place[faces]  # (F, 3) simplified points of each triangle's corners
    spots = np.array([[a, b, 6 - a - b] for a in range(7) for b in range(7 - a)]) / 6
    out = np.empty((len(points), values.shape[1]))
    around: list[list[int]] = [[] for _ in points]
    for face, owners in enumerate(owner):
        for one in set(owners.tolist()):
            around[one].append(face)
    for row, near in enumerate(around):
        dense = np.einsum("sk,fkx->fsx", spots, values[faces[near], :3]).reshape(-1, 3)
        best = int(cKDTree(dense).query(points[row])[1])
        out[row] = spots[best % len(spots)] @ values[faces[near[best // len(spots)]]]
        out[row, :3] = points[row]
    return out


def closures(animation, alignment):
    """The smallest lip aperture within each p, b and m, from 0 (1st percentile) to 1 (95th percentile of the clip)."""
    t = animation.template
    upper, lower = t.regions["lip_pairs"].T
    middle = slice(len(upper) // 3, len(upper) - len(upper) // 3)
    v = animation.vertices
    gap = np.median(np.linalg.norm(v[:, upper] - v[:, lower], axis=2)[:, middle], axis=1)
    low, high = np.percentile(gap, [1, 95])
    time = (np.arange(len(gap)) + 0.5) / animation.fps
    spans = [p for p in alignment.phones if p.label in ("P", "B", "M")]
    least = [gap[(time >= p.start - 0.02) & (time <= p.end + 0.02)].min() for p in spans]
    return (np.array(least) - low) / (high - low)
