"""What a video shows, picture by picture: a face, a comparison of two, or two side by side.

Imported only by rendering processes, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kmtalk.render.camera import Camera, place_camera
from kmtalk.render.captions import COMPARISON_CAPTION
from kmtalk.render.posed_mesh import PosedMesh
from kmtalk.render.scene import SceneRenderer

_STOPS = np.array([[0.88, 0.88, 0.90], [0.98, 0.85, 0.35], [0.93, 0.45, 0.20], [0.60, 0.05, 0.15]])


class Drawing(ABC):
    """Draws any frame of a video.

    Args:
        folder: Folder of the job, with its faces (see `worker`).
        job: Its description.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.job, self.size = job, (job["width"], job["height"])
        self.first = PosedMesh(folder / "face.npz")

    @abstractmethod
    def pictures(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the picture (H, W, 3) uint8 of each frame."""

    @abstractmethod
    def close(self) -> None:
        """Free the OpenGL context."""

    def _look(self, *meshes: PosedMesh) -> tuple[Camera, tuple[int, int], str, Sequence[int] | None]:
        """Camera, size, quality and background of the renderers."""
        return camera_of_job(meshes, self.job), self.size, self.job["quality"], self.job["background"]


class FaceDrawing(Drawing):
    """One face."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        super().__init__(folder, job)
        self._stage = SceneRenderer(self.first, *self._look(self.first))

    def pictures(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the picture (H, W, 3) uint8 of each frame."""
        return (self._stage.render(vertices) for vertices in self.first.frames(frames))

    def close(self) -> None:
        """Free the OpenGL context."""
        self._stage.close()


class SideBySideDrawing(Drawing):
    """Two faces, each framed by itself."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        super().__init__(folder, job)
        self.second = PosedMesh(folder / "other.npz")
        self._left = SceneRenderer(self.first, *self._look(self.first))
        self._right = SceneRenderer(self.second, *self._look(self.second), share=self._left)

    def pictures(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the picture (H, 2W, 3) uint8 of each frame."""
        for a, b in zip(self.first.frames(frames), self.second.frames(frames), strict=True):
            yield np.concatenate([self._left.render(a), self._right.render(b)], axis=1)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._right.close()
        self._left.close()


class ComparisonDrawing(Drawing):
    """Both faces and, third, the first face coloured by its distance from the second."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        super().__init__(folder, job)
        self.second = PosedMesh(folder / "other.npz")
        look = self._look(self.first, self.second)
        self._stage = SceneRenderer(self.first, *look)
        self._heat_stage = SceneRenderer(self.first.without_textures(), *look, share=self._stage)
        width, height = self.size
        self._canvas = Image.new("RGB", (3 * width, height + COMPARISON_CAPTION), "white")
        draw, font = ImageDraw.Draw(self._canvas), ImageFont.load_default(size=15)
        captions = (*job["names"], f"distance, 0 to {job['max_distance']:g} mm")
        for column, caption in enumerate(captions):
            draw.text((column * width + 8, height + 6), caption[: max(8, width // 9)], fill="black", font=font)
        bar = np.repeat(_heat_colors(np.linspace(0, 1, 120))[None], 12, 0)
        self._canvas.paste(Image.fromarray((bar * 255).astype(np.uint8)), (3 * width - 130, height + 9))

    def pictures(self, frames: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the picture (H + caption, 3W, 3) uint8 of each frame."""
        for a, b in zip(self.first.frames(frames), self.second.frames(frames), strict=True):
            distances = np.linalg.norm(a - b, axis=1) * self.job["mm_per_unit"]
            self._heat_stage.paint(_heat_colors(distances / self.job["max_distance"]))
            three = (self._stage.render(a), self._stage.render(b), self._heat_stage.render(a))
            for column, picture in enumerate(three):
                self._canvas.paste(Image.fromarray(picture), (column * self.size[0], 0))
            yield np.array(self._canvas)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._heat_stage.close()
        self._stage.close()


_DRAWINGS: dict[str, Callable[[Path, dict[str, Any]], Drawing]] = {
    "video": FaceDrawing,
    "compare": ComparisonDrawing,
    "side by side": SideBySideDrawing,
}


def make_drawing(folder: Path, job: dict[str, Any]) -> Drawing:
    """Return the drawing of a job."""
    return _DRAWINGS[job["kind"]](folder, job)


def camera_of_job(meshes: Sequence[PosedMesh], job: dict[str, Any]) -> Camera:
    """One camera for all frames of meshes that share their landmarks."""
    points = np.concatenate([extremes for mesh in meshes for extremes in (mesh.low, mesh.high)])
    marks = [mesh.landmark_positions() for mesh in meshes]
    landmarks = {name: np.concatenate([m[name] for m in marks]) for name in marks[0]}
    return place_camera(points, landmarks, job["frame"], job["view"], job["width"] / job["height"])


def _heat_colors(fraction: np.ndarray) -> np.ndarray:
    """Colours (V, 3) on a scale of grey, yellow, orange and dark red for values (V,) of 0 to 1."""
    position = np.clip(fraction, 0, 1) * (len(_STOPS) - 1)
    return np.stack([np.interp(position, np.arange(len(_STOPS)), _STOPS[:, k]) for k in range(3)], axis=1)
