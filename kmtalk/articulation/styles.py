"""Speaking styles: parameters of the rule-based articulation that differ between speakers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError


@dataclass(frozen=True)
class SpeakingStyle:
    """Parameters of a way of speaking. All scales are 1 for GRID's speaker 1; in public, people open the mouth further.

    Attributes:
        effort: Scale of the mouth opening.
        rounding: Scale of the changes in mouth width and protrusion.
        jaw: Scale of the jaw's share of the opening.
        tempo: Scale of the speed of the articulators.
        noise_mm: Standard deviation in mm of the random variation that is added to the mouth.
        upper_face: Scale of brow and head movement.
    """

    effort: float = 1.0
    rounding: float = 1.0
    jaw: float = 1.0
    tempo: float = 1.0
    noise_mm: float = 0.15
    upper_face: float = 1.0

    @staticmethod
    def from_seed(seed: int) -> SpeakingStyle:
        """Sample the style of a random speaker. Equal seeds give equal styles."""
        rng = np.random.default_rng([0x57A1, seed])
        effort, rounding, jaw, tempo, residual, upper = np.exp(rng.normal(size=6) * [0.15, 0.2, 0.2, 0.1, 0.3, 0.35])
        return SpeakingStyle(effort, rounding, jaw, tempo, 0.15 * residual, upper)


SPEAKING_STYLES: dict[str, SpeakingStyle] = {
    "neutral": SpeakingStyle(effort=1.35, rounding=1.15),
    "clear": SpeakingStyle(effort=1.55, rounding=1.3, jaw=1.05, tempo=1.15),
    "relaxed": SpeakingStyle(effort=1.0, rounding=0.9, jaw=0.9, tempo=0.9, upper_face=0.7),
    "expressive": SpeakingStyle(effort=1.5, rounding=1.2, upper_face=1.8),
}


def parse_speaking_style(style: str | int | SpeakingStyle | None) -> SpeakingStyle:
    """Return a speaking style.

    Args:
        style: A style, the name of one in `SPEAKING_STYLES`, a non-negative integer or its digits (seed of a
            random style), or None for "neutral".

    Raises:
        InputError: There is no such style.
    """
    if style is None:
        return SPEAKING_STYLES["neutral"]
    if isinstance(style, SpeakingStyle):
        return style
    if (isinstance(style, int) and style >= 0) or str(style).isdecimal():
        return SpeakingStyle.from_seed(int(style))
    if style not in SPEAKING_STYLES:
        raise InputError(
            f"{style}: no such style; choose one of {', '.join(SPEAKING_STYLES)}, or a number for a random speaker"
        )
    return SPEAKING_STYLES[str(style)]
