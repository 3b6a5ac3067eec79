"""Speaking styles: how one speaker differs from the average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError


@dataclass(frozen=True)
class SpeakingStyle:
    """A way of speaking; 1 is the average speaker throughout.

    ``effort`` scales opening, ``rounding`` width and protrusion, ``jaw`` how much of the opening the
    jaw does, ``tempo`` the speed of the articulators; ``residual`` is the size in mm of what no rule
    explains; ``upper_face`` scales brows and head.
    """

    effort: float = 1.0
    rounding: float = 1.0
    jaw: float = 1.0
    tempo: float = 1.0
    residual: float = 0.15
    upper_face: float = 1.0

    @staticmethod
    def from_seed(seed: int) -> SpeakingStyle:
        """One speaker out of the population, the same for the same seed."""
        rng = np.random.default_rng([0x57A1, seed])
        effort, rounding, jaw, tempo, residual, upper = np.exp(rng.normal(size=6) * [0.15, 0.2, 0.2, 0.1, 0.3, 0.35])
        return SpeakingStyle(effort, rounding, jaw, tempo, 0.15 * residual, upper)


SPEAKING_STYLES: dict[str, SpeakingStyle] = {
    "neutral": SpeakingStyle(),
    "clear": SpeakingStyle(effort=1.2, rounding=1.2, jaw=1.1, tempo=1.15),
    "relaxed": SpeakingStyle(effort=0.8, rounding=0.8, jaw=0.9, tempo=0.9, upper_face=0.7),
    "expressive": SpeakingStyle(effort=1.15, rounding=1.1, upper_face=1.8),
}


def parse_speaking_style(name: str | int | SpeakingStyle | None) -> SpeakingStyle:
    """A Style, its name, or a number that seeds one; raises InputError for anything else."""
    if name is None:
        return SPEAKING_STYLES["neutral"]
    if isinstance(name, SpeakingStyle):
        return name
    if (isinstance(name, int) and name >= 0) or str(name).isdecimal():
        return SpeakingStyle.from_seed(int(name))
    if name not in SPEAKING_STYLES:
        raise InputError(
            f"{name}: no such style; one of {', '.join(SPEAKING_STYLES)}, or a number for a random speaker"
        )
    return SPEAKING_STYLES[str(name)]
