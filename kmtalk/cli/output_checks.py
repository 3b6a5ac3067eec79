"""What commands check of their output before long work begins."""

from __future__ import annotations

from pathlib import Path

from kmtalk.errors import InputError
from kmtalk.settings import ExportSettings
from kmtalk.timecode import parse_timecode


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
