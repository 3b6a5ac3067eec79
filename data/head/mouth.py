"""The mouth of the default head: sealed lips, seated teeth, the tongue, and shapes that depend on them.

Lengths are in millimetres, y up.
"""

from __future__ import annotations

import numpy as np
from lip_fields import LipFields, chain_positions, meeting_offsets
from sculpt import LaplacianDeformer, smoothstep
from surface import Rim

Fields = dict[str, np.ndarray]

PARTING = (
    *("jawOpen", "mouthClose", "mouthFunnel", "mouthUpperUp", "mouthLowerDown", "mouthRoll", "mouthShrugUpper"),
    *("mouthLabiodental", "noseSneer"),
)
"""Prefixes of the shapes that may part the lips (or, with jawOpen, close them); all others keep them sealed."""
SEALED_SHARE = 0.4  # of the lower lip's drop with the jaw, at which closed lips meet

UPPER_EDGE_MM = 1.8  # the upper incisors end this far below the line of contact
OVERBITE_MM = 1.4  # the lower incisors end this far above the edges of the upper ones, behind them
TOOTH_CLEARANCE_MM = 1.6  # from the incisors to the line of contact, behind the lips


def seal_neutral(vertices: np.ndarray, lips: Rim, light_count: int, deformer: LaplacianDeformer) -> np.ndarray:
    """Return vertices whose two lips touch along one line.

    Each vertex of the lower chain meets one of the upper chain; those of the light head meet each other. In the middle,
    a gap of 0.15 mm is left.
    """
    half = meeting_offsets(lips, vertices, vertices)[: len(lips.upper)]
    t_upper, t_lower = (chain_positions(c, vertices) for c in (lips.upper, lips.lower))
    partner = np.empty(len(lips.lower), int)
    is_light = lips.lower < light_count
    on_light = np.flatnonzero(lips.upper < light_count)
    partner[is_light] = on_light[_match_in_order(t_lower[is_light], t_upper[on_light])]
    others = np.setdiff1d(np.arange(len(lips.upper)), partner[is_light])
    partner[~is_light] = others[_match_in_order(t_lower[~is_light], t_upper[others])]
    goal = np.concatenate([half, half[partner]])
    gap = 0.075 * smoothstep(np.minimum(t_upper, 1 - t_upper), 0, 0.1)
    goal[:, 1] += np.concatenate([gap, -gap[partner]])
    rim = np.concatenate([lips.upper, lips.lower])
    return vertices + deformer.deform(rim, goal - vertices[rim], reach=14.0)


