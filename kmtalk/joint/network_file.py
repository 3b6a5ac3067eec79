"""Files of the joint network: safetensors with its configuration in the header."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from kmtalk.errors import InputError
from kmtalk.joint.couplings import COUPLINGS
from kmtalk.joint.model import JointConfig, JointNetwork
from kmtalk.joint.motion_stream import channel_names
from kmtalk.network_files import read_network_file, write_network_file
from kmtalk.tensor_checks import check_shapes, check_tensors
from kmtalk.user_files import check_user_file

KIND = "kmtalk-joint"
"""Name of the configuration in the file's header."""

_LIMITS = {
    "d_model": (16, 4096),
    "num_layers": (1, 64),
    "num_heads": (1, 64),
    "ffn_multiplier": (1, 16),
    "kernel": (1, 63),
    "token_layers": (0, 64),
    "condition_dim": (8, 4096),
}


def save_joint_network(network: JointNetwork, path: Path, metadata: dict[str, object] | None = None) -> None:
    """Write the network as safetensors: weights as float16, `config` and `metadata` in the file's header."""
    header = {"config": asdict(network.config), "metadata": metadata or {}}
    write_network_file(path, KIND, header, _own_tensors(network))


def _own_tensors(network: JointNetwork) -> dict[str, torch.Tensor]:
    """Tensors by name, without the second name of shared weights."""
    shared = network.config.coupling == "ste"
    return {k: v for k, v in network.state_dict().items() if not (shared and k.startswith("cross_to_motion."))}


def load_joint_network(path: Path) -> JointNetwork:
    """Load a network written by `save_joint_network`, in evaluation mode.

    Raises:
        InputError: The file is missing, is not such a network, or is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such joint network")
    check_user_file(path)
    try:
        header, tensors = read_network_file(path, KIND)
        config = JointConfig(**header["config"])
        _check_config(config)
        check_tensors(tensors)
        if not ((tensors["mel_std"] > 0).all() and (tensors["motion_std"] > 0).all()):
            raise ValueError("a deviation is not above zero")
        with torch.device("meta"):
            expected = _own_tensors(JointNetwork(config))
        check_shapes(tensors, expected)
        with torch.random.fork_rng(devices=[]):  # its first weights, which are replaced, are random
            network = JointNetwork(config)
        network.load_state_dict(tensors, strict=config.coupling != "ste")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except KeyError:
        raise InputError(
            f"{path}: no joint network; pass a file that kmtalk train wrote for a config with a coupling"
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a joint network ({reason[:120]}); pass a file written by kmtalk train") from None
    return network.eval()


def _check_config(config: JointConfig) -> None:
    """Raise ValueError where a network cannot be built of a config from a file, or would be too large."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(config, name)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{name} is {str(value)[:40]}, not a whole number from {low} to {high}")
    if type(config.listens) is not bool:
        raise ValueError("listens is neither true nor false")
    encoder, count = config.character_encoder, config.num_characters
    if type(encoder) is not str or type(count) is not int or bool(encoder) != bool(count) or not 0 <= count <= 10_000:
        raise ValueError("character_encoder and num_characters are no encoder and its number of characters")
    if config.coupling not in COUPLINGS:
        raise ValueError(f"coupling is {str(config.coupling)[:40]!r}, which is none")
    if config.d_model % (2 * config.num_heads) or config.kernel % 2 == 0:
        raise ValueError("d_model is no multiple of twice num_heads, or kernel is even")
    for name in ("attention_seconds", "coupling_seconds"):
        if not isinstance(getattr(config, name), int | float) or not 0 < getattr(config, name) < 1000:
            raise ValueError(f"{name} is no time in seconds")
    for name in ("shape_names", "channels", "styles"):
        names = getattr(config, name)
        if not isinstance(names, tuple) or not names or not all(isinstance(one, str) for one in names):
            raise ValueError(f"{name} is no list of names")
    if config.channels != channel_names(config.shape_names):
        raise ValueError("channels are not those of its shapes")
