"""What the commands that make an animation write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kmtalk.cli.console import CommandOutput
from kmtalk.errors import InputError
from kmtalk.settings import AnimationSettings, ExportSettings
from kmtalk.timecode import parse_timecode

if TYPE_CHECKING:
    from kmtalk.animation import Animation


def check_animation_output(
    console: CommandOutput,
    output: Path,
    template: Path | None,
    settings: AnimationSettings,
    export: ExportSettings,
    contact_sheet: Path | None,
) -> Callable[[], None]:
    """Check before the work that an animation can be written.

    Returns:
        A function that raises InputError where pictures are to be rendered and cannot be; the check runs meanwhile.

    Raises:
        InputError: A file cannot be written, would replace an input, or is of a kind that the template has not.
    """
    from kmtalk.animation import check_save, has_video
    from kmtalk.render.video import start_opengl_check

    check_save(output, export, console.inputs)
    check_character_output(output, export, template, settings.fps)
    if contact_sheet and contact_sheet.suffix.lower() != ".png":
        raise InputError(f"{contact_sheet}: a contact sheet is written as .png")
    console.check_outputs(contact_sheet)
    return start_opengl_check(has_video(output, export) or contact_sheet is not None)


def check_character_output(output: Path, export: ExportSettings, template: Path | None, fps: float) -> None:
    """Raise InputError where the output needs a character's file and the template is none, or has no such time code."""
    from kmtalk.face.files.load import CHARACTER_SUFFIXES
    from kmtalk.face.rig_file import RIG_SUFFIX

    kind = template.suffix.lower() if template is not None else ""
    if export.animation_only and kind not in (*CHARACTER_SUFFIXES, RIG_SUFFIX):
        raise InputError(f"--animation-only: is for characters of {', '.join(CHARACTER_SUFFIXES)} files")
    if output.suffix.lower() == ".vrm" and kind not in (".vrm", RIG_SUFFIX):
        raise InputError(f"{output}: only a character of a .vrm file is written as .vrm; write .glb or .vrma")
    parse_timecode(export.timecode, fps)


def write_animation_output(
    console: CommandOutput, animation: Animation, output: Path, export: ExportSettings, contact_sheet: Path | None
) -> None:
    """Write an animation and its contact sheet, and report them.

    Raises:
        InputError: As for `Animation.save`.
    """
    written = animation.save(output, export, progress=console)
    if contact_sheet is not None:
        animation.save_contact_sheet(contact_sheet)
        written.append(contact_sheet)
    console.summary |= {
        "frames": len(animation.motion),
        "fps": animation.fps,
        "seconds": round(animation.audio.duration, 3),
        "phones": len(animation.alignment.phones),
        "alignment": animation.alignment.status,
    }
    console.report_written(written)
