"""Rendering speed compared with a plain pyrender loop, in one run.

    python benchmarks/render_speed.py [--frames 120]

Draws the same frames of the default head at 512² twice: with a plain loop (a new mesh for every frame, lit, 4×MSAA, as
in pyrender's documentation) and with `kmtalk.render.scene.SceneRenderer` (buffers updated in place, light per vertex,
4×MSAA). Prints the frames per second of both and their ratio, for drawing alone and for drawing into the same h264
encoder. Only the ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kmtalk.render import opengl

NAME = opengl.select_backend()  # must precede the import of pyrender; imports no torch

import pyrender  # noqa: E402

from kmtalk.face.motion import Motion  # noqa: E402
from kmtalk.face.rig import load_rig  # noqa: E402
from kmtalk.render import scene, worker  # noqa: E402


class PlainRenderer:
    """The plain loop: a new scene for every frame, lit, 4×MSAA."""

    def __init__(self, faces: np.ndarray, colors: np.ndarray, framed: np.ndarray, size: int) -> None:
        self._pose, distance = scene.frame_camera(framed, 1.0, 0.18, 0.04)
        self._faces = faces
        self._rgba = np.concatenate([(colors / 255.0) ** 2.2, np.ones((len(colors), 1))], axis=1)
        self._material = pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.6)
        near, far = distance * 0.3, distance * 2.5
        self._camera = pyrender.PerspectiveCamera(yfov=scene.FIELD_OF_VIEW, znear=near, zfar=far)
        self._normals = scene.VertexNormals(faces, len(colors))  # the same in both, so that it is not compared
        self._renderer = pyrender.OffscreenRenderer(size, size)

    def render(self, vertices: np.ndarray) -> np.ndarray:
        pyrender_scene = pyrender.Scene(bg_color=[0.93, 0.94, 0.96, 1], ambient_light=[0.2] * 3)
        primitive = pyrender.Primitive(
            positions=vertices,
            normals=self._normals(vertices),
            color_0=self._rgba,
            indices=self._faces,
            material=self._material,
        )
        pyrender_scene.add(pyrender.Mesh([primitive]))
        pyrender_scene.add(self._camera, pose=self._pose)
        for direction, color in scene.LIGHTS:
            light = pyrender.DirectionalLight(color=color, intensity=3.0)
            pyrender_scene.add(light, pose=scene.look_at(np.array(direction), np.zeros(3)))
        picture, _ = self._renderer.render(pyrender_scene)
        return np.ascontiguousarray(picture)

    def close(self) -> None:
        self._renderer.delete()


def time_frames(
    renderer: PlainRenderer | scene.SceneRenderer, frames: np.ndarray, path: Path | None, size: int
) -> float:
    """Return the seconds for all frames, written to an mp4 where `path` is given, after three frames of warm-up."""
    for vertices in frames[:3]:
        renderer.render(vertices)
    start = time.perf_counter()
    writer = None
    if path is not None:
        writer = worker.open_video(str(path), (size, size), 30.0, None)
    for vertices in frames:
        picture = renderer.render(vertices)
        if writer is not None:
            writer.send(picture)
    if writer is not None:
        writer.close()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    rig = load_rig(Path(__file__).parent.parent / "assets" / "head.safetensors")
    weights = np.zeros((options.frames, len(rig.shape_names)), np.float32)
    weights[:, rig.index["jawOpen"]] = 0.3 * np.abs(np.sin(np.arange(options.frames) * 0.4))
    motion = Motion(rig, weights, 30.0)
    frames, template = motion.vertices(), rig.template
    framed = np.concatenate([frames.min(0), frames.max(0)])
    assert template.colors is not None
    n, size = options.frames, options.size
    print(f"{NAME}, {len(template.vertices)} vertices, {size}², {n} frames")
    with tempfile.TemporaryDirectory() as folder:
        for what, path in (("frames alone", None), ("into an mp4", Path(folder) / "x.mp4")):
            plain = PlainRenderer(template.faces, template.colors, framed, size)
            plain_seconds = time_frames(plain, frames, path, size)
            plain.close()
            renderer = scene.SceneRenderer(frames[0], template.faces, template.colors, framed, (size, size))
            kmtalk_seconds = time_frames(renderer, frames, path, size)
            renderer.close()
            print(
                f"{what}: plain pyrender loop {n / plain_seconds:.1f} frames/s, "
                f"kmtalk {n / kmtalk_seconds:.1f}, ratio {plain_seconds / kmtalk_seconds:.2f}"
            )
    assert "torch" not in sys.modules
    from kmtalk.render.video import render_video
    from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples

    audio = audio_from_samples(np.zeros(int(SAMPLE_RATE * n / 30), np.float32), SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        render_video(motion, audio, Path(folder) / "v.mp4", (options.size, options.size))
        video_seconds = time.perf_counter() - start
    print(
        f"whole mp4 with sound {n / video_seconds:6.1f} frames/s   "
        f"ratio {plain_seconds / video_seconds:.2f} (including start-up, h264 and aac)"
    )


if __name__ == "__main__":
    main()
