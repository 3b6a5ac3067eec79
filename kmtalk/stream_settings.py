"""Settings of a face that follows a voice: `kmtalk live` and `KMTalk.stream`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kmtalk.settings import Settings


class StreamSettings(Settings):
    """How a face follows a voice."""

    style: str | None = Field(
        default=None,
        description="Speaking style of the mouth: a name, shares such as clear:0.5,relaxed:0.5, or mean.",
    )
    expression: bool = Field(default=True, description="Move head, eyes, lids and brows; else the mouth alone.")
    head: float = Field(default=1.0, ge=0, le=2, description="Factor on the motion of the head, from 0 to 2.")
    gaze: Literal["camera", "wander"] = Field(
        default="camera", description="Where the eyes look: camera (at the viewer), or wander (with glances aside)."
    )
    brows: float = Field(default=1.0, ge=0, le=2, description="Factor on the motion of the brows, from 0 to 2.")
    seed: int = Field(default=0, ge=0, description="Seed of all random variation.")
