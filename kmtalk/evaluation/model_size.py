"""How large a config's network is, and what a second of sound costs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.rig import load_rig
from kmtalk.motion.model import Batch, KMTalkNetwork, NetworkConfig, load_network
from kmtalk.pipeline import NETWORK_FILE
from kmtalk.speech.encoders import load_encoder
from kmtalk.training.config import TrainingConfig, load_config

MESH_SIZES = {"vocaset": (5023, 30.0), "biwi": (23370, 25.0)}
"""Vertices and rate of the licensed corpora."""

CLIP_SECONDS = 4.0
KEY_SHARE = 0.33  # of the frames; the paper counts 32.5 % on BIWI


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the parts, without the speech encoder, and floating-point operations a second of sound."""

    vertices: int
    key_motion: int
    flow_encoder: int
    completion: int
    flops: float

    @property
    def total(self) -> int:
        return self.key_motion + self.flow_encoder + self.completion


def measure_model_size(
    config: TrainingConfig, dimension: int, vertices: int, names: Sequence[str], fps: float
) -> ModelSize:
    """Counted on the network itself: parameters, and the operations of a forward pass over SECONDS at ``fps``."""
    shape = NetworkConfig(
        encoder=config.encoder,
        audio_dim=dimension,
        shape_names=tuple(names),
        vertices=vertices,
        key_placement=config.key_placement,
        **config.network.model_dump(),
    )
    count = round(CLIP_SECONDS * fps)
    at = np.unique(np.linspace(0, count - 1, round(KEY_SHARE * count)).round().astype(int))
    with torch.device("meta"):
        network = KMTalkNetwork(shape)
        batch = Batch(
            torch.zeros(1, count, dimension),
            torch.zeros(1, count),
            torch.ones(1, count, dtype=torch.bool),
            torch.zeros(1, len(at), dtype=torch.int64),
            torch.ones(1, len(at), dtype=torch.bool),
            torch.zeros(1, len(shape.styles)),
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
    """d of an encoder; of wav2vec 2.0 by its name, so that nothing need be downloaded for a table."""
    if encoder.startswith("wav2vec2"):
        return 1024 if "large" in encoder else 768
    return load_encoder(encoder).dimension


def format_size_table(paths: Sequence[Path]) -> Iterator[str]:
    """A table: one line a config, counted for its corpus' mesh (VOCASET's 5023 vertices, BIWI's 23370, ours)."""
    yield f"{'config':16s} {'out':>7s} {'LKMA':>12s} {'flow':>12s} {'CMC':>12s} {'whole':>12s}  GFLOP a second of sound"
    for path in paths:
        config = load_config(path)
        kind = config.corpora[0].kind
        vertices, fps = MESH_SIZES.get(kind, (0, 30.0))
        names: tuple[str, ...] = ()
        if not config.corpora[0].has_vertices:
            rig = load_rig(asset_path("head.safetensors"))
            vertices, names = len(rig.template.vertices), load_network(asset_path(NETWORK_FILE)).config.shape_names
        if not vertices:
            raise InputError(f"{path}: how many vertices a {kind} has is not known; size is for vocaset and biwi")
        found = measure_model_size(config, _encoder_dim(config.encoder), vertices, names, fps)
        out = len(names) if config.network.head == "rig" else 3 * vertices
        yield (
            f"{path.stem:16s} {out:7d} {found.key_motion:12,d} {found.flow_encoder:12,d} {found.completion:12,d} "
            f"{found.total:12,d}  {found.flops / 1e9:.2f} at {fps:g} fps"
        )
    yield "parameters without the speech encoder; operations of matrix products, forward, without the encoder"
