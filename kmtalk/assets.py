"""Files that come with the package. (What needs torch to be read is weights.py's.)"""

from __future__ import annotations

from pathlib import Path

from kmtalk.errors import InputError


def asset_path(name: str) -> Path:
    """A file of assets/ or data/: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    for folder in (here / "assets", here / "data", here.parent / "assets", here.parent / "data"):
        if (folder / name).exists():
            return folder / name
    raise InputError(f"assets/{name} is missing from this installation; reinstall kmtalk")
