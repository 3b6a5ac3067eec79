"""Shapes of brows, nose, cheeks and lids: brushes of displacement and lids that slide over the eyeballs, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from eyelids import Eye, Lids
from sculpt import smoothstep

Fields = dict[str, np.ndarray]

LOOKS = {  # rotation of the eyeball in degrees: up, and outwards
    "eyeLookUp": (20.0, 0.0),
    "eyeLookDown": (-28.0, 0.0),
    "eyeLookOut": (0.0, 25.0),
    "eyeLookIn": (0.0, -25.0),
}
LOOK_LIDS = {"eyeLookUp": (9.0, 3.0), "eyeLookDown": (-19.0, -9.0)}  # degrees that the upper and lower lid follow


class FaceBrushes:
    """Bumps of displacement placed relative to an eye."""

    def __init__(self, vertices: np.ndarray, outer: np.ndarray, eyes: dict[str, Eye]) -> None:
        self.vertices, self.eyes = vertices, eyes
        self.on_skin = np.zeros(len(vertices))
        self.on_skin[outer] = 1.0
        front = min(e.centre[2] for e in eyes.values())
        self.front = smoothstep(vertices[:, 2], front - 60, front - 30)

    def __call__(
        self, sign: int, place: Sequence[float], shift: Sequence[float], radius: float | Sequence[float]
    ) -> np.ndarray:
        """Return the offsets (V, 3) of one bump on the left (1) or right (-1) side.

        Args:
            sign: 1 or -1.
            place: Outwards from the midline, above and in front of the centre of the eye.
            shift: Displacement outwards, up and forward.
            radius: Standard distance, one or per axis.
        """
        centre = self.eyes["left" if sign > 0 else "right"].centre
        goal = np.array([place[0] * sign, centre[1] + place[1], centre[2] + place[2]])
        away = (self.vertices - goal) / np.broadcast_to(np.array(radius, float), 3)
        side = smoothstep(sign * self.vertices[:, 0], -12, 8)
        weight = np.exp(-(away**2).sum(1)) * self.on_skin * self.front * side
        out: np.ndarray = weight[:, None] * (np.array(shift) * [sign, 1, 1])
        return out


def make_face_shapes(brush: FaceBrushes, lids: dict[str, Lids], source: Fields) -> Fields:
    """Return the shapes above the mouth, name → offsets (V, 3); `source` are MakeHuman's."""
    out: Fields = {}
    for side, sign in (("Left", 1), ("Right", -1)):
        lid = lids[side.lower()]
        out[f"browDown{side}"] = (
            brush(sign, (20, 19, 8), (-2.2, -2.6, 1.2), (13, 11, 30))
            + brush(sign, (38, 18, 2), (-2.6, -2.6, 2.0), (16, 12, 30))
            + brush(sign, (26, 38, 6), (-0.8, -1.4, 0.9), (22, 16, 40))
        )
        out[f"browOuterUp{side}"] = (
            brush(sign, (40, 19, 2), (1.4, 6.4, -1.4), (22, 14, 30))
            + brush(sign, (24, 19, 8), (0.4, 1.6, 0.0), (10, 12, 30))
            + brush(sign, (34, 36, 4), (0.8, 2.0, -0.2), (24, 16, 40))
        )
        out[f"noseSneer{side}"] = (
            brush(sign, (15, -36, 16), (0.8, 2.8, 1.2), 9)
            + brush(sign, (26, -38, 10), (-0.6, 5.2, 1.6), 17)
            + brush(sign, (34, -20, 4), (-0.5, 2.6, 1.2), 15)
            + brush(sign, (11, -16, 16), (-0.4, 2.0, 0.8), 11)
            + brush(sign, (14, -54, 22), (0.2, 2.6, 0.0), (14, 9, 20))
            + brush(sign, (20, 18, 8), (-0.4, -2.4, 0.0), (18, 14, 30))
        )
        out[f"cheekSquint{side}"] = (
            brush(sign, (46, -28, 0), (-0.6, 4.6, 1.9), (24, 22, 40))
            + brush(sign, (26, -18, 6), (-0.4, 1.4, 0.6), (12, 11, 30))
            + brush(sign, (26, -46, 10), (0.6, 1.0, -0.4), 14)
            + lid.moved(-3.0, 9.0)
        )
        out[f"eyeSquint{side}"] = lid.moved(-7.0, 15.0) + (brush(sign, (30, -16, 6), (-1.6, 1.6, 0.4), (18, 10, 30)))
        out[f"eyeWide{side}"] = lid.moved(11.0, -4.0) + (brush(sign, (30, 19, 6), (0, 1.0, 0), (22, 10, 30)))
        out[f"eyeBlink{side}"] = lid.closed()
        for name, (up, lower) in LOOK_LIDS.items():
            out[f"{name}{side}"] = lid.moved(up, lower)
        for name, shift in (("eyeLookOut", 1.6), ("eyeLookIn", -1.6)):
            out[f"{name}{side}"] = lid.moved(1.5, 0.6) + brush(
                sign, (sign * lid.eye.centre[0], 0, 12), (shift, 0, 0), (15, 10, 14)
            )
    inner = sum(
        brush(sign, (14, 20, 8), (0.1, 1.2, 0.0), (24, 20, 30)) + brush(sign, (0, 6, 12), (0, 1.2, 0), (10, 12, 20))
        for sign in (1, -1)
    )
    out["browInnerUp"] = source["browInnerUp"] + inner
    puff = sum(
        brush(sign, (26, -48, 8), (0.4, 0.6, 4.0), (22, 18, 30)) + brush(sign, (44, -46, -10), (2.0, 0.4, 0.6), 18)
        for sign in (1, -1)
    )
    out["cheekPuff"] = source["cheekPuff"] + puff
    return out
