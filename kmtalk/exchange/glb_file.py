"""A GLB as its JSON and its binary chunk, to which things are added while everything else stays as it was."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError

_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENT_TYPES = {np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125, np.dtype(np.float32): 5126}
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


@dataclass
class GlbFile:
    """A GLB or VRM file.

    Attributes:
        document: Its JSON.
        data: Its binary chunk; what is added stands behind it.
    """

    document: dict[str, Any]
    data: bytearray

    @classmethod
    def load(cls, path: Path) -> GlbFile:
        """Read a file; raises InputError for anything but a GLB with its buffer inside."""
        raw = path.read_bytes()
        try:
            magic, version, _ = struct.unpack_from("<III", raw)
            size, kind = struct.unpack_from("<II", raw, 12)
            if (magic, version, kind) != (_MAGIC, 2, _JSON_CHUNK):
                raise ValueError("no GLB")
            document = json.loads(raw[20 : 20 + size])
            data = b""
            if len(raw) > 20 + size:
                length, kind = struct.unpack_from("<II", raw, 20 + size)
                if kind != _BINARY_CHUNK:
                    raise ValueError("an unknown chunk")
                data = raw[28 + size : 28 + size + length]
            if any("uri" in buffer for buffer in document.get("buffers", [])[:1]):
                raise ValueError("its buffer is another file")
        except (struct.error, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a GLB that can be extended ({error}); export it again as .glb") from None
        return cls(document, bytearray(data))

    def save(self, path: Path) -> None:
        """Write the file."""
        self._pad()
        buffers = self.document.setdefault("buffers", [])
        if not buffers:
            buffers.append({})
        buffers[0]["byteLength"] = len(self.data)
        text = json.dumps(self.document, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(self.data)
        with path.open("wb") as file:
            file.write(struct.pack("<III", _MAGIC, 2, total))
            file.write(struct.pack("<II", len(text), _JSON_CHUNK) + text)
            file.write(struct.pack("<II", len(self.data), _BINARY_CHUNK))
            file.write(self.data)

    def add_accessor(self, array: np.ndarray, bounds: bool = False) -> int:
        """Add an array (n,) or (n, k) of float32; returns the index of its accessor."""
        values = np.ascontiguousarray(array, np.float32)
        flat = values.reshape(len(values), -1)
        accessor: dict[str, Any] = {
            "bufferView": self.add_view(values),
            "componentType": _COMPONENT_TYPES[values.dtype],
            "count": len(values),
            "type": _TYPES[flat.shape[1]],
        }
        if bounds:
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        return self._append(accessor)

    def add_offsets(self, offsets: np.ndarray, threshold: float) -> int:
        """Add a morph target's offsets (P, 3), sparse: those above `threshold`; returns the index of its accessor."""
        indices, values, low, high = sparse_offsets(offsets, threshold)
        sparse = {
            "count": len(indices),
            "indices": {"bufferView": self.add_view(indices), "componentType": _COMPONENT_TYPES[indices.dtype]},
            "values": {"bufferView": self.add_view(values)},
        }
        kind = {"componentType": _COMPONENT_TYPES[values.dtype], "type": "VEC3"}
        bounds = {"min": low.tolist(), "max": high.tolist()}
        return self._append({**kind, "count": len(offsets), **bounds, "sparse": sparse})

    def add_zeros(self, count: int) -> int:
        """Add an accessor of `count` zero vectors, which takes no data; returns its index."""
        return self._append({"componentType": 5126, "count": count, "type": "VEC3"})

    def _append(self, accessor: dict[str, Any]) -> int:
        accessors: list[dict[str, Any]] = self.document.setdefault("accessors", [])
        accessors.append(accessor)
        return len(accessors) - 1

    def add_view(self, array: np.ndarray) -> int:
        """Add the bytes of an array; returns the index of their buffer view."""
        self._pad()
        views: list[dict[str, Any]] = self.document.setdefault("bufferViews", [])
        views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes})
        self.data += array.tobytes()
        return len(views) - 1

    def _pad(self) -> None:
        self.data += b"\0" * (-len(self.data) % 4)


def sparse_offsets(offsets: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what a sparse accessor stores of a morph target's offsets (V, 3).

    Returns:
        Indices (S,) of the offsets above `threshold`, uint16 or uint32; these offsets (S, 3), float32; and the least
        and greatest coordinates (3,) over all vertices.
    """
    stored = np.flatnonzero(np.abs(offsets).max(1, initial=0) > threshold)
    if not len(stored):
        stored = np.array([0])  # a sparse accessor must hold one element
    values = offsets[stored].astype(np.float32)
    low, high = values.min(0), values.max(0)
    if len(stored) < len(offsets):  # the others are zero
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    return stored.astype(np.uint16 if len(offsets) < 65536 else np.uint32), values, low, high
