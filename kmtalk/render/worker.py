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
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.render import opengl
from kmtalk.render.captions import COMPARISON_CAPTION, SHEET_CAPTION
from kmtalk.render.encoder import VideoEncoder
from kmtalk.render.parallel_drawing import count_processes, draw_frames

# preset and constant rate factor of x264 by quality; on a rendered head, at equal or better structural similarity, the
# first takes a quarter less time than the second, and half as much space again
PRESETS = {"draft": ("superfast", 20), "high": ("veryfast", 18)}


def main(folder: Path) -> None:
    """Run the job in a folder."""
    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    if job["kind"] == "sheet":
        _draw_contact_sheet(folder, job)
        return
    size, preset = picture_size(job), PRESETS[job["quality"]]
    pictures = draw_frames(folder, job, size, count_processes(job["frames"], job["threads"]))
    with closing(pictures), VideoEncoder(job["output"], size, job["fps"], job["audio"], *preset) as video:
        for n, (picture, name) in enumerate(pictures, 1):
            if n == 1:
                print(f"gl {name}", flush=True)
            video.add(picture)
            print(f"done {n}", flush=True)


def picture_size(job: dict[str, Any]) -> tuple[int, int]:
    """Width and height in pixels of the pictures of a job."""
    width, height = job["width"], job["height"]
    if job["kind"] == "compare":
        return 3 * width, height + COMPARISON_CAPTION
    return (2 * width, height) if job["kind"] == "side by side" else (width, height)


def _draw_contact_sheet(folder: Path, job: dict[str, Any]) -> None:
    """Draw the chosen frames with captions, in rows."""
    print(f"gl {opengl.select_backend()}", flush=True)
    from PIL import Image, ImageDraw, ImageFont

    from kmtalk.render.drawings import camera_of_job
    from kmtalk.render.posed_mesh import PosedMesh
    from kmtalk.render.scene import SceneRenderer

    face = PosedMesh(folder / "face.npz")
    cells, width, columns = job["cells"], job["width"], job["columns"]
    cameras = {
        (cell["framing"], cell["view"]): camera_of_job(
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
