"""The training loop of `kmtalk train`, in three stages: LKMA on key frames, CMC with LKMA frozen, then both together.

N frames, out numbers per frame of motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kmtalk.motion.inference import predict_motion, select_key_frames
from kmtalk.motion.losses import LipReader, MotionLosses
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig
from kmtalk.motion.styles import style_mixture
from kmtalk.progress import Progress
from kmtalk.training.batches import TrainingExample, sample_batch, sample_key_motions
from kmtalk.training.config import TrainingConfig
from kmtalk.training.loop import WARMUP_STEPS, TrainingLoop
from kmtalk.training.tasks import TrainingTask

STAGES = ("key_motion", "completion", "joint")
"""Stages of training, in order: LKMA, CMC, both."""


class TrainingModule(nn.Module):
    """The network with its lip reader in one module, so that a single `forward` gives the losses on several processes.

    Args:
        network: Network.
        surface: A `kmtalk.motion.losses.SurfaceMetric`.
        config: Training configuration.
    """

    def __init__(self, network: KMTalkNetwork, surface: nn.Module, config: TrainingConfig) -> None:
        super().__init__()
        self.network, self.surface = network, surface
        self.audio_dropout, self.teacher_forcing = config.audio_dropout, config.teacher_forcing
        self.voice_dropout, self.phone_dropout = config.voice_dropout, config.phone_dropout
        with torch.no_grad():
            lip_features = surface.lip_features(torch.zeros(1, 1, network.config.output_dim))  # type: ignore[operator]
        self.reader = LipReader(lip_features.shape[-1], network.config.audio_dim)
        self._loss_weights = config.losses.model_dump()

    def forward(self, batch: Batch, stage: str, seed: int) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            batch: Batch with ground truth.
            stage: One of `STAGES`.
            seed: Seed of the step's random numbers.

        Returns:
            Weighted losses by name.
        """
        network = self.network
        losses = MotionLosses(self.surface, self.reader, self._loss_weights)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        batch = self._drop_inputs(batch, generator)
        audio = network.encode_audio(batch)
        if (
            network.finetuned_encoder is not None
            and stage == "completion"
            and network.config.use_key_motion
            and batch.other_system_keys is None
        ):
            audio = audio.detach()  # keeps the encoder as LKMA was trained on it
        predicted = network.predict_keys(audio, batch)
        out = {}
        assert batch.motion is not None
        truth = batch.motion.gather(1, batch.key_frames[..., None].expand(-1, -1, network.config.output_dim))
        if batch.key_edits is not None:
            truth = truth - batch.key_edits
        if network.config.use_key_motion and stage != "completion" and batch.other_system_keys is None:
            with torch.autocast(audio.device.type, enabled=False):
                out = losses.key_losses(predicted.float(), truth, batch)
        if stage == "key_motion" and batch.other_system_keys is None:
            return out
        predicted = predicted.detach() if stage == "completion" else predicted
        if network.config.use_key_motion:
            key_motions, kept_keys = sample_key_motions(truth, batch, predicted, generator, self.teacher_forcing)
        else:
            key_motions, kept_keys = predicted, batch
        masked_audio = audio
        if self.audio_dropout:
            keep = torch.rand(len(audio), 1, 1, generator=generator) >= self.audio_dropout
            masked_audio = audio * keep.to(audio)
        motion = network.complete_motion(masked_audio, key_motions, kept_keys)
        with torch.autocast(audio.device.type, enabled=False):  # bfloat16 is too coarse for errors in mm
            return out | losses.motion_losses(motion.float(), audio.float(), batch)

    def _drop_inputs(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Withhold the phones of some crops, and the voice of others, so that neither is needed."""
        if not self.network.config.phone_input or batch.phones is None:
            return batch
        draw = torch.rand(len(batch.phones), 1, 1, generator=generator).to(batch.phones)
        phones = batch.phones * (draw >= self.phone_dropout)
        voiceless = draw > 1 - self.voice_dropout
        features = torch.where(voiceless, self.network.feature_mean, batch.features)
        return Batch(**{**vars(batch), "phones": phones, "features": features})


class Trainer(TrainingLoop):
    """A training run of the KMTalk network.

    Args:
        config: Training configuration.
        task: What the run learns.
        output: Folder for checkpoint, TensorBoard log, config.json and network.safetensors.
        progress: Receives progress.
        log: Receives one line of text per message.

    Attributes:
        config: Training configuration.
        task: What the run learns.
        network_config: Architecture of the network.
    """

    def __init__(
        self,
        config: TrainingConfig,
        task: TrainingTask,
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.task = config, task
        samples, encoder = task.sample_features(), task.finetuned_encoder
        self.network_config = NetworkConfig(
            encoder=task.encoder,
            audio_dim=samples.shape[1] if encoder is None else encoder.hidden_size,
            shape_names=task.shape_names,
            vertex_count=task.vertices,
            styles=tuple(sorted({example.style for group in task.groups for example in group})),
            key_placement=config.key_placement,
            finetuned_encoder="" if encoder is None else encoder.config,
            **config.network.model_dump(),
        )
        # seeded here, because loading an encoder draws random numbers but reading the cache does not
        torch.manual_seed(config.seed)
        network = KMTalkNetwork(self.network_config, task.pca_basis)
        if network.finetuned_encoder is None or encoder is None:
            network.feature_mean.copy_(torch.from_numpy(samples.mean(0)))
            network.feature_std.copy_(torch.from_numpy(samples.std(0) + 1e-3))
        else:
            network.finetuned_encoder.load_state_dict(encoder.state_dict())
        super().__init__(
            TrainingModule(network, task.surface_metric, config),
            "network",
            config.steps.total,
            config.eval_every,
            config.learning_rate,
            config.weight_decay,
            config.seed,
            output,
            progress,
            log,
        )

    @property
    def network(self) -> KMTalkNetwork:
        """The network with averaged weights, which is saved and validated."""
        network = self.ema.module
        assert isinstance(network, KMTalkNetwork)
        return network

    @property
    def validation_source(self) -> str:
        """Where the data of the validation comes from."""
        return self.task.validation_source

    def describe(self) -> list[str]:
        """Return lines to print at the start."""
        lines = []
        if self.task.skipped_clips:
            lines.append(f"skipped clips without alignment: {', '.join(self.task.skipped_clips)}")
        return [*lines, f"{sum(map(len, self.task.groups))} clips"]

    def save_network(self, path: Path) -> None:
        """Write the averaged network and config.json beside it."""
        self.network.save(path, {"seed": self.config.seed, "steps": self.config.steps.total} | self.task.metadata)
        (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")

    @property
    def stage(self) -> str:
        """Stage of the last step done, one of `STAGES`."""
        return self._stage(max(self.step - 1, 0))

    def _stage(self, step: int) -> str:
        steps = self.config.steps
        if step < steps.key_motion and self.config.network.use_key_motion:
            return "key_motion"
        return "completion" if step < steps.key_motion + steps.completion else "joint"

    def compute_losses(self, number: int) -> dict[str, Tensor]:
        """Return the weighted losses of the next step by name."""
        config = self.config
        batch = sample_batch(
            self.task.groups,
            [c.sampling_weight for c in config.corpora],
            config.batch_size,
            self.network_config.styles,
            config.max_crop_seconds,
            config.key_placement,
            np.random.default_rng(number),
            config.key_edit_rate,
        ).to(self.accelerator.device)
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.module(batch, self._stage(self.step), number)
        return losses

    def learning_rate_factor(self) -> float:
        """Return the learning rate as a share of the peak: linear warm-up times cosine decay."""
        fraction = self.step / max(1, self.config.steps.total)
        return min(1.0, (self.step + 1) / WARMUP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction)))

    def validate(self) -> dict[str, float]:
        """Return validation scores of the averaged network by name; empty in the stage of LKMA."""
        if self.task.validate is None or self.stage == "key_motion":
            return {}
        return self.task.validate(self.predict)

    def predict(self, example: TrainingExample) -> np.ndarray:
        """Predict the motion (N, out) of an example with the averaged network."""
        count = len(example.motion)
        key_frames = select_key_frames(example.alignment, count, example.fps, self.network_config.key_placement)
        styles = self.network_config.styles
        style = style_mixture(styles, example.style if example.style in styles else None)
        other_system_keys = (
            None if example.other_system_motion is None else example.other_system_motion[:count][key_frames]
        )
        return predict_motion(
            self.network.eval(),
            example.features,
            example.alignment,
            key_frames,
            count,
            example.fps,
            style,
            other_system_keys=other_system_keys,
        )

    def facts(self) -> object:
        """Return configuration, architecture, task and clips."""
        config = self.config.model_dump(mode="json", exclude={"feature_cache"})
        clips = [[(e.name, len(e.motion)) for e in g] for g in self.task.groups]
        return [config, asdict(self.network_config), self.task.fingerprint, clips]
