"""The rendering process, `python -m kmtalk.render.worker FOLDER`; it never imports torch.

FOLDER contains `job.json` and `face.npz`, and for two faces `other.npz` (see `video.run_render_process`). The process
prints "gl NAME" at the start and "done N" after each frame; an error is one line on stderr and exit code 1. It ends
when its standard input does, which its parent holds open: it must not outlive a parent that is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.render import opengl
from kmtalk.render.camera import Camera, place_camera
from kmtalk.render.encoder import VideoEncoder
from kmtalk.render.posed_mesh import PosedMesh

CAPTION, SHEET_CAPTION = 30, 26  # heights in pixels of the captions below pictures


def main(folder: Path) -> None:
    """Run the job in a folder."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    name = opengl.select_backend()
    from kmtalk.render.scene import SceneRenderer

    print(f"gl {name}", flush=True)
    face = PosedMesh(folder / "face.npz")
    if job["kind"] == "sheet":
        _draw_contact_sheet(face, job)
        return
    if job["kind"] == "compare":
        _draw_comparison(face, PosedMesh(folder / "other.npz"), job)
        return
    if job["kind"] == "side by side":
        _draw_side_by_side(face, PosedMesh(folder / "other.npz"), job)
        return
    size = (job["width"], job["height"])
    stage = SceneRenderer(face, _camera([face], job), size, job["quality"], job["background"])
    with VideoEncoder(job["output"], size, job["fps"], job["audio"]) as video:
        for n, vertices in enumerate(face.frames(), 1):
            video.add(stage.render(vertices))
            print(f"done {n}", flush=True)
    stage.close()


def _camera(meshes: Sequence[PosedMesh], job: dict[str, Any]) -> Camera:
    """One camera for all frames of meshes that share their landmarks."""
    points = np.concatenate([extremes for mesh in meshes for extremes in (mesh.low, mesh.high)])
    marks = [mesh.landmark_positions() for mesh in meshes]
    landmarks = {name: np.concatenate([m[name] for m in marks]) for name in marks[0]}
    return place_camera(points, landmarks, job["frame"], job["view"], job["width"] / job["height"])


def _draw_contact_sheet(face: PosedMesh, job: dict[str, Any]) -> None:
    """Draw the chosen frames with captions, in rows."""
    from PIL import Image, ImageDraw, ImageFont

    from kmtalk.render.scene import SceneRenderer

    cells, width, columns = job["cells"], job["width"], job["columns"]
    cameras = {
        (cell["framing"], cell["view"]): _camera(
            [face], {"frame": cell["framing"], "view": cell["view"], "width": width, "height": width}
        )
        for cell in cells
    }
    current = next(iter(cameras))
    stage = SceneRenderer(face, cameras[current], (width, width), "high")
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (width * columns, (width + SHEET_CAPTION) * rows), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    frames = face.frames(np.array([cell["frame"] for cell in cells]))
    for n, (cell, vertices) in enumerate(zip(cells, frames, strict=True)):
        if (cell["framing"], cell["view"]) != current:
            current = cell["framing"], cell["view"]
            stage.look(cameras[current])
        if cell["framing"] in ("mouth", "eyes"):  # close-ups follow a head that turns far
            vertices = vertices - face.head_shift(vertices)
        x, y = (n % columns) * width, (n // columns) * (width + SHEET_CAPTION)
        sheet.paste(Image.fromarray(stage.render(vertices)), (x, y))
        draw.text((x + 6, y + width + 3), cell["label"], fill="black", font=font)
        print(f"done {n + 1}", flush=True)
    stage.close()
    sheet.save(job["output"], format="PNG", optimize=True)


def _draw_comparison(first: PosedMesh, second: PosedMesh, job: dict[str, Any]) -> None:
    """Draw both faces and, third, the first face coloured by its distance from the second, as one video."""
    from PIL import Image, ImageDraw, ImageFont

    from kmtalk.render.scene import SceneRenderer

    width, height, count = job["width"], job["height"], job["frames"]
    camera = _camera([first, second], job)
    look = (camera, (width, height), job["quality"], job["background"])
    stage = SceneRenderer(first, *look)
    heat_stage = SceneRenderer(first.without_textures(), *look, share=stage)
    canvas = Image.new("RGB", (3 * width, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    captions = (*job["names"], f"distance, 0 to {job['max_distance']:g} mm")
    for column, caption in enumerate(captions):
        draw.text((column * width + 8, height + 6), caption[: max(8, width // 9)], fill="black", font=font)
    bar = _heat_colors(np.linspace(0, 1, 120))
    color_bar = Image.fromarray((np.repeat(bar[None], 12, 0) * 255).astype(np.uint8))
    canvas.paste(color_bar, (3 * width - 130, height + 9))
    vertex_pairs = zip(first.frames(np.arange(count)), second.frames(np.arange(count)), strict=True)
    with VideoEncoder(job["output"], canvas.size, job["fps"], job["audio"]) as video:
        for n, (a, b) in enumerate(vertex_pairs, 1):
            distances = np.linalg.norm(a - b, axis=1) * job["mm_per_unit"]
            heat_stage.paint(_heat_colors(distances / job["max_distance"]))
            for column, picture in enumerate((stage.render(a), stage.render(b), heat_stage.render(a))):
                canvas.paste(Image.fromarray(picture), (column * width, 0))
            video.add(np.asarray(canvas))
            print(f"done {n}", flush=True)
    heat_stage.close()
    stage.close()


def _draw_side_by_side(first: PosedMesh, second: PosedMesh, job: dict[str, Any]) -> None:
    """Draw two faces, each framed by itself, as one video."""
    from kmtalk.render.scene import SceneRenderer

    size, look = (job["width"], job["height"]), (job["quality"], job["background"])
    left = SceneRenderer(first, _camera([first], job), size, *look)
    right = SceneRenderer(second, _camera([second], job), size, *look, share=left)
    count = np.arange(job["frames"])
    with VideoEncoder(job["output"], (2 * size[0], size[1]), job["fps"], job["audio"]) as video:
        for n, (a, b) in enumerate(zip(first.frames(count), second.frames(count), strict=True), 1):
            video.add(np.concatenate([left.render(a), right.render(b)], axis=1))
            print(f"done {n}", flush=True)
    right.close()
    left.close()


_STOPS = np.array([[0.88, 0.88, 0.90], [0.98, 0.85, 0.35], [0.93, 0.45, 0.20], [0.60, 0.05, 0.15]])


def _heat_colors(fraction: np.ndarray) -> np.ndarray:
    """Colours (V, 3) on a scale of grey, yellow, orange and dark red for values (V,) of 0 to 1."""
    position = np.clip(fraction, 0, 1) * (len(_STOPS) - 1)
    return np.stack([np.interp(position, np.arange(len(_STOPS)), _STOPS[:, k]) for k in range(3)], axis=1)


def _exit_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    try:
        main(Path(sys.argv[1]))
    except (opengl.OpenGLNotFoundError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
