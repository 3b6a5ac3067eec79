"""Corpora in a user's own folder, described by a manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kmtalk.array_files import open_array
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.mesh_corpus import TEXTGRID_DIR, MeshClip, MeshCorpus, NpyFrames, load_json, source_label
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.face.files.load import load_template
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, load_audio
from kmtalk.timecode import MAX_FPS, MIN_FPS

MANIFEST_NAME = "manifest.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ManifestClip(_Strict):
    """One clip of a manifest; paths are relative to the manifest.

    Attributes:
        name: Name of the clip.
        audio: Audio file.
        motion: A .npy of vertices (T, V, 3) or (T, 3V), or of weights (T, R) of the manifest's `shapes`.
        fps: Frames per second.
        identity: Speaker, a key of the manifest's `templates`.
        sentence: Number of the sentence.
        textgrid: TextGrid with the alignment; None: textgrids/NAME.TextGrid.
    """

    name: str = Field(pattern=r"^[^/\\\x00]+$")
    audio: str
    motion: str
    fps: float = Field(ge=MIN_FPS, lt=MAX_FPS)
    identity: str = "someone"
    sentence: int = Field(default=0, ge=0)
    textgrid: str | None = None


class Manifest(_Strict):
    """Contents of manifest.json: either `templates`, for vertices, or `shapes`, for weights of a rig.

    Attributes:
        name: Name of the corpus, the label of all figures.
        unit: Unit of the vertices; "units" where it is unknown.
        templates: Neutral meshes by identity.
        shapes: Names of the rig's shapes, in the order of the weights' columns.
        splits: Names of clips by split.
        clips: The clips.
    """

    name: str = Field(min_length=1)
    unit: Literal["m", "cm", "mm", "units"] = "units"
    templates: dict[str, str] = Field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    splits: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    clips: tuple[ManifestClip, ...] = Field(min_length=1)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, given as a file or its folder; raises InputError where it is not valid."""
    file = path / MANIFEST_NAME if path.is_dir() else path
    try:
        manifest = Manifest.model_validate(load_json(file))
    except ValidationError as error:
        raise InputError(f"{file}: {describe_validation_error(error)}") from None
    if bool(manifest.templates) == bool(manifest.shapes):
        raise InputError(f"{file}: give either templates (for vertices) or shapes (for weights of a rig)")
    names = [c.name for c in manifest.clips]
    if len(set(names)) < len(names):
        raise InputError(f"{file}: two clips have the same name")
    known = set(names)
    for split, members in manifest.splits.items():
        for name in members:
            if name not in known:
                raise InputError(f"{file}: split {split}: no clip {name}")
    return manifest


def load_folder_corpus(path: Path, textgrids: Path | None = None) -> MeshCorpus:
    """Load a folder of vertices per frame; its clips may differ in frame rate.

    Args:
        path: The folder, or its manifest.
        textgrids: Folder of alignments; None: the folder's textgrids/.

    Returns:
        The corpus.

    Raises:
        InputError: The manifest is not valid or describes weights of a rig.
    """
    manifest, folder = read_manifest(path), path if path.is_dir() else path.parent
    if not manifest.templates:
        raise InputError(f"{path}: has weights of a rig; use kind: rig")
    templates, faces = {}, None
    for identity, file in manifest.templates.items():
        template = load_template(folder / file)
        if faces is not None and not np.array_equal(faces, template.faces):
            raise InputError(
                f"{folder / file}: its triangles differ from the other templates'; all must have one topology"
            )
        templates[identity], faces = template.vertices, template.faces
    if len({len(v) for v in templates.values()}) > 1:
        raise InputError(f"{path}: templates differ in their number of vertices; all must have one topology")
    grids, clips, missing = textgrids or folder / TEXTGRID_DIR, [], []
    for item in manifest.clips:
        motion, audio = folder / item.motion, folder / item.audio
        absent = next((p for p in (motion, audio) if not p.is_file()), None)
        if absent is not None or item.identity not in templates:
            missing.append(f"{item.name}: " + (f"no file {absent}" if absent else f"no template of {item.identity}"))
            continue
        grid = folder / item.textgrid if item.textgrid else grids / f"{item.name}.TextGrid"
        clips.append(MeshClip(item.name, item.identity, item.sentence, audio, NpyFrames(motion), item.fps, grid))
    return MeshCorpus(
        "folder",
        path,
        source_label(folder, manifest.name),
        manifest.unit,
        templates,
        faces,
        tuple(clips),
        manifest.splits,
        tuple(missing),
    )


def load_rig_folder(path: Path, rig: Rig) -> list[Clip]:
    """Load a folder of weights per frame; raises InputError where `rig` lacks a shape or a file is not valid."""
    manifest, folder = read_manifest(path), path if path.is_dir() else path.parent
    unknown = [n for n in manifest.shapes if n not in rig.index]
    if unknown or not manifest.shapes:
        problem = f"the rig has no {', '.join(unknown[:5])}" if unknown else "none given; for vertices use kind: folder"
        raise InputError(f"{path}: shapes: {problem}")
    columns, out = [rig.index[n] for n in manifest.shapes], []
    source = source_label(folder, manifest.name)
    for item in manifest.clips:
        try:
            array = open_array(folder / item.motion)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(
                f"{folder / item.motion}: not a .npy of weights ({str(error)[:80]}); export it again"
            ) from None
        if array.ndim != 2 or array.shape[1] != len(columns) or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise InputError(
                f"{folder / item.motion}: has shape {array.shape}; expected finite numbers (T, {len(columns)})"
            )
        weights = np.zeros((len(array), len(rig.shape_names)), np.float32)
        weights[:, columns] = np.clip(array, 0, 1)
        grid = folder / (item.textgrid or f"{TEXTGRID_DIR}/{item.name}.TextGrid")
        audio = folder / item.audio
        seconds = len(load_audio(audio).samples) / SAMPLE_RATE
        out.append(Clip(item.name, audio, read_textgrid(grid, seconds), weights, item.fps, item.identity, source))
    return out
