"""The KMTalk network: LKMA predicts key motions at phone boundaries, CMC completes the frames between them.

Dimensions:

- B: clips in a batch
- N: frames of a clip
- m, padded to M: key frames of a clip
- d: width of the audio features (`audio_dim`)
- c: width of the features of wav2vec 2.0's convolutions, the input of a fine-tuned encoder
- f: width inside the decoders and the flow encoder (`d_model`)
- S: styles
- out: numbers per frame of motion (`output_dim`): R weights of a rig, or 3V coordinates of V vertices

Symbols of the paper:

| symbol | here | shape |
| --- | --- | --- |
| A, audio features | `audio` | (N, d) |
| A[k], audio features at the key frames | input of `KeyMotionDecoder` | (m, d) |
| K, key motions | `key_motions` | (m, out) |
| Φ, motion flow | `flow` | (N, d) |
| W, audio gate | `weight` in `AudioGate` | (N, d) |
| Z, gated mixture of A and Φ | `fused` | (N, d) |
| Y, motion | `motion` | (N, out) |

Frame n is at (n + 0.5) / fps seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kmtalk.errors import InputError
from kmtalk.motion.attention import DECODER_HEADS
from kmtalk.motion.completion import AdditiveFusion, AudioGate, MotionDecoder, interpolate_keys
from kmtalk.motion.finetuned_encoder import FineTunedEncoder
from kmtalk.motion.flow_encoder import MotionFlowEncoder
from kmtalk.motion.heads import OutputHead, PcaHead, RigHead, VertexHead
from kmtalk.motion.key_motion import KeyMotionDecoder
from kmtalk.motion.phone_input import PHONE_INPUT_DIM
from kmtalk.network_files import read_network_file, write_network_file
from kmtalk.tensor_checks import check_shapes, check_tensors
from kmtalk.user_files import check_user_file

STYLE_DIM = 16
"""Size of a style's embedding."""

