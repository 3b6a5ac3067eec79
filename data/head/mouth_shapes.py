"""The shapes of the mouth: displacement fields for the muscles around the lips, in mm at weight 1.

What each shape does follows Apple's description of it. Distances across the lips: the vermilion ends about 9 mm
above and 11 mm below the line of contact; the philtrum ends at about 20 mm, the fold above the chin lies at 16 mm and
the chin's tip at 33 mm.
"""

from __future__ import annotations

import numpy as np
from lip_fields import LipFields

Fields = dict[str, np.ndarray]


def make_mouth_shapes(f: LipFields) -> Fields:
    """Return the shapes of the mouth, name → offsets (V, 3)."""
    out = _rounding(f) | _lips_alone(f)
    for side, sign in (("Left", 1), ("Right", -1)):
        out |= {f"{name}{side}": offsets for name, offsets in _one_side(f, sign).items()}
    return out


def _rounding(f: LipFields) -> Fields:
    pucker = (
        f.stretch(-0.34, 22)
        + f.corners((-1.9, 1.2, 5.5), 13)
        + f.profile(
            "upper",
            [(0, 0, 8.0), (5, 0.3, 8.5), (10, 2.2, 8.2), (16, 2.8, 6.6), (24, 0.5, 2.0), (34, -0.5, -0.8)],
            0.35,
        )
        + f.profile(
            "lower",
            [(0, 0, 8.0), (5, -0.6, 8.8), (11, -1.6, 7.2), (16, -0.6, 4.4), (26, 1.2, 1.4), (36, 1.0, 0.6)],
            0.35,
        )
    )
    funnel = (
        f.stretch(-0.12, 18)
        + f.corners((-1.2, 0.0, 4.1), 15)
        + f.brush((32, 2, -18), (-3.8, 2.8, 3.3), 16)
        + f.brush((40, -20, -26), (-0.8, 2.1, 3.2), 16)
        + f.profile(
            "upper",
            [(0, 2.95, 4.2), (5, 2.9, 6.8), (10, 4.2, 7.3), (16, 4.0, 5.9), (24, 1.4, 1.8), (34, 0.2, -1.3)],
            0.6,
        )
        + f.profile(
            "lower",
            [(0, -6.9, 4.6), (5, -6.9, 6.8), (11, -7.2, 5.4), (16, -5.2, 2.7), (26, -3.2, -0.7), (40, -3.1, -0.9)],
            0.7,
        )
    )
    protrude = (
        f.stretch(-0.10, 22)
        + f.corners((-0.6, 0.2, 4.4), 13)
        + f.profile("upper", [(0, 0, 7.6), (6, 0.6, 8.0), (12, 1.0, 6.4), (20, 0.4, 2.6), (32, 0, 0)], 0.5)
        + f.profile("lower", [(0, 0, 7.6), (6, -0.6, 8.0), (12, -0.8, 5.8), (18, 0, 2.8), (30, 0.4, 0.4)], 0.5)
    )
    return {"mouthPucker": pucker, "mouthFunnel": funnel, "mouthProtrude": protrude}


def _lips_alone(f: LipFields) -> Fields:
    roll_lower = f.profile(
        "lower",
        [
            (0, 0.2, -8.6),
            (4, 2.4, -8.2),
            (9, 5.2, -6.0),
            (14, 6.4, -2.0),
            (20, 5.8, 1.6),
            (27, 3.6, 3.2),
            (38, 0.4, 0.8),
        ],
        0.9,
    ) + f.corners((0.2, 0.4, -0.8), 10)
    roll_upper = f.profile(
        "upper",
        [
            (0, 1.4, -7.0),
            (4, -0.4, -7.2),
            (9, -2.8, -6.6),
            (14, -4.4, -4.8),
            (20, -4.8, -2.4),
            (28, -2.4, -0.8),
            (38, 0, -0.6),
        ],
        0.4,
    ) + f.corners((0.6, 0.2, -1.6), 10)
    shrug_lower = f.profile(
        "lower", [(0, 5.0, 4.6), (8, 5.4, 4.8), (16, 6.4, 4.4), (26, 8.4, 2.6), (38, 8.2, 2.0), (52, 3.0, 0.6)], 0.6
    )
    shrug_lower += f.profile("upper", [(0, 2.2, 0.6), (8, 1.8, 0.4), (16, 0.8, 0), (24, 0, 0)], 0.7)
    shrug_upper = f.profile(
        "upper", [(0, 3.2, 0.9), (8, 4.4, 1.1), (14, 4.4, 0.4), (20, 3.2, 0), (28, 1.8, 0), (38, 0, 0)], 0.9
    )
    return {
        "mouthRollLower": roll_lower,
        "mouthRollUpper": roll_upper,
        "mouthShrugLower": shrug_lower,
        "mouthShrugUpper": shrug_upper,
    }


