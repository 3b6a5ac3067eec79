"""Encodes pictures and sound to mp4 in a child process, ffmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from fractions import Fraction
from types import TracebackType
from typing import Self

import numpy as np


class EncodingError(OSError):
    """ffmpeg has not written the whole file; the message is its last line."""


class VideoEncoder:
    """Writes an mp4 (H.264, AAC, yuv420p, faststart). As a context manager it completes the file at the end."""

    def __init__(
        self, path: str, size: tuple[int, int], fps: float, audio: str | None, preset: str, rate_factor: int
    ) -> None:
        """
        Args:
            path: The file.
            size: Width and height of the pictures in pixels, even.
            fps: Frames per second.
            audio: The sound file, if the video has sound.
            preset: Preset of x264.
            rate_factor: Constant rate factor of x264; less is better and larger.
        """
        import imageio_ffmpeg

        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        # a rational, so that rates like 24000/1001 are not rounded
        rate = str(Fraction(fps).limit_denominator())
        pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", rate, "-i", "-"]
        video = ["-map", "0:v:0", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", preset, "-crf", str(rate_factor)]
        colors = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
        colors += ["-color_primaries", "bt709", "-color_trc", "bt709"]
        inputs = pictures if audio is None else [*pictures, "-i", f"file:{audio}"]
        sound = [] if audio is None else ["-map", "1:a:0", "-c:a", "aac", "-ac", "2", "-b:a", "160k"]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *video, *colors, *sound]
        command += ["-movflags", "+faststart", f"file:{path}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors)

    def add(self, picture: np.ndarray) -> None:
        """Add a picture (H, W, 3) uint8.

        Raises:
            EncodingError: ffmpeg has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).data)
        except OSError:
            self._finish()
            raise EncodingError("ffmpeg has ended early") from None

    def _finish(self) -> None:
        """Wait until the file is complete; raises EncodingError where it is not."""
        assert self._process.stdin is not None
        with suppress(OSError):  # ffmpeg has ended: its exit code says why
            self._process.stdin.close()
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        if code:
            raise EncodingError(_main_error(lines) or f"ffmpeg ended with code {code}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._errors.close()


def _main_error(lines: list[str]) -> str:
    """The line of ffmpeg's errors that says why: that of the full disk if there is one, else the last."""
    full = [line for line in lines if "No space left" in line or "quota" in line]
    return (full or lines or [""])[-1]
