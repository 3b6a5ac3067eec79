"""Safe reader for the pickles in which research data sets are published.

No code from the pickle is run and no numpy object is unpickled: arrays of numbers and text are built here from the
bytes and the shape in the pickle, so that no pickle can create an array whose bytes are interpreted as object pointers.
Its operations are counted before they are run, and its lists and arrays once for each reference to them, so that a
small pickle cannot stand for much.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kmtalk.errors import InputError
from kmtalk.user_files import open_user_file

MAX_OPERATIONS, MAX_TUPLES = 5_000_000, 10_000
"""Operations and tuples of a pickle; VOCASET's largest has 400,000 operations. Python hashes and frees nested tuples
recursively, so that many of them could end the process."""
MAX_DEPTH = 100
FREE_BYTES, MAX_EXPANSION, BYTES_PER_VALUE = 256 << 20, 4, 64
"""What the values of a pickle may take, counted once for each reference: this many bytes, and this many times the size
of its file, where a value that is no array counts as `BYTES_PER_VALUE`."""

ARRAY_KINDS = "fiubSU"  # numpy dtype kinds: numbers, bool, bytes, text


class _Dtype:
    """Replaces numpy.dtype: a scalar type and its byte order."""

    def __init__(self, code: Any = "f8", align: Any = False, copy: Any = False) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        _, order, subdtype, names, fields = state[:5]
        if subdtype is not None or names is not None or fields is not None:
            raise pickle.UnpicklingError("asks for a structured array")
        self.order = ">" if order == ">" else "<"

    @property
    def real(self) -> np.dtype[Any]:
        dtype = np.dtype(self.order + self.code.lstrip("<>|="))
        if dtype.kind not in ARRAY_KINDS or dtype.hasobject:
            raise pickle.UnpicklingError(f"asks for an array of {self.code}")
        return dtype


class _Array:
    """Replaces numpy.ndarray: what it is built from by `_build`."""

    state: tuple[bytes | str, _Dtype, Any, bool] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes | str) or not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("asks for an array of objects")
        self.state = data, dtype, shape, bool(fortran)


def _reconstruct(*args: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    out = _Array()
    out.__setstate__((1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytearray) else data))
    return out


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | str):
        raise pickle.UnpicklingError("asks for a scalar of an unknown dtype")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.real)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


def _bytes(*args: Any) -> bytes:
    return bytes(args[0]) if args and isinstance(args[0], bytes | bytearray) else b""


def _allowed_globals() -> dict[tuple[str, str], Any]:
    allowed: dict[tuple[str, str], Any] = {
        ("_codecs", "encode"): _encode,
        ("__builtin__", "bytes"): _bytes,
        ("builtins", "bytes"): _bytes,
        ("builtins", "bytearray"): _bytes,
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[(f"{core}.multiarray", "_reconstruct")] = _reconstruct
        allowed[(f"{core}.multiarray", "scalar")] = _scalar
        allowed[(f"{core}.numeric", "_frombuffer")] = _frombuffer
    return allowed


ALLOWED_GLOBALS = _allowed_globals()
"""The globals that a pickle may reference, as (module, name), and their replacements."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return ALLOWED_GLOBALS[(module, name)]


def load_restricted_pickle(path: Path) -> Any:
    """Load a pickle of arrays, dicts, lists, strings and numbers; Python 2 strings are decoded as latin1.

    Args:
        path: The pickle.

    Returns:
        The unpickled object.

    Raises:
        InputError: The file is missing, not a pickle, or references anything else.
    """
    with open_user_file(path) as file:
        try:
            _check_operations(file)
            size = os.fstat(file.fileno()).st_size
            file.seek(0)
            value = _Restricted(file, encoding="latin1").load()
            return _Resolver(FREE_BYTES + MAX_EXPANSION * size).resolve(value)
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{path}: not a pickle of arrays alone ({reason[:100]}); kmtalk reads no other pickles"
            ) from None


def _check_operations(file: BinaryIO) -> None:
    """Raise UnpicklingError for operations by which a small pickle asks for much memory; none is run."""
    count = tuples = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(file), 1):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:  # a place in the memo
            raise pickle.UnpicklingError(f"stores its value number {argument}, but has fewer")
        tuples += operation.name.startswith("TUPLE")
        if count > MAX_OPERATIONS or tuples > MAX_TUPLES:
            raise pickle.UnpicklingError("has too many values")
    if not count:
        raise pickle.UnpicklingError("is empty")


class _Resolver:
    """Replaces `_Array` objects by their arrays, in dicts, lists and tuples; each object once.

    Args:
        limit: Bytes that the values may take, counted once for each reference.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._done: dict[int, tuple[Any, int]] = {}

    def resolve(self, value: Any) -> Any:
        """Return the value with its arrays; raises UnpicklingError where it is too large, too deep or cyclic."""
        return self._resolve(value, 0)[0]

    def _resolve(self, value: Any, depth: int) -> tuple[Any, int]:
        """The value and the bytes that count for it."""
        if depth > MAX_DEPTH:
            raise pickle.UnpicklingError(f"is nested more than {MAX_DEPTH} deep, or contains itself")
        if isinstance(value, _Dtype):
            raise pickle.UnpicklingError("asks for a dtype alone")
        if not isinstance(value, _Array | dict | list | tuple):
            return value, BYTES_PER_VALUE + (len(value) if isinstance(value, str | bytes) else 0)
        if id(value) not in self._done:
            if isinstance(value, _Array):
                array = _build(value)
                self._done[id(value)] = array, BYTES_PER_VALUE + array.nbytes
            else:
                held = [*value.keys(), *value.values()] if isinstance(value, dict) else value
                parts = [self._resolve(part, depth + 1) for part in held]
                size = BYTES_PER_VALUE + sum(part[1] for part in parts)
                if size > self._limit:
                    raise pickle.UnpicklingError("has too many values")
                made = [part[0] for part in parts]
                whole = dict(zip(made, made[len(made) // 2 :], strict=False)) if isinstance(value, dict) else made
                self._done[id(value)] = tuple(made) if isinstance(value, tuple) else whole, size
        return self._done[id(value)]


def _build(given: _Array) -> np.ndarray:
    if given.state is None:
        raise pickle.UnpicklingError("asks for an array without data")
    data, dtype, shape, fortran = given.state
    flat = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.real)
    return flat.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")
