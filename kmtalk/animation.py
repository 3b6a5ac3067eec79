"""Animation: what comes out, and the files it becomes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.gltf import write_glb
from kmtalk.exchange.keyfile import write_keys
from kmtalk.exchange.npz import write_npz
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template
from kmtalk.keys import KeyFrames, phone_frames
from kmtalk.progress import Progress
from kmtalk.render.video import contact_sheet, render_video
from kmtalk.speech.alignment import Alignment, write_textgrid
from kmtalk.speech.audio import Audio

SUFFIXES = (".mp4", ".glb", ".npz")
OTHERS = (".png", ".textgrid", ".kmrig", ".json")  # files that other commands write
SHEET_CELLS = 40  # most pictures on a contact sheet


@dataclass(frozen=True)
class Animation:
    """One clip's talking face. Frame n shows time (n + 0.5) / ``fps``."""

    motion: Motion
    alignment: Alignment
    keys: KeyFrames
    audio: Audio

    @property
    def template(self) -> Template:
        """The neutral: ``.vertices`` (V, 3), ``.faces``, ``.landmarks`` name → vertex index."""
        return self.motion.rig.template

    @property
    def fps(self) -> float:
        return self.motion.fps

    @property
    def weights(self) -> np.ndarray:
        """(N, R) float32 in [0, 1], columns named by ``names``."""
        return self.motion.weights

    @property
    def names(self) -> tuple[str, ...]:
        return self.motion.rig.names

    @cached_property
    def vertices(self) -> np.ndarray:
        """(N, V, 3) float32 in the template's own units and vertex order."""
        return self.motion.vertices()

    def save(
        self,
        path: str | Path,
        video: bool = True,
        size: tuple[int, int] = (512, 512),
        quality: str = "draft",
        progress: Progress | None = None,
    ) -> list[Path]:
        """Write one file (.mp4, .glb, .npz) or, for any other path, a folder with all of them and the
        TextGrid and keys.json. Returns what was written; nothing is left behind where it fails.

        Raises InputError where the path cannot be written.
        """
        path, progress = Path(path), progress or Progress()

        def film(target: Path) -> None:
            with progress.stage("render", len(self.motion)) as advance:
                render_video(self.motion, self.audio, target, size, quality, advance)

        def scene(target: Path) -> None:
            with progress.stage("export"):
                write_glb(target, self.motion)

        def arrays(target: Path) -> None:
            with progress.stage("export"):
                write_npz(target, self.motion, self.keys, self.alignment)

        writers: dict[str, Callable[[Path], None]] = {".mp4": film, ".glb": scene, ".npz": arrays}
        if path.suffix.lower() in writers:
            with finished(path) as temporary:
                writers[path.suffix.lower()](temporary)
            return [path]
        with finished(path) as folder:
            folder.mkdir()
            arrays(folder / "animation.npz")
            scene(folder / "animation.glb")
            write_textgrid(self.alignment, folder / "speech.TextGrid", self.audio.duration)
            write_keys(folder / "keys.json", self.motion, self.keys)
            if video:
                film(folder / "animation.mp4")
            written = sorted(path / item.name for item in folder.iterdir())
        return written

    def render(self, path: str | Path, size: tuple[int, int] = (512, 512), quality: str = "draft") -> None:
        """Write an mp4 with sound."""
        if Path(path).suffix.lower() != ".mp4":
            raise InputError(f"{path}: video is written as .mp4")
        self.save(path, size=size, quality=quality)

    def sheet(self, path: str | Path) -> None:
        """Write a PNG of frames at phones, close to the mouth, captioned."""
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: a contact sheet is written as .png")
        cells = phone_frames(self.alignment, len(self.motion), self.fps)
        if not cells:
            cells = [(int(f), "") for f in self.keys.frames]
        cells = cells[:SHEET_CELLS]
        labels = [f"{label}  {(frame + 0.5) / self.fps:.2f} s".strip() for frame, label in cells]
        with finished(Path(path)) as temporary:
            contact_sheet(self.motion, [frame for frame, _ in cells], labels, temporary)


def check_writable(path: str | Path) -> None:
    """Raise InputError where nothing can be written at ``path``, before long work begins."""
    path = Path(path)
    if path.is_dir() and path.suffix.lower() in (*SUFFIXES, *OTHERS):
        raise InputError(f"{path}: is a folder, and a {path.suffix} file is to be written there")
    if path.is_file() and path.suffix.lower() not in (*SUFFIXES, *OTHERS):
        raise InputError(f"{path}: is a file; -o takes a folder, or a file ending in {', '.join(SUFFIXES)}")
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".kmtalk-"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place only when all is written.

    Into a folder that is there already the new files are moved one by one; others stay.
    """
    check_writable(path)
    made = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kmtalk-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            if temporary.is_dir() and path.is_dir():
                for item in temporary.iterdir():
                    item.replace(path / item.name)
            elif temporary.exists():
                temporary.replace(path)
    except OSError as error:
        _drop_empty(made)
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        _drop_empty(made)
        raise


def _drop_empty(folders: list[Path]) -> None:
    """Remove folders, inner ones first, that are still empty: another run may have written there."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
