"""A video of two faces side by side, such as the two of a dialogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.render.video import run_render_process, video_job, write_render_input
from kmtalk.settings import MAX_PIXELS, MAX_SIDE, VideoSettings
from kmtalk.speech.audio import Audio
from kmtalk.working_folders import temporary_folder


def check_side_by_side(settings: VideoSettings) -> None:
    """Raise InputError where two pictures of this size are too large for one video."""
    width, height = settings.size
    if 2 * width > MAX_SIDE or 2 * width * height > MAX_PIXELS:
        raise InputError(f"size {width}x{height}: two pictures stand side by side; give at most 2048x4096")


def render_side_by_side(
    first: Motion,
    second: Motion,
    audio: Audio,
    path: Path,
    settings: VideoSettings,
    advance: Callable[[int], None] = lambda frame: None,
) -> None:
    """Write an mp4 with two faces, which may have different meshes.

    Args:
        first: The motion on the left.
        second: The motion on the right, of the same frame rate and length.
        audio: The sound of the video.
        path: The .mp4 file.
        settings: Size of each picture, quality, frame, view and background.
        advance: Called with the number of finished frames.

    Raises:
        InputError: The motions differ in frame rate or length, or no OpenGL works on this machine.
    """
    if (first.fps, len(first)) != (second.fps, len(second)):
        raise InputError(
            f"two motions of {len(first)} frames at {first.fps:g} fps and of {len(second)} at {second.fps:g} make no "
            "video side by side"
        )
    with temporary_folder() as folder:
        write_render_input(folder / "face.npz", first)
        write_render_input(folder / "other.npz", second)
        job = {"kind": "side by side"} | video_job(folder, first, audio, path, settings)
        run_render_process(folder, job, advance)