KEY_PLACEMENTS = r"^(phones|apex|mixed|uniform(:(0\.\d+|1))?)$"
"""Regular expression of `NetworkConfig.key_placement`."""


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a network; saved with its weights.

    Attributes:
        encoder: Name of the speech encoder, as `kmtalk.speech.encoders.load_encoder` takes it.
        audio_dim: Width d of the audio features.
        d_model: Width f of the decoders and the flow encoder.
        num_heads: Attention heads of the flow encoder.
        num_layers: Transformer blocks in each of the flow encoder's three stacks.
        dropout: Dropout probability.
        ffn_multiplier: Width of the flow encoder's feed-forward layers as a multiple of `d_model`.
        head: Output layer: "rig" (weights of shapes), "vertices" (offsets) or "pca" (offsets on a basis).
        shape_names: Names of the rig's shapes that the training data move; the R outputs of `head` "rig".
        vertex_count: Number V of vertices of the mesh; `head` "vertices" and "pca" give 3V coordinates.
        components: Number of principal components; for `head` "pca".
        styles: Names of the S styles.
        audio_gate: Mix audio and flow by the audio gate; False adds them (the paper's ablation).
        use_key_motion: Predict key motions (LKMA); False sets them to zero (the paper's ablation).
        key_placement: "phones" or "uniform", see `kmtalk.motion.inference.select_key_frames`.
        residual_over_keys: CMC predicts the difference from a smooth interpolation of the key motions, so that the
            motion follows edited keys (ours); False decodes the motion from the latent alone, as in the paper.
        phone_input: Add a projection of the phones to the audio features (ours); False knows them from the sound alone,
            as in the paper.
        finetuned_encoder: JSON config of the wav2vec 2.0 that is trained with the network
            (`kmtalk.motion.finetuned_encoder`); "" for a frozen encoder.
    """

    encoder: str
    audio_dim: int
    d_model: int = 256
    num_heads: int = 8
    num_layers: int = 6
    dropout: float = 0.1
    ffn_multiplier: int = 2
    head: str = "rig"
    shape_names: tuple[str, ...] = ()
    vertex_count: int = 0
    components: int = 0
    styles: tuple[str, ...] = ("neutral",)
    audio_gate: bool = True
    use_key_motion: bool = True
    key_placement: str = "phones"
    residual_over_keys: bool = False
    phone_input: bool = False
    finetuned_encoder: str = ""

    @property
    def output_dim(self) -> int:
        """Numbers per frame of motion: R for a rig, else 3V."""
        return len(self.shape_names) if self.head == "rig" else 3 * self.vertex_count


@dataclass
class Batch:
    """Clips of different lengths, padded to one batch.

    Attributes:
        features: Audio features, shape (B, N, d); (B, N, c) for a fine-tuned encoder.
        times: Time of each frame in seconds, shape (B, N).
        frame_mask: True at real frames, False at padding, shape (B, N).
        key_frames: Frame indices of the keys, shape (B, M).
        key_mask: True at real keys, shape (B, M).
        style_weights: Share of each style, summing to one, shape (B, S).
        phones: Activity of the phones, shape (B, N, 2P) (`kmtalk.motion.phone_input.phone_activity`); zero, or None,
            where they are unknown.
        motion: Ground truth motion, shape (B, N, out); training only.
        bilabial_closure: 1 where p, b or m close the lips, else 0, shape (B, N); training only.
        key_edits: Amounts added to the key motions by an edit, shape (B, M, out).
        other_system_keys: Key motions of another system that replace those of LKMA, shape (B, M, out).
        ctc_targets: Phone classes of each clip, 1 to `len(kmtalk.articulation.targets.PHONES)`; training only.
    """

    features: Tensor
    times: Tensor
    frame_mask: Tensor
    key_frames: Tensor
    key_mask: Tensor
    style_weights: Tensor
    phones: Tensor | None = None
    motion: Tensor | None = None
    bilabial_closure: Tensor | None = None
    key_edits: Tensor | None = None
    other_system_keys: Tensor | None = None
    ctc_targets: list[Tensor] = field(default_factory=list)

    def to(self, device: torch.device) -> Batch:
        """Return the batch with all tensors on `device`."""

        def moved(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        values = {k: moved(v) for k, v in vars(self).items() if k != "ctc_targets"}
        return Batch(**values, ctc_targets=[p.to(device) for p in self.ctc_targets])  # type: ignore[arg-type]


class KMTalkNetwork(nn.Module):
    """LKMA and CMC together (KMTalk, Fig. 2).

    Args:
        config: Architecture.
        basis: Principal components, shape (K, 3V), for `head` "pca"; zeros where None (to be loaded).

    Attributes:
        config: Architecture.
        metadata: Facts saved with the weights, such as the seed and the training data.
        source: File that it was loaded from, for messages.
        feature_mean: Mean of the audio features, shape (d,).
        feature_std: Standard deviation of the audio features, shape (d,).
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, config: NetworkConfig, basis: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.metadata: dict[str, Any] = {}
        self.source = "the network"
        d, f = config.audio_dim, config.d_model
        self.finetuned_encoder = FineTunedEncoder(config.finetuned_encoder) if config.finetuned_encoder else None
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("feature_std", torch.ones(d))
        self.style_embeddings = nn.Parameter(torch.randn(len(config.styles), STYLE_DIM) * 0.5)
        self.style_projection = nn.Linear(STYLE_DIM, d)
        self.phone_projection = nn.Linear(PHONE_INPUT_DIM, d, bias=False) if config.phone_input else None

        def head() -> OutputHead:
            if config.head == "rig":
                return RigHead(f, config.output_dim)
            if config.head == "vertices":
                return VertexHead(f, config.output_dim)
            return PcaHead(f, torch.zeros(config.components, config.output_dim) if basis is None else basis)

        self.key_motion_decoder = KeyMotionDecoder(d, f, config.dropout, head())
        self.flow_encoder = MotionFlowEncoder(
            config.output_dim, d, f, config.num_heads, config.num_layers, config.dropout, config.ffn_multiplier
        )
        self.fusion: nn.Module = AudioGate(d) if config.audio_gate else AdditiveFusion()
        self.motion_decoder = MotionDecoder(d, f, config.dropout, head())

    def encode_audio(self, batch: Batch) -> Tensor:
        """Return the audio features A: standardised, with projections of style and phones added, shape (B, N, d)."""
        features = (
            batch.features
            if self.finetuned_encoder is None
            else self.finetuned_encoder(batch.features, batch.frame_mask)
        )
        audio = (features - self.feature_mean) / self.feature_std
        out: Tensor = audio + self.style_projection(batch.style_weights @ self.style_embeddings)[:, None]
        if self.phone_projection is not None and batch.phones is not None:
            out = out + self.phone_projection(batch.phones)
        return out

    def predict_keys(self, audio: Tensor, batch: Batch) -> Tensor:
        """Predict the key motions K by LKMA.

        Args:
            audio: Audio features of all frames, shape (B, N, d).
            batch: Key frames and their mask; its `other_system_keys` are returned instead where present.

        Returns:
            Key motions, shape (B, M, out).
        """
        if batch.other_system_keys is not None:
            return batch.other_system_keys
        if not self.config.use_key_motion:
            return torch.zeros(*batch.key_frames.shape, self.config.output_dim, device=audio.device)
        key_audio = audio.gather(1, batch.key_frames[..., None].expand(-1, -1, audio.shape[2]))
        out: Tensor = self.key_motion_decoder(key_audio, batch.times.gather(1, batch.key_frames), batch.key_mask)
        return out

    def complete_motion(self, audio: Tensor, key_motions: Tensor, batch: Batch) -> Tensor:
        """Complete the motion Y between key motions by CMC.

        Args:
            audio: Audio features, shape (B, N, d).
            key_motions: Key motions, shape (B, M, out).
            batch: Key frames, times and masks.

        Returns:
            Motion, shape (B, N, out).
        """
        flow = self.flow_encoder(key_motions, batch.key_frames, batch.key_mask, batch.times, batch.frame_mask)
        interpolated = (
            interpolate_keys(key_motions, batch.key_frames, batch.key_mask, batch.times.shape[1])
            if self.config.residual_over_keys
            else None
        )
        out: Tensor = self.motion_decoder(self.fusion(audio, flow), batch.times, batch.frame_mask, interpolated)
        return out

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predict key motions and complete the motion.

        Args:
            batch: Batch of features of shape (batch, frames, audio_dim), with times, masks, key frames and styles.

        Returns:
            key_motions: Tensor, shape (batch, keys, output_dim), with `batch.key_edits` added where present.
            motion: Tensor, shape (batch, frames, output_dim).
        """
        audio = self.encode_audio(batch)
        keys = self.predict_keys(audio, batch)
        if batch.key_edits is not None:
            keys = keys + batch.key_edits
        return keys, self.complete_motion(audio, keys, batch)

    def save(self, path: Path, metadata: dict[str, object] | None = None) -> None:
        """Write the network as safetensors: weights as float16, `config` and `metadata` in the file's header."""
        header = {"config": asdict(self.config), "metadata": metadata or {}}
        write_network_file(path, "kmtalk", header, self.state_dict())


def load_network(path: Path) -> KMTalkNetwork:
    """Load a network written by `KMTalkNetwork.save`, in evaluation mode.

    Raises:
        InputError: The file is missing, is not such a network, or is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such network weights")
    check_user_file(path)
    try:
        header, tensors = read_network_file(path, "kmtalk")
        config = NetworkConfig(**header["config"])
        _check_config(config, tensors)
        check_tensors(tensors, may_be_zero=r"\.head\.linear\.")
        if not (tensors["feature_std"] > 0).all():
            raise ValueError("feature_std holds values that are not above zero")
        with torch.random.fork_rng(devices=[]):  # its first weights, which are replaced, are random
            network = KMTalkNetwork(config)
        check_shapes(tensors, network.state_dict())
        network.load_state_dict(tensors)
        network.metadata, network.source = header["metadata"], str(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not network weights ({reason[:120]}); pass a file written by kmtalk train") from None
    return network.eval()


def _check_config(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a network cannot be built of a config from a file, or would be larger than its tensors."""
    limits = {
        "audio_dim": (1, 16_384),
        "d_model": (DECODER_HEADS, 16_384),
        "num_heads": (1, 256),
        "num_layers": (1, len(tensors)),
        "ffn_multiplier": (1, 16),
        "vertex_count": (0, 10_000_000),
        "components": (0, 100_000),
    }
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, not a whole number from {low:,} to {high:,}")
    if config.d_model % config.num_heads or config.d_model % DECODER_HEADS:
        raise ValueError(f"d_model is {config.d_model}, no multiple of {config.num_heads} and {DECODER_HEADS} heads")
    for name in ("audio_gate", "use_key_motion", "residual_over_keys", "phone_input"):
        if type(getattr(config, name)) is not bool:
            raise ValueError(f"{name} is neither true nor false")
    for name in ("encoder", "key_placement", "finetuned_encoder"):
        if not isinstance(getattr(config, name), str):
            raise ValueError(f"{name} is no text")
    if not re.match(KEY_PLACEMENTS, config.key_placement):
        raise ValueError(f"key_placement is {config.key_placement[:40]!r}, which is none")
    for name in ("shape_names", "styles"):
        names = getattr(config, name)
        if not isinstance(names, tuple) or not all(isinstance(one, str) for one in names):
            raise ValueError(f"{name} is no list of names")
    if config.head not in ("rig", "vertices", "pca") or not config.output_dim or not config.styles:
        raise ValueError("it has no output or no styles")
    if tuple(tensors["flow_encoder.motion_projection.weight"].shape) != (config.d_model, config.output_dim):
        raise ValueError("d_model or the outputs are not those of its tensors")
    if tuple(tensors["feature_mean"].shape) != (config.audio_dim,):
        raise ValueError("audio_dim is not that of its tensors")
    if config.finetuned_encoder:
        for name, value in json.loads(config.finetuned_encoder).items():
            limit = len(tensors) if name == "num_hidden_layers" else 16_384
            if isinstance(value, int) and not 0 <= value <= limit:
                raise ValueError(f"{name} of its encoder is {str(value)[:40]}")
    if not isinstance(config.dropout, int | float) or not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {str(config.dropout)[:40]}, not a share")
