"""Brows and lashes of the default head: strips with alpha that follow the brow ridge and the margins of the eyelids.

Lengths are in millimetres, y up, z forward.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from parts import Anchors, Part, anchor, closest_points, grid_faces, merge, normalized
from scipy.interpolate import PchipInterpolator
from sculpt import smoothstep

from kmtalk.face.appearance import Material
from kmtalk.face.geometry import SurfacePoints

BROWS = Material("brows", roughness=0.75, base_color_texture="brows.png", alpha_mode="MASK", double_sided=True)
LASHES = Material("lashes", roughness=0.6, base_color_texture="lashes.png", alpha_mode="MASK", double_sided=True)

BROW_SHAPE = np.array(
    [  # mm outwards from the eye's centre, height of the middle line above it, half the height of the strip
        (-17.5, 16.2, 4.2),
        (-12.0, 16.9, 4.7),
        (-4.0, 18.2, 4.5),
        (4.0, 19.6, 4.1),
        (11.0, 20.5, 3.7),
        (18.0, 19.3, 3.1),
        (24.0, 16.8, 2.4),
        (29.0, 13.8, 1.7),
    ]
)
BROW_LAYERS = (0.4, 0.9)  # mm above the skin
UPPER_SHARE = 0.625  # of the height of the lashes' texture

LASH_LENGTH = {"upper": 8.0, "lower": 4.0}
LASH_ANGLES = {"upper": (-12.0, 60.0), "lower": (15.0, 62.0)}  # degrees away from the eye, at root and tip
MARGIN_POINTS = 7  # vertices of the lid's margin that give a lash its rotation


def brow_curve(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return height and half height (n,) in mm of the brow's strip at x (n,) mm outwards from the eye's centre."""
    curve = PchipInterpolator(BROW_SHAPE[:, 0], BROW_SHAPE[:, 1:])(x)
    return curve[:, 0], curve[:, 1]


def make_brows(skin_vertices: np.ndarray, skin_faces: np.ndarray, eye_centres: np.ndarray) -> Part:
    """Make both brows, each of two layers; 240 vertices.

    Args:
        skin_vertices: Skin (V, 3) in mm.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the eyes (2, 3).
    """
    columns, rows = 15, 4
    x = np.linspace(BROW_SHAPE[0, 0], BROW_SHAPE[-1, 0], columns)
    height, half = brow_curve(x)
    down = np.linspace(0, 1, rows)
    strips = []
    for centre in eye_centres:
        side = np.sign(centre[0])
        grid = np.empty((rows, columns, 3))
        grid[..., 0] = centre[0] + side * x
        grid[..., 1] = centre[1] + height + half * (1 - 2 * down[:, None])
        grid[..., 2] = centre[2] + 20
        points = grid.reshape(-1, 3)
        for _ in range(12):  # onto the skin along z
            points[:, 2] = closest_points(points, skin_vertices, skin_faces)(skin_vertices)[:, 2]
        normals = skin_normals(points, skin_vertices, skin_faces)
        faces = grid_faces(rows, columns)
        faces = faces if side > 0 else faces[:, ::-1]
        for layer, lift in enumerate(BROW_LAYERS):
            u, v = np.meshgrid(np.linspace(0.005, 0.995, columns), (layer + 0.01 + 0.98 * down) / len(BROW_LAYERS))
            uv = np.column_stack([u.ravel(), v.ravel()]).astype(np.float32)
            anchors = anchor(points, skin_vertices, skin_faces)
            strips.append(Part(points + lift * normals, faces, uv, faces, BROWS, anchors))
    return merge(strips)


