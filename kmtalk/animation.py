"""Animation: what comes out, and the files it becomes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from kmtalk.errors import InputError
from kmtalk.exchange import arkit, pointcache, viseme_cues
from kmtalk.exchange.alembic import write_alembic
from kmtalk.exchange.blender import IMPORTABLE_SUFFIXES, write_blender_script
from kmtalk.exchange.formats import Format, all_suffixes, format_from_path, parse_formats
from kmtalk.exchange.gltf import read_glb_info, write_glb
from kmtalk.exchange.keys_json import Provenance, write_keys
from kmtalk.exchange.npz import read_npz, write_npz
from kmtalk.exchange.timeline import timeline_data
from kmtalk.exchange.usd import write_usd
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template
from kmtalk.keys import KeyMotions, phone_center_frames
from kmtalk.output import atomic_write
from kmtalk.progress import Progress
from kmtalk.render.video import render_contact_sheet, render_video
from kmtalk.render.web_page import write_web_page
from kmtalk.speech.alignment import Alignment, write_textgrid
from kmtalk.speech.audio import Audio, load_audio

MAX_CONTACT_SHEET_CELLS = 40  # most pictures on a contact sheet
DEFAULT_FOLDER_FORMATS = "npz,glb"
"""Formats that a folder gets where nobody says which."""


@dataclass(frozen=True)
class Animation:
    """One clip's talking face. Frame n shows time (n + 0.5) / ``fps``.

    ``keys`` may be edited (see ``keys.Keys``); ``complete`` then makes the frames between anew. ``provenance`` tells how it
    was made; ``completer`` is who completes it, KMTalk's.
    """

    motion: Motion
    alignment: Alignment
    keys: KeyMotions
    audio: Audio
    provenance: Provenance = field(default_factory=Provenance)
    completer: Callable[[Animation], Animation] | None = field(default=None, repr=False, compare=False)

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

    def complete(self) -> Animation:
        """A new animation that meets the pinned keys exactly; CMC makes the frames about them anew, and what is more
        than 0.5 s beyond the keys beside an edit stays as it was. Raises InputError for one that was read without
        ``KMTalk.load``."""
        if self.completer is None:
            raise InputError("completion needs the network: read animations with KMTalk().load(path)")
        return self.completer(self)

    def save(
        self,
        path: str | Path,
        formats: str | None = None,
        video: bool = True,
        size: tuple[int, int] = (512, 512),
        quality: str = "draft",
        bake: bool = False,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Write one file, its format by its name's end (``exchange.formats``), or for any other path a folder.

        A folder holds ``animation.*`` in ``formats`` (such as "glb,usd,abc"; the video too unless ``video`` is
        False, where none are given "npz,glb"), the TextGrid and keys.json, speech.wav and import_blender.py. ``bake``
        writes vertices by frame where shapes are usual. Returns what was written; nothing is left behind where it
        fails. Raises InputError where the path cannot be written.
        """
        path, progress = Path(path), progress or Progress()
        check_output_path(path)
        wanted = format_from_path(path)
        if wanted is not None:
            if formats is not None:
                raise InputError(f"{path}: formats are for a folder; this name says which it is")
            return self._save_file(path, wanted, size, quality, bake, progress)
        several = [f for f in parse_formats(formats or DEFAULT_FOLDER_FORMATS) if video or f.name != "mp4"]
        if formats is None and video:
            several += parse_formats("mp4")
        with atomic_write(path) as folder:
            folder.mkdir()
            models: list[str] = []
            for one in several:
                target = folder / f"animation{one.suffixes[0]}"
                if one.name == "obj":
                    target = folder / "frames" / "animation.####.obj"
                    target.parent.mkdir()
                for neutral in self._write(one, target, size, quality, bake, progress):
                    models.append(neutral.name)
                if one.suffixes[0] in IMPORTABLE_SUFFIXES:
                    models.append(target.name)
            self._write_companions(folder, models)
            written = sorted(path / item.name for item in folder.iterdir())
        return written

    def _save_file(
        self, path: Path, wanted: Format, size: tuple[int, int], quality: str, bake: bool, progress: Progress
    ) -> list[Path]:
        if wanted.name == "obj":
            pointcache.sequence_path(path, 0)
        if wanted.name not in ("obj", "pc2", "mdd"):
            with atomic_write(path) as temporary:
                self._write(wanted, temporary, size, quality, bake, progress)
            return [path]
        with atomic_write(path.parent / f".{path.stem}-kmtalk") as folder:  # several files, all or none
            folder.mkdir()
            self._write(wanted, folder / path.name, size, quality, bake, progress)
            written = sorted(folder.iterdir())
            for item in written:
                item.replace(path.parent / item.name)
            folder.rmdir()
        return [path.parent / item.name for item in written]

    def _write(
        self, wanted: Format, path: Path, size: tuple[int, int], quality: str, bake: bool, progress: Progress
    ) -> list[Path]:
        """Write one format; returns the neutral mesh that a cache needs beside it."""
        motion, template, duration = self.motion, self.template, self.audio.duration
        if bake and not wanted.can_bake and wanted.name in ("csv", "json", "ovr", "rhubarb", "tsv"):
            raise InputError(f"{path.name}: holds curves or cues, which cannot be baked to vertices")
        if wanted.name == "mp4":
            with progress.stage("render", len(motion)) as advance:
                render_video(motion, self.audio, path, size, quality, advance)
            return []
        with progress.stage("export"):
            match wanted.name:
                case "npz" | "npz16":
                    half = wanted.name == "npz16"
                    write_npz(path, motion, self.keys, self.alignment, self.audio, self.provenance, half)
                case "glb":
                    write_glb(path, motion, bake, timeline_data(motion, self.alignment, self.keys))
                case "usd":
                    write_usd(path, motion, bake)
                case "abc":
                    name = template.name.replace("/", "_") or "face"
                    write_alembic(path, motion.vertex_chunks(), len(motion), template.faces, motion.fps, name)
                case "pc2" | "mdd":
                    (pointcache.write_pc2 if wanted.name == "pc2" else pointcache.write_mdd)(path, motion)
                    neutral = path.with_name(f"{path.stem}-neutral.obj")  # face.obj may be the user's own
                    pointcache.write_neutral_obj(neutral, motion)
                    return [neutral]
                case "obj":
                    pointcache.write_obj_sequence(path, motion)
                case "csv":
                    arkit.write_live_link_csv(path, motion)
                case "json":
                    arkit.write_arkit_json(path, motion)
                case "ovr":
                    viseme_cues.write_ovr(path, self.alignment, duration)
                case "rhubarb":
                    viseme_cues.write_rhubarb_json(path, self.alignment, duration)
                case "tsv":
                    viseme_cues.write_rhubarb_tsv(path, self.alignment, duration)
                case "html":
                    self._write_web_page(path)
        return []

    def _write_web_page(self, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="kmtalk-") as folder:
            model = Path(folder) / "animation.glb"
            write_glb(model, _with_preview_colors(self.motion))
            facts = timeline_data(self.motion, self.alignment, self.keys)
            title = Path(self.audio.source).stem
            write_web_page(path, model.read_bytes(), title, self.fps, len(self.motion), facts, self.audio)

    def _write_companions(self, folder: Path, models: Sequence[str]) -> None:
        """What every folder gets: phones, keys, sound, and the script for Blender where it can bring a model in."""
        write_textgrid(self.alignment, folder / "speech.TextGrid", self.audio.duration)
        write_keys(folder / "keys.json", self.motion, self.keys, self.alignment, self.provenance, self.audio)
        soundfile.write(folder / "speech.wav", self.audio.original, self.audio.original_rate, subtype="PCM_16")
        best = next((m for suffix in IMPORTABLE_SUFFIXES for m in models if m.endswith(suffix)), None)
        if best:
            neutral = "animation-neutral.obj" if best.endswith((".pc2", ".mdd")) else ""
            write_blender_script(folder / "import_blender.py", self.motion, best, neutral, "speech.wav")

    def render(self, path: str | Path, size: tuple[int, int] = (512, 512), quality: str = "draft") -> None:
        """Write an mp4 with sound."""
        if Path(path).suffix.lower() != ".mp4":
            raise InputError(f"{path}: video is written as .mp4")
        self.save(path, size=size, quality=quality)

    def save_contact_sheet(self, path: str | Path) -> None:
        """Write a PNG of frames at phones, close to the mouth, captioned."""
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: a contact sheet is written as .png")
        cells = phone_center_frames(self.alignment, len(self.motion), self.fps)
        if not cells:
            cells = [(int(f), "") for f in self.keys.frames]
        cells = cells[:MAX_CONTACT_SHEET_CELLS]
        labels = [f"{label}  {(frame + 0.5) / self.fps:.2f} s".strip() for frame, label in cells]
        with atomic_write(Path(path)) as temporary:
            render_contact_sheet(self.motion, [frame for frame, _ in cells], labels, temporary)


