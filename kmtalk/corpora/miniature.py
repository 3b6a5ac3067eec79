"""Miniature corpora in the layouts of VOCASET and BIWI, with motion of the simulated speaker on kmtalk's own head.

They serve tests and users who have no licence for the real corpora. The folder contains `SIMULATED_MARKER`, so every
figure on it is labelled simulated.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import trimesh

from kmtalk.corpora.clip import Clip
from kmtalk.corpora.mesh_corpus import SIMULATED_MARKER, TEXTGRID_DIR
from kmtalk.corpora.simulated import build_simulated_corpus as build_simulated
from kmtalk.corpora.simulated import load_simulated_corpus
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.face.rig import Rig
from kmtalk.face.template import Template, write_obj
from kmtalk.progress import Progress
from kmtalk.speech.alignment import write_textgrid
from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.working_folders import temporary_folder

LAYOUTS = ("vocaset", "vocaset-raw", "biwi", "biwi-raw")
SIMULATED_CLIPS = 48  # number of simulated clips from which those that are short enough are taken
RAW_RATE = 22000  # Hz, sample rate of VOCASET's pickled audio


@dataclass(frozen=True)
class _LayoutSpec:
    """Number of vertices, frame rate, and (subject, sentences) of a layout."""

    vertices: int
    fps: float
    people: tuple[tuple[str, tuple[str, ...]], ...]


_VOCASET = _LayoutSpec(
    5023,
    60.0,
    (
        ("FaceTalk_170728_03272_TA", ("sentence01", "sentence02", "sentence03")),
        ("FaceTalk_170904_00128_TA", ("sentence01", "sentence02", "sentence03")),
        ("FaceTalk_170811_03275_TA", ("sentence21",)),
        ("FaceTalk_170809_00138_TA", ("sentence21", "sentence22")),
    ),
)
_BIWI = _LayoutSpec(
    23370, 25.0, (("F2", ("e01", "e02", "e03", "e33", "e37")), ("M3", ("e01", "e02", "e37")), ("F1", ("e37",)))
)


def build_miniature(folder: Path, layout: str, clips: Sequence[Clip], rig: Rig, max_seconds: float = 4.0) -> int:
    """Write a miniature corpus.

    The clips' motion is applied to the rig, remeshed to the layout's number of vertices and scaled differently for each
    subject.

    Args:
        folder: An empty folder.
        layout: One of `LAYOUTS`.
        clips: Simulated clips.
        rig: Rig of the clips' weights.
        max_seconds: Longest clip to use, in s.

    Returns:
        The number of sentences written.

    Raises:
        InputError: The layout is unknown, or there are too few clips of up to `max_seconds`.
    """
    if layout not in LAYOUTS:
        raise InputError(f"{layout}: no such layout; one of {', '.join(LAYOUTS)}")
    spec = _VOCASET if layout.startswith("vocaset") else _BIWI
    wanted = sum(len(s) for _, s in spec.people)
    usable = [c for c in clips if c.alignment.phones and len(c.weights) / c.fps <= max_seconds][:wanted]
    if len(usable) < wanted:
        raise InputError(
            f"{layout}: needs {wanted} simulated clips of up to {max_seconds:g} s, but there are {len(usable)}"
        )
    mesh = remesh_rig(rig, spec.vertices)
    templates = {subject: _vary_head(mesh.template.vertices, i) for i, (subject, _) in enumerate(spec.people)}
    utterances = _make_utterances(spec, usable, mesh, templates)
    if layout == "vocaset-raw":
        _write_vocaset_raw(folder, utterances)
    elif layout == "biwi-raw":
        _write_biwi_raw(folder, utterances, templates, mesh.template)
    else:
        _write_processed(folder, utterances, normal=layout == "biwi", faces=mesh.template.faces)
    if layout != "biwi-raw":
        stored_templates = (
            {s: _normalize_area(v, mesh.template.faces) for s, v in templates.items()}
            if layout == "biwi"
            else templates
        )
        (folder / "templates.pkl").write_bytes(pickle.dumps(stored_templates, protocol=2))
        ply = "BIWI.ply" if layout == "biwi" else "FLAME_sample.ply"
        trimesh.Trimesh(next(iter(stored_templates.values())), mesh.template.faces, process=False).export(folder / ply)
    marker = {"motion": "the simulated speaker of kmtalk", "mesh": "kmtalk's default head, recut", "layout": layout}
    (folder / SIMULATED_MARKER).write_text(json.dumps(marker, indent=1) + "\n")
    return wanted


def build_from_voices(
    folder: Path,
    layout: str,
    rig: Rig,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """Build a miniature from newly simulated clips of the installed voices.

    Args:
        folder: An empty folder.
        layout: One of `LAYOUTS`.
        rig: Rig to animate.
        seed: Seed of the simulated clips.
        progress: Progress display.
        warn: Receives warnings, such as voices that are not installed.

    Returns:
        The number of sentences written.
    """
    with temporary_folder() as temporary:
        build_simulated(temporary, rig, SIMULATED_CLIPS, seed, progress, warn)
        clips = load_simulated_corpus(temporary, rig)
        return build_miniature(folder, layout, clips, rig)


def remesh_rig(rig: Rig, count: int) -> Rig:
    """Remesh the rig's skin to exactly `count` vertices, in metres.

    Triangles are subdivided at the midpoints of their edges, then the largest at their centroids; the shapes' offsets
    are interpolated. Raises InputError where `count` cannot be reached.
    """
    scale, skin = rig.template.mm_per_unit / 1000, np.sort(rig.template.regions["skin"])
    skin_index = np.full(len(rig.template.vertices), -1)
    skin_index[skin] = np.arange(len(skin))
    vertices = rig.template.vertices[skin].astype(np.float64) * scale
    offsets = np.moveaxis(rig.offsets[:, skin], 0, 1).astype(np.float64).reshape(len(skin), -1) * scale
    faces = skin_index[rig.template.faces]
    faces = faces[(faces >= 0).all(1)]
    while len(vertices) * 3.9 < count:
        before = {"offsets": offsets}
        vertices, faces, after = trimesh.remesh.subdivide(vertices, faces, vertex_attributes=before)
        offsets = after["offsets"]
    missing = count - len(vertices)
    if not 0 <= missing <= len(faces):
        raise InputError(f"a mesh of {len(vertices)} vertices cannot be remeshed to {count}")
    a, b, c = vertices[faces].transpose(1, 0, 2)
    largest = np.argsort(-np.linalg.norm(np.cross(b - a, c - a), axis=1), kind="stable")[:missing]
    new = np.arange(len(vertices), count)
    split = faces[largest]
    vertices = np.concatenate([vertices, vertices[split].mean(1)])
    offsets = np.concatenate([offsets, offsets[split].mean(1)])
    kept = np.delete(faces, largest, axis=0)
    parts = [np.stack([split[:, i], split[:, (i + 1) % 3], new], 1) for i in range(3)]
    cut = np.concatenate([kept, *parts]).astype(np.int32)
    template = Template(vertices.astype(np.float32), cut, units="m", name="recut")
    moved = np.moveaxis(offsets.reshape(count, len(rig.shape_names), 3), 1, 0).astype(np.float32)
    return replace(rig, template=template, offsets=np.ascontiguousarray(moved))


def _vary_head(vertices: np.ndarray, number: int) -> np.ndarray:
    """Scale a head by up to ±6 % along each axis; `number` seeds the choice."""
    rng = np.random.default_rng(1000 + number)
    out: np.ndarray = (vertices * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    return out


@dataclass(frozen=True)
class _Utterance:
    """One sentence of a subject: its simulated clip and vertices (N, V, 3) float32 in metres."""

    subject: str
    sentence: str
    clip: Clip
    vertices: np.ndarray


def _make_utterances(
    spec: _LayoutSpec, clips: Sequence[Clip], mesh: Rig, templates: dict[str, np.ndarray]
) -> Iterator[_Utterance]:
    """Assign clips to the layout's sentences in order and compute their vertices."""
    remaining = iter(clips)
    for subject, sentences in spec.people:
        for sentence in sentences:
            clip = next(remaining)
            times = frame_times(round(len(clip.weights) / clip.fps * spec.fps), spec.fps)
            weights = np.clip(resample_motion(clip.weights, clip.fps, times), 0, 1)
            offsets = np.einsum("nr,rvk->nvk", weights, mesh.offsets, optimize=True)
            yield _Utterance(subject, sentence, clip, (templates[subject] + offsets).astype(np.float32))


