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
from kmtalk.motion.completion import AdditiveFusion, AudioGate, MotionDecoder, interpolate_keys
from kmtalk.motion.finetuned_encoder import FineTunedEncoder
from kmtalk.motion.flow_encoder import MotionFlowEncoder
from kmtalk.motion.heads import OutputHead, PcaHead, RigHead, VertexHead
from kmtalk.motion.key_motion import KeyMotionDecoder

STYLE_DIM = 16


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is. ``d_model`` is the paper's f, ``audio_dim`` its d; the flow encoder's FFNs are ``ffn_multiplier`` times
    as wide inside. ``head`` is "rig" (``shape_names`` are the shapes moved), "vertices" (``vertices`` of the mesh) or
    "pca" (``components`` of one). ``key_placement`` lie at "phones" or are "uniform" (motion.inference.place_keys); that,
    and ``audio_gate`` and ``use_key_motion`` False, are the paper's ablations. With ``residual_over_keys`` (ours) CMC says how the motion
    departs from smooth lines through the key motions, so that it follows keys that were edited; without, as in the
    paper, it makes the motion from its latent alone. ``finetuned_encoder`` is the config of the wav2vec 2.0 that is learnt along
    (motion.ear), "" where the encoder is frozen."""

    encoder: str
    audio_dim: int
    d_model: int = 256
    num_heads: int = 8
    num_layers: int = 6
    dropout: float = 0.1
    ffn_multiplier: int = 2
    head: str = "rig"
    shape_names: tuple[str, ...] = ()
    vertices: int = 0
    components: int = 0
    styles: tuple[str, ...] = ("neutral",)
    audio_gate: bool = True
    use_key_motion: bool = True
    key_placement: str = "phones"
    residual_over_keys: bool = False
    finetuned_encoder: str = ""

    @property
    def output_dim(self) -> int:
        """Numbers a frame of motion holds: R, or 3V."""
        return len(self.shape_names) if self.head == "rig" else 3 * self.vertices


@dataclass
class Batch:
    """Clips of different lengths, padded. ``features`` (B, N, d), or (B, N, c) for an ear, at ``times`` (B, N) s,
    ``frame_mask`` (B, N); ``key_placement`` (B, M) frame indices, ``key_mask`` (B, M); ``style_weights`` (B, S) shares that sum to one.
    ``motion`` (B, N, out), ``bilabial_closure`` (B, N) bilabial contact and ``phones`` are the truth, in training;
    ``key_edits`` (B, M, out) is by how much the poses at its keys were edited; ``given_keys`` (B, M, out) are key motions of
    another system, in place of LKMA's."""

    features: Tensor
    times: Tensor
    frame_mask: Tensor
    key_frames: Tensor
    key_mask: Tensor
    style_weights: Tensor
    motion: Tensor | None = None
    bilabial_closure: Tensor | None = None
    key_edits: Tensor | None = None
    given_keys: Tensor | None = None
    phones: list[Tensor] = field(default_factory=list)

    def to(self, device: torch.device) -> Batch:
        def moved(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        values = {k: moved(v) for k, v in vars(self).items() if k != "phones"}
        return Batch(**values, phones=[p.to(device) for p in self.phones])  # type: ignore[arg-type]


class KMTalkNetwork(nn.Module):
    """LKMA and CMC together (KMTalk, Fig. 2)."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, shape: NetworkConfig, basis: Tensor | None = None) -> None:
        super().__init__()
        self.config = shape
        self.metadata: dict[str, Any] = {}
        d, f = shape.audio_dim, shape.d_model
        self.finetuned_encoder = FineTunedEncoder(shape.finetuned_encoder) if shape.finetuned_encoder else None
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))
        self.style_embeddings = nn.Parameter(torch.randn(len(shape.styles), STYLE_DIM) * 0.5)
        self.style_projection = nn.Linear(STYLE_DIM, d)

        def head() -> OutputHead:
            if shape.head == "rig":
                return RigHead(f, shape.output_dim)
            if shape.head == "vertices":
                return VertexHead(f, shape.output_dim)
            return PcaHead(f, torch.zeros(shape.components, shape.output_dim) if basis is None else basis)

        self.key_motion_decoder = KeyMotionDecoder(d, f, shape.dropout, head())
        self.flow_encoder = MotionFlowEncoder(
            shape.output_dim, d, f, shape.num_heads, shape.num_layers, shape.dropout, shape.ffn_multiplier
        )
        self.fusion: nn.Module = AudioGate(d) if shape.audio_gate else AdditiveFusion()
        self.motion_decoder = MotionDecoder(d, f, shape.dropout, head())

    def encode_audio(self, batch: Batch) -> Tensor:
        """Audio features, standardised, coloured by style: A (B, N, d)."""
        heard = (
            batch.features
            if self.finetuned_encoder is None
            else self.finetuned_encoder(batch.features, batch.frame_mask)
        )
        audio = (heard - self.feature_mean) / self.feature_std
        out: Tensor = audio + self.style_projection(batch.style_weights @ self.style_embeddings)[:, None]
        return out

    def predict_keys(self, audio: Tensor, batch: Batch) -> Tensor:
        """LKMA: key motions (B, M, out); those of another system, where the batch brings them."""
        if batch.given_keys is not None:
            return batch.given_keys
        if not self.config.use_key_motion:
            return torch.zeros(*batch.key_frames.shape, self.config.output_dim, device=audio.device)
        at_keys = audio.gather(1, batch.key_frames[..., None].expand(-1, -1, audio.shape[2]))
        out: Tensor = self.key_motion_decoder(at_keys, batch.times.gather(1, batch.key_frames), batch.key_mask)
        return out

    def complete_motion(self, audio: Tensor, key_motions: Tensor, batch: Batch) -> Tensor:
        """CMC: motion (B, N, out) from key motions (B, M, out)."""
        flow = self.flow_encoder(key_motions, batch.key_frames, batch.key_mask, batch.times, batch.frame_mask)
        lines = (
            interpolate_keys(key_motions, batch.key_frames, batch.key_mask, batch.times.shape[1])
            if self.config.residual_over_keys
            else None
        )
        out: Tensor = self.motion_decoder(self.fusion(audio, flow), batch.times, batch.frame_mask, lines)
        return out

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Key motions (B, M, out), edited where the batch says so, and motion (B, N, out)."""
        audio = self.encode_audio(batch)
        keys = self.predict_keys(audio, batch)
        if batch.key_edits is not None:
            keys = keys + batch.key_edits
        return keys, self.complete_motion(audio, keys, batch)

    def save(self, path: Path, metadata: dict[str, object] | None = None) -> None:
        """Write as safetensors: weights float16, the shape and ``metadata`` as metadata."""
        tensors = {k: v.detach().to(torch.float16).contiguous().cpu() for k, v in self.state_dict().items()}
        header = {"config": asdict(self.config), "metadata": metadata or {}}
        temporary = path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"kmtalk": json.dumps(header, sort_keys=True)})
        temporary.chmod(0o644)  # safetensors writes for the owner alone
        temporary.replace(path)


def load_network(path: Path) -> KMTalkNetwork:
    """A network written by ``Network.save``, ready for use; raises InputError where the file is not one."""
    if not path.is_file():
        raise InputError(f"{path}: no such network weights")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["kmtalk"])
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()}
        network = KMTalkNetwork(NetworkConfig(**fields))
        network.load_state_dict(tensors)
        network.metadata = dict(header.get("metadata", {}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not weights that kmtalk train wrote ({reason[:120]}); give such a file") from None
    return network.eval()


def style_mixture(shape: NetworkConfig, style: str | dict[str, float] | None) -> np.ndarray:
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
