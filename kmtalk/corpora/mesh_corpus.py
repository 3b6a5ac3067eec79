"""Corpora of moving meshes: vertices per frame with audio, read from disk on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.load import load_template
from kmtalk.speech.alignment import Alignment, read_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, load_audio
from kmtalk.text_files import read_json_file

SIMULATED_MARKER = "kmtalk-simulated.json"
"""File that marks a corpus as made by the simulated speaker; every figure on such a corpus is labelled simulated."""

TEXTGRID_DIR = "textgrids"
"""Default folder of a corpus' alignments."""


class VertexFrames(Protocol):
    """Vertices of one clip, read from disk in parts."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read frames `start` to `stop` (exclusive), (n, V, 3) float32."""
        ...


def open_npy(path: Path) -> np.ndarray:
    """Memory-map a .npy of floats (T, V, 3) or (T, 3V); raises InputError for anything else."""
    try:
        vertices: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a complete .npy of vertices ({str(error)[:80]})") from None
    if vertices.dtype.kind != "f" or vertices.ndim not in (2, 3) or (vertices.size // max(len(vertices), 1)) % 3:
        raise InputError(f"{path}: has {vertices.dtype} {vertices.shape}; expected floats (T, V, 3) or (T, 3V)")
    return vertices


@dataclass(frozen=True)
class NpyFrames:
    """Every `step`-th frame of a .npy (T, V, 3) or (T, 3V); only the requested frames are read."""

    path: Path
    step: int = 1

    def __len__(self) -> int:
        return -(-len(open_npy(self.path)) // self.step)

    def read(self, start: int, stop: int) -> np.ndarray:
        part = open_npy(self.path)[start * self.step : stop * self.step : self.step]
        return np.ascontiguousarray(part, np.float32).reshape(len(part), -1, 3)


@dataclass(frozen=True)
class MeshClip:
    """One sentence with its vertices; frame n is at (n + 0.5) / `fps` s.

    Attributes:
        name: Name of the clip.
        subject: Speaker.
        sentence: Number of the sentence.
        audio: A file, or mono samples (S,) at `SAMPLE_RATE`.
        frames: Vertices per frame.
        fps: Frames per second.
        textgrid: File of the alignment; it need not exist.
        time_offset: Seconds by which frames show an earlier moment of the file than (n + 0.5) / `fps`; audio and
            alignment are delayed by as much.
    """

    name: str
    subject: str
    sentence: int
    audio: Path | np.ndarray
    frames: VertexFrames
    fps: float
    textgrid: Path
    time_offset: float = 0.0

    def load_file_samples(self) -> np.ndarray:
        """Load mono samples (S,) at `SAMPLE_RATE` on the file's clock, which alignments use."""
        return self.audio if isinstance(self.audio, np.ndarray) else load_audio(self.audio).samples

    def load_samples(self) -> np.ndarray:
        """Load mono samples (S,) at `SAMPLE_RATE` on the frames' clock (delayed by `time_offset`)."""
        return np.pad(self.load_file_samples(), (round(self.time_offset * SAMPLE_RATE), 0))

    def load_alignment(self) -> Alignment:
        """Load the phones on the frames' clock; raises InputError where there is no TextGrid."""
        if not self.textgrid.is_file():
            raise InputError(
                f"{self.textgrid}: no alignment of {self.name}; run kmtalk corpus align, or add the TextGrid"
            )
        return read_textgrid(self.textgrid, len(self.load_file_samples()) / SAMPLE_RATE).shifted(self.time_offset)


@dataclass(frozen=True)
class MeshCorpus:
    """Clips whose meshes share one topology.

    Attributes:
        kind: Corpus kind, one of `MESH_CORPUS_KINDS`.
        path: Its folder.
        source: Label of every figure on the corpus ("VOCASET", "simulated, in the layout of VOCASET").
        unit: Unit of the vertices: "m", "cm", "mm", or "units" where it is unknown.
        templates: Neutral vertices (V, 3) by subject.
        faces: Triangles (F, 3), or None where they are unknown.
        clips: The clips.
        splits: Names of clips by split.
        skipped: Clips that were left out, each with the reason.
        frame_gaps: Clips with missing frame numbers, whose frames are read as consecutive; None where the corpus' files
            do not number their frames.
    """

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
        """Number of vertices, V."""
        return len(next(iter(self.templates.values())))

    def split_clips(self, name: str) -> tuple[MeshClip, ...]:
        """The clips of one split; raises InputError where the split does not exist or none of its clips is loaded."""
        if name not in self.splits:
            raise InputError(f"{self.path}: no split {name}; it has {', '.join(self.splits) or 'none'}")
        wanted = set(self.splits[name])
        found = tuple(c for c in self.clips if c.name in wanted)
        if not found:
            raise InputError(f"{self.path}: has none of the clips of split {name}")
        return found


def find_frame_gaps(numbers: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Describe the frame numbers missing from each clip: between its own, or before its first where other clips begin
    earlier."""
    first, out = min((min(present) for present in numbers.values() if present), default=0), []
    for name, present in numbers.items():
        span = max(present, default=first) - first + 1
        missing = sorted(set(range(first, first + span)) - set(present))
        if present and missing:
            out.append(f"{name}: {len(missing)} of {span} frames are missing, the first is {missing[0]}")
    return tuple(out)


def make_splits(clips: tuple[MeshClip, ...], rules: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Build splits from rules of subjects and a range of sentences, as in data/*/splits.json."""
    out = {}
    for name, rule in rules.items():
        if isinstance(rule, dict):
            first, last = rule["sentences"]
            out[name] = tuple(c.name for c in clips if c.subject in rule["subjects"] and first <= c.sentence <= last)
    return out


def source_label(path: Path, name: str) -> str:
    """Label of a corpus: its name, and whether it is simulated."""
    if (path / SIMULATED_MARKER).is_file():
        return f"simulated, in the layout of {name}"
    return name


def load_json(path: Path) -> dict[str, object]:
    """Read a JSON object; raises InputError for anything else."""
    value = read_json_file(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: not a JSON object")
    return value


def load_matching_faces(path: Path, templates: Mapping[str, np.ndarray]) -> np.ndarray:
    """Read the triangles (F, 3) of a mesh file; raises InputError where it and the templates differ in size."""
    mesh, count = load_template(path), len(next(iter(templates.values())))
    if len(mesh.vertices) != count:
        raise InputError(
            f"{path}: {len(mesh.vertices)} vertices, but the templates have {count}; it is a different mesh"
        )
    return mesh.faces


def parse_templates(templates: object, path: Path) -> dict[str, np.ndarray]:
    """Convert a pickle's templates to (V, 3) float32 by subject.

    Raises InputError where they are not valid or differ in size.
    """
    if not isinstance(templates, dict) or not templates:
        raise InputError(f"{path}: has no templates by subject")
    out = {}
    for subject, vertices in templates.items():
        try:
            array = np.asarray(vertices, np.float32)
        except (TypeError, ValueError):
            raise InputError(f"{path}: the template of {subject} is not an array of vertices") from None
        if array.size == 0 or array.size % 3:
            raise InputError(f"{path}: the template of {subject} is {array.shape}, not (V, 3)")
        if not np.isfinite(array).all() or not np.ptp(array.reshape(-1, 3), axis=0).max() > 0:
            raise InputError(f"{path}: the template of {subject} has no extent or has values that are not finite")
        out[str(subject)] = array.reshape(-1, 3)
    sizes = {len(array) for array in out.values()}
    if len(sizes) > 1:
        counts = ", ".join(map(str, sorted(sizes)))
        raise InputError(f"{path}: templates differ in their number of vertices ({counts}); all must have one topology")
    return out
