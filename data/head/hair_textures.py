"""Bakes the textures of hair, brows, lashes and clothes, all procedurally: strands of dark brown hair, and knitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from brows_lashes import BROW_SHAPE, UPPER_SHARE, brow_curve
from hair import CARD_COLUMNS, CARD_ROWS, CHART_MIDDLE, CHART_SPAN, cap_uv
from PIL import Image, ImageDraw
from scalp import MM_PER_DEGREE, Scalp
from scipy.ndimage import zoom
from sculpt import smoothstep

SIZE = 1024  # pixels across the cap's square; the hair texture is twice as wide
BROWN = np.array([0.270, 0.190, 0.138])  # sRGB of a strand in the middle of its range
SEED = 7

LASH_LINE = 2.2  # height of the line of roots, in thicknesses of a lash


def strand_colours(count: int, generator: np.random.Generator) -> np.ndarray:
    """Return colours (count, 3) in sRGB: lighter and darker, warmer and colder than the mean."""
    value = np.exp(generator.normal(0, 0.24, count))[:, None]
    warmth = generator.normal(0, 0.06, count)[:, None] * [1, 0, -1]
    return np.clip(BROWN * value * (1 + warmth), 0, 1)


def draw_card(
    width: int, height: int, strands: int, thickness: float, generator: np.random.Generator, ragged: float
) -> np.ndarray:
    """Return a picture (height, width, 4) in [0, 1] of locks of hair, roots at the top."""
    v = (np.arange(height) + 0.5)[:, None] / height
    x = (np.arange(width) + 0.5)[None]
    picture = np.zeros((height, width, 4))
    picture[..., :3] = BROWN * 0.6
    locks = int(generator.integers(4, 7))
    lock_root = (np.arange(locks) + generator.uniform(0.3, 0.7, locks)) / locks
    lock_tip = 0.5 + (lock_root - 0.5) * generator.uniform(0.75, 1.0, locks) + generator.normal(0, 0.045, locks)
    lock_end = 1 - ragged * generator.random(locks)
    lock_bend = generator.normal(0, 0.05, locks)
    order = np.sort(generator.random(strands))  # later strands lie on top and are lighter
    for colour, depth in zip(strand_colours(strands, generator), order, strict=True):
        lock = int(generator.integers(locks))
        root = lock_root[lock] + generator.normal(0, 0.42) / locks
        tip = lock_tip[lock] + generator.normal(0, 0.13) / locks
        end = min(lock_end[lock] * generator.uniform(0.84, 1.06), 0.985)
        start = generator.random() ** 1.5 * 0.34  # ragged, so that no straight edge shows
        share = v / end
        middle = root + (tip - root) * share**1.4 + lock_bend[lock] * np.sin(np.pi * share)
        middle += generator.normal(0, 0.012) * np.sin(share * generator.uniform(4, 9) + generator.uniform(0, 6))
        half = thickness * generator.uniform(0.7, 1.4) * np.clip(1 - share, 0, 1) ** 0.45
        half = np.maximum(half * smoothstep(v - start, -0.02, 0.12), 0.85)
        cover = np.clip(half + 0.5 - np.abs(x - middle * width), 0, 1) * (v < end) * (v > start)
        shade = (0.5 + 0.62 * depth) * (0.62 + 0.5 * smoothstep(v, 0.0, 0.5))
        rounded = 1 - 0.28 * np.clip(np.abs(x - middle * width) / np.maximum(half, 0.5), 0, 1) ** 2
        strand = np.clip(colour * (shade * rounded)[..., None], 0, 1)
        picture[..., :3] += cover[..., None] * (strand - picture[..., :3])
        picture[..., 3] = np.maximum(picture[..., 3], cover)
    inside = np.minimum(x, width - x) > 1.5  # neighbouring cards do not bleed into each other
    picture[..., 3] *= inside
    return picture


def draw_cap(scalp: Scalp, generator: np.random.Generator, scale: int = 2) -> np.ndarray:
    """Return a picture (SIZE, SIZE, 4) in [0, 1] of the hair next to the scalp, in the scalp's chart."""
    side = SIZE * scale
    ground = Image.new("RGB", (side, side), tuple(int(255 * c * 0.5) for c in BROWN))
    cover = Image.new("L", (side, side), 0)
    paint, stencil = ImageDraw.Draw(ground), ImageDraw.Draw(cover)
    count = 26000
    roots = CHART_MIDDLE + CHART_SPAN * (generator.random((count, 2)) - 0.5)
    inside = scalp.inside(roots)
    # the hair thins out over the last millimetres before the hairline
    keep = generator.random(count) < smoothstep(inside, -2.5, 5.0)
    roots, inside = roots[keep], inside[keep]
    top = scalp.topness(roots)
    length = (5 + 7 * smoothstep(inside, 0, 20) + 10 * top) * generator.uniform(0.6, 1.3, len(roots))
    steps = 7
    path = [roots]
    turn = generator.normal(0, 0.13, len(roots))
    for _ in range(steps):
        d = scalp.flow(path[-1])
        d = np.column_stack([d[:, 0] - turn * d[:, 1], d[:, 1] + turn * d[:, 0]])
        path.append(path[-1] + d * (length / steps / MM_PER_DEGREE)[:, None])
    pixels = np.stack([cap_uv(p) * [2 * side, side] for p in path], axis=1)
    light = np.sort(generator.random(len(roots)))
    colours = strand_colours(len(roots), generator) * (0.5 + 0.6 * light)[:, None]
    for line, colour, solid in zip(pixels, colours, inside > 6.0, strict=True):
        points = [tuple(p) for p in line]
        paint.line(points, tuple(int(255 * min(c, 1.0)) for c in colour), width=scale + 1)
        stencil.line(points, 255, width=scale + 1 if solid else scale)
    picture = np.concatenate([np.asarray(ground), np.asarray(cover)[..., None]], axis=2) / 255.0
    picture = picture.reshape(SIZE, scale, SIZE, scale, 4).mean((1, 3))
    coarse = SIZE // 4
    ticks = (np.arange(coarse) + 0.5) / coarse - 0.5
    x, y = np.meshgrid(ticks, ticks)
    chart = CHART_MIDDLE + CHART_SPAN * np.column_stack([x.ravel(), y.ravel()])
    opaque = smoothstep(
        zoom(scalp.inside(chart).reshape(coarse, coarse), 4, order=1, grid_mode=True, mode="nearest"), 5.0, 9.0
    )
    picture[..., 3] = np.maximum(picture[..., 3], opaque)
    return picture