def load_animation(path: str | Path) -> Animation:
    """Read an animation.npz; raises InputError where it is none. To complete it after editing, use ``KMTalk.load``."""
    held = read_npz(Path(path))
    return Animation(held.motion, held.alignment, held.keys, held.audio, held.provenance)


def write_glb_page(model: Path, sound: Path | None, path: Path) -> None:
    """Write a page of any GLB; those of kmtalk bring their timeline along. Raises InputError where it is none."""
    found = read_glb_info(model)
    audio = None if sound is None else load_audio(sound)
    write_web_page(path, model.read_bytes(), model.stem, found.fps, found.frames, found.extras, audio)


def check_output_path(path: Path) -> None:
    """Raise InputError for a name that looks like a file's, of a kind that is not written."""
    # "face.avi" is a kind of file that is not written; "take.2" and "take.v2" are folders' names
    a_file = re.fullmatch(r"\.([a-z]{2,5}\d?|m4[av])", path.suffix.lower())
    if a_file and format_from_path(path) is None and not path.is_dir():
        raise InputError(f"{path}: -o takes a folder, or a file ending in {all_suffixes()}")
    wanted = format_from_path(path)
    if wanted is not None and wanted.name == "obj":
        pointcache.sequence_path(path, 0)


def _with_preview_colors(motion: Motion) -> Motion:
    """With the colours that a mesh is looked at with, where it brings none."""
    template = motion.rig.template
    if template.colors is not None or template.preview_colors is None:
        return motion
    return replace(motion, rig=replace(motion.rig, template=replace(template, colors=template.preview_colors)))
