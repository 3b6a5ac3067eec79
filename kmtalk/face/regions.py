"""Finds regions and landmarks of a head from the motion of its rig's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kmtalk.face.rig import Rig


def add_regions_and_landmarks(rig: Rig, parts: Mapping[str, np.ndarray]) -> Rig:
    """Add named regions and landmarks to the rig's template.

    The regions `mouth` and `upper_face` are the skin vertices that certain shapes move by more than a quarter
    of their greatest displacement.

    Args:
        rig: A rig with the ARKit shapes, in metres and at about human size.
        parts: Vertex indices of `skin`, `tongue`, `upper_teeth`, `lower_teeth`, `eye_left`, `eye_right` and others, and
            `lip_pairs` (n, 2), the upper and lower vertices that touch at rest, from -x to +x.

    Returns:
        The rig, with `parts` and the new regions in `template.regions` and with `template.landmarks`.
    """
    template = rig.template
    v, skin = template.vertices, np.asarray(parts["skin"])
    size = 90.0 / 1000.0  # metres between the outer eye corners: the head has about human size
    motion = np.linalg.norm(rig.offsets, axis=2)

    def moved(names: list[str], share: float) -> np.ndarray:
        amount = motion[[rig.index[n] for n in names]].max(0)
        return skin[amount[skin] > share * amount[skin].max()]

    pairs = np.asarray(parts["lip_pairs"])
    middle = pairs[np.abs(v[pairs[:, 0], 0]).argmin()]
    centre = v[middle].mean(0)
    half = np.abs(v[pairs[:, 0], 0]).max()
    lip_area = (
        (np.abs(v[skin, 0]) < half * 1.25)
        & (v[skin, 2] > centre[2] - 0.2 * size)
        & (np.abs(v[skin, 1] - centre[1]) < 0.13 * size)
    )
    upper_names = [n for n in rig.shape_names if n.startswith(("brow", "eyeWide", "eyeSquint", "eyeBlink"))]
    corners = {side: _corner(v, skin, pairs, sign) for side, sign in (("left", 1), ("right", -1))}
    on_midline = skin[np.abs(v[skin, 0]) < 0.012 * size]
    chin = _chin(v, on_midline, centre, size)
    nose = on_midline[v[on_midline, 2].argmax()]
    philtrum = on_midline[(v[on_midline, 1] < v[nose, 1]) & (v[on_midline, 1] > centre[1])]
    philtrum = philtrum[v[philtrum, 2] > centre[2] - 0.01 * size]
    # the subnasale, where the columella meets the upper lip, is the deepest point between nose tip and lip
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
        "inner_lips": np.unique(pairs),
        "lips": skin[lip_area],
        "corners": np.array([corners["left"], corners["right"]]),
        "upper_face": moved(upper_names, 0.25),
        "mouth": moved(["jawOpen", "mouthPucker", "mouthSmileLeft", "mouthSmileRight"], 0.25),
        "chin": near_chin,
    }
    located = replace(template, regions=regions, landmarks={k: int(i) for k, i in landmarks.items()})
    return replace(rig, template=located)


def _corner(v: np.ndarray, skin: np.ndarray, pairs: np.ndarray, sign: int) -> int:
    """Return the vertex at a corner of the mouth: beyond the outermost lip pair, in line with the last two pairs."""
    ends = pairs[np.argsort(sign * v[pairs[:, 0], 0])][-2:]
    inner, outer = v[ends].mean(1)
    goal = outer + 0.25 * (outer - inner) + [0, 0, 0.02 * np.linalg.norm(outer - inner)]
    return int(skin[np.linalg.norm(v[skin] - goal, axis=1).argmin()])


def _chin(v: np.ndarray, midline: np.ndarray, mouth: np.ndarray, size: float) -> int:
    """Return the menton: the lowest point on the front of the chin, where the profile turns under the jaw."""
    below = midline[(v[midline, 1] < mouth[1] - 0.2 * size) & (v[midline, 2] > mouth[2] - 0.15 * size)]
    return int(below[(v[below, 1] - 0.6 * v[below, 2]).argmin()])


def _eye_corner(v: np.ndarray, skin: np.ndarray, eye: np.ndarray, blink: np.ndarray, sign: int) -> int:
    """Return the outer canthus: the outermost skin vertex that touches the eyeball and moves in a blink."""
    centre = v[eye].mean(0)
    radius = np.linalg.norm(v[eye] - centre, axis=1).max()
    distance = np.linalg.norm(v[skin] - centre, axis=1)
    touching = skin[(distance < 1.12 * radius) & (v[skin, 2] > centre[2]) & (blink[skin] > 0)]
    return int(touching[(sign * v[touching, 0]).argmax()])


def _incisor(v: np.ndarray, teeth: np.ndarray, lowest: bool) -> int:
    """Return the vertex on the edge of the front teeth at the midline."""
    front = teeth[np.abs(v[teeth, 0]) < 0.15 * np.abs(v[teeth, 0]).max()]
    front = front[v[front, 2] > v[front, 2].max() - 0.3 * np.ptp(v[teeth, 2])]
    height = v[front, 1] if lowest else -v[front, 1]
    return int(front[(height + 0.5 * np.abs(v[front, 0])).argmin()])
