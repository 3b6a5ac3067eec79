"""Pickles that research data comes in, read without letting them run or point at anything.

Nothing of numpy is let in: arrays are built here, of numbers and text alone, from the bytes and the shape that the
pickle states, so that no pickle can make an array whose bytes pass for objects.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError

ARRAY_KINDS = "fiubSU"


class _Dtype:
    """Stands for numpy.dtype: a plain kind and its byte order."""

    def __init__(self, code: Any = "f8", align: Any = False, copy: Any = False) -> None:
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        _, order, subdtype, names, fields = state[:5]
        if subdtype is not None or names is not None or fields is not None:
            raise pickle.UnpicklingError("asks for an array of records")
        self.order = ">" if order == ">" else "<"

    @property
    def real(self) -> np.dtype[Any]:
        found = np.dtype(self.order + self.code.lstrip("<>|="))
        if found.kind not in ARRAY_KINDS or found.hasobject:
            raise pickle.UnpicklingError(f"asks for an array of {self.code}")
        return found


class _Array:
    """Stands for numpy.ndarray, until its state is known."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(data, bytes | str) or not isinstance(kind, _Dtype):
            raise pickle.UnpicklingError("asks for an array of objects")
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, kind.real)
        self.array = flat.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


def _reconstruct(*given: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    out = _Array()
    flat = np.frombuffer(bytes(data), kind.real)
    out.array = flat.reshape(tuple(int(n) for n in shape), order="F" if order == "F" else "C")
    return out


def _scalar(kind: Any, data: Any = b"") -> Any:
    if not isinstance(kind, _Dtype):
        raise pickle.UnpicklingError("asks for a number of an unknown kind")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else bytes(data), kind.real)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


def _bytes(*given: Any) -> bytes:
    return bytes(given[0]) if given and isinstance(given[0], bytes | bytearray) else b""


def _allowed_globals() -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {
        ("_codecs", "encode"): _encode,
        ("__builtin__", "bytes"): _bytes,
        ("builtins", "bytes"): _bytes,
        ("builtins", "bytearray"): _bytes,
        ("collections", "OrderedDict"): OrderedDict,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }
    for core in ("numpy.core", "numpy._core"):
        known[(f"{core}.multiarray", "_reconstruct")] = _reconstruct
        known[(f"{core}.multiarray", "scalar")] = _scalar
        known[(f"{core}.numeric", "_frombuffer")] = _frombuffer
    return known


ALLOWED_GLOBALS = _allowed_globals()
"""What a pickle may name, and what stands for it."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return ALLOWED_GLOBALS[(module, name)]


def load_restricted_pickle(path: Path) -> Any:
    """What a pickle of arrays, dicts, lists, strings and numbers holds; Python 2 strings are read as latin1.

    Raises InputError where the file is no pickle, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return _resolve(_Restricted(file, encoding="latin1").load())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:
        raise InputError(
            f"{path}: not a pickle of arrays alone ({str(error)[:100]}); nothing else in a pickle is run or read"
        ) from None


def _resolve(held: Any) -> Any:
    """The same with real arrays in place of what stood for them; dicts, lists and tuples alone are looked into."""
    if isinstance(held, _Array):
        if held.array is None:
            raise pickle.UnpicklingError("asks for an array without its numbers")
        return held.array
    if isinstance(held, dict):
        return {_resolve(k): _resolve(v) for k, v in held.items()}
    if isinstance(held, list | tuple):
        return type(held)(_resolve(v) for v in held)
    if isinstance(held, _Dtype):
        raise pickle.UnpicklingError("asks for a kind of array alone")
    return held
