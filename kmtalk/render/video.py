"""Renders motions to mp4 video with sound and to contact sheets; a child process does the drawing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.speech.audio import Audio


def render_video(
    motion: Motion,
    audio: Audio,
    path: Path,
    size: tuple[int, int] = (512, 512),
    quality: str = "draft",
    advance: Callable[[int], None] = lambda frame: None,
) -> str:
    """Write an mp4 (H.264, AAC, yuv420p, faststart) that browsers play.

    Memory use does not grow with the length.

    Args:
        motion: The motion.
        audio: Its sound.
        path: The .mp4 file.
        size: Width and height in pixels, both even (checked by `kmtalk.settings.ExportSettings`).
        quality: "draft" or "high" (lit per pixel, supersampled).
        advance: Called with the number of finished frames.

    Returns:
        Name of the OpenGL backend.

    Raises:
        InputError: No OpenGL works, or the file cannot be written.
    """
    width, height = size
    job = {"kind": "video", "width": width, "height": height, "quality": quality, "fps": motion.fps}
    with tempfile.TemporaryDirectory(prefix="kmtalk-") as folder:
        sound = Path(folder) / "sound.wav"
        soundfile.write(sound, audio.original, audio.original_rate, subtype="PCM_16")
        write_render_input(Path(folder) / "face.npz", motion)
        return run_render_process(Path(folder), job | {"audio": str(sound), "output": str(path)}, advance)


def render_contact_sheet(
    motion: Motion,
    frames: Sequence[int],
    labels: Sequence[str],
    path: Path,
    cell: int = 224,
    columns: int = 8,
    region: np.ndarray | None = None,
    yaw: float = 0.30,
) -> None:
    """Write a PNG with one captioned picture per frame.

    Args:
        motion: The motion.
        frames: Frame numbers.
        labels: Captions, one per frame.
        path: The .png file.
        cell: Width and height of a picture in pixels.
        columns: Pictures per row.
        region: Indices of the vertices to have in view; None for the lips.
        yaw: Horizontal view angle in radians.

    Raises:
        InputError: No OpenGL works or the file cannot be written.
    """
    regions = motion.rig.template.regions
    job = {
        "kind": "sheet",
        "width": cell,
        "columns": columns,
        "frames": [int(f) for f in frames],
        "labels": list(labels),
        "region": (regions["lips"] if region is None else region).tolist(),
        "yaw": yaw,
        "output": str(path),
    }
    with tempfile.TemporaryDirectory(prefix="kmtalk-") as folder:
        write_render_input(Path(folder) / "face.npz", motion)
        run_render_process(Path(folder), job, lambda frame: None)


def write_render_input(path: Path, motion: Motion) -> None:
    """Write the mesh, the morph targets and their weights as an .npz for the child process."""
    template = motion.rig.template
    _, offsets, weights = motion.rig.morph_targets(motion.weights)
    arrays = {
        "vertices": template.vertices,
        "faces": template.faces,
        "offsets": offsets,
        "weights": weights.astype(np.float32),
        "upright": motion.rig.upright_rotation,
    }
    colors = template.colors if template.colors is not None else template.preview_colors
    if colors is not None:
        arrays["colors"] = colors
    np.savez(path, **arrays)  # type: ignore[arg-type]


def run_render_process(folder: Path, job: dict[str, Any], advance: Callable[[int], None]) -> str:
    """Run a render job in a child process.

    Args:
        folder: Folder with the faces (`write_render_input`); the job description is written into it.
        job: The job description (see `worker`).
        advance: Called with the number of finished frames.

    Returns:
        Name of the OpenGL backend.

    Raises:
        InputError: The child process failed.
    """
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "errors").open("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "kmtalk.render.worker", str(folder)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert child.stdout is not None
        backend = ""
        try:
            for line in child.stdout:
                key, _, value = line.strip().partition(" ")
                if key == "gl":
                    backend = value
                elif key == "done":
                    advance(int(value))
            child.wait()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        if child.returncode:
            errors.seek(0)
            lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
            raise InputError(f"rendering failed: {lines[-1] if lines else f'exit code {child.returncode}'}")
    return backend
