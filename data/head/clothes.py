"""The clothes of the default head: a plain T-shirt with a crew neck, over neck, shoulders and upper chest.

Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from parts import Part, grid_faces
from scalp import first_hits
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sculpt import smoothstep

from kmtalk.face.appearance import Material

FABRIC = Material(
    name="clothes",
    base_color=(0.040, 0.043, 0.050, 1.0),  # charcoal
    roughness=0.92,
    normal_texture="fabric.png",
    double_sided=True,
)
SECTORS = 52
COLLAR_WIDTH = 12.0
# the collar, from the inside of the neck outwards: distance in mm along the cloth from its upper edge, mm over the skin
COLLAR = [(5.0, -1.0), (0.8, 0.9), (0.0, 2.2), (2.0, 3.6), (7.0, 4.0), (10.6, 3.7), (COLLAR_WIDTH, 2.6)]
BODY_RINGS = 9
HEM_DROP = {"front": 126.0, "side": 100.0, "back": 120.0}  # mm from the neckline's side down to the hem
SHOULDER_HALF_WIDTH = 168.0  # mm; the arms are cut off there, as on a dress form
TILE = 14.0  # mm of cloth across the fabric's texture, which repeats
KEPT_SKIN = 9.0  # mm along the skin below the neckline


@dataclass(frozen=True)
class Shirt:
    """A shirt over the skin.

    Attributes:
        part: The shirt, which stays still under every shape.
        centre: The point (3,) inside the chest about which its neckline is described.
        neckline: Polar angles (n,) of the neckline at equal steps of azimuth from the front to the head's left.
    """

    part: Part
    centre: np.ndarray
    neckline: np.ndarray

    def covered(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Return the mask (F,) of the skin's triangles that no one sees: under the shirt, or where arms would be.

        The skin's last `KEPT_SKIN` mm below the neckline are not among them, so that no gap opens behind the collar.

        Args:
            vertices: Skin vertices (V, 3) in mm.
            faces: Its triangles (F, 3).
        """
        offset = vertices - self.centre
        polar = np.arctan2(np.hypot(offset[:, 0], offset[:, 2]), offset[:, 1])
        around = np.arctan2(offset[:, 0], offset[:, 2]) % (2 * np.pi)
        steps = np.linspace(0, 2 * np.pi, len(self.neckline) + 1)
        edge = np.interp(around, steps, np.append(self.neckline, self.neckline[0]))
        below = (polar - edge) * np.linalg.norm(offset, axis=1) > KEPT_SKIN
        mask: np.ndarray = below[faces].all(1)
        return mask


class Torso:
    """Neck, shoulders and chest as distances from a point inside, over azimuth (0 in front) and polar angle (0 up).

    Args:
        vertices: Skin vertices (V, 3) in mm, down to the chest.
        faces: Skin triangles (F, 3).
        eye_height: Of the eyes' centres, in mm.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, eye_height: float) -> None:
        self.vertices, self.faces = vertices, faces
        self.neck_base = self._find_neck_base(eye_height)
        self.centre = np.array([0.0, self.neck_base - 35.0, 22.0])

    def _find_neck_base(self, eye_height: float) -> float:
        """Return the height at which the neck, going down, becomes wider than 1.4 times its narrowest."""
        heights = eye_height - np.arange(70.0, 190.0, 2.0)
        x = np.array([[1.0, 0.0, 0.0]])
        width = np.array([first_hits(np.array([0.0, h, 24.0]), x, self.vertices, self.faces)[0] for h in heights])
        narrowest = int(width[:40].argmin())
        wide = np.flatnonzero(width[narrowest:] > 1.4 * width[narrowest])
        return float(heights[narrowest + wide[0]])

    def directions(self, azimuth: np.ndarray, polar: np.ndarray) -> np.ndarray:
        """Return unit directions (..., 3)."""
        s = np.sin(polar)
        return np.stack([s * np.sin(azimuth), np.cos(polar), s * np.cos(azimuth)], axis=-1)

    def radius(self, azimuth: np.ndarray, polar: np.ndarray) -> np.ndarray:
        """Return the distance (...) of the skin, without arms, in directions."""
        d = self.directions(azimuth, polar)
        skin = first_hits(self.centre, d.reshape(-1, 3), self.vertices, self.faces).reshape(d.shape[:-1])
        skin = np.minimum(skin, 1000.0)  # below the end of the skin
        return (skin**-8.0 + (np.abs(d[..., 0]) / SHOULDER_HALF_WIDTH) ** 8) ** (-1 / 8)

    def polar_at_height(self, azimuth: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Return the polar angle (n,) at which the skin has a height (n,), by bisection."""
        low, high = np.full(len(azimuth), np.radians(20.0)), np.full(len(azimuth), np.radians(165.0))
        for _ in range(14):
            middle = (low + high) / 2
            y = self.centre[1] + self.radius(azimuth, middle) * np.cos(middle)
            above = y > height
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2


