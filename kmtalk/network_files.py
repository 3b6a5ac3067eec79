"""Files of networks: safetensors with a description of the network in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def write_network_file(
    path: Path, kind: str, header: Mapping[str, object], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write tensors as float16, with `header` as JSON under the name `kind` in the file's metadata."""
    halves = {k: v.detach().to(torch.float16).contiguous().cpu() for k, v in tensors.items()}
    temporary = path.with_suffix(".part")
    save_file(halves, temporary, metadata={kind: json.dumps(header, sort_keys=True)})
    temporary.chmod(0o644)  # safetensors writes for the owner alone
    temporary.replace(path)


def network_kind(path: Path) -> str:
    """Return the kind under which a file's network was written, and "" where the file is none or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return next(iter(file.metadata() or {}), "")
    except Exception:  # whoever loads the file says what is wrong with it
        return ""


def read_network_file(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the fields of the network's configuration, with tuples for lists, under "config", the header's "metadata",
    and the tensors as float32.

    Raises:
        KeyError: The file holds another kind of network.
        Exception: The file is damaged; safetensors and json raise what they will.
    """
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {})[kind])
        tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()}
    return {"config": config, "metadata": dict(header.get("metadata", {}))}, tensors
