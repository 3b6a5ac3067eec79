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
from kmtalk.motion.inference import place_keys, run
from kmtalk.motion.losses import LipReader, Losses
from kmtalk.motion.model import Batch, Network, Shape, style_shares
from kmtalk.progress import Progress
from kmtalk.training.config import Config
from kmtalk.training.examples import Example, draw, repairable
from kmtalk.training.tasks import Task

STAGES = ("keys", "completion", "together")
AVERAGE = 0.998  # of the running mean of weights that is kept
WARM_UP = 100  # steps
LOG_EVERY = 50  # steps


def _averaged(mean: Any, now: Any, count: Any) -> None:
    """Running mean of weights that forgets its beginnings while it is young."""
    n = float(count)
    torch._foreach_lerp_(mean, now, 1 - min(AVERAGE, (1 + n) / (10 + n)))


def _precision() -> str | None:
    """bfloat16 where the GPU has it; what ``accelerate launch`` says goes before."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        return None
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class Teacher(nn.Module):
    """The network and its lip reader, so that one forward gives the losses (and several machines agree)."""

    def __init__(self, network: Network, surface: nn.Module, config: Config) -> None:
        super().__init__()
        self.network, self.surface = network, surface
        self.deaf, self.given = config.deaf, config.given
        with torch.no_grad():
            seen = surface.lips(torch.zeros(1, 1, network.shape.out)).shape[-1]  # type: ignore[operator]
        self.reader = LipReader(seen, network.shape.dimension)
        self._weights = config.losses.model_dump()

    def forward(self, batch: Batch, stage: str, number: int) -> dict[str, Tensor]:
        network = self.network
        losses = Losses(self.surface, self.reader, self._weights)  # type: ignore[arg-type]
        audio = network.hear(batch)
        if network.ear is not None and stage == "completion" and network.shape.key_motion and batch.given is None:
            audio = audio.detach()  # what LKMA has learnt to read stays as it is
        own = network.keys(audio, batch)
        out = {}
        assert batch.motion is not None
        truth = batch.motion.gather(1, batch.keys[..., None].expand(-1, -1, network.shape.out))
        if batch.change is not None:
            truth = truth - batch.change
        if network.shape.key_motion and stage != "completion" and batch.given is None:
            with torch.autocast(audio.device.type, enabled=False):
                out = losses.on_keys(own.float(), truth, batch)
        if stage == "keys" and batch.given is None:
            return out
        own = own.detach() if stage == "completion" else own
        generator = torch.Generator().manual_seed(number)
        if network.shape.key_motion:
            motion_keys, left = repairable(truth, batch, own, generator, self.given)
        else:
            motion_keys, left = own, batch
        heard = audio
        if self.deaf:
            hears = torch.rand(len(audio), 1, 1, generator=generator) >= self.deaf
            heard = audio * hears.to(audio)
        motion = network.complete(heard, motion_keys, left)
        with torch.autocast(audio.device.type, enabled=False):  # millimetres want more than bfloat16
            return out | losses.on_motion(motion.float(), audio.float(), batch)


class Trainer:
    """One run: what it learns from, what it has learnt, where it is."""

    def __init__(
        self,
        config: Config,
        task: Task,
        output: Path,
        progress: Progress | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Learns a ``task``; what it learns is left in the folder ``output``."""
        self.config, self.task, self.output = config, task, output
        self.progress, self.say = progress or Progress(), say
        some, ear = task.heard(), task.ear
        self.shape = Shape(
            encoder=task.encoder,
            dimension=some.shape[1] if ear is None else ear.dimension,
            names=task.names,
            vertices=task.vertices,
            styles=tuple(sorted({example.style for group in task.groups for example in group})),
            keys=config.keys,
            ear="" if ear is None else ear.config,
            **config.network.model_dump(),
        )
        torch.manual_seed(config.seed)  # here: loading an encoder draws numbers, a filled cache does not
        network = Network(self.shape, task.basis)
        if network.ear is None or ear is None:
            network.mean.copy_(torch.from_numpy(some.mean(0)))
            network.scale.copy_(torch.from_numpy(some.std(0) + 1e-3))
        else:
            network.ear.load_state_dict(ear.state_dict())
        self.accelerator = Accelerator(
            mixed_precision=_precision(),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.average = AveragedModel(network, multi_avg_fn=_averaged)
        self.average.to(self.accelerator.device)
        teacher = Teacher(network, task.surface, config)
        optimizer = torch.optim.AdamW(
            teacher.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.teacher, self.optimizer = self.accelerator.prepare(teacher, optimizer)
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)
        self._log: Any = None

    @property
    def network(self) -> Network:
        """The averaged network, which is what is saved and judged."""
        network = self.average.module
        assert isinstance(network, Network)
        return network

    def run(self) -> Path:
        """Train to the end, from where a checkpoint left off; returns the weights' path."""
        self.resume()
        clips, size = sum(map(len, self.task.groups)), sum(p.numel() for p in self.network.parameters())
        where = f"goes on at step {self.step}" if self.step else "from the beginning"
        if self.task.left_out:
            self.say(f"left out, not aligned: {', '.join(self.task.left_out)}")
        self.say(f"{clips} clips, {size:,} parameters, {where}")
        total = self.config.steps.total
        main = self.accelerator.is_main_process
        with self.progress.stage("train", total) as told:
            while self.step < total:
                losses = self.advance()
                told(self.step)
                if (self.step % LOG_EVERY == 0 or self.step == total) and main:
                    self._note({f"loss/{k}": float(v.detach()) for k, v in losses.items()})
                if (self.step % self.config.check_every == 0 or self.step == total) and main:
                    self.checkpoint()
                    score = self.score()
                    if score:
                        self._note({f"kept apart/{k}": v for k, v in score.items()})
                    told_losses = "  ".join(f"{k} {float(v.detach()):.3f}" for k, v in losses.items())
                    told_score = "  ".join(f"{k} {v:.4g}" for k, v in score.items())
                    kept = f"kept apart ({self.task.judged_on}): {told_score}" if score else ""
                    self.say(f"step {self.step} of {total} ({self.stage})  {told_losses}  {kept}")
        path = self.output / "network.safetensors"
        if main:
            self.network.save(path, {"seed": self.config.seed, "steps": total} | self.task.facts)
            (self.output / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
            if self._log is not None:
                self._log.close()
        return path

    @property
    def stage(self) -> str:
        return self._stage(max(self.step - 1, 0))

    def _stage(self, step: int) -> str:
        steps = self.config.steps
        if step < steps.keys and self.config.network.key_motion:
            return "keys"
        return "completion" if step < steps.keys + steps.completion else "together"

    def advance(self) -> dict[str, Tensor]:
        """One optimiser step; all that is random comes from the seed and the step's number."""
        config = self.config
        number = (config.seed * 1_000_003 + self.step) * 64 + self.accelerator.process_index
        torch.manual_seed(number)
        rng = np.random.default_rng(number)
        batch = draw(
            self.task.groups,
            [c.share for c in config.corpora],
            config.batch,
            self.shape.styles,
            config.longest,
            config.keys,
            rng,
            config.edits,
        ).to(self.accelerator.device)
        stage = self._stage(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._pace()
        self.teacher.train()
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.teacher(batch, stage, number)
        whole = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(whole):
            raise InputError(f"training left the numbers at step {self.step}; lower learning_rate, and begin anew")
        self.accelerator.backward(whole)
        self.accelerator.clip_grad_norm_(self.teacher.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update_parameters(self.accelerator.unwrap_model(self.teacher).network)
        return losses

    def _pace(self) -> float:
        """Learning rate as a share of the configured one: warmed up, then down a cosine."""
        done = self.step / max(1, self.config.steps.total)
        return min(1.0, (self.step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def score(self) -> dict[str, float]:
        """What the task's judge says of the averaged network; nothing while only LKMA learns."""
        if self.task.judge is None or self.stage == "keys":
            return {}
        return self.task.judge(self.infer)

    def infer(self, example: Example) -> np.ndarray:
        """Motion (N, out) of one example by the averaged network."""
        count = len(example.motion)
        located = place_keys(example.alignment, count, example.fps, self.shape.keys)
        style = style_shares(self.shape, example.style if example.style in self.shape.styles else None)
        given = None if example.given is None else example.given[:count][located]
        return run(self.network.eval(), example.features, located, count, example.fps, style, given=given)

    def _note(self, values: dict[str, float]) -> None:
        if self._log is None:
            from torch.utils.tensorboard import SummaryWriter

            self._log = SummaryWriter(str(self.output / "log"))
        for name, value in values.items():
            self._log.add_scalar(name, value, self.step)

    def _identity(self) -> str:
        """What a checkpoint must share with the run that takes it up: config, shape, task and clips."""
        config = self.config.model_dump(mode="json", exclude={"cache"})
        clips = [[(e.name, len(e.motion)) for e in g] for g in self.task.groups]
        facts = json.dumps([config, asdict(self.shape), self.task.mark, clips], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def checkpoint(self) -> None:
        """All that is needed to go on as if nothing had happened."""
        path = self.output / "checkpoint.pt"
        state = {
            "identity": self._identity(),
            "step": self.step,
            "teacher": self.accelerator.unwrap_model(self.teacher).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self) -> None:
        """Take up the checkpoint in the output folder, if there is one; raises InputError for another run's,
        and where several machines do not see the same one."""
        path = self.output / "checkpoint.pt"
        if path.is_file():
            try:
                state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
                known = state["identity"]
            except Exception:
                raise InputError(f"{path}: a damaged checkpoint; delete it to begin anew") from None
            if known != self._identity():
                raise InputError(
                    f"{path}: belongs to another config or other corpora; give another output folder, or delete it"
                )
            self.accelerator.unwrap_model(self.teacher).load_state_dict(state["teacher"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device))
        if len(set(steps.tolist())) > 1:
            raise InputError(f"{self.output}: not all machines see the same checkpoint; share the folder, or empty it")
