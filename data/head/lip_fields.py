"""Smooth displacement fields around the mouth, in coordinates along and across the lips.

A field is a sum of terms: profiles across a lip, which give the displacement over the distance from the line of
contact; motion of the corners; stretching along the lips; and local brushes. Lengths are in mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from sculpt import smoothstep
from surface import MOUTH, Rim, Skin, distance_along, edge_graph

INNER_FADE_MM = (9.0, 34.0)  # behind the lips, the lining follows them less and less within this range


class LipFields:
    """Coordinates of the skin's vertices relative to the lips, and the displacement fields made from them."""

    def __init__(self, skin: Skin, vertices: np.ndarray) -> None:
        lips: Rim = skin.lips
        graph = edge_graph(vertices, skin.faces)
        self.vertices = vertices
        to_upper, to_lower = (distance_along(graph, chain) for chain in (lips.upper, lips.lower))
        self.distance = np.minimum(to_upper, to_lower)  # (V,) along the skin to the line of contact
        self.is_lower = smoothstep(to_lower - to_upper, 2.0, -2.0)
        corners = vertices[lips.upper[[0, -1]]]
        self.half_width = float(np.abs(corners[:, 0]).mean())
        self.centre = vertices[lips.all].mean(0) * [0, 1, 1]
        self.to_corner = {-1: distance_along(graph, lips.upper[:1]), 1: distance_along(graph, lips.upper[-1:])}
        inside = np.zeros(len(vertices), bool)
        inside[np.unique(skin.faces[skin.regions == MOUTH])] = True
        inside[lips.all] = False
        self.fade = np.where(inside, 1 - smoothstep(self.distance, *INNER_FADE_MM), 1.0)
        self.inside = inside
        self.near = smoothstep(vertices[:, 2], self.centre[2] - 85, self.centre[2] - 55)

    def zero(self) -> np.ndarray:
        """Return a field of zeros (V, 3)."""
        return np.zeros_like(self.vertices)

    def profile(
        self,
        side: str,
        knots: Sequence[tuple[float, float, float]],
        power: float = 1.0,
        widen: float = 0.6,
        half: int = 0,
    ) -> np.ndarray:
        """Return the displacement of one lip and the skin beyond it.

        Args:
            side: "upper", "lower" or "both".
            knots: Distance from the line of contact, and displacement up and forward there, at the middle of the lip.
            power: Exponent of the falloff towards the corners: below 1, the lip moves as a whole.
            widen: Growth of the field's half width per mm of distance.
            half: 1 for the left half of the face alone, -1 for the right half, 0 for both.

        Returns:
            (V, 3).
        """
        s, up, forward = np.array(knots, float).T
        d = np.where(self.inside, 0.0, np.clip(self.distance, s[0], s[-1]))
        across = np.abs(self.vertices[:, 0]) / (
            self.half_width + widen * np.where(self.inside, 0.4 * self.distance, self.distance)
        )
        along = np.clip(1 - across**2, 0, 1) ** np.where(self.inside, 0.5 * power, power)
        along = along * np.where(self.distance > s[-1], np.exp(-(((self.distance - s[-1]) / 8) ** 2)), 1.0)
        weight = {"both": 1.0, "lower": self.is_lower, "upper": 1 - self.is_lower}[side] * along * self.fade * self.near
        out = self.zero()
        out[:, 1] = PchipInterpolator(s, up)(d) * weight
        out[:, 2] = PchipInterpolator(s, forward)(d) * weight
        return out * self.half(half)[:, None]

    def half(self, sign: int) -> np.ndarray:
        """Return the weight (V,) of one half of the face: 1 on its side, crossing 0.5 at the middle."""
        if sign == 0:
            return np.ones(len(self.vertices))
        out: np.ndarray = smoothstep(sign * self.vertices[:, 0], -0.6 * self.half_width, 0.6 * self.half_width)
        return out

    def corner(self, sign: int, shift: Sequence[float], radius: float, side: str = "both") -> np.ndarray:
        """Return the displacement of the left (1) or right (-1) corner.

        Args:
            sign: 1 or -1.
            shift: Displacement outwards, up and forward.
            radius: Distance at which it has fallen to 1/e.
            side: "upper" or "lower" for one lip only.
        """
        weight = np.exp(-((self.to_corner[sign] / radius) ** 2)) * self.fade * self.near
        weight = weight * {"both": 1.0, "lower": self.is_lower, "upper": 1 - self.is_lower}[side]
        out: np.ndarray = weight[:, None] * (np.array(shift) * [sign, 1, 1])
        return out

    def corners(self, shift: Sequence[float], radius: float, side: str = "both") -> np.ndarray:
        """Return the displacement of both corners, mirrored."""
        return self.corner(1, shift, radius, side) + self.corner(-1, shift, radius, side)

    def stretch(self, share: float, reach: float, half: int = 0) -> np.ndarray:
        """Return displacements along x that widen (share > 0) or narrow the lips by a share of their width."""
        x = np.clip(self.vertices[:, 0], -self.half_width, self.half_width)
        beyond = np.maximum(np.abs(self.vertices[:, 0]) - self.half_width, 0)
        weight = np.exp(-((self.distance / reach) ** 2)) * np.exp(-((beyond / reach) ** 2)) * self.fade * self.near
        out = self.zero()
        out[:, 0] = share * x * weight * self.half(half)
        return out

    def brush(self, place: Sequence[float], shift: Sequence[float], radius: float | Sequence[float]) -> np.ndarray:
        """Return a smooth bump of displacement, mirrored to both sides unless it lies on the midline.

        Args:
            place: Left of the midline, above and in front of the middle of the lips.
            shift: Displacement outwards, up and forward.
            radius: Standard distance, one or per axis.
        """
        out = self.zero()
        for sign in (1, -1) if place[0] else (1,):
            out += self.one_brush(sign, place, shift, radius)
        return out

    def one_brush(
        self, sign: int, place: Sequence[float], shift: Sequence[float], radius: float | Sequence[float]
    ) -> np.ndarray:
        """Return the bump of `brush` on the left (1) or right (-1) side alone."""
        mirror = np.array([sign, 1, 1])
        away = (self.vertices - self.centre - np.array(place) * mirror) / np.broadcast_to(np.array(radius, float), 3)
        weight = np.exp(-(away**2).sum(1)) * self.fade
        out: np.ndarray = weight[:, None] * (np.array(shift) * mirror)
        return out


def chain_positions(chain: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Return the position (n,) of each vertex of a chain along it, from 0 to 1."""
    steps = np.linalg.norm(np.diff(vertices[chain], axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(steps)])
    return along / along[-1]


def meeting_offsets(lips: Rim, vertices: np.ndarray, offsets: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Return offsets (n + m, 3) of the upper and lower chain at which the two lips meet.

    Args:
        lips: The line of contact.
        vertices: (V, 3) neutral, in which the lips touch.
        offsets: (V, 3) offsets under which they may part.
        share: Where they meet between the upper (0) and the lower lip (1).
    """
    t_upper, t_lower = (chain_positions(c, vertices) for c in (lips.upper, lips.lower))
    upper, lower = offsets[lips.upper], offsets[lips.lower]
    at = lambda t, known, values: np.stack([np.interp(t, known, values[:, k]) for k in range(3)], axis=1)  # noqa: E731
    for_upper = (1 - share) * upper + share * at(t_upper, t_lower, lower)
    for_lower = (1 - share) * at(t_lower, t_upper, upper) + share * lower
    return np.concatenate([for_upper, for_lower])
