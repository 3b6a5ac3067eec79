"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.errors import InputError
from kmtalk.text_files import read_text_file
from kmtalk.timecode import MAX_FPS, MIN_FPS, parse_frame_rate

Speech = Annotated[Path, typer.Argument(help="Sound or video file.", show_default=False)]
SpeechOrAnimation = Annotated[
    Path, typer.Argument(help="Sound or video file, or an animation.npz.", show_default=False)
]
AnimationFile = Annotated[Path, typer.Argument(help="An animation.npz that kmtalk wrote.", show_default=False)]
Template = Annotated[
    Path | None, typer.Option("--template", help="Face mesh or fitted .kmrig (default: the default head).")
]
Text = Annotated[
    str | None,
    typer.Option(
        help="The spoken words, or a text file with them; skips transcription. Words in square brackets, such as happy "
        "or sad:0.6, are emotions, which begin with the next word; neutral ends them."
    ),
]
TextGrid = Annotated[Path | None, typer.Option(help="Praat TextGrid with a tier of phones; skips alignment.")]
Tier = Annotated[
    str | None,
    typer.Option(
        help="Part of the names of the TextGrid's tiers to read, such as a speaker's name (default: all speakers).",
        show_default=False,
    ),
]
Landmarks = Annotated[
    Path | None,
    typer.Option(help="Landmarks of the mesh (JSON or MeshLab .pp; seven are enough), where no face is detected."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Folder, or file of a format that kmtalk writes (default: SPEECH-kmtalk/)."),
]
RequiredOutput = Annotated[
    Path, typer.Option("-o", "--output", help="File, whose suffix decides its format, or folder.", show_default=False)
]
ContactSheet = Annotated[
    Path | None, typer.Option(help="Write a contact sheet as well: a PNG with the mouth at the first 40 phones.")
]
Network = Annotated[Path | None, typer.Option(help="Trained weights (.safetensors; default: those shipped).")]

JointWeights = Annotated[
    Path | None,
    typer.Option("--joint", help="Weights of the joint model (.safetensors; default: those shipped)."),
]


def check_joint_weights(joint: Path | None, used: bool, by: str) -> None:
    """Raise InputError where weights of a joint model are given that nothing would use; `by` says what uses them."""
    if joint is not None and not used:
        raise InputError(f"{joint}: --joint is for {by}")


def read_text_option(text: str | None) -> str | None:
    """The text itself, or the contents of the file that it names; raises InputError where the file cannot be read."""
    if text is None:
        return None
    try:
        if text and Path(text).is_file():
            return read_text_file(Path(text))
        if text.lower().endswith(".txt") and len(text.split()) == 1:
            raise InputError(f"{text}: no such file")
    except OSError:  # too long for a file name, so it is the text
        pass
    return text


def read_frame_rate(option: str, text: str | None) -> float | None:
    """The frame rate that an option gives, such as 25, 23.976 or 30000/1001; raises InputError for anything else.

    Args:
        option: The option's name, for messages.
        text: Its value; None where it is not given.
    """
    if text is None:
        return None
    try:
        rate = float(str(parse_frame_rate(text)))
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None
    if not MIN_FPS <= rate < MAX_FPS:
        raise InputError(f"{option} {text[:80]}: must be {MIN_FPS:g} or more, and less than {MAX_FPS:g}")
    return rate


def parse_named_paths(option: str, items: list[str] | None, kind: str) -> list[tuple[str, Path]]:
    """Parse NAME=PATH items into (name, path); raises InputError for anything else.

    Args:
        option: The option's name, for messages.
        items: The values of the option.
        kind: "FILE" or "DIR", for messages.
    """
    parsed = []
    for item in items or []:
        name, equals, path = item.partition("=")
        if not (equals and name and path):
            raise InputError(f"{option} {item}: give NAME={kind}")
        parsed.append((name, Path(path)))
    return parsed
