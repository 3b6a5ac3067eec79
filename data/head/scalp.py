"""The scalp of the default head as a function over a flat chart, with its hairline, hair flow and hair length.

The chart is the azimuthal equidistant projection about the crown: a point of the chart is the angle from the crown in
degrees times the direction (x to the head's left, y to the front). Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

import numpy as np
from parts import normalized
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.ndimage import gaussian_filter, percentile_filter
from sculpt import smoothstep

CROWN_TILT = 28.0  # degrees by which the crown is behind the vertical
CROWN_ASIDE = 6.0  # degrees by which the whorl is to the head's right
MM_PER_DEGREE = 1.6  # of the scalp, on average
REACH = 150.0  # degrees from the crown that the chart covers

# the hairline on the left half of the head, from the middle of the forehead to the nape: (x, y, z) in mm, relative to
# the eye centres in y and to the front of the ear in z where it is on the side; x only gives the direction
FOREHEAD = [(0, 61, 70), (20, 62, 66), (38, 59, 52)]
SIDE = [(58, 44, 33), (62, 30, 19), (62, 16, 14), (64, 2, 16), (64, -16, 15), (64, -23, 9), (64, -16, 3), (64, -2, 0)]
AROUND_EAR = [(64, 10, -4), (64, 15, -18), (64, 11, -33), (64, -4, -41), (60, -24, -45)]
NAPE = [(54, -46, -58), (40, -60, -75), (20, -63, -85), (0, -62, -88)]


class Scalp:
    """The scalp of a head.

    Args:
        vertices: Skin vertices (V, 3) in mm.
        faces: Skin triangles (F, 3).
        eye_centres: (2, 3).
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, eye_centres: np.ndarray) -> None:
        index = np.unique(faces)
        points = vertices[index]
        eye = eye_centres.mean(0)
        skull = points[points[:, 1] > eye[1] + 20]
        self.centre = np.array([0.0, eye[1] + 26.0, (skull[:, 2].min() + skull[:, 2].max()) / 2 - 4])
        beside = points[(np.abs(points[:, 1] - eye[1]) < 50) & (points[:, 2] < eye[2] - 25)]
        ear = beside[np.abs(beside[:, 0]) > np.abs(beside[:, 0]).max() - 10]
        self.eye_height, self.ear_front = float(eye[1]), float(ear[:, 2].max())
        tilt, aside = np.radians(CROWN_TILT), np.radians(CROWN_ASIDE)
        self.axis = normalized(np.array([-np.sin(aside), np.cos(tilt), -np.sin(tilt)]))
        self.front = normalized(np.cross(np.cross(self.axis, [0.0, 0.0, 1.0]), self.axis))
        self.left = np.cross(self.axis, self.front)
        ticks = np.linspace(-REACH, REACH, 81)
        x, y = np.meshgrid(ticks, ticks, indexing="ij")
        grid = np.column_stack([x.ravel(), y.ravel()])
        radius = first_hits(self.centre, self.directions(grid), vertices, faces).reshape(x.shape)
        radius[~np.isfinite(radius)] = np.median(radius)  # below the neck
        low = percentile_filter(radius, 35, 9)
        without_ears = np.where(radius > low + 5.0, low, radius)
        self._radius = RectBivariateSpline(ticks, ticks, gaussian_filter(without_ears, 1.2))
        self.hairline = self._make_hairline()
        self._line = polygon_segments(self.hairline)
        near = self.inside(self.to_chart(vertices[faces].mean(1))) > -30.0
        self._skin = vertices, faces[near]

    def directions(self, chart: np.ndarray) -> np.ndarray:
        """Return the directions (n, 3) from the centre to points of the chart (n, 2)."""
        angle = np.radians(np.minimum(np.linalg.norm(chart, axis=1), 179.0))[:, None]
        flat = chart / np.maximum(np.linalg.norm(chart, axis=1, keepdims=True), 1e-9)
        across = flat[:, :1] * self.left + flat[:, 1:] * self.front
        return np.cos(angle) * self.axis + np.sin(angle) * across

    def to_chart(self, points: np.ndarray) -> np.ndarray:
        """Return the chart coordinates (n, 2) of the directions of points (n, 3)."""
        d = normalized(points - self.centre)
        flat = np.column_stack([d @ self.left, d @ self.front])
        angle = np.degrees(np.arccos(np.clip(d @ self.axis, -1, 1)))
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9) * angle[:, None]

    def points(self, chart: np.ndarray, height: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the points (n, 3) at a height in mm above the skin."""
        directions = self.directions(chart)
        smooth = self._radius.ev(chart[:, 0], chart[:, 1])
        exact = first_hits(self.centre, directions, *self._skin)
        trusted = np.where(np.abs(directions[:, 0]) > 0.6, 3.0, 12.0)  # mm; at the sides, an ear is farther out
        radius = np.where(np.abs(exact - smooth) < trusted, exact, smooth)
        return self.centre + radius[:, None] * directions + np.asarray(height).reshape(-1, 1) * self.normals(chart)

    def normals(self, chart: np.ndarray) -> np.ndarray:
        """Return the normals (n, 3) of the scalp."""
        step = 1.5
        along = self._surface(chart + [step, 0]) - self._surface(chart - [step, 0])
        across = self._surface(chart + [0, step]) - self._surface(chart - [0, step])
        return normalized(np.cross(along, -across))

    def _surface(self, chart: np.ndarray) -> np.ndarray:
        return self.centre + self._radius.ev(chart[:, 0], chart[:, 1])[:, None] * self.directions(chart)

    def _make_hairline(self) -> np.ndarray:
        """Return the hairline as a closed polygon (n, 2) of the chart, counter-clockwise from above."""
        side = np.array(FOREHEAD + SIDE + AROUND_EAR + NAPE, float)
        side[:, 1] += self.eye_height
        side[:, 2] += np.where(np.arange(len(side)) < len(FOREHEAD), self.centre[2], self.ear_front)
        right = side[-2:0:-1] * [-1, 1, 1]
        stops = self.to_chart(np.concatenate([side, right, side[:1]]))
        length = np.concatenate([[0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(stops, axis=0), axis=1)))])
        stops[-1] = stops[0]
        spline = CubicSpline(length, stops, bc_type="periodic")
        return spline(np.linspace(0, length[-1], 400, endpoint=False))

    def inside(self, chart: np.ndarray) -> np.ndarray:
        """Return the distance (n,) in mm from the hairline, positive within the hair."""
        start, step = self._line
        out = np.empty(len(chart))
        for first in range(0, len(chart), 4096):
            block = chart[first : first + 4096, None] - start
            share = np.clip((block * step).sum(2) / (step**2).sum(1), 0, 1)
            away = block - share[..., None] * step
            nearest = (away**2).sum(2).min(1)
            p = chart[first : first + 4096, None]
            end = start + step
            straddles = (start[:, 1] > p[..., 1]) != (end[:, 1] > p[..., 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                cut = start[:, 0] + (p[..., 1] - start[:, 1]) / step[:, 1] * step[:, 0]
            odd = (straddles & (p[..., 0] < cut)).sum(1) % 2 == 1
            out[first : first + 4096] = np.where(odd, 1, -1) * np.sqrt(nearest) * MM_PER_DEGREE
        return out

    def flow(self, chart: np.ndarray) -> np.ndarray:
        """Return unit directions (n, 2) of hair growth in the chart: a whorl, then outwards, the front to the left."""
        angle = np.linalg.norm(chart, axis=1)
        outward = chart / np.maximum(angle, 1e-6)[:, None]
        twist = np.radians(65.0) * np.exp(-angle / 22.0)
        c, s = np.cos(twist), np.sin(twist)
        turned = np.column_stack([c * outward[:, 0] - s * outward[:, 1], s * outward[:, 0] + c * outward[:, 1]])
        to_side = smoothstep(outward[:, 1], 0.25, 0.95) * smoothstep(angle, 18, 60)
        turned[:, 0] += 0.95 * to_side
        back = smoothstep(np.abs(chart[:, 0]), 55, 85) * smoothstep(chart[:, 1], -20, 35)
        turned[:, 1] -= 0.55 * back  # at the temples hair is combed down instead of into the face
        return turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)

    def topness(self, chart: np.ndarray) -> np.ndarray:
        """Return 1 on top of the head, where hair is long, and 0 at sides and nape, where it is short."""
        d = self.directions(chart)
        return smoothstep(d[:, 1] + 0.35 * np.maximum(d[:, 2], 0), 0.35, 0.95)


def polygon_segments(polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return start points (n, 2) and steps (n, 2) of the sides of a closed polygon."""
    return polygon, np.roll(polygon, -1, axis=0) - polygon


def first_hits(origin: np.ndarray, directions: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the distance (n,) along each ray to the first triangle (Möller & Trumbore 1997); inf where none."""
    a = vertices[faces[:, 0]] - origin
    e1, e2 = vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    # the triangle's three products that do not depend on the ray
    n, q1, q2 = np.cross(e1, e2), np.cross(e2, a), np.cross(a, e1)
    height = (a * n).sum(1)
    out = np.full(len(directions), np.nan)
    for first in range(0, len(directions), 256):
        d = directions[first : first + 256]
        det = d @ n.T
        det[np.abs(det) < 1e-12] = np.nan
        u, v, t = (d @ q1.T) / det, (d @ q2.T) / det, height / det
        hit = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (t > 1)  # tolerant on edges
        out[first : first + 256] = np.where(hit, t, np.inf).min(1)
    return out
