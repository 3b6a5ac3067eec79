"""Renders motions to mp4 video with sound and to contact sheets; a child process does the drawing."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from kmtalk.errors import InputError
from kmtalk.face.appearance import Appearance, Material
from kmtalk.face.joints import joint_matrices
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template
from kmtalk.settings import VideoSettings, parse_background
from kmtalk.speech.audio import Audio
from kmtalk.working_folders import temporary_folder


@dataclass(frozen=True)
class Cell:
    """One picture of a contact sheet.

    Attributes:
        frame: Frame number in the motion.
        label: Caption.
        view: A key of `camera.VIEW_ANGLES`.
        framing: What is in the picture: "mouth", "eyes", "face", "head" or "body".
    """

    frame: int
    label: str
    view: str = "portrait"
    framing: str = "mouth"


def start_opengl_check(needed: bool) -> Callable[[], None]:
    """Begin to look for an OpenGL that works, in a process of its own, while other things are prepared.

    Args:
        needed: Whether anything will be drawn; if not, nothing is looked for.

    Returns:
        A function that waits for the result, and raises InputError where there is none.
    """
    if not needed:
        return lambda: None
    command = [sys.executable, "-m", "kmtalk.render.opengl"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")

    def check() -> None:
        lines = child.communicate()[1].strip().splitlines()
        if child.returncode:
            raise InputError(f"a video cannot be rendered: {lines[-1] if lines else _exit_reason(child.returncode)}")

    return check


def render_video(
    motion: Motion,
    audio: Audio,
    path: Path,
    settings: VideoSettings,
    advance: Callable[[int], None] = lambda frame: None,
) -> str:
    """Write an mp4 (H.264, AAC, yuv420p, faststart) that browsers play.

    Memory use does not grow with the length.

    Args:
        motion: The motion.
        audio: Its sound.
        path: The .mp4 file.
        settings: Size, quality, frame, view and background.
        advance: Called with the number of finished frames.

    Returns:
        Name of the OpenGL backend.

    Raises:
        InputError: No OpenGL works, or the file cannot be written.
    """
    with temporary_folder() as folder:
        write_render_input(folder / "face.npz", motion)
        job = {"kind": "video"} | video_job(folder, motion, audio, path, settings)
        return run_render_process(folder, job, advance)


def video_job(folder: Path, motion: Motion, audio: Audio, path: Path, settings: VideoSettings) -> dict[str, Any]:
    """Write the sound into the folder of a job; return the job's description of the video and of its look."""
    sound = folder / "sound.wav"
    soundfile.write(sound, audio.playback(), audio.original_rate, subtype="PCM_16")
    width, height = settings.size
    return {
        "width": width,
        "height": height,
        "quality": settings.quality,
        "frame": settings.frame,
        "view": settings.view,
        "background": parse_background(settings.background),
        "frames": len(motion),
        "threads": torch.get_num_threads(),
        "fps": motion.fps,
        "audio": str(sound),
        "output": str(path),
    }


def render_contact_sheet(motion: Motion, cells: Sequence[Cell], path: Path, width: int = 224, columns: int = 8) -> None:
    """Write a PNG of captioned pictures.

    Args:
        motion: The motion.
        cells: The pictures, row by row.
        path: The .png file.
        width: Width and height of a picture in pixels.
        columns: Pictures per row.

    Raises:
        InputError: No OpenGL works or the file cannot be written.
    """
    job = {
        "kind": "sheet",
        "width": width,
        "columns": columns,
        "cells": [asdict(cell) for cell in cells],
        "output": str(path),
    }
    with temporary_folder() as folder:
        write_render_input(folder / "face.npz", motion)
        run_render_process(folder, job, lambda frame: None)


def write_render_input(path: Path, motion: Motion) -> None:
    """Write the mesh, its appearance, the morph targets and their weights as an .npz for the child process."""
    template = motion.rig.template
    offsets, weights = motion.rig.moving_targets(motion.weights)
    colors, appearance = np.full((len(template.vertices), 3), 255, np.uint8), template.appearance
    if appearance is not None and appearance.is_tinted and template.colors is not None:
        colors = template.colors
    if appearance is None:
        given = template.colors if template.colors is not None else template.preview_colors
        colors = np.tile(np.array(CLAY_COLOR, np.uint8), (len(colors), 1)) if given is None else given
        appearance = _plain_appearance(template)
    joints = template.joints
    rotations = motion.rig.joint_rotations(motion.weights)
    np.savez(
        path,
        vertices=template.vertices,
        faces=template.faces,
        offsets=offsets,
        weights=weights.astype(np.float32),
        upright=motion.rig.upright_rotation,
        joint_weights=np.array([j.weights for j in joints], np.float32).reshape(len(joints), len(template.vertices)),
        joint_matrices=joint_matrices(joints, rotations).astype(np.float32),
        colors=colors,
        landmark_names=np.array(list(template.landmarks), np.str_),
        landmark_vertices=np.array(list(template.landmarks.values()), np.int64),
        **appearance.to_arrays(),  # type: ignore[arg-type]
    )


CLAY_COLOR = (200, 182, 172)  # sRGB, for templates without colours
PLAIN_MATERIALS = (
    Material("skin", roughness=0.58, subsurface=0.5, double_sided=True),
    Material("eye", roughness=0.1, double_sided=True),
    Material("mouth", roughness=0.28, subsurface=0.3, double_sided=True),
)
_WET_REGIONS = {"eye_left": 1, "eye_right": 1, "upper_teeth": 2, "lower_teeth": 2, "tongue": 2, "inner_mouth": 2}


def _plain_appearance(template: Template) -> Appearance:
    """Materials without textures for a mesh with vertex colours: skin, wet eyes, the inside of the mouth."""
    of_vertex = np.zeros(len(template.vertices), np.uint8)
    for region, material in _WET_REGIONS.items():
        of_vertex[template.regions.get(region, [])] = material
    face_materials = of_vertex[template.faces].min(axis=1)
    return Appearance(
        PLAIN_MATERIALS, face_materials, np.zeros((1, 2), np.float32), np.zeros(template.faces.shape, np.int32)
    )


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
        OSError: The disk is full.
    """
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "errors").open("w+", errors="replace") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "kmtalk.render.worker", str(folder)],
            stdin=subprocess.PIPE,  # the child ends with it
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert child.stdout is not None and child.stdin is not None
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
            child.stdin.close()
            child.stdout.close()
        if child.returncode:
            errors.seek(0)
            lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
            if any("No space left" in line for line in lines):
                raise OSError(errno.ENOSPC, "no space left")
            raise InputError(f"rendering failed: {lines[-1] if lines else _exit_reason(child.returncode)}")
    return backend


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"its process was ended by signal {-code}; too little memory is the usual reason"
    return f"exit code {code}"
