"""The mouth of the default head: corrects teeth, tongue and lips, and adds the shapes for speech.

MakeHuman's shapes are kept where they are good enough. Where they separate lips that should touch, make them
intersect or pinch them, the rims of the lips are moved to new positions and the skin follows smoothly
(`LaplacianDeformer`).
Lengths are in millimetres, y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra
from sculpt import LaplacianDeformer, adjacency_matrix, smoothstep

from kmtalk.face.regions import find_lip_pairs

PARTING = ("jawOpen", "mouthClose", "mouthFunnel", "mouthUpperUp", "mouthLowerDown", "mouthRoll", "mouthShrugUpper")
"""Prefixes of the shapes that may separate the lips (or, with jawOpen, close them); all others keep them sealed."""


@dataclass
class Lips:
    """The rims of the lips and the depth of vertices inside the mouth."""

    upper: np.ndarray  # (n,) upper rim vertices from right to left
    lower: np.ndarray  # (n,) the lower rim vertices that touch them
    depth: np.ndarray  # (V,) geodesic distance in mm from the rim, inside the mouth; 0 outside


def find_lips(vertices: np.ndarray, skin: np.ndarray, jaw: np.ndarray) -> Lips:
    """Find the lips of the skin (F, 3), given the offsets of jawOpen (V, 3)."""
    pairs = find_lip_pairs(vertices, skin, jaw, max_gap=2.25)
    upper, lower = pairs.T
    graph = adjacency_matrix(skin, len(vertices)).tocoo()
    graph.data = np.linalg.norm(vertices[graph.row] - vertices[graph.col], axis=1)
    lengths = graph.tocsr()
    loop = rim_loop(vertices, pairs, lengths)
    # inside the mouth: vertices connected to its roof without crossing the rim
    wall = np.zeros(len(vertices), bool)
    wall[loop] = True
    graph.data = np.where(wall[graph.row] | wall[graph.col], 0.0, graph.data)
    inner = graph.tocsr()
    inner.eliminate_zeros()
    index = np.unique(skin)
    on_midline = index[np.abs(vertices[index, 0]) < 1.5]
    goal = vertices[pairs[len(pairs) // 2]].mean(0) + [0, 12, -6]
    seed = on_midline[np.linalg.norm(vertices[on_midline] - goal, axis=1).argmin()]
    reached = np.isfinite(dijkstra(inner, indices=seed))
    if reached[vertices[:, 2].argmax()]:
        raise ValueError("the lip rim is not closed: the inside of the mouth is connected to the nose")
    from_rim = dijkstra(lengths, indices=loop, min_only=True)
    return Lips(upper, lower, np.where(reached & ~wall, from_rim, 0.0))


def rim_loop(vertices: np.ndarray, pairs: np.ndarray, lengths: sp.csr_matrix) -> np.ndarray:
    """Return the vertices of a closed chain of edges along the upper rim and back along the lower rim."""
    front: dict[int, int] = {}  # row of the foremost pair in each 2.5 mm column
    for row, (u, low) in enumerate(pairs):
        column = round(float(vertices[u, 0]) / 2.5)
        z = vertices[[u, low], 2].sum()
        if column not in front or z > vertices[pairs[front[column]], 2].sum():
            front[column] = row
    rows = pairs[[front[c] for c in sorted(front)]]
    stops = [*rows[:, 0], *rows[::-1, 1], rows[0, 0]]
    loop: list[int] = []
    for start, end in zip(stops[:-1], stops[1:], strict=True):
        _, before = dijkstra(lengths, indices=start, return_predecessors=True, limit=40.0)
        path = [end]
        while path[-1] != start:
            path.append(before[path[-1]])
        loop += path[::-1][:-1]
    return np.unique(loop)


def correct_mouth(
    vertices: np.ndarray,
    skin: np.ndarray,
    parts: dict[str, np.ndarray],
    shapes: dict[str, np.ndarray],
    deformer: LaplacianDeformer,
) -> tuple[np.ndarray, dict[str, np.ndarray], Lips]:
    """Return the neutral and the shapes with sealed lips, corrected teeth and tongue, and the shapes for speech."""
    vertices = vertices.copy()
    shapes = {name: offsets.copy() for name, offsets in shapes.items()}
    lips = find_lips(vertices, skin, shapes["jawOpen"])
    seal_neutral(vertices, lips, deformer)
    lips = find_lips(vertices, skin, shapes["jawOpen"])  # after sealing, more of the rims face each other
    seal_neutral(vertices, lips, deformer)
    seat_teeth_and_tongue(vertices, parts, shapes, lips)
    deformer.vertices = vertices
    rim = np.concatenate([lips.upper, lips.lower])
    for name, offsets in shapes.items():
        if not name.startswith(PARTING):
            mean = (offsets[lips.upper] + offsets[lips.lower]) / 2
            offsets += deformer.deform(rim, np.concatenate([mean, mean]) - offsets[rim], reach=22.0)
    seal_lips_with_jaw(shapes, lips, deformer)
    shapes["mouthPucker"] = make_pucker(vertices, shapes["mouthPucker"], lips, deformer, narrow=0.66, forward=3.0)
    shapes["mouthFunnel"] = make_funnel(vertices, shapes["mouthFunnel"], lips, deformer)
    shapes["mouthProtrude"] = make_pucker(
        vertices, 0.35 * shapes["mouthPucker"], lips, deformer, narrow=0.93, forward=8.0
    )
    shapes["mouthLabiodental"] = make_labiodental(vertices, parts, shapes, lips, deformer)
    shapes |= tongue_shapes(vertices, parts, shapes)
    return vertices, shapes, lips


def seal_neutral(vertices: np.ndarray, lips: Lips, deformer: LaplacianDeformer) -> None:
    """Move the two rims towards each other, to a gap of 0.2 mm; modifies `vertices`."""
    gap = vertices[lips.lower] - vertices[lips.upper]
    target_gap = np.array([0.0, -0.2, 0.0])
    shift = (gap - target_gap) / 2
    rim = np.concatenate([lips.upper, lips.lower])
    vertices += deformer.deform(rim, np.concatenate([shift, -shift]), reach=14.0)


def seat_teeth_and_tongue(
    vertices: np.ndarray, parts: dict[str, np.ndarray], shapes: dict[str, np.ndarray], lips: Lips
) -> None:
    """Place the upper incisors 1.5 mm below the lip line and the lower ones behind them, and flatten the tongue."""
    line = vertices[lips.upper[len(lips.upper) // 2], 1]
    upper, lower, tongue = parts["upper_teeth"], parts["lower_teeth"], parts["tongue"]
    vertices[upper] += [0, line - 1.5 - vertices[upper, 1].min(), 2.5]
    top = vertices[lower][vertices[lower, 2] > vertices[lower, 2].max() - 8][:, 1].max()
    vertices[lower] += [0, line - 0.8 - top, 0.3]
    # MakeHuman's tongue fills the mouth: flatten it, move it back, and attach it rigidly to the jaw
    floor = vertices[tongue, 1].min()
    tip = vertices[tongue, 2].max()
    back = tip - vertices[tongue, 2]
    vertices[tongue, 1] = floor - 3.5 + (vertices[tongue, 1] - floor) * (0.55 + 0.25 * smoothstep(back, 10, 45))
    vertices[tongue, 2] -= 4.5 * (1 - smoothstep(back, 5, 50))
    jaw = shapes["jawOpen"]
    for name in ("jawOpen", "jawForward", "jawLeft", "jawRight"):
        rigid = shapes[name][lower].mean(0)
        keep = (1 - smoothstep(back, 8, 55))[:, None]
        shapes[name][tongue] = keep * rigid + (1 - keep) * shapes[name][tongue]
    # jawOpen rotates about the ears, so the incisors move farthest
    jaw[tongue] *= (1 - 0.25 * smoothstep(back, 8, 40))[:, None]


def seal_lips_with_jaw(shapes: dict[str, np.ndarray], lips: Lips, deformer: LaplacianDeformer) -> None:
    """Correct mouthClose so that, with jawOpen at the same weight, every lip pair meets."""
    both = shapes["jawOpen"] + shapes["mouthClose"]
    upper, lower = both[lips.upper], both[lips.lower]
    meet = 0.25 * upper + 0.75 * lower
    # the upper lip can move down by about a quarter of the jaw's drop at most
    reach = 0.22 * shapes["jawOpen"][lips.lower, 1]
    meet[:, 1] = np.maximum(meet[:, 1], reach)
    rim = np.concatenate([lips.upper, lips.lower])
    goal = np.concatenate([meet, meet])
    shapes["mouthClose"] += deformer.deform(rim, goal - both[rim], reach=26.0)


def _profile(vertices: np.ndarray, lips: Lips) -> np.ndarray:
    """Return a profile (n,) along the lips: 1 at the middle, near 0 at the corners."""
    x = vertices[lips.upper, 0]
    return np.sqrt(np.clip(1 - (x / (np.abs(x).max() * 1.04)) ** 2, 0, 1))


def make_pucker(
    vertices: np.ndarray, base: np.ndarray, lips: Lips, deformer: LaplacianDeformer, narrow: float, forward: float
) -> np.ndarray:
    """Return a shape that narrows the mouth and pushes the sealed lips forward.

    `narrow` is the factor on the width of the lips, `forward` the protrusion in mm at their middle.
    """
    rim = np.concatenate([lips.upper, lips.lower])
    profile = np.tile(_profile(vertices, lips), 2)
    goal = base[rim].copy()
    goal[:, 0] = (narrow - 1) * vertices[rim, 0]
    goal[:, 2] += forward * (0.45 + 0.55 * profile)
    return base + deformer.deform(rim, goal - base[rim], reach=34.0)


def make_funnel(vertices: np.ndarray, base: np.ndarray, lips: Lips, deformer: LaplacianDeformer) -> np.ndarray:
    """Return mouthFunnel as a round opening with everted lips; MakeHuman's shape pinches the lips."""
    base = 0.45 * base
    profile = _profile(vertices, lips)
    arch = profile**2.4
    count = len(lips.upper)
    rim = np.concatenate([lips.upper, lips.lower])
    goal = np.zeros((2 * count, 3))
    goal[:, 0] = (0.64 - 1) * vertices[rim, 0]
    goal[:count, 1] = 5.5 * arch
    goal[count:, 1] = -7.0 * arch
    goal[:, 2] = 2.0 + 5.0 * np.tile(profile, 2)
    return base + deformer.deform(rim, goal - base[rim], reach=36.0)


