"""``kmtalk train``: LKMA on keys, CMC on given keys, then both together."""

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
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig, style_mixture
from kmtalk.progress import Progress
from kmtalk.training.batches import TrainingExample, corrupt_keys, sample_batch
from kmtalk.training.config import TrainingConfig
from kmtalk.training.tasks import TrainingTask

STAGES = ("keys", "completion", "together")
EMA_DECAY = 0.998  # of the running mean of weights that is kept
WARMUP_STEPS = 100  # steps
LOG_EVERY = 50  # steps


def _ema_update(mean: Any, now: Any, count: Any) -> None:
    """Running mean of weights that forgets its beginnings while it is young."""
    n = float(count)
    torch._foreach_lerp_(mean, now, 1 - min(EMA_DECAY, (1 + n) / (10 + n)))


def _mixed_precision() -> str | None:
    """bfloat16 where the GPU has it; what ``accelerate launch`` says goes before."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class TrainingModule(nn.Module):
    """The network and its lip reader, so that one forward gives the losses (and several machines agree)."""

    def __init__(self, network: KMTalkNetwork, surface: nn.Module, config: TrainingConfig) -> None:
        super().__init__()
        self.network, self.surface = network, surface
        self.deaf, self.given = config.audio_dropout, config.teacher_forcing
        with torch.no_grad():
            seen = surface.lips(torch.zeros(1, 1, network.config.output_dim)).shape[-1]  # type: ignore[operator]
        self.reader = LipReader(seen, network.config.audio_dim)
        self._weights = config.losses.model_dump()

    def forward(self, batch: Batch, stage: str, number: int) -> dict[str, Tensor]:
        network = self.network
        losses = MotionLosses(self.surface, self.reader, self._weights)  # type: ignore[arg-type]
        audio = network.encode_audio(batch)
        if (
            network.finetuned_encoder is not None
            and stage == "completion"
            and network.config.use_key_motion
            and batch.given_keys is None
        ):
            audio = audio.detach()  # what LKMA has learnt to read stays as it is
        own = network.predict_keys(audio, batch)
        out = {}
        assert batch.motion is not None
        truth = batch.motion.gather(1, batch.key_frames[..., None].expand(-1, -1, network.config.output_dim))
        if batch.key_edits is not None:
            truth = truth - batch.key_edits
        if network.config.use_key_motion and stage != "completion" and batch.given_keys is None:
            with torch.autocast(audio.device.type, enabled=False):
                out = losses.key_losses(own.float(), truth, batch)
        if stage == "keys" and batch.given_keys is None:
            return out
        own = own.detach() if stage == "completion" else own
        generator = torch.Generator().manual_seed(number)
        if network.config.use_key_motion:
            motion_keys, left = corrupt_keys(truth, batch, own, generator, self.given)
        else:
            motion_keys, left = own, batch
        heard = audio
        if self.deaf:
            hears = torch.rand(len(audio), 1, 1, generator=generator) >= self.deaf
            heard = audio * hears.to(audio)
        motion = network.complete_motion(heard, motion_keys, left)
        with torch.autocast(audio.device.type, enabled=False):  # millimetres want more than bfloat16
            return out | losses.motion_losses(motion.float(), audio.float(), batch)


class Trainer:
    """One run: what it learns from, what it has learnt, where it is."""

    def __init__(
        self,
        config: TrainingConfig,
        task: TrainingTask,
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Learns a ``task``; what it learns is left in the folder ``output``."""
        self.config, self.task, self.output = config, task, output
        self.progress, self.log = progress or Progress(), log
        some, ear = task.sample_features(), task.finetuned_encoder
        self.network_config = NetworkConfig(
            encoder=task.encoder,
            audio_dim=some.shape[1] if ear is None else ear.hidden_size,
            shape_names=task.shape_names,
            vertices=task.vertices,
            styles=tuple(sorted({example.style for group in task.groups for example in group})),
            key_placement=config.key_placement,
            finetuned_encoder="" if ear is None else ear.config,
            **config.network.model_dump(),
        )
        torch.manual_seed(config.seed)  # here: loading an encoder draws numbers, a filled cache does not
        network = KMTalkNetwork(self.network_config, task.pca_basis)
        if network.finetuned_encoder is None or ear is None:
            network.feature_mean.copy_(torch.from_numpy(some.mean(0)))
            network.feature_std.copy_(torch.from_numpy(some.std(0) + 1e-3))
        else:
            network.finetuned_encoder.load_state_dict(ear.state_dict())
        self.accelerator = Accelerator(
            mixed_precision=_mixed_precision(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.ema = AveragedModel(network, multi_avg_fn=_ema_update)
        self.ema.to(self.accelerator.device)
        teacher = TrainingModule(network, task.surface_metric, config)
        optimizer = torch.optim.AdamW(
            teacher.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.module, self.optimizer = self.accelerator.prepare(teacher, optimizer)
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)
        self._writer: Any = None

    @property
    def network(self) -> KMTalkNetwork:
        """The averaged network, which is what is saved and judged."""
        network = self.ema.module
        assert isinstance(network, KMTalkNetwork)
        return network

    def run(self) -> Path:
        """Train to the end, from where a checkpoint left off; returns the weights' path."""
        self.load_checkpoint()
        clips, size = sum(map(len, self.task.groups)), sum(p.numel() for p in self.network.parameters())
        where = f"goes on at step {self.step}" if self.step else "from the beginning"
        if self.task.skipped_clips:
            self.log(f"left out, not aligned: {', '.join(self.task.skipped_clips)}")
        self.log(f"{clips} clips, {size:,} parameters, {where}")
        total = self.config.steps.total
        main = self.accelerator.is_main_process
        with self.progress.stage("train", total) as told:
            while self.step < total:
                losses = self.train_step()
                told(self.step)
                if (self.step % LOG_EVERY == 0 or self.step == total) and main:
                    self._log_scalars({f"loss/{k}": float(v.detach()) for k, v in losses.items()})
                if (self.step % self.config.eval_every == 0 or self.step == total) and main:
                    self.save_checkpoint()
                    score = self.validate()
                    if score:
                        self._log_scalars({f"kept apart/{k}": v for k, v in score.items()})
                    told_losses = "  ".join(f"{k} {float(v.detach()):.3f}" for k, v in losses.items())
                    told_score = "  ".join(f"{k} {v:.4g}" for k, v in score.items())
                    kept = f"kept apart ({self.task.validation_source}): {told_score}" if score else ""
                    self.log(f"step {self.step} of {total} ({self.stage})  {told_losses}  {kept}")
        path = self.output / "network.safetensors"
        if main:
            self.network.save(path, {"seed": self.config.seed, "steps": total} | self.task.metadata)
            (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
            if self._writer is not None:
                self._writer.close()
        return path

    @property
    def stage(self) -> str:
        return self._stage(max(self.step - 1, 0))

    def _stage(self, step: int) -> str:
        steps = self.config.steps
        if step < steps.key_motion and self.config.network.use_key_motion:
            return "keys"
        return "completion" if step < steps.key_motion + steps.completion else "together"

    def train_step(self) -> dict[str, Tensor]:
        """One optimiser step; all that is random comes from the seed and the step's number."""
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
        whole = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(whole):
            raise InputError(f"training left the numbers at step {self.step}; lower learning_rate, and begin anew")
        self.accelerator.backward(whole)
        self.accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update_parameters(self.accelerator.unwrap_model(self.module).network)
        return losses

    def _learning_rate_factor(self) -> float:
        """Learning rate as a share of the configured one: warmed up, then down a cosine."""
        done = self.step / max(1, self.config.steps.total)
        return min(1.0, (self.step + 1) / WARMUP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def validate(self) -> dict[str, float]:
        """What the task's judge says of the averaged network; nothing while only LKMA learns."""
        if self.task.validate is None or self.stage == "keys":
            return {}
        return self.task.validate(self.predict)

    def predict(self, example: TrainingExample) -> np.ndarray:
        """Motion (N, out) of one example by the averaged network."""
        count = len(example.motion)
        located = select_key_frames(example.alignment, count, example.fps, self.network_config.key_placement)
        style = style_mixture(
            self.network_config, example.style if example.style in self.network_config.styles else None
        )
        given = None if example.other_motion is None else example.other_motion[:count][located]
        return predict_motion(
            self.network.eval(), example.features, located, count, example.fps, style, given_keys=given
        )

    def _log_scalars(self, values: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.output / "log"))
        for name, value in values.items():
            self._writer.add_scalar(name, value, self.step)

    def _fingerprint(self) -> str:
        """What a checkpoint must share with the run that takes it up: config, shape, task and clips."""
        config = self.config.model_dump(mode="json", exclude={"cache"})
        clips = [[(e.name, len(e.motion)) for e in g] for g in self.task.groups]
        facts = json.dumps([config, asdict(self.network_config), self.task.fingerprint, clips], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def save_checkpoint(self) -> None:
        """All that is needed to go on as if nothing had happened."""
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
        """Take up the checkpoint in the output folder, if there is one; raises InputError for another run's,
        and where several machines do not see the same one."""
        path = self.output / "checkpoint.pt"
        if path.is_file():
            try:
                state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
                known = state["identity"]
            except Exception:
                raise InputError(f"{path}: a damaged checkpoint; delete it to begin anew") from None
            if known != self._fingerprint():
                raise InputError(
                    f"{path}: belongs to another config or other corpora; give another output folder, or delete it"
                )
            self.accelerator.unwrap_model(self.module).load_state_dict(state["teacher"])
            self.ema.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device))
        if len(set(steps.tolist())) > 1:
            raise InputError(f"{self.output}: not all machines see the same checkpoint; share the folder, or empty it")
