"""``kmtalk evaluate`` on corpora of vertices: rows of networks, of other systems, and what to read them against."""

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
REFERENCE_ROW = "truth (the corpus itself)"


@dataclass(frozen=True)
class EvaluationRequest:
    """What speaks: ``networks`` and other systems' ``predictions``, each by name. ``keys_from`` is a folder of another
    system's predictions whose keys the networks complete; ``identity`` a training subject that they speak as, or
    "each" of them (FaceFormer's protocol), or None for the clip's own where it is known, else their mean; ``output``
    a folder for what they predict, ``cache`` one for features."""

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
    """A bench on ``count`` clips of a split. Masks of ``lips`` and ``upper`` face are files (FILE or FILE:PART) or
    None, found on the template, as the mouth's ``landmarks`` are where no file of them is given. Where nothing can be
    found, the upper face and the mouth are left out. Raises InputError for masks that cannot be read, and lips that are
    neither given nor found."""
    clips, template = corpus.split_clips(split)[:count], None
    doubts: tuple[str, ...] = ()
    if lips is None or upper is None or mouths:
        try:
            template, doubts = locate_corpus_face(corpus, landmarks)
        except InputError as error:
            if lips is None or landmarks is not None:
                raise InputError(f"{error}; or give --lips FILE" if lips is None else str(error)) from None
            doubts = (str(error),)
    if lips is not None:
        own = metrics.load_mask(lips)
    else:
        assert template is not None
        own = metrics.mask_from_template(template, "lips")
    if upper is not None:
        face: Mask | None = metrics.load_mask(upper)
    else:
        face = None if template is None else metrics.mask_from_template(template, "upper")
    if template is None or not mouths:
        return EvaluationSet(corpus, split, clips, own, face, warnings=doubts)
    scale = "" if corpus.unit in MM_PER_UNIT else ", outer eye corners 90 mm apart"
    rulers = {
        subject: MouthMeasurer.from_template(replace(template, vertices=vertices), MM_PER_UNIT.get(corpus.unit))
        for subject, vertices in corpus.templates.items()
    }
    points = Mask(f"{template.name} mouth landmarks{scale}", next(iter(rulers.values())).vertex_indices)
    return EvaluationSet(corpus, split, clips, own, face, rulers, points, doubts)


def evaluate_vertices(
    bench: EvaluationSet, asked: EvaluationRequest, progress: Progress | None = None
) -> Iterator[str]:
    """Lines: the baseline at rest, what the corpus' own mouths do, then each network and other system."""
    corpus, clips = bench.corpus, bench.clips
    for name, _ in (*asked.networks, *asked.predictions):
        if set(name) & set("/\\\0") or name in (".", ".."):
            raise InputError(f"{name}: give a name without slashes")
    idle = {"-o": asked.output, "--keys-from": asked.keys_from, "--identity": asked.identity}
    if not asked.networks and any(idle.values()):
        options = ", ".join(option for option, given in idle.items() if given)
        raise InputError(f"{options}: is for what networks predict; give --network NAME=FILE")
    made = [(n, CorpusPredictor(load_network(p), corpus, asked.cache, asked.keys_from)) for n, p in asked.networks]
    if asked.output is not None:
        check_writable(asked.output / "x.npy")
    yield from format_warnings(bench, mouths=True)
    yield from _rows(REST_ROW, score_predictions(predict_rest(corpus, clips), bench))
    if own := score_reference(bench):
        yield from _rows(REFERENCE_ROW, own)
    elif bench.mouth_measurers is not None and not any(c.textgrid.is_file() for c in clips):
        yield "not measured: mouths: no clip is aligned (kmtalk corpus align)"
    for name, by in made:
        wanted: Sequence[str | None] = by.styles if asked.identity == "each" else (asked.identity,)
        found = predict_clips(by, clips, wanted, asked.output / name if asked.output else None, progress)
        yield from _rows(name, score_predictions(found, bench))
    for name, folder in asked.predictions:
        yield from _rows(name, score_predictions(load_predictions(folder, corpus, clips), bench))


def format_warnings(bench: EvaluationSet, mouths: bool) -> Iterator[str]:
    """What could not be found on the corpus' face, or only with doubts."""
    lacking = ["mouths"] * (mouths and bench.mouth_measurers is None) + ["the upper face"] * (
        bench.upper_face_mask is None
    )
    if lacking:
        yield f"not measured: {' and '.join(lacking)}: {'; '.join(bench.warnings)}"
    elif bench.warnings:
        yield f"the face was found with doubts: {'; '.join(bench.warnings)}"


def _rows(name: str, results: Sequence[MetricResult]) -> Iterator[str]:
    yield name
    for result in results:
        yield f"  {result}"
