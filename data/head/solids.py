"""Solids of the default head: eyeballs with corneas, and rows of teeth. Lengths are in millimetres, y up, z forward."""

from __future__ import annotations

import numpy as np

IRIS_DEGREES = 27.0  # angle between the axis of the eye and the edge of the iris
CORNEA_MM = 0.5  # by which the cornea stands out
EYE_RINGS = {True: (5, 10, 15, 19, 23, 27, 31, 36, 44, 55, 70, 88, 108), False: (9, 18, 27, 33, 45, 65, 95)}
EYE_SECTORS = {True: 32, False: 16}
TOOTH_SAMPLES = {True: 7, False: 5}


def make_eyeball(centre: np.ndarray, radius: float, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the front of an eyeball that looks to +z, with a cornea.

    Args:
        centre: (3,) its centre.
        radius: Radius of the sphere.
        fine: Whether it is that of the full head.

    Returns:
        Vertices (n, 3) and triangles (m, 3).
    """
    degrees = np.array([0.0, *EYE_RINGS[fine]])
    sectors = EYE_SECTORS[fine]
    around = 2 * np.pi * np.arange(sectors) / sectors
    bulge = CORNEA_MM * np.clip(1 - (degrees / (IRIS_DEGREES + 3)) ** 2, 0, 1) ** 1.5
    rings = []
    for angle, out in zip(np.radians(degrees), bulge, strict=True):
        direction = np.stack(
            [np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.full(sectors, np.cos(angle))], axis=1
        )
        rings.append((radius + out) * direction)
    points = np.concatenate([rings[0][:1], *rings[1:]])
    faces = [[0, 1 + k, 1 + (k + 1) % sectors] for k in range(sectors)]
    for ring in range(len(degrees) - 2):
        base = 1 + ring * sectors
        for k in range(sectors):
            a, b = base + k, base + (k + 1) % sectors
            faces += [[a, a + sectors, b], [b, a + sectors, b + sectors]]
    return centre + points, np.array(faces, np.int32)


def make_dental_arch(front: np.ndarray, edge: float, gum: float, fine: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a row of twelve teeth with their gum, as a grid along the arch.

    Args:
        front: (n, 3) points on the labial surface, to which the arch is fitted as a parabola z(x).
        edge: Height of the biting edge.
        gum: Height of the gum.
        fine: Whether it is that of the full head.

    Returns:
        Vertices (n, 3), column by column from -x to x and in each from the gum over the edge to the palatal side;
        triangles (m, 3); and the number of columns.
    """
    widths = np.array([8.5, 6.6, 7.6, 7.0, 6.8, 9.5]) if gum > edge else np.array([5.4, 5.9, 6.9, 7.0, 7.2, 10.0])
    a, b = np.polyfit(front[:, 0] ** 2, front[:, 2], 1)
    x = np.linspace(0, np.abs(front[:, 0]).max() * 1.3, 600)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(a * x**2)))])
    starts = np.concatenate([[0], np.cumsum(widths)])
    samples = TOOTH_SAMPLES[fine]
    s = np.concatenate([np.linspace(p, q, samples)[:-1] for p, q in zip(starts[:-1], starts[1:], strict=True)])
    s = np.append(s, starts[-1])
    tooth = np.clip(np.searchsorted(starts, s, side="right") - 1, 0, 5)
    inside = np.clip((s - starts[tooth]) / widths[tooth], 0, 1)
    bulge = (1 - (2 * np.abs(inside - 0.5)) ** 4) * (np.arange(len(s)) % (samples - 1) != 0)
    px = np.interp(s, along, x)
    normal = np.column_stack([-2 * a * px, np.ones_like(px)])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    length = np.array([1.0, 0.9, 1.02, 0.85, 0.8, 0.72])[tooth]
    # profile from the gum over the edge to the palatal side: share of height, depth in mm, 1 for tooth or 0 for gum
    profile = [
        (1.25, -0.6, 0),
        (1.0, 0.0, 0),
        (0.8, 0.75, 1),
        (0.35, 0.6, 1),
        (0.0, 0.0, 1),
        (0.03, -1.4, 1),
        (0.9, -4, 1),
    ]
    rows = []
    for share, depth, is_tooth in profile:
        h = (share if not is_tooth else share * length) - (0.16 * bulge if share == 1.0 else 0)
        h = h + (0.10 * (1 - bulge) if share < 0.1 else 0)
        out = depth - 0.55 * (1 - bulge) * is_tooth
        y = edge + (gum - edge) * (h + (1 - length) * (0.15 if is_tooth else 0))
        rows.append(np.column_stack([px + out * normal[:, 0], y, a * px**2 + b + out * normal[:, 1]]))
    half = np.stack(rows, 1)  # (S, P, 3)
    grid = np.concatenate([half[:0:-1] * [-1, 1, 1], half])
    columns, rows_n = grid.shape[:2]
    faces = []
    for i in range(columns - 1):
        for j in range(rows_n - 1):
            p = i * rows_n + j
            quad = [p, p + 1, p + rows_n + 1, p + rows_n]
            if gum > edge:
                quad = quad[::-1]
            faces += [[quad[0], quad[2], quad[1]], [quad[0], quad[3], quad[2]]]
    return grid.reshape(-1, 3), np.array(faces, np.int32), columns


def labial_surface(teeth: np.ndarray, row: str) -> tuple[np.ndarray, float, float]:
    """Return labial points, edge height and gum height of MakeHuman's teeth: the arguments of `make_dental_arch`."""
    front = teeth[teeth[:, 2] > teeth[:, 2].max() - 26]
    low, high = front[:, 1].min(), front[:, 1].max()
    middle = (low + high) / 2
    outer = front[np.abs(front[:, 1] - middle) < 0.45 * (high - low)]
    outer = outer[outer[:, 2] > -0.035 * outer[:, 0] ** 2 + teeth[:, 2].max() - 4]
    return (outer, low, low + 9.5) if row == "upper_teeth" else (outer, high, high - 8.5)
