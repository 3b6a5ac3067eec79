"""Working folders: files are made in them, beside the place where they are to be, and moved there when complete.

The process that makes a working folder holds a lock on a file in it, which the system releases when the process dies.
So the next process that works in the same place removes what a killed one left, and finishes a move that was begun:
a journal in the working folder says that its files are complete, and where they belong.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing is swept
    fcntl = None  # type: ignore[assignment]

LOCK_NAME, JOURNAL_NAME, FILES_NAME = "lock", "journal.json", "files"
TARGET_LOCK_NAME = ".kmtalk-lock"
_HOST = hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:6]
_NAME = re.compile(rf"\.?kmtalk-{_HOST}-[a-z0-9_]{{8}}")


@contextmanager
def working_folder(parent: Path, hidden: bool = True) -> Iterator[Path]:
    """Context manager that yields a new folder and removes it at the end; first it sweeps its parent (`sweep`).

    Args:
        parent: The folder in which it is made.
        hidden: Whether its name begins with a dot.

    Yields:
        The folder. It contains the empty folder "files"; once it contains a journal, too, it is kept if an error ends
        the context, so that the move of its files is finished later.

    Raises:
        OSError: It cannot be made.
    """
    sweep(parent)
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f"{'.' * hidden}kmtalk-{_HOST}-"))
        try:
            lock = _lock(folder / LOCK_NAME)
            break
        except FileNotFoundError:  # another process took it for a dead one's, in the moment before it was locked
            continue
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    try:
        (folder / FILES_NAME).mkdir()
        yield folder
    except BaseException:
        if not (folder / JOURNAL_NAME).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Context manager that yields a new folder in the system's folder for temporary files, and removes it at the end.

    Raises:
        OSError: It cannot be made.
    """
    with working_folder(Path(tempfile.gettempdir()), hidden=False) as folder:
        yield folder / FILES_NAME


def move_files(files: Path, target: Path) -> None:
    """Move the files of a folder into another one, so that a kill cannot leave some of them unmoved.

    Files of the same names are replaced, others stay. Two processes do not do this in one folder at once.

    Args:
        files: A folder in the "files" of a working folder, which is in `target` or beside it.
        target: The folder.

    Raises:
        OSError: A file cannot be moved.
    """
    folder = files.parent.parent
    journal, part = folder / JOURNAL_NAME, folder / "journal.part"
    place = "." if target.samefile(folder.parent) else target.name
    part.write_text(json.dumps({"files": files.name, "target": place}))
    with _locked_target(target):
        _sweep(target, locked=target)
        for item in files.rglob("*"):
            if not item.is_dir() and (target / item.relative_to(files)).is_dir():
                raise IsADirectoryError(errno.EISDIR, "a folder is where a file should be", item.name)
        part.replace(journal)
        try:
            _move(files, target)
        except KeyboardInterrupt:
            _move(files, target)
            raise
        finally:
            if not any(not p.is_dir() for p in files.rglob("*")):
                journal.unlink()


def sweep(parent: Path) -> None:
    """Remove working folders in `parent` of processes of this user and host that died, and finish their moves.

    What cannot be read, locked or removed is left as it is.
    """
    _sweep(parent)


def _sweep(parent: Path, locked: Path | None = None) -> None:
    try:
        names = [entry.name for entry in os.scandir(parent) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for name in sorted(names):
        folder = parent / name
        with suppress(OSError, ValueError):
            about = folder.lstat()
            if fcntl is None or about.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
                continue
            lock = _lock(folder / LOCK_NAME, wait=False)
            if lock is None:
                continue
            try:
                if (folder / JOURNAL_NAME).is_file():
                    journal = json.loads((folder / JOURNAL_NAME).read_text())
                    files, target = Path(journal["files"]).name, Path(journal["target"]).name  # nowhere else
                    _finish(folder / FILES_NAME / files, parent / target, locked)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
    left = parent / TARGET_LOCK_NAME
    with suppress(OSError):
        if locked is None and left.is_file() and (lock := _lock(left, wait=False)) is not None:
            left.unlink()
            os.close(lock)


def _finish(files: Path, target: Path, locked: Path | None) -> None:
    """Finish the move of a dead process into its working folder's parent or a folder in that."""
    if not target.is_dir():
        return
    if locked is not None and target.samefile(locked):
        _move(files, target)
    else:
        with _locked_target(target):
            _move(files, target)


def _move(files: Path, target: Path) -> None:
    for item in sorted(files.rglob("*")):
        place = target / item.relative_to(files)
        if item.is_dir():
            place.mkdir(exist_ok=True)
        else:
            item.replace(place)


@contextmanager
def _locked_target(target: Path) -> Iterator[None]:
    """Hold the lock of a folder into which files are moved; other processes wait for it."""
    path = target / TARGET_LOCK_NAME
    lock = _lock(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        if lock is not None:
            os.close(lock)


def _lock(path: Path, wait: bool = True) -> int | None:
    """Create and lock a file; return its descriptor, or None where another process holds it or nothing can be locked.

    Raises:
        OSError: The file cannot be created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        if fcntl is None:
            return descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # held by another; or a file system without locks
            os.close(descriptor)
            return None
        try:
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # the one that held it has removed it
