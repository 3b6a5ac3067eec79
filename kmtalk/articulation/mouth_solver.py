"""From what the mouth should measure to rig weights, checked on the rig itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.face.mouth import MouthMeasurements, MouthMeasurer
from kmtalk.face.rig import Rig

GRADIENT_STEPS = 250  # of projected gradient


@dataclass(frozen=True)
class SolverPrior:
    """How a mouth is made where many ways lead to one measure. ``shape_groups`` are shapes that move together,
    and what using them costs (the cheap are preferred); ``channel_weights`` is how much a millimetre matters:
    aperture, width, protrusion, jaw; ``iterations`` how often the result is measured and the aim corrected."""

    shape_groups: tuple[tuple[str, dict[str, float], float], ...]
    channel_weights: tuple[float, float, float, float]
    iterations: int


_UPPER, _LOWER = ("mouthUpperUpLeft", "mouthUpperUpRight"), ("mouthLowerDownLeft", "mouthLowerDownRight")

RULES_PRIOR = SolverPrior(
    shape_groups=(
        ("open jaw", {"jawOpen": 1.0}, 0.02),
        ("sealed jaw", {"jawOpen": 1.0, "mouthClose": 1.0}, 0.03),
        ("lips apart", dict.fromkeys(_UPPER, 0.6) | dict.fromkeys(_LOWER, 1.0), 2.5),
        ("funnel", {"mouthFunnel": 1.0}, 0.1),
        ("pucker", {"mouthPucker": 1.0}, 1.2),
        ("protrude", {"mouthProtrude": 1.0}, 0.8),
        ("stretch", {"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0}, 4.0),
    ),
    channel_weights=(1.6, 1.0, 0.8, 0.6),
    iterations=3,
)
"""For the rules, which aim at what they know roughly: the jaw does most."""

TRACKING_PRIOR = SolverPrior(
    shape_groups=(
        *((name, shapes, 0.1 * cost) for name, shapes, cost in RULES_PRIOR.shape_groups),
        ("upper lip", dict.fromkeys(_UPPER, 1.0), 1.5),  # where lips open wide and the chin hardly drops
    ),
    channel_weights=(1.6, 1.0, 0.3, 1.2),
    iterations=8,
)
"""For lips that were tracked: what was measured is to be met."""


class MouthSolver:
    """Finds weights of the mouth's shapes that give a wanted aperture, width, protrusion and jaw.

    Unknowns per frame, all in [0, 1]: the jaw that opens the lips, the jaw that drops behind closed
    lips (jawOpen and mouthClose together), lips raised and lowered, and the shapes that round and
    spread. None of these can close lips, so an aperture of zero is met by none of the opening ones,
    and all lip pairs meet, not the middle one alone.
    """

    def __init__(self, rig: Rig, prior: SolverPrior = RULES_PRIOR) -> None:
        self._rig, self._taste = rig, prior
        self._ruler = MouthMeasurer.from_template(rig.template)
        self._offsets = rig.offsets[:, self._ruler.vertex_indices].astype(np.float64)
        self._mix = np.zeros((len(prior.shape_groups), len(rig.names)))
        for row, (_, shapes, _) in enumerate(prior.shape_groups):
            for name, amount in shapes.items():
                self._mix[row, rig.index[name]] = amount
        # slope of each measure with each unknown, from the shapes at small weight
        step = 0.25
        self._slope = np.stack([(self.measure(step * m[None]).as_array[0]) / step for m in self._mix])  # (K, 4)
        self._slope[:, 0] = [self._aperture_slope(m) for m in self._mix]

    def _aperture_slope(self, mix: np.ndarray) -> float:
        gap = (self._offsets[:, 1] - self._offsets[:, 0]) @ self._ruler.down
        return float(mix @ gap) * self._ruler.mm_per_unit

    def measure(self, weights: np.ndarray) -> MouthMeasurements:
        """What the rig's own lips do under weights (N, R)."""
        return self._ruler.measure(self._ruler.neutral + np.einsum("nr,rpk->npk", weights, self._offsets))

    def solve(self, target: MouthMeasurements, fixed_weights: np.ndarray | None = None) -> np.ndarray:
        """Weights (N, R) whose measures come close to ``target``.

        ``fixed_weights`` (N, R) are weights of further shapes that stay as given; what they do to the mouth
        is reckoned with.
        """
        fixed = np.zeros((len(target.aperture), len(self._rig.names))) if fixed_weights is None else fixed_weights
        goal = target.as_array.copy()
        goal[:, 0] = np.maximum(goal[:, 0], 0.0)
        known = self.measure(fixed).as_array
        known[:, 0] -= self._ruler.rest[0] * self._ruler.mm_per_unit
        wanted = goal - known
        cost = np.array([c for _, _, c in self._taste.shape_groups])
        importance = np.array(self._taste.channel_weights)
        slope = self._slope * importance
        hessian = slope @ slope.T + np.diag(cost)
        rate = 1.0 / np.linalg.eigvalsh(hessian).max()
        unknown = np.zeros((len(wanted), len(self._taste.shape_groups)))
        weights = fixed
        for _ in range(self._taste.iterations):
            right = (wanted * importance) @ slope.T
            unknown = _projected_gradient(hessian, right, unknown, rate)
            weights = np.clip(fixed + unknown @ self._mix, 0.0, 1.0)
            wanted = wanted + 0.8 * (goal - self.measure(weights).as_array)
            # closed is closed: no opening shape may answer to a rounding error of the aim
            wanted[:, 0] = np.where(goal[:, 0] <= 0.3, -1.0, wanted[:, 0])
        shut = np.clip(1 - goal[:, 0] / 0.3, 0, 1)[:, None]
        opening = self._slope[:, 0] > 0.5
        sealed = unknown.copy()
        sealed[:, 1] = unknown[:, 0] + unknown[:, 1]  # the same jaw, lips together
        sealed[:, opening] = 0.0
        unknown = (1 - shut) * unknown + shut * sealed
        return np.clip(fixed + unknown @ self._mix, 0.0, 1.0)


def _projected_gradient(hessian: np.ndarray, right: np.ndarray, start: np.ndarray, rate: float) -> np.ndarray:
    """Least squares in the box [0, 1] for all frames at once (accelerated projected gradient)."""
    x, y, momentum = start, start, 1.0
    for _ in range(GRADIENT_STEPS):
        following = np.clip(y - rate * (y @ hessian - right), 0.0, 1.0)
        faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = following + (momentum - 1) / faster * (following - x)
        x, momentum = following, faster
    return x
