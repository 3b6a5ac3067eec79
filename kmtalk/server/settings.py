"""Settings of the server, and of one of its jobs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kmtalk.settings import MAX_FPS, MIN_FPS, AnimationSettings, ExportSettings, FrameRate, Settings

Format = Literal["glb", "npz", "html", "mp4", "csv", "json", "ovr.json", "vrma", "usd", "anim"]
CharacterKind = Literal["glb", "vrm", "obj", "ply", "stl"]
"""Kinds of meshes that consist of one file. FBX and USD may refer to files anywhere on the server."""


class ServerSettings(Settings):
    """How the server runs."""

    host: str = Field(
        default="127.0.0.1", description="Address on which it listens; one that others can reach needs a token."
    )
    port: int = Field(default=8100, ge=0, le=65535, description="Port; 0 takes a free one.")
    token: str | None = Field(
        default=None,
        min_length=16,
        max_length=200,
        description="What requests must bring; 16 characters or more. An option is shown in the list of processes.",
        json_schema_extra={"envvar": "KMTALK_TOKEN"},
    )
    workers: int = Field(default=1, ge=1, le=64, description="Processes that animate.")
    max_megabytes: int = Field(default=200, ge=1, le=100_000, description="Largest request, in megabytes.")
    max_minutes: float = Field(default=10.0, gt=0, le=240, description="Longest sound, in minutes.")
    max_waiting: int = Field(default=100, ge=1, le=100_000, description="Most jobs that may wait.")
    requests_per_minute: int = Field(
        default=60, ge=1, le=100_000, description="Most jobs that one address may give in a minute."
    )
    max_live: int = Field(default=2, ge=0, le=1000, description="Most faces that follow a voice at a time.")
    keep_hours: float = Field(default=24.0, gt=0, le=8760, description="Hours after which a finished job is removed.")
    job_minutes: float = Field(default=30.0, gt=0, le=1440, description="Most minutes that one job may take.")
    memory_gigabytes: float = Field(
        default=8.0, ge=1, le=1024, description="Most memory that one process may hold, in gigabytes."
    )


_EMOTION = re.compile(r"[a-z]+(:(0|1|0?\.\d{1,3}|1\.0+))?(,[a-z]+(:(0|1|0?\.\d{1,3}|1\.0+))?)*")


def _check_emotion(emotion: str | None) -> str | None:
    if emotion is not None and not _EMOTION.fullmatch(emotion):
        raise ValueError("emotion: give a name and an amount, as happy:0.6")
    return emotion


class JobOptions(Settings):
    """What one job asks for. None of it names a file."""

    text: str | None = Field(default=None, max_length=200_000, description="The spoken words; transcribed by default.")
    language: str | None = Field(
        default=None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1 code of the language; detected by default."
    )
    motion: Literal["network", "rules", "flow"] = Field(
        default="network", description=AnimationSettings.model_fields["motion"].description
    )
    style: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^[\w.:,-]+$",
        description="Speaking style, such as clear or expressive.",
    )
    emotion: Annotated[str | None, AfterValidator(_check_emotion)] = Field(
        default=None, max_length=200, description="Emotion and amount, as happy:0.6."
    )
    head: float = Field(default=1.0, ge=0, le=2, description="Factor on the motion of the head.")
    expression: bool = Field(default=True, description="Animate brows, eyelids, eyes and head as well.")
    fps: FrameRate = Field(default=30.0, ge=MIN_FPS, lt=MAX_FPS, description="Frames per second.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of blinks and other random variation.")
    formats: tuple[Format, ...] = Field(
        default=("html", "glb", "npz"), min_length=1, max_length=10, description="Formats of the result."
    )

    def animation(self) -> AnimationSettings:
        """Return the settings of the animation.

        Raises:
            InputError: A value cannot be used.
        """
        given = {n: getattr(self, n) for n in ("motion", "head", "expression", "fps", "seed", "language", "style")}
        return AnimationSettings.create(None, **given, **({} if self.emotion is None else {"emotion": self.emotion}))

    def export(self) -> ExportSettings:
        """Return the settings of the files."""
        return ExportSettings.create(None, formats=",".join(dict.fromkeys(self.formats)))
