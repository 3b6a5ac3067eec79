"""A dialogue: the animations of two faces that speak and listen in turn, and the files that it is written to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmtalk.animation import Animation, check_save, format_from_path
from kmtalk.animation.formats import facing_camera
from kmtalk.conversation import film_sound
from kmtalk.errors import InputError
from kmtalk.output import atomic_write
from kmtalk.progress import Progress, announce_duration
from kmtalk.render.side_by_side import check_side_by_side, render_side_by_side
from kmtalk.settings import ExportSettings

FOLDERS = ("first", "second")
"""Names of the two animations' folders."""

FILM = "dialogue.mp4"
"""Name of the film of both."""


@dataclass(frozen=True)
class Dialogue:
    """Two faces in a conversation, on one clock.

    Attributes:
        first: The face of the first voice.
        second: That of the second; as many frames at the same rate. Both have the sound of the conversation, with the
            first voice in its first channel and the second in its second.
    """

    first: Animation
    second: Animation

    def save(
        self,
        path: str | Path,
        settings: ExportSettings | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> list[Path]:
        """Write the dialogue to a folder: `first/` and `second/`, as `Animation.save` writes them, and `dialogue.mp4`,
        a film of both side by side, unless `video` is false. The two folders have films of their own where `formats`
        names mp4.

        Args:
            path: The folder, or a file ending in .mp4 for the film alone.
            settings: Settings of the export; `size` is that of each of the two pictures.
            progress: Receives the stages "export" and "render".
            options: Fields of `ExportSettings` by keyword.

        Returns:
            The files that were written.

        Raises:
            InputError: The path cannot be written, a setting cannot be used, or a file would be replaced that was
                edited or that kmtalk did not write.
        """
        path, progress = Path(path), progress or Progress()
        settings = ExportSettings.create(settings, **options)
        check_dialogue_save(path, settings, [a.audio.source for a in (self.first, self.second)])
        if path.suffix.lower() == ".mp4":
            self._render(path, settings, progress)
            return [path]
        written: list[Path] = []
        for name, animation in zip(FOLDERS, (self.first, self.second), strict=True):
            written += animation.save(path / name, _of_one_face(settings), progress=progress)
        if settings.video:
            self._render(path / FILM, settings, progress)
            written.append(path / FILM)
        return written

    def _render(self, path: Path, settings: ExportSettings, progress: Progress) -> None:
        shown = [animation.with_materials for animation in (self.first, self.second)]
        left, right = (facing_camera(animation, settings.view) for animation in shown)
        frames = len(self.first.motion)
        with atomic_write(path) as temporary, progress.stage("render", frames) as advance:
            if settings.quality == "high":
                advance = announce_duration(progress, "rendering {} frames", frames, advance)
            render_side_by_side(left, right, film_sound(self.first.audio), temporary, settings, advance)


def _of_one_face(settings: ExportSettings) -> ExportSettings:
    """The settings for the folder of one face, which has no film of its own unless its formats name it."""
    return settings if settings.formats is not None else ExportSettings.create(settings, video=False)


def has_film(path: Path, settings: ExportSettings) -> bool:
    """Whether `Dialogue.save` renders a film of both for a path and settings."""
    return path.suffix.lower() == ".mp4" or settings.video


def check_dialogue_save(path: Path, settings: ExportSettings, inputs: Iterable[str | Path | None] = ()) -> None:
    """Check all that can be known before the work about writing a dialogue.

    Args:
        path: The path for `Dialogue.save`.
        settings: Settings of the export.
        inputs: Files that must not be replaced.

    Raises:
        InputError: The path or a format cannot be written, an input would be replaced, or a file that was edited or
            that kmtalk did not write.
    """
    inputs = list(inputs)
    file_format = format_from_path(path)
    if file_format is not None and file_format.name != "mp4":
        raise InputError(f"{path}: a dialogue is written to a folder, or its film alone to a file ending in .mp4")
    if has_film(path, settings):
        check_side_by_side(settings)
    if file_format is not None:
        check_save(path, settings, inputs)
        return
    if path.is_file():
        raise InputError(f"{path}: is an existing file; a dialogue is written to a folder")
    for name in FOLDERS:
        check_save(path / name, _of_one_face(settings), inputs)
    if settings.video:
        check_save(path / FILM, ExportSettings.create(settings, formats=None), inputs)
