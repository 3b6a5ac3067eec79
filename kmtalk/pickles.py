"""Safe reader for the pickles in which research data sets are published.

No code from the pickle is run and no numpy object is unpickled: arrays of numbers and text are built here from the
bytes and the shape in the pickle, so that no pickle can create an array whose bytes are interpreted as object pointers.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError

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
    """Replaces numpy.ndarray until its state is read."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes | str) or not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("asks for an array of objects")
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, dtype.real)
        self.array = flat.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


def _reconstruct(*args: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    out = _Array()
    flat = np.frombuffer(bytes(data), dtype.real)
    out.array = flat.reshape(tuple(int(n) for n in shape), order="F" if order == "F" else "C")
    return out


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("asks for a scalar of an unknown dtype")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else bytes(data), dtype.real)[0]


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
    try:
        with path.open("rb") as file:
            return _resolve(_Restricted(file, encoding="latin1").load())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:
        raise InputError(
            f"{path}: not a pickle of arrays alone ({str(error)[:100]}); kmtalk reads no other pickles"
        ) from None


def _resolve(value: Any) -> Any:
    """Replace `_Array` objects by their arrays, recursively in dicts, lists and tuples."""
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("asks for an array without data")
        return value.array
    if isinstance(value, dict):
        return {_resolve(k): _resolve(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolve(v) for v in value)
    if isinstance(value, _Dtype):
        raise pickle.UnpicklingError("asks for a dtype alone")
    return value
