"""Comparison of two animations of one mesh: vertex distances, and a video of both side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.render.video import run_render_process, video_job, write_render_input
from kmtalk.settings import VideoSettings
from kmtalk.speech.audio import Audio
from kmtalk.working_folders import temporary_folder


@dataclass(frozen=True)
class MotionDifference:
    """Distances between corresponding vertices of two motions, in mm (scaled so that the eye corners are 90 mm apart).

    Attributes:
        frames: Number of frames.
        vertices: Number of vertices of the mesh.
        lips: Number of vertices in the template's region "lips".
        fps: Frames per second.
        mean: Mean distance over all frames and vertices.
        lip_mean: Mean distance over all frames and lip vertices.
        lip_max: Mean over frames of the largest lip vertex distance.
        maximum: Largest distance of any vertex in any frame.
        maximum_frame: Frame of `maximum`.
    """

    frames: int
    vertices: int
    lips: int
    fps: float
    mean: float
    lip_mean: float
    lip_max: float
    maximum: float
    maximum_frame: int

    def to_dict(self) -> dict[str, float | int]:
        """The distances as a JSON-serialisable dict, in mm."""
        return {
            "frames": self.frames,
            "mean_mm": round(self.mean, 4),
            "lip_mean_mm": round(self.lip_mean, 4),
            "lip_max_mm": round(self.lip_max, 4),
            "most_mm": round(self.maximum, 4),
            "most_frame": self.maximum_frame,
        }

    def summary_lines(self) -> list[str]:
        """The distances as lines of text."""
        time = (self.maximum_frame + 0.5) / self.fps
        return [
            f"vertex distance, mean over {self.frames} frames and {self.vertices} vertices: {self.mean:.3f} mm",
            f"lips (the template's region, {self.lips} vertices): mean {self.lip_mean:.3f} mm, "
            f"mean over frames of the largest {self.lip_max:.3f} mm",
            f"maximum: {self.maximum:.2f} mm at {time:.2f} s (frame {self.maximum_frame})",
        ]


def compare_motions(first: Motion, second: Motion, labels: tuple[str, str]) -> MotionDifference:
    """Measure the vertex distances between two motions of the same mesh.

    Args:
        first: The reference motion.
        second: The motion to compare.
        labels: Names of the two motions for error messages.

    Raises:
        InputError: The motions differ in mesh, frame rate or length.
    """
    a, b = first.rig.template, second.rig.template
    if a.vertices.shape != b.vertices.shape or not np.array_equal(a.faces, b.faces):
        raise InputError(
            f"{labels[1]}: its mesh ({len(b.vertices)} vertices) differs from that of {labels[0]} ({len(a.vertices)}); "
            "animate both with the same --template"
        )
    if (first.fps, len(first)) != (second.fps, len(second)):
        raise InputError(
            f"{labels[1]}: {len(second)} frames at {second.fps:g} fps; {labels[0]} has {len(first)} at {first.fps:g}"
        )
    lips, scale = a.regions["lips"], a.mm_per_unit
    total, lip_total, lip_max_total, maximum, maximum_frame, frames = 0.0, 0.0, 0.0, -1.0, 0, 0
    for positions_a, positions_b in zip(first.vertex_chunks(), second.vertex_chunks(), strict=True):
        distances = np.linalg.norm(positions_a - positions_b, axis=2) * scale
        total += float(distances.sum())
        lip_total += float(distances[:, lips].sum())
        lip_max_total += float(distances[:, lips].max(1).sum())
        frame_max = distances.max(1)
        if frame_max.max() > maximum:
            maximum, maximum_frame = float(frame_max.max()), frames + int(frame_max.argmax())
        frames += len(distances)
    count = len(a.vertices)
    return MotionDifference(
        frames,
        count,
        len(lips),
        first.fps,
        total / (frames * count),
        lip_total / (frames * len(lips)),
        lip_max_total / frames,
        maximum,
        maximum_frame,
    )


def render_comparison(
    first: Motion,
    second: Motion,
    audio: Audio,
    path: Path,
    names: tuple[str, str],
    max_distance: float,
    settings: VideoSettings,
    advance: Callable[[int], None] = lambda frame: None,
) -> None:
    """Write an mp4 with three views side by side: both faces, and the first face coloured by vertex distance.

    Args:
        first: The reference motion.
        second: The motion to compare, of the same mesh, frame rate and length.
        audio: The sound of the video.
        path: The .mp4 file.
        names: Captions of the two faces.
        max_distance: Distance in mm at the end of the colour scale.
        settings: Size of each view, quality, frame, view and background.
        advance: Called with the number of finished frames.

    Raises:
        InputError: No OpenGL works on this machine.
    """
    with temporary_folder() as folder:
        write_render_input(folder / "face.npz", first)
        write_render_input(folder / "other.npz", second)
        job = {
            "kind": "compare",
            "names": list(names),
            "max_distance": max_distance,
            "mm_per_unit": first.rig.template.mm_per_unit,
        }
        job |= video_job(folder, first, audio, path, settings)
        run_render_process(folder, job, advance)
