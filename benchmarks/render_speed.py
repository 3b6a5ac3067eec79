"""Rendering speed of all qualities compared with a plain pyrender loop, in one run.

    python benchmarks/render_speed.py [--frames 60]

Draws the same frames of the light and the full head with a plain loop (a new mesh for every frame, lit, 4×MSAA, without
textures or shadows, as in pyrender's documentation) and with `kmtalk.render.scene.SceneRenderer` in each quality, at
512² and 1024². Prints the frames per second of drawing alone and of drawing into the same H.264 encoder, and their
ratios to the plain loop. Only the ratios are comparable between machines.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from kmtalk.render import opengl

NAME = opengl.select_backend()  # must precede the import of pyrender; imports no torch

import pyrender  # noqa: E402

from kmtalk.assets import asset_path  # noqa: E402
from kmtalk.render import camera, scene  # noqa: E402
from kmtalk.render.encoder import VideoEncoder  # noqa: E402
from kmtalk.render.posed_mesh import PosedMesh, VertexNormals  # noqa: E402

SIZES, HEADS = (512, 1024), ("head_light", "head")


class PlainRenderer:
    """The plain loop: a new scene for every frame, lit, 4×MSAA."""

    def __init__(self, mesh: PosedMesh, view: camera.Camera, size: int) -> None:
        self._view, self._faces = view, mesh.faces
        self._rgba = np.concatenate([mesh.colors**2.2, np.ones((len(mesh.colors), 1))], axis=1)
        self._material = pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=0.6)
        near, far = view.distance * 0.3, view.distance * 2.5
        self._camera = pyrender.PerspectiveCamera(yfov=camera.FIELD_OF_VIEW, znear=near, zfar=far)
        self._normals = VertexNormals(mesh.faces, mesh.neutral)  # the same in all, so that it is not compared
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
        pyrender_scene.add(self._camera, pose=self._view.pose)
        for direction, color in scene.LIGHTS:
            light = pyrender.DirectionalLight(color=color, intensity=3.0)
            pyrender_scene.add(light, pose=camera.look_at(np.array(direction), np.zeros(3)))
        picture, _ = self._renderer.render(pyrender_scene)
        return np.ascontiguousarray(picture)

    def close(self) -> None:
        self._renderer.delete()


def frames_per_second(render: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, path: Path | None) -> float:
    """Return the speed over all frames, written to an mp4 where `path` is given, after three frames of warm-up."""
    for vertices in frames[:3]:
        picture = render(vertices)
    size = picture.shape[1], picture.shape[0]
    start = time.perf_counter()
    with nullcontext() if path is None else VideoEncoder(str(path), size, 30.0, None, "veryfast", 18) as video:
        for vertices in frames:
            picture = render(vertices)
            if video is not None:
                video.add(picture)
    return len(frames) / (time.perf_counter() - start)


def write_mesh(rig_path: Path, frame_count: int, path: Path) -> None:
    """Write a talking head for `PosedMesh`; a function of its own, so that torch is imported after OpenGL."""
    from kmtalk.face.motion import Motion
    from kmtalk.face.rig import load_rig
    from kmtalk.render.video import write_render_input

    rig = load_rig(rig_path)
    weights = np.zeros((frame_count, len(rig.shape_names)), np.float32)
    weights[:, rig.index["jawOpen"]] = 0.3 * np.abs(np.sin(np.arange(frame_count) * 0.4))
    write_render_input(path, Motion(rig, weights, 30.0))


def print_rows(mesh: PosedMesh, title: str, size: int, folder: Path) -> None:
    """Measure the plain loop and all qualities with one head at one size."""
    points = np.concatenate([mesh.low, mesh.high])
    view = camera.place_camera(points, mesh.landmark_positions(), "head", "portrait", 1.0)
    frames = np.stack(list(mesh.frames()))
    plain: list[float] = []
    for name in ("plain", *scene.QUALITIES):
        renderer: PlainRenderer | scene.SceneRenderer
        if name == "plain":
            renderer = PlainRenderer(mesh, view, size)
        else:
            renderer = scene.SceneRenderer(mesh, view, (size, size), name)
        speeds = [frames_per_second(renderer.render, frames, path) for path in (None, folder / "x.mp4")]
        renderer.close()
        plain = plain or speeds
        columns = [f"{speed:.1f} ({speed / reference:.2f})" for speed, reference in zip(speeds, plain, strict=True)]
        print(f"{title:<24}{size:>5}²  {name:<8}" + "".join(f"{column:>18}" for column in columns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    print(f"{NAME}, {options.frames} frames; frames per second (ratio to plain)")
    print(f"{'head':<24}{'size':>6}  {'renderer':<8}{'drawing alone':>18}{'into an mp4':>18}")
    with tempfile.TemporaryDirectory() as folder:
        for name in HEADS:
            write_mesh(asset_path(f"{name}.safetensors"), options.frames, Path(folder) / "face.npz")
            mesh = PosedMesh(Path(folder) / "face.npz")
            for size in SIZES:
                print_rows(mesh, f"{name}, {len(mesh.neutral)} vertices", size, Path(folder))


if __name__ == "__main__":
    main()
