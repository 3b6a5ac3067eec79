"""Training tasks: the training examples, the surface metric of the losses, and the validation.

N frames, R shapes of a rig, V vertices of a mesh, out numbers per frame of motion, d audio features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kmtalk import metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.mesh_corpus import MeshClip, MeshCorpus
from kmtalk.corpora.predictions import load_predicted_offsets
from kmtalk.errors import InputError
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.face.rig import Rig
from kmtalk.metrics import Mask
from kmtalk.motion.finetuned_encoder import FEATURE_EXTRACTOR_DIGEST, FineTunedEncoder
from kmtalk.motion.heads import pca_basis
from kmtalk.motion.losses import PlainSurfaceMetric, RigSurfaceMetric, VertexSurfaceMetric
from kmtalk.progress import Progress
from kmtalk.speech.encoders import (
    PAPER_ENCODER,
    SpeechEncoder,
    SpeechFeatures,
    Wav2Vec2Encoder,
    encode_cached,
    load_encoder,
)
from kmtalk.training.batches import TRAINING_FRAME_RATES, TrainingExample
from kmtalk.training.config import TrainingConfig

MAX_UNALIGNED_SHARE = 0.1  # share of the clips that may be skipped because they have no alignment
BASIS_FRAMES = 2000  # frames of motion from which principal components are computed
NORMALIZATION_CLIPS = 200  # clips of each corpus from which the features' mean and deviation are computed

PredictFunction = Callable[[TrainingExample], np.ndarray]
"""Predicts the motion (N, out) of an example with the current network."""

ValidationClip = tuple[Clip, np.ndarray, np.ndarray]
"""A validation clip, its true mouth (N, 5) in mm (`kmtalk.face.mouth.LIP_CHANNELS`), and a mask of the frames of speech
(N,)."""

UNCONDITIONED_STYLE = "neutral"
"""The only style of a network that is not conditioned on identity."""


@dataclass(frozen=True)
class TrainingTask:
    """What a training run learns.

    Attributes:
        encoder: Name of the speech encoder.
        groups: Training examples of each corpus.
        shape_names: Names of the rig's shapes that the clips move; empty for corpora of vertices.
        vertices: Number V of vertices of the mesh.
        surface_metric: A `kmtalk.motion.losses.SurfaceMetric`.
        pca_basis: Principal components, shape (K, 3V), for head "pca".
        validate: Computes validation scores by name, given a function that predicts motion; None without scores.
        validation_source: Description of the validation data.
        fingerprint: Digest of the rig or mesh, by which checkpoints of other tasks are refused.
        metadata: Facts saved with the weights.
        skipped_clips: Names of clips without an alignment.
        finetuned_encoder: The wav2vec 2.0 that is trained with the network.
    """

    encoder: str
    groups: list[list[TrainingExample]]
    shape_names: tuple[str, ...]
    vertices: int
    surface_metric: nn.Module
    pca_basis: torch.Tensor | None
    validate: Callable[[PredictFunction], dict[str, float]] | None
    validation_source: str
    fingerprint: str
    metadata: dict[str, object] = field(default_factory=dict)
    skipped_clips: tuple[str, ...] = ()
    finetuned_encoder: FineTunedEncoder | None = None

    def sample_features(self) -> np.ndarray:
        """Return features (n, d) from which the network's mean and standard deviation are computed."""
        samples = [e.features.values for g in self.groups for e in g[:NORMALIZATION_CLIPS]]
        return np.concatenate(samples).astype(np.float32)


