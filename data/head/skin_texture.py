"""The skin's textures: colour, normals, and occlusion with roughness, as functions of position on the face.

Lengths are in millimetres, y up, z forward. Colours are sRGB in [0, 1]. The functions of position are written for a
face with the outer corners of the eyes 90 mm apart; eyes, lips and nose are found from `Face`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bake import Noise, dilate, normal_map, occlusion, rasterize, smooth_on_mesh, to_bytes
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree
from sculpt import smoothstep

COLOR_SIZE, COARSE_SIZE = 2048, 1024
SEED = 15

BASE = (0.800, 0.622, 0.527)
BLOOD = (0.745, 0.440, 0.385)  # where much blood shows: cheeks, nose, ears
OCHRE = (0.800, 0.640, 0.510)  # forehead, temples, neck
VEILED = (0.655, 0.480, 0.435)  # thin skin below the eyes
LID = (0.735, 0.535, 0.455)
LIP = (0.700, 0.425, 0.385)
LIP_INNER = (0.610, 0.315, 0.305)
WET_PINK = (0.755, 0.510, 0.475)  # lid margins, inner corners
CARUNCLE = (0.735, 0.430, 0.405)
HAIR = (0.235, 0.165, 0.130)
MOLE = (0.360, 0.225, 0.170)


@dataclass(frozen=True)
class Face:
    """Where the features of a face are, in mm.

    Attributes:
        eye_centres: (2, 3) centres of the eyeballs, left (+x) first.
        eye_radius: Their radius.
        lids: For each eye, left first, the edges (n, 3) of the upper and the lower lid, inner to outer corner.
        lips: The line of contact of the lips: (n, 3) points of the upper and (m, 3) of the lower lip, from -x to +x.
        nose_tip: (3,) foremost point of the nose.
    """

    eye_centres: np.ndarray
    eye_radius: float
    lids: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    lips: tuple[np.ndarray, np.ndarray]
    nose_tip: np.ndarray


@dataclass(frozen=True)
class SkinTextures:
    """Images of the skin: `color` (2048, 2048, 3), `normal` (2048, 2048, 3) and `roughness` (1024, 1024, 3), uint8."""

    color: np.ndarray
    normal: np.ndarray
    roughness: np.ndarray


class Regions:
    """Soft masks (H, W) in [0, 1] of the parts of a face.

    Args:
        points: (H, W, 3) points on the skin.
        hair: (H, W) their distance in mm from the hairline, positive under the hair.
        face: Where the features are.
    """

    def __init__(self, points: np.ndarray, hair: np.ndarray, face: Face) -> None:
        self.hair = hair
        centre = np.mean(face.eye_centres, 0)
        self.points = points - centre
        self.x, self.y, self.z = np.moveaxis(self.points, -1, 0)
        self.side = np.abs(self.x)
        self._face, self._centre = face, centre
        self.eye = np.abs(face.eye_centres[:, 0]).mean()
        self.nose = face.nose_tip - centre
        self._lips()
        self._lids()

    def near(self, place: tuple[float, float, float], size: tuple[float, float, float]) -> np.ndarray:
        """Return a Gaussian about a place, given for the left side, and its mirror image; sizes are half-widths."""
        offset = (np.stack([self.side, self.y, self.z], -1) - place) / np.asarray(size)
        return np.asarray(np.exp(-(offset**2).sum(-1)))

    def _lips(self) -> None:
        upper, lower = (line - self._centre for line in self._face.lips)
        half = np.abs(upper[:, 0]).max()
        across = np.clip(self.side / half, 0, 1.2)
        line = np.interp(self.x, upper[:, 0], (upper[:, 1] + np.interp(upper[:, 0], lower[:, 0], lower[:, 1])) / 2)
        line = line - 0.6 * smoothstep(across, 0.9, 1.1)
        front = self.z > upper[:, 2].min() - 4
        # heights of the vermilion above and below the line of contact, as shares of the half width of the mouth
        knots = np.array([0, 0.12, 0.24, 0.38, 0.55, 0.72, 0.86, 0.96, 1.04, 1.2])
        top = np.array([0.338, 0.362, 0.378, 0.352, 0.288, 0.214, 0.136, 0.060, 0.0, -0.16])
        bottom = np.array([0.610, 0.607, 0.590, 0.550, 0.468, 0.352, 0.218, 0.100, 0.0, -0.16])
        above = self.y - line
        limit = half * np.where(above > 0, _spline(across, knots, top), _spline(across, knots, bottom))
        self.lip_height = np.clip(np.abs(above) / np.maximum(limit, 0.5), 0, 2)
        self.upper_lip = above > 0
        edge = limit - np.abs(above)  # mm inside the border
        self.lip_edge = np.where(front, edge, -9.0)
        self.lips = front * smoothstep(edge, -0.9, 1.0)
        seam = np.concatenate([upper, lower])
        seam_depth = np.interp(
            self.x, upper[:, 0], np.minimum(upper[:, 2], np.interp(upper[:, 0], *lower[:, [0, 2]].T))
        )
        behind = self.z - seam_depth
        self.inner_lips = self.lips * (1 - smoothstep(behind, 0.3, 4.2)) * (np.abs(above) < 5)
        self.mouth = (0.0, float(seam[:, 1].mean()), float(seam[:, 2].max()))
        self.mouth_half = half
        self.corner = self.near((half, float(upper[0, 1]), float(upper[0, 2])), (4.0, 3.5, 8.0))

    def _lids(self) -> None:
        shape = self.points.shape[:-1]
        flat = self.points.reshape(-1, 3)
        self.upper_lid, self.lower_lid = np.full(shape, 99.0), np.full(shape, 99.0)
        self.caruncle = np.zeros(shape)
        self.below_lid = np.full(shape, 99.0)
        for upper, lower in self._face.lids:
            for line, name in ((upper, "upper_lid"), (lower, "lower_lid")):
                dense = _resample(line - self._centre, 200)
                distance, _ = cKDTree(dense).query(flat, distance_upper_bound=40.0)
                setattr(self, name, np.minimum(getattr(self, name), np.minimum(distance, 99).reshape(shape)))
            inner = upper[0] - self._centre
            gap = np.linalg.norm(self.points - inner, axis=-1)
            self.caruncle = np.maximum(self.caruncle, 1 - smoothstep(gap, 0.8, 2.8))
        self.is_upper_lid = self.upper_lid < self.lower_lid

    def ear(self) -> np.ndarray:
        """Return the mask of the ears."""
        skull = 62 + 6 * smoothstep(self.y, -22, -4)
        box = smoothstep(self.side, skull, skull + 4) * smoothstep(self.z, -112, -104)
        return np.asarray(
            box * (1 - smoothstep(self.z, -66, -56)) * smoothstep(self.y, -50, -42) * (1 - smoothstep(self.y, 5, 12))
        )

    def scalp(self, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the mask of the skin under the hair; `noise` makes its border irregular."""
        return np.asarray(smoothstep(self.hair + 1.8 * noise, -4, 8))


