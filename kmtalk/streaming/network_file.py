"""Files of streaming networks: safetensors with the configuration in the header."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from kmtalk.errors import InputError
from kmtalk.network_files import read_network_file, write_network_file
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
}


def save_streaming_network(network: StreamingNetwork, path: Path, metadata: dict[str, object] | None = None) -> None:
    """Write the network: weights as float16, `config` and `metadata` in the file's header."""
    header = {"config": asdict(network.config), "metadata": metadata or {}}
    write_network_file(path, KIND, header, network.state_dict())


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
        config = StreamingConfig(**header["config"])
        _check_config(config)
        check_tensors(tensors)
        if not (tensors["motion_std"] > 0).all():
            raise ValueError("a deviation is not above zero")
        with torch.device("meta"):
            expected = StreamingNetwork(config).state_dict()
        check_shapes(tensors, expected)
        with torch.random.fork_rng(devices=[]):  # its first weights, which are replaced, are random
            network = StreamingNetwork(config)
        network.load_state_dict(tensors)
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


def _check_config(config: StreamingConfig) -> None:
    """Raise ValueError where a network cannot be built of a config from a file, or would be too large."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(config, name)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, not a whole number from {low} to {high}")
    ahead = config.look_ahead
    if not isinstance(ahead, tuple) or not 1 <= len(ahead) <= 64:
        raise ValueError("look_ahead is no list of 1 to 64 numbers")
    if not all(type(n) is int and 0 <= n <= 100 for n in ahead):
        raise ValueError("look_ahead has values that are no whole numbers from 0 to 100")
    if config.d_model % (2 * config.num_heads) or config.kernel % 2 == 0:
        raise ValueError("d_model is no multiple of twice num_heads, or kernel is even")
    for name in ("shape_names", "styles"):
        names = getattr(config, name)
        if not isinstance(names, tuple) or not names or not all(isinstance(one, str) for one in names):
            raise ValueError(f"{name} is no list of names")