def make_labiodental(
    vertices: np.ndarray,
    parts: dict[str, np.ndarray],
    shapes: dict[str, np.ndarray],
    lips: Lips,
    deformer: LaplacianDeformer,
) -> np.ndarray:
    """Return the shape for f and v: with the jaw lowered by 2.5 mm, the lower lip touches the upper teeth."""
    teeth = vertices[parts["upper_teeth"]]
    front = teeth[teeth[:, 2] > teeth[:, 2].max() - 12]
    edge = front[:, 1].min()
    lower_teeth = parts["lower_teeth"]
    drop = -shapes["jawOpen"][lower_teeth, 1].min()
    jaw = shapes["jawOpen"] * (2.5 / drop)
    profile = _profile(vertices, lips)
    rim = np.concatenate([lips.upper, lips.lower])
    up = np.zeros((len(lips.upper), 3))
    up[:, 1], up[:, 2] = 1.2 * profile, -1.0 * profile
    goal = vertices[lips.lower].copy()
    share = smoothstep(profile, 0.25, 0.8)
    down = np.zeros_like(goal)
    down[:, 1] = share * (edge + 1.2 - goal[:, 1])
    down[:, 2] = -3.6 * share
    down -= jaw[lips.lower] * np.maximum(share, 0.55)[:, None]
    return deformer.deform(rim, np.concatenate([up, down]), reach=26.0)


