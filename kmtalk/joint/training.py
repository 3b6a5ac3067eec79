"""Training of the joint model: `kmtalk train` for a config with a `coupling`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from kmtalk.errors import InputError, describe_validation_error
from kmtalk.face.rig import Rig
from kmtalk.joint.corpus import load_joint_corpus
from kmtalk.joint.flow import flow_losses
from kmtalk.joint.model import Conditions, JointConfig, JointNetwork
from kmtalk.joint.motion_stream import channel_names
from kmtalk.joint.network_file import load_joint_network, save_joint_network
from kmtalk.joint.training_data import (
    CACHE_NAME,
    JointBatch,
    JointExample,
    JointSampler,
    TaskShares,
    Utterances,
    prepare_examples,
)
from kmtalk.progress import Progress
from kmtalk.speech.encoders import load_encoder
from kmtalk.training.config import load_yaml
from kmtalk.training.loop import TrainingLoop, warmup_stable_decay

SMALLEST_DEVIATION = 0.03  # of a channel of the motion stream: still channels are not blown up
VALIDATION_BATCHES, VALIDATION_SEED = 6, 123
PHONE_WEIGHT = 0.3  # of the phones read from the motion
TEXT_ALONE = TaskShares(
    span=0,
    sound_to_motion=0,
    motion_to_sound=0,
    keys_to_motion=0,
    face_without_mouth=0,
    text_dropout=0,
    coupling_dropout=0,
)
"""Crops of which nothing but the text is known."""


class JointTrainingConfig(BaseModel):
    """Configuration of a training run of the joint model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    corpus: Path = Field(description="Folder that kmtalk corpus build joint wrote.")
    coupling: Literal["highway", "joint", "ste", "ete", "none"] = Field(
        description="How the streams see each other: highway (AV-Flow), joint (JAM-Flow's joint attention), ste or ete "
        "(Narrating For You, shared or explicit weights), or none (two separate models)."
    )
    d_model: int = Field(default=256, ge=16, le=4096, description="Width of both streams.")
    num_layers: int = Field(default=8, ge=1, le=64, description="Transformer blocks of either stream.")
    num_heads: int = Field(default=4, ge=1, le=64, description="Attention heads.")
    ffn_multiplier: int = Field(default=3, ge=1, le=16, description="Width of the feed-forward layers.")
    steps: int = Field(default=20_000, ge=1, description="Optimiser steps. A finished run continues with more.")
    decay_steps: int = Field(
        default=4_000, ge=0, description="Last steps, over which the learning rate falls linearly to zero."
    )
    batch_size: int = Field(default=16, ge=1, description="Number of crops in a batch.")
    crop_frames: int = Field(default=192, ge=24, description="Length of a crop in mel frames, a multiple of 3.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")
    motion_weight: float = Field(default=1.0, ge=0, description="Weight of the losses of the motion stream.")
    mel_weight: float = Field(default=1.0, ge=0, description="Weight of the losses of the sound stream.")
    tracked_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the crops that are of clips with tracked lips, where there are any.",
    )
    task_shares: TaskShares = Field(
        default=TaskShares(),
        description="Shares of the training crops by what is known of them, which makes the tasks.",
    )
    listens: bool = Field(
        default=False,
        description="Sound and motion of the other speaker of a conversation are inputs; the corpus needs dialogues.",
    )
    character_encoder: str = Field(
        default="",
        pattern=r"^(wav2vec2-ctc:.+)?$",
        description="wav2vec2-ctc:FOLDER-OR-NAME, a wav2vec 2.0 whose characters are given beside the phones, as "
        "AV-Flow's tokens of the sound; empty for phones alone.",
    )
    initial_weights: Path | None = Field(
        default=None,
        description="Joint network of the same size whose weights the run starts from, to fine-tune it.",
    )
    bfloat16: bool = Field(
        default=False, description="Compute in bfloat16 on the CPU too, which processors with AVX-512 BF16 do faster."
    )
    eval_every: int = Field(default=500, ge=1, description="Steps between checkpoints, each with a validation.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of all random numbers.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.crop_frames % 3 or self.d_model % (2 * self.num_heads):
            raise ValueError("crop_frames must be a multiple of 3, and d_model one of twice num_heads")
        if self.num_layers < 2 and self.coupling in ("joint", "ste", "ete"):
            raise ValueError(f"coupling {self.coupling} needs two layers or more: it couples one of two, or the middle")
        if self.decay_steps > self.steps:
            raise ValueError("decay_steps are more than steps")
        return self


def load_joint_config(path: Path) -> JointTrainingConfig:
    """Read a training configuration from YAML; paths are relative to the file's folder.

    Raises:
        InputError: The file cannot be read, or a value is wrong.
    """
    try:
        config = JointTrainingConfig.model_validate(load_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_validation_error(error)}") from None
    paths = {"corpus": config.corpus, "initial_weights": config.initial_weights}
    return config.model_copy(update={n: (path.parent / p).resolve() for n, p in paths.items() if p is not None})


class JointModule(nn.Module):
    """The network with its losses.

    Args:
        network: Network.
        config: Training configuration.
    """

    def __init__(self, network: JointNetwork, config: JointTrainingConfig) -> None:
        super().__init__()
        self.network = network
        self._weights = config.mel_weight, config.motion_weight

    def forward(self, batch: JointBatch, seed: int) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name."""
        network, (mel_weight, motion_weight) = self.network, self._weights
        mel, motion = network.normalize_mel(batch.mel), network.normalize_motion(batch.motion)
        given = replace(
            batch.given,
            mel=mel,
            motion=motion,
            other_mel=network.normalize_mel(batch.given.other_mel),
            other_motion=network.normalize_motion(batch.given.other_motion),
        )
        generator = torch.Generator().manual_seed(seed)
        losses = flow_losses(network, network.encode(given), given, mel, motion, generator)
        return {
            "mel": mel_weight * losses.mel,
            "motion": motion_weight * losses.motion,
            "mel_mean": mel_weight * losses.mel_mean,
            "motion_mean": motion_weight * losses.motion_mean,
            "duration": self._duration_loss(batch.utterances),
            "phones": PHONE_WEIGHT * self._reader_loss(motion, batch.given),
        }

    def _duration_loss(self, utterances: Utterances) -> Tensor:
        """Return the mean squared error of the logarithm of durations."""
        clip = self.network.encode_clip(utterances.voice, utterances.style).detach()
        predicted = self.network.duration_predictor(utterances.labels, utterances.stress, utterances.valid, clip)
        return ((predicted - utterances.frames.log())[utterances.valid] ** 2).mean()

    def _reader_loss(self, motion: Tensor, given: Conditions) -> Tensor:
        """Return the cross-entropy of the phones that are read from the true motion, in nats."""
        labels, valid = given.labels[:, 1::3], given.valid[:, ::3]
        log_probabilities = self.network.phone_reader(motion, valid)
        known = valid & (labels > 0)
        if not known.any():
            return log_probabilities.sum() * 0
        return nn.functional.nll_loss(log_probabilities[known].float(), labels[known])


class JointTrainer(TrainingLoop):
    """A training run of the joint model.

    The learning rate is constant after a warm-up and falls at the end, so that a run can be continued with more steps.

    Args:
        config: Training configuration.
        examples: Clips, those held out among them.
        shape_names: Names of the rig's shapes.
        output: Folder for checkpoint, TensorBoard log, config.json and network.safetensors.
        progress: Receives progress.
        log: Receives one line of text per message.
    """

    def __init__(
        self,
        config: JointTrainingConfig,
        examples: Sequence[JointExample],
        shape_names: tuple[str, ...],
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config = config
        styles = tuple(sorted({e.style for e in examples}))
        self.network_config = JointConfig(
            shape_names, channel_names(shape_names), styles, config.coupling, config.d_model, config.num_layers,
            config.num_heads, config.ffn_multiplier, listens=config.listens,
            character_encoder=config.character_encoder,
            num_characters=examples[0].characters.shape[1],
        )  # fmt: skip
        known = [e for e in examples if not e.held_out]
        held_out = [e for e in examples if e.held_out] or known
        self._names = [e.name for e in known]
        channels = self.network_config.channels
        self._sampler = JointSampler(
            known, channels, styles, config.crop_frames, config.task_shares, config.tracked_share
        )
        from_text = JointSampler(held_out, channels, styles, config.crop_frames, TEXT_ALONE)
        self._validation = [
            from_text.sample(config.batch_size, np.random.default_rng([VALIDATION_SEED, i]))
            for i in range(VALIDATION_BATCHES)
        ]
        torch.manual_seed(config.seed)
        network = JointNetwork(self.network_config)
        _set_statistics(network, known)
        if config.initial_weights is not None:
            _start_from(network, config.initial_weights)
        super().__init__(
            JointModule(network, config), "network", config.steps, config.eval_every, config.learning_rate,
            config.weight_decay, config.seed, output, progress, log,
        )  # fmt: skip

    @property
    def network(self) -> JointNetwork:
        """The network with averaged weights, which is saved and validated."""
        network = self.ema.module
        assert isinstance(network, JointNetwork)
        return network

    @property
    def validation_source(self) -> str:
        """Where the data of the validation comes from."""
        return "held-out clips of the joint corpus, mostly simulated; nothing known but the text"

    def describe(self) -> list[str]:
        """Return lines to print at the start."""
        return [f"{len(self._names)} clips"]

    def save_network(self, path: Path) -> None:
        """Write the averaged network and config.json beside it."""
        facts: dict[str, object] = {"seed": self.config.seed, "steps": self.step}
        save_joint_network(self.network, path, facts)
        (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")

    def _losses(self, module: nn.Module, batch: JointBatch, seed: int) -> dict[str, Tensor]:
        device = self.accelerator.device
        batch = JointBatch(
            batch.given.to(device), batch.mel.to(device), batch.motion.to(device), batch.utterances.to(device)
        )
        low = self.config.bfloat16 and device.type == "cpu"
        with self.accelerator.autocast(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses: dict[str, Tensor] = module(batch, seed)
        return {k: v.float() for k, v in losses.items()}

    def compute_losses(self, number: int) -> dict[str, Tensor]:
        """Return the weighted losses of the next step by name."""
        batch = self._sampler.sample(self.config.batch_size, np.random.default_rng(number))
        return self._losses(self.module, batch, number)

    def learning_rate_factor(self) -> float:
        """Return the learning rate as a share of the peak."""
        return warmup_stable_decay(self.step, self.config.steps, self.config.decay_steps)

    def validate(self) -> dict[str, float]:
        """Return the mean losses on held-out crops of which nothing but the text is known."""
        module = JointModule(self.network.eval(), self.config)
        totals: dict[str, float] = {}
        with torch.no_grad():
            for i, batch in enumerate(self._validation):
                for name, value in self._losses(module, batch, VALIDATION_SEED + i).items():
                    totals[name] = totals.get(name, 0.0) + float(value) / len(self._validation)
        return totals

    def facts(self) -> object:
        """Return architecture and clips, and the configuration but for the number of steps."""
        left_out = {"corpus", "initial_weights", "steps", "decay_steps", "eval_every"}
        config = self.config.model_dump(mode="json", exclude=left_out)
        return [config, asdict(self.network_config), self._names]


def _set_statistics(network: JointNetwork, examples: Sequence[JointExample]) -> None:
    """Set the mean and deviation with which the network normalises its streams, and the voice that has most clips."""
    mel = np.concatenate([e.mel[::7] for e in examples]).astype(np.float32)
    motion = np.concatenate([e.motion[::3] for e in examples])
    network.mel_mean.fill_(float(mel.mean()))
    network.mel_std.fill_(float(mel.std()))
    network.motion_mean.copy_(torch.from_numpy(motion.mean(0)))
    network.motion_std.copy_(torch.from_numpy(np.maximum(motion.std(0), SMALLEST_DEVIATION)))
    usual = Counter(e.speaker for e in examples).most_common(1)[0][0]
    voice = np.mean([e.voice for e in examples if e.speaker == usual], axis=0)
    network.default_voice.copy_(torch.from_numpy(voice / np.linalg.norm(voice)))


def _start_from(network: JointNetwork, path: Path) -> None:
    """Copy the weights of a network, and the statistics that belong to them.

    Raises:
        InputError: The file is no joint network, or one of other sizes, rig or styles.
    """
    loaded = load_joint_network(path)
    for name, value in asdict(loaded.config).items():
        wanted = getattr(network.config, name)
        if value != wanted:
            raise InputError(
                f"{path}: has {name} {str(value)[:60]}, not {str(wanted)[:60]}; give those of this network"
            )
    network.load_state_dict(loaded.state_dict())


def prepare_joint_training(
    config: JointTrainingConfig,
    rig: Rig,
    output: Path,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> JointTrainer:
    """Load the corpus and return its training run; features are cached in the corpus' folder.

    Raises:
        InputError: The corpus, the recogniser of characters or the initial weights cannot be used.
    """
    progress = progress or Progress()
    if config.initial_weights is not None:
        load_joint_network(config.initial_weights)  # a wrong file is said before the long work
    clips = load_joint_corpus(config.corpus, rig.shape_names)
    recognizer = load_encoder(config.character_encoder) if config.character_encoder else None
    examples = prepare_examples(clips, rig.shape_names, config.corpus / CACHE_NAME, progress, recognizer)
    if not config.listens:  # who cannot hear the other would have to guess when to nod
        examples = [e for e in examples if not e.other]
    elif not any(e.other for e in examples):
        raise InputError(f"{config.corpus}: has no dialogues, which listens needs; build it with --dialogues")
    return JointTrainer(config, examples, rig.shape_names, output, progress, log)
