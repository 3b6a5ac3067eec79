"""All metrics of a split, pooled over its clips; only one clip's predictions are in memory at a time."""

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

CLIP_SPACING = 1000.0  # seconds between the beats of two clips when all clips are put on one clock
MIN_MOTION_MM = 1e-3  # mm of aperture, least range that counts as motion


@dataclass(frozen=True)
class EvaluationSet:
    """Clips to score, and the masks to score them with.

    Attributes:
        corpus: The corpus.
        split: Name of the split.
        clips: Clips of the split.
        lip_mask: Mask of the lips.
        upper_face_mask: Mask of the upper face; None: no FDD.
        mouth_measurers: Mouth measurers by subject; None: no mouth metrics.
        mouth_mask: Vertices that the mouth measurers use.
        warnings: Why something cannot be measured, or why the located face is uncertain.
    """

    corpus: MeshCorpus
    split: str
    clips: tuple[MeshClip, ...]
    lip_mask: Mask
    upper_face_mask: Mask | None = None
    mouth_measurers: Mapping[str, MouthMeasurer] | None = None
    mouth_mask: Mask | None = None
    warnings: tuple[str, ...] = ()


class _WeightedMean:
    """Mean of a metric over clips, weighted by what each clip pools (such as its frames)."""

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


def score_predictions(predicted: Iterable[Prediction], evaluation_set: EvaluationSet) -> list[MetricResult]:
    """Score predictions on the clips' own frames.

    Args:
        predicted: Predictions, those of one clip after another.
        evaluation_set: Clips and masks.

    Returns:
        LVE, lip maximum, MVE, velocity error and FDD; MEE, CE and diversity where clips have several predictions; mouth
        metrics where mouths can be measured.

    Raises:
        InputError: There are no predictions, or one has values that are not finite.
    """
    corpus, lips, unit = evaluation_set.corpus, evaluation_set.lip_mask, evaluation_set.corpus.unit
    names = ("LVE", "lip max", "MVE", "velocity", "FDD", "absolute FDD", "MEE", "CE", "diversity")
    pools = {name: _WeightedMean() for name in names}
    identities: set[str] = set()
    rates: set[float] = set()
    mouths: list[MouthComparison] = []
    frames = 0
    for _, group in groupby(predicted, key=lambda p: p.clip.name):
        predictions = list(group)
        clip = predictions[0].clip
        n = len(predictions[0].vertices)
        truth = clip.frames.read(0, n)
        audio = _load_sound(clip) if evaluation_set.mouth_measurers is not None else None
        for p in predictions:
            if not (np.isfinite(p.vertices).all() and np.isfinite(truth).all()):
                raise InputError(
                    f"{clip.name}: prediction or ground truth has values that are not finite; run kmtalk corpus check"
                )
            pools["LVE"].add(metrics.lve(p.vertices, truth, lips, unit), n)
            pools["lip max"].add(metrics.lip_max(p.vertices, truth, lips, unit), n)
            pools["MVE"].add(metrics.mve(p.vertices, truth, None, unit), n)
            if n > 1:
                pools["velocity"].add(metrics.velocity_error(p.vertices, truth, clip.fps, lips, unit), n - 1)
            if evaluation_set.upper_face_mask is not None:
                rest = corpus.templates[clip.subject]
                for name, absolute in (("FDD", False), ("absolute FDD", True)):
                    upper = evaluation_set.upper_face_mask
                    pools[name].add(metrics.fdd(p.vertices, truth, rest, upper, unit, absolute), 1)
            if audio is not None and evaluation_set.mouth_measurers is not None and n > 1:
                mouths.append(_compare_mouths(p, truth, evaluation_set.mouth_measurers[clip.subject], audio))
            identities.add(p.identity)
        if len(predictions) > 1:
            samples = [np.stack([p.vertices for p in predictions])]
            pools["MEE"].add(metrics.mean_estimate_error(samples, truth, lips, unit), n)
            pools["CE"].add(metrics.coverage_error(samples, truth, lips, unit), n)
            pools["diversity"].add(metrics.diversity(samples, lips, unit), 1)
        rates.add(clip.fps)
        frames += n * len(predictions)
    if not frames:
        raise InputError(f"{corpus.path}: there are no predictions to score")
    count = pools["LVE"].clips
    over_frames, several_clips = f"mean of {frames} frames of max", f"mean of {pools['MEE'].clips} clips"
    pooled = {
        "LVE": over_frames,
        "lip max": over_frames,
        "MVE": f"mean of {frames} frames x {corpus.vertex_count} vertices",
        "velocity": f"mean of {pools['velocity'].weight} steps",
        "FDD": f"mean of {count} predictions",
        "absolute FDD": f"mean of {count} predictions",
        "MEE": f"mean of {pools['MEE'].weight} frames of max, of the mean sample",
        "CE": f"mean of {pools['CE'].weight} frames of max, best sample",
        "diversity": several_clips,
    }
    identity = next(iter(identities)) if len(identities) == 1 else f"{len(identities)} of them"
    rate = "/".join(f"{r:g}" for r in sorted(rates))
    data = f"{corpus.source}, split {evaluation_set.split}"
    results = [pools[name].result(how) for name, how in pooled.items() if pools[name].clips]
    labelled = [r.with_source(f"{data}, {count} predictions at {rate} fps", identity) for r in results]
    aligned = f"{data}, {len(mouths)} predictions at {rate} fps" + (" of aligned clips" if len(mouths) < count else "")
    for r in _mouth_metrics(mouths, evaluation_set.mouth_mask, compared=True):
        labelled.append(replace(r, pooling=r.pooling.replace("clips", "predictions")).with_source(aligned, identity))
    return labelled


