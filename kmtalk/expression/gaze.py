"""Where the eyes look: fixations, and the quick jumps between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from kmtalk.face.joints import EYE_DEGREES

Gaze = Literal["camera", "wander"]

FIXATION_SECONDS = (0.25, 1.1, 3.0)  # least, median and greatest duration of a fixation
JUMP_SECONDS, JUMP_SECONDS_PER_DEGREE = 0.021, 0.0022  # duration of a saccade (Bahill et al. 1975)
CAMERA_DEGREES = 0.8  # standard deviation of fixations on a face: between its eyes and mouth
WANDER_DEGREES = (9.0, 5.0)  # standard deviation of glances aside, across and up
MOST_WANDER_DEGREES = (20.0, 12.0)  # the eyes turn no further alone
WANDER_SHARE = 0.45  # of fixations that are glances aside while speaking
LISTENING_WANDER_SHARE = 0.3
"""Share of glances aside while listening; some are so small that they still meet the other's face. People look at the
other for some 75 % of the time that they listen, and for some 40 % of the time that they speak (Argyle & Cook 1976:
Gaze and mutual gaze)."""


def gaze_direction(
    times: np.ndarray, gaze: Gaze, rng: np.random.Generator, wander_share: float = WANDER_SHARE
) -> np.ndarray:
    """Return where the eyes look, in space: degrees to the left and up of the camera.

    Args:
        times: (N,) frame times in seconds.
        gaze: "camera": at the viewer, with the small jumps of the eyes on a face; "wander": with glances aside.
        rng: Source of the random variation.
        wander_share: Share of the fixations that are glances aside where the gaze wanders.

    Returns:
        (N, 2).
    """
    return GazePath(gaze, rng, wander_share).at(times)


class GazePath:
    """Where the eyes look, from now on for as long as is asked for.

    Args:
        gaze: See `gaze_direction`.
        rng: See `gaze_direction`.
        wander_share: See `gaze_direction`.
    """

    def __init__(self, gaze: Gaze, rng: np.random.Generator, wander_share: float = WANDER_SHARE) -> None:
        self._gaze, self._rng, self._wander_share = gaze, rng, wander_share
        self._now, self._target = 0.0, np.zeros(2)
        self._base = np.zeros(2)  # where the jumps that are over have led
        self._jumps: list[tuple[float, float, np.ndarray]] = []  # start, duration, and by how much

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return degrees to the left and up (N, 2) at rising times (N,), none before those of an earlier call."""
        low, median, high = FIXATION_SECONDS
        while len(times) and self._now < times[-1]:
            self._now += float(np.clip(self._rng.lognormal(np.log(median), 0.6), low, high))
            aside = self._gaze == "wander" and self._rng.random() < self._wander_share
            following = self._rng.normal(size=2) * (WANDER_DEGREES if aside else (CAMERA_DEGREES, CAMERA_DEGREES))
            following = np.clip(following, np.negative(MOST_WANDER_DEGREES), MOST_WANDER_DEGREES)
            jump = JUMP_SECONDS + JUMP_SECONDS_PER_DEGREE * float(np.linalg.norm(following - self._target))
            self._jumps.append((self._now, jump, following - self._target))
            self._target = following
        out = np.tile(self._base, (len(times), 1))
        for start, duration, turn in self._jumps:
            part = slice(*np.searchsorted(times, (start, start + duration)))
            share = np.clip((times[part] - start) / duration, 0, 1)[:, None]
            out[part] += share * share * (3 - 2 * share) * turn
            out[part.stop :] += turn
        while len(times) and self._jumps and sum(self._jumps[0][:2]) < times[-1]:
            self._base = self._base + self._jumps.pop(0)[2]
        return out


def gaze_weights(direction: np.ndarray, head: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights (N,) of the eyes' shapes.

    The eyes turn against the head, so that the gaze stays where it is in space.

    Args:
        direction: Gaze in degrees to the left and up (N, 2).
        head: Pitch, yaw and roll of the head in degrees (N, 3).

    Returns:
        Weights by shape name.
    """
    left, up = direction[:, 0] - head[:, 1], direction[:, 1] - head[:, 0]
    return _eye_weights({"Left": left, "Right": left}, {"Left": up, "Right": up})


def _eye_weights(left: Mapping[str, np.ndarray], up: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights by shape name of eyes that are turned by degrees (N,) to the left and up, by side."""
    out = {}
    for side in ("Left", "Right"):
        outwards = left[side] if side == "Left" else -left[side]
        out[f"eyeLookOut{side}"] = np.clip(outwards / EYE_DEGREES["Out"], 0, 1)
        out[f"eyeLookIn{side}"] = np.clip(-outwards / EYE_DEGREES["In"], 0, 1)
        out[f"eyeLookUp{side}"] = np.clip(up[side] / EYE_DEGREES["Up"], 0, 1)
        out[f"eyeLookDown{side}"] = np.clip(-up[side] / EYE_DEGREES["Down"], 0, 1)
    return out


def turn_eyes(weights: np.ndarray, shape_names: tuple[str, ...], left: float, up: float) -> np.ndarray:
    """Turn the eyes of a motion, as for a camera that does not stand in front.

    Args:
        weights: Weights (N, R).
        shape_names: Names of the R shapes; without the eyes' shapes nothing is turned.
        left: Degrees to the character's left.
        up: Degrees up.

    Returns:
        Weights (N, R).
    """
    index = {name: k for k, name in enumerate(shape_names)}
    if not all(f"eyeLook{way}{side}" in index for way in EYE_DEGREES for side in ("Left", "Right")):
        return weights

    def turned(side: str, way: str, opposite: str) -> np.ndarray:
        positive, negative = weights[:, index[f"eyeLook{way}{side}"]], weights[:, index[f"eyeLook{opposite}{side}"]]
        return np.asarray(EYE_DEGREES[way] * positive - EYE_DEGREES[opposite] * negative)

    lefts = {"Left": turned("Left", "Out", "In") + left, "Right": left - turned("Right", "Out", "In")}
    ups = {side: turned(side, "Up", "Down") + up for side in ("Left", "Right")}
    out = weights.copy()
    for name, values in _eye_weights(lefts, ups).items():
        out[:, index[name]] = values
    return out
