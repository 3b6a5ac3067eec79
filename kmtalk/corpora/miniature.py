"""Miniature corpora in the layouts of VOCASET and BIWI, made by the simulated speaker on a mesh of our own.

For trying all that works on the licensed corpora, by those who have none, and for tests. Every figure on them is to be
called simulated; the folder says so (``corpora.mesh.SIMULATED``).
"""

from __future__ import annotations

import json
import pickle
import tempfile
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

LAYOUTS = ("vocaset", "vocaset-raw", "biwi", "biwi-raw")
SIMULATED_CLIPS = 48  # simulated clips among which those short enough are looked for
RAW_RATE = 22000  # Hz, of VOCASET's pickled sound


@dataclass(frozen=True)
class _LayoutSpec:
    """Vertices and rate of a layout, and how clips are named: (subject, sentences) by split."""

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


def build_miniature(folder: Path, layout: str, clips: Sequence[Clip], rig: Rig, longest: float = 4.0) -> int:
    """Write a miniature of a ``layout`` into an empty ``folder`` from simulated ``clips``; returns how many sentences.

    Motion is the clips', on ``rig`` cut to the layout's number of vertices and shaped a little otherwise for each
    subject. Raises InputError where there are too few clips of up to ``longest`` s.
    """
    if layout not in LAYOUTS:
        raise InputError(f"{layout}: no such layout; one of {', '.join(LAYOUTS)}")
    plan = _VOCASET if layout.startswith("vocaset") else _BIWI
    wanted = sum(len(s) for _, s in plan.people)
    usable = [c for c in clips if c.alignment.phones and len(c.weights) / c.fps <= longest][:wanted]
    if len(usable) < wanted:
        raise InputError(
            f"{layout}: {wanted} simulated clips of up to {longest:g} s are wanted; {len(usable)} are here"
        )
    mesh = remesh_rig(rig, plan.vertices)
    templates = {subject: _vary_head(mesh.template.vertices, i) for i, (subject, _) in enumerate(plan.people)}
    said = _make_utterances(plan, usable, mesh, templates)
    if layout == "vocaset-raw":
        _write_vocaset_raw(folder, said)
    elif layout == "biwi-raw":
        _write_biwi_raw(folder, said, templates, mesh.template)
    else:
        _write_processed(folder, said, normal=layout == "biwi", faces=mesh.template.faces)
    if layout != "biwi-raw":
        kept = (
            {s: _normalize_area(v, mesh.template.faces) for s, v in templates.items()}
            if layout == "biwi"
            else templates
        )
        (folder / "templates.pkl").write_bytes(pickle.dumps(kept, protocol=2))
        ply = "BIWI.ply" if layout == "biwi" else "FLAME_sample.ply"
        trimesh.Trimesh(next(iter(kept.values())), mesh.template.faces, process=False).export(folder / ply)
    facts = {"motion": "the simulated speaker of kmtalk", "mesh": "kmtalk's default head, recut", "layout": layout}
    (folder / SIMULATED_MARKER).write_text(json.dumps(facts, indent=1) + "\n")
    return wanted