def _one_side(f: LipFields, sign: int) -> Fields:
    lower_down = f.profile(
        "lower",
        [(0, -6.8, -1.4), (10, -6.6, -1.7), (16, -6.0, -2.3), (24, -4.4, -2.2), (36, -2.6, -1.4), (52, -0.4, -0.3)],
        0.85,
        0.5,
        sign,
    ) + f.one_brush(sign, (20, -12, -10), (1.4, -0.3, 0), 11)
    upper_up = (
        f.profile(
            "upper",
            [(0, 3.6, 0.0), (8, 4.0, 0.1), (14, 4.0, -0.7), (20, 3.6, -1.1), (30, 2.2, -0.8), (44, 0.8, 0)],
            0.32,
            0.9,
            sign,
        )
        + f.corner(sign, (0.0, 1.4, 0.3), 14)
        + f.one_brush(sign, (24, 25, -6), (0.5, 3.0, -0.4), 17)
    )
    press = (
        f.profile(
            "upper",
            [
                (0, 0.6, 0.4),
                (6, 0.2, -0.1),
                (12, -0.6, -0.5),
                (18, -0.5, 0.7),
                (28, 0, 0.1),
                (40, -0.2, -0.8),
                (54, -0.2, 0),
            ],
            0.6,
            0.8,
            sign,
        )
        + f.profile(
            "lower",
            [
                (0, 1.2, 0.8),
                (6, 1.1, 0.6),
                (12, 2.2, 1.1),
                (18, 2.4, 1.7),
                (28, 2.8, 1.3),
                (40, 2.6, 1.4),
                (54, 1.5, 1.1),
            ],
            0.6,
            0.8,
            sign,
        )
        + f.corner(sign, (-0.3, 0.8, 0.3), 14)
        + f.one_brush(sign, (30, -24, -18), (-0.4, 0.8, 1.3), 14)
        + f.one_brush(sign, (34, -6, -16), (0.5, 0.4, -0.1), 14)
        + f.one_brush(sign, (28, 20, -8), (0.7, -0.4, 0.6), 14)
    )
    stretch = (
        f.stretch(0.22, 18, sign)
        + f.corner(sign, (2.0, -1.6, -4.6), 17)
        + f.one_brush(sign, (36, -4, -22), (2.8, 0.6, -0.2), (18, 24, 24))
        + f.profile("upper", [(0, -0.2, -0.4), (10, -0.6, -1.4), (20, -0.6, -1.0), (32, 0, 0)], 0.3, 0.8, sign)
        + f.profile(
            "lower", [(0, 0, -0.6), (10, 0.2, -1.4), (20, 1.4, -0.6), (30, 1.8, 0.4), (44, 0, 0)], 0.6, 0.8, sign
        )
    )
    frown = (
        f.corner(sign, (1.4, -3.4, -1.6), 15)
        + f.one_brush(sign, (33, 0, -14), (0.5, -2.4, -0.2), 14)
        + f.one_brush(sign, (26, 18, -10), (-0.3, -1.6, -0.8), 14)
        + f.one_brush(sign, (24, -16, -10), (0.0, 0.2, 1.4), 12)
        + f.profile("upper", [(0, -0.6, -0.3), (10, -0.9, -0.7), (22, -0.8, -0.4), (34, 0, 0)], 0.5, 0.8, sign)
        + f.profile(
            "lower", [(0, -0.6, -0.2), (12, -0.2, 0.2), (24, 0.4, 0.9), (38, 0.6, 1.3), (52, 0, 0)], 0.6, 0.8, sign
        )
    )
    dimple = (
        f.stretch(0.06, 16, sign)
        + f.corner(sign, (0.4, 2.4, -5.6), 8)
        + f.one_brush(sign, (30, 3, -14), (-1.2, 0.6, 2.0), 9)
        + f.profile(
            "lower",
            [(0, 0.4, 0), (8, 1.2, -0.6), (14, 2.2, -1.8), (22, 2.0, -1.4), (34, 1.4, -0.8), (46, 0, 0)],
            0.3,
            0.9,
            sign,
        )
    )
    smile = (
        f.stretch(0.14, 20, sign)
        + f.corner(sign, (3.4, 5.4, -4.6), 20)
        + f.one_brush(sign, (32, 14, -18), (2.4, 4.0, 1.6), 20)
        + f.profile(
            "both", [(0, 3.0, -0.6), (10, 3.0, -1.6), (20, 2.4, -1.6), (32, 1.4, -0.4), (46, 0, 0)], 0.35, 0.9, sign
        )
    )
    return {
        "mouthLowerDown": lower_down,
        "mouthUpperUp": upper_up,
        "mouthPress": press,
        "mouthStretch": stretch,
        "mouthFrown": frown,
        "mouthDimple": dimple,
        "mouthSmile": smile,
    }
