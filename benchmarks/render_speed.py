"""Video speed against the plain pyrender loop, in one run.

    python benchmarks/render_speed.py [--frames 120]

Draws the same frames of the default head at 512² twice: by the plain loop (mesh made anew for every
frame, lit, 4×MSAA: what pyrender's documentation shows) and by kmtalk's Stage (buffers updated in
place, light per vertex, 4×MSAA). Prints frames a second of each and their ratio: of the frames alone
and of the same frames into the same h264 encoder. Only the ratios carry over to other machines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kmtalk.render import opengl

NAME = opengl.select_backend()  # before pyrender, and without torch

import pyrender  # noqa: E402

from kmtalk.face.motion import Motion  # noqa: E402
from kmtalk.face.rig import load_rig  # noqa: E402
from kmtalk.render import scene, worker  # noqa: E402


class Plain:
    """The plain loop: everything made anew for every frame, lit, 4×MSAA."""

    def __init__(self, faces: np.ndarray, colors: np.ndarray, framed: np.ndarray, size: int) -> None:
        self._pose, distance = scene.frame_camera(framed, 1.0, 0.18, 0.04)
        self._faces = faces
        self._rgba = np.concatenate([(colors / 255.0) ** 2.2, np.ones((len(colors), 1))], axis=1)
        self._material = pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.6)
        near, far = distance * 0.3, distance * 2.5
        self._camera = pyrender.PerspectiveCamera(yfov=scene.FIELD_OF_VIEW, znear=near, zfar=far)
        self._normals = scene.VertexNormals(faces, len(colors))  # how normals are made is not what is compared
        self._renderer = pyrender.OffscreenRenderer(size, size)

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        stage = pyrender.Scene(bg_color=[0.93, 0.94, 0.96, 1], ambient_light=[0.2] * 3)
        primitive = pyrender.Primitive(
            positions=vertices,
            normals=self._normals(vertices),
            color_0=self._rgba,
            indices=self._faces,
            material=self._material,
        )
        stage.add(pyrender.Mesh([primitive]))
        stage.add(self._camera, pose=self._pose)
        for direction, color in scene.LIGHTS:
            light = pyrender.DirectionalLight(color=color, intensity=3.0)
            stage.add(light, pose=scene.look_at(np.array(direction), np.zeros(3)))
        picture, _ = self._renderer.render(stage)
        return np.ascontiguousarray(picture)

    def close(self) -> None:
        self._renderer.delete()


def timed(stage: Plain | scene.SceneRenderer, frames: np.ndarray, path: Path | None, size: int) -> float:
    """Seconds for all frames, into an mp4 where ``path`` is given; the first draws compile shaders."""
    for vertices in frames[:3]:
        stage.render(vertices)
    start = time.perf_counter()
    writer = None
    if path is not None:
        writer = worker.open_video(str(path), (size, size), 30.0, None)
    for vertices in frames:
        picture = stage.render(vertices)
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
    weights = np.zeros((options.frames, len(rig.names)), np.float32)
    weights[:, rig.index["jawOpen"]] = 0.3 * np.abs(np.sin(np.arange(options.frames) * 0.4))
    motion = Motion(rig, weights, 30.0)
    frames, t = motion.vertices(), rig.template
    framed = np.concatenate([frames.min(0), frames.max(0)])
    assert t.colors is not None
    n, size = options.frames, options.size
    print(f"{NAME}, {len(t.vertices)} vertices, {size}², {n} frames")
    with tempfile.TemporaryDirectory() as folder:
        for what, path in (("frames alone", None), ("into an mp4", Path(folder) / "x.mp4")):
            plain = Plain(t.faces, t.colors, framed, size)
            slow = timed(plain, frames, path, size)
            plain.close()
            stage = scene.SceneRenderer(frames[0], t.faces, t.colors, framed, (size, size))
            fast = timed(stage, frames, path, size)
            stage.close()
            print(
                f"{what}: plain pyrender loop {n / slow:.1f} frames/s, kmtalk {n / fast:.1f}, ratio {slow / fast:.2f}"
            )
    assert "torch" not in sys.modules
    from kmtalk.render.video import render_video
    from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples

    audio = audio_from_samples(np.zeros(int(SAMPLE_RATE * n / 30), np.float32), SAMPLE_RATE)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        render_video(motion, audio, Path(folder) / "v.mp4", (options.size, options.size))
        whole = time.perf_counter() - start
    print(
        f"whole mp4 with sound {n / whole:6.1f} frames/s   ratio {slow / whole:.2f} (start-up, h264 and aac included)"
    )


if __name__ == "__main__":
    main()
