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
        (-17.5, 14.4, 4.2),
        (-12.0, 15.1, 4.7),
        (-4.0, 16.4, 4.5),
        (4.0, 17.8, 4.1),
        (11.0, 18.7, 3.7),
        (18.0, 17.5, 3.5),
        (24.0, 15.0, 2.8),
        (29.0, 12.0, 2.1),
    ]
)
BROW_LAYERS = (0.4, 0.9)  # mm above the skin
UPPER_SHARE = 0.625  # of the height of the lashes' texture

LASH_LENGTH = {"upper": 8.0, "lower": 4.0}
LASH_ANGLES = {"upper": (-20.0, 48.0), "lower": (15.0, 62.0)}  # degrees away from the eye, at root and tip
LASH_EXTENT = (0.14, 0.985)  # of a lid's edge, from the inner to the outer corner
EDGE_POINTS = 7  # points of a lid's edge that give a lash its rotation


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
    edges: Mapping[str, np.ndarray],
    columns: int = 15,
) -> Part:
    """Make the lashes of both eyes: two layers on the upper lids and one on the lower; 22 vertices per column.

    Args:
        skin_vertices: Skin (V, 3) in mm.
        skin_faces: Its triangles (F, 3).
        eye_centres: Centres of the left and the right eye (2, 3).
        edges: Points (n, 3) along the visible edge of each lid from the inner to the outer corner; keys "upper_left",
            "lower_left", "upper_right" and "lower_right".
        columns: Vertices of a strip along the edge.
    """
    strips = []
    for side, centre in zip(("left", "right"), eye_centres, strict=True):
        pivot = affine_weights(centre, skin_vertices, np.unique(skin_faces))
        for row in ("upper", "lower"):
            line = edges[f"{row}_{side}"]
            length = (
                np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
                / np.linalg.norm(np.diff(line, axis=0), axis=1).sum()
            )
            along = np.linspace(*LASH_EXTENT, columns)
            roots = np.column_stack([np.interp(along, length, line[:, k]) for k in range(3)])
            surface = closest_points(roots, skin_vertices, skin_faces)
            anchors = lash_anchors(surface, pivot, len(skin_vertices))
            for layer in range(2 if row == "upper" else 1):
                strips.append(make_lash_strip(surface(skin_vertices), along, centre, anchors, row, layer))
    return merge(strips)


def affine_weights(point: np.ndarray, vertices: np.ndarray, index: np.ndarray) -> sp.csr_matrix:
    """Return weights (1, V) of skin vertices around an eye that reproduce its centre under every affine motion."""
    distance = np.linalg.norm(vertices[index] - point, axis=1)
    index = index[(distance > 24) & (distance < 48)]
    system = np.column_stack([vertices[index] - point, np.ones(len(index))]).T
    weights = np.linalg.lstsq(system, np.array([0.0, 0.0, 0.0, 1.0]), rcond=None)[0]
    return sp.csr_matrix((weights, (np.zeros(len(index), int), index)), (1, len(vertices)))


def lash_anchors(surface: SurfacePoints, pivot: sp.csr_matrix, count: int) -> Anchors:
    """Return the anchors of roots (n,) along a lid's edge on a skin of `count` vertices.

    A lash turns with the edge around it and with the centre of the eye, about which lids turn; the centre is given by
    the weights `pivot` (1, `count`).
    """
    points = surface.matrix(count)
    roots = len(surface.corners)
    near = np.clip(np.arange(roots)[:, None] + np.arange(EDGE_POINTS) - EDGE_POINTS // 2, 0, roots - 1)
    return Anchors(surface, sp.vstack([sp.vstack([points[n]] + [pivot] * 4) for n in near]).tocsr())


def make_lash_strip(
    roots: np.ndarray, along: np.ndarray, centre: np.ndarray, anchors: Anchors, row: str, layer: int
) -> Part:
    """Make one strip of lashes.

    Args:
        roots: Their roots (n, 3).
        along: (n,) positions of the roots between the inner corner, 0, and the outer corner, 1.
        centre: Centre (3,) of the eye.
        anchors: Anchors of the roots.
        row: "upper" or "lower".
        layer: 0, or 1 for an upper layer that is shorter and more curved.
    """
    radial = normalized(roots - centre)
    vertical = np.array([0.0, 1.0 if row == "upper" else -1.0, 0.0])
    away = normalized(vertical - radial * (radial @ vertical)[:, None])
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
    faces = grid_faces(steps, len(along))
    if (row == "lower") != (centre[0] > 0):
        faces = faces[:, ::-1]
    surface = anchors.surface
    return Part(
        np.concatenate(rows),
        faces,
        np.column_stack([u.ravel(), v.ravel()]).astype(np.float32),
        faces,
        LASHES,
        Anchors(
            SurfacePoints(np.tile(surface.corners, (steps, 1)), np.tile(surface.weights, (steps, 1))),
            sp.vstack([anchors.frame] * steps).tocsr(),
        ),
    )