def _spline(at: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Evaluate a smooth curve through knots that does not overshoot."""
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(knots, values, extrapolate=True)(np.clip(at, knots[0], knots[-1])))


def _resample(line: np.ndarray, count: int) -> np.ndarray:
    """Return `count` points evenly along a polyline (n, 3)."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, along[-1], count)
    return np.stack([np.interp(at, along, line[:, k]) for k in range(3)], axis=1)


def make_skin_textures(
    points: np.ndarray, faces: np.ndarray, uv: np.ndarray, uv_faces: np.ndarray, hair: np.ndarray, face: Face
) -> SkinTextures:
    """Bake the textures of the skin.

    Args:
        points: (V, 3) neutral vertices in mm.
        faces: (F, 3) triangles of the outer skin, without the inside of the mouth and the eye sockets.
        uv: (U, 2) their texture coordinates.
        uv_faces: (F, 3) texture coordinates of their corners.
        hair: (V,) distance of the vertices from the hairline in mm, positive under the hair.
        face: Where the features are.
    """
    sky = _sky(points, faces, face)
    corner = np.concatenate([points[faces], sky[faces][..., None], hair[faces][..., None]], axis=2)
    axis = np.mean(face.eye_centres, 0)[[0, 2]] - [0, 88]
    radius = np.linalg.norm(points[faces].mean(1)[:, [0, 2]] - axis, axis=1)
    baked, covered = rasterize(uv, uv_faces, corner, COLOR_SIZE, order=radius)
    baked = dilate(baked, covered)
    half = baked.reshape(COARSE_SIZE, 2, COARSE_SIZE, 2, 5).mean((1, 3))
    noise = Noise(SEED)
    coarse = Regions(half[..., :3].astype(np.float64), half[..., 4], face)
    color = _tones(coarse, half[..., 3], noise)
    height, color_detail = _relief(baked[..., :3], coarse, noise)
    color = np.stack([zoom(color[..., k], 2, order=1, grid_mode=True, mode="nearest") for k in range(3)], axis=2)
    color = color * color_detail
    _spots(color, baked[..., :3], points, faces, face)
    return SkinTextures(to_bytes(color), normal_map(height, baked[..., :3]), _roughness(coarse, half[..., 3], noise))


def _sky(points: np.ndarray, faces: np.ndarray, face: Face) -> np.ndarray:
    """Return ambient occlusion (V,), limited where lips and lids open and close later."""
    import trimesh

    mesh = trimesh.Trimesh(points, faces, process=False)
    balls = [
        trimesh.creation.icosphere(subdivisions=3, radius=face.eye_radius).apply_translation(c)
        for c in face.eye_centres
    ]
    triangles = np.concatenate([mesh.triangles, *(b.triangles for b in balls)])
    used = np.unique(faces)
    sky = np.ones(len(points))
    sky[used] = occlusion(points[used], mesh.vertex_normals[used], triangles)
    sky = smooth_on_mesh(sky, faces, 2)
    region = Regions(points[None], np.zeros((1, len(points))), face)
    lid = np.minimum(region.upper_lid, region.lower_lid)[0]
    moving = np.maximum(region.lips[0], 1 - smoothstep(lid, 2.0, 6.0))
    floor = 0.72 * np.maximum(moving, region.corner[0])
    return np.asarray(np.maximum(sky, floor))


def _mix(color: np.ndarray, other: tuple[float, float, float], amount: np.ndarray) -> None:
    color += np.clip(amount, 0, 1)[..., None] * (np.asarray(other) - color)


def _tones(r: Regions, sky: np.ndarray, noise: Noise) -> np.ndarray:
    """Return the colour (H, W, 3) without its fine detail."""
    broad, medium, small = (noise(r.points, length, n) for n, length in enumerate((34.0, 12.0, 5.0)))
    patchy = np.clip(1 + 0.22 * broad + 0.17 * medium + 0.13 * small, 0.35, 1.7)
    color = np.tile(BASE, (*sky.shape, 1))
    ny, nz = r.nose[1:]
    my, mz = r.mouth[1:]
    forehead = smoothstep(r.y, 14, 36)
    _mix(color, OCHRE, 0.65 * forehead + 0.5 * smoothstep(-r.y, 96, 112))
    blood = 0.40 * r.near((38, -32, 0), (18, 16, 26)) + 0.16 * r.near((47, -12, -8), (14, 12, 26))
    blood += 0.42 * r.near((0, ny - 2, nz - 4), (10, 11, 16)) + 0.45 * r.near((15, ny - 3, nz - 16), (6, 8, 9))
    blood += 0.22 * r.near((0, my - 34, mz - 8), (15, 9, 20)) + 0.42 * r.ear() * (
        0.7 + 0.3 * smoothstep(r.side, 66, 76)
    )
    blood += 0.16 * r.near((0, 20, nz), (9, 9, 30)) + 0.16 * r.near((22, ny - 14, mz - 14), (8, 12, 12))
    blood += 0.14 * r.near((0, my + 14, mz), (7, 6, 12))
    _mix(color, BLOOD, 0.55 * blood * patchy)
    # eyes: thin skin below them, the inner hollow, and the lids
    under = r.near((r.eye - 4, -14.0, 6), (13, 5.0, 16)) + 0.8 * r.near((r.eye - 13.5, -8.0, 8), (5.5, 6.5, 12))
    _mix(color, VEILED, 0.36 * under * (0.8 + 0.2 * patchy))
    lid = (1 - smoothstep(r.upper_lid, 3.5, 11)) * r.is_upper_lid
    _mix(color, LID, 0.62 * lid)
    _mix(color, VEILED, 0.30 * r.near((r.eye - 13, 6, 4), (5, 7, 12)))
    # a light, uneven hue: redder here, yellower there
    hue = 0.010 * broad + 0.006 * medium + 0.005 * small
    color *= 1 + np.stack([0.35 * hue, -1.0 * hue, -1.25 * hue], axis=-1)
    color *= (1 + 0.012 * noise(r.points, 60.0, 3) + 0.010 * noise(r.points, 9.0, 4))[..., None]
    _mix(color, HAIR, 0.13 * brow_shadow(r))
    _mix(color, HAIR, 0.55 * r.scalp(noise(r.points, 9.0, 5)) * np.clip(0.92 + 0.04 * small, 0, 1))
    _lip_tones(color, r, patchy, noise)
    margin = np.minimum(r.upper_lid, r.lower_lid)
    _mix(color, WET_PINK, 0.55 * (1 - smoothstep(margin, 0.4, 1.5)))
    _mix(color, (0.42, 0.27, 0.22), 0.35 * np.exp(-(((r.upper_lid - 1.9) / 0.9) ** 2)) * r.is_upper_lid)
    _mix(color, (0.50, 0.32, 0.27), 0.18 * np.exp(-(((r.lower_lid - 1.9) / 0.8) ** 2)) * ~r.is_upper_lid)
    _mix(color, CARUNCLE, 0.7 * r.caruncle)
    nostril = (1 - smoothstep(sky, 0.15, 0.60)) * r.near((8, ny - 6, nz - 12), (11, 9, 14))
    _mix(color, (0.20, 0.075, 0.06), 1.1 * nostril)
    # where light is scattered back and forth between surfaces, shadows are reddish
    shade = np.clip(1 - sky, 0, 1)[..., None] * (1 - r.lips * 0.7)[..., None]
    return np.asarray(color * (1 - shade * [0.10, 0.22, 0.26]))


def brow_shadow(r: Regions) -> np.ndarray:
    """Return the mask of the faint shade of the skin under the brows."""
    along = r.side - r.eye
    arc = 19.0 + 2.6 * np.sin(np.clip((along + 14) / 26, 0, 1) * np.pi * 0.8) - 0.10 * np.clip(along, 0, None)
    width = np.interp(along, [-18, -10, 6, 24], [3.4, 3.6, 3.0, 1.6])
    ends = smoothstep(along, -19, -11) * (1 - smoothstep(along, 12, 25))
    return np.asarray(np.exp(-(((r.y - arc) / width) ** 2)) * ends * (r.z > -14))


def _lip_tones(color: np.ndarray, r: Regions, patchy: np.ndarray, noise: Noise) -> None:
    """Colour the lips, in place: paler towards the border, fine vertical lines, deeper red where they are wet."""
    lines = noise(r.points, (0.9, 8.0, 8.0), 6)
    # the border wanders a little and is softer below
    lips = smoothstep(
        r.lip_edge + 0.25 * noise(r.points, 5.0, 7), np.where(r.upper_lip, -1.1, -1.3), np.where(r.upper_lip, 1.1, 1.8)
    )
    rim = np.exp(-(((r.lip_edge + 1.2) / 1.1) ** 2)) * (r.lip_edge > -4)
    _mix(color, (0.845, 0.675, 0.585), 0.30 * rim)  # pale roll along the border
    tone = np.tile(LIP, (*lips.shape, 1))
    tone[r.upper_lip] *= 0.985
    centre = np.exp(-((r.lip_height - 0.55) ** 2) / 0.10) * ~r.upper_lip
    tone *= 1 + 0.075 * centre[..., None]
    tone *= 1 - 0.05 * (np.clip(lines, 0, 2) * (1 - r.inner_lips))[..., None]
    tone *= (1 + 0.03 * (patchy - 1))[..., None]
    wet = np.clip(r.inner_lips * 1.1, 0, 1)[..., None]
    tone += wet * (np.asarray(LIP_INNER) - tone)
    color += (0.90 * lips)[..., None] * (tone - color)
    _mix(color, (0.50, 0.275, 0.245), 0.30 * r.corner * (1 - 0.4 * lips))


def _relief(positions: np.ndarray, r: Regions, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Return the height in mm (H, W) of pores and fine lines, and the factor (H, W, 3) that they put on the colour."""

    def fine(mask: np.ndarray) -> np.ndarray:
        return np.asarray(zoom(mask, 2, order=1, grid_mode=True, mode="nearest"))

    points = positions.astype(np.float32)
    ny, nz = r.nose[1:]
    ear = r.ear()
    lid = 1 - smoothstep(np.minimum(r.upper_lid, r.lower_lid), 2, 9)
    open_pores = np.clip(r.near((0, ny + 6, nz - 8), (17, 22, 22)) + 0.9 * r.near((30, -28, 8), (15, 17, 26)), 0, 1)
    open_pores = np.clip(
        open_pores + 0.4 * r.near((0, 38, 6), (38, 20, 30)) + 0.3 * r.near((0, -95, 10), (22, 14, 22)), 0, 1
    )
    scalp = r.scalp()
    skin = (1 - r.lips) * (1 - 0.75 * lid) * (1 - 0.7 * ear)
    pores_at, skin_at, lips_at, inner_at = (fine(m) for m in (open_pores * skin, skin, r.lips, r.inner_lips))
    cells = noise(points, 0.55, 10)
    pore = smoothstep(cells, 0.95, 2.0)
    network = 1 - np.abs(noise(points, (0.75, 0.55, 0.75), 11))  # ridges at the zeros of noise: crossing furrows
    furrow = smoothstep(network, 0.72, 1.0)
    bumps = noise(points, 1.5, 12)
    soft = noise(points, 4.0, 13)
    height = skin_at * (0.012 * bumps + 0.018 * soft - 0.014 * furrow) - 0.050 * pores_at * pore
    fan = points[..., 0] * (1 - 0.010 * np.abs(points[..., 1] - r.mouth[1] - 0))
    spread = np.stack([fan, points[..., 1], points[..., 2]], axis=-1)
    wrinkle = smoothstep(1 - np.abs(noise(spread, (1.0, 11.0, 11.0), 14)), 0.55, 1.0)
    wrinkle = wrinkle * np.clip(0.7 + 0.5 * noise(points, 5.0, 15), 0.1, 1.4)
    height *= 1 - fine(r.corner)
    height += lips_at * (1 - 0.8 * inner_at) * (-0.085 * wrinkle + 0.03 * soft)
    speckle = noise(points, 0.8, 16)
    value = 1 - 0.075 * pores_at * pore - 0.016 * skin_at * furrow + 0.018 * speckle * (0.4 + 0.6 * skin_at)
    value = value - 0.05 * lips_at * wrinkle * (1 - inner_at)
    warm = 0.012 * noise(points, 1.6, 17) * skin_at
    detail = value[..., None] * (1 + warm[..., None] * np.array([0.3, -1.0, -1.1]))
    stubble = fine(scalp)
    detail *= (1 - 0.16 * stubble * smoothstep(noise(points, 0.5, 18), 0.2, 1.4))[..., None]
    return gaussian_filter(height, 0.5), detail.astype(np.float32)


def _spots(color: np.ndarray, positions: np.ndarray, points: np.ndarray, faces: np.ndarray, face: Face) -> None:
    """Draw freckles on cheeks and nose and a few small moles, in place."""
    rng = np.random.default_rng(SEED)
    corners = points[faces] - np.mean(face.eye_centres, 0)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    at = Regions(points[faces].mean(1)[None], np.zeros((1, len(faces))), face)
    cheek = (at.near((26, -20, 8), (22, 13, 30)) + 0.06 * (at.z > -30) * (at.y > -100))[0]
    cheek = cheek * (1 - at.lips[0]) * (np.minimum(at.upper_lid, at.lower_lid)[0] > 7)
    chosen = rng.choice(len(faces), 330, p=area * cheek / (area * cheek).sum())
    weights = rng.dirichlet([1, 1, 1], len(chosen))
    centres = np.einsum("nc,ncd->nd", weights, points[faces][chosen])
    sizes = np.exp(rng.normal(-0.85, 0.33, len(chosen)))
    strengths = rng.uniform(0.04, 0.20, len(chosen))
    moles = rng.choice(len(chosen), 5, replace=False)
    sizes[moles], strengths[moles] = rng.uniform(0.45, 0.75, 5), rng.uniform(0.45, 0.7, 5)
    flat = positions.reshape(-1, 3)
    tree = cKDTree(flat)
    out = color.reshape(-1, 3)
    for centre, size, strength in zip(centres, sizes, strengths, strict=True):
        near = np.asarray(tree.query_ball_point(centre, 2.2 * size), int)
        if len(near):
            gap = np.linalg.norm(flat[near] - centre, axis=1) / size
            amount = (strength * (1 - smoothstep(gap, 0.35, 1.5)))[:, None]
            out[near] += amount * (np.asarray(MOLE) - out[near])


def _roughness(r: Regions, sky: np.ndarray, noise: Noise) -> np.ndarray:
    """Return an image (H, W, 3) uint8 with occlusion in red and roughness in green."""
    ny, nz = r.nose[1:]
    rough = np.full(sky.shape, 0.56)

    def toward(value: float, amount: np.ndarray) -> None:
        nonlocal rough
        rough = rough + np.clip(amount, 0, 1) * (value - rough)

    oily = (
        r.near((0, ny + 8, nz - 6), (11, 24, 20))
        + 0.8 * r.near((0, 36, 6), (34, 18, 30))
        + 0.5 * r.near((0, -97, 10), (13, 10, 22))
    )
    toward(0.44, oily)
    toward(0.48, 0.8 * r.ear())
    toward(0.47, (1 - smoothstep(r.upper_lid, 3, 10)) * r.is_upper_lid)
    rough = rough + 0.035 * noise(r.points, 4.0, 20) + 0.02 * noise(r.points, 18.0, 21)
    toward(0.70, r.scalp())
    toward(0.33, r.lips * (0.85 + 0.1 * noise(r.points, 3.0, 22)))
    toward(0.20, np.clip(1.2 * r.inner_lips, 0, 1))
    toward(0.16, 1 - smoothstep(np.minimum(r.upper_lid, r.lower_lid), 0.5, 1.3))
    toward(0.30, r.caruncle)
    toward(0.55, 0.9 * r.corner)
    return to_bytes(np.stack([sky, rough, np.zeros_like(sky)], axis=2))
