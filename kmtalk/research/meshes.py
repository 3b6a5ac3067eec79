"""Scores on corpora of vertices: of a network, or of what another system left as .npy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kmtalk import metrics
from kmtalk.corpora.mesh import MeshClip, MeshCorpus
from kmtalk.corpora.meshes import found_template
from kmtalk.errors import InputError
from kmtalk.face.motion import at_times, frame_times
from kmtalk.face.template import Template, write_obj
from kmtalk.metrics import Mask, Result
from kmtalk.motion.inference import inner_rate, place_keys, run
from kmtalk.motion.model import Network, load_network, style_shares
from kmtalk.output import check_writable, finished
from kmtalk.progress import Progress
from kmtalk.speech.encode import Encoder, encode_cached, load_encoder
from kmtalk.training.tasks import predicted_offsets

REST = "rest (nothing moves)"


@dataclass(frozen=True)
class Predicted:
    """One clip's prediction (N, V, 3), positions in the corpus' unit, and whose identity it was conditioned on."""

    clip: MeshClip
    vertices: np.ndarray
    identity: str


class Predictor:
    """A network that makes the vertices of a corpus; ``keys_from`` is a folder of another system's predictions, whose
    poses at the key frames its CMC completes. Raises InputError for a network of another mesh."""

    def __init__(
        self, network: Network, corpus: MeshCorpus, cache: Path | None = None, keys_from: Path | None = None
    ) -> None:
        shape = network.shape
        if shape.head == "rig" or shape.vertices != corpus.count:
            made = "weights of a rig" if shape.head == "rig" else f"{shape.vertices} vertices"
            raise InputError(f"these weights make {made}; {corpus.path} has {corpus.count} vertices")
        known = network.facts.get("unit")
        if known not in (None, corpus.unit):
            raise InputError(f"these weights make vertices in {known}; {corpus.path} is in {corpus.unit}")
        self._network, self.corpus, self._cache, self._keys_from = network, corpus, cache, keys_from
        self._encoder: Encoder = load_encoder(shape.encoder)

    @property
    def styles(self) -> tuple[str, ...]:
        """The identities that the network knows."""
        return self._network.shape.styles

    def __call__(self, clip: MeshClip, identity: str | None = None) -> Predicted:
        """The clip's prediction, as long as its truth; ``identity`` is one of the network's styles (None: the clip's
        own subject where the network knows it, else the mean of those it knows)."""
        styles = self._network.shape.styles
        wanted = identity or (clip.subject if clip.subject in styles else None)
        features = encode_cached(self._encoder, clip.samples(), self._cache)
        count, known = len(clip.frames), self._network.facts.get("fps") or ()
        fps = clip.fps if clip.fps in known else inner_rate(clip.fps)
        if fps != clip.fps and self._keys_from is not None:
            raise InputError(f"{clip.name}: {clip.fps:g} fps; other systems' keys are completed at 23 to 31")
        inner = count if fps == clip.fps else round(count / clip.fps * fps)
        keys = place_keys(clip.alignment(), inner, fps, self._network.shape.keys)
        shares = style_shares(self._network.shape, wanted)
        template, given = self.corpus.templates[clip.subject], None
        if self._keys_from is not None:
            given = predicted_offsets(self._keys_from / f"{clip.name}.npy", clip, template)[:][keys]
        made = run(self._network, features, keys, inner, fps, shares, given=given)
        if inner != count:
            made = at_times(made, fps, frame_times(count, clip.fps))
        offsets = made.reshape(count, -1, 3)
        told = (wanted or "mean of the training subjects") if len(styles) > 1 else "none"
        return Predicted(clip, template + offsets, told)


def read_predictions(folder: Path, corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Predicted]:
    """What another system left: NAME.npy of each clip, positions or offsets, (N, V, 3) or (N, 3V), at the clip's rate;
    FaceFormer, CodeTalker and SelfTalk add "_condition_SUBJECT" to the name, which is kept as the identity. Every one
    of them is given. Raises InputError where a clip has none, or one of another length (``predicted_offsets``)."""
    for clip in clips:
        found = sorted({*folder.glob(f"{clip.name}.npy"), *folder.glob(f"{clip.name}_condition_*.npy")})
        if not found:
            raise InputError(f"{folder}: no prediction of {clip.name} ({clip.name}.npy)")
        template = corpus.templates[clip.subject]
        for path in found:
            offsets = predicted_offsets(path, clip, template)[:].reshape(-1, *template.shape)
            yield Predicted(clip, template + offsets, path.stem.partition("_condition_")[2] or "not said")


class _Pool:
    """A metric pooled over clips: the mean of theirs, weighted by what each pooled."""

    def __init__(self) -> None:
        self.first: Result | None = None
        self.total, self.weight, self.clips = 0.0, 0, 0

    def add(self, result: Result, weight: int) -> None:
        self.first = self.first or result
        self.total += result.value * weight
        self.weight, self.clips = self.weight + weight, self.clips + 1

    def result(self, pooled: str) -> Result:
        assert self.first is not None
        return replace(self.first, value=self.total / self.weight, pooled=pooled)


def score(
    predicted: Iterable[Predicted], corpus: MeshCorpus, lips: Mask, upper: Mask | None, split: str
) -> list[Result]:
    """LVE, its like, and FDD of a split, on the clips' own frames, one clip in memory at a time. Raises InputError for
    predictions that are not numbers."""
    unit, pools = corpus.unit, [_Pool() for _ in range(6)]
    identities: set[str] = set()
    rates: set[float] = set()
    frames = 0
    for p in predicted:
        n, true = len(p.vertices), p.clip.frames.read(0, len(p.vertices))
        if not (np.isfinite(p.vertices).all() and np.isfinite(true).all()):
            raise InputError(f"{p.clip.name}: holds numbers that are not finite (kmtalk corpus check)")
        pools[0].add(metrics.lve(p.vertices, true, lips, unit), n)
        pools[1].add(metrics.lip_max(p.vertices, true, lips, unit), n)
        pools[2].add(metrics.mve(p.vertices, true, None, unit), n)
        if n > 1:
            pools[3].add(metrics.velocity_error(p.vertices, true, p.clip.fps, lips, unit), n - 1)
        if upper is not None:
            rest = corpus.templates[p.clip.subject]
            for pool, absolute in ((pools[4], False), (pools[5], True)):
                pool.add(metrics.fdd(p.vertices, true, rest, upper, unit, absolute), 1)
        identities.add(p.identity)
        rates.add(p.clip.fps)
        frames += n
    if not frames:
        raise InputError(f"{corpus.path}: nothing to score")
    count = pools[0].clips
    told = next(iter(identities)) if len(identities) == 1 else f"{len(identities)} of them"
    pooled = [
        f"mean of {frames} frames of max",
        f"mean of {frames} frames of max",
        f"mean of {frames} frames x {corpus.count} vertices",
        f"mean of {pools[3].weight} steps",
        f"mean of {count} clips",
        f"mean of {count} clips",
    ]
    rate = "/".join(f"{r:g}" for r in sorted(rates))
    data = f"{corpus.source}, split {split}, {count} predictions at {rate} fps"
    return [pool.result(how).on(data, told) for pool, how in zip(pools, pooled, strict=True) if pool.clips]


def resting(corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Predicted]:
    """The baseline that nothing moves: each subject's template."""
    for c in clips:
        yield Predicted(c, np.repeat(corpus.templates[c.subject][None], len(c.frames), axis=0), "none")


