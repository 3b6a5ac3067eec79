"""The rendering process, `python -m kmtalk.render.worker FOLDER`; it never imports torch.

FOLDER contains `job.json` and `face.npz`, and for comparisons `other.npz` (see `video.run_render_process`). The process
prints "gl NAME" at the start and "done N" after each frame; an error is one line on stderr and exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.render import opengl

FRAMES_PER_CHUNK = 64  # frames posed at once: bounds memory for clips of any length


class PosedMesh:
    """Vertices per frame from the morph targets and their weights, turned upright."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.neutral, self.faces = file["vertices"], file["faces"]
            self.offsets, self.weights = file["offsets"], file["weights"]
            self.colors = file["colors"] if "colors" in file.files else None
            self.rotation = file["upright"]  # (3, 3): turns the template upright, y up, z forward
        moving = np.flatnonzero(np.abs(self.offsets).max((0, 2)) > 0)
        self._moving, self._basis = moving, self.offsets[:, moving].reshape(len(self.offsets), -1)
        self.neutral = (self.neutral @ self.rotation.T).astype(np.float32)

    def frames(self, indices: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yield the vertices (V, 3) of each frame, or of the frames in `indices`."""
        weights = self.weights if indices is None else self.weights[indices]
        for start in range(0, len(weights), FRAMES_PER_CHUNK):
            part = weights[start : start + FRAMES_PER_CHUNK]
            moved = (part @ self._basis).reshape(len(part), -1, 3) @ self.rotation.T
            for offsets in moved.astype(np.float32):
                vertices = self.neutral.copy()
                vertices[self._moving] += offsets
                yield vertices

    def bounding_points(self) -> np.ndarray:
        """Corners (2V, 3) of the bounding box of each vertex over all frames, to place one camera for all frames."""
        low, high = self.neutral.copy(), self.neutral.copy()
        for vertices in self.frames():
            np.minimum(low, vertices, out=low)
            np.maximum(high, vertices, out=high)
        return np.concatenate([low, high])


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
    size = (job["width"], job["height"])
    stage = SceneRenderer(face.neutral, face.faces, face.colors, face.bounding_points(), size, job["quality"])
    writer = open_video(job["output"], size, job["fps"], job["audio"])
    for n, vertices in enumerate(face.frames(), 1):
        writer.send(stage.render(vertices))
        print(f"done {n}", flush=True)
    writer.close()
    stage.close()


def open_video(path: str, size: tuple[int, int], fps: float, audio: str | None) -> Generator[None, np.ndarray, None]:
    """Start writing an mp4; send pictures (H, W, 3) uint8 to the returned generator, then close it."""
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        path,
        size,
        fps=fps,
        codec="libx264",
        pix_fmt_in="rgb24",
        pix_fmt_out="yuv420p",
        quality=None,
        macro_block_size=2,
        audio_path=audio,
        audio_codec="aac" if audio else None,
        ffmpeg_log_level="error",
        output_params=[
            *("-preset", "veryfast", "-crf", "18", "-movflags", "+faststart", "-ac", "2", "-b:a", "160k"),
            *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
            *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
        ],
    )
    writer.send(None)
    return writer


def _draw_contact_sheet(face: PosedMesh, job: dict[str, Any]) -> None:
    """Draw the chosen frames with captions, in rows, with the job's region in view."""
    from PIL import Image, ImageDraw, ImageFont

    from kmtalk.render.scene import SceneRenderer

    cell, columns, caption = job["width"], job["columns"], 26
    region = np.array(job["region"])
    points = face.neutral[region]
    low, high = points.min(0), points.max(0)
    margin = 0.35 * (high - low).max()  # room for the jaw to open and the mouth corners to spread
    low, high = low - [margin / 4, margin, 0], high + [margin / 4, margin / 2, 0]
    stage = SceneRenderer(
        face.neutral, face.faces, face.colors, np.stack([low, high]), (cell, cell), "high", yaw=job["yaw"], pitch=0.0
    )
    frames, labels = np.array(job["frames"]), job["labels"]
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (cell * columns, (cell + caption) * rows), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for n, vertices in enumerate(face.frames(frames)):
        x, y = (n % columns) * cell, (n // columns) * (cell + caption)
        sheet.paste(Image.fromarray(stage.render(vertices)), (x, y))
        draw.text((x + 6, y + cell + 3), labels[n], fill="black", font=font)
        print(f"done {n + 1}", flush=True)
    stage.close()
    sheet.save(job["output"], format="PNG", optimize=True)


CAPTION = 30  # height in pixels of the caption below each picture


def _draw_comparison(first: PosedMesh, second: PosedMesh, job: dict[str, Any]) -> None:
    """Draw both faces and, third, the first face coloured by its distance from the second, as one video."""
    from PIL import Image, ImageDraw, ImageFont

    from kmtalk.render.scene import SceneRenderer

    width, height, count = job["width"], job["height"], job["frames"]
    framed = np.concatenate([first.bounding_points(), second.bounding_points()])
    stage = SceneRenderer(first.neutral, first.faces, first.colors, framed, (width, height), job["quality"])
    base_colors = [
        np.tile(_PALE, (len(f.neutral), 1)) if f.colors is None else f.colors / 255.0 for f in (first, second)
    ]
    canvas = Image.new("RGB", (3 * width, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    captions = (*job["names"], f"distance, 0 to {job['max_distance']:g} mm")
    for column, caption in enumerate(captions):
        draw.text((column * width + 8, height + 6), caption[: max(8, width // 9)], fill="black", font=font)
    bar = _heat_colors(np.linspace(0, 1, 120))
    color_bar = Image.fromarray((np.repeat(bar[None], 12, 0) * 255).astype(np.uint8))
    canvas.paste(color_bar, (3 * width - 130, height + 9))
    writer = open_video(job["output"], canvas.size, job["fps"], job["audio"])
    vertex_pairs = zip(first.frames(np.arange(count)), second.frames(np.arange(count)), strict=True)
    for n, (a, b) in enumerate(vertex_pairs, 1):
        distances = np.linalg.norm(a - b, axis=1) * job["mm_per_unit"]
        pictures = [
            stage.render(a, base_colors[0]),
            stage.render(b, base_colors[1]),
            stage.render(a, _heat_colors(distances / job["max_distance"])),
        ]
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (column * width, 0))
        writer.send(np.asarray(canvas))
        print(f"done {n}", flush=True)
    writer.close()
    stage.close()


_PALE = (0.80, 0.66, 0.58)
_STOPS = np.array([[0.88, 0.88, 0.90], [0.98, 0.85, 0.35], [0.93, 0.45, 0.20], [0.60, 0.05, 0.15]])


def _heat_colors(fraction: np.ndarray) -> np.ndarray:
    """Colours (V, 3) on a scale of grey, yellow, orange and dark red for values (V,) of 0 to 1."""
    position = np.clip(fraction, 0, 1) * (len(_STOPS) - 1)
    return np.stack([np.interp(position, np.arange(len(_STOPS)), _STOPS[:, k]) for k in range(3)], axis=1)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (opengl.OpenGLNotFoundError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
