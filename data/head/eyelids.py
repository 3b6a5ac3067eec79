"""The eyes of the default head: eyeballs that touch the lids, and lids that slide over them.

Angles are measured about the horizontal axis through the centre of the eyeball: 0 is straight ahead, positive is up.
The edges of the lids are the curves of angle over x that bound the visible opening.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import least_squares
from sculpt import LaplacianDeformer, smoothstep
from surface import SOCKET, Rim, Skin, distance_along, edge_graph, outer_vertices

EDGE_REACH_MM = 8.0  # the edge of a lid is within this distance of the inner edge of its margin
EYEBALL_RADIUS_MM = 13.0
GAZE_MM = 0.6  # height of the pupil above the middle of the opening
CLEARANCE_MM = 0.7  # from the eyeball to the edges of the lids
STEP_MM = 0.25  # distance of the samples of the edges
MARGIN_MM = 0.8  # skin within this distance of an edge moves with it
BEHIND_DEGREES = 22.0  # extent of the margin behind an edge
LID_REACH_MM = 13.0  # skin within this distance of the margins follows them
MEETING = 0.04  # the closed lids meet at this share of the opening above the lower lid's edge
SLIDE_MM = 2.0  # by which the lower lid slides to the nose as the eye closes
CLOSED_MM = 0.8  # from the eyeball to the edges of the closed lids
CORNER_DEGREES = 7.0  # where the opening is narrower, at the corners, the margins follow freely
CORNER_STEPS, CORNER_REACH_MM = 4, 5.0  # skin within this distance follows as the corners are parted
SKIN_MM = 0.8  # least distance of the lids' outer skin from the eyeball


@dataclass
class Eye:
    """One eye in its socket.

    Attributes:
        side: "left" or "right".
        centre: (3,) centre of the eyeball in mm.
        x: (n,) samples of x in mm, increasing, beyond both corners.
        upper: (n, 2) angle in degrees and distance in mm from the horizontal axis of the upper lid's edge.
        lower: (n, 2) the same for the lower lid.
    """

    side: str
    centre: np.ndarray
    x: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    def polar(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the angle in degrees and the distance from the horizontal axis in mm of points (n, 3)."""
        y, z = points[:, 1] - self.centre[1], points[:, 2] - self.centre[2]
        return np.degrees(np.arctan2(y, z)), np.hypot(y, z)

    def place(self, x: np.ndarray, angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Return the points (n, 3) at the given x, angles in degrees and distances from the horizontal axis."""
        a = np.radians(angle)
        return np.stack([x, self.centre[1] + radius * np.sin(a), self.centre[2] + radius * np.cos(a)], axis=1)

    def sphere(self, x: np.ndarray, radius: float) -> np.ndarray:
        """Return the distance from the horizontal axis, at x, of a sphere about the centre of the eyeball."""
        return np.sqrt(np.clip(radius**2 - (x - self.centre[0]) ** 2, 0, None))

    def opening(self, x: np.ndarray) -> np.ndarray:
        """Return the angle in degrees between the edges at x; 0 beyond the corners."""
        return np.interp(x, self.x, np.maximum(self.upper[:, 0] - self.lower[:, 0], 0), 0, 0)

    def edge(self, which: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the angle and the distance from the axis of the "upper" or "lower" edge at x."""
        values = getattr(self, which)
        return np.interp(x, self.x, values[:, 0]), np.interp(x, self.x, values[:, 1])


def find_eye(skin: Skin, side: str, vertices: np.ndarray, centre: np.ndarray | None = None) -> Eye:
    """Find the edges of the lids of one eye in a pose, and place its eyeball unless `centre` is given."""
    rim: Rim = skin.lids[side]
    graph = edge_graph(skin.vertices, skin.faces)
    to_upper, to_lower = (distance_along(graph, chain) for chain in (rim.upper, rim.lower))
    near = np.zeros(len(vertices), bool)
    near[outer_vertices(skin)] = True
    near &= np.minimum(to_upper, to_lower) < EDGE_REACH_MM
    sides = {"upper": near & (to_upper <= to_lower), "lower": near & (to_lower <= to_upper)}
    x_rim = vertices[rim.all, 0]
    x = np.arange(x_rim.min() - 3, x_rim.max() + 3, STEP_MM)
    start = vertices[rim.all].mean(0) - [0, 0, 10.0]
    guess = Eye(side, start if centre is None else centre, x, np.zeros((0, 2)), np.zeros((0, 2)))
    if centre is None:
        edges = [_edge(guess, graph, vertices, mask, name) for name, mask in sides.items()]
        points = np.concatenate([guess.place(x, *e.T)[np.isfinite(e[:, 0])] for e in edges])
        middle = vertices[rim.all].mean(0)[:2] + [0, GAZE_MM]
        guess.centre = _fit_centre(points, middle, EYEBALL_RADIUS_MM + CLEARANCE_MM)
    for name, mask in sides.items():
        setattr(guess, name, _fill(_edge(guess, graph, vertices, mask, name)))
    return guess


def _edge(eye: Eye, graph, vertices: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Return the extreme angle and its distance from the axis (n, 2) where mesh edges cross each x; NaN where none."""
    pairs = graph.tocoo()
    keep = mask[pairs.row] & mask[pairs.col] & (vertices[pairs.row, 0] < vertices[pairs.col, 0])
    a, b = vertices[pairs.row[keep]], vertices[pairs.col[keep]]
    out = np.full((len(eye.x), 2), np.nan)
    for n, x in enumerate(eye.x):
        crossing = (a[:, 0] <= x) & (b[:, 0] >= x)
        if not crossing.any():
            continue
        p, q = a[crossing], b[crossing]
        share = ((x - p[:, 0]) / np.maximum(q[:, 0] - p[:, 0], 1e-9))[:, None]
        angle, radius = eye.polar(p + share * (q - p))
        pick = angle.argmin() if name == "upper" else angle.argmax()
        out[n] = angle[pick], radius[pick]
    return out


def _fill(edge: np.ndarray) -> np.ndarray:
    """Continue an edge (n, 2) beyond its ends and smooth it a little."""
    known = np.flatnonzero(np.isfinite(edge[:, 0]))
    filled = np.stack([np.interp(np.arange(len(edge)), known, edge[known, k]) for k in range(2)], axis=1)
    smooth: np.ndarray = gaussian_filter1d(filled, 1.5, axis=0, mode="nearest")
    return smooth


def _fit_centre(edges: np.ndarray, middle: np.ndarray, radius: float) -> np.ndarray:
    """Return the centre (3,), at x and y of `middle`, of the sphere of a given radius that best fits points (n, 3)."""
    x, y = middle
    inside = np.hypot(edges[:, 0] - x, edges[:, 1] - y) < 0.75 * radius
    fitted = least_squares(
        lambda z: np.linalg.norm(edges[inside] - [x, y, *z], axis=1) - radius, [edges[0, 2] - radius]
    )
    return np.array([x, y, *fitted.x])


class Lids:
    """Moves the lids of one eye over the eyeball.

    The edges and the margins behind them turn about the eyeball. The skin around them follows smoothly and stays
    outside the eyeball.
    """

    def __init__(self, eye: Eye, vertices: np.ndarray, skin: Skin, deformer: LaplacianDeformer) -> None:
        self.eye, self.vertices, self.skin, self.deformer = eye, vertices, skin, deformer
        rim = skin.lids[eye.side].all
        socket = np.setdiff1d(np.unique(skin.faces[skin.regions == SOCKET]), rim)
        self.pinned = socket[np.sign(vertices[socket, 0]) == np.sign(eye.centre[0])]  # the lining behind the lids
        x = vertices[:, 0]
        self.angle, self.radius = eye.polar(vertices)
        self.edges = {name: eye.edge(name, x) for name in ("upper", "lower")}
        self.opening = eye.opening(x)
        near = (vertices[:, 2] > eye.centre[2] - 4) & (np.abs(x - eye.centre[0]) < 22) & (self.radius < 32)
        middle = (self.edges["upper"][0] + self.edges["lower"][0]) / 2
        self.is_upper = self.angle > middle
        self.followed = near & (np.abs(self.angle) < 80)
        near[self.pinned] = False
        self.margins = {
            name: near & (self.is_upper == (name == "upper")) & self._is_margin(self.edges[name], sign)
            for name, sign in (("upper", 1), ("lower", -1))
        }

    def _is_margin(self, edge: tuple[np.ndarray, np.ndarray], sign: int) -> np.ndarray:
        """Return which vertices (V,) lie at an edge or behind it, in the margin of the lid."""
        behind = (self.radius < edge[1] - 0.3) & (np.abs(self.angle - edge[0]) < BEHIND_DEGREES)
        distance = np.maximum(sign * np.radians(self.angle - edge[0]), 0) * edge[1]
        at_edge: np.ndarray = np.hypot(distance, np.maximum(self.radius - edge[1], 0)) < MARGIN_MM
        return behind | at_edge

    def moved(self, upper: float, lower: float) -> np.ndarray:
        """Return the offsets (V, 3) of turning the edges of the lids about the eyeball, less towards the corners.

        Args:
            upper: Rotation of the upper edge in degrees, positive upwards.
            lower: The same for the lower edge.
        """
        share = smoothstep(self.opening, 0, 22)
        turns = {"upper": (upper * share, 0.0), "lower": (lower * share, 0.0)}
        return self._follow(turns)

    def closed(self) -> np.ndarray:
        """Return the offsets (V, 3) of the closed eye: both edges on one line; the lower lid slides to the nose."""
        turns = {
            "upper": (-(1 - MEETING) * self.opening, -0.4 * SLIDE_MM),
            "lower": (MEETING * self.opening, -SLIDE_MM),
        }
        offset = self._follow(turns, radial=1.0)
        for _ in range(CORNER_STEPS):
            offset = offset + self._overlap(offset)
        return offset

    def _overlap(self, offset: np.ndarray) -> np.ndarray:
        """Return the offsets (V, 3) that part the closed lids at the corners, where the margins followed freely."""
        moved = self.vertices + offset
        closed = find_eye(self.skin, self.eye.side, moved, self.eye.centre)
        beyond = closed.upper[:, 0] - closed.lower[:, 0]
        angle, radius = self.eye.polar(moved)
        turn = np.interp(moved[:, 0], closed.x, gaussian_filter1d(beyond, 1.0)) / 2
        handles, shifts = [self.pinned], [np.zeros((len(self.pinned), 3))]
        for name, sign in (("upper", -1), ("lower", 1)):
            chosen = np.flatnonzero(self.margins[name])
            handles.append(chosen)
            shifts.append((self.eye.place(moved[:, 0], angle + sign * turn, radius) - moved)[chosen])
        return self.deformer.deform(np.concatenate(handles), np.concatenate(shifts), reach=CORNER_REACH_MM)

    def _lining_shift(self) -> np.ndarray:
        """Return the shift (n, 3) of the pinned lining as the eye closes: the fornix of the upper lid recedes."""
        above = smoothstep(self.angle[self.pinned], 5, 40)
        return above[:, None] * np.array([np.sign(self.eye.centre[0]) * 0.8, 1.6, 1.2])

    def _follow(self, turns: dict[str, tuple[np.ndarray, float]], radial: float = 0.0) -> np.ndarray:
        """Return the offsets of the lids.

        Args:
            turns: For "upper" and "lower", the rotation of the edge (V,) in degrees at the x of each vertex, and the
                distance in mm by which the lid slides outwards.
            radial: Share by which the edges move to their common distance from the closed eyeball.
        """
        eye, x = self.eye, self.vertices[:, 0]
        handles, shifts = [self.pinned], [radial * self._lining_shift()]
        for name, (turn, slide) in turns.items():
            to = x + np.sign(eye.centre[0]) * slide * smoothstep(self.opening, 0, 25)
            order = np.argsort(x)
            edge = eye.edge(name, to)[0] + np.interp(to, x[order], turn[order])
            angle = self.angle - self.edges[name][0] + edge
            target = eye.sphere(to, EYEBALL_RADIUS_MM + CLOSED_MM)
            inwards = radial * (target - self.edges[name][1]) * smoothstep(self.opening, 0, 12)
            turned = eye.place(to, angle, self.radius + inwards) - self.vertices
            chosen = np.flatnonzero(self.margins[name] & ((self.opening > CORNER_DEGREES) | (self.opening <= 0)))
            handles.append(chosen)
            shifts.append(turned[chosen])
        offset = self.deformer.deform(np.concatenate(handles), np.concatenate(shifts), reach=LID_REACH_MM)
        # the outer skin stays outside the eyeball
        moved = self.vertices + offset
        angle, radius = eye.polar(moved)
        least = np.minimum(eye.sphere(moved[:, 0], EYEBALL_RADIUS_MM + SKIN_MM), self.radius)
        pushed = eye.place(moved[:, 0], angle, np.maximum(radius, least)) - self.vertices
        return np.where((self.followed & (offset != 0).any(1))[:, None], pushed, offset)
