"""Is a corpus what it is taken for? Units, order of vertices, clocks, gaps."""

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
TOLERANCE = 0.02  # of a clip's length, and three frames, that sound and motion may differ by
HEAD_SIZE = (0.12, 0.6)  # metres from corner to corner of a head's or face's box
MAX_AMPLITUDE = 1.5  # of full scale: beyond, whole numbers were taken for parts of one
FRAMES_PER_BLOCK = 64  # frames read at once
PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}
MAX_TEMPLATE_DISTANCE = (
    0.05  # of the template's size: frames whose vertices lie further off in the mean are of another order, or pose
)
REORDERED_SHARE = 0.5  # of that distance: if other vertices of the template lie so much nearer, the order is to blame

Verdict = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class CheckResult:
    """One thing looked at."""

    what: str
    verdict: Verdict
    note: str


def check_corpus(corpus: MeshCorpus, progress: Progress | None = None) -> list[CheckResult]:
    """What was found, in the order of a table; "wrong" is what training and figures would suffer from."""
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
            ["not told: its files number no frames"] if corpus.frame_gaps is None else corpus.frame_gaps,
        ),
        *[CheckResult(f"split {n}", "ok" if m else "look", f"{len(m)} clips") for n, m in corpus.splits.items()],
        CheckResult(
            "vertices", "ok", f"{corpus.vertex_count}, faces {'unknown' if corpus.faces is None else len(corpus.faces)}"
        ),
        _check_unit(corpus),
    ]
    bad: dict[str, list[str]] = {"shape": [], "finite": [], "scale": [], "order": [], "clock": [], "sound": []}
    aligned = 0
    with progress.stage("check", len(corpus.clips)) as told:
        for i, clip in enumerate(corpus.clips):
            told(i)
            aligned += clip.textgrid.is_file()
            for kind, note in _check_clip(corpus, clip):
                bad[kind].append(f"{clip.name}: {note}")
    titles = {
        "shape": "frames fit the template",
        "finite": "numbers are finite",
        "scale": "frames are of the template's size",
        "order": "vertices are in the template's order",
        "clock": "motion is as long as its sound",
        "sound": "sound is heard",
    }
    for kind, title in titles.items():
        notes = bad[kind]
        more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
        out.append(CheckResult(title, "wrong" if notes else "ok", f"{notes[0]}{more}" if notes else "all clips"))
    every = aligned == len(corpus.clips)
    remedy = "" if every else f"; kmtalk corpus align {corpus.path} --corpus {corpus.kind} makes the others"
    out.append(CheckResult("alignments", "ok" if every else "look", f"{aligned} of {len(corpus.clips)} clips{remedy}"))
    return out


def _frame_rates(corpus: MeshCorpus) -> str:
    return ", ".join(f"{fps:g}" for fps in sorted({c.fps for c in corpus.clips})) or "no"


def _list_result(what: str, notes: Sequence[str]) -> CheckResult:
    """Clips to look at, the first by its name."""
    more = f" (and {len(notes) - 1} more)" if len(notes) > 1 else ""
    return CheckResult(what, "look", f"{notes[0]}{more}") if notes else CheckResult(what, "ok", "none")


def _extent(vertices: np.ndarray) -> float:
    return float(np.linalg.norm(np.ptp(vertices.reshape(-1, 3), axis=0)))


def _check_unit(corpus: MeshCorpus) -> CheckResult:
    """A head in metres is half a metre long at most; where nobody knows the unit, the template is the measure."""
    sizes = [_extent(v) for v in corpus.templates.values()]
    told = f"templates measure {min(sizes):.3g} to {max(sizes):.3g} {corpus.unit} from corner to corner"
    if max(sizes) > 1.5 * min(sizes):
        return CheckResult("unit", "wrong", f"{told}: they are not of one unit")
    per = PER_METRE.get(corpus.unit)
    if per is None:
        return CheckResult("unit", "look", f"{told}; no millimetres can be told from them")
    metres = float(np.median(sizes)) / per
    if HEAD_SIZE[0] <= metres <= HEAD_SIZE[1]:
        return CheckResult("unit", "ok", told)
    meant = next((u for u, p in PER_METRE.items() if HEAD_SIZE[0] <= float(np.median(sizes)) / p <= HEAD_SIZE[1]), None)
    return CheckResult(
        "unit", "wrong", f"{told}: no head's size in {corpus.unit}" + (f"; in {meant} it is" if meant else "")
    )


def _check_clip(corpus: MeshCorpus, clip: MeshClip) -> list[tuple[str, str]]:
    """What is wrong with one clip: (kind, note)."""
    template = corpus.templates[clip.subject]
    try:
        count = len(clip.frames)
        some = clip.frames.read(0, 1) if count else np.zeros((0, 0, 3))
        clip.frames.read(max(count - 1, 0), count)
    except InputError as error:
        return [("shape", str(error))]
    if not count or some.shape[1] != len(template):
        return [("shape", f"{count} frames of {some.shape[1]} vertices, the template has {len(template)}")]
    out: list[tuple[str, str]] = []
    for start in range(0, count, FRAMES_PER_BLOCK):
        bad = ~np.isfinite(clip.frames.read(start, min(start + FRAMES_PER_BLOCK, count))).all((1, 2))
        if bad.any():
            return [("finite", f"frame {start + int(bad.argmax())} holds numbers that are not finite")]
    size, own = _extent(template), _extent(some[0])
    if not 0.5 < own / size < 2:
        hint = next((n for n, f in (("1000", 1000), ("0.001", 0.001), ("100", 100), ("0.01", 0.01))
                     if 0.5 < own / size / f < 2), f"{own / size:.3g}")  # fmt: skip
        out.append(("scale", f"frames are {hint} times the template's size (millimetres for metres?)"))
    else:
        away = np.linalg.norm(some[0] - template, axis=1).mean()
        near = cKDTree(template).query(some[0])[0].mean()
        if away > MAX_TEMPLATE_DISTANCE * size:
            blame = "another order of vertices" if near < REORDERED_SHARE * away else "another pose or place"
            out.append(("order", f"vertices lie {away / size:.0%} of the template's size away from it: {blame}"))
    try:
        samples = clip.load_samples()
    except InputError as error:
        return [*out, ("sound", str(error))]
    sound, motion = len(samples) / SAMPLE_RATE, count / clip.fps
    if abs(sound - motion) > TOLERANCE * sound + 3 / clip.fps:
        fits = [r for r in COMMON_FRAME_RATES if abs(sound - count / r) <= TOLERANCE * sound + 1 / r]
        meant = f"; at {fits[0]:g} fps they would fit" if fits and fits[0] != clip.fps else ""
        out.append(("clock", f"{sound:.2f} s of sound, {count} frames at {clip.fps:g} fps are {motion:.2f} s{meant}"))
    if not len(samples) or float(np.abs(samples).max()) < 1e-4:
        out.append(("sound", "is silent"))
    elif float(np.abs(samples).max()) > MAX_AMPLITUDE:
        out.append(("sound", f"reaches {np.abs(samples).max():.0f}, where 1 is full scale"))
    return out
