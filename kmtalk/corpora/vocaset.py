"""VOCASET (Cudeiro et al. 2019): 12 subjects, 40 sentences each, FLAME's 5023 vertices at 60 fps, in metres.

Licensed to each user, who brings it by path, raw as it is downloaded or processed as FaceFormer's script leaves it. The
paper's 30 fps are every second frame, which is what the field evaluates on; they show what was 1/120 s before the time
of a frame at 30 fps, for which the clips' sound makes up (``MeshClip.early``).
"""

from __future__ import annotations

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
    """Frames of one sentence among all of data_verts.npy."""

    path: Path
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def read(self, start: int, stop: int) -> np.ndarray:
        held, places = open_npy(self.path), self.places[start:stop]
        if len(places) and (places.min() < 0 or places.max() >= len(held)):
            raise InputError(f"{self.path}: {len(held)} frames, but subj_seq_to_idx.pkl names frame {places.max()}")
        part = np.ascontiguousarray(held[places], np.float32)
        return part.reshape(len(part), -1, 3)


def load_vocaset(path: Path, fps: float = 30.0, textgrids: Path | None = None) -> MeshCorpus:
    """VOCASET at 60 or 30 fps. ``textgrids`` is the folder of alignments (None: ``path``/textgrids).

    Raises InputError where ``path`` holds neither layout.
    """
    if fps not in (30.0, 60.0):
        raise InputError(f"VOCASET has 60 fps, of which every second makes 30; not {fps:g}")
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
            f"{path}: not VOCASET: neither {', '.join(RAW_FILES)} nor vertices_npy/, wav/ and templates.pkl are here"
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
    for name in RAW_FILES:
        if not (path / name).is_file():
            raise InputError(f"{path / name}: is missing; raw VOCASET is {', '.join(RAW_FILES)}")
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
                    missing.append(f"{name}: no {'frames' if sound is not None else 'sound'}")
                    continue
                numbers[name] = list(map(int, rows))
                order = np.array([rows[k] for k in sorted(rows)], np.int64)[::step]
                try:
                    audio = audio_from_samples(_to_float(np.asarray(sound["audio"])), int(sound["sample_rate"]), name)
                except InputError as error:
                    missing.append(f"{name}: {error}")
                    continue
                frames: VertexFrames = _RawFrames(path / RAW_FILES[0], order)
                clips.append(_make_clip(name, subject, audio.samples, frames, fps, grids))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: its pickles are not laid out as VOCASET's ({str(error)[:80]})") from None
    return clips, missing, find_frame_gaps(numbers)


def _load_processed(path: Path, step: int, fps: float, grids: Path) -> tuple[list[MeshClip], list[str]]:
    clips, missing = [], []
    for file in sorted((path / "vertices_npy").glob("*.npy")):
        name, sound = file.stem, path / "wav" / f"{file.stem}.wav"
        if not sound.is_file():
            missing.append(f"{name}: no sound (wav/{name}.wav)")
            continue
        subject = name.rpartition("_")[0]
        if not name[-2:].isdecimal():
            missing.append(f"{name}: its name does not end in a sentence's number")
            continue
        clips.append(_make_clip(name, subject, sound, NpyFrames(file, step), fps, grids))
    for sound in sorted((path / "wav").glob("*.wav")):
        if not (path / "vertices_npy" / f"{sound.stem}.npy").is_file():
            missing.append(f"{sound.stem}: no vertices (vertices_npy/{sound.stem}.npy)")
    return clips, missing


def _make_clip(
    name: str, subject: str, audio: Path | np.ndarray, frames: VertexFrames, fps: float, grids: Path
) -> MeshClip:
    # frame n of 30 a second is frame 2n of 60: at (2n + 0.5) / 60 s and not at (n + 0.5) / 30
    early = 0.5 / fps - 0.5 / FPS
    return MeshClip(name, subject, _sentence_number(name), audio, frames, fps, grids / f"{name}.TextGrid", early)


def _sentence_number(name: str) -> int:
    """The sentence's number, the last two characters of its name, as FaceFormer's loader takes it."""
    digits = name[-2:]
    if not digits.isdecimal():
        raise InputError(f"{name}: its name does not end in a sentence's number")
    return int(digits)


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Whole numbers to the range of -1 to 1."""
    if samples.dtype.kind in "iu":
        return samples.astype(np.float32) / float(np.iinfo(samples.dtype).max)
    return samples.astype(np.float32)