def score_reference(evaluation_set: EvaluationSet) -> list[MetricResult]:
    """Mouth metrics of the corpus' own motion (closures, speed, lead), a reference for the predictions'.

    Empty where mouths cannot be measured.
    """
    if evaluation_set.mouth_measurers is None:
        return []
    mouths = []
    for clip in evaluation_set.clips:
        audio = _load_sound(clip)
        if audio is not None and len(clip.frames) > 1:
            truth = clip.frames.read(0, len(clip.frames))
            mouths.append(
                _compare_mouths(Prediction(clip, truth, ""), truth, evaluation_set.mouth_measurers[clip.subject], audio)
            )
    rate = "/".join(f"{r:g}" for r in sorted({m.fps for m in mouths}))
    data = f"{evaluation_set.corpus.source}, split {evaluation_set.split}, {len(mouths)} clips at {rate} fps"
    return [r.with_source(data) for r in _mouth_metrics(mouths, evaluation_set.mouth_mask, compared=False)]


_Sound = tuple[np.ndarray, Alignment]


def _load_sound(clip: MeshClip) -> _Sound | None:
    """Samples and alignment of a clip; None where there is no TextGrid."""
    return (clip.load_samples(), clip.load_alignment()) if clip.textgrid.is_file() else None


def _compare_mouths(
    prediction: Prediction, truth: np.ndarray, measurer: MouthMeasurer, audio: _Sound
) -> MouthComparison:
    """Measure the true and the predicted mouth of a clip."""
    samples, alignment = audio
    times = frame_times(len(truth), prediction.clip.fps)
    reference, predicted = (
        measurer.measure(v[:, measurer.vertex_indices]).lip_channels for v in (truth, prediction.vertices)
    )
    return MouthComparison(
        reference, predicted, alignment.utterance_mask(times), alignment, samples, prediction.clip.fps
    )


def _mouth_metrics(mouths: list[MouthComparison], landmarks: Mask | None, compared: bool) -> list[MetricResult]:
    """Mouth metrics: errors where `compared`, and metrics of motion where any mouth moves."""
    results: list[MetricResult] = []
    if not mouths:
        return results
    moving = [m for m in mouths if np.ptp(m.predicted[:, 0]) > MIN_MOTION_MM]
    if compared and any(m.utterance_mask.any() for m in mouths):
        results += [*(metrics.correlation(mouths) if moving else ()), *metrics.rmse(mouths)]
    if compared:
        results.append(metrics.ldtw([m.predicted[:, 0] for m in mouths], [m.reference[:, 0] for m in mouths]))
    if moving:
        aligned = [(m.predicted, m.alignment, m.fps) for m in mouths]
        results += [metrics.closure_rate(aligned), metrics.labiodental_rate(aligned), metrics.stillness(aligned)]
        timed = [(m.predicted, m.fps) for m in mouths]
        results += [metrics.speed_percentile(timed), metrics.band_power(timed)]
        results.append(metrics.audiovisual_lead([(m.predicted, m.samples, m.fps) for m in moving]))
        motion_beats = _concatenate_beats([metrics.motion_beats(m.predicted[:, :1], m.fps) for m in mouths])
        audio_beats = _concatenate_beats([metrics.audio_beats(m.samples) for m in mouths])
        if len(motion_beats) and len(audio_beats):
            results.append(metrics.beat_consistency(motion_beats, audio_beats))
    return [replace(r, mask=landmarks) for r in results if np.isfinite(r.value)]


def _concatenate_beats(beats: list[np.ndarray]) -> np.ndarray:
    """Put the beats of clips on one clock, so far apart that no clip's beats are near another's."""
    return np.concatenate([CLIP_SPACING * i + b for i, b in enumerate(beats)])