def _write_alignment(folder: Path, utterance: _Utterance, samples: np.ndarray) -> None:
    """Write the TextGrid of an utterance."""
    path = folder / TEXTGRID_DIR / f"{utterance.subject}_{utterance.sentence}.TextGrid"
    path.parent.mkdir(exist_ok=True)
    write_textgrid(utterance.clip.alignment, path, len(samples) / SAMPLE_RATE)


def _write_processed(folder: Path, sentences: Iterator[_Utterance], normal: bool, faces: np.ndarray) -> None:
    """Write the processed layout: one .npy and one .wav per sentence; `normal` scales faces to an area of one."""
    (folder / "vertices_npy").mkdir()
    (folder / "wav").mkdir()
    for utterance in sentences:
        name, samples = f"{utterance.subject}_{utterance.sentence}", utterance.clip.load_samples()
        frames = np.stack([_normalize_area(v, faces) for v in utterance.vertices]) if normal else utterance.vertices
        np.save(folder / "vertices_npy" / f"{name}.npy", frames.reshape(len(frames), -1))
        soundfile.write(folder / "wav" / f"{name}.wav", samples, SAMPLE_RATE)
        _write_alignment(folder, utterance, samples)


def _write_vocaset_raw(folder: Path, sentences: Iterator[_Utterance]) -> None:
    """Write VOCASET's raw layout: all frames in one unordered array, audio as int16 in a pickle."""
    sounds: dict[str, dict[str, dict[str, object]]] = {}
    places: dict[str, dict[str, dict[int, int]]] = {}
    frames, first = [], 0
    for utterance in reversed(list(sentences)):
        samples = utterance.clip.load_samples()
        positions = np.linspace(0, len(samples) - 1, round(len(samples) / SAMPLE_RATE * RAW_RATE))
        quantized = np.round(np.interp(positions, np.arange(len(samples)), samples) * 32767).astype(np.int16)
        sounds.setdefault(utterance.subject, {})[utterance.sentence] = {"audio": quantized, "sample_rate": RAW_RATE}
        rows = {frame: first + frame for frame in range(len(utterance.vertices))}
        places.setdefault(utterance.subject, {})[utterance.sentence] = rows
        frames.append(utterance.vertices)
        first += len(utterance.vertices)
        _write_alignment(folder, utterance, samples)
    np.save(folder / "data_verts.npy", np.concatenate(frames))
    (folder / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sounds, protocol=2))
    (folder / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(places, protocol=2))


