"""Consistency checks of a corpus: unit, vertex order, frame rate, gaps, audio and alignments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.corpora.mesh_corpus import MeshClip, MeshCorpus
from kmtalk.errors import InputError
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE

COMMON_FRAME_RATES = (24.0, 25.0, 30.0, 50.0, 60.0, 100.0, 120.0)
TOLERANCE = 0.02  # audio and motion may differ by this share of the clip's length plus three frames
HEAD_SIZE = (0.12, 0.6)  # metres, diagonal of the bounding box of a head or face
MAX_AMPLITUDE = 1.5  # relative to full scale; beyond it, integer samples were not converted to floats
FRAMES_PER_BLOCK = 64  # number of frames read at once
PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
MAX_TEMPLATE_DISTANCE = 0.05
"""Mean distance of a frame's vertices to the template's, as a share of its size, beyond which order or pose differ."""
REORDERED_SHARE = 0.5
"""The vertex order is to blame where the nearest template vertices are closer than this share of that distance."""

Verdict = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class CheckResult:
    """One line of the report: what was checked, the verdict, and a note."""

    check: str
    verdict: Verdict
    note: str


def check_corpus(corpus: MeshCorpus, progress: Progress | None = None) -> list[CheckResult]:
    """Check a corpus.

    Returns one result per check, in the order of the report. "wrong" marks faults that spoil training or scores, "look"
    what to verify by hand.
    """
    progress = progress or Progress()
    subjects = sorted({c.subject for c in corpus.clips})
    out = [
        CheckResult("source", "ok", corpus.source),
        CheckResult(
            "clips",
            "ok" if corpus.clips else "wrong",
            f"{len(corpus.clips)} of {len(subjects)} subjects, at {_frame_rates(corpus)} fps",
        ),
        _list_result("left out", corpus.skipped),
        _list_result(
            "gaps between frames",
            ["unknown: its files do not number their frames"] if corpus.frame_gaps is None else corpus.frame_gaps,
        ),
        *[CheckResult(f"split {n}", "ok" if m else "look", f"{len(m)} clips") for n, m in corpus.splits.items()],
        CheckResult(
            "vertices", "ok", f"{corpus.vertex_count}, faces {'unknown' if corpus.faces is None else len(corpus.faces)}"
        ),
        _check_unit(corpus),
    ]
    bad: dict[str, list[str]] = {"shape": [], "finite": [], "scale": [], "order": [], "clock": [], "sound": []}
    aligned = 0
    with progress.stage("check", len(corpus.clips)) as advance:
        for i, clip in enumerate(corpus.clips):
            advance(i)
            aligned += clip.textgrid.is_file()
            for kind, note in _check_clip(corpus, clip):
                bad[kind].append(f"{clip.name}: {note}")
    titles = {
        "shape": "frames match the template",
        "finite": "vertices are finite",
        "scale": "frames have the template's size",
        "order": "vertex order is the template's",
        "clock": "motion and audio have the same length",
        "sound": "audio is valid",
    }
    for kind, title in titles.items():
        notes = bad[kind]
        more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
        out.append(CheckResult(title, "wrong" if notes else "ok", f"{notes[0]}{more}" if notes else "all clips"))
    complete = aligned == len(corpus.clips)
    remedy = "" if complete else f"; kmtalk corpus align {corpus.path} --corpus {corpus.kind} makes the others"
    out.append(
        CheckResult("alignments", "ok" if complete else "look", f"{aligned} of {len(corpus.clips)} clips{remedy}")
    )
    return out


def _frame_rates(corpus: MeshCorpus) -> str:
    return ", ".join(f"{fps:g}" for fps in sorted({c.fps for c in corpus.clips})) or "no"


def _list_result(what: str, notes: Sequence[str]) -> CheckResult:
    """A result that shows the first note and the number of further ones."""
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    return CheckResult(what, "look", f"{notes[0]}{more}") if notes else CheckResult(what, "ok", "none")


def _extent(vertices: np.ndarray) -> float:
    """Diagonal of the bounding box."""
    return float(np.linalg.norm(np.ptp(vertices.reshape(-1, 3), axis=0)))


def _check_unit(corpus: MeshCorpus) -> CheckResult:
    """Check that the templates have the size of a head in the corpus' unit."""
    sizes = [_extent(v) for v in corpus.templates.values()]
    measured = f"templates measure {min(sizes):.3g} to {max(sizes):.3g} {corpus.unit} from corner to corner"
    if max(sizes) > 1.5 * min(sizes):
        return CheckResult("unit", "wrong", f"{measured}: they differ in unit")
    units_per_metre = PER_METRE.get(corpus.unit)
    if units_per_metre is None:
        return CheckResult("unit", "look", f"{measured}; the unit is unknown, so metrics are not in mm")
    metres = float(np.median(sizes)) / units_per_metre
    if HEAD_SIZE[0] <= metres <= HEAD_SIZE[1]:
        return CheckResult("unit", "ok", measured)
    likely = next(
        (u for u, p in PER_METRE.items() if HEAD_SIZE[0] <= float(np.median(sizes)) / p <= HEAD_SIZE[1]), None
    )
    hint = f"; the unit may be {likely}" if likely else ""
    return CheckResult("unit", "wrong", f"{measured}: not the size of a head in {corpus.unit}{hint}")


