"""What a run learns: examples ready to be cut, the surface that errors are reckoned on, and the judge."""

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
from kmtalk.face.rig import Rig
from kmtalk.metrics import Mask
from kmtalk.motion.finetuned_encoder import FEATURE_EXTRACTOR_DIGEST, FineTunedEncoder
from kmtalk.motion.heads import pca_basis
from kmtalk.motion.losses import PlainSurfaceMetric, RigSurfaceMetric, VertexSurfaceMetric
from kmtalk.progress import Progress
from kmtalk.speech.encoders import PAPER_ENCODER, Features, SpeechEncoder, Wav2Vec2Encoder, encode_cached, load_encoder
from kmtalk.training.batches import TRAINING_FRAME_RATES, TrainingExample
from kmtalk.training.config import TrainingConfig

MAX_UNALIGNED_SHARE = 0.1  # of the clips may be left out for want of an alignment
BASIS_FRAMES = 2000  # of motion from which principal components are taken
NORMALIZATION_CLIPS = 200  # of each corpus, by which features are standardised

PredictFunction = Callable[[TrainingExample], np.ndarray]
"""Motion (N, out) of an example, as the network makes it now."""

ValidationClip = tuple[Clip, np.ndarray, np.ndarray]
"""A clip kept apart, its real mouth (N, 3) mm, and the frames of speech (N,)."""

UNCONDITIONED_STYLE = "neutral"
"""The one style of a network that is not told who speaks."""


@dataclass(frozen=True)
class TrainingTask:
    """Examples by corpus; ``shape_names`` of the shapes moved (none for vertices); ``vertices`` of the mesh; the ``validate``,
    which scores on what was kept apart, and the data it does so on; ``fingerprint`` tells tasks apart; ``skipped_clips`` are clips
    that nobody could align; ``finetuned_encoder`` is the wav2vec 2.0 that learns along."""

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
        """Features (n, d) by which the network standardises what it hears."""
        some = [e.features.values for g in self.groups for e in g[:NORMALIZATION_CLIPS]]
        return np.concatenate(some).astype(np.float32)


def make_rig_task(
    config: TrainingConfig,
    corpora: Sequence[Sequence[Clip]],
    judged: Sequence[ValidationClip],
    rig: Rig,
    cache: Path,
    progress: Progress | None = None,
) -> TrainingTask:
    """Motion of a rig's shapes, or of its vertices. Raises InputError for corpora that hold nothing."""
    if any(not clips for clips in corpora):
        raise InputError("a corpus holds no clips; build it again")
    head, progress = config.network.head, progress or Progress()
    names = find_moved_shapes([clip for clips in corpora for clip in clips], rig)
    columns = [rig.index[n] for n in names]
    encoder, ear, facts = _load_training_encoder(config)
    flat = None if head == "rig" else rig.offsets[columns].reshape(len(columns), -1)
    groups = [_rig_examples(clips, encoder, columns, flat, cache, progress) for clips in corpora]
    basis = None
    if head == "pca":
        frames = np.concatenate([e.motion[: len(e.motion)] for g in groups for e in g])
        few = np.random.default_rng(config.seed).choice(len(frames), min(len(frames), BASIS_FRAMES), replace=False)
        assert flat is not None
        basis = _checked_pca_basis(frames[np.sort(few)] @ flat, config.network.components)
    kept = _rig_examples([c for c, _, _ in judged], encoder, columns, None, cache, progress)
    solver = MouthSolver(rig)

    def judge(infer: PredictFunction) -> dict[str, float]:
        real, made = [], []
        for example, (_, mouth, speaking) in zip(kept, judged, strict=True):
            weights = np.zeros((len(example.motion), len(rig.names)))
            weights[:, columns] = infer(example)
            n = min(len(mouth), len(weights))
            made.append(solver.measure(weights).frontal_channels[:n][speaking[:n]])
            real.append(mouth[:n][speaking[:n]])
        a, b = np.concatenate(real), np.concatenate(made)
        r = [float(np.corrcoef(a[:, k], b[:, k])[0, 1]) if b[:, k].std() > 1e-9 else 0.0 for k in range(3)]
        return dict(zip(("aperture r", "width r", "chin r"), r, strict=True)) | {
            "aperture RMSE mm": float(np.sqrt(((a - b)[:, 0] ** 2).mean()))
        }

    return TrainingTask(
        encoder=encoder.name,
        groups=groups,
        shape_names=names,
        vertices=len(rig.template.vertices),
        surface_metric=RigSurfaceMetric(rig, names) if head == "rig" else VertexSurfaceMetric(rig),
        pca_basis=basis,
        validate=judge if judged and head == "rig" else None,
        validation_source=judged[0][0].source if judged else "",
        fingerprint=hashlib.sha256(rig.offsets.tobytes()).hexdigest(),
        finetuned_encoder=ear,
        metadata=facts,
    )


