"""Predictions on corpora of vertices: of a network, or of other systems as .npy files."""

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
from kmtalk.motion.model import KMTalkNetwork
from kmtalk.motion.styles import style_mixture
from kmtalk.output import atomic_write
from kmtalk.progress import Progress
from kmtalk.speech.encoders import SpeechEncoder, encode_cached


@dataclass(frozen=True)
class Prediction:
    """Prediction for one clip.

    Attributes:
        clip: The clip.
        vertices: Positions (N, V, 3) in the corpus' unit.
        identity: Identity that the prediction was conditioned on.
    """

    clip: MeshClip
    vertices: np.ndarray
    identity: str


class CorpusPredictor:
    """Predicts the vertices of a corpus' clips with a network.

    Args:
        network: The network.
        corpus: The corpus.
        cache: Folder for audio features; None: they are not stored.
        keys_from: Folder of another system's predictions; CMC completes its poses at the key frames.
        without_completion: Join LKMA's key motions by straight lines instead of running CMC.

    Raises:
        InputError: The network is for a rig, another mesh or another unit.
    """

    def __init__(
        self,
        network: KMTalkNetwork,
        corpus: MeshCorpus,
        cache: Path | None = None,
        keys_from: Path | None = None,
        without_completion: bool = False,
    ) -> None:
        network_config = network.config
        if network_config.head == "rig" or network_config.vertex_count != corpus.vertex_count:
            vertices = f"{network_config.vertex_count} vertices"
            predicted = "weights of a rig" if network_config.head == "rig" else vertices
            raise InputError(f"the network predicts {predicted}, but {corpus.path} has {corpus.vertex_count} vertices")
        unit = network.metadata.get("unit")
        if unit not in (None, corpus.unit):
            raise InputError(f"the network predicts vertices in {unit}, but {corpus.path} is in {corpus.unit}")
        self._network, self.corpus, self._cache, self._keys_from = network, corpus, cache, keys_from
        self._keys_alone = without_completion
        self._encoder: SpeechEncoder = load_network_encoder(network)

    @property
    def styles(self) -> tuple[str, ...]:
        """Identities that the network was trained on."""
        return self._network.config.styles

    def __call__(self, clip: MeshClip, identity: str | None = None) -> Prediction:
        """Predict a clip.

        Args:
            clip: The clip.
            identity: One of `styles`; None: the clip's subject where the network was trained on it, else the mean of
                the training subjects.

        Returns:
            The prediction, with as many frames as the clip.

        Raises:
            InputError: The clip has no alignment, the identity is unknown, or there is no valid prediction in
                `keys_from`.
        """
        styles = self._network.config.styles
        wanted = identity or (clip.subject if clip.subject in styles else None)
        features = encode_cached(self._encoder, clip.load_samples(), self._cache)
        count, trained_fps = len(clip.frames), self._network.metadata.get("fps") or ()
        fps = clip.fps if clip.fps in trained_fps else network_frame_rate(clip.fps)
        if fps != clip.fps and self._keys_from is not None:
            raise InputError(
                f"{clip.name}: {clip.fps:g} fps, but key motions of other systems can only be completed at 23 to 31 fps"
            )
        network_frames = count if fps == clip.fps else round(count / clip.fps * fps)
        alignment = clip.load_alignment()
        keys = select_key_frames(alignment, network_frames, fps, self._network.config.key_placement)
        style = style_mixture(self._network.config.styles, wanted)
        template, other_system_keys = self.corpus.templates[clip.subject], None
        if self._keys_from is not None:
            other_system_keys = load_predicted_offsets(self._keys_from / f"{clip.name}.npy", clip, template)[:][keys]
        if self._keys_alone:
            motion = predict_without_completion(self._network, features, alignment, keys, network_frames, fps, style)
        else:
            motion = predict_motion(
                self._network,
                features,
                alignment,
                keys,
                network_frames,
                fps,
                style,
                other_system_keys=other_system_keys,
            )
        if network_frames != count:
            motion = resample_motion(motion, fps, frame_times(count, clip.fps))
        offsets = motion.reshape(count, -1, 3)
        label = (wanted or "mean of the training subjects") if len(styles) > 1 else "none"
        return Prediction(clip, template + offsets, label)


def predict_clips(
    predictor: CorpusPredictor,
    clips: Sequence[MeshClip],
    identities: Sequence[str | None] = (None,),
    output: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Prediction]:
    """Predict clips under each identity.

    Args:
        predictor: The predictor.
        clips: The clips.
        identities: Identities, see `CorpusPredictor.__call__`.
        output: Folder for NAME.npy, or NAME_condition_IDENTITY.npy, of (N, 3V), and for SUBJECT.obj, the neutral mesh
            that `kmtalk render` needs, where the corpus' triangles are known; None: nothing is written.
        progress: Progress display.

    Yields:
        The predictions, those of one clip after another.
    """
    progress = progress or Progress()
    with progress.stage("predict", len(clips)) as advance:
        for i, clip in enumerate(clips):
            advance(i)
            for identity in identities:
                prediction = predictor(clip, identity)
                if output is not None:
                    _write_template(output, predictor.corpus, clip.subject)
                    name = clip.name if identity is None else f"{clip.name}_condition_{identity}"
                    with atomic_write(output / f"{name}.npy") as temporary:
                        np.save(temporary, prediction.vertices.reshape(len(prediction.vertices), -1).astype(np.float32))
                yield prediction


def load_predictions(folder: Path, corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Prediction]:
    """Load another system's predictions.

    They are NAME.npy of each clip, positions or offsets (N, V, 3) or (N, 3V) at the clip's frame rate. FaceFormer,
    CodeTalker and SelfTalk append "_condition_SUBJECT" to the name; SUBJECT becomes the identity, and all of a clip's
    files are used.

    Args:
        folder: Folder of the files.
        corpus: The corpus.
        clips: The clips.

    Yields:
        The predictions, those of one clip after another.

    Raises:
        InputError: A clip has no prediction, or one that does not fit (see `load_predicted_offsets`).
    """
    for clip in clips:
        plain, pattern = folder / f"{clip.name}.npy", f"{escape(clip.name)}_condition_*.npy"
        paths = [p for p in (plain,) if p.is_file()] + sorted(folder.glob(pattern))
        if not paths:
            raise InputError(f"{folder}: no prediction of {clip.name} ({clip.name}.npy)")
        template = corpus.templates[clip.subject]
        for path in paths:
            offsets = load_predicted_offsets(path, clip, template)[:].reshape(-1, *template.shape)
            yield Prediction(clip, template + offsets, path.stem.partition("_condition_")[2] or "not stated")


def predict_rest(corpus: MeshCorpus, clips: Sequence[MeshClip]) -> Iterator[Prediction]:
    """Yield the baseline without motion: each subject's template in all frames."""
    for c in clips:
        yield Prediction(c, np.repeat(corpus.templates[c.subject][None], len(c.frames), axis=0), "none")


def _write_template(output: Path, corpus: MeshCorpus, subject: str) -> None:
    """Write SUBJECT.obj unless it exists or the corpus' triangles are unknown."""
    target = output / f"{subject}.obj"
    if corpus.faces is None or target.is_file():
        return
    with atomic_write(target) as temporary:
        write_obj(temporary, Template(corpus.templates[subject], corpus.faces))