def make_shirt(skin_vertices: np.ndarray, skin_faces: np.ndarray, eye_centres: np.ndarray, seed: int = 4) -> Shirt:
    """Make a T-shirt; 884 vertices.

    Args:
        skin_vertices: Skin of the body (V, 3) in mm, at least down to 270 mm below the eyes and out to the upper arms.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the eyes (2, 3).
        seed: Of the folds.
    """
    torso = Torso(skin_vertices, skin_faces, float(eye_centres[:, 1].mean()))
    azimuth = 2 * np.pi * np.arange(SECTORS) / SECTORS
    neckline, hem, hem_height = neckline_and_hem(torso, azimuth)
    start = np.array([along for along, _ in COLLAR])
    edge_radius = torso.radius(azimuth, neckline)
    step = 1.0 / edge_radius  # radians of polar angle for 1 mm
    collar = neckline + start[:, None] * step
    share = np.linspace(0, 1, BODY_RINGS + 1)[1:, None] ** 0.9
    body = collar[-1] + share * (hem - collar[-1])
    polar = np.concatenate([collar, body, hem[None]])
    grid = np.broadcast_to(azimuth, polar.shape)
    skin = torso.radius(grid, polar)
    # cloth spans hollows: it is smoother than the skin, but never inside
    inner = len(COLLAR)
    cloth = np.maximum(smooth_around(skin[inner:], 1.3), skin[inner:]) + 2.8
    folds = make_folds(cloth.shape, np.random.default_rng(seed))
    cloth += folds * smoothstep(np.arange(len(cloth)), 0, 3)[:, None]
    cloth[-1] = cloth[-2] - 7.0  # the hem is turned in
    lift = np.array([height for _, height in COLLAR])[:, None]
    band = gaussian_filter1d(skin[:inner], 1.0, axis=1, mode="wrap")
    radius = np.concatenate([np.maximum(band, skin[:inner]) + lift, cloth])
    radius[0] = skin[0] + lift[0]
    vertices = torso.centre + radius[..., None] * torso.directions(grid, polar)
    vertices[-2:, :, 1] = hem_height  # smoothing and folds have moved the hem out of its curve
    vertices = np.roll(vertices, SECTORS // 2, axis=1)  # the seam of the texture is at the back
    points = vertices.reshape(-1, 3)
    uv_faces = grid_faces(len(vertices), SECTORS + 1)
    faces = (uv_faces // (SECTORS + 1) * SECTORS + uv_faces % (SECTORS + 1) % SECTORS).astype(np.int32)
    part = Part(points, faces, fabric_uv(vertices), uv_faces, FABRIC)
    return Shirt(part, torso.centre, neckline)


def neckline_and_hem(torso: Torso, azimuth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the polar angles (n,) of the neckline, lower in front, and of the hem, and the height (n,) of the hem."""
    front = np.cos(azimuth)
    neckline = torso.polar_at_height(azimuth, torso.neck_base - 14.0 * front - 3.0 * front**2)
    drop = np.where(front > 0, HEM_DROP["front"], HEM_DROP["back"])
    height = torso.neck_base - HEM_DROP["side"] - (drop - HEM_DROP["side"]) * front**2
    hem = torso.polar_at_height(azimuth, height)
    smooth_neckline = gaussian_filter1d(neckline, 1.5, mode="wrap")
    return smooth_neckline, gaussian_filter1d(hem, 1.5, mode="wrap"), height


def smooth_around(grid: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth a grid (rings, sectors) that is periodic along the sectors."""
    return gaussian_filter(grid, (sigma, sigma), mode=("nearest", "wrap"))


def make_folds(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Return shallow folds (rings, sectors) in mm, between 0 and about 8."""
    noise = gaussian_filter(generator.normal(size=shape), (2.6, 1.0), mode=("nearest", "wrap"))
    return 3.0 * np.clip(noise / noise.std() + 0.7, 0, 2.2)


def fabric_uv(vertices: np.ndarray) -> np.ndarray:
    """Return texture coordinates (rings (sectors + 1), 2) in tiles for vertices (rings, sectors, 3) of a closed grid.

    v runs down the cloth; the last column repeats the first after a whole number of tiles.
    """
    down = np.linalg.norm(np.diff(vertices, axis=0), axis=2).mean(1)
    v = np.concatenate([[0], np.cumsum(down)]) / TILE
    around = np.linalg.norm(vertices - np.roll(vertices, 1, axis=1), axis=2).sum(1)
    collar = len(COLLAR)
    tiles = np.where(np.arange(len(v)) < collar, around[2] / (0.6 * TILE), around[collar + 3] / TILE)
    u = np.round(tiles)[:, None] * np.linspace(0, 1, vertices.shape[1] + 1)
    v[:collar] *= 0.12  # stretched stitches: the ribs of the collar
    return np.stack([u, np.broadcast_to(v[:, None], u.shape)], axis=-1).reshape(-1, 2).astype(np.float32)
