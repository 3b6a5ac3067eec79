"""Files that are shipped with the package. This module does not import torch; `weights` loads the models."""

from __future__ import annotations

from pathlib import Path

from kmtalk.errors import InputError


def asset_path(name: str) -> Path:
    """Path of a file in assets/ or data/, in the installed package or in a source checkout.

    Raises:
        InputError: The file is missing.
    """
    package = Path(__file__).parent
    for folder in (package / "assets", package / "data", package.parent / "assets", package.parent / "data"):
        if (folder / name).exists():
            return folder / name
    raise InputError(f"assets/{name} is missing from this installation; reinstall kmtalk")