def predict(
    predictor: Predictor,
    clips: Sequence[MeshClip],
    identities: Sequence[str | None] = (None,),
    output: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Predicted]:
    """Predictions of clips under each of ``identities``, left in ``output`` as NAME.npy, or NAME_condition_IDENTITY.npy
    (N, 3V), where given, beside SUBJECT.obj, the neutral mesh that ``kmtalk render`` wants, where the corpus'
    triangles are known."""
    progress = progress or Progress()
    with progress.stage("predict", len(clips)) as told:
        for i, clip in enumerate(clips):
            told(i)
            for identity in identities:
                made = predictor(clip, identity)
                if output is not None:
                    _neutral(output, predictor.corpus, clip.subject)
                    name = clip.name if identity is None else f"{clip.name}_condition_{identity}"
                    with finished(output / f"{name}.npy") as temporary:
                        np.save(temporary, made.vertices.reshape(len(made.vertices), -1).astype(np.float32))
                yield made


def _neutral(output: Path, corpus: MeshCorpus, subject: str) -> None:
    target = output / f"{subject}.obj"
    if corpus.faces is None or target.is_file():
        return
    with finished(target) as temporary:
        write_obj(temporary, Template(corpus.templates[subject], corpus.faces))


def evaluate_meshes(
    corpus: MeshCorpus,
    split: str,
    networks: Sequence[str],
    predictions: Sequence[str],
    masks: tuple[str | None, str | None],
    count: int | None = None,
    cache: Path | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
    keys_from: Path | None = None,
    identity: str | None = None,
) -> Iterator[str]:
    """Lines: the baseline at rest, then each of ``networks`` (NAME=FILE) and ``predictions`` (NAME=DIR).

    ``masks`` of lips and upper face are files (FILE or FILE:PART) or None, found on the template; without triangles
    the upper one is left out. With ``keys_from`` the networks complete another system's keys; ``identity``
    is a training subject that they speak as, or "each" of them (FaceFormer's protocol), or None for the clip's own
    where it is known, else their mean.
    """
    lips, upper = masks_of(corpus, *masks)
    clips = corpus.split(split)[:count]
    given: list[tuple[str, Path, bool]] = []
    for items, trained in ((networks, True), (predictions, False)):
        for item in items:
            name, equals, path = item.partition("=")
            if not equals or not name or set(name) & set("/\\\0") or name in (".", ".."):
                raise InputError(f"{item}: give NAME={'FILE' if trained else 'DIR'}, a name without slashes")
            given.append((name, Path(path), trained))
    made = [
        (name, Predictor(load_network(path), corpus, cache, keys_from) if trained else path)
        for name, path, trained in given
    ]
    if output is not None:
        if not networks:
            raise InputError(f"{output}: -o keeps what networks predict; give --network NAME=FILE")
        check_writable(output / "x.npy")
    yield from _rows(REST, score(resting(corpus, clips), corpus, lips, upper, split))
    for name, by in made:
        if isinstance(by, Predictor):
            wanted: Sequence[str | None] = by.styles if identity == "each" else (identity,)
            found = predict(by, clips, wanted, output / name if output else None, progress)
        else:
            found = read_predictions(by, corpus, clips)
        yield from _rows(name, score(found, corpus, lips, upper, split))


def masks_of(corpus: MeshCorpus, lips: str | None, upper: str | None) -> tuple[Mask, Mask | None]:
    """Masks by file, or found on the corpus' template (once, for both)."""
    if lips is not None and (upper is not None or corpus.faces is None):
        return metrics.load_mask(lips), metrics.load_mask(upper) if upper else None
    template = found_template(corpus)
    own = metrics.own_mask(template, "lips") if lips is None else metrics.load_mask(lips)
    return own, metrics.own_mask(template, "upper") if upper is None else metrics.load_mask(upper)


def _rows(name: str, results: Sequence[Result]) -> Iterator[str]:
    yield name
    for result in results:
        yield f"  {result}"
