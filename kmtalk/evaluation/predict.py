"""Predictions on corpora of vertices: a network's, or what another system left as .npy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np

from kmtalk.corpora.mesh_corpus import MeshClip, MeshCorpus
from kmtalk.corpora.predictions import load_predicted_offsets
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times, resample_motion
from kmtalk.face.template import Template, write_obj
from kmtalk.motion.inference import (
    load_network_encoder,
    network_frame_rate,
    predict_motion,
    predict_without_completion,
    select_key_frames,
)
from kmtalk.motion.model import KMTalkNetwork, style_mixture
from kmtalk.output import atomic_write
from kmtalk.progress import Progress
from kmtalk.speech.encoders import SpeechEncoder, encode_cached


@dataclass(frozen=True)
class Prediction:
    """One clip's prediction (N, V, 3), positions in the corpus' unit, and whose identity it was conditioned on."""

    clip: MeshClip
    vertices: np.ndarray
    identity: str


class CorpusPredictor:
    """A network that makes the vertices of a corpus; ``keys_from`` is a folder of another system's predictions, whose
    poses at the key frames its CMC completes; with ``without_completion`` straight lines join LKMA's keys and CMC is not asked.
    Raises InputError for a network of another mesh."""

    def __init__(
        self,
        network: KMTalkNetwork,
        corpus: MeshCorpus,
        cache: Path | None = None,
        keys_from: Path | None = None,
        without_completion: bool = False,
    ) -> None:
        shape = network.config
        if shape.head == "rig" or shape.vertices != corpus.vertex_count:
            made = "weights of a rig" if shape.head == "rig" else f"{shape.vertices} vertices"
            raise InputError(f"these weights make {made}; {corpus.path} has {corpus.vertex_count} vertices")
        known = network.metadata.get("unit")
        if known not in (None, corpus.unit):
            raise InputError(f"these weights make vertices in {known}; {corpus.path} is in {corpus.unit}")
        self._network, self.corpus, self._cache, self._keys_from = network, corpus, cache, keys_from
        self._keys_alone = without_completion
        self._encoder: SpeechEncoder = load_network_encoder(network)

    @property
    def styles(self) -> tuple[str, ...]:
        """The identities that the network knows."""
        return self._network.config.styles

    def __call__(self, clip: MeshClip, identity: str | None = None) -> Prediction:
        """The clip's prediction, as long as its truth; ``identity`` is one of the network's styles (None: the clip's
        own subject where the network knows it, else the mean of those it knows)."""
        styles = self._network.config.styles
        wanted = identity or (clip.subject if clip.subject in styles else None)
        features = encode_cached(self._encoder, clip.load_samples(), self._cache)
        count, known = len(clip.frames), self._network.metadata.get("fps") or ()
        fps = clip.fps if clip.fps in known else network_frame_rate(clip.fps)
        if fps != clip.fps and self._keys_from is not None:
            raise InputError(f"{clip.name}: {clip.fps:g} fps; other systems' keys are completed at 23 to 31")
        inner = count if fps == clip.fps else round(count / clip.fps * fps)
        keys = select_key_frames(clip.load_alignment(), inner, fps, self._network.config.key_placement)
        shares = style_mixture(self._network.config, wanted)
        template, given = self.corpus.templates[clip.subject], None
        if self._keys_from is not None:
            given = load_predicted_offsets(self._keys_from / f"{clip.name}.npy", clip, template)[:][keys]
        if self._keys_alone:
            made = predict_without_completion(self._network, features, keys, inner, fps, shares)
        else:
            made = predict_motion(self._network, features, keys, inner, fps, shares, given_keys=given)
        if inner != count:
            made = resample_motion(made, fps, frame_times(count, clip.fps))
        offsets = made.reshape(count, -1, 3)
        told = (wanted or "mean of the training subjects") if len(styles) > 1 else "none"
        return Prediction(clip, template + offsets, told)


def predict_clips(
    predictor: CorpusPredictor,
    clips: Sequence[MeshClip],
    identities: Sequence[str | None] = (None,),
    output: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
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
                    _write_template(output, predictor.corpus, clip.subject)
                    name = clip.name if identity is None else f"{clip.name}_condition_{identity}"
                    with atomic_write(output / f"{name}.npy") as temporary:
                        np.save(temporary, made.vertices.reshape(len(made.vertices), -1).astype(np.float32))
                yield made


def load_predictions(folder: Path, corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Prediction]:
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
            offsets = load_predicted_offsets(path, clip, template)[:].reshape(-1, *template.shape)
            yield Prediction(clip, template + offsets, path.stem.partition("_condition_")[2] or "not said")


def predict_rest(corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Prediction]:
    """The baseline that nothing moves: each subject's template."""
    for c in clips:
        yield Prediction(c, np.repeat(corpus.templates[c.subject][None], len(c.frames), axis=0), "none")


def _write_template(output: Path, corpus: MeshCorpus, subject: str) -> None:
    target = output / f"{subject}.obj"
    if corpus.faces is None or target.is_file():
        return
    with atomic_write(target) as temporary:
        write_obj(temporary, Template(corpus.templates[subject], corpus.faces))