def _write_biwi_raw(
    folder: Path, sentences: Iterator[_Utterance], templates: dict[str, np.ndarray], mesh: Template
) -> None:
    """Write BIWI's raw layout: one .vl per frame, in mm, rotated by 180° about x like BIWI's scans."""
    (folder / "rigid_scans").mkdir()
    (folder / "wav").mkdir()
    flip = np.array([1000.0, -1000.0, -1000.0])
    for subject, vertices in templates.items():
        write_obj(folder / "rigid_scans" / f"{subject}.obj", replace(mesh, vertices=(vertices * flip)))
    for utterance in sentences:
        frame_folder = folder / "faces" / utterance.subject / utterance.sentence
        frame_folder.mkdir(parents=True)
        for n, vertices in enumerate((utterance.vertices * flip).astype("<f4")):
            count = np.array([len(vertices)], "<u4").tobytes()
            (frame_folder / f"frame_{n + 1:03d}.vl").write_bytes(count + vertices.tobytes())
        samples = utterance.clip.load_samples()
        soundfile.write(folder / "wav" / f"{utterance.subject}_{utterance.sentence}.wav", samples, SAMPLE_RATE)
        _write_alignment(folder, utterance, samples)


def _normalize_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Centre vertices and scale them to a surface area of one."""
    v = vertices.astype(np.float64) - vertices.astype(np.float64).mean(0)
    a, b, c = v[faces].transpose(1, 0, 2)
    out: np.ndarray = (v / (0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) ** 0.5).astype(np.float32)
    return out
