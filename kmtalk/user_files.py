"""Files that users give: only regular files are opened, and never more of one is read than it may hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from kmtalk.errors import InputError


def open_user_file(path: str | Path) -> BinaryIO:
    """Open a file for reading, without waiting for a pipe's writer or reading from a device.

    Raises:
        InputError: It does not exist, is a folder, pipe or device, or may not be read. The message names `path`.
    """
    try:
        # without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ValueError:  # a zero byte in the name
        raise InputError(f"{path!s}: is not a file's name") from None
    except OSError as error:
        kind = "is a folder; give a file" if os.path.isdir(path) else f"cannot be read ({error.strerror or error})"
        raise InputError(f"{path}: {kind}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder; give a file" if stat.S_ISDIR(mode) else "a pipe or device; save it to a file and give that"
        raise InputError(f"{path}: is {kind}")
    return os.fdopen(handle, "rb")


def check_user_file(path: str | Path, limit: int | None = None) -> int:
    """Check that a library may open a file by its name.

    Args:
        path: The file.
        limit: The most bytes that it may hold; None: any number.

    Returns:
        Its size in bytes.

    Raises:
        InputError: It cannot be opened by `open_user_file`, or is larger than `limit`.
    """
    with open_user_file(path) as file:
        size = os.fstat(file.fileno()).st_size
    if limit is not None and size > limit:
        raise InputError(f"{path}: holds {size / 1e6:,.0f} MB; such a file may hold {limit / 1e6:,.0f} MB")
    return size


def read_user_file(path: str | Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        InputError: It cannot be opened by `open_user_file`, cannot be read, or is larger than `limit`.
    """
    with open_user_file(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(data) > limit:
        raise InputError(f"{path}: is larger than the {limit / 1e6:,.2g} MB that such a file may hold")
    return data
