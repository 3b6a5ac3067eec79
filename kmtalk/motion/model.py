"""The KMTalk network: key motions from audio at phone boundaries, and the frames between completed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from kmtalk.errors import InputError
from kmtalk.motion.completion import AudioGate, MotionDecoder, Sum, key_lines
from kmtalk.motion.ear import Ear
from kmtalk.motion.flow_encoder import FlowEncoder
from kmtalk.motion.heads import BasisHead, Head, RigHead, VertexHead
from kmtalk.motion.key_motion import KeyMotionDecoder

STYLE_SIZE = 16


@dataclass(frozen=True)
class Shape:
    """What a network is. ``width`` is the paper's f, ``dimension`` its d; the flow encoder's FFNs are ``feed`` times
    as wide inside. ``head`` is "rig" (``names`` are the shapes moved), "vertices" (``vertices`` of the mesh) or
    "basis" (``components`` of one). ``keys`` lie at "phones" or are "uniform" (motion.inference.place_keys); that,
    and ``gate`` and ``key_motion`` False, are the paper's ablations. With ``lines`` (ours) CMC says how the motion
    departs from smooth lines through the key motions, so that it follows keys that were edited; without, as in the
    paper, it makes the motion from its latent alone. ``ear`` is the config of the wav2vec 2.0 that is learnt along
    (motion.ear), "" where the encoder is frozen."""

    encoder: str
    dimension: int
    width: int = 256
    heads: int = 8
    blocks: int = 6
    dropout: float = 0.1
    feed: int = 2
    head: str = "rig"
    names: tuple[str, ...] = ()
    vertices: int = 0
    components: int = 0
    styles: tuple[str, ...] = ("neutral",)
    gate: bool = True
    key_motion: bool = True
    keys: str = "phones"
    lines: bool = False
    ear: str = ""

    @property
    def out(self) -> int:
        """Numbers a frame of motion holds: R, or 3V."""
        return len(self.names) if self.head == "rig" else 3 * self.vertices


@dataclass
class Batch:
    """Clips of different lengths, padded. ``features`` (B, N, d), or (B, N, c) for an ear, at ``times`` (B, N) s,
    ``real`` (B, N); ``keys`` (B, M) frame indices, ``keys_real`` (B, M); ``style`` (B, S) shares that sum to one.
    ``motion`` (B, N, out), ``shut`` (B, N) bilabial contact and ``phones`` are the truth, in training;
    ``change`` (B, M, out) is by how much the poses at its keys were edited; ``given`` (B, M, out) are key motions of
    another system, in place of LKMA's."""

    features: Tensor
    times: Tensor
    real: Tensor
    keys: Tensor
    keys_real: Tensor
    style: Tensor
    motion: Tensor | None = None
    shut: Tensor | None = None
    change: Tensor | None = None
    given: Tensor | None = None
    phones: list[Tensor] = field(default_factory=list)

    def to(self, device: torch.device) -> Batch:
        def moved(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        values = {k: moved(v) for k, v in vars(self).items() if k != "phones"}
        return Batch(**values, phones=[p.to(device) for p in self.phones])  # type: ignore[arg-type]


class Network(nn.Module):
    """LKMA and CMC together (KMTalk, Fig. 2)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Shape, basis: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.facts: dict[str, Any] = {}
        d, f = shape.dimension, shape.width
        self.ear = Ear(shape.ear) if shape.ear else None
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))
        self.styles = nn.Parameter(torch.randn(len(shape.styles), STYLE_SIZE) * 0.5)
        self.manner = nn.Linear(STYLE_SIZE, d)

        def head() -> Head:
            if shape.head == "rig":
                return RigHead(f, shape.out)
            if shape.head == "vertices":
                return VertexHead(f, shape.out)
            return BasisHead(f, torch.zeros(shape.components, shape.out) if basis is None else basis)

        self.key_motion = KeyMotionDecoder(d, f, shape.dropout, head())
        self.flow = FlowEncoder(shape.out, d, f, shape.heads, shape.blocks, shape.dropout, shape.feed)
        self.mix: nn.Module = AudioGate(d) if shape.gate else Sum()
        self.decoder = MotionDecoder(d, f, shape.dropout, head())

    def hear(self, batch: Batch) -> Tensor:
        """Audio features, standardised, coloured by style: A (B, N, d)."""
        heard = batch.features if self.ear is None else self.ear(batch.features, batch.real)
        audio = (heard - self.mean) / self.scale
        out: Tensor = audio + self.manner(batch.style @ self.styles)[:, None]
        return out

    def keys(self, audio: Tensor, batch: Batch) -> Tensor:
        """LKMA: key motions (B, M, out); those of another system, where the batch brings them."""
        if batch.given is not None:
            return batch.given
        if not self.shape.key_motion:
            return torch.zeros(*batch.keys.shape, self.shape.out, device=audio.device)
        at_keys = audio.gather(1, batch.keys[..., None].expand(-1, -1, audio.shape[2]))
        out: Tensor = self.key_motion(at_keys, batch.times.gather(1, batch.keys), batch.keys_real)
        return out

    def complete(self, audio: Tensor, keys: Tensor, batch: Batch) -> Tensor:
        """CMC: motion (B, N, out) from key motions (B, M, out)."""
        flow = self.flow(keys, batch.keys, batch.keys_real, batch.times, batch.real)
        lines = key_lines(keys, batch.keys, batch.keys_real, batch.times.shape[1]) if self.shape.lines else None
        out: Tensor = self.decoder(self.mix(audio, flow), batch.times, batch.real, lines)
        return out

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Key motions (B, M, out), edited where the batch says so, and motion (B, N, out)."""
        audio = self.hear(batch)
        keys = self.keys(audio, batch)
        if batch.change is not None:
            keys = keys + batch.change
        return keys, self.complete(audio, keys, batch)

    def save(self, path: Path, facts: dict[str, object] | None = None) -> None:
        """Write as safetensors: weights float16, the shape and ``facts`` as metadata."""
        tensors = {k: v.detach().to(torch.float16).contiguous().cpu() for k, v in self.state_dict().items()}
        note = {"shape": asdict(self.shape), "facts": facts or {}}
        temporary = path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"kmtalk": json.dumps(note, sort_keys=True)})
        temporary.chmod(0o644)  # safetensors writes for the owner alone
        temporary.replace(path)