def skin_normals(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return smooth normals (n, 3) of the skin at points (n, 3) on it."""
    cross = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    at_vertex = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(at_vertex, faces[:, k], cross)
    return normalized(closest_points(points, vertices, faces)(normalized(at_vertex)))


def make_lashes(
    skin_vertices: np.ndarray,
    skin_faces: np.ndarray,
    eye_centres: np.ndarray,
    lids: Mapping[str, np.ndarray],
    columns: int = 15,
) -> Part:
    """Make the lashes of both eyes: two layers on the upper lids and one on the lower; 324 vertices.

    Args:
        skin_vertices: Skin (V, 3) in mm.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the left and the right eye (2, 3).
        lids: The vertices of each lid's margin from the inner to the outer corner; keys "upper_left", "lower_left",
            "upper_right" and "lower_right".
        columns: Vertices of a strip along the margin.
    """
    strips = []
    for side, centre in zip(("left", "right"), eye_centres, strict=True):
        pivot = affine_weights(centre, skin_vertices, np.unique(skin_faces))
        for layer, row in enumerate(("upper", "upper", "lower")):
            strips.append(make_lash_strip(skin_vertices, lids[f"{row}_{side}"], centre, pivot, row, columns, layer))
    return merge(strips)


def affine_weights(point: np.ndarray, vertices: np.ndarray, index: np.ndarray) -> sp.csr_matrix:
    """Return weights (1, V) of skin vertices around an eye that reproduce its centre under every affine motion."""
    distance = np.linalg.norm(vertices[index] - point, axis=1)
    index = index[(distance > 24) & (distance < 48)]
    system = np.column_stack([vertices[index] - point, np.ones(len(index))]).T
    weights = np.linalg.lstsq(system, np.array([0.0, 0.0, 0.0, 1.0]), rcond=None)[0]
    return sp.csr_matrix((weights, (np.zeros(len(index), int), index)), (1, len(vertices)))


def make_lash_strip(
    skin_vertices: np.ndarray,
    margin: np.ndarray,
    centre: np.ndarray,
    pivot: sp.csr_matrix,
    row: str,
    columns: int,
    layer: int,
) -> Part:
    """Make one strip of lashes, whose roots lie on the lid's margin.

    Args:
        skin_vertices: Skin (V, 3) in mm.
        margin: Vertices of the margin from the inner to the outer corner.
        centre: Centre (3,) of the eye.
        pivot: Weights (1, V) of the skin that give the centre of the eye.
        row: "upper" or "lower".
        columns: Number of vertices along the margin.
        layer: 0, or 1 for an upper layer that is shorter and more curved.
    """
    line = skin_vertices[margin]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    along = np.linspace(0.10, 0.985, columns)
    at = along * length[-1]
    segment = np.clip(np.searchsorted(length, at, side="right") - 1, 0, len(line) - 2)
    share = (at - length[segment]) / (length[segment + 1] - length[segment])
    corners = np.stack([margin[segment], margin[segment + 1], margin[segment + 1]], axis=1)
    surface = SurfacePoints(corners, np.stack([1 - share, share, np.zeros_like(share)], axis=1))
    roots = surface(skin_vertices)
    radial = normalized(roots - centre)
    away = normalized(np.array([0.0, 1.0 if row == "upper" else -1.0, 0.0]) - radial * radial[:, 1:2])
    if row == "lower":
        away = normalized(np.array([0.0, -1.0, 0.0]) + radial * radial[:, 1:2])
    fan = np.sign(centre[0]) * (along - 0.45)[:, None] * [0.9, 0, 0]
    profile = 0.55 + 0.45 * smoothstep(along, 0.05, 0.62) - 0.18 * smoothstep(along, 0.8, 1.0)
    reach = LASH_LENGTH[row] * profile * (0.86 if layer == 1 else 1.0)
    start, end = np.radians(LASH_ANGLES[row])
    steps = 4 if row == "upper" else 3
    rows = [roots]
    for k in range(steps - 1):
        angle = start + (end - start) * (k + 0.5) / (steps - 1) + (0.2 if layer == 1 else 0.0)
        forward = normalized(np.cos(angle) * radial + np.sin(angle) * away + fan * (k + 1) / steps)
        rows.append(rows[-1] + forward * (reach / (steps - 1))[:, None])
    u, v = np.meshgrid(along if layer == 0 else 1 - along, np.linspace(0.02, 0.98, steps))
    v = v * UPPER_SHARE if row == "upper" else UPPER_SHARE + v * (1 - UPPER_SHARE)
    faces = grid_faces(steps, columns)
    if (row == "lower") != (centre[0] > 0):
        faces = faces[:, ::-1]
    near = np.clip(segment[:, None] + np.arange(MARGIN_POINTS) - MARGIN_POINTS // 2, 0, len(margin) - 1)
    points = sp.csr_matrix(
        (np.ones(near.size), margin[near].ravel(), np.arange(near.size + 1)), (near.size, len(skin_vertices))
    )
    # the eye's centre counts as much as the margin: the lid turns about it
    frame = [sp.vstack([points[MARGIN_POINTS * k : MARGIN_POINTS * (k + 1)]] + [pivot] * 4) for k in range(columns)]
    return Part(
        np.concatenate(rows),
        faces,
        np.column_stack([u.ravel(), v.ravel()]).astype(np.float32),
        faces,
        LASHES,
        Anchors(
            SurfacePoints(np.tile(surface.corners, (steps, 1)), np.tile(surface.weights, (steps, 1))),
            sp.vstack(frame * steps).tocsr(),
        ),
    )
