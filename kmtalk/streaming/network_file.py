"""Files of streaming networks: safetensors with the configuration in the header."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from kmtalk.errors import InputError
from kmtalk.network_files import read_network_file, write_network_file
from kmtalk.streaming.encoders import load_streaming_encoder
from kmtalk.streaming.model import StreamingConfig, StreamingNetwork
from kmtalk.tensor_checks import check_shapes, check_tensors
from kmtalk.user_files import check_user_file

KIND = "kmtalk-streaming"
"""Name of the configuration in the file's header."""

_LIMITS = {
    "look_back": (1, 1000),
    "d_model": (16, 4096),
    "num_heads": (1, 64),
    "ffn_multiplier": (1, 16),
    "kernel": (1, 63),
    "encoder_look_back": (1, 1000),
}


def save_streaming_network(network: StreamingNetwork, path: Path, metadata: dict[str, object] | None = None) -> None:
    """Write the network without its encoder: weights as float16, `config` and `metadata` in the file's header."""
    header = {"config": asdict(network.config), "metadata": metadata or {}}
    write_network_file(path, KIND, header, _own_weights(network))


def load_streaming_network(path: Path) -> StreamingNetwork:
    """Load a network written by `save_streaming_network`, in evaluation mode.

    Raises:
        InputError: The file is missing, is not such a network, or is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such streaming network")
    check_user_file(path)
    try:
        header, tensors = read_network_file(path, KIND)
        if "encoder" not in header["config"]:  # it would hear other bands than those that it learnt from
            raise ValueError("it names no encoder; train it again")
        config = StreamingConfig(**header["config"])
        _check_config(config)
        check_tensors(tensors)
        if not (tensors["motion_std"] > 0).all():
            raise ValueError("a deviation is not above zero")
        encoder = load_streaming_encoder(config.encoder, config.encoder_look_ahead, config.encoder_look_back)
        with torch.device("meta"):
            expected = _own_weights(StreamingNetwork(config, encoder))
        check_shapes(tensors, expected)
        with torch.random.fork_rng(devices=[]):  # its first weights, which are replaced, are random
            network = StreamingNetwork(config, encoder)
        network.load_state_dict(tensors, strict=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except KeyError:
        raise InputError(
            f"{path}: no streaming network; pass a file that kmtalk train wrote for a config with look_ahead"
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: not a streaming network ({reason[:120]}); pass a file written by kmtalk train"
        ) from None
    return network.eval()


def _own_weights(network: StreamingNetwork) -> dict[str, Tensor]:
    """Return what belongs in the network's file: all but its encoder."""
    return {name: value for name, value in network.state_dict().items() if not name.startswith("encoder.")}


def _check_config(config: StreamingConfig) -> None:
    """Raise ValueError where a network cannot be built of a config from a file, or would be too large."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(config, name)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, not a whole number from {low} to {high}")
    for name, fewest in (("look_ahead", 1), ("encoder_look_ahead", 0)):
        ahead = getattr(config, name)
        if not isinstance(ahead, tuple) or not fewest <= len(ahead) <= 64:
            raise ValueError(f"{name} is no list of {fewest} to 64 numbers")
        if not all(type(n) is int and 0 <= n <= 100 for n in ahead):
            raise ValueError(f"{name} has values that are no whole numbers from 0 to 100")
    if not isinstance(config.encoder, str):
        raise ValueError("encoder is no name")
    if config.d_model % (2 * config.num_heads) or config.kernel % 2 == 0:
        raise ValueError("d_model is no multiple of twice num_heads, or kernel is even")
    for name in ("shape_names", "styles"):
        names = getattr(config, name)
        if not isinstance(names, tuple) or not names or not all(isinstance(one, str) for one in names):
            raise ValueError(f"{name} is no list of names")