def make_rig_task(
    config: TrainingConfig,
    corpora: Sequence[Sequence[Clip]],
    validation_clips: Sequence[ValidationClip],
    rig: Rig,
    cache: Path,
    progress: Progress | None = None,
) -> TrainingTask:
    """Prepare training on weights of a rig, or on its vertices.

    Args:
        config: Training configuration.
        corpora: Training clips of each corpus.
        validation_clips: Validation clips.
        rig: Rig of the weights.
        cache: Folder in which audio features are cached.
        progress: Receives progress.

    Raises:
        InputError: A corpus has no clips.
    """
    if any(not clips for clips in corpora):
        raise InputError("a corpus has no clips; build it again")
    head, progress = config.network.head, progress or Progress()
    names = find_moved_shapes([clip for clips in corpora for clip in clips], rig)
    columns = [rig.index[n] for n in names]
    encoder, finetuned_encoder, metadata = _load_training_encoder(config)
    vertex_basis = None if head == "rig" else rig.offsets[columns].reshape(len(columns), -1)
    groups = [_rig_examples(clips, encoder, columns, vertex_basis, cache, progress) for clips in corpora]
    basis = None
    if head == "pca":
        frames = np.concatenate([e.motion[: len(e.motion)] for g in groups for e in g])
        sample = np.random.default_rng(config.seed).choice(len(frames), min(len(frames), BASIS_FRAMES), replace=False)
        assert vertex_basis is not None
        basis = _checked_pca_basis(frames[np.sort(sample)] @ vertex_basis, config.network.components)
    validation_examples = _rig_examples([c for c, _, _ in validation_clips], encoder, columns, None, cache, progress)
    solver = MouthSolver(rig)

    def validate(infer: PredictFunction) -> dict[str, float]:
        true, predicted = [], []
        for example, (_, mouth, speaking) in zip(validation_examples, validation_clips, strict=True):
            weights = np.zeros((len(example.motion), len(rig.shape_names)))
            weights[:, columns] = infer(example)
            n = min(len(mouth), len(weights))
            predicted.append(solver.measure(weights).lip_channels[:n][speaking[:n]])
            true.append(mouth[:n][speaking[:n]])
        a, b = np.concatenate(true), np.concatenate(predicted)
        names = [f"{name} r" for name in LIP_CHANNELS]
        r = [float(np.corrcoef(a[:, k], b[:, k])[0, 1]) if b[:, k].std() > 1e-9 else 0.0 for k in range(len(names))]
        return dict(zip(names, r, strict=True)) | {"aperture RMSE mm": float(np.sqrt(((a - b)[:, 0] ** 2).mean()))}

    return TrainingTask(
        encoder=encoder.name,
        groups=groups,
        shape_names=names,
        vertices=len(rig.template.vertices),
        surface_metric=RigSurfaceMetric(rig, names) if head == "rig" else VertexSurfaceMetric(rig),
        pca_basis=basis,
        validate=validate if validation_clips and head == "rig" else None,
        validation_source=validation_clips[0][0].source if validation_clips else "",
        fingerprint=hashlib.sha256(rig.offsets.tobytes()).hexdigest(),
        finetuned_encoder=finetuned_encoder,
        metadata=metadata,
    )


