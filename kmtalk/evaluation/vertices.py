"""`kmtalk evaluate` on corpora of vertices: scores of networks and other systems, with baseline and reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kmtalk import metrics
from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.corpora.registry import locate_corpus_face
from kmtalk.errors import InputError
from kmtalk.evaluation.predict import CorpusPredictor, load_predictions, predict_clips, predict_rest
from kmtalk.evaluation.scores import EvaluationSet, score_predictions, score_reference
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.metrics import MM_PER_UNIT, Mask, MetricResult
from kmtalk.motion.model import load_network
from kmtalk.output import check_writable
from kmtalk.progress import Progress

REST_ROW = "rest (nothing moves)"
"""Title of the baseline without motion."""
REFERENCE_ROW = "truth (the corpus itself)"
"""Title of the corpus' own mouth metrics."""


@dataclass(frozen=True)
class EvaluationRequest:
    """Networks and other systems' predictions to score.

    Attributes:
        networks: Names and files of networks.
        predictions: Names and folders of other systems' predictions.
        keys_from: Folder of another system's predictions, whose key motions the networks complete.
        identity: Training subject that the networks are conditioned on; "each" of them (FaceFormer's protocol); None:
            the clip's subject where the network was trained on it, else the mean of the training subjects.
        output: Folder for the networks' predictions.
        cache: Folder for audio features.
    """

    networks: Sequence[tuple[str, Path]] = ()
    predictions: Sequence[tuple[str, Path]] = ()
    keys_from: Path | None = None
    identity: str | None = None
    output: Path | None = None
    cache: Path | None = None


def make_evaluation_set(
    corpus: MeshCorpus,
    split: str,
    lips: str | None = None,
    upper: str | None = None,
    landmarks: Path | None = None,
    count: int | None = None,
    mouths: bool = True,
) -> EvaluationSet:
    """Select clips and masks to score with.

    Masks and landmarks that are not given are found on the template. Where that fails, FDD and mouth metrics are left
    out.

    Args:
        corpus: The corpus.
        split: Name of the split.
        lips: Lip mask, FILE or FILE:PART.
        upper: Mask of the upper face, the same.
        landmarks: File of landmarks of the first subject's neutral face.
        count: Number of clips; None: all.
        mouths: Whether to measure mouths.

    Returns:
        The evaluation set.

    Raises:
        InputError: A mask cannot be read, the split has no clips, or lips are neither given nor found.
    """
    clips, template = corpus.split_clips(split)[:count], None
    warnings: tuple[str, ...] = ()
    if lips is None or upper is None or mouths:
        try:
            template, warnings = locate_corpus_face(corpus, landmarks)
        except InputError as error:
            if lips is None or landmarks is not None:
                raise InputError(f"{error}; pass --lip-mask FILE" if lips is None else str(error)) from None
            warnings = (str(error),)
    if lips is not None:
        lip_mask = metrics.load_mask(lips)
    else:
        assert template is not None
        lip_mask = metrics.mask_from_template(template, "lips")
    if upper is not None:
        upper_face_mask: Mask | None = metrics.load_mask(upper)
    else:
        upper_face_mask = None if template is None else metrics.mask_from_template(template, "upper")
    if template is None or not mouths:
        return EvaluationSet(corpus, split, clips, lip_mask, upper_face_mask, warnings=warnings)
    scale = "" if corpus.unit in MM_PER_UNIT else ", outer eye corners 90 mm apart"
    measurers = {
        subject: MouthMeasurer.from_template(replace(template, vertices=vertices), MM_PER_UNIT.get(corpus.unit))
        for subject, vertices in corpus.templates.items()
    }
    mouth_mask = Mask(f"{template.name} mouth landmarks{scale}", next(iter(measurers.values())).vertex_indices)
    return EvaluationSet(corpus, split, clips, lip_mask, upper_face_mask, measurers, mouth_mask, warnings)


def evaluate_vertices(
    evaluation_set: EvaluationSet, request: EvaluationRequest, progress: Progress | None = None
) -> Iterator[str]:
    """Yield the lines of an evaluation: the baseline at rest, the corpus' own mouths, then each network and system.

    Raises InputError for a network or predictions that do not fit the corpus, names with slashes, and options that
    need a network where there is none.
    """
    corpus, clips = evaluation_set.corpus, evaluation_set.clips
    for name, _ in (*request.networks, *request.predictions):
        if set(name) & set("/\\\0") or name in (".", ".."):
            raise InputError(f"{name}: names must not contain slashes")
    network_options = {"-o": request.output, "--keys-from": request.keys_from, "--identity": request.identity}
    if not request.networks and any(network_options.values()):
        options = ", ".join(option for option, value in network_options.items() if value)
        raise InputError(f"{options}: applies to predictions of networks; pass --network NAME=FILE")
    predictors = [
        (n, CorpusPredictor(load_network(p), corpus, request.cache, request.keys_from)) for n, p in request.networks
    ]
    if request.output is not None:
        check_writable(request.output / "x.npy")
    yield from format_warnings(evaluation_set, mouths=True)
    yield from _rows(REST_ROW, score_predictions(predict_rest(corpus, clips), evaluation_set))
    if reference := score_reference(evaluation_set):
        yield from _rows(REFERENCE_ROW, reference)
    elif evaluation_set.mouth_measurers is not None and not any(c.textgrid.is_file() for c in clips):
        yield "not measured: mouths: no clip is aligned; run kmtalk corpus align"
    for name, predictor in predictors:
        identities: Sequence[str | None] = predictor.styles if request.identity == "each" else (request.identity,)
        predictions = predict_clips(
            predictor, clips, identities, request.output / name if request.output else None, progress
        )
        yield from _rows(name, score_predictions(predictions, evaluation_set))
    for name, folder in request.predictions:
        yield from _rows(name, score_predictions(load_predictions(folder, corpus, clips), evaluation_set))


def format_warnings(bench: EvaluationSet, mouths: bool) -> Iterator[str]:
    """Yield a line on what is not measured, or on a face that was located with warnings."""
    missing = ["mouths"] * (mouths and bench.mouth_measurers is None) + ["the upper face"] * (
        bench.upper_face_mask is None
    )
    if missing:
        yield f"not measured: {' and '.join(missing)}: {'; '.join(bench.warnings)}"
    elif bench.warnings:
        yield f"the face was located with warnings: {'; '.join(bench.warnings)}"


def _rows(name: str, results: Sequence[MetricResult]) -> Iterator[str]:
    """A title, and the results indented beneath it."""
    yield name
    for result in results:
        yield f"  {result}"
