"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kmtalk.errors import InputError

WRITTEN_SUFFIXES = frozenset(
    {".abc", ".csv", ".glb", ".html", ".json", ".jsonl", ".kmrig", ".mdd", ".mp4", ".npz", ".obj", ".pc2", ".png"}
    | {".textgrid", ".tsv", ".usd", ".usda", ".usdc"}
)
"""Suffixes of files that some command writes; any other path is a folder."""


def check_writable(path: str | Path) -> None:
    """Raise InputError where nothing can be written at ``path``, before long work begins."""
    path = Path(path)
    if path.is_dir() and path.suffix.lower() in WRITTEN_SUFFIXES:
        raise InputError(f"{path}: is a folder, and a {path.suffix} file is to be written there")
    if path.is_file() and path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise InputError(f"{path}: is a file; -o takes a folder, or a file of a kind that kmtalk writes")
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".kmtalk-"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place only when all is written.

    Into a folder that is there already the new files are moved one by one; others stay.
    """
    check_writable(path)
    made = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kmtalk-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            if temporary.is_dir() and path.is_dir():
                for item in sorted(temporary.rglob("*")):
                    target = path / item.relative_to(temporary)
                    if item.is_dir():
                        target.mkdir(exist_ok=True)
                    else:
                        item.replace(target)
            elif temporary.exists():
                temporary.replace(path)
    except OSError as error:
        _drop_empty(made)
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        _drop_empty(made)
        raise


def _drop_empty(folders: list[Path]) -> None:
    """Remove folders, inner ones first, that are still empty: another run may have written there."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
