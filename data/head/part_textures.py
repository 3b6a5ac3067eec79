"""Textures of the eyes, the teeth, the tongue and the inside of the mouth: images (H, W, 3) uint8.

Their texture coordinates are those of `uv`. Colours are sRGB in [0, 1].
"""

from __future__ import annotations

import numpy as np
from bake import Noise, normal_map, to_bytes
from sculpt import smoothstep
from uv import EYE_DEGREES, MARGIN, MOUTH_DEPTH_MM

SEED = 16
PUPIL_DEGREES, IRIS_DEGREES = 10.0, 27.0
TEETH = 12
GUM_BORDER = 0.235  # v of the gum's border in the middle of a tooth


def _mix(color: np.ndarray, other: tuple[float, float, float], amount: np.ndarray) -> None:
    color += np.clip(amount, 0, 1)[..., None] * (np.asarray(other) - color)


def _texels(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture coordinates u and v of each texel, (H, W) each."""
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return u, v


def eye_color(size: int = 1024) -> np.ndarray:
    """Return the colour of an eyeball: white with veins, limbus, fibrous iris and pupil."""
    u, v = _texels(size, size)
    x, y = 2 * u - 1, 1 - 2 * v
    angle = EYE_DEGREES * np.hypot(x, y)
    turn = np.arctan2(y, x)
    noise = Noise(SEED)
    a = np.radians(np.minimum(angle, 180))
    sphere = 13.0 * np.stack([np.sin(a) * np.cos(turn), np.sin(a) * np.sin(turn), np.cos(a)], axis=-1)

    color = np.tile((0.870, 0.845, 0.820), (size, size, 1))
    sideways = np.cos(turn) ** 2
    _mix(color, (0.86, 0.70, 0.66), 0.75 * sideways * smoothstep(angle, 32, 64))
    _mix(color, (0.80, 0.58, 0.55), 0.9 * smoothstep(angle, 58, 92))
    _mix(color, (0.83, 0.80, 0.70), 0.25 * np.clip(noise(sphere, 7.0, 0), 0, 1))
    for number, (length, width, strength) in enumerate(((3.2, 0.075, 0.22), (1.6, 0.10, 0.14))):
        bent = sphere + 0.9 * np.stack([noise(sphere, 3.0, 10 + 3 * number + k) for k in range(3)], axis=-1)
        vein = np.exp(-((noise(bent, (2.4 * length, length, length), 1 + number) / width) ** 2))
        where = (
            (0.25 + 0.75 * sideways) * smoothstep(angle, 31, 58) * np.clip(0.6 + 0.7 * noise(sphere, 4.0, 3), 0, 1.3)
        )
        _mix(color, (0.70, 0.30, 0.27), strength * vein * where)

    _iris(color, angle, turn, noise)
    # the shadow of the lids and lashes
    up = angle * np.sin(turn)
    color *= (1 - 0.42 * smoothstep(up, 4, 27) - 0.16 * smoothstep(-up, 14, 34))[..., None]
    return to_bytes(color)


def _iris(color: np.ndarray, angle: np.ndarray, turn: np.ndarray, noise: Noise) -> None:
    """Paint limbus, iris and pupil, in place."""
    share = (angle - PUPIL_DEGREES) / (IRIS_DEGREES - PUPIL_DEGREES)  # 0 at the pupil's border, 1 at the limbus
    ring = np.stack([30 * np.cos(turn), 30 * np.sin(turn), 12 * share], axis=-1)
    bend = ring + 0.5 * noise(ring, 8.0, 20)[..., None]
    fine, coarse = noise(bend, (1.3, 1.3, 12.0), 21), noise(bend, (4.0, 4.0, 20.0), 22)
    iris = np.tile((0.300, 0.262, 0.180), (*angle.shape, 1))
    collarette = 0.36 + 0.05 * coarse
    _mix(iris, (0.395, 0.262, 0.135), 0.80 * (1 - smoothstep(share, collarette - 0.16, collarette + 0.16)))
    _mix(iris, (0.500, 0.390, 0.235), 0.35 * np.exp(-(((share - collarette) / 0.10) ** 2)))
    fibre = np.clip(0.5 + 0.24 * fine + 0.14 * coarse, 0, 1)
    iris *= (0.68 + 0.58 * fibre)[..., None]
    crypts = smoothstep(noise(bend, (4.0, 4.0, 7.0), 23), 1.2, 2.1) * np.exp(-(((share - 0.5) / 0.22) ** 2))
    _mix(iris, (0.13, 0.085, 0.05), 0.55 * crypts)
    _mix(iris, (0.085, 0.070, 0.055), 0.80 * smoothstep(share, 0.70, 1.02))
    _mix(iris, (0.12, 0.07, 0.035), 0.75 * (1 - smoothstep(share, 0.0, 0.10)))
    # light that enters through the cornea from above falls on the lower half
    below = -np.sin(turn)
    iris *= (1.06 + 0.36 * below * np.sqrt(np.clip(share, 0, 1)))[..., None]
    border = (1 - smoothstep(angle, IRIS_DEGREES - 2.2, IRIS_DEGREES + 1.8))[..., None]
    ring_shade = np.exp(-(((angle - IRIS_DEGREES - 0.8) / 2.6) ** 2))
    _mix(color, (0.40, 0.37, 0.36), 0.55 * ring_shade)
    color += border * (iris - color)
    pupil = 1 - smoothstep(angle + 0.25 * coarse, PUPIL_DEGREES - 0.7, PUPIL_DEGREES + 0.7)
    _mix(color, (0.012, 0.010, 0.010), pupil)


def teeth_color(height: int = 256, width: int = 1536) -> np.ndarray:
    """Return the colour of a row of teeth with its gum: u along the arch, v from the gum over the edge to the back."""
    u, v = _texels(height, width)
    noise = Noise(SEED + 1)
    tooth = np.floor(u * TEETH)
    inside = u * TEETH - tooth  # 0 to 1 across a tooth
    from_middle = np.abs(tooth - (TEETH - 1) / 2) - 0.5  # 0 for the central incisors
    plane = np.stack([u * 95.0, v * 26.0, np.zeros_like(u)], axis=-1)
    rng = np.random.default_rng(SEED)
    value, warmth = (rng.uniform(-1, 1, TEETH)[tooth.astype(int)] for _ in range(2))

    color = np.tile((0.905, 0.865, 0.800), (height, width, 1))
    color *= (1 + 0.018 * value)[..., None]
    yellow = 0.02 * (1 + warmth) + 0.03 * (from_middle == 2) + 0.015 * (from_middle > 2)
    color *= 1 - yellow[..., None] * [0.2, 0.5, 1.0]
    # dentine shines through near the gum; the biting edge is translucent and bluish
    _mix(color, (0.850, 0.770, 0.620), 0.50 * (1 - smoothstep(v, 0.26, 0.48)))
    edge = np.exp(-(((v - 0.665) / 0.055) ** 2)) * (from_middle < 2.5)
    _mix(color, (0.775, 0.770, 0.765), 0.55 * edge)
    mamelons = np.cos(2 * np.pi * 3 * (inside - 0.5)) * 0.5 + 0.5
    _mix(color, (0.880, 0.850, 0.780), 0.22 * mamelons * np.exp(-(((v - 0.60) / 0.05) ** 2)))
    color *= (1 + 0.012 * noise(plane, (1.2, 8.0, 1.0), 0) + 0.010 * noise(plane, 5.0, 1))[..., None]
    side = np.minimum(inside, 1 - inside)
    _mix(color, (0.790, 0.680, 0.540), 0.55 * np.exp(-((side / 0.15) ** 2)))
    _mix(color, (0.270, 0.130, 0.095), 0.85 * np.exp(-((side / 0.028) ** 2)))
    _mix(color, (0.560, 0.400, 0.330), 0.65 * smoothstep(v, 0.70, 0.90))  # the back is in the shade of the mouth

    papilla = (2 * np.abs(inside - 0.5)) ** 3  # the gum reaches down between the teeth
    border = GUM_BORDER + 0.085 * papilla + 0.006 * noise(plane, 3.0, 2)
    _mix(color, (0.560, 0.330, 0.270), 0.45 * np.exp(-(((v - border - 0.012) / 0.018) ** 2)))
    gum = 1 - smoothstep(v - border, -0.014, 0.012)
    pink = np.tile((0.800, 0.500, 0.480), (height, width, 1))
    _mix(pink, (0.700, 0.320, 0.320), 0.8 * (1 - smoothstep(v, 0.02, 0.17)))
    _mix(pink, (0.720, 0.380, 0.370), 0.35 * np.clip(noise(plane, 3.5, 3), 0, 1))
    pink *= (1 + 0.03 * noise(plane, 0.9, 4))[..., None]
    color += gum[..., None] * (pink - color)
    depth = smoothstep(np.abs(u - 0.5), 0.16, 0.48)[..., None]
    return to_bytes(color * (1 - depth * [0.42, 0.52, 0.55]))


def tongue_textures(size: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Return colour and normals of the tongue: a furrow in the middle, papillae on top, veins below."""
    u, v = _texels(size, size)
    noise = Noise(SEED + 2)
    back = np.clip((v - MARGIN) / (1 - 2 * MARGIN), 0, 1)
    turn = (u - 0.5) * 2 * np.pi / (1 - 2 * MARGIN)  # 0 in the middle of the back of the tongue, ±π below
    # a cylinder of about the size of a tongue, so that noise meets at the seam
    points = np.stack([16 * np.sin(turn), 16 * np.cos(turn), -62 * back], axis=-1)
    top = smoothstep(np.cos(turn), 0.05, 0.75)
    below = smoothstep(-np.cos(turn), 0.1, 0.7)
    color = np.tile((0.735, 0.400, 0.420), (size, size, 1))
    _mix(color, (0.775, 0.480, 0.485), top)
    _mix(color, (0.655, 0.290, 0.330), below)
    _mix(color, (0.70, 0.36, 0.40), 0.5 * np.clip(noise(points, 9.0, 0), 0, 1.5))
    papillae = smoothstep(noise(points, 0.75, 1), 0.1, 1.5)
    coat = np.clip(0.45 + 0.35 * noise(points, 7.0, 2), 0, 1) * smoothstep(back, 0.02, 0.3)
    _mix(color, (0.865, 0.690, 0.670), 0.55 * top * papillae * coat + 0.16 * top * coat)
    red = smoothstep(noise(points, 1.1, 3), 1.3, 2.2) * (top + 0.3) * (1 - below)
    _mix(color, (0.730, 0.330, 0.345), 0.42 * red)
    furrow = np.exp(-(((turn + 0.03 * noise(points, 12.0, 4)) / 0.075) ** 2)) * smoothstep(back, 0.10, 0.25) * top
    _mix(color, (0.560, 0.250, 0.280), 0.55 * furrow)
    for side in (-1, 1):
        vein = np.exp(-((((np.pi - np.abs(turn)) - 0.55 + 0.05 * noise(points, 6.0, 5)) / 0.09) ** 2)) * (
            side * turn > 0
        )
        _mix(color, (0.42, 0.25, 0.38), 0.45 * vein * below)
    depth = smoothstep(back, 0.20, 0.85)[..., None]
    color = color * (1 - depth * [0.55, 0.68, 0.66])
    height = 0.07 * top * papillae + 0.06 * noise(points, 3.0, 6) - 0.9 * furrow
    return to_bytes(color), normal_map(height, points)


def mouth_color(size: int = 256) -> np.ndarray:
    """Return the colour of the inside of the mouth: wet red behind the lips, and dark at depth."""
    u, v = _texels(size, size)
    noise = Noise(SEED + 3)
    depth = np.clip((v - MARGIN) / (1 - 2 * MARGIN), 0, 1) * MOUTH_DEPTH_MM
    turn = (u - 0.5) * 2 * np.pi / (1 - 2 * MARGIN)
    points = np.stack([18 * np.sin(turn), 18 * np.cos(turn), -depth], axis=-1)
    color = np.tile((0.590, 0.290, 0.282), (size, size, 1))
    _mix(color, (0.500, 0.190, 0.188), smoothstep(depth, 2, 15))
    _mix(color, (0.230, 0.066, 0.064), smoothstep(depth, 14, 42))
    _mix(color, (0.070, 0.018, 0.018), smoothstep(depth, 38, 80))
    vessels = np.exp(-((noise(points, 8.0, 0) / 0.10) ** 2)) * np.clip(0.5 + 0.5 * noise(points, 11.0, 1), 0, 1)
    _mix(color, (0.42, 0.09, 0.10), 0.22 * vessels * (1 - smoothstep(depth, 20, 50)))
    color *= (1 + 0.05 * noise(points, 4.0, 2))[..., None]
    return to_bytes(color)