def _match_in_order(positions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return indices (n,) of n different others (m,), in order, that are nearest to increasing positions in total."""
    cost = np.abs(positions[:, None] - others)
    total = np.full((len(positions) + 1, len(others) + 1), np.inf)
    total[0] = 0.0
    for i in range(len(positions)):
        for j in range(len(others)):
            total[i + 1, j + 1] = min(total[i + 1, j], total[i, j] + cost[i, j])
    out, j = np.empty(len(positions), int), len(others)
    for i in range(len(positions) - 1, -1, -1):
        while total[i + 1, j] == total[i + 1, j - 1]:
            j -= 1
        j -= 1
        out[i] = j
    return out


def seal_shapes(shapes: Fields, vertices: np.ndarray, lips: Rim, deformer: LaplacianDeformer) -> None:
    """Correct the shapes that must not part the lips, and mouthClose, which closes them over any jaw; in place."""
    rim = np.concatenate([lips.upper, lips.lower])
    for name, offsets in shapes.items():
        if not name.startswith(PARTING):
            goal = meeting_offsets(lips, vertices, offsets)
            shapes[name] = offsets + deformer.deform(rim, goal - offsets[rim], reach=20.0)
    both = shapes["jawOpen"] + shapes["mouthClose"]
    goal = meeting_offsets(lips, vertices, both, share=0.75)
    # speakers lower both lips by some 2 mm at p, b and m, with the jaw some 4 mm down
    drop = np.interp(
        np.concatenate([chain_positions(c, vertices) for c in (lips.upper, lips.lower)]),
        chain_positions(lips.lower, vertices),
        shapes["jawOpen"][lips.lower, 1],
    )
    goal[:, 1] = SEALED_SHARE * drop
    shapes["mouthClose"] = shapes["mouthClose"] + deformer.deform(rim, goal - both[rim], reach=26.0)


def contact_point(vertices: np.ndarray, lips: Rim) -> np.ndarray:
    """Return the middle (3,) of the line along which the lips touch."""
    out: np.ndarray = vertices[lips.upper[np.abs(vertices[lips.upper, 0]).argmin()]]
    return out


def seat_teeth_and_tongue(points: dict[str, np.ndarray], shapes: dict[str, Fields], contact: np.ndarray) -> None:
    """Place the teeth behind the lips and the tongue between them; modifies `points` and the tongue's `shapes`.

    Args:
        points: Part → vertices (n, 3) of `upper_teeth`, `lower_teeth` and `tongue`.
        shapes: Part → shapes of the part.
        contact: Middle of the line along which the lips touch.
    """
    upper, lower, tongue = points["upper_teeth"], points["lower_teeth"], points["tongue"]
    upper += [0, contact[1] - UPPER_EDGE_MM - upper[:, 1].min(), contact[2] - TOOTH_CLEARANCE_MM - upper[:, 2].max()]
    front = lower[lower[:, 2] > lower[:, 2].max() - 8]
    lower += [
        0,
        contact[1] - UPPER_EDGE_MM + OVERBITE_MM - front[:, 1].max(),
        upper[:, 2].max() - 2.8 - lower[:, 2].max(),
    ]
    # MakeHuman's tongue fills the mouth: flatten it, move it behind the lower teeth, and attach it to the jaw
    edge = lower[lower[:, 2] > lower[:, 2].max() - 8][:, 1].max()
    back = tongue[:, 2].max() - tongue[:, 2]
    floor = tongue[:, 1].min()
    tongue[:, 1] = floor + (tongue[:, 1] - floor) * (0.5 + 0.12 * smoothstep(back, 10, 45))
    tip = back < 6
    tongue[:, 1] += edge - 2.6 - tongue[tip, 1].max()
    tongue[:, 2] += (lower[:, 2].max() - 5.5 - tongue[:, 2].max()) * (1 - 0.6 * smoothstep(back, 10, 60))
    for name in ("jawOpen", "jawForward", "jawLeft", "jawRight"):
        rigid = shapes["lower_teeth"][name].mean(0)
        keep = (1 - smoothstep(back, 8, 55))[:, None]
        shapes["tongue"][name] = keep * rigid + (1 - keep) * shapes["tongue"][name]
    # jawOpen rotates about the ears, so the incisors move farthest
    shapes["tongue"]["jawOpen"] = shapes["tongue"]["jawOpen"] * (1 - 0.25 * smoothstep(back, 8, 40))[:, None]


def make_labiodental(fields: LipFields, jaw: np.ndarray, jaw_drop: float, edge: np.ndarray, lips: Rim) -> np.ndarray:
    """Return mouthLabiodental (V, 3), for f and v: with the jaw lowered by 2.5 mm, the lower lip touches the teeth.

    Args:
        fields: Fields around the lips.
        jaw: (V, 3) jawOpen.
        jaw_drop: Descent of the lower incisors under jawOpen at weight 1.
        edge: (3,) middle of the edge of the upper incisors.
        lips: The line of contact.
    """
    contact = contact_point(fields.vertices, lips)
    lowered = jaw[lips.lower[len(lips.lower) // 2]] * (2.5 / jaw_drop)
    up = edge[1] + 0.6 - contact[1] - lowered[1]  # the rim of the lip covers the edges of the teeth from below
    back = edge[2] - 1.0 - contact[2] - lowered[2]
    return fields.profile(
        "lower",
        [
            (0, up, back),
            (4, up + 0.6, back + 0.6),
            (9, up + 0.8, 0.6 * back),
            (15, up, 0.1),
            (24, 0.6 * up, 0.4),
            (38, 0, 0),
        ],
        0.45,
    ) + fields.profile("upper", [(0, 1.5, 0.2), (8, 1.5, 0.1), (18, 1.0, -0.2), (30, 0, 0)], 0.5)


def tongue_shapes(tongue: np.ndarray, jaw: np.ndarray, jaw_drop: float, upper_teeth: np.ndarray) -> Fields:
    """Return the shapes of the tongue, offsets (n, 3) of its vertices.

    They are made for the jaw that each sound has: tip to the ridge behind the upper teeth (t d n l) with the jaw
    lowered by 3 mm, tip between the teeth (th) by 4 mm, and dorsum to the palate (k g ng).

    Args:
        tongue: (n, 3) neutral.
        jaw: (n, 3) jawOpen.
        jaw_drop: Descent of the lower incisors under jawOpen at weight 1.
        upper_teeth: (m, 3) neutral.
    """
    tip, top = tongue[:, 2].max(), tongue[:, 1].max()
    back = tip - tongue[:, 2]
    at_tip = back < 4
    incisors = upper_teeth[upper_teeth[:, 2] > upper_teeth[:, 2].max() - 5]
    edge, face = incisors[:, 1].min(), incisors[:, 2].max()
    jaw_at = lambda mm: -jaw[at_tip, 1].mean() * mm / jaw_drop  # noqa: E731 (mm)
    blade = 1 - smoothstep(back, 3, 30)
    # the underside stays on the floor of the mouth and slopes up to the tip: it is what one sees of t, d, n and l
    beside = np.abs(back[:, None] - back) < 5
    low = np.where(beside, tongue[:, 1], np.inf).min(1)
    high = np.where(beside, tongue[:, 1], -np.inf).max(1)
    height = (tongue[:, 1] - low) / np.maximum(high - low, 1e-6)
    follows = 1 - smoothstep(back, 1, 8) * (1 - smoothstep(height, 0.25, 0.8)) * 0.6
    rise = np.zeros_like(tongue)
    rise[:, 1] = (edge + 5.0 - tongue[at_tip, 1].max() + jaw_at(3.0)) * blade * follows
    rise[:, 2] = (face - 5.0 - tip) * blade
    between = np.zeros_like(tongue)
    between[:, 1] = (edge - 1.6 - tongue[at_tip, 1].mean() + jaw_at(4.0)) * (1 - smoothstep(back, 5, 34))
    between[:, 2] = (face + 3.0 - tip) * (1 - smoothstep(back, 10, 50))
    dorsum = np.zeros_like(tongue)
    dorsum[:, 1] = (edge + 14 - top) * np.exp(-(((back - 34) / 14) ** 2))
    dorsum[:, 2] = -3.0 * (1 - smoothstep(back, 2, 30))
    return {"tongueTipUp": rise, "tongueInterdental": between, "tongueDorsumUp": dorsum}
