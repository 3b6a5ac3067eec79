"""Training of the streaming network: `kmtalk train` for a config with `look_ahead`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn import functional

from kmtalk.errors import InputError, describe_validation_error
from kmtalk.face.rig import Rig
from kmtalk.joint.corpus import load_joint_corpus
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.motion.losses import RigSurfaceMetric
from kmtalk.progress import Progress
from kmtalk.streaming.encoders import check_streaming_encoder
from kmtalk.streaming.model import StreamingConfig, StreamingNetwork
from kmtalk.streaming.network_file import save_streaming_network
from kmtalk.streaming.training_data import (
    StreamingBatch,
    StreamingExample,
    StreamingSampler,
    prepare_streaming_examples,
)
from kmtalk.training.config import load_yaml
from kmtalk.training.loop import TrainingLoop, warmup_stable_decay

SMALLEST_DEVIATION = 0.01  # of a shape's weight: still shapes are not blown up
VALIDATION_BATCHES, VALIDATION_SEED = 8, 321
SURFACE_WEIGHT, VELOCITY_WEIGHT, SHAPE_WEIGHT, CONTACT_WEIGHT, PHONE_WEIGHT = 0.01, 0.02, 5.0, 1.0, 0.2
"""Weights of the losses: weighted squared error in mm², that of the difference of neighbouring tokens, mean squared
error of the shapes' weights, cross-entropies of contacts and of phones in nats."""


class StreamingTrainingConfig(BaseModel):
    """Configuration of a training run of the streaming network."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    corpus: Path = Field(description="Folder that kmtalk corpus build joint wrote.")
    look_ahead: tuple[int, ...] = Field(
        min_length=1,
        max_length=64,
        description="Tokens of 20 ms of the future that each block sees; there are as many blocks as numbers, and the "
        "network's look-ahead is their sum.",
    )
    look_back: int = Field(default=32, ge=1, le=1000, description="Tokens of 20 ms of the past that each block sees.")
    d_model: int = Field(default=192, ge=16, le=4096, description="Width.")
    num_heads: int = Field(default=4, ge=1, le=64, description="Attention heads.")
    ffn_multiplier: int = Field(default=3, ge=1, le=16, description="Width of the feed-forward layers.")
    kernel: int = Field(default=7, ge=1, le=63, description="Taps of the causal convolutions, odd.")
    encoder: str = Field(
        default="log-mel",
        description="What the network hears through: log-mel, or the first layers of Whisper, such as whisper-base-2.",
    )
    encoder_look_ahead: tuple[int, ...] = Field(
        default=(),
        max_length=24,
        description="Tokens of 20 ms of the future that each layer of Whisper sees; part of the network's look-ahead.",
    )
    encoder_look_back: int = Field(
        default=50, ge=1, le=1000, description="Tokens of 20 ms of the past that each layer of Whisper sees."
    )
    steps: int = Field(default=6000, ge=1, description="Optimiser steps. A finished run continues with more.")
    decay_steps: int = Field(
        default=2000, ge=0, description="Last steps, over which the learning rate falls linearly to zero."
    )
    batch_size: int = Field(default=24, ge=1, description="Number of crops in a batch.")
    crop_tokens: int = Field(default=160, ge=16, description="Length of a crop in tokens of 20 ms.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(default=0.02, ge=0, description="Weight decay of AdamW.")
    tracked_share: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the crops that are of clips with tracked lips, where there are any.",
    )
    bfloat16: bool = Field(
        default=False, description="Compute in bfloat16 on the CPU too, which processors with AVX-512 BF16 do faster."
    )
    eval_every: int = Field(default=500, ge=1, description="Steps between checkpoints, each with a validation.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of all random numbers.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_model % (2 * self.num_heads) or self.kernel % 2 == 0:
            raise ValueError("d_model must be a multiple of twice num_heads, and kernel odd")
        if not all(0 <= n <= 100 for n in self.look_ahead + self.encoder_look_ahead):
            raise ValueError("look_ahead must be numbers from 0 to 100")
        check_streaming_encoder(self.encoder, self.encoder_look_ahead)
        if self.decay_steps > self.steps:
            raise ValueError("decay_steps are more than steps")
        return self


def load_streaming_config(path: Path) -> StreamingTrainingConfig:
    """Read a training configuration from YAML; the corpus' path is relative to the file's folder.

    Raises:
        InputError: The file cannot be read, or a value is wrong.
    """
    try:
        config = StreamingTrainingConfig.model_validate(load_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {describe_validation_error(error)}") from None
    return config.model_copy(update={"corpus": (path.parent / config.corpus).resolve()})


class StreamingModule(nn.Module):
    """The network with its losses.

    Args:
        network: Network.
        surface: Errors of motion on the surface of the face.
    """

    def __init__(self, network: StreamingNetwork, surface: RigSurfaceMetric) -> None:
        super().__init__()
        self.network, self.surface = network, surface

    def forward(self, batch: StreamingBatch) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name."""
        found = self.network(batch.mel, batch.style, batch.start)
        motion, valid = found.motion.float(), batch.valid
        pairs = valid[:, 1:] & valid[:, :-1]
        step, true_step = motion.diff(dim=1), batch.motion.diff(dim=1)
        contacts = functional.binary_cross_entropy_with_logits(
            found.contacts.float()[valid], batch.contacts[valid], reduction="mean"
        )
        known = valid & (batch.labels > 0)  # nowhere in a small batch in which nobody speaks
        phones = functional.cross_entropy(found.phones.float()[known], batch.labels[known], reduction="sum")
        phones = phones / max(1, int(known.sum()))
        return {
            "surface": SURFACE_WEIGHT * self.surface.squared_error(motion - batch.motion)[valid].mean(),
            "velocity": VELOCITY_WEIGHT * self.surface.squared_error(step - true_step)[pairs].mean(),
            "shapes": SHAPE_WEIGHT * (motion - batch.motion)[valid].square().mean(),
            "contacts": CONTACT_WEIGHT * contacts,
            "phones": PHONE_WEIGHT * phones,
        }


