"""Animation: one clip's talking face, and the files that it is written to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.animation.formats import FORMATS, Format, format_from_path, missing_source, with_appearance
from kmtalk.animation.planned import COMPANION_NAMES, KEYS_NAME, check_save, folder_formats, folder_path
from kmtalk.errors import InputError
from kmtalk.exchange.blender import IMPORTABLE_SUFFIXES, write_blender_script
from kmtalk.exchange.gltf import read_glb_info
from kmtalk.exchange.keys_json import write_keys
from kmtalk.exchange.npz import read_npz
from kmtalk.exchange.page_model import has_mesh, is_meshopt_compressed, page_model
from kmtalk.exchange.timeline import clip_title
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template
from kmtalk.keys import KeyMotions, phone_midpoints
from kmtalk.output import atomic_write
from kmtalk.progress import Progress, announce_duration
from kmtalk.render.video import Cell, render_contact_sheet
from kmtalk.render.web_page import write_web_page
from kmtalk.settings import ExportSettings, Provenance
from kmtalk.speech.alignment import Alignment, write_textgrid
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.phones import canonical_phone
from kmtalk.working_folders import sweep

MAX_CONTACT_SHEET_CELLS = 40


@dataclass(frozen=True)
class Animation:
    """One clip's talking face. Frame n shows time (n + 0.5) / fps.

    Attributes:
        motion: Weights of the rig's shapes by frame.
        alignment: Words and phones.
        keys: The key motions, which may be edited; `complete` then animates the frames between them again.
        audio: The sound.
        provenance: How the animation was made.
        completer: Completes the animation after edits; set by `KMTalk`.
    """

    motion: Motion
    alignment: Alignment
    keys: KeyMotions
    audio: Audio
    provenance: Provenance = field(default_factory=Provenance)
    completer: Callable[[Animation], Animation] | None = field(default=None, repr=False, compare=False)

    @property
    def template(self) -> Template:
        """The neutral mesh: `vertices` (V, 3), `faces` (F, 3), and `landmarks`, vertex indices by name."""
        return self.motion.rig.template

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.motion.fps

    @property
    def weights(self) -> np.ndarray:
        """(N, R) float32 in [0, 1]; one column per name in `shape_names`."""
        return self.motion.weights

    @property
    def shape_names(self) -> tuple[str, ...]:
        """Names of the rig's R shapes."""
        return self.motion.rig.shape_names

    @cached_property
    def vertices(self) -> np.ndarray:
        """(N, V, 3) float32 in the template's units and vertex order."""
        return self.motion.vertices()

    @cached_property
    def with_materials(self) -> Animation:
        """The animation with the materials of its character's file, as far as that is there and can be decoded."""
        return with_appearance(self)

    def complete(self) -> Animation:
        """Complete the animation after its keys were edited.

        Returns:
            A new animation that meets the pinned keys exactly. CMC animates the frames around them again; frames more
            than 0.5 s beyond the keys next to an edit stay as they were.

        Raises:
            InputError: The animation was read by `load_animation`, which has no network; use `KMTalk.load`.
        """
        if self.completer is None:
            raise InputError("completion needs the network: load animations with KMTalk().load(path)")
        return self.completer(self)

    def save(
        self,
        path: str | Path,
        settings: ExportSettings | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> list[Path]:
        """Write the animation to one file, whose format is that of its suffix, or to a folder.

        A folder contains `animation.*` in the requested formats, speech.TextGrid, keys.json, speech.wav and
        import_blender.py. Files are written completely or not at all.

        Args:
            path: A file with a suffix of `kmtalk.animation.FORMATS`, or a folder.
            settings: Settings of the export.
            progress: Receives the stages "export" and "render".
            options: Fields of `ExportSettings` by keyword: `formats`, `bake`, `size`, `quality`, `frame` …

        Returns:
            The files that were written.

        Raises:
            InputError: The path cannot be written, a setting cannot be used, or a file would be replaced that was
                edited or that kmtalk did not write.
        """
        path, progress = Path(path), progress or Progress()
        settings = ExportSettings.create(settings, **options)
        check_save(path, settings, (self.template.source, self.audio.source))
        file_format = format_from_path(path)
        if file_format is not None:
            self._check_has_shapes(path, file_format)
            return self._save_file(path, file_format, settings, progress)
        self._check_has_shapes(path, *folder_formats(settings))
        with atomic_write(path) as folder:
            folder.mkdir()
            models: list[str] = []
            for file_format in folder_formats(settings):
                target = folder_path(file_format, folder)
                target.parent.mkdir(exist_ok=True)
                self._write(file_format, target, settings, progress)
                if file_format.suffixes[0] in IMPORTABLE_SUFFIXES:
                    models.append(target.name)
            self._write_companions(folder, models, settings.reduce > 0)
            written = sorted(path / item.name for item in folder.iterdir())
        return written

    def _check_has_shapes(self, path: Path, *formats: Format) -> None:
        """Raise InputError for formats of curves and cues where the animation has one shape per frame and no phones."""
        if "jawOpen" not in self.motion.rig.index:
            check_formats_of_vertices(path, formats)

    def _save_file(self, path: Path, file_format: Format, settings: ExportSettings, progress: Progress) -> list[Path]:
        if not file_format.is_multi_file:
            with atomic_write(path) as temporary:
                self._write(file_format, temporary, settings, progress)
            return [path]
        with atomic_write(path.parent, path) as folder:  # several files, all or none
            folder.mkdir()
            self._write(file_format, folder / path.name, settings, progress)
            written = sorted(path.parent / item.name for item in folder.iterdir())
        return written

    def _write(self, file_format: Format, path: Path, settings: ExportSettings, progress: Progress) -> None:
        """Write one format; point caches write their neutral mesh next to `path`."""
        if settings.bake and not file_format.has_mesh:
            raise InputError(f"{path.name}: contains curves or cues, which cannot be baked to vertices")
        is_video, frames = file_format.name == "mp4", len(self.motion)
        gone = missing_source(self)
        if gone is not None and file_format.name in ("mp4", "html", "usd"):
            progress.announce(f"{gone}: is no longer there; {path.name} shows the face without materials and bones")
        with progress.stage(*(("render", frames) if is_video else ("export", None))) as advance:
            if is_video and settings.quality == "high":
                advance = announce_duration(progress, "rendering {} frames", frames, advance)
            file_format.write(self, path, settings, advance)

    def _write_companions(self, folder: Path, models: Sequence[str], reduced: bool) -> None:
        """Write phones, keys, sound, and the Blender script where a model can be imported.

        With `reduced`, the script takes the keys of a model with shapes from animation.curves.json.
        """
        write_textgrid(self.alignment, folder / "speech.TextGrid", self.audio.duration)
        sound = os.fsencode(folder / "speech.wav")  # whose name may be no UTF-8
        soundfile.write(sound, self.audio.original, self.audio.original_rate, subtype="PCM_16")
        model = next((m for suffix in IMPORTABLE_SUFFIXES for m in models if m.endswith(suffix)), None)
        if model and model.endswith(".glb") and is_meshopt_compressed(folder / model):
            # Blender's importer does not decode it
            (folder / f"{Path(model).stem}-decoded.glb").write_bytes(page_model(folder / model)[0])
            model = f"{Path(model).stem}-decoded.glb"
        if model:
            neutral = "animation-neutral.obj" if model.endswith((".pc2", ".mdd")) else ""
            keyed = "animation.curves.json" if reduced and model.endswith((".glb", ".usd")) else ""
            write_blender_script(folder / "import_blender.py", self.motion, model, neutral, "speech.wav", keyed)
        beside = [folder / name for name in COMPANION_NAMES if (folder / name).is_file()]
        made = (self.motion, self.keys, self.alignment, self.provenance, self.audio)
        write_keys(folder / KEYS_NAME, *made, beside)

    def render(self, path: str | Path, **options: Any) -> None:
        """Render an mp4 with sound.

        Args:
            path: File to write, ending in .mp4.
            options: Fields of `ExportSettings` by keyword: `size`, `quality`, `frame`, `view`, `background`.

        Raises:
            InputError: The path or a setting cannot be used, or no OpenGL is available.
        """
        if Path(path).suffix.lower() != ".mp4":
            raise InputError(f"{path}: a video is written as .mp4")
        self.save(path, **options)

    def save_contact_sheet(self, path: str | Path) -> None:
        """Write a PNG with close-ups of the mouth at the first 40 phones, with captions.

        Phones in IPA that are not letters of the Latin alphabet are named by their nearest English phone in ARPAbet.

        Raises:
            InputError: The path does not end in .png, or no OpenGL is available.
        """
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: a contact sheet is written as .png")
        cells = phone_midpoints(self.alignment, len(self.motion), self.fps)
        if not cells:
            cells = [(int(frame), "") for frame in self.keys.frames]
        cells = cells[:MAX_CONTACT_SHEET_CELLS]
        # the font of the pictures has no IPA
        named = [(frame, label if label.isascii() else canonical_phone(label)) for frame, label in cells]
        sheet = [Cell(frame, f"{label}  {(frame + 0.5) / self.fps:.2f} s".strip()) for frame, label in named]
        with atomic_write(Path(path)) as temporary:
            render_contact_sheet(self.with_materials.motion, sheet, temporary)


def load_animation(path: str | Path) -> Animation:
    """Load an animation.npz without the network; to complete it after edits, use `KMTalk.load`.

    Raises:
        InputError: The file is not an animation.npz.
    """
    sweep(Path(path).parent)  # a folder into which a process was writing when it was killed
    archive = read_npz(Path(path))
    return Animation(archive.motion, archive.alignment, archive.keys, archive.audio, archive.provenance)


def write_glb_page(model: Path, sound: Path | None, path: Path) -> list[str]:
    """Write a web page that plays a GLB of any program; GLBs of kmtalk contain their timeline.

    Args:
        model: The GLB.
        sound: Its sound, if there is one.
        path: Page to write.

    Returns:
        One line for each thing of the model that the page does not show.

    Raises:
        InputError: A file cannot be read.
    """
    info = read_glb_info(model)
    audio = None if sound is None else load_audio(sound)
    title = info.extras.get("title") or (model.stem if sound is None else clip_title(sound.name, model.stem))
    if not has_mesh(model):
        raise InputError(f"{model}: has no mesh to show; view the character's own .glb")
    content, notes = page_model(model)
    write_web_page(path, content, info.fps, info.frames, {**info.extras, "title": title}, audio)
    return notes


def check_formats_of_vertices(path: Path, formats: Sequence[Format]) -> None:
    """Raise InputError for formats that imported vertices are not written to, as they have no shapes and no phones."""
    for one in formats:
        if not one.has_mesh:
            held = ", ".join(f.name for f in FORMATS if f.has_mesh and f.name != "vrm")
            raise InputError(
                f"{path}: {one.name} takes curves or cues, and imported vertices have none; write one of {held}"
            )
