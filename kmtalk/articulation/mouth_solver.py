"""Solves for the rig weights that give the mouth wanted measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.face.mouth import MouthMeasurements, MouthMeasurer
from kmtalk.face.rig import Rig

GRADIENT_STEPS = 250  # iterations of the projected gradient method
CONTACT_MM = 0.3  # mm of aperture below which a target means contact
MOST_EXTRA_CLOSURE = 0.12  # by which mouthClose may exceed jawOpen where the lips are parted


@dataclass(frozen=True)
class MouthTarget:
    """Wanted measurements of a mouth over N frames, each (N,) in millimetres; see `MouthMeasurements`.

    Attributes:
        aperture: Gap between the inner lips; 0 for contact.
        upper_lip: Rise of the upper lip. The lower lip drops by the rest of the aperture.
        width: Distance of the corners of the mouth, relative to rest.
        protrusion: Forward displacement of the lips.
        jaw: Drop of the lower incisors.
    """

    aperture: np.ndarray
    upper_lip: np.ndarray
    width: np.ndarray
    protrusion: np.ndarray
    jaw: np.ndarray

    @property
    def as_array(self) -> np.ndarray:
        """The target in the order of the solver's channels, (N, 6)."""
        lower = self.aperture - self.upper_lip
        return np.stack([self.aperture, self.upper_lip, lower, self.width, self.protrusion, self.jaw], axis=1)


@dataclass(frozen=True)
class SolverPrior:
    """Selects one of the many weight vectors that give the same measurements.

    Attributes:
        shape_groups: Groups of shapes that move together, as (weight by shape, cost). Groups of low cost are preferred.
        channel_weights: Importance of an error of one millimetre in aperture, upper lip, lower lip, width, protrusion
            and jaw.
        iterations: Number of times that the result is measured on the rig and the goal corrected.
    """

    shape_groups: tuple[tuple[dict[str, float], float], ...]
    channel_weights: tuple[float, float, float, float, float, float]
    iterations: int


def _both(name: str) -> dict[str, float]:
    return {f"{name}Left": 1.0, f"{name}Right": 1.0}


_GROUPS: tuple[tuple[dict[str, float], float], ...] = (
    ({"jawOpen": 1.0}, 0.1),
    ({"mouthClose": 1.0}, 60.0),
    (_both("mouthLowerDown"), 1.0),
    (_both("mouthUpperUp"), 1.2),
    ({"mouthFunnel": 1.0}, 0.6),
    ({"mouthPucker": 1.0}, 1.2),
    ({"mouthProtrude": 1.0}, 0.8),
    (_both("mouthStretch"), 4.0),
)
_JAW, _CLOSE = 0, 1  # rows of `_GROUPS`

RULES_PRIOR = SolverPrior(_GROUPS, (1.6, 0.7, 0.7, 1.0, 0.8, 1.2), iterations=3)
"""Prior for rule-based motion, whose targets are approximate."""

TRACKING_PRIOR = SolverPrior(
    tuple((shapes, 0.3 * cost) for shapes, cost in _GROUPS), (1.6, 1.0, 1.0, 1.0, 0.4, 0.8), iterations=6
)
"""Prior for tracked lips: the measurements are met closely."""


class MouthSolver:
    """Finds weights of the mouth shapes that give a wanted mouth.

    The unknowns of a frame are the weights of the prior's shape groups, all in [0, 1]. Where the target is contact, the
    jaw keeps its drop and mouthClose equals jawOpen, which seals all lip pairs and not only the middle one; shapes that
    part the lips are zero.

    Args:
        rig: The rig to solve for.
        prior: Shape groups, their costs and the importance of each measurement.
    """

    def __init__(self, rig: Rig, prior: SolverPrior = RULES_PRIOR) -> None:
        self._rig, self._prior = rig, prior
        self._measurer = MouthMeasurer.from_template(rig.template)
        self._offsets = rig.offsets[:, self._measurer.vertex_indices].astype(np.float64)
        self._groups = np.zeros((len(prior.shape_groups), len(rig.shape_names)))
        for row, (shapes, _) in enumerate(prior.shape_groups):
            for name, amount in shapes.items():
                self._groups[row, rig.index[name]] = amount
        # (groups, 6): derivative of each channel by each group's weight, from a finite difference
        step = 0.25
        self._jacobian = np.stack([self._channels(step * group[None])[0] / step for group in self._groups])

    def _channels(self, weights: np.ndarray) -> np.ndarray:
        """The channels of `MouthTarget.as_array` (N, 6) of weights (N, R); the aperture is signed."""
        m = self.measure(weights)
        gap = m.upper_lip + m.lower_lip
        return np.stack([gap, m.upper_lip, m.lower_lip, m.width, m.protrusion, m.jaw], axis=1)

    def measure(self, weights: np.ndarray) -> MouthMeasurements:
        """Measure the mouth of the rig with weights (N, R), R being the number of shapes."""
        return self._measurer.measure(self._measurer.neutral + np.einsum("nr,rpk->npk", weights, self._offsets))

    def solve(self, target: MouthTarget, fixed_weights: np.ndarray | None = None) -> np.ndarray:
        """Find weights whose measurements are close to a target.

        Args:
            target: Wanted mouth of N frames, in mm.
            fixed_weights: (N, R) weights of other shapes, which are kept; their effect on the mouth is taken
                into account.

        Returns:
            Weights (N, R) in [0, 1], including the fixed ones.
        """
        fixed = np.zeros((len(target.aperture), len(self._rig.shape_names))) if fixed_weights is None else fixed_weights
        goal = target.as_array.copy()
        goal[:, 0] = np.maximum(goal[:, 0], 0.0)
        wanted = goal - self._channels(fixed)
        cost = np.array([c for _, c in self._prior.shape_groups])
        importance = np.array(self._prior.channel_weights)
        slope = self._jacobian * importance
        hessian = slope @ slope.T + np.diag(cost)
        unknown = np.zeros((len(wanted), len(self._prior.shape_groups)))
        weights = fixed
        for _ in range(self._prior.iterations):
            unknown = _projected_gradient(hessian, (wanted * importance) @ slope.T, unknown)
            unknown[:, _CLOSE] = np.minimum(unknown[:, _CLOSE], unknown[:, _JAW] + MOST_EXTRA_CLOSURE)
            weights = np.clip(fixed + unknown @ self._groups, 0.0, 1.0)
            wanted = wanted + 0.8 * (goal - self._channels(weights))
        contact = np.clip(1 - goal[:, 0] / CONTACT_MM, 0, 1)[:, None]
        sealed = unknown.copy()
        parting = self._jacobian[:, 0] > 0.5
        parting[_JAW] = False
        sealed[:, parting] = 0.0
        sealed[:, _CLOSE] = sealed[:, _JAW]
        unknown = (1 - contact) * unknown + contact * sealed
        return np.clip(fixed + unknown @ self._groups, 0.0, 1.0)


def _projected_gradient(hessian: np.ndarray, right: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Solve least squares in the box [0, 1] for all frames at once by accelerated projected gradient."""
    size = np.sqrt(np.diag(hessian))  # the unknowns are scaled to equal curvature
    scaled, goal = hessian / np.outer(size, size), right / size
    rate = 1.0 / np.linalg.eigvalsh(scaled).max()
    x = y = start * size
    momentum = 1.0
    for _ in range(GRADIENT_STEPS):
        x_next = np.clip(y - rate * (y @ scaled - goal), 0.0, size)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = x_next + (momentum - 1) / next_momentum * (x_next - x)
        x, momentum = x_next, next_momentum
    return x / size