def make_mesh_task(
    config: TrainingConfig,
    corpora: Sequence[MeshCorpus],
    lips: Mask,
    cache: Path,
    progress: Progress | None = None,
    keys_from: Sequence[Path | None] = (),
) -> TrainingTask:
    """Prepare training on vertices: split "train" for training, split "val", where there is one, for validation.

    Args:
        config: Training configuration.
        corpora: Corpora of one topology.
        lips: Lip vertices.
        cache: Folder in which audio features are cached.
        progress: Receives progress.
        keys_from: Folder of another system's predictions for each corpus; for all corpora or for none.

    Raises:
        InputError: The corpora differ in topology or unit, or the configuration needs a rig.
    """
    progress, losses = progress or Progress(), config.losses
    if config.network.head == "rig":
        raise InputError("network.head: corpora of vertices need head: vertices or head: pca")
    if losses.lip_closure or losses.band_power or losses.shape_weights or config.key_edit_rate:
        raise InputError(
            "losses lip_closure, band_power and shape_weights, and key_edit_rate need a rig; set them to 0 for vertices"
        )
    first = corpora[0]
    if any(c.vertex_count != first.vertex_count or c.unit != first.unit for c in corpora):
        raise InputError("corpora of different topologies or units cannot be combined; train them apart")
    if lips.indices.max() >= first.vertex_count:
        raise InputError(
            f"mask {lips.name}: contains vertex {lips.indices.max()}, but the mesh has {first.vertex_count}"
        )
    encoder, finetuned_encoder, metadata = _load_training_encoder(config)
    sources = list(keys_from) or [None] * len(corpora)
    if len({s is None for s in sources}) > 1:
        raise InputError("corpora: set keys_from for all of them, or for none")

    split_clips = {s: [c.split_clips(s) if c.splits.get(s) else () for c in corpora] for s in ("train", "val")}
    all_clips = [clip for split in split_clips.values() for clips in split for clip in clips]
    unaligned = [clip for clip in all_clips if not clip.textgrid.is_file()]
    if len(unaligned) > MAX_UNALIGNED_SHARE * len(all_clips):
        unaligned[0].load_alignment()  # raises InputError with the remedy

    def examples_of(split: str) -> list[list[TrainingExample]]:
        return [
            _mesh_examples(
                c,
                [m for m in clips if m.textgrid.is_file()],
                encoder,
                config.condition_on_identity,
                cache,
                progress,
                source,
            )
            for c, clips, source in zip(corpora, split_clips[split], sources, strict=True)
        ]

    groups = examples_of("train")
    if not all(groups):
        raise InputError(f"{first.path}: no clips of split train found; check the folder")
    validation_examples = [e for group in examples_of("val") for e in group]

    def validate(infer: PredictFunction) -> dict[str, float]:
        pairs = [(infer(e), e.motion[: len(e.motion)]) for e in validation_examples]
        lve = metrics.lve([p for p, _ in pairs], [g for _, g in pairs], lips, first.unit)
        return {f"LVE {lve.unit}": lve.value}

    basis = None
    if config.network.head == "pca":
        basis = _checked_pca_basis(_sample_frames(groups, config.seed), config.network.components)
    faces = b"" if first.faces is None else first.faces.tobytes()
    return TrainingTask(
        encoder=encoder.name,
        groups=groups,
        shape_names=(),
        vertices=first.vertex_count,
        surface_metric=PlainSurfaceMetric(lips.indices, mm_per_unit(first)),
        pca_basis=basis,
        validate=validate if validation_examples else None,
        validation_source=f"{first.source}, split val",
        fingerprint=hashlib.sha256(faces + lips.digest.encode()).hexdigest(),
        skipped_clips=tuple(clip.name for clip in unaligned),
        finetuned_encoder=finetuned_encoder,
        metadata=metadata
        | {
            "unit": first.unit,
            "fps": sorted({e.fps for g in groups for e in g}),
            "data": ", ".join(c.source for c in corpora),
            "lips": str(lips),
        },
    )


def mm_per_unit(corpus: MeshCorpus) -> float:
    """Return the millimetres per unit of a corpus.

    Where the unit is unknown, the diagonal of the templates' bounding box is taken as 300 mm, the size of a head.
    """
    known = metrics.MM_PER_UNIT.get(corpus.unit)
    if known is not None:
        return known
    sizes = [float(np.linalg.norm(np.ptp(v, axis=0))) for v in corpus.templates.values()]
    return 300.0 / float(np.median(sizes))


def find_moved_shapes(clips: Sequence[Clip], rig: Rig) -> tuple[str, ...]:
    """Return the names of the rig's shapes that any clip moves."""
    used = np.max([clip.weights.max(0) for clip in clips], axis=0) > 1e-3
    return tuple(name for name, u in zip(rig.shape_names, used, strict=True) if u)


@dataclass(frozen=True)
class _VertexOffsets:
    """Vertex offsets of a clip from its subject's template, (N, 3V) float32, read from disk by slices."""

    clip: MeshClip
    template: np.ndarray

    def __len__(self) -> int:
        return len(self.clip.frames)

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        vertices = self.clip.frames.read(start, stop)
        return (vertices - self.template).reshape(len(vertices), -1)


