"""The training loop of `kmtalk train`, in three stages: LKMA on key frames, CMC with LKMA frozen, then both together.

N frames, out numbers per frame of motion.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kmtalk.errors import InputError
from kmtalk.motion.inference import predict_motion, select_key_frames
from kmtalk.motion.losses import LipReader, MotionLosses
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig
from kmtalk.motion.styles import style_mixture
from kmtalk.progress import Progress
from kmtalk.training.batches import TrainingExample, sample_batch, sample_key_motions
from kmtalk.training.config import TrainingConfig
from kmtalk.training.tasks import TrainingTask

STAGES = ("key_motion", "completion", "joint")
"""Stages of training, in order: LKMA, CMC, both."""

EMA_DECAY = 0.998  # per step, of the exponential moving average of the weights
WARMUP_STEPS = 100  # optimiser steps over which the learning rate rises linearly
LOG_EVERY = 50  # optimiser steps between values in TensorBoard


def _ema_update(mean: Any, now: Any, count: Any) -> None:
    """Update the exponential moving average of the weights, with a smaller decay in the first steps."""
    n = float(count)
    torch._foreach_lerp_(mean, now, 1 - min(EMA_DECAY, (1 + n) / (10 + n)))


def _mixed_precision() -> str | None:
    """Return "bf16" where the GPU supports it, "no" otherwise, and None where `accelerate launch` sets it."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


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


class Trainer:
    """A training run.

    Args:
        config: Training configuration.
        task: What the run learns.
        output: Folder for checkpoint, TensorBoard log, config.json and network.safetensors.
        progress: Receives progress.
        log: Receives one line of text per message.

    Attributes:
        config: Training configuration.
        task: What the run learns.
        output: Output folder.
        network_config: Architecture of the network.
        module: Network and lip reader, prepared by accelerate.
        optimizer: AdamW.
        ema: Exponential moving average of the network's weights.
        step: Number of optimiser steps done.
    """

    def __init__(
        self,
        config: TrainingConfig,
        task: TrainingTask,
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.task, self.output = config, task, output
        self.progress, self.log = progress or Progress(), log
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
        self.accelerator = Accelerator(
            mixed_precision=_mixed_precision(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.ema = AveragedModel(network, multi_avg_fn=_ema_update)
        self.ema.to(self.accelerator.device)
        module = TrainingModule(network, task.surface_metric, config)
        optimizer = torch.optim.AdamW(
            module.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)
        self._writer: Any = None

    @property
    def network(self) -> KMTalkNetwork:
        """The network with averaged weights, which is saved and validated."""
        network = self.ema.module
        assert isinstance(network, KMTalkNetwork)
        return network

    def run(self) -> Path:
        """Train to the last step, from the checkpoint where there is one; returns the path of the weights."""
        self.load_checkpoint()
        clips, size = sum(map(len, self.task.groups)), sum(p.numel() for p in self.network.parameters())
        start = f"resuming at step {self.step}" if self.step else "starting at step 0"
        if self.task.skipped_clips:
            self.log(f"skipped clips without alignment: {', '.join(self.task.skipped_clips)}")
        self.log(f"{clips} clips, {size:,} parameters, {start}")
        total = self.config.steps.total
        is_main = self.accelerator.is_main_process
        with self.progress.stage("train", total) as advance:
            while self.step < total:
                losses = self.train_step()
                advance(self.step)
                if (self.step % LOG_EVERY == 0 or self.step == total) and is_main:
                    self._log_scalars({f"loss/{k}": float(v.detach()) for k, v in losses.items()})
                if (self.step % self.config.eval_every == 0 or self.step == total) and is_main:
                    self.save_checkpoint()
                    scores = self.validate()
                    if scores:
                        self._log_scalars({f"validation/{k}": v for k, v in scores.items()})
                    loss_text = "  ".join(f"{k} {float(v.detach()):.3f}" for k, v in losses.items())
                    score_text = "  ".join(f"{k} {v:.4g}" for k, v in scores.items())
                    validation = f"validation ({self.task.validation_source}): {score_text}" if scores else ""
                    self.log(f"step {self.step} of {total} ({self.stage})  {loss_text}  {validation}")
        path = self.output / "network.safetensors"
        if is_main:
            self.network.save(path, {"seed": self.config.seed, "steps": total} | self.task.metadata)
            (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
            if self._writer is not None:
                self._writer.close()
        return path

    @property
    def stage(self) -> str:
        """Stage of the last step done, one of `STAGES`."""
        return self._stage(max(self.step - 1, 0))

    def _stage(self, step: int) -> str:
        steps = self.config.steps
        if step < steps.key_motion and self.config.network.use_key_motion:
            return "key_motion"
        return "completion" if step < steps.key_motion + steps.completion else "joint"

    def train_step(self) -> dict[str, Tensor]:
        """Do one optimiser step and return its losses; random numbers depend on the seed and the step only."""
        config = self.config
        number = (config.seed * 1_000_003 + self.step) * 64 + self.accelerator.process_index
        torch.manual_seed(number)
        rng = np.random.default_rng(number)
        batch = sample_batch(
            self.task.groups,
            [c.sampling_weight for c in config.corpora],
            config.batch_size,
            self.network_config.styles,
            config.max_crop_seconds,
            config.key_placement,
            rng,
            config.key_edit_rate,
        ).to(self.accelerator.device)
        stage = self._stage(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._learning_rate_factor()
        self.module.train()
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.module(batch, stage, number)
        total_loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total_loss):
            raise InputError(f"the loss is not finite at step {self.step}; lower learning_rate and train again")
        self.accelerator.backward(total_loss)
        self.accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update_parameters(self.accelerator.unwrap_model(self.module).network)
        return losses

    def _learning_rate_factor(self) -> float:
        """Learning rate as a share of the configured one: linear warm-up times cosine decay."""
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
        style = style_mixture(
            self.network_config, example.style if example.style in self.network_config.styles else None
        )
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

    def _log_scalars(self, values: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.output / "log"))
        for name, value in values.items():
            self._writer.add_scalar(name, value, self.step)

    def _fingerprint(self) -> str:
        """Digest of configuration, architecture, task and clips; a run resumes only from checkpoints with the same."""
        config = self.config.model_dump(mode="json", exclude={"feature_cache"})
        clips = [[(e.name, len(e.motion)) for e in g] for g in self.task.groups]
        facts = json.dumps([config, asdict(self.network_config), self.task.fingerprint, clips], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def save_checkpoint(self) -> None:
        """Write the state of the run, from which it resumes bit for bit."""
        path = self.output / "checkpoint.pt"
        state = {
            "identity": self._fingerprint(),
            "step": self.step,
            "teacher": self.accelerator.unwrap_model(self.module).state_dict(),
            "average": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load_checkpoint(self) -> None:
        """Resume from the checkpoint in the output folder, if there is one.

        Raises:
            InputError: The checkpoint is damaged or of another run, or the processes read different checkpoints.
        """
        path = self.output / "checkpoint.pt"
        if path.is_file():
            try:
                state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
                fingerprint = state["identity"]
            except Exception:
                raise InputError(f"{path}: damaged checkpoint; delete it to train from the start") from None
            if fingerprint != self._fingerprint():
                raise InputError(
                    f"{path}: checkpoint of another config or other corpora; choose another output folder, or delete it"
                )
            self.accelerator.unwrap_model(self.module).load_state_dict(state["teacher"])
            self.ema.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device))
        if len(set(steps.tolist())) > 1:
            raise InputError(f"{self.output}: machines read different checkpoints; use a shared folder, or empty it")
