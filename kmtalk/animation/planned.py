"""The files that saving an animation will write, known before long work begins, and what they must not replace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kmtalk.animation.formats import (
    DEFAULT_FOLDER_FORMATS,
    SHAPE_FORMATS,
    Format,
    all_suffixes,
    format_from_path,
    parse_formats,
)
from kmtalk.errors import InputError
from kmtalk.exchange import point_cache
from kmtalk.exchange.keys_json import edited_files
from kmtalk.output import PlannedFiles, check_planned, check_writable, unwritable
from kmtalk.settings import ExportSettings

KEYS_NAME = "keys.json"
COMPANION_NAMES = ("speech.TextGrid", "speech.wav", "import_blender.py")
"""Files of every output folder beside keys.json, which contains their digests."""


def folder_formats(settings: ExportSettings) -> list[Format]:
    """Return the formats of an output folder.

    Raises:
        InputError: A format is unknown, or needs a module that is not installed.
    """
    formats = parse_formats(settings.formats or DEFAULT_FOLDER_FORMATS)
    formats = [f for f in formats if settings.video or f.name != "mp4"]
    if settings.formats is None and settings.video:
        formats += parse_formats("mp4")
    names = {f.name for f in formats}
    if settings.reduce and names & SHAPE_FORMATS and "curves" not in names:
        formats += parse_formats("curves")
    return formats


def planned_files(path: Path, settings: ExportSettings) -> PlannedFiles:
    """Return the files that `Animation.save` writes for a path and settings.

    Raises:
        InputError: A format is unknown, or needs a module that is not installed.
    """
    file_format = format_from_path(path)
    if file_format is not None:
        return _files_of(file_format, path)
    parts = [_files_of(f, folder_path(f, path)) for f in folder_formats(settings)]
    files = [path / name for name in (KEYS_NAME, *COMPANION_NAMES, "animation-decoded.glb")]
    return PlannedFiles(
        (*files, *(file for part in parts for file in part.files)),
        tuple(pattern for part in parts for pattern in part.patterns),
    )


def folder_path(file_format: Format, folder: Path) -> Path:
    """The path of a format's file in an output folder."""
    if file_format.name == "obj":
        return folder / "frames" / "animation.####.obj"
    return folder / f"animation{file_format.suffixes[0]}"


def _files_of(file_format: Format, path: Path) -> PlannedFiles:
    if file_format.name == "obj":
        before, after = re.split("#+", path.name, maxsplit=1)
        return PlannedFiles((), ((path.parent, rf"{re.escape(before)}\d+{re.escape(after)}"),))
    if file_format.name == "usd":  # with the textures of its materials
        return PlannedFiles((path,), ((path.parent, rf"{re.escape(path.stem)}-.*"),))
    neutral = [point_cache.neutral_path(path)] if file_format.name in ("pc2", "mdd") else []
    return PlannedFiles((path, *neutral))


def check_output_path(path: Path) -> None:
    """Raise InputError for a path that looks like a file of a format that is not written, or cannot be written here."""
    # "face.avi" is a file of another format; "take.2" and "take.v2" are names of folders
    looks_like_file = re.fullmatch(r"\.([a-z]{2,5}\d?|m4[av])", path.suffix.lower())
    file_format = format_from_path(path)
    if looks_like_file and file_format is None and not path.is_dir():
        raise InputError(f"{path}: -o takes a folder, or a file ending in {all_suffixes()}")
    if file_format is not None:
        file_format.check()
        if file_format.name == "obj":
            point_cache.sequence_path(path, 0)


def check_save(path: Path, settings: ExportSettings, inputs: Iterable[str | Path | None] = ()) -> None:
    """Check all that can be known before the work about writing an animation.

    Args:
        path: The file or folder for `Animation.save`.
        settings: Settings of the export.
        inputs: Files that must not be replaced.

    Raises:
        InputError: The path or a format cannot be written, an input would be replaced, or a file that was edited or
            that kmtalk did not write.
    """
    if settings.formats is not None and format_from_path(path) is not None:
        raise InputError(f"{path}: formats are for a folder; the suffix of a file decides its format")
    try:
        check_output_path(path)
        planned = planned_files(path, settings)
        check_planned(planned, inputs)
        check_writable(path)
        for file in _kept_files(path, planned):
            remedy = "or animate from it with kmtalk complete" if file.name == KEYS_NAME else "or remove it"
            raise InputError(
                f"{file}: was edited or is not kmtalk's; it would be replaced: move it away, write to another "
                f"folder, {remedy}"
            )
    except OSError as error:
        raise unwritable(path, error) from None


def has_video(path: Path, settings: ExportSettings) -> bool:
    """Whether `Animation.save` renders a video for a path and settings."""
    file_format = format_from_path(path)
    return any(f.name == "mp4" for f in ([file_format] if file_format else folder_formats(settings)))


def _kept_files(path: Path, planned: PlannedFiles) -> list[Path]:
    """Existing files that would be replaced, though nobody named them and kmtalk has not written them as they are."""
    if format_from_path(path) is not None:
        return [p for p in planned.files[1:] if p.is_file() and not point_cache.is_neutral_obj(p)]
    keys = path / KEYS_NAME
    if not keys.exists():  # kmtalk has written nothing here
        return [p for p in planned.files if p.exists()]
    return edited_files(keys, COMPANION_NAMES)
