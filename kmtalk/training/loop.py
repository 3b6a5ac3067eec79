"""A resumable training loop with accelerate: AdamW, averaged weights, checkpoints, validation, TensorBoard.

`kmtalk.training.trainer` trains the KMTalk network with it, `kmtalk.joint.training` the joint model.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kmtalk.errors import InputError
from kmtalk.progress import Progress

EMA_DECAY = 0.998  # per step, of the exponential moving average of the weights
WARMUP_STEPS = 100  # optimiser steps over which the learning rate rises linearly
LOG_EVERY = 50  # optimiser steps between values in TensorBoard


def _ema_update(mean: Any, now: Any, count: Any) -> None:
    """Update the exponential moving average of the weights, with a smaller decay in the first steps."""
    n = float(count)
    torch._foreach_lerp_(mean, now, 1 - min(EMA_DECAY, (1 + n) / (10 + n)))


def warmup_stable_decay(step: int, steps: int, decay_steps: int) -> float:
    """Return the learning rate as a share of the peak: warm-up, constant, linear decay over the last steps."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / max(1, decay_steps))


def _mixed_precision() -> str | None:
    """Return "bf16" where the GPU supports it, "no" otherwise, and None where `accelerate launch` sets it."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class TrainingLoop(ABC):
    """A training run. A subclass gives the losses of a step, the validation and what identifies the run.

    Args:
        module: What is trained, whose `forward` the subclass calls in `compute_losses`.
        network: The part of `module` that is saved and validated with averaged weights, by its name in `module`.
        total: Number of optimiser steps.
        eval_every: Steps between checkpoints, each with a validation.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        seed: Seed of all random numbers.
        output: Folder for the checkpoint and the TensorBoard log.
        progress: Receives progress.
        log: Receives one line of text per message.

    Attributes:
        module: What is trained, prepared by accelerate.
        optimizer: AdamW.
        ema: Exponential moving average of the network's weights.
        step: Number of optimiser steps done.
    """

    def __init__(
        self,
        module: nn.Module,
        network: str,
        total: int,
        eval_every: int,
        learning_rate: float,
        weight_decay: float,
        seed: int,
        output: Path,
        progress: Progress | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.output, self.progress, self.log = output, progress or Progress(), log
        self._network_name, self._total, self._eval_every = network, total, eval_every
        self._learning_rate, self._seed = learning_rate, seed
        self.accelerator = Accelerator(
            mixed_precision=_mixed_precision(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.ema = AveragedModel(getattr(module, network), multi_avg_fn=_ema_update)
        self.ema.to(self.accelerator.device)
        optimizer = torch.optim.AdamW(module.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay)
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)
        self._writer: Any = None

    @abstractmethod
    def compute_losses(self, number: int) -> dict[str, Tensor]:
        """Return the weighted losses of the next step by name; all random numbers come from the seed `number`."""

    @abstractmethod
    def learning_rate_factor(self) -> float:
        """Return the learning rate of the next step as a share of the peak."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return validation scores of the averaged network by name; empty where there are none."""

    @abstractmethod
    def save_network(self, path: Path) -> None:
        """Write the averaged network and the configuration of the run."""

    @abstractmethod
    def facts(self) -> object:
        """Return what identifies the run, as JSON; a run resumes only from checkpoints with the same facts."""

    @property
    def validation_source(self) -> str:
        """Where the data of the validation comes from."""
        return ""

    @property
    def stage(self) -> str:
        """Name of the stage of the last step done; empty where there is one."""
        return ""

    def describe(self) -> list[str]:
        """Return lines to print at the start."""
        return []

    def run(self) -> Path:
        """Train to the last step, from the checkpoint where there is one; returns the path of the weights."""
        self.load_checkpoint()
        network = self.ema.module
        start = f"resuming at step {self.step}" if self.step else "starting at step 0"
        *first, last = [*self.describe(), f"{sum(p.numel() for p in network.parameters()):,} parameters, {start}"]
        for line in first[:-1]:
            self.log(line)
        self.log(", ".join([*first[-1:], last]))
        is_main = self.accelerator.is_main_process
        with self.progress.stage("train", self._total) as advance:
            while self.step < self._total:
                losses = self.train_step()
                advance(self.step)
                if (self.step % LOG_EVERY == 0 or self.step == self._total) and is_main:
                    self._log_scalars({f"loss/{k}": float(v.detach()) for k, v in losses.items()})
                if (self.step % self._eval_every == 0 or self.step == self._total) and is_main:
                    self.save_checkpoint()
                    scores = self.validate()
                    if scores:
                        self._log_scalars({f"validation/{k}": v for k, v in scores.items()})
                    loss_text = "  ".join(f"{k} {float(v.detach()):.3f}" for k, v in losses.items())
                    score_text = "  ".join(f"{k} {v:.4g}" for k, v in scores.items())
                    validation = f"validation ({self.validation_source}): {score_text}" if scores else ""
                    stage = f" ({self.stage})" if self.stage else ""
                    self.log(f"step {self.step} of {self._total}{stage}  {loss_text}  {validation}")
        path = self.output / "network.safetensors"
        if is_main:
            self.save_network(path)
            if self._writer is not None:
                self._writer.close()
        return path

    def train_step(self) -> dict[str, Tensor]:
        """Do one optimiser step and return its losses; random numbers depend on the seed and the step only."""
        number = (self._seed * 1_000_003 + self.step) * 64 + self.accelerator.process_index
        torch.manual_seed(number)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate * self.learning_rate_factor()
        self.module.train()
        losses = self.compute_losses(number)
        total_loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total_loss):
            raise InputError(f"the loss is not finite at step {self.step}; lower learning_rate and train again")
        self.accelerator.backward(total_loss)
        self.accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update_parameters(getattr(self.accelerator.unwrap_model(self.module), self._network_name))
        return losses

    def _log_scalars(self, values: dict[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.output / "log"))
        for name, value in values.items():
            self._writer.add_scalar(name, value, self.step)

    def _fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()

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
