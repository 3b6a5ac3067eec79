"""Arrays in files that users give: .npz and .npy without pickle, whose sizes are checked before anything is read."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from kmtalk.user_files import check_user_file

ARRAY_KINDS = "biufUS"
"""Kinds of numpy dtypes that are read: truth values, numbers and text."""
MAX_MEMBERS = 4096
FREE_BYTES, MAX_EXPANSION = 256 << 20, 8
"""What the arrays of an .npz may hold: this many bytes, and this many times the size of their file."""


def load_arrays(path: Path, skip: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file.

    The sizes in the zip file's directory and in the arrays' headers are compared before memory is taken, so that a
    small file cannot ask for much.

    Args:
        path: The file.
        skip: Names of arrays that are not read.

    Returns:
        Name → array.

    Raises:
        InputError: `path` is no regular file, or may not be read.
        ValueError: It is not a complete .npz of numbers and text, or would take too much memory. The message does not
            name the file.
    """
    allowed = FREE_BYTES + MAX_EXPANSION * check_user_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy") and info.filename.removesuffix(".npy") not in skip
            }
            if len(members) > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS} arrays")
            total = sum(info.file_size for info in members.values())
            if total > allowed:
                raise ValueError(f"its arrays would take {total / 1e6:,.0f} MB")
            return {name: _read_member(archive, name, info) for name, info in members.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def open_array(path: Path) -> np.ndarray:
    """Map the array of an .npy file into memory, read-only.

    Raises:
        InputError: `path` is no regular file, or may not be read.
        ValueError: It is not a complete .npy of numbers or text. The message does not name the file.
    """
    check_user_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, OverflowError, TypeError, SyntaxError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an .npz")
    if array.dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"it holds {array.dtype}")
    return array


def _read_member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, after its header and its size in the directory were found to agree."""
    with archive.open(info) as file:
        shape, dtype = _read_header(file, name)
        if dtype.kind not in ARRAY_KINDS:
            raise ValueError(f"{name} holds {dtype}")
        size = math.prod(shape) * max(dtype.itemsize, 1)
        if min(shape, default=0) < 0 or file.tell() + size != info.file_size:
            raise ValueError(f"{name} is not as long as its header says")
    with archive.open(info) as file:
        values: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # at the end, zipfile compares the checksum
    return values


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name} has a header of version {version[0]}")
    shape, _, dtype = readers[version](file)
    return shape, dtype
