"""BIWI (Fanelli et al. 2010, B3D(AC)²): 14 subjects, 40 sentences, 23370 vertices at 25 fps.

Each user obtains a licence and passes the path of a copy in one of two layouts: processed, as written by CodeTalker's
scripts (`vertices_npy/F1_e01.npy` of (T, 70110), `wav/`, `templates.pkl`), or raw (`faces/F1/e01/frame_001.vl`,
`rigid_scans/F1.obj`, `wav/` or `audio/`). Raw frames are rotated by 180° about x, centred, and scaled to a surface area
of one, as by those scripts, so that figures are comparable; the unit of length is then the square root of the face's
area and cannot be converted to millimetres.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

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
    parse_templates,
    source_label,
)
from kmtalk.errors import InputError
from kmtalk.face.files.load import load_template
from kmtalk.pickles import load_restricted_pickle
from kmtalk.user_files import read_user_file

FPS = 25.0
UNIT = "units"
MAX_VL_BYTES = 64 << 20  # of one frame


@dataclass(frozen=True)
class VlFrames:
    """Frames of one clip, one .vl file per frame.

    A .vl file is the number of vertices (4 or 8 bytes, little-endian), then float32 x y z of each. `faces` (F, 3) are
    the triangles by which frames are scaled.
    """

    paths: tuple[Path, ...]
    faces: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, start: int, stop: int) -> np.ndarray:
        frames = []
        for path in self.paths[start:stop]:
            vertices = read_vl_file(path)
            if self.faces.max() >= len(vertices):
                raise InputError(
                    f"{path}: {len(vertices)} vertices, but the templates' triangles use vertex {self.faces.max()}"
                )
            frames.append(normalize_face(vertices, self.faces))
        sizes = {len(f) for f in frames}
        if len(sizes) > 1:
            counts = ", ".join(map(str, sorted(sizes)))
            raise InputError(f"{self.paths[start].parent}: frames differ in their number of vertices ({counts})")
        return np.stack(frames)


def read_vl_file(path: Path) -> np.ndarray:
    """Read the vertices (V, 3) float32 of a .vl file; raises InputError where it is not one."""
    data = read_user_file(path, MAX_VL_BYTES)
    for head, kind in ((4, "<u4"), (8, "<u8")):
        if len(data) >= head and len(data) == head + 12 * int(np.frombuffer(data, kind, 1)[0]):
            return np.frombuffer(data, "<f4", offset=head).reshape(-1, 3).astype(np.float32)
    raise InputError(f"{path}: not a .vl file: its length does not match its number of vertices")


def normalize_face(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Rotate a face by 180° about x, centre it, and scale it to a surface area of one; returns (V, 3) float32.

    Raises InputError for a face without area.
    """
    v = vertices.astype(np.float64) * [1, -1, -1]
    v -= v.mean(0)
    a, b, c = v[faces].transpose(1, 0, 2)
    area = 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())
    if not area > 0:
        raise InputError("a face without surface area cannot be scaled")
    return (v / area**0.5).astype(np.float32)


def load_biwi(path: Path, textgrids: Path | None = None) -> MeshCorpus:
    """Load BIWI at 25 fps.

    Args:
        path: The corpus' folder, in the raw or the processed layout.
        textgrids: Folder of alignments; None: `path`/textgrids.

    Returns:
        The corpus; its unit is "units".

    Raises:
        InputError: `path` has neither layout, or a file in it cannot be read.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    grids, faces = textgrids or path / TEXTGRID_DIR, None
    missing: list[str] = []
    clips: list[MeshClip] = []
    numbers: dict[str, list[int]] = {}
    frames: VertexFrames
    if (path / "vertices_npy").is_dir():
        templates = parse_templates(load_restricted_pickle(path / "templates.pkl"), path / "templates.pkl")
        for file in sorted((path / "vertices_npy").glob("*.npy")):
            frames = NpyFrames(file)
            _add_clip(clips, missing, path, grids, file.stem, frames, templates)
        for name in ("BIWI.ply", "templates/BIWI.ply"):
            if (path / name).is_file():
                faces = load_matching_faces(path / name, templates)
    elif (path / "faces").is_dir():
        templates = {}
        for scan in sorted((path / "rigid_scans").glob("[FM]?.obj")):
            template = load_template(scan)
            if faces is not None and not np.array_equal(faces, template.faces):
                raise InputError(f"{scan}: its triangles differ from the other templates'; all must have one topology")
            faces = template.faces
            templates[scan.stem] = normalize_face(template.vertices, template.faces)
        if faces is None:
            raise InputError(f"{path / 'rigid_scans'}: no templates found; raw BIWI has F1.obj …")
        for folder in sorted((path / "faces").glob("*/*")):
            parts = tuple(sorted(folder.glob("*.vl")))
            name = f"{folder.parent.name}_{folder.name}"
            if parts:
                frames = VlFrames(parts, faces)
                numbers[name] = [int(digits[-1]) for p in parts if (digits := re.findall(r"\d+", p.stem))]
                _add_clip(clips, missing, path, grids, name, frames, templates)
            elif folder.is_dir():
                missing.append(f"{name}: no .vl frames; unpack its .tar")
    else:
        raise InputError(f"{path}: not BIWI: it has neither vertices_npy/ nor faces/")
    rules = load_json(asset_path("biwi/splits.json"))
    kept = tuple(clips)
    return MeshCorpus(
        "biwi",
        path,
        source_label(path, "BIWI"),
        UNIT,
        templates,
        faces,
        kept,
        make_splits(kept, rules),
        tuple(missing),
        frame_gaps=find_frame_gaps(numbers) if numbers else None,
    )


def _add_clip(
    clips: list[MeshClip],
    missing: list[str],
    path: Path,
    grids: Path,
    name: str,
    frames: VertexFrames,
    templates: dict[str, np.ndarray],
) -> None:
    """Append a clip to `clips`, or the reason why it is skipped to `missing`."""
    subject, _, sentence = name.rpartition("_")
    sound = next((p for f in ("wav", "audio") if (p := path / f / f"{name}.wav").is_file()), None)
    if sound is None:
        missing.append(f"{name}: no audio (wav/{name}.wav)")
    elif subject not in templates:
        missing.append(f"{name}: no template of {subject}")
    elif not re.fullmatch(r"e\d\d", sentence):
        missing.append(f"{name}: not one of the emotional takes e01 to e40, which published splits use")
    else:
        number = int(sentence[1:])
        clips.append(MeshClip(name, subject, number, sound, frames, FPS, grids / f"{name}.TextGrid"))
