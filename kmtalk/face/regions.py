"""Regions and landmarks of a head, found from how its rig moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.face.rig import Rig
from kmtalk.face.template import vertex_normals


def find_lip_pairs(vertices: np.ndarray, faces: np.ndarray, jaw: np.ndarray, reach: float) -> np.ndarray:
    """Pairs (n, 2) of upper and lower inner-lip vertices that touch at rest, ordered from -x to +x.

    The lips are where the surface faces itself and the jaw parts it: upper vertices look down,
    lower ones up, they lie within ``reach`` of one another, and ``jaw`` (V, 3), the displacement of
    jawOpen, carries the lower away from the upper.
    """
    normals = vertex_normals(vertices, faces)
    drop = -jaw[:, 1]
    most = drop.max()
    skin = np.unique(faces)
    front = skin[vertices[skin, 2] > vertices[drop.argmax(), 2] - 25 * reach]
    upper = front[(normals[front, 1] < -0.25) & (drop[front] < 0.4 * most)]
    lower = front[(normals[front, 1] > 0.25) & (drop[front] > 0.1 * most)]
    distance, nearest = cKDTree(vertices[upper]).query(vertices[lower])
    _, nearest_back = cKDTree(vertices[lower]).query(vertices[upper])
    pairs = [
        (upper[u], lower[i])
        for i, u in enumerate(nearest)
        if distance[i] < reach
        and nearest_back[u] == i
        and drop[lower[i]] - drop[upper[u]] > 0.1 * most
        and vertices[upper[u], 2] > vertices[upper, 2].max() - 40 * reach
    ]
    found = np.array(sorted(pairs, key=lambda p: vertices[p[0], 0]), np.int32).reshape(-1, 2)
    if len(found) < 3:
        raise ValueError("no lips found: jawOpen parts no touching surfaces")
    return found


def add_regions(rig: Rig, parts: Mapping[str, np.ndarray]) -> Rig:
    """The rig with named regions and landmarks on its template.

    ``parts`` names the vertices of skin, tongue, teeth and eyes. A region is where a shape moves
    the skin by more than a share of its greatest motion.
    """
    template = rig.template
    v, skin = template.vertices, np.asarray(parts["skin"])
    on_skin = np.zeros(len(v), bool)
    on_skin[skin] = True
    skin_faces = template.faces[on_skin[template.faces].all(1)]
    size = 90.0 / 1000.0  # the head is about human size while it is being made
    motion = np.linalg.norm(rig.offsets, axis=2)

    def moved(names: list[str], share: float) -> np.ndarray:
        amount = motion[[rig.index[n] for n in names]].max(0)
        return skin[amount[skin] > share * amount[skin].max()]

    jaw = rig.offsets[rig.index["jawOpen"]]
    pairs = find_lip_pairs(v, skin_faces, jaw, reach=0.025 * size)
    middle = pairs[np.abs(v[pairs[:, 0], 0]).argmin()]
    centre = v[middle].mean(0)
    half = np.abs(v[pairs[:, 0], 0]).max()
    lens = (
        (np.abs(v[skin, 0]) < half * 1.25)
        & (v[skin, 2] > centre[2] - 0.2 * size)
        & (np.abs(v[skin, 1] - centre[1]) < 0.13 * size)
    )
    upper_names = [n for n in rig.names if n.startswith(("brow", "eyeWide", "eyeSquint", "eyeBlink"))]
    corners = {side: _corner(v, skin, pairs, sign) for side, sign in (("left", 1), ("right", -1))}
    on_midline = skin[np.abs(v[skin, 0]) < 0.012 * size]
    chin = _chin(v, on_midline, centre, size)
    nose = on_midline[v[on_midline, 2].argmax()]
    philtrum = on_midline[(v[on_midline, 1] < v[nose, 1]) & (v[on_midline, 1] > centre[1])]
    philtrum = philtrum[v[philtrum, 2] > centre[2] - 0.01 * size]
    # the deepest point between nose tip and lip is where the columella meets the lip
    subnasale = philtrum[(v[philtrum, 2] + 0.3 * np.abs(v[philtrum, 1] - v[nose, 1])).argmin()]
    landmarks = {
        "lip_inner_upper": middle[0],
        "lip_inner_lower": middle[1],
        "mouth_left": corners["left"],
        "mouth_right": corners["right"],
        "chin": chin,
        "subnasale": subnasale,
        "nose_tip": nose,
        "eye_outer_left": _eye_corner(v, skin, parts["eye_left"], motion[rig.index["eyeBlinkLeft"]], 1),
        "eye_outer_right": _eye_corner(v, skin, parts["eye_right"], motion[rig.index["eyeBlinkRight"]], -1),
        "incisor_upper": _incisor(v, parts["upper_teeth"], lowest=True),
        "incisor_lower": _incisor(v, parts["lower_teeth"], lowest=False),
        "tongue_tip": parts["tongue"][v[parts["tongue"], 2].argmax()],
    }
    near_chin = skin[np.linalg.norm(v[skin] - v[chin], axis=1) < 0.25 * size]
    regions = dict(parts) | {
        "lip_pairs": pairs,
        "inner_lips": np.unique(pairs),
        "lips": skin[lens],
        "corners": np.array([corners["left"], corners["right"]]),
        "upper_face": moved(upper_names, 0.25),
        "mouth": moved(["jawOpen", "mouthPucker", "mouthSmileLeft", "mouthSmileRight"], 0.25),
        "chin": near_chin,
    }
    located = replace(template, regions=regions, landmarks={k: int(i) for k, i in landmarks.items()})
    return replace(rig, template=located)


def _corner(v: np.ndarray, skin: np.ndarray, pairs: np.ndarray, sign: int) -> int:
    """The vertex where the lips meet: beyond the outermost pair, on the line that the pairs draw."""
    ends = pairs[np.argsort(sign * v[pairs[:, 0], 0])][-2:]
    inner, outer = v[ends].mean(1)
    goal = outer + 0.25 * (outer - inner) + [0, 0, 0.02 * np.linalg.norm(outer - inner)]
    return int(skin[np.linalg.norm(v[skin] - goal, axis=1).argmin()])


def _chin(v: np.ndarray, midline: np.ndarray, mouth: np.ndarray, size: float) -> int:
    """The menton: the lowest point of the chin's front, where the profile turns under the jaw."""
    below = midline[(v[midline, 1] < mouth[1] - 0.2 * size) & (v[midline, 2] > mouth[2] - 0.15 * size)]
    return int(below[(v[below, 1] - 0.6 * v[below, 2]).argmin()])


def _eye_corner(v: np.ndarray, skin: np.ndarray, eye: np.ndarray, blink: np.ndarray, sign: int) -> int:
    """The outer canthus: outermost skin vertex that still lies on the eyeball."""
    centre = v[eye].mean(0)
    radius = np.linalg.norm(v[eye] - centre, axis=1).max()
    away = np.linalg.norm(v[skin] - centre, axis=1)
    touching = skin[(away < 1.12 * radius) & (v[skin, 2] > centre[2]) & (blink[skin] > 0)]
    return int(touching[(sign * v[touching, 0]).argmax()])


def _incisor(v: np.ndarray, teeth: np.ndarray, lowest: bool) -> int:
    """The edge of the front teeth on the midline."""
    front = teeth[np.abs(v[teeth, 0]) < 0.15 * np.abs(v[teeth, 0]).max()]
    front = front[v[front, 2] > v[front, 2].max() - 0.3 * np.ptp(v[teeth, 2])]
    height = v[front, 1] if lowest else -v[front, 1]
    return int(front[(height + 0.5 * np.abs(v[front, 0])).argmin()])