def _check_clip(corpus: MeshCorpus, clip: MeshClip) -> list[tuple[str, str]]:
    """Faults of one clip as (key of `bad`, note)."""
    template = corpus.templates[clip.subject]
    try:
        count = len(clip.frames)
        first_frame = clip.frames.read(0, 1) if count else np.zeros((0, 0, 3))
        clip.frames.read(max(count - 1, 0), count)
    except InputError as error:
        return [("shape", str(error))]
    if not count or first_frame.shape[1] != len(template):
        return [("shape", f"{count} frames of {first_frame.shape[1]} vertices, the template has {len(template)}")]
    out: list[tuple[str, str]] = []
    for start in range(0, count, FRAMES_PER_BLOCK):
        bad = ~np.isfinite(clip.frames.read(start, min(start + FRAMES_PER_BLOCK, count))).all((1, 2))
        if bad.any():
            return [("finite", f"frame {start + int(bad.argmax())} has values that are not finite")]
    size, frame_size = _extent(template), _extent(first_frame[0])
    if not 0.5 < frame_size / size < 2:
        hint = next((n for n, f in (("1000", 1000), ("0.001", 0.001), ("100", 100), ("0.01", 0.01))
                     if 0.5 < frame_size / size / f < 2), f"{frame_size / size:.3g}")  # fmt: skip
        out.append(("scale", f"frames are {hint} times the template's size (millimetres for metres?)"))
    else:
        mean_distance = np.linalg.norm(first_frame[0] - template, axis=1).mean()
        nearest_distance = cKDTree(template).query(first_frame[0])[0].mean()
        if mean_distance > MAX_TEMPLATE_DISTANCE * size:
            blame = (
                "different vertex order"
                if nearest_distance < REORDERED_SHARE * mean_distance
                else "different pose or position"
            )
            out.append(("order", f"mean distance to the template is {mean_distance / size:.0%} of its size: {blame}"))
    try:
        samples = clip.load_samples()
    except InputError as error:
        return [*out, ("sound", str(error))]
    audio_seconds, motion_seconds = len(samples) / SAMPLE_RATE, count / clip.fps
    if abs(audio_seconds - motion_seconds) > TOLERANCE * audio_seconds + 3 / clip.fps:
        fits = [r for r in COMMON_FRAME_RATES if abs(audio_seconds - count / r) <= TOLERANCE * audio_seconds + 1 / r]
        better = f"; {fits[0]:g} fps would match" if fits and fits[0] != clip.fps else ""
        motion = f"{count} frames at {clip.fps:g} fps are {motion_seconds:.2f} s"
        out.append(("clock", f"{audio_seconds:.2f} s of audio, {motion}{better}"))
    if not len(samples) or float(np.abs(samples).max()) < 1e-4:
        out.append(("sound", "audio is silent"))
    elif float(np.abs(samples).max()) > MAX_AMPLITUDE:
        out.append(("sound", f"amplitude reaches {np.abs(samples).max():.0f}, where 1 is full scale"))
    return out
