"""Every metric of a split, pooled over its clips, a clip's predictions in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from kmtalk import metrics
from kmtalk.corpora.mesh_corpus import MeshClip, MeshCorpus
from kmtalk.errors import InputError
from kmtalk.evaluation.predict import Prediction
from kmtalk.face.motion import frame_times
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.metrics import Mask, MetricResult, MouthComparison
from kmtalk.speech.alignment import Alignment

CLIP_SPACING = 1000.0  # seconds from clip to clip
MIN_MOTION_MM = 1e-3  # mm of aperture: less is no motion


@dataclass(frozen=True)
class EvaluationSet:
    """What is scored, and by what: a ``split`` of a ``corpus``, ``clips`` of it, masks of ``lip_mask`` and ``upper_face_mask`` face
    (None: no FDD), and ``mouth_measurers`` of the subjects' mouths, with ``mouth_mask`` for their mask (None: mouths are not
    measured); ``warnings`` say why, or what was found with doubts."""

    corpus: MeshCorpus
    split: str
    clips: tuple[MeshClip, ...]
    lip_mask: Mask
    upper_face_mask: Mask | None = None
    mouth_measurers: Mapping[str, MouthMeasurer] | None = None
    mouth_mask: Mask | None = None
    warnings: tuple[str, ...] = ()


class _WeightedMean:
    """A metric pooled over clips: the mean of theirs, weighted by what each pooled."""

    def __init__(self) -> None:
        self.first: MetricResult | None = None
        self.total, self.weight, self.clips = 0.0, 0, 0

    def add(self, result: MetricResult, weight: int) -> None:
        self.first = self.first or result
        self.total += result.value * weight
        self.weight, self.clips = self.weight + weight, self.clips + 1

    def result(self, pooled: str) -> MetricResult:
        assert self.first is not None
        return replace(self.first, value=self.total / self.weight, pooling=pooled)


def score_predictions(predicted: Iterable[Prediction], bench: EvaluationSet) -> list[MetricResult]:
    """LVE, its like and FDD; MEE, CE and diversity where clips were predicted several times, one after another; what
    the mouth does, where it can be measured: all on the clips' own frames. Raises InputError for predictions that are
    not numbers."""
    corpus, lips, unit = bench.corpus, bench.lip_mask, bench.corpus.unit
    names = ("LVE", "lip max", "MVE", "velocity", "FDD", "absolute FDD", "MEE", "CE", "diversity")
    pools = {name: _WeightedMean() for name in names}
    identities: set[str] = set()
    rates: set[float] = set()
    mouths: list[MouthComparison] = []
    frames = 0
    for _, group in groupby(predicted, key=lambda p: p.clip.name):
        several = list(group)
        clip = several[0].clip
        n = len(several[0].vertices)
        true = clip.frames.read(0, n)
        sound = _load_sound(clip) if bench.mouth_measurers is not None else None
        for p in several:
            if not (np.isfinite(p.vertices).all() and np.isfinite(true).all()):
                raise InputError(f"{clip.name}: holds numbers that are not finite (kmtalk corpus check)")
            pools["LVE"].add(metrics.lve(p.vertices, true, lips, unit), n)
            pools["lip max"].add(metrics.lip_max(p.vertices, true, lips, unit), n)
            pools["MVE"].add(metrics.mve(p.vertices, true, None, unit), n)
            if n > 1:
                pools["velocity"].add(metrics.velocity_error(p.vertices, true, clip.fps, lips, unit), n - 1)
            if bench.upper_face_mask is not None:
                rest = corpus.templates[clip.subject]
                for name, absolute in (("FDD", False), ("absolute FDD", True)):
                    pools[name].add(metrics.fdd(p.vertices, true, rest, bench.upper_face_mask, unit, absolute), 1)
            if sound is not None and bench.mouth_measurers is not None and n > 1:
                mouths.append(_compare_mouths(p, true, bench.mouth_measurers[clip.subject], sound))
            identities.add(p.identity)
        if len(several) > 1:
            samples = [np.stack([p.vertices for p in several])]
            pools["MEE"].add(metrics.mean_estimate_error(samples, true, lips, unit), n)
            pools["CE"].add(metrics.coverage_error(samples, true, lips, unit), n)
            pools["diversity"].add(metrics.diversity(samples, lips, unit), 1)
        rates.add(clip.fps)
        frames += n * len(several)
    if not frames:
        raise InputError(f"{corpus.path}: nothing to score")
    count = pools["LVE"].clips
    of_frames, several_clips = f"mean of {frames} frames of max", f"mean of {pools['MEE'].clips} clips"
    pooled = {
        "LVE": of_frames,
        "lip max": of_frames,
        "MVE": f"mean of {frames} frames x {corpus.vertex_count} vertices",
        "velocity": f"mean of {pools['velocity'].weight} steps",
        "FDD": f"mean of {count} predictions",
        "absolute FDD": f"mean of {count} predictions",
        "MEE": f"mean of {pools['MEE'].weight} frames of max, of the mean sample",
        "CE": f"mean of {pools['CE'].weight} frames of max, best sample",
        "diversity": several_clips,
    }
    told = next(iter(identities)) if len(identities) == 1 else f"{len(identities)} of them"
    rate = "/".join(f"{r:g}" for r in sorted(rates))
    where = f"{corpus.source}, split {bench.split}"
    found = [pools[name].result(how) for name, how in pooled.items() if pools[name].clips]
    out = [r.with_source(f"{where}, {count} predictions at {rate} fps", told) for r in found]
    aligned = f"{where}, {len(mouths)} predictions at {rate} fps" + (" of aligned clips" if len(mouths) < count else "")
    for r in _mouth_metrics(mouths, bench.mouth_mask, compared=True):
        out.append(replace(r, pooling=r.pooling.replace("clips", "predictions")).with_source(aligned, told))
    return out


def score_reference(bench: EvaluationSet) -> list[MetricResult]:
    """What the mouth does in the corpus itself, to set beside what was predicted: its own closures, speed and lead."""
    if bench.mouth_measurers is None:
        return []
    mouths = []
    for clip in bench.clips:
        sound = _load_sound(clip)
        if sound is not None and len(clip.frames) > 1:
            true = clip.frames.read(0, len(clip.frames))
            mouths.append(_compare_mouths(Prediction(clip, true, ""), true, bench.mouth_measurers[clip.subject], sound))
    rate = "/".join(f"{r:g}" for r in sorted({m.fps for m in mouths}))
    data = f"{bench.corpus.source}, split {bench.split}, {len(mouths)} clips at {rate} fps"
    return [r.with_source(data) for r in _mouth_metrics(mouths, bench.mouth_mask, compared=False)]


_Sound = tuple[np.ndarray, Alignment]


def _load_sound(clip: MeshClip) -> _Sound | None:
    """Samples and phones of a clip; None where nobody aligned it."""
    return (clip.load_samples(), clip.load_alignment()) if clip.textgrid.is_file() else None


def _compare_mouths(p: Prediction, true: np.ndarray, ruler: MouthMeasurer, sound: _Sound) -> MouthComparison:
    samples, alignment = sound
    times = frame_times(len(true), p.clip.fps)
    real, made = (ruler.measure(v[:, ruler.vertex_indices]).frontal_channels for v in (true, p.vertices))
    return MouthComparison(real, made, alignment.speech_mask(times), alignment, samples, p.clip.fps)


def _mouth_metrics(mouths: list[MouthComparison], landmarks: Mask | None, compared: bool) -> list[MetricResult]:
    """Metrics of mouths; those that compare with the truth where ``compared``, those of motion where any moves."""
    out: list[MetricResult] = []
    if not mouths:
        return out
    moving = [m for m in mouths if np.ptp(m.predicted[:, 0]) > MIN_MOTION_MM]
    if compared and any(m.speech_mask.any() for m in mouths):
        out += [*(metrics.correlation(mouths) if moving else ()), *metrics.rmse(mouths)]
    if compared:
        out.append(metrics.ldtw([m.predicted[:, 0] for m in mouths], [m.reference[:, 0] for m in mouths]))
    if moving:
        spoken = [(m.predicted, m.alignment, m.fps) for m in mouths]
        out += [metrics.closure_rate(spoken), metrics.labiodental_rate(spoken), metrics.stillness(spoken)]
        seen = [(m.predicted, m.fps) for m in mouths]
        out += [metrics.speed_percentile(seen), metrics.band_power(seen)]
        out.append(metrics.audiovisual_lead([(m.predicted, m.samples, m.fps) for m in moving]))
        moves = _concatenate_beats([metrics.motion_beats(m.predicted[:, :1], m.fps) for m in mouths])
        heard = _concatenate_beats([metrics.audio_beats(m.samples) for m in mouths])
        if len(moves) and len(heard):
            out.append(metrics.beat_consistency(moves, heard))
    return [replace(r, mask=landmarks) for r in out if np.isfinite(r.value)]


def _concatenate_beats(beats: list[np.ndarray]) -> np.ndarray:
    """Beats of clips on one clock, so far apart that none is met by another clip's."""
    return np.concatenate([CLIP_SPACING * i + b for i, b in enumerate(beats)])