def tongue_shapes(
    vertices: np.ndarray, parts: dict[str, np.ndarray], shapes: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return tongue shapes: tip to the alveolar ridge (t d n l), tip between the teeth (th), dorsum to the palate
    (k g ng)."""
    tongue = parts["tongue"]
    points = vertices[tongue]
    tip, top = points[:, 2].max(), points[:, 1].max()
    back = tip - points[:, 2]
    teeth = vertices[parts["upper_teeth"]]
    edge = teeth[:, 1].min()
    drop = -shapes["jawOpen"][parts["lower_teeth"], 1].min()
    jaw_at = lambda mm: -shapes["jawOpen"][tongue, 1].min() * mm / drop  # noqa: E731
    front = 1 - smoothstep(back, 4, 26)
    rise = edge + 5.5 - points[back < 4][:, 1].mean() + jaw_at(3.0)
    up = np.zeros_like(vertices)
    up[tongue, 1] = rise * front
    up[tongue, 2] = 1.0 * front
    between = np.zeros_like(vertices)
    reach = teeth[:, 2].max() + 2.5 - tip
    between[tongue, 2] = reach * (1 - smoothstep(back, 8, 45))
    level = edge - 0.8 - points[back < 4][:, 1].max() + jaw_at(3.5)
    between[tongue, 1] = level * (1 - smoothstep(back, 4, 28))
    dorsum = np.zeros_like(vertices)
    hump = np.exp(-(((back - 34) / 13) ** 2))
    dorsum[tongue, 1] = (edge + 13 - top) * hump
    dorsum[tongue, 2] = -3.0 * (1 - smoothstep(back, 2, 30))
    return {"tongueTipUp": up, "tongueInterdental": between, "tongueDorsumUp": dorsum}
