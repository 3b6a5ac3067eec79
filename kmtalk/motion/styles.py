"""Styles of the network: learnt embeddings by name, and mixtures of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kmtalk.articulation.styles import SpeakingStyle
from kmtalk.errors import InputError

DEFAULT_STYLE = "neutral"
"""The style that is used where none is given and the network has it."""


def parse_style(given: str | int | None) -> str | dict[str, float] | None:
    """Parse a style: a name ("clear"), shares ("clear:0.5,relaxed:0.5"), or "mean" or None (→ None).

    Raises:
        InputError: The shares are not numbers.
    """
    text = str(given)
    if given is None or text == "mean":
        return None
    if ":" not in text:
        return text
    try:
        return {name.strip(): float(share) for name, share in (part.split(":") for part in text.split(","))}
    except ValueError:
        raise InputError(f"style {text}: give a name, or shares such as clear:0.5,relaxed:0.5") from None


def style_mixture(styles: Sequence[str], style: str | dict[str, float] | None) -> np.ndarray:
    """Return the share of each style of a network.

    Args:
        styles: Names of the S styles of the network.
        style: Name of a style, shares by name (scaled to sum to one), or None for equal shares of all.

    Returns:
        Shares that sum to one, shape (S,), float32.

    Raises:
        InputError: A style is unknown, or the shares are negative, not finite or all zero.
    """
    if style is None:
        return np.full(len(styles), 1 / len(styles), np.float32)
    requested = {style: 1.0} if isinstance(style, str) else style
    unknown = [name for name in requested if name not in styles]
    valid = all(math.isfinite(share) and share >= 0 for share in requested.values()) and sum(requested.values()) > 0
    if unknown:
        known = ", ".join((*styles, "mean"))
        hint = " (a number selects a style of --motion rules only)" if unknown[0].isdecimal() else ""
        raise InputError(f"{', '.join(unknown)}: no such style; these weights have {known}{hint}")
    if not valid:
        shares_text = ", ".join(f"{name}:{share:g}" for name, share in requested.items())
        raise InputError(f"style {shares_text}: shares must be numbers of 0 or more, and not all 0")
    shares = np.array([requested.get(name, 0.0) for name in styles], np.float32)
    return shares / shares.sum()


def resolve_style(styles: Sequence[str], style: str | int | SpeakingStyle | None) -> str | dict[str, float] | None:
    """Return the style of a setting, by the styles of a network: a name, shares by name, or None for the mean of all.

    Raises:
        InputError: The network has no such style, or the style is one of the rules'.
    """
    if isinstance(style, SpeakingStyle):
        raise InputError("a SpeakingStyle is for motion='rules'; give a style by name")
    if style is None:
        resolved: str | dict[str, float] | None = DEFAULT_STYLE if DEFAULT_STYLE in styles else None
    else:
        resolved = parse_style(style)
    style_mixture(styles, resolved)
    return resolved