def _load_training_encoder(config: TrainingConfig) -> tuple[SpeechEncoder, FineTunedEncoder | None, dict[str, object]]:
    """Load the frozen encoder, or wav2vec 2.0's convolutions and its trainable rest; and metadata for the weights."""
    if not config.finetune_encoder:
        return load_encoder(config.encoder), None, {}
    convolutions = Wav2Vec2Encoder(config.encoder.partition(":")[2] or PAPER_ENCODER, "wav2vec2-conv")
    return (
        convolutions,
        FineTunedEncoder.from_model(convolutions.model),
        {FEATURE_EXTRACTOR_DIGEST: convolutions.feature_extractor_digest},
    )


def _encode_float16(encoder: SpeechEncoder, samples: np.ndarray, cache: Path) -> SpeechFeatures:
    """Encode audio, or read it from the cache, as float16 to save memory."""
    features = encode_cached(encoder, samples, cache)
    return SpeechFeatures(features.values.astype(np.float16), features.rate, features.start)


def _rig_examples(
    clips: Sequence[Clip],
    encoder: SpeechEncoder,
    columns: list[int],
    vertex_basis: np.ndarray | None,
    cache: Path,
    progress: Progress,
) -> list[TrainingExample]:
    out = []
    with progress.stage("features", len(clips)) as advance:
        for i, clip in enumerate(clips):
            advance(i)
            features = _encode_float16(encoder, clip.load_samples(), cache)
            motion = clip.weights[:, columns]
            out.append(
                TrainingExample(
                    clip.name,
                    features,
                    motion,
                    clip.fps,
                    clip.alignment,
                    clip.style,
                    clip.source,
                    vertex_basis,
                    TRAINING_FRAME_RATES,
                )
            )
    return out


def _mesh_examples(
    corpus: MeshCorpus,
    clips: Sequence[MeshClip],
    encoder: SpeechEncoder,
    identities: bool,
    cache: Path,
    progress: Progress,
    keys_from: Path | None = None,
) -> list[TrainingExample]:
    out = []
    with progress.stage("features", len(clips)) as advance:
        for i, clip in enumerate(clips):
            advance(i)
            motion = _VertexOffsets(clip, corpus.templates[clip.subject])
            features, style = (
                _encode_float16(encoder, clip.load_samples(), cache),
                clip.subject if identities else UNCONDITIONED_STYLE,
            )
            other_motion = (
                None
                if keys_from is None
                else load_predicted_offsets(keys_from / f"{clip.name}.npy", clip, corpus.templates[clip.subject])
            )
            out.append(
                TrainingExample(
                    clip.name,
                    features,
                    motion,
                    clip.fps,
                    clip.load_alignment(),
                    style,
                    corpus.source,
                    other_system_motion=other_motion,
                )
            )
    return out


def _sample_frames(groups: Sequence[Sequence[TrainingExample]], seed: int) -> np.ndarray:
    """Sample up to about `BASIS_FRAMES` frames (n, 3V), spread over the clips."""
    rng, examples = np.random.default_rng(seed), [e for g in groups for e in g]
    frames_per_clip = max(1, BASIS_FRAMES // len(examples))
    frames = []
    for e in examples:
        for n in np.sort(rng.choice(len(e.motion), min(frames_per_clip, len(e.motion)), replace=False)).tolist():
            frames.append(e.motion[n : n + 1])
    return np.concatenate(frames)


def _checked_pca_basis(frames: np.ndarray, count: int) -> torch.Tensor:
    """Compute `count` principal components of frames (n, 3V); raises InputError where there are fewer."""
    basis = pca_basis(torch.from_numpy(frames), count)
    if len(basis) < count:
        raise InputError(f"network.components: these corpora give at most {len(basis)}")
    return basis