def build_from_voices(
    folder: Path,
    layout: str,
    rig: Rig,
    seed: int = 0,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> int:
    """``build_miniature`` of clips that the installed voices speak."""
    with tempfile.TemporaryDirectory(prefix="kmtalk-") as place:
        build_simulated(Path(place), rig, SIMULATED_CLIPS, seed, progress, warn)
        clips = load_simulated_corpus(Path(place), rig)
        return build_miniature(folder, layout, clips, rig)


def remesh_rig(rig: Rig, count: int) -> Rig:
    """The rig's skin on a mesh of ``count`` vertices, in metres: triangles are split at their edges' middles and, the
    largest first, at their own; shapes are interpolated."""
    scale, skin = rig.template.mm_per_unit / 1000, np.sort(rig.template.regions["skin"])
    place = np.full(len(rig.template.vertices), -1)
    place[skin] = np.arange(len(skin))
    vertices = rig.template.vertices[skin].astype(np.float64) * scale
    offsets = np.moveaxis(rig.offsets[:, skin], 0, 1).astype(np.float64).reshape(len(skin), -1) * scale
    faces = place[rig.template.faces]
    faces = faces[(faces >= 0).all(1)]
    while len(vertices) * 3.9 < count:
        before = {"offsets": offsets}
        vertices, faces, after = trimesh.remesh.subdivide(vertices, faces, vertex_attributes=before)
        offsets = after["offsets"]
    more = count - len(vertices)
    if not 0 <= more <= len(faces):
        raise InputError(f"a mesh of {len(vertices)} vertices cannot be recut to {count}")
    a, b, c = vertices[faces].transpose(1, 0, 2)
    largest = np.argsort(-np.linalg.norm(np.cross(b - a, c - a), axis=1), kind="stable")[:more]
    new = np.arange(len(vertices), count)
    split = faces[largest]
    vertices = np.concatenate([vertices, vertices[split].mean(1)])
    offsets = np.concatenate([offsets, offsets[split].mean(1)])
    whole = np.delete(faces, largest, axis=0)
    parts = [np.stack([split[:, i], split[:, (i + 1) % 3], new], 1) for i in range(3)]
    cut = np.concatenate([whole, *parts]).astype(np.int32)
    template = Template(vertices.astype(np.float32), cut, units="m", name="recut")
    moved = np.moveaxis(offsets.reshape(count, len(rig.names), 3), 1, 0).astype(np.float32)
    return replace(rig, template=template, offsets=np.ascontiguousarray(moved))


def _vary_head(vertices: np.ndarray, number: int) -> np.ndarray:
    """Another head of the same topology: up to 6 % wider, higher and deeper."""
    rng = np.random.default_rng(1000 + number)
    out: np.ndarray = (vertices * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    return out


@dataclass(frozen=True)
class _Utterance:
    subject: str
    sentence: str
    clip: Clip
    vertices: np.ndarray


def _make_utterances(
    plan: _LayoutSpec, clips: Sequence[Clip], mesh: Rig, templates: dict[str, np.ndarray]
) -> Iterator[_Utterance]:
    left = iter(clips)
    for subject, sentences in plan.people:
        for sentence in sentences:
            clip = next(left)
            times = frame_times(round(len(clip.weights) / clip.fps * plan.fps), plan.fps)
            weights = np.clip(resample_motion(clip.weights, clip.fps, times), 0, 1)
            moved = np.einsum("nr,rvk->nvk", weights, mesh.offsets, optimize=True)
            yield _Utterance(subject, sentence, clip, (templates[subject] + moved).astype(np.float32))


def _write_alignment(folder: Path, said: _Utterance, samples: np.ndarray) -> None:
    path = folder / TEXTGRID_DIR / f"{said.subject}_{said.sentence}.TextGrid"
    path.parent.mkdir(exist_ok=True)
    write_textgrid(said.clip.alignment, path, len(samples) / SAMPLE_RATE)


def _write_processed(folder: Path, sentences: Iterator[_Utterance], normal: bool, faces: np.ndarray) -> None:
    (folder / "vertices_npy").mkdir()
    (folder / "wav").mkdir()
    for said in sentences:
        name, samples = f"{said.subject}_{said.sentence}", said.clip.load_samples()
        frames = np.stack([_normalize_area(v, faces) for v in said.vertices]) if normal else said.vertices
        np.save(folder / "vertices_npy" / f"{name}.npy", frames.reshape(len(frames), -1))
        soundfile.write(folder / "wav" / f"{name}.wav", samples, SAMPLE_RATE)
        _write_alignment(folder, said, samples)


def _write_vocaset_raw(folder: Path, sentences: Iterator[_Utterance]) -> None:
    """As downloaded: all frames in one array, not in order, sound as whole numbers in a pickle."""
    sounds: dict[str, dict[str, dict[str, object]]] = {}
    places: dict[str, dict[str, dict[int, int]]] = {}
    every, begin = [], 0
    for said in reversed(list(sentences)):
        samples = said.clip.load_samples()
        at = np.linspace(0, len(samples) - 1, round(len(samples) / SAMPLE_RATE * RAW_RATE))
        whole = np.round(np.interp(at, np.arange(len(samples)), samples) * 32767).astype(np.int16)
        sounds.setdefault(said.subject, {})[said.sentence] = {"audio": whole, "sample_rate": RAW_RATE}
        rows = {frame: begin + frame for frame in range(len(said.vertices))}
        places.setdefault(said.subject, {})[said.sentence] = rows
        every.append(said.vertices)
        begin += len(said.vertices)
        _write_alignment(folder, said, samples)
    np.save(folder / "data_verts.npy", np.concatenate(every))
    (folder / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sounds, protocol=2))
    (folder / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(places, protocol=2))


def _write_biwi_raw(
    folder: Path, sentences: Iterator[_Utterance], templates: dict[str, np.ndarray], mesh: Template
) -> None:
    """One .vl a frame, on its head as BIWI's scanner has them, millimetres."""
    (folder / "rigid_scans").mkdir()
    (folder / "wav").mkdir()
    upside = np.array([1000.0, -1000.0, -1000.0])
    for subject, vertices in templates.items():
        write_obj(folder / "rigid_scans" / f"{subject}.obj", replace(mesh, vertices=(vertices * upside)))
    for said in sentences:
        into = folder / "faces" / said.subject / said.sentence
        into.mkdir(parents=True)
        for n, vertices in enumerate((said.vertices * upside).astype("<f4")):
            head = np.array([len(vertices)], "<u4").tobytes()
            (into / f"frame_{n + 1:03d}.vl").write_bytes(head + vertices.tobytes())
        samples = said.clip.load_samples()
        soundfile.write(folder / "wav" / f"{said.subject}_{said.sentence}.wav", samples, SAMPLE_RATE)
        _write_alignment(folder, said, samples)


def _normalize_area(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Centred, and scaled to a surface of one."""
    v = vertices.astype(np.float64) - vertices.astype(np.float64).mean(0)
    a, b, c = v[faces].transpose(1, 0, 2)
    out: np.ndarray = (v / (0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) ** 0.5).astype(np.float32)
    return out
