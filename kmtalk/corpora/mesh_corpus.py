"""Corpora of moving meshes: vertices by frame with sound, read from disk as they are needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.load import load_template
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, load_audio

SIMULATED_MARKER = "kmtalk-simulated.json"
"""A file that marks a corpus as made by the simulated speaker; every figure on it is to be called simulated."""

TEXTGRID_DIR = "textgrids"
"""Folder of a corpus in which its alignments are looked for."""


class VertexFrames(Protocol):
    """Vertices of one clip, on disk."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames start…stop: (n, V, 3) float32."""
        ...


def open_npy(path: Path) -> np.ndarray:
    """A .npy of (T, V, 3) or (T, 3V) numbers, on disk; raises InputError for anything else."""
    try:
        held: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a whole .npy of vertices ({str(error)[:80]})") from None
    if held.dtype.kind != "f" or held.ndim not in (2, 3) or (held.size // max(len(held), 1)) % 3:
        raise InputError(f"{path}: holds {held.dtype} {held.shape}; (T, V, 3) or (T, 3V) numbers are wanted")
    return held


@dataclass(frozen=True)
class NpyFrames:
    """A .npy of (T, V, 3) or (T, 3V), every ``step``-th frame of it; only what is asked for is read."""

    path: Path
    step: int = 1

    def __len__(self) -> int:
        return -(-len(open_npy(self.path)) // self.step)

    def read(self, start: int, stop: int) -> np.ndarray:
        part = open_npy(self.path)[start * self.step : stop * self.step : self.step]
        return np.ascontiguousarray(part, np.float32).reshape(len(part), -1, 3)


@dataclass(frozen=True)
class MeshClip:
    """One sentence: ``name``, who spoke it, its number, its sound (a file, or samples (S,) at SAMPLE_RATE) and
    ``frames`` at ``fps``; ``textgrid`` is where its alignment is, or would be. Frame n is at (n + 0.5) / fps s; where
    it shows an earlier moment of the file, by ``time_offset`` s, sound and alignment are put off by as much."""

    name: str
    subject: str
    sentence: int
    audio: Path | np.ndarray
    frames: VertexFrames
    fps: float
    textgrid: Path
    time_offset: float = 0.0

    def load_file_samples(self) -> np.ndarray:
        """Mono samples (S,) at SAMPLE_RATE, as the file has them: what is aligned."""
        return self.audio if isinstance(self.audio, np.ndarray) else load_audio(self.audio).samples

    def load_samples(self) -> np.ndarray:
        """Mono samples (S,) at SAMPLE_RATE, on the frames' clock."""
        return np.pad(self.load_file_samples(), (round(self.time_offset * SAMPLE_RATE), 0))

    def load_alignment(self) -> Alignment:
        """Its phones, on the frames' clock; raises InputError where nobody aligned it."""
        if not self.textgrid.is_file():
            raise InputError(
                f"{self.textgrid}: no alignment of {self.name}; kmtalk corpus align makes it, or bring your own"
            )
        return read_textgrid(self.textgrid, len(self.load_file_samples()) / SAMPLE_RATE).shifted(self.time_offset)


@dataclass(frozen=True)
class MeshCorpus:
    """Clips of one topology. ``unit`` of their vertices: "m", "cm", "mm", or "units" where nobody knows; ``templates``
    subject → neutral (V, 3); ``faces`` (F, 3) or None; ``splits`` name → names of clips; ``skipped`` are clips that
    were left out, with the reason, ``frame_gaps`` those whose frames are not numbered through, and so close up (None: its
    files do not number them); ``source`` is what every figure is labelled with."""

    kind: str
    path: Path
    source: str
    unit: str
    templates: Mapping[str, np.ndarray]
    faces: np.ndarray | None
    clips: tuple[MeshClip, ...]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    frame_gaps: tuple[str, ...] | None = None

    @property
    def vertex_count(self) -> int:
        """V."""
        return len(next(iter(self.templates.values())))

    def split_clips(self, name: str) -> tuple[MeshClip, ...]:
        """The clips of one split; raises InputError where there is none of that name, or it is empty."""
        if name not in self.splits:
            raise InputError(f"{self.path}: no split {name}; {', '.join(self.splits) or 'it has none'}")
        wanted = set(self.splits[name])
        found = tuple(c for c in self.clips if c.name in wanted)
        if not found:
            raise InputError(f"{self.path}: none of the clips of split {name} is here")
        return found


def find_frame_gaps(numbers: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """What lacks between each clip's frame numbers, and before them, where others' begin earlier."""
    first, out = min((min(held) for held in numbers.values() if held), default=0), []
    for name, held in numbers.items():
        span = max(held, default=first) - first + 1
        lacking = sorted(set(range(first, first + span)) - set(held))
        if held and lacking:
            out.append(f"{name}: {len(lacking)} of {span} frames lack, the first of them {lacking[0]}")
    return tuple(out)


def make_splits(clips: tuple[MeshClip, ...], rules: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Splits by subjects and by the range of sentences, as data/*/splits.json give them."""
    out = {}
    for name, rule in rules.items():
        if isinstance(rule, dict):
            first, last = rule["sentences"]
            out[name] = tuple(c.name for c in clips if c.subject in rule["subjects"] and first <= c.sentence <= last)
    return out


def source_label(path: Path, name: str) -> str:
    """The label of a corpus: what it is, and whether it was simulated."""
    if (path / SIMULATED_MARKER).is_file():
        return f"simulated, in the layout of {name}"
    return name


def load_json(path: Path) -> dict[str, object]:
    """A JSON object; raises InputError for anything else."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error)[:80]})") from None
    if not isinstance(held, dict):
        raise InputError(f"{path}: not a JSON object")
    return held


def load_matching_faces(path: Path, templates: Mapping[str, np.ndarray]) -> np.ndarray:
    """Triangles (F, 3) of a mesh file; raises InputError where it has not the templates' vertices."""
    mesh, count = load_template(path), len(next(iter(templates.values())))
    if len(mesh.vertices) != count:
        raise InputError(f"{path}: {len(mesh.vertices)} vertices, the templates have {count}; it is of another mesh")
    return mesh.faces


def parse_templates(held: object, path: Path) -> dict[str, np.ndarray]:
    """Templates of a pickle, subject → (V, 3), checked to be of one size."""
    if not isinstance(held, dict) or not held:
        raise InputError(f"{path}: holds no templates by subject")
    out = {}
    for subject, vertices in held.items():
        try:
            v = np.asarray(vertices, np.float32)
        except (TypeError, ValueError):
            raise InputError(f"{path}: the template of {subject} is no array of vertices") from None
        if v.size == 0 or v.size % 3:
            raise InputError(f"{path}: the template of {subject} is {v.shape}, not (V, 3)")
        if not np.isfinite(v).all() or not np.ptp(v.reshape(-1, 3), axis=0).max() > 0:
            raise InputError(f"{path}: the template of {subject} has no extent, or numbers that are not finite")
        out[str(subject)] = v.reshape(-1, 3)
    sizes = {len(v) for v in out.values()}
    if len(sizes) > 1:
        raise InputError(f"{path}: templates of {sorted(sizes)} vertices; all must be of one topology")
    return out
