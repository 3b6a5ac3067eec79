"""A glTF file as its JSON and one binary chunk, to which things are added while everything else stays as it was."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.gltf_document import (
    BINARY_CHUNK,
    COMPONENT_DTYPES,
    GLB_MAGIC,
    JSON_CHUNK,
    MESHOPT_EXTENSIONS,
    GltfDocument,
)

_COMPONENT_TYPES = {np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125, np.dtype(np.float32): 5126}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
MAX_GLB_BYTES = 2**32 - 1024
VERTICES, INDICES = 34962, 34963
"""Targets of buffer views."""


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
    def of(cls, source: GltfDocument) -> GlbFile:
        """Return the file of a document. Buffers and pictures that are other files are taken into its chunk."""
        out = cls(json.loads(json.dumps(source.json)), bytearray(source.chunk or b""))
        buffers = out.document.get("buffers") or []
        starts: dict[int, int] = {0: 0} if source.chunk is not None else {}
        kept: list[dict[str, Any]] = [buffers[0] if source.chunk is not None and buffers else {}]
        places: dict[int, int] = {0: 0} if source.chunk is not None else {}
        for k, buffer in enumerate(buffers):
            if k in starts:
                continue
            places[k], starts[k] = 0, 0
            if any(e in buffer.get("extensions", {}) for e in MESHOPT_EXTENSIONS) and "uri" not in buffer:
                places[k] = len(kept)  # where decoded data would be: it has no bytes
                kept.append(buffer)
            else:
                out._pad()
                starts[k] = len(out.data)
                out.data += source.buffer(k)
        if buffers:
            out.document["buffers"] = kept
        for view in out.document.get("bufferViews") or []:
            packed = [view["extensions"][e] for e in MESHOPT_EXTENSIONS if e in view.get("extensions", {})]
            for place in (view, *packed):
                start = starts[place["buffer"]]
                if start:
                    place["byteOffset"] = place.get("byteOffset", 0) + start
                place["buffer"] = places[place["buffer"]]
        for k, image in enumerate(out.document.get("images") or []):
            if "uri" in image and not image["uri"].startswith("data:"):
                content = source.image(k)
                kind = mime_type(image["uri"])
                del image["uri"]
                image |= {"bufferView": out.add_view(np.frombuffer(content, np.uint8)), "mimeType": kind}
        return out

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        self._pad()
        buffers = self.document.setdefault("buffers", [])
        if not buffers:
            buffers.append({})
        buffers[0].pop("uri", None)
        buffers[0]["byteLength"] = len(self.data)
        text = json.dumps(self.document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        text += b" " * (-len(text) % 4)
        if len(text) + len(self.data) > MAX_GLB_BYTES:
            raise InputError("more than 4 GB do not fit into a .glb; write .usd, or animate a smaller file")
        head = struct.pack("<III", GLB_MAGIC, 2, 12 + 8 + len(text) + 8 + len(self.data))
        chunks = struct.pack("<II", len(text), JSON_CHUNK), text, struct.pack("<II", len(self.data), BINARY_CHUNK)
        return b"".join((head, *chunks, self.data))

    def add_accessor(
        self, array: np.ndarray, bounds: bool = False, target: int | None = None, normalized: bool = False
    ) -> int:
        """Add an array (n,) or (n, k): uint16, uint32, or else as float32; returns the index of its accessor."""
        kind = array.dtype if array.dtype in (np.uint16, np.uint32) else np.dtype(np.float32)
        values = np.ascontiguousarray(array, kind)
        flat = values.reshape(len(values), -1)
        accessor: dict[str, Any] = {
            "bufferView": self.add_view(values, target),
            "componentType": _COMPONENT_TYPES[values.dtype],
            "count": len(values),
            "type": _TYPES[flat.shape[1]],
        }
        if bounds:
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        if normalized:
            accessor["normalized"] = True
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

    def add_picture(self, name: str, content: bytes) -> int:
        """Embed an encoded picture and a texture of it, once; returns the index of the texture."""
        images: list[dict[str, Any]] = self.document.setdefault("images", [])
        textures: list[dict[str, Any]] = self.document.setdefault("textures", [])
        for number, image in enumerate(images):
            if image.get("name") == name:
                return number
        if not self.document.get("samplers"):  # linear, with mipmaps
            self.document["samplers"] = [{"magFilter": 9729, "minFilter": 9987}]
        view = self.add_view(np.frombuffer(content, np.uint8))
        images.append({"name": name, "mimeType": mime_type(name), "bufferView": view})
        textures.append({"sampler": 0, "source": len(images) - 1})
        return len(textures) - 1

    def add_zeros(self, count: int, bounds: bool = False) -> int:
        """Add an accessor of `count` zero vectors, which takes no data; returns its index."""
        limits = {"min": [0.0, 0.0, 0.0], "max": [0.0, 0.0, 0.0]} if bounds else {}
        return self._append({"componentType": 5126, "count": count, "type": "VEC3", **limits})

    def _append(self, accessor: dict[str, Any]) -> int:
        accessors: list[dict[str, Any]] = self.document.setdefault("accessors", [])
        accessors.append(accessor)
        return len(accessors) - 1

    def add_view(self, array: np.ndarray, target: int | None = None) -> int:
        """Add the bytes of an array; returns the index of their buffer view."""
        self._pad()
        views: list[dict[str, Any]] = self.document.setdefault("bufferViews", [])
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        views.append(view if target is None else {**view, "target": target})
        self.data += array.tobytes()
        return len(views) - 1

    def add_rows(self, rows: np.ndarray, component_type: int) -> int:
        """Add vertex attributes (n, k), each row at a multiple of four bytes; returns the index of their view."""
        values = np.ascontiguousarray(rows, COMPONENT_DTYPES[component_type])
        if component_type in (5123, 5125) and values.shape[1] == 1:  # indices are packed
            return self.add_view(values)
        raw = values.view(np.uint8).reshape(len(values), -1)
        raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4)))
        view = self.add_view(raw)
        self.document["bufferViews"][view]["byteStride"] = raw.shape[1]
        return view

    def _pad(self) -> None:
        self.data += b"\0" * (-len(self.data) % 4)


def mime_type(name: str) -> str:
    """The media type of a picture by the suffix of its name; PNG where it has none."""
    kinds = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".ktx2": "image/ktx2"}
    return kinds.get(Path(name).suffix.lower(), "image/png")


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
