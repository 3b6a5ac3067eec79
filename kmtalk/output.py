"""Atomic output: files are written under a temporary name and renamed when complete."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kmtalk.errors import InputError

OUTPUT_SUFFIXES = frozenset(
    {
        ".abc",
        ".anim",
        ".csv",
        ".fbx",
        ".glb",
        ".html",
        ".json",
        ".jsonl",
        ".kmrig",
        ".mdd",
        ".mp4",
        ".npz",
        ".obj",
        ".pc2",
    }
    | {".png", ".textgrid", ".tsv", ".usd", ".usda", ".usdc", ".vrm", ".vrma"}
)
"""Suffixes of the files that the commands write; a path with any other suffix is a folder."""


def check_writable(path: str | Path) -> None:
    """Raise InputError if nothing can be written at `path`; call it before long computations."""
    path = Path(path)
    if path.is_dir() and path.suffix.lower() in OUTPUT_SUFFIXES:
        raise InputError(f"{path}: is a folder; a {path.suffix} file cannot be written there")
    if path.is_file() and path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise InputError(
            f"{path}: is an existing file of a type that kmtalk does not write; pass -o a folder or another file name"
        )
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
    """Context manager that yields a temporary path and moves it to `path` on success.

    If `path` is an existing folder, the new files are moved into it one by one and its other files stay. On failure
    nothing is left behind.

    Args:
        path: The file or folder to write.

    Yields:
        A temporary path beside `path`, with the same name.

    Raises:
        InputError: `path` cannot be written.
    """
    check_writable(path)
    new_parents = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
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
        _remove_empty(new_parents)
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        _remove_empty(new_parents)
        raise


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, inner ones first, that are still empty; another process may have written into them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
