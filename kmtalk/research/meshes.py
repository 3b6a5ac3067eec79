"""``kmtalk evaluate`` on corpora of vertices: rows of networks, of other systems, and what to read them against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmtalk import metrics
from kmtalk.corpora.mesh import MeshCorpus
from kmtalk.corpora.meshes import found_template
from kmtalk.errors import InputError
from kmtalk.face.mouth import MouthRuler
from kmtalk.metrics import MM, Mask, Result
from kmtalk.motion.model import load_network
from kmtalk.output import check_writable
from kmtalk.progress import Progress
from kmtalk.research.predict import Predictor, predict, read_predictions, resting
from kmtalk.research.scores import Bench, score, truth

REST = "rest (nothing moves)"
TRUTH = "truth (the corpus itself)"


@dataclass(frozen=True)
class Asked:
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


def make_bench(
    corpus: MeshCorpus,
    split: str,
    lips: str | None = None,
    upper: str | None = None,
    landmarks: Path | None = None,
    count: int | None = None,
    mouths: bool = True,
) -> Bench:
    """A bench on ``count`` clips of a split. Masks of ``lips`` and ``upper`` face are files (FILE or FILE:PART) or
    None, found on the template, as the mouth's ``landmarks`` are where no file of them is given. Where nothing can be
    found, the upper face and the mouth are left out. Raises InputError for masks that cannot be read, and lips that are
    neither given nor found."""
    clips, template, lacking = corpus.split(split)[:count], None, ""
    if lips is None or upper is None or mouths:
        try:
            template = found_template(corpus, landmarks)
        except InputError as error:
            if lips is None or landmarks is not None:
                raise
            lacking = str(error)
    if lips is not None:
        own = metrics.load_mask(lips)
    else:
        assert template is not None
        own = metrics.own_mask(template, "lips")
    if upper is not None:
        face: Mask | None = metrics.load_mask(upper)
    else:
        face = None if template is None else metrics.own_mask(template, "upper")
    if template is None or not mouths:
        return Bench(corpus, split, clips, own, face, lacking=lacking)
    ruler = MouthRuler.of(template, MM.get(corpus.unit))
    scale = "" if corpus.unit in MM else ", outer eye corners 90 mm apart"
    points = Mask(f"{template.name} mouth landmarks{scale}", ruler.points)
    rulers = {subject: ruler.on(vertices) for subject, vertices in corpus.templates.items()}
    return Bench(corpus, split, clips, own, face, rulers, points)


def evaluate_meshes(bench: Bench, asked: Asked, progress: Progress | None = None) -> Iterator[str]:
    """Lines: the baseline at rest, what the corpus' own mouths do, then each network and other system."""
    corpus, clips = bench.corpus, bench.clips
    for name, _ in (*asked.networks, *asked.predictions):
        if set(name) & set("/\\\0") or name in (".", ".."):
            raise InputError(f"{name}: give a name without slashes")
    made = [(n, Predictor(load_network(p), corpus, asked.cache, asked.keys_from)) for n, p in asked.networks]
    if asked.output is not None:
        if not made:
            raise InputError(f"{asked.output}: -o keeps what networks predict; give --network NAME=FILE")
        check_writable(asked.output / "x.npy")
    if bench.lacking:
        parts = "mouths" if bench.upper is not None else "mouths and the upper face"
        yield f"{parts} are not measured: {bench.lacking}"
    yield from _rows(REST, score(resting(corpus, clips), bench))
    if own := truth(bench):
        yield from _rows(TRUTH, own)
    elif bench.rulers is not None:
        yield "mouths are not measured: no clip is aligned (kmtalk corpus align)"
    for name, by in made:
        wanted: Sequence[str | None] = by.styles if asked.identity == "each" else (asked.identity,)
        found = predict(by, clips, wanted, asked.output / name if asked.output else None, progress)
        yield from _rows(name, score(found, bench))
    for name, folder in asked.predictions:
        yield from _rows(name, score(read_predictions(folder, corpus, clips), bench))


def _rows(name: str, results: Sequence[Result]) -> Iterator[str]:
    yield name
    for result in results:
        yield f"  {result}"
