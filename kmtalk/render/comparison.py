"""Two animations of one mesh side by side, and how far apart they are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from kmtalk.errors import InputError
from kmtalk.face.motion import Motion
from kmtalk.render.video import run_render_process, write_render_input
from kmtalk.speech.audio import Audio


@dataclass(frozen=True)
class MotionDifference:
    """Distances of corresponding vertices in mm (the template's convention, eye corners 90 mm apart): ``mean`` over all
    ``frames`` and ``vertices``; of the template's region "lips" (``lips`` vertices) the ``lip_mean`` and the mean over
    frames of the greatest, ``lip_max``; ``maximum`` of all vertices, at ``maximum_frame``."""

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
        """For programs; mm."""
        return {
            "frames": self.frames,
            "mean_mm": round(self.mean, 4),
            "lip_mean_mm": round(self.lip_mean, 4),
            "lip_max_mm": round(self.lip_max, 4),
            "most_mm": round(self.maximum, 4),
            "most_frame": self.maximum_frame,
        }

    def summary_lines(self) -> list[str]:
        """For people."""
        time = (self.maximum_frame + 0.5) / self.fps
        return [
            f"vertex distance, mean over {self.frames} frames and {self.vertices} vertices: {self.mean:.3f} mm",
            f"lips (the template's region, {self.lips} vertices): mean {self.lip_mean:.3f} mm, "
            f"mean over frames of the greatest {self.lip_max:.3f} mm",
            f"most: {self.maximum:.2f} mm at {time:.2f} s (frame {self.maximum_frame})",
        ]


def compare_motions(first: Motion, second: Motion, labels: tuple[str, str]) -> MotionDifference:
    """How far apart two motions are; raises InputError where they are of other meshes, rates or lengths."""
    a, b = first.rig.template, second.rig.template
    if a.vertices.shape != b.vertices.shape or not np.array_equal(a.faces, b.faces):
        raise InputError(
            f"{labels[1]}: {len(b.vertices)} vertices on another mesh than {labels[0]} ({len(a.vertices)}); "
            "animate both with one --template"
        )
    if (first.fps, len(first)) != (second.fps, len(second)):
        raise InputError(
            f"{labels[1]}: {len(second)} frames at {second.fps:g} fps; {labels[0]} has {len(first)} at {first.fps:g}"
        )
    lips, scale = a.regions["lips"], a.mm_per_unit
    total, near, greatest, most, at, done = 0.0, 0.0, 0.0, -1.0, 0, 0
    for one, other in zip(first.vertex_chunks(), second.vertex_chunks(), strict=True):
        apart = np.linalg.norm(one - other, axis=2) * scale
        total += float(apart.sum())
        near += float(apart[:, lips].sum())
        greatest += float(apart[:, lips].max(1).sum())
        top = apart.max(1)
        if top.max() > most:
            most, at = float(top.max()), done + int(top.argmax())
        done += len(apart)
    count = len(a.vertices)
    return MotionDifference(
        done, count, len(lips), first.fps, total / (done * count), near / (done * len(lips)), greatest / done, most, at
    )


def render_comparison(
    first: Motion,
    second: Motion,
    audio: Audio,
    path: Path,
    names: tuple[str, str],
    max_distance: float,
    size: tuple[int, int] = (400, 400),
    quality: str = "draft",
    advance: Callable[[int], None] = lambda frame: None,
) -> None:
    """Write an mp4 of three pictures of ``size``: both faces and their distance up to ``maximum`` mm by colour, with the
    first one's sound. Raises InputError where nothing can draw."""
    width, height = size
    job = {
        "kind": "compare",
        "width": width,
        "height": height,
        "quality": quality,
        "fps": first.fps,
        "frames": len(first),
        "names": list(names),
        "most": max_distance,
        "mm_per_unit": first.rig.template.mm_per_unit,
        "output": str(path),
    }
    with tempfile.TemporaryDirectory(prefix="kmtalk-") as folder:
        sound = Path(folder) / "sound.wav"
        soundfile.write(sound, audio.original, audio.original_rate, subtype="PCM_16")
        write_render_input(Path(folder) / "face.npz", first)
        write_render_input(Path(folder) / "other.npz", second)
        run_render_process(Path(folder), job | {"audio": str(sound)}, advance)
