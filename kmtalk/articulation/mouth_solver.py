"""Solves for the rig weights that give the mouth wanted measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.face.mouth import MouthMeasurements, MouthMeasurer
from kmtalk.face.rig import Rig

GRADIENT_STEPS = 250  # iterations of the projected gradient method


@dataclass(frozen=True)
class SolverPrior:
    """Selects one of the many weight vectors that give the same measurements.

    Attributes:
        shape_groups: Groups of shapes that move together, as (name, weight by shape, cost). Groups of low cost are
            preferred.
        channel_weights: Importance of an error of one millimetre in aperture, width, protrusion and jaw.
        iterations: Number of times that the result is measured on the rig and the goal corrected.
    """

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
"""Prior for rule-based motion, whose targets are approximate: the jaw does most of the opening."""

TRACKING_PRIOR = SolverPrior(
    shape_groups=(
        *((name, shapes, 0.1 * cost) for name, shapes, cost in RULES_PRIOR.shape_groups),
        ("upper lip", dict.fromkeys(_UPPER, 1.0), 1.5),  # for lips that open wide while the chin hardly drops
    ),
    channel_weights=(1.6, 1.0, 0.3, 1.2),
    iterations=8,
)
"""Prior for tracked lips: the measurements are met closely."""


class MouthSolver:
    """Finds weights of the mouth shapes that give a wanted aperture, width, protrusion and jaw drop.

    The unknowns of a frame are the weights of the prior's shape groups, all in [0, 1]: jaw drop with open lips, jaw
    drop with closed lips (jawOpen and mouthClose together), lips apart, and shapes that round and spread the lips.
    None of the groups closes the lips. For an aperture of zero all opening groups are therefore zero, and all lip
    pairs meet, not only the middle one.

    Args:
        rig: The rig to solve for.
        prior: Shape groups, their costs and the importance of each measurement.
    """

    def __init__(self, rig: Rig, prior: SolverPrior = RULES_PRIOR) -> None:
        self._rig, self._prior = rig, prior
        self._measurer = MouthMeasurer.from_template(rig.template)
        self._offsets = rig.offsets[:, self._measurer.vertex_indices].astype(np.float64)
        self._groups = np.zeros((len(prior.shape_groups), len(rig.shape_names)))
        for row, (_, shapes, _) in enumerate(prior.shape_groups):
            for name, amount in shapes.items():
                self._groups[row, rig.index[name]] = amount
        # (groups, 4): derivative of each measurement by each group's weight, from a finite difference
        step = 0.25
        self._jacobian = np.stack([(self.measure(step * group[None]).as_array[0]) / step for group in self._groups])
        self._jacobian[:, 0] = [self._aperture_slope(group) for group in self._groups]

    def _aperture_slope(self, group: np.ndarray) -> float:
        """Return the signed derivative of the aperture in mm by the weight of a group; `measure` has no sign."""
        gap = (self._offsets[:, 1] - self._offsets[:, 0]) @ self._measurer.down
        return float(group @ gap) * self._measurer.mm_per_unit

    def measure(self, weights: np.ndarray) -> MouthMeasurements:
        """Measure the mouth of the rig with weights (N, R), R being the number of shapes."""
        return self._measurer.measure(self._measurer.neutral + np.einsum("nr,rpk->npk", weights, self._offsets))

    def solve(self, target: MouthMeasurements, fixed_weights: np.ndarray | None = None) -> np.ndarray:
        """Find weights whose measurements are close to a target.

        Args:
            target: Wanted measurements of N frames, in mm.
            fixed_weights: (N, R) weights of other shapes, which are kept; their effect on the mouth is taken
                into account.

        Returns:
            Weights (N, R) in [0, 1], including the fixed ones.
        """
        fixed = np.zeros((len(target.aperture), len(self._rig.shape_names))) if fixed_weights is None else fixed_weights
        goal = target.as_array.copy()
        goal[:, 0] = np.maximum(goal[:, 0], 0.0)
        fixed_change = self.measure(fixed).as_array
        fixed_change[:, 0] -= self._measurer.rest[0] * self._measurer.mm_per_unit
        wanted = goal - fixed_change
        cost = np.array([c for _, _, c in self._prior.shape_groups])
        importance = np.array(self._prior.channel_weights)
        slope = self._jacobian * importance
        hessian = slope @ slope.T + np.diag(cost)
        rate = 1.0 / np.linalg.eigvalsh(hessian).max()
        unknown = np.zeros((len(wanted), len(self._prior.shape_groups)))
        weights = fixed
        for _ in range(self._prior.iterations):
            right = (wanted * importance) @ slope.T
            unknown = _projected_gradient(hessian, right, unknown, rate)
            weights = np.clip(fixed + unknown @ self._groups, 0.0, 1.0)
            wanted = wanted + 0.8 * (goal - self.measure(weights).as_array)
            # for closed lips, keep a rounding error of the goal from activating an opening shape
            wanted[:, 0] = np.where(goal[:, 0] <= 0.3, -1.0, wanted[:, 0])
        closure = np.clip(1 - goal[:, 0] / 0.3, 0, 1)[:, None]
        opening = self._jacobian[:, 0] > 0.5
        sealed = unknown.copy()
        sealed[:, 1] = unknown[:, 0] + unknown[:, 1]  # the same jaw drop with closed lips
        sealed[:, opening] = 0.0
        unknown = (1 - closure) * unknown + closure * sealed
        return np.clip(fixed + unknown @ self._groups, 0.0, 1.0)


def _projected_gradient(hessian: np.ndarray, right: np.ndarray, start: np.ndarray, rate: float) -> np.ndarray:
    """Solve least squares in the box [0, 1] for all frames at once by accelerated projected gradient."""
    x, y, momentum = start, start, 1.0
    for _ in range(GRADIENT_STEPS):
        x_next = np.clip(y - rate * (y @ hessian - right), 0.0, 1.0)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = x_next + (momentum - 1) / next_momentum * (x_next - x)
        x, momentum = x_next, next_momentum
    return x