def load_network(path: Path) -> Network:
    """A network written by ``Network.save``, ready for use; raises InputError where the file is not one."""
    if not path.is_file():
        raise InputError(f"{path}: no such network weights")
    try:
        with safe_open(path, "pt") as file:
            note = json.loads(file.metadata()["kmtalk"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in note["shape"].items()}
        network = Network(Shape(**known))
        network.load_state_dict(tensors)
        network.facts = dict(note.get("facts", {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not weights that kmtalk train wrote ({reason[:120]}); give such a file") from None
    return network.eval()


def style_shares(shape: Shape, style: str | dict[str, float] | None) -> np.ndarray:
    """(S,) float32 that sum to one: a style picked by name, mixed by shares, or the mean (None)."""
    if style is None:
        return np.full(len(shape.styles), 1 / len(shape.styles), np.float32)
    wanted = {style: 1.0} if isinstance(style, str) else style
    unknown = [name for name in wanted if name not in shape.styles]
    usable = all(math.isfinite(share) and share >= 0 for share in wanted.values()) and sum(wanted.values()) > 0
    if unknown:
        known = ", ".join((*shape.styles, "mean"))
        more = " (a number is a style of --motion rules)" if unknown[0].isdecimal() else ""
        raise InputError(f"{', '.join(unknown)}: no such style; these weights know {known}{more}")
    if not usable:
        given = ", ".join(f"{name}:{share:g}" for name, share in wanted.items())
        raise InputError(f"style {given}: shares are numbers of 0 or more, and not all 0")
    shares = np.array([wanted.get(name, 0.0) for name in shape.styles], np.float32)
    return shares / shares.sum()
