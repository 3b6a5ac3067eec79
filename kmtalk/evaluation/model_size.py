"""Size of a config's network and its cost per second of audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.rig import load_light_head
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig, load_network
from kmtalk.mouth_animator import NETWORK_FILE
from kmtalk.speech.encoders import load_encoder
from kmtalk.training.config import TrainingConfig, load_config

MESH_SIZES = {"vocaset": (5023, 30.0), "biwi": (23370, 25.0)}
"""Number of vertices and frame rate of the licensed corpora."""

CLIP_SECONDS = 4.0  # length of the clip on which operations are counted
KEY_SHARE = 0.33  # share of key frames; the paper reports 32.5 % on BIWI


@dataclass(frozen=True)
class ModelSize:
    """Size of a network, without the speech encoder.

    Attributes:
        vertices: Number of vertices of the mesh.
        key_motion: Parameters of LKMA's key motion decoder.
        flow_encoder: Parameters of the motion flow encoder.
        completion: Parameters of CMC's fusion and motion decoder.
        flops: Floating-point operations per second of audio.
    """

    vertices: int
    key_motion: int
    flow_encoder: int
    completion: int
    flops: float

    @property
    def total(self) -> int:
        """Parameters in all."""
        return self.key_motion + self.flow_encoder + self.completion


def measure_model_size(
    config: TrainingConfig, dimension: int, vertices: int, names: Sequence[str], fps: float
) -> ModelSize:
    """Count parameters, and the operations of a forward pass over `CLIP_SECONDS`, on the network itself.

    Args:
        config: Training config.
        dimension: Dimension d of the audio features.
        vertices: Number of vertices of the mesh.
        names: Names of the rig's shapes; empty for vertices.
        fps: Frames per second.

    Returns:
        The size.
    """
    network_config = NetworkConfig(
        encoder=config.encoder,
        audio_dim=dimension,
        shape_names=tuple(names),
        vertex_count=vertices,
        key_placement=config.key_placement,
        **config.network.model_dump(),
    )
    count = round(CLIP_SECONDS * fps)
    key_frames = np.unique(np.linspace(0, count - 1, round(KEY_SHARE * count)).round().astype(int))
    with torch.device("meta"):
        network = KMTalkNetwork(network_config)
        batch = Batch(
            torch.zeros(1, count, dimension),
            torch.zeros(1, count),
            torch.ones(1, count, dtype=torch.bool),
            torch.zeros(1, len(key_frames), dtype=torch.int64),
            torch.ones(1, len(key_frames), dtype=torch.bool),
            torch.zeros(1, len(network_config.styles)),
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(batch)

    def size(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    cmc = size(network.fusion) + size(network.motion_decoder)
    return ModelSize(
        vertices,
        size(network.key_motion_decoder),
        size(network.flow_encoder),
        cmc,
        counter.get_total_flops() / CLIP_SECONDS,
    )


def _encoder_dim(encoder: str) -> int:
    """Dimension d of an encoder's features; wav2vec 2.0's is derived from its name to avoid a download."""
    if encoder.startswith("wav2vec2"):
        return 1024 if "large" in encoder else 768
    return load_encoder(encoder).dimension


def format_size_table(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the lines of a size table, one per config.

    Each config is counted for its corpus' mesh: VOCASET's 5023 vertices, BIWI's 23370, or kmtalk's own head. Raises
    InputError for a config whose corpus has no known mesh.
    """
    columns = f"{'config':16s} {'out':>7s} {'LKMA':>12s} {'flow':>12s} {'CMC':>12s} {'whole':>12s}"
    yield f"{columns}  GFLOP per second of audio"
    for path in paths:
        config = load_config(path)
        kind = config.corpora[0].kind
        vertices, fps = MESH_SIZES.get(kind, (0, 30.0))
        names: tuple[str, ...] = ()
        if not config.corpora[0].has_vertices:
            rig = load_light_head()
            vertices, names = len(rig.template.vertices), load_network(asset_path(NETWORK_FILE)).config.shape_names
        if not vertices:
            raise InputError(
                f"{path}: the number of vertices of a {kind} corpus is unknown; sizes are for vocaset and biwi"
            )
        size = measure_model_size(config, _encoder_dim(config.encoder), vertices, names, fps)
        outputs = len(names) if config.network.head == "rig" else 3 * vertices
        yield (
            f"{path.stem:16s} {outputs:7d} {size.key_motion:12,d} {size.flow_encoder:12,d} {size.completion:12,d} "
            f"{size.total:12,d}  {size.flops / 1e9:.2f} at {fps:g} fps"
        )
    yield "parameters, and operations of matrix products in the forward pass, both without the speech encoder"
