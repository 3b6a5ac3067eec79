"""Predictions on corpora of vertices: a network's, or what another system left as .npy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np

from kmtalk.corpora.mesh import MeshClip, MeshCorpus
from kmtalk.corpora.predicted import predicted_offsets
from kmtalk.errors import InputError
from kmtalk.face.motion import at_times, frame_times
from kmtalk.face.template import Template, write_obj
from kmtalk.motion.inference import encoder_of, inner_rate, keys_only, place_keys, run
from kmtalk.motion.model import Network, style_shares
from kmtalk.output import finished
from kmtalk.progress import Progress
from kmtalk.speech.encode import Encoder, encode_cached


@dataclass(frozen=True)
class Predicted:
    """One clip's prediction (N, V, 3), positions in the corpus' unit, and whose identity it was conditioned on."""

    clip: MeshClip
    vertices: np.ndarray
    identity: str


class Predictor:
    """A network that makes the vertices of a corpus; ``keys_from`` is a folder of another system's predictions, whose
    poses at the key frames its CMC completes; with ``keys_alone`` straight lines join LKMA's keys and CMC is not asked.
    Raises InputError for a network of another mesh."""

    def __init__(
        self,
        network: Network,
        corpus: MeshCorpus,
        cache: Path | None = None,
        keys_from: Path | None = None,
        keys_alone: bool = False,
    ) -> None:
        shape = network.shape
        if shape.head == "rig" or shape.vertices != corpus.count:
            made = "weights of a rig" if shape.head == "rig" else f"{shape.vertices} vertices"
            raise InputError(f"these weights make {made}; {corpus.path} has {corpus.count} vertices")
        known = network.facts.get("unit")
        if known not in (None, corpus.unit):
            raise InputError(f"these weights make vertices in {known}; {corpus.path} is in {corpus.unit}")
        self._network, self.corpus, self._cache, self._keys_from = network, corpus, cache, keys_from
        self._keys_alone = keys_alone
        self._encoder: Encoder = encoder_of(network)

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
        if self._keys_alone:
            made = keys_only(self._network, features, keys, inner, fps, shares)
        else:
            made = run(self._network, features, keys, inner, fps, shares, given=given)
        if inner != count:
            made = at_times(made, fps, frame_times(count, clip.fps))
        offsets = made.reshape(count, -1, 3)
        told = (wanted or "mean of the training subjects") if len(styles) > 1 else "none"
        return Predicted(clip, template + offsets, told)


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


def read_predictions(folder: Path, corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Predicted]:
    """What another system left: NAME.npy of each clip, positions or offsets, (N, V, 3) or (N, 3V), at the clip's rate;
    FaceFormer, CodeTalker and SelfTalk add "_condition_SUBJECT" to the name, which is kept as the identity. Every one
    of them is given. Raises InputError where a clip has none, or one of another length (``predicted_offsets``)."""
    for clip in clips:
        plain, several = folder / f"{clip.name}.npy", f"{escape(clip.name)}_condition_*.npy"
        found = [p for p in (plain,) if p.is_file()] + sorted(folder.glob(several))
        if not found:
            raise InputError(f"{folder}: no prediction of {clip.name} ({clip.name}.npy)")
        template = corpus.templates[clip.subject]
        for path in found:
            offsets = predicted_offsets(path, clip, template)[:].reshape(-1, *template.shape)
            yield Predicted(clip, template + offsets, path.stem.partition("_condition_")[2] or "not said")


def resting(corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Predicted]:
    """The baseline that nothing moves: each subject's template."""
    for c in clips:
        yield Predicted(c, np.repeat(corpus.templates[c.subject][None], len(c.frames), axis=0), "none")


def _neutral(output: Path, corpus: MeshCorpus, subject: str) -> None:
    target = output / f"{subject}.obj"
    if corpus.faces is None or target.is_file():
        return
    with finished(target) as temporary:
        write_obj(temporary, Template(corpus.templates[subject], corpus.faces))