class StreamingTrainer(TrainingLoop):
    """A training run of the streaming network.

    Args:
        config: Training configuration.
        examples: Clips, those held out among them.
        shape_names: Names of the C shapes that it moves.
        rig: Their rig.
        output: Folder for checkpoint, TensorBoard log, config.json and network.safetensors.
        progress: Receives progress.
        log: Receives one line of text per message.
    """

    def __init__(
        self,
        config: StreamingTrainingConfig,
        examples: Sequence[StreamingExample],
        shape_names: tuple[str, ...],
        rig: Rig,
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config = config
        styles = tuple(sorted({e.style for e in examples}))
        self.network_config = StreamingConfig(
            shape_names, styles, config.look_ahead, config.look_back, config.d_model, config.num_heads,
            config.ffn_multiplier, config.kernel, config.encoder, config.encoder_look_ahead, config.encoder_look_back,
        )  # fmt: skip
        known = [e for e in examples if not e.held_out]
        held_out = [e for e in examples if e.held_out] or known
        self._names = [e.name for e in known]
        self._sampler = StreamingSampler(known, styles, config.crop_tokens, config.tracked_share)
        plain = StreamingSampler(held_out, styles, config.crop_tokens, config.tracked_share, augment=False)
        self._validation = [
            plain.sample(config.batch_size, np.random.default_rng([VALIDATION_SEED, i]))
            for i in range(VALIDATION_BATCHES)
        ]
        torch.manual_seed(config.seed)
        network = StreamingNetwork(self.network_config)
        motion = np.concatenate([e.motion[::5] for e in known])
        network.motion_mean.copy_(torch.from_numpy(motion.mean(0)))
        network.motion_std.copy_(torch.from_numpy(np.maximum(motion.std(0), SMALLEST_DEVIATION)))
        super().__init__(
            StreamingModule(network, RigSurfaceMetric(rig, shape_names)), "network", config.steps, config.eval_every,
            config.learning_rate, config.weight_decay, config.seed, output, progress, log,
        )  # fmt: skip

    @property
    def network(self) -> StreamingNetwork:
        """The network with averaged weights, which is saved and validated."""
        network = self.ema.module
        assert isinstance(network, StreamingNetwork)
        return network

    @property
    def validation_source(self) -> str:
        """Where the data of the validation comes from."""
        return "held-out clips of the joint corpus, mostly simulated"

    def describe(self) -> list[str]:
        """Return lines to print at the start."""
        ahead = round(1000 * self.network_config.look_ahead_seconds)
        return [f"look-ahead of {ahead} ms", f"{len(self._names)} clips"]

    def save_network(self, path: Path) -> None:
        """Write the averaged network and config.json beside it."""
        save_streaming_network(self.network, path, {"seed": self.config.seed, "steps": self.step})
        (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")

    def _losses(self, module: nn.Module, batch: StreamingBatch) -> dict[str, Tensor]:
        device = self.accelerator.device
        low = self.config.bfloat16 and device.type == "cpu"
        with self.accelerator.autocast(), torch.autocast("cpu", torch.bfloat16, enabled=low):
            losses: dict[str, Tensor] = module(batch.to(device))
        return {k: v.float() for k, v in losses.items()}

    def compute_losses(self, number: int) -> dict[str, Tensor]:
        """Return the weighted losses of the next step by name."""
        return self._losses(self.module, self._sampler.sample(self.config.batch_size, np.random.default_rng(number)))

    def learning_rate_factor(self) -> float:
        """Return the learning rate as a share of the peak."""
        return warmup_stable_decay(self.step, self.config.steps, self.config.decay_steps)

    def validate(self) -> dict[str, float]:
        """Return the mean losses on held-out crops, and correlation and error of the lips' opening there."""
        surface = self.accelerator.unwrap_model(self.module).surface
        network = self.network.eval()
        module = StreamingModule(network, surface)
        totals: dict[str, float] = {}
        openings = []
        with torch.no_grad():
            for batch in self._validation:
                for name, value in self._losses(module, batch).items():
                    totals[name] = totals.get(name, 0.0) + float(value) / len(self._validation)
                batch = batch.to(self.accelerator.device)
                found = network(batch.mel, batch.style, batch.start).motion
                gaps = [surface.lip_opening(m)[batch.valid].mean(-1) for m in (found, batch.motion)]
                openings.append(torch.stack(gaps).cpu().numpy())
        predicted, true = np.concatenate(openings, 1)
        return totals | {
            "opening r": float(np.corrcoef(predicted, true)[0, 1]),
            "opening RMSE mm": float(np.sqrt(((predicted - true) ** 2).mean())),
        }

    def facts(self) -> object:
        """Return architecture and clips, and the configuration but for the number of steps."""
        left_out = {"corpus", "steps", "decay_steps", "eval_every"}
        return [self.config.model_dump(mode="json", exclude=left_out), asdict(self.network_config), self._names]


def prepare_streaming_training(
    config: StreamingTrainingConfig,
    rig: Rig,
    output: Path,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> StreamingTrainer:
    """Load the corpus and return its training run; spectra are cached in the corpus' folder.

    Raises:
        InputError: The corpus cannot be used.
    """
    clips = [c for c in load_joint_corpus(config.corpus, rig.shape_names) if not c.other]
    columns = np.flatnonzero(is_mouth(rig.shape_names))
    examples = prepare_streaming_examples(config.corpus, clips, columns, progress or Progress())
    if not any(len(e.motion) and not e.held_out for e in examples):
        raise InputError(f"{config.corpus}: has no clip to train on")
    names = tuple(rig.shape_names[i] for i in columns)
    return StreamingTrainer(config, examples, names, rig, output, progress, log)
