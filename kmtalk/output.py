"""Atomic output: files are written under a temporary name and renamed when complete."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kmtalk.errors import InputError
from kmtalk.working_folders import FILES_NAME, move_files, working_folder

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

FULL_BYTES = 65536
"""A disk with less free space is full."""

_REASONS = {
    errno.EACCES: "no permission; write to another folder",
    errno.EPERM: "no permission; write to another folder",
    errno.EROFS: "the disk is read-only; write to another one",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.EFBIG: "the file would be larger than it may be there; write to another disk",
}


@dataclass(frozen=True)
class PlannedFiles:
    """The files that a command is going to write.

    Attributes:
        files: Their paths.
        patterns: Further files, whose names are known only later: a folder, and a regular expression that their names
            match as a whole.
    """

    files: tuple[Path, ...]
    patterns: tuple[tuple[Path, str], ...] = ()


def check_writable(path: str | Path) -> None:
    """Raise InputError if nothing can be written at `path`; call it before long computations."""
    path = Path(path)
    try:
        if path.is_dir() and path.suffix.lower() in OUTPUT_SUFFIXES:
            raise InputError(f"{path}: is a folder; a {path.suffix} file cannot be written there")
        if path.is_file() and path.suffix.lower() not in OUTPUT_SUFFIXES:
            raise InputError(
                f"{path}: is an existing file of a type that kmtalk does not write; pass -o a folder or another file "
                "name"
            )
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # raises where the name is too long
        parent = path if path.is_dir() else path.parent
        while not parent.exists():
            parent = parent.parent
        with working_folder(parent):
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def check_planned(planned: PlannedFiles, inputs: Iterable[str | Path | None]) -> None:
    """Raise InputError where a file to be written would replace an input, is a folder, or has too long a name."""
    given = [Path(name) for name in inputs if name]
    for path in planned.files:
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unwritable(path, error) from None
        if any(_is_same(path, other) for other in given):
            raise InputError(f"{path}: is an input; write to another file or folder")
        if path.is_dir():
            raise InputError(f"{path}: is a folder where a file is to be written; write to another file or folder")
    for folder, pattern in planned.patterns:
        for other in given:
            is_match = re.fullmatch(pattern, other.name, re.IGNORECASE) is not None
            if is_match and _is_same(folder, other.parent) and other.is_file():
                raise InputError(f"{other}: is an input, which would be replaced; write to another file or folder")


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # not a path: a text, or a model's name
        return False


@contextmanager
def atomic_write(path: Path, subject: Path | None = None) -> Iterator[Path]:
    """Context manager that yields a temporary path and moves it to `path` on success.

    If `path` is an existing folder, the new files are moved into it, all of them even if the process is killed
    meanwhile (the next command in that folder moves the rest), and its other files stay. On failure nothing is left
    behind.

    Args:
        path: The file or folder to write.
        subject: What error messages are about; None for `path`.

    Yields:
        A temporary path near `path`; of a file with the same name.

    Raises:
        InputError: `path` cannot be written.
    """
    check_writable(path)
    new_parents = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(path if path.is_dir() else path.parent) as folder:
            temporary = folder / FILES_NAME / (path.resolve().name or "root")
            _final[temporary] = path
            try:  # what is full is seen before the working folder is removed
                yield temporary
                if temporary.is_dir():
                    _place_folder(temporary, path)
                elif temporary.exists():
                    temporary.replace(path)
            except OSError as error:
                raise unwritable(subject or path, error) from None
            except InputError:
                raise
            except UnicodeEncodeError:
                raise InputError(
                    f"{subject or path}: its name or its folder's is not UTF-8; give another one"
                ) from None
            except Exception as error:
                if full_disk(path) is not None:  # libraries have errors of their own for it
                    raise unwritable(subject or path, OSError(errno.ENOSPC, str(error))) from None
                raise
            finally:
                del _final[temporary]
    except OSError as error:
        _remove_empty(new_parents)
        raise unwritable(subject or path, error) from None
    except BaseException:
        _remove_empty(new_parents)
        raise


_final: dict[Path, Path] = {}
"""The places of the temporary paths that are being written."""


def final_path(temporary: Path) -> Path:
    """Return where a temporary path of `atomic_write`, or one in it, will lie; any other path as it is."""
    for above in (temporary, *temporary.parents):
        if above in _final:
            return _final[above] / temporary.relative_to(above)
    return temporary


def _place_folder(made: Path, path: Path) -> None:
    """Move a folder that was made to its place, or its files into the folder that is there."""
    if not path.is_dir():
        try:
            made.rename(path)
            return
        except OSError:
            if not path.is_dir():  # another process has just made it
                raise
    move_files(made, path)


def unwritable(path: Path, error: OSError) -> InputError:
    """The InputError for an error of the file system: it names the file and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = full_disk(path)
        where = "the disk" if place is None or place == _existing(path) else f"the disk of {place}"
        return InputError(f"{path}: cannot be written ({where} is full; free some space or write to another one)")
    return InputError(f"{path}: cannot be written ({_REASONS.get(error.errno or 0) or error.strerror or error})")


def full_disk(path: Path) -> Path | None:
    """The folder whose disk is full: that of `path`, or the one for temporary files; None where neither is."""
    for place in (_existing(path), Path(tempfile.gettempdir())):
        with suppress(OSError):
            if shutil.disk_usage(place).free < FULL_BYTES:
                return place
    return None


def _existing(path: Path) -> Path:
    """The folder of a path that exists already."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders, inner ones first, that are still empty; another process may have written into them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