def draw_hair(scalp: Scalp, generator: np.random.Generator) -> np.ndarray:
    """Return the hair texture (SIZE, 2 SIZE, 4) in [0, 1]: the cap on the left, the cards on the right."""
    width, height = SIZE // CARD_COLUMNS, SIZE // CARD_ROWS
    rows = [
        np.concatenate(
            [draw_card(width, height, strands, thickness, generator, ragged) for _ in range(CARD_COLUMNS)],
            axis=1,
        )
        for strands, thickness, ragged in ((110, 1.6, 0.34), (120, 1.5, 0.45))  # long hair, short hair
    ]
    return np.concatenate([draw_cap(scalp, generator), np.concatenate(rows)], axis=1)


def draw_brows(generator: np.random.Generator) -> np.ndarray:
    """Return the texture of the brows (512, 1024, 4) in [0, 1]: two layers, inner end on the left."""
    picture = np.concatenate([draw_brow(1024, 256, 640, generator), draw_brow(1024, 256, 300, generator)])
    picture[..., :3] = np.minimum(picture[..., :3] * 1.45, 1)  # lighter than the hair, which is deep
    return picture


def draw_brow(width: int, height: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return a picture (height, width, 4) in [0, 1] of one layer of a brow of `count` hairs."""
    length = BROW_SHAPE[-1, 0] - BROW_SHAPE[0, 0]
    share = 0.02 + 0.885 * generator.beta(1.25, 1.15, count)  # of the way from the inner to the outer end
    across = np.clip(generator.normal(0, 0.36, count), -0.8, 0.8)  # up, in half heights of the strip
    # at the inner end hair grows upwards; farther out, from above and below towards the middle line
    rise = 68 * (1 - smoothstep(share, 0.0, 0.32)) + 16 - 30 * smoothstep(share, 0.45, 1.0) - 24 * across
    rise = np.radians(rise + generator.normal(0, 7, count))
    size = (4.2 + 3.6 * smoothstep(share, 0.05, 0.4) - 2.6 * smoothstep(share, 0.6, 1)) * generator.uniform(
        0.7, 1.15, count
    )
    _, half = brow_curve(BROW_SHAPE[0, 0] + share * length)
    steps = np.linspace(0, 1, 6)
    bend = -0.35 * steps  # hairs curve outwards
    angle = rise[:, None] * (1 + bend)
    x = share[:, None] * length + np.cumsum(np.cos(angle), 1) * size[:, None] / 6
    y = (across * half)[:, None] * 0.9 + np.cumsum(np.sin(angle), 1) * size[:, None] / 6 - size[:, None] * 0.16
    _, there = brow_curve(np.clip(BROW_SHAPE[0, 0] + x.ravel(), *BROW_SHAPE[[0, -1], 0]))
    y = np.clip(y, -0.95 * there.reshape(x.shape), 0.95 * there.reshape(x.shape))
    pixels = np.stack([x / length * width, (1 - y / there.reshape(x.shape)) / 2 * height], axis=2)
    return draw_hairs(pixels, np.full(count, 5.4), width, height, generator)


def draw_lashes(generator: np.random.Generator) -> np.ndarray:
    """Return the texture of the lashes (256, 1024, 4) in [0, 1]: upper lashes above, roots at the top of each."""
    upper = int(256 * UPPER_SHARE)
    rows = [(upper, 125, 6.4, 1.0), (256 - upper, 64, 4.4, 0.85)]
    return np.concatenate([draw_lash_row(1024, height, *row, generator) for height, *row in rows])


def draw_lash_row(
    width: int, height: int, count: int, thickness: float, reach: float, generator: np.random.Generator
) -> np.ndarray:
    """Return a picture (height, width, 4) in [0, 1] of `count` lashes whose tips gather in small groups."""
    root = (np.arange(count) + generator.uniform(0.1, 0.9, count)) / count
    group = np.round(root * count / 3.2) / count * 3.2
    tip = root + 0.6 * (group - root) + 0.03 * (root - 0.45) + generator.normal(0, 0.004, count)
    steps = np.linspace(0, 1, 6)
    end = reach * generator.uniform(0.62, 0.99, count)
    x = root[:, None] + (tip - root)[:, None] * steps**1.5
    pixels = np.stack([x * width, end[:, None] * steps * (height - 3) - 1], axis=2)
    picture = draw_hairs(pixels, np.full(count, thickness), width, height, generator, darken=0.4)
    # along the edge of the lid the roots stand so close that they make a line
    line = picture[: round(LASH_LINE * thickness)]
    line[..., :3], line[..., 3] = picture[picture[..., 3] > 0.5][:, :3].mean(0), 1.0
    return picture


def draw_hairs(
    pixels: np.ndarray,
    thickness: np.ndarray,
    width: int,
    height: int,
    generator: np.random.Generator,
    darken: float = 0.9,
) -> np.ndarray:
    """Return a picture (height, width, 4) in [0, 1] of tapering hairs.

    Args:
        pixels: Points (n, steps, 2) of each hair from root to tip.
        thickness: Thickness (n,) of each hair at its root, in pixels.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        generator: Of the random colours.
        darken: Factor on the colour.
    """
    scale = 3
    ground = Image.new("RGB", (width * scale, height * scale), tuple(int(255 * c * darken * 0.8) for c in BROWN))
    cover = Image.new("L", (width * scale, height * scale), 0)
    paint, stencil = ImageDraw.Draw(ground), ImageDraw.Draw(cover)
    steps = pixels.shape[1]
    colours = np.clip(strand_colours(len(pixels), generator) * darken * 255, 0, 255).astype(int)
    for line, thick, colour in zip(pixels * scale, thickness * scale, colours, strict=True):
        for k in range(steps - 1):
            ends = [tuple(line[k]), tuple(line[k + 1])]
            wide = max(round(thick * (1 - 0.75 * k / (steps - 1))), scale)
            paint.line(ends, tuple(colour), width=wide)
            stencil.line(ends, 255, width=wide)
    picture = np.concatenate([np.asarray(ground), np.asarray(cover)[..., None]], axis=2) / 255.0
    return picture.reshape(height, scale, width, scale, 4).mean((1, 3))


def save_png(picture: np.ndarray, path: Path) -> None:
    """Save a picture in [0, 1] as a PNG with a palette of 256 colours with alpha, a third of the size without."""
    image = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def draw_fabric(size: int = 256, wales: int = 8) -> np.ndarray:
    """Return a repeating normal map (size, size, 3) in [0, 1] of plain knitting with `wales` columns of stitches."""
    y, x = np.mgrid[0:size, 0:size] / size
    column = x * wales
    across = column - np.floor(column) - 0.5  # in a column
    along = y * wales * 1.25
    # each stitch is a V: two oblique strands that meet in the middle of the column
    phase = along + 0.9 * np.abs(across) * 2
    strand = np.abs(np.sin(np.pi * phase)) ** 0.7
    height = strand * np.cos(np.pi * np.abs(np.abs(across) - 0.25) * 2) ** 0.8
    dy, dx = np.gradient(np.tile(height, (3, 3)))
    dx, dy = dx[size : 2 * size, size : 2 * size], dy[size : 2 * size, size : 2 * size]
    normal = np.dstack([-dx * 6.0, dy * 6.0, np.ones_like(dx)])  # +Y is up, rows go down
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    return normal / 2 + 0.5


def bake(folder: Path, skin_vertices: np.ndarray, skin_faces: np.ndarray, eye_centres: np.ndarray) -> None:
    """Write hair.png, brows.png, lashes.png and fabric.png to a folder.

    Args:
        folder: Folder for the textures.
        skin_vertices: Skin (V, 3) in mm, whose scalp the cap's texture fits.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the eyes (2, 3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(SEED)
    save_png(draw_hair(Scalp(skin_vertices, skin_faces, eye_centres), generator), folder / "hair.png")
    save_png(draw_brows(generator), folder / "brows.png")
    save_png(draw_lashes(generator), folder / "lashes.png")
    Image.fromarray(np.round(draw_fabric() * 255).astype(np.uint8)).save(folder / "fabric.png", optimize=True)
