"""VOCASET (Cudeiro et al. 2019): 12 subjects, 40 sentences each, FLAME's 5023 vertices at 60 fps, in metres.

Each user obtains a licence and passes the path of a copy, raw as downloaded or processed by FaceFormer's script. The
paper's 30 fps are every second frame, as in other published evaluations. These frames show the moment 1/120 s before
(n + 0.5) / 30 s; the clips' audio is delayed by as much (`MeshClip.time_offset`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.assets import asset_path
from kmtalk.corpora.mesh_corpus import (
    TEXTGRID_DIR,
    MeshClip,
    MeshCorpus,
    NpyFrames,
    VertexFrames,
    find_frame_gaps,
    load_json,
    load_matching_faces,
    make_splits,
    open_npy,
    parse_templates,
    source_label,
)
from kmtalk.errors import InputError
from kmtalk.pickles import load_restricted_pickle
from kmtalk.speech.audio import audio_from_samples

FPS = 60.0
UNIT = "m"
RAW_FILES = ("data_verts.npy", "raw_audio_fixed.pkl", "subj_seq_to_idx.pkl", "templates.pkl")


@dataclass(frozen=True)
class _RawFrames:
    """Frames of one sentence in data_verts.npy: `places` are their rows."""

    path: Path
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def read(self, start: int, stop: int) -> np.ndarray:
        vertices, places = open_npy(self.path), self.places[start:stop]
        if len(places) and (places.min() < 0 or places.max() >= len(vertices)):
            raise InputError(
                f"{self.path}: {len(vertices)} frames, but subj_seq_to_idx.pkl refers to frame {places.max()}"
            )
        part = np.ascontiguousarray(vertices[places], np.float32)
        return part.reshape(len(part), -1, 3)


def load_vocaset(path: Path, fps: float = 30.0, textgrids: Path | None = None) -> MeshCorpus:
    """Load VOCASET.

    Args:
        path: The corpus' folder, in the raw or the processed layout.
        fps: 60, or 30 for every second frame.
        textgrids: Folder of alignments; None: `path`/textgrids.

    Returns:
        The corpus; its unit is "m".

    Raises:
        InputError: `path` has neither layout, or a file in it cannot be read.
    """
    if fps not in (30.0, 60.0):
        raise InputError(f"VOCASET can be loaded at 60 or 30 fps, not at {fps:g}")
    step, grids = round(FPS / fps), textgrids or path / TEXTGRID_DIR
    gaps: tuple[str, ...] | None = None
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    if (path / RAW_FILES[0]).is_file():
        clips, missing, gaps = _load_raw(path, step, fps, grids)
    elif (path / "vertices_npy").is_dir():
        clips, missing = _load_processed(path, step, fps, grids)
    else:
        raise InputError(
            f"{path}: not VOCASET: it has neither {', '.join(RAW_FILES)} nor vertices_npy/, wav/ and templates.pkl"
        )
    templates = parse_templates(load_restricted_pickle(path / "templates.pkl"), path / "templates.pkl")
    kept = tuple(sorted((c for c in clips if c.subject in templates), key=lambda c: c.name))
    missing += [f"{c.name}: no template of {c.subject}" for c in clips if c.subject not in templates]
    faces = None
    for name in ("FLAME_sample.ply", "templates/FLAME_sample.ply"):
        if (path / name).is_file():
            faces = load_matching_faces(path / name, templates)
    rules = load_json(asset_path("vocaset/splits.json"))
    source = source_label(path, "VOCASET")
    splits = make_splits(kept, rules)
    return MeshCorpus("vocaset", path, source, UNIT, templates, faces, kept, splits, tuple(missing), frame_gaps=gaps)


def _load_raw(path: Path, step: int, fps: float, grids: Path) -> tuple[list[MeshClip], list[str], tuple[str, ...]]:
    """Clips, reasons of skipped clips, and frame gaps of the raw layout."""
    for name in RAW_FILES:
        if not (path / name).is_file():
            raise InputError(f"{path / name}: is missing; raw VOCASET has {', '.join(RAW_FILES)}")
    sounds: Any = load_restricted_pickle(path / RAW_FILES[1])
    places: Any = load_restricted_pickle(path / RAW_FILES[2])
    clips: list[MeshClip] = []
    missing: list[str] = []
    numbers: dict[str, list[int]] = {}
    try:
        for subject, sentences in places.items():
            for sentence, rows in sentences.items():
                name = f"{subject}_{sentence}"
                sound = sounds.get(subject, {}).get(sentence)
                if sound is None or not len(rows):
                    missing.append(f"{name}: no {'frames' if sound is not None else 'audio'}")
                    continue
                numbers[name] = list(map(operator.index, rows))
                order = np.array([operator.index(rows[k]) for k in sorted(rows)], np.int64)[::step]
                try:
                    audio = audio_from_samples(_to_float(np.asarray(sound["audio"])), int(sound["sample_rate"]), name)
                except InputError as error:
                    missing.append(f"{name}: {error}")
                    continue
                frames: VertexFrames = _RawFrames(path / RAW_FILES[0], order)
                clips.append(_make_clip(name, subject, audio.samples, frames, fps, grids))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path}: its pickles do not have VOCASET's structure ({str(error)[:80]})") from None
    return clips, missing, find_frame_gaps(numbers)


def _load_processed(path: Path, step: int, fps: float, grids: Path) -> tuple[list[MeshClip], list[str]]:
    """Clips and reasons of skipped clips of the processed layout."""
    clips, missing = [], []
    for file in sorted((path / "vertices_npy").glob("*.npy")):
        name, sound = file.stem, path / "wav" / f"{file.stem}.wav"
        if not sound.is_file():
            missing.append(f"{name}: no audio (wav/{name}.wav)")
            continue
        subject = name.rpartition("_")[0]
        if not name[-2:].isdecimal():
            missing.append(f"{name}: its name does not end in the sentence's two-digit number")
            continue
        clips.append(_make_clip(name, subject, sound, NpyFrames(file, step), fps, grids))
    for sound in sorted((path / "wav").glob("*.wav")):
        if not (path / "vertices_npy" / f"{sound.stem}.npy").is_file():
            missing.append(f"{sound.stem}: no vertices (vertices_npy/{sound.stem}.npy)")
    return clips, missing


def _make_clip(
    name: str, subject: str, audio: Path | np.ndarray, frames: VertexFrames, fps: float, grids: Path
) -> MeshClip:
    # frame n at 30 fps is frame 2n at 60 fps, at (2n + 0.5) / 60 s instead of (n + 0.5) / 30 s
    time_offset = 0.5 / fps - 0.5 / FPS
    return MeshClip(name, subject, _sentence_number(name), audio, frames, fps, grids / f"{name}.TextGrid", time_offset)


def _sentence_number(name: str) -> int:
    """Number of a sentence: the last two characters of its name, as in FaceFormer's loader."""
    digits = name[-2:]
    if not digits.isdecimal():
        raise InputError(f"{name}: its name does not end in the sentence's two-digit number")
    return int(digits)


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Convert integer samples to float32 in -1 to 1."""
    if samples.dtype.kind not in "iuf":
        raise ValueError(f"its samples are {samples.dtype}")
    if samples.dtype.kind in "iu":
        return samples.astype(np.float32) / float(np.iinfo(samples.dtype).max)
    return samples.astype(np.float32)
