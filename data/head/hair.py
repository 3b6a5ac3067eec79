"""The hair of the default head: an opaque cap over the scalp and layers of cards that follow the hair's flow.

Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

import numpy as np
from parts import Part, anchor, grid_faces
from scalp import MM_PER_DEGREE, Scalp
from sculpt import smoothstep

from kmtalk.face.appearance import Material

HAIR = Material(
    name="hair",
    roughness=0.62,
    base_color_texture="hair.png",
    alpha_mode="MASK",
    double_sided=True,
)
CHART_SPAN = 290.0  # degrees of the scalp's chart across the cap's square of the texture, its left half
CHART_MIDDLE = (0.0, -14.0)
CARD_COLUMNS, CARD_ROWS = 8, 2  # of the cards' half of the texture
MARGIN = 7.0  # mm by which the cap continues beyond the hairline, where its texture is irregular


def cap_uv(chart: np.ndarray) -> np.ndarray:
    """Return the texture coordinates (n, 2) of points of the scalp's chart: the front is down."""
    across = (chart - CHART_MIDDLE) / CHART_SPAN + 0.5
    return np.column_stack([across[:, 0] / 2, across[:, 1]])


def card_uv(variant: int, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the texture coordinates (n, 2) of a card: `across` and `along`, from root to tip, are in [0, 1]."""
    column, row = variant % CARD_COLUMNS, variant // CARD_COLUMNS
    inset = 0.03 + 0.94 * across
    return np.column_stack([0.5 + (column + inset) / CARD_COLUMNS / 2, (row + 0.01 + 0.98 * along) / CARD_ROWS])


def cap_height(scalp: Scalp, chart: np.ndarray, spare: float = 0.0) -> np.ndarray:
    """Return the height (n,) of the cap over the skin: it fades to the hairline; `spare` is added away from it."""
    inside = scalp.inside(chart)
    top = scalp.topness(chart)
    at_crown = np.exp(-((np.linalg.norm(chart, axis=1) / 22.0) ** 2))
    at_front = smoothstep(chart[:, 1], 20, 55)
    beside = scalp.directions(chart)[:, 0] ** 2  # less at the upper sides, so that the outline is round
    full = 2.2 + spare + top * (11.0 * (1 - 0.95 * beside) + 3.0 * at_front - 5.0 * at_crown)
    return 0.45 + full * smoothstep(inside, 0, 14 + 24 * top)


def cap_rim(hairline: np.ndarray, sectors: int) -> np.ndarray:
    """Return the rim (sectors, 2) of the cap in the chart: outside of the hairline, once around the crown."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(hairline, axis=0, append=hairline[:1]), axis=1))])
    radius = np.linalg.norm(hairline, axis=1)
    angle = np.unwrap(np.arctan2(hairline[:, 1], hairline[:, 0]))
    turns = np.sign(angle[-1] - angle[0])
    # equal steps along the hairline, except that around the tips of the sideburns it may not turn back
    steps = np.maximum(turns * np.diff(angle, append=angle[0] + turns * 2 * np.pi), 0.15 * np.diff(length) / radius)
    around = np.concatenate([[0], np.cumsum(steps)])
    around *= 2 * np.pi / around[-1]
    at = angle[0] + turns * np.interp(np.linspace(0, length[-1], sectors, endpoint=False), length, around)
    reach = np.array([radius[np.cos(angle - a) > np.cos(0.08)].max() for a in at])
    reach = np.maximum(reach, np.maximum(np.roll(reach, 1), np.roll(reach, -1)) * 0.9) + MARGIN / MM_PER_DEGREE
    return reach[:, None] * np.column_stack([np.cos(at), np.sin(at)])


def make_cap(
    scalp: Scalp, rings: int, sectors: int, spare: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the cap's vertices (n, 3), roots on the skin (n, 3), faces (m, 3) and texture coordinates (n, 2).

    `spare` is a height in mm that keeps large triangles above the curved scalp.
    """
    rim = cap_rim(scalp.hairline, sectors)
    share = 1 - (1 - np.linspace(0, 1, rings + 1)[1:]) ** 1.35  # rings are denser at the hairline
    chart = np.concatenate([np.zeros((1, 2)), (share[:, None, None] * rim).reshape(-1, 2)])
    a = 1 + np.arange(rings - 1)[:, None] * sectors + np.arange(sectors)
    b = 1 + np.arange(rings - 1)[:, None] * sectors + (np.arange(sectors) + 1) % sectors
    quads = np.stack([a, a + sectors, b + sectors, b], axis=-1).reshape(-1, 4)
    fan = np.stack([np.zeros(sectors, int), a[0], b[0]], axis=1)
    faces = np.concatenate([fan, quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)])
    vertices = scalp.points(chart, cap_height(scalp, chart, spare))
    normals = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    if ((vertices[faces].mean(1) - scalp.centre) * normals).sum() < 0:
        faces = faces[:, ::-1]
    return vertices, scalp.points(chart), faces.astype(np.int32), cap_uv(chart)


def sample_roots(scalp: Scalp, count: int, topness: float, generator: np.random.Generator) -> np.ndarray:
    """Return `count` evenly spread roots (n, 2) of the chart, from the rim to the crown.

    They are within the hairline and where `Scalp.topness` is at least `topness`.
    """
    low, high = scalp.hairline.min(0), scalp.hairline.max(0)
    candidates = low + (high - low) * generator.random((12000, 2))
    angle = np.radians(np.linalg.norm(candidates, axis=1))
    # the chart stretches the scalp across by angle / sin(angle)
    keep = generator.random(len(candidates)) < np.sin(angle) / np.maximum(angle, 1e-6)
    # the last millimetres before the hairline at sides and nape are left to the cap's texture
    top = scalp.topness(candidates)
    candidates = candidates[keep & (scalp.inside(candidates) > 9.0 - 6.5 * top) & (top >= topness)]
    points = scalp.points(candidates)
    chosen = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    for _ in range(count - 1):  # farthest-point sampling
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    roots = candidates[chosen]
    return roots[np.argsort(-np.linalg.norm(roots, axis=1), kind="stable")]


def make_card(
    scalp: Scalp, root: np.ndarray, rows: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (2 rows, 3), the root on the skin (3,) and texture coordinates (2 rows, 2) of a card."""
    top = float(scalp.topness(root[None])[0])
    front = float(smoothstep(root[1:], 30, 62)[0]) * top
    inside = float(scalp.inside(root[None])[0])
    short = smoothstep(np.array(inside), 2, 26) * (1 - top) + top
    length = (9 + 9 * short + 17 * top + (6 + 0.12 * root[0]) * front) * generator.uniform(0.85, 1.2)
    width = (8.5 + 5.5 * top) * generator.uniform(0.85, 1.15)
    steps = 24
    path = [root]
    turn = generator.normal(0, 0.16)
    for _ in range(steps):
        d = scalp.flow(path[-1][None])[0]
        d = np.array([d[0] - turn * d[1], d[1] + turn * d[0]])
        path.append(path[-1] + d * length / steps / MM_PER_DEGREE)
    share = np.linspace(0, 1, rows)
    chart = np.array(path)[np.round(share * steps).astype(int)]
    at_crown = float(np.exp(-((np.linalg.norm(root) / 22.0) ** 2)))
    lift = (
        (1.0 + 3.6 * top + 2.5 * front - 3.4 * at_crown)
        * generator.uniform(0.5, 1.4)
        * (1 - 0.6 * scalp.directions(root[None])[0, 0] ** 2)
    )
    base = cap_height(scalp, chart)
    base = np.maximum(base, base[0] * (1 - 0.75 * share))  # hair that hangs over the hairline stays off the skin
    height = base - 1.8 * (1 - share) ** 2 + lift * np.sin(np.pi * (0.12 + 0.72 * share)) * share**0.5
    height = np.maximum(height, 0.4)
    middle = scalp.points(chart, height)
    along = np.gradient(middle, axis=0)
    normal = scalp.normals(chart)
    side = np.cross(along, normal)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    roll = generator.normal(0, 0.09) * (0.3 + 0.7 * top)
    side = side * np.cos(roll) + normal * np.sin(roll)
    half = side * (width / 2 * (1 - 0.25 * share))[:, None]
    vertices = np.stack([middle - half, middle + half], axis=1).reshape(-1, 3)
    variant = int(generator.integers(CARD_COLUMNS)) + (0 if top > 0.45 else CARD_COLUMNS)
    uv = card_uv(variant, np.tile([0.0, 1.0], rows), np.repeat(share, 2))
    return vertices, scalp.points(root[None])[0], uv


def make_hair(
    skin_vertices: np.ndarray, skin_faces: np.ndarray, eye_centres: np.ndarray, light: bool = False, seed: int = 15
) -> Part:
    """Make short hair with a whorl at the crown, brushed forward and to the head's left.

    Args:
        skin_vertices: Skin (V, 3) in mm.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the eyes (2, 3).
        light: Whether to make at most 600 vertices instead of at most 3,500.
        seed: Of the random numbers.
    """
    generator = np.random.default_rng(seed)
    scalp = Scalp(skin_vertices, skin_faces, eye_centres)
    vertices, roots, faces, uv = make_cap(scalp, *((7, 44, 1.8) if light else (9, 88, 0.0)))
    all_vertices, all_roots, all_faces, all_uv = [vertices], [roots], [faces], [uv]
    rows, count = (3, 46) if light else (4, 330)
    count_so_far = len(vertices)
    for start in sample_roots(scalp, count, 0.55 if light else 0.0, generator):
        card, root, card_texture = make_card(scalp, start, rows, generator)
        all_vertices.append(card)
        all_roots.append(np.tile(root, (len(card), 1)))
        all_faces.append(grid_faces(rows, 2) + np.int32(count_so_far))
        all_uv.append(card_texture)
        count_so_far += len(card)
    return Part(
        np.concatenate(all_vertices),
        np.concatenate(all_faces),
        np.concatenate(all_uv).astype(np.float32),
        np.concatenate(all_faces),
        HAIR,
        anchor(np.concatenate(all_roots), skin_vertices, skin_faces),
    )
