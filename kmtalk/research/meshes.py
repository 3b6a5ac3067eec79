"""``kmtalk evaluate`` on corpora of vertices: rows of networks, of other systems, and what to read them against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kmtalk import metrics
from kmtalk.corpora.mesh import MeshCorpus
from kmtalk.corpora.meshes import found_face
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
    clips, template = corpus.split(split)[:count], None
    doubts: tuple[str, ...] = ()
    if lips is None or upper is None or mouths:
        try:
            template, doubts = found_face(corpus, landmarks)
        except InputError as error:
            if lips is None or landmarks is not None:
                raise InputError(f"{error}; or give --lips FILE" if lips is None else str(error)) from None
            doubts = (str(error),)
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
        return Bench(corpus, split, clips, own, face, doubts=doubts)
    scale = "" if corpus.unit in MM else ", outer eye corners 90 mm apart"
    rulers = {
        subject: MouthRuler.of(replace(template, vertices=vertices), MM.get(corpus.unit))
        for subject, vertices in corpus.templates.items()
    }
    points = Mask(f"{template.name} mouth landmarks{scale}", next(iter(rulers.values())).points)
    return Bench(corpus, split, clips, own, face, rulers, points, doubts)


def evaluate_meshes(bench: Bench, asked: Asked, progress: Progress | None = None) -> Iterator[str]:
    """Lines: the baseline at rest, what the corpus' own mouths do, then each network and other system."""
    corpus, clips = bench.corpus, bench.clips
    for name, _ in (*asked.networks, *asked.predictions):
        if set(name) & set("/\\\0") or name in (".", ".."):
            raise InputError(f"{name}: give a name without slashes")
    idle = {"-o": asked.output, "--keys-from": asked.keys_from, "--identity": asked.identity}
    if not asked.networks and any(idle.values()):
        options = ", ".join(option for option, given in idle.items() if given)
        raise InputError(f"{options}: is for what networks predict; give --network NAME=FILE")
    made = [(n, Predictor(load_network(p), corpus, asked.cache, asked.keys_from)) for n, p in asked.networks]
    if asked.output is not None:
        check_writable(asked.output / "x.npy")
    yield from told_doubts(bench, mouths=True)
    yield from _rows(REST, score(resting(corpus, clips), bench))
    if own := truth(bench):
        yield from _rows(TRUTH, own)
    elif bench.rulers is not None and not any(c.textgrid.is_file() for c in clips):
        yield "not measured: mouths: no clip is aligned (kmtalk corpus align)"
    for name, by in made:
        wanted: Sequence[str | None] = by.styles if asked.identity == "each" else (asked.identity,)
        found = predict(by, clips, wanted, asked.output / name if asked.output else None, progress)
        yield from _rows(name, score(found, bench))
    for name, folder in asked.predictions:
        yield from _rows(name, score(read_predictions(folder, corpus, clips), bench))


def told_doubts(bench: Bench, mouths: bool) -> Iterator[str]:
    """What could not be found on the corpus' face, or only with doubts."""
    lacking = ["mouths"] * (mouths and bench.rulers is None) + ["the upper face"] * (bench.upper is None)
    if lacking:
        yield f"not measured: {' and '.join(lacking)}: {'; '.join(bench.doubts)}"
    elif bench.doubts:
        yield f"the face was found with doubts: {'; '.join(bench.doubts)}"


def _rows(name: str, results: Sequence[Result]) -> Iterator[str]:
    yield name
    for result in results:
        yield f"  {result}"