def make_mesh_task(
    config: TrainingConfig,
    corpora: Sequence[MeshCorpus],
    lips: Mask,
    cache: Path,
    progress: Progress | None = None,
    keys_from: Sequence[Path | None] = (),
) -> TrainingTask:
    """Motion of a corpus' own vertices; learns from its split "train", is judged on "val" where there is one.
    ``keys_from`` are folders of another system's predictions, by corpus; all have one, or none.

    Raises InputError for corpora of several topologies, and losses or edits that need a rig.
    """
    progress, losses = progress or Progress(), config.losses
    if config.network.head == "rig":
        raise InputError("network.head: these corpora hold vertices; take head: vertices, or pca")
    if losses.lip_closure or losses.band_power or losses.shape_weights or config.key_edit_rate:
        raise InputError(
            "losses lip_closure, band_power and shape_weights, and key_edit_rate, need a rig; set them to 0 for vertices"
        )
    first = corpora[0]
    if any(c.vertex_count != first.vertex_count or c.unit != first.unit for c in corpora):
        raise InputError("corpora of several topologies or units cannot be learnt together")
    if lips.indices.max() >= first.vertex_count:
        raise InputError(f"mask {lips.name}: names vertex {lips.indices.max()} of a mesh with {first.vertex_count}")
    encoder, ear, facts = _load_training_encoder(config)
    sources = list(keys_from) or [None] * len(corpora)
    if len({s is None for s in sources}) > 1:
        raise InputError("corpora: all of them take keys_from, or none")

    wanted = {s: [c.split_clips(s) if c.splits.get(s) else () for c in corpora] for s in ("train", "val")}
    every = [clip for split in wanted.values() for clips in split for clip in clips]
    unaligned = [clip for clip in every if not clip.textgrid.is_file()]
    if len(unaligned) > MAX_UNALIGNED_SHARE * len(every):
        unaligned[0].load_alignment()  # says what is to be done

    def made(split: str) -> list[list[TrainingExample]]:
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
            for c, clips, source in zip(corpora, wanted[split], sources, strict=True)
        ]

    groups = made("train")
    if not all(groups):
        raise InputError(f"{first.path}: none of the clips of split train is here")
    kept = [e for group in made("val") for e in group]

    def judge(infer: PredictFunction) -> dict[str, float]:
        pairs = [(infer(e), e.motion[: len(e.motion)]) for e in kept]
        made = metrics.lve([p for p, _ in pairs], [g for _, g in pairs], lips, first.unit)
        return {f"LVE {made.unit}": made.value}

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
        validate=judge if kept else None,
        validation_source=f"{first.source}, split val",
        fingerprint=hashlib.sha256(faces + lips.digest.encode()).hexdigest(),
        skipped_clips=tuple(clip.name for clip in unaligned),
        finetuned_encoder=ear,
        metadata=facts
        | {
            "unit": first.unit,
            "fps": sorted({e.fps for g in groups for e in g}),
            "data": ", ".join(c.source for c in corpora),
            "lips": str(lips),
        },
    )


def mm_per_unit(corpus: MeshCorpus) -> float:
    """Millimetres a unit: known, or as if the templates were 300 mm from corner to corner, as heads are."""
    known = metrics.MM_PER_UNIT.get(corpus.unit)
    if known is not None:
        return known
    sizes = [float(np.linalg.norm(np.ptp(v, axis=0))) for v in corpus.templates.values()]
    return 300.0 / float(np.median(sizes))


def find_moved_shapes(clips: Sequence[Clip], rig: Rig) -> tuple[str, ...]:
    """Names of the rig's shapes that any clip's mouth moves."""
    used = np.max([clip.weights.max(0) for clip in clips], axis=0) > 1e-3
    return tuple(name for name, u in zip(rig.names, used, strict=True) if u)


@dataclass(frozen=True)
class _VertexOffsets:
    """Offsets of a clip's vertices from its subject's template, (N, 3V) float32, read where they are wanted."""

    clip: MeshClip
    template: np.ndarray

    def __len__(self) -> int:
        return len(self.clip.frames)

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        read = self.clip.frames.read(start, stop)
        return (read - self.template).reshape(len(read), -1)


def _load_training_encoder(config: TrainingConfig) -> tuple[SpeechEncoder, FineTunedEncoder | None, dict[str, object]]:
    """The encoder, or its convolutions and the rest that learns along; and what weights are to say of them."""
    if not config.finetune_encoder:
        return load_encoder(config.encoder), None, {}
    convolutions = Wav2Vec2Encoder(config.encoder.partition(":")[2] or PAPER_ENCODER, feature_extractor_only=True)
    return (
        convolutions,
        FineTunedEncoder.from_model(convolutions.model),
        {FEATURE_EXTRACTOR_DIGEST: convolutions.feature_extractor_digest},
    )


def _encode_float16(encoder: SpeechEncoder, samples: np.ndarray, cache: Path) -> Features:
    features = encode_cached(encoder, samples, cache)
    return Features(features.values.astype(np.float16), features.rate, features.start)


def _rig_examples(
    clips: Sequence[Clip],
    encoder: SpeechEncoder,
    columns: list[int],
    flat: np.ndarray | None,
    cache: Path,
    progress: Progress,
) -> list[TrainingExample]:
    out = []
    with progress.stage("features", len(clips)) as told:
        for i, clip in enumerate(clips):
            told(i)
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
                    flat,
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
    with progress.stage("features", len(clips)) as told:
        for i, clip in enumerate(clips):
            told(i)
            motion = _VertexOffsets(clip, corpus.templates[clip.subject])
            features, style = (
                _encode_float16(encoder, clip.load_samples(), cache),
                clip.subject if identities else UNCONDITIONED_STYLE,
            )
            given = (
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
                    other_motion=given,
                )
            )
    return out


def _sample_frames(groups: Sequence[Sequence[TrainingExample]], seed: int) -> np.ndarray:
    """Up to BASIS_FRAMES frames (n, 3V), spread over the clips."""
    rng, every = np.random.default_rng(seed), [e for g in groups for e in g]
    each = max(1, BASIS_FRAMES // len(every))
    picked = []
    for e in every:
        for n in np.sort(rng.choice(len(e.motion), min(each, len(e.motion)), replace=False)).tolist():
            picked.append(e.motion[n : n + 1])
    return np.concatenate(picked)


def _checked_pca_basis(frames: np.ndarray, count: int) -> torch.Tensor:
    basis = pca_basis(torch.from_numpy(frames), count)
    if len(basis) < count:
        raise InputError(f"network.components: these corpora have no more than {len(basis)}")
    return basis
