"""Settings of faces that listen: `kmtalk listen` and `kmtalk dialogue`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kmtalk.settings import AnimationSettings, Emotion, FrameRate, Gain, Settings
from kmtalk.timecode import MAX_FPS, MIN_FPS

MAX_REACTION = 2.0
"""Largest factor on a reaction."""


class ReactionSettings(Settings):
    """How a listener reacts."""

    nod: float = Field(
        default=1.0,
        ge=0,
        le=MAX_REACTION,
        description="Factor on the number and depth of a listener's nods, from 0 to 2.",
    )
    smile: float = Field(
        default=1.0,
        ge=0,
        le=MAX_REACTION,
        description="Factor on a listener's smile in answer to the other's, from 0 to 2.",
    )


class ListenerSettings(ReactionSettings):
    """How a face listens."""

    motion: Literal["rules", "flow"] = Field(
        default="rules",
        description="How the face listens: rules, or flow (sampled by a joint model that listens, which you train).",
    )
    head: float = Field(
        default=1.0, ge=0, le=2, description="Factor on the motion of the head beside its nods, from 0 to 2."
    )
    gaze: Literal["camera", "wander"] = Field(
        default="wander",
        description="Where the eyes look: camera (at the viewer, who is the other), or wander (aside for a quarter of "
        "the time, as listeners do).",
    )
    emotion: Emotion = Field(default=(), description="Emotion of the listener, as for kmtalk animate: friendly:0.5.")
    gain: Gain = Field(default={}, description="Factors on the weights of single shapes, as for kmtalk animate.")
    seed: int = Field(default=0, ge=0, description="Seed of all random variation.")
    fps: FrameRate = Field(
        default=30.0, ge=MIN_FPS, lt=MAX_FPS, description="Frames per second, as for kmtalk animate."
    )

    @model_validator(mode="after")
    def _check_motion(self) -> Self:
        fields = type(self).model_fields
        ruled = [n for n in ("nod", "smile", "head", "gaze") if getattr(self, n) != fields[n].default]
        if self.motion == "flow" and ruled:
            raise ValueError(f"{', '.join(ruled)}: not for motion flow, which follows no rules")
        return self


class DialogueSettings(AnimationSettings, ReactionSettings):
    """How two faces speak and listen in turn."""

    gaze: Literal["camera", "wander"] = Field(
        default="wander",
        description="Where the eyes look: camera (at the viewer, who is the other), or wander (aside for a quarter of "
        "the time while listening, and for about half of it while speaking).",
    )
    offset: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="Seconds after the first sound's beginning at which the second sound begins (two files).",
    )


LISTENER_FIELDS = tuple(name for name in ListenerSettings.model_fields if name in AnimationSettings.model_fields)
"""Settings that a listener shares with a speaker, which its animation records."""


def reaction_of(settings: ReactionSettings) -> dict[str, float]:
    """The factors by name, as `Provenance` records them."""
    return {name: getattr(settings, name) for name in ReactionSettings.model_fields}
