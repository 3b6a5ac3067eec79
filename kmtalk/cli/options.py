"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmtalk.errors import InputError

Speech = Annotated[Path, typer.Argument(help="Sound or video file.", show_default=False)]
Whisper = Annotated[str, typer.Option(help="Whisper model, by name or path.")]
Language = Annotated[str | None, typer.Option(help="Language spoken (en, de, ...); found by itself if left out.")]
Text = Annotated[str | None, typer.Option(help="The words spoken, or a text file with them: skips transcription.")]
Aligner = Annotated[str, typer.Option(help="auto, pocketsphinx, mfa, mfa-cli or uniform.")]
Acoustic = Annotated[str | None, typer.Option(help="MFA acoustic model: a zip, or a name in MFA's folder.")]
Dictionary = Annotated[str | None, typer.Option(help="MFA dictionary: a file, or a name in MFA's folder.")]
Landmarks = Annotated[
    Path | None,
    typer.Option(help="Landmarks of the mesh (JSON or MeshLab .pp, seven are good), where the face is not found."),
]
TextGrid = Annotated[Path | None, typer.Option(help="Praat TextGrid with a tier of phones: skips alignment.")]
Seed = Annotated[int, typer.Option(help="Seed of blinks and small variation.")]
Fps = Annotated[float, typer.Option(help="Frames per second.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Folder, or one file of a kind kmtalk writes (default: SPEECH-kmtalk/)."),
]
Formats = Annotated[
    str | None,
    typer.Option(
        help="What a folder gets, by commas: glb, usd, abc, pc2, mdd, obj, csv, json, ovr, rhubarb, tsv, npz, npz16, "
        "html, mp4 (default: npz,glb,mp4)."
    ),
]
Size = Annotated[str, typer.Option(help="Video size in pixels: 512 or 1280x720.")]
Quality = Annotated[str, typer.Option(help="Video: draft (fast) or high (lit per pixel).")]
Video = Annotated[bool, typer.Option("--video/--no-video", help="Render the mp4.")]
Bake = Annotated[bool, typer.Option("--bake", help="GLB and USD: vertices by frame instead of named shapes.")]
Network = Annotated[Path | None, typer.Option(help="Trained weights (.safetensors); those shipped if left out.")]


def read_text_option(text: str | None) -> str | None:
    """The text itself, or what the file of that name holds."""
    if text is None:
        return None
    try:
        if text and Path(text).is_file():
            return Path(text).read_text(encoding="utf-8-sig")
        if text.lower().endswith(".txt") and len(text.split()) == 1:
            raise InputError(f"{text}: no such file")
    except OSError:  # too long for a file's name: it is the text
        pass
    except UnicodeDecodeError:
        raise InputError(f"{text}: is not a UTF-8 text file") from None
    return text


def parse_named_paths(option: str, items: list[str] | None, what: str) -> list[tuple[str, Path]]:
    """NAME=FILE, as often as it was given → (name, path); raises InputError for anything else."""
    out = []
    for item in items or []:
        name, equals, path = item.partition("=")
        if not (equals and name and path):
            raise InputError(f"{option} {item}: give NAME={what}")
        out.append((name, Path(path)))
    return out


def parse_video_size(size: str, quality: str) -> tuple[int, int]:
    """ "512" or "1280x720" → width and height; raises InputError where no video is of that size, or that quality."""
    from kmtalk.render.video import check_size

    if quality not in ("draft", "high"):
        raise InputError(f"--quality {quality}: draft or high")
    width, _, height = size.lower().partition("x")
    try:
        pixels = int(width), int(height or width)
    except ValueError:
        raise InputError(f"--size {size}: give pixels, as 512 or 1280x720") from None
    check_size(pixels)
    return pixels
