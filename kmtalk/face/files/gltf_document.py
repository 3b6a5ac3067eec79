"""A glTF file as its JSON and its buffers, of which accessors are read; compressed ones are decoded."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from kmtalk.errors import InputError
from kmtalk.user_files import check_user_file, read_user_file

MAX_FILE_BYTES, MAX_JSON_BYTES = 1 << 30, 512 << 20
MAX_DECODED_BYTES = 1 << 30
"""What the accessors that are read from one file may take; 300 shapes of 290,000 vertices do."""
_SCHEMES = ("file:", "http:", "https:", "ftp:")
GLB_MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
COMPONENT_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
COMPONENTS_PER_TYPE = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
MESHOPT_EXTENSIONS = ("EXT_meshopt_compression", "KHR_meshopt_compression")
DRACO_EXTENSION = "KHR_draco_mesh_compression"


@dataclass
class GltfDocument:
    """A .gltf, .glb or .vrm file.

    Attributes:
        path: The file.
        json: Its JSON.
        chunk: The binary chunk of a GLB; None where there is none.
    """

    path: Path
    json: dict[str, Any]
    chunk: bytes | memoryview | None = None
    _resources: dict[str, bytes] = field(default_factory=dict, repr=False)
    _views: dict[int, bytes | memoryview] = field(default_factory=dict, repr=False)
    _draco: dict[int, Any] = field(default_factory=dict, repr=False)
    _decoded: int = field(default=0, repr=False)

    @classmethod
    def load(cls, path: Path) -> GltfDocument:
        """Read a file; raises ValueError where it is damaged, InputError where it cannot be read."""
        check_user_file(path, MAX_FILE_BYTES)  # before a gigabyte is read
        raw = read_user_file(path, MAX_FILE_BYTES)
        if raw[:4] != struct.pack("<I", GLB_MAGIC):
            return cls(path, _checked_json(raw))
        if len(raw) < 20:
            raise ValueError("the file ends too early")
        _, version, _, size, kind = struct.unpack_from("<IIIII", raw)
        if version != 2 or kind != JSON_CHUNK or 20 + size > len(raw):
            raise ValueError(f"version {version} of GLB, or the file ends too early")
        chunk = None
        if len(raw) >= 28 + size:
            length, kind = struct.unpack_from("<II", raw, 20 + size)
            if kind == BINARY_CHUNK:
                chunk = memoryview(raw)[28 + size : 28 + size + length]
        return cls(path, _checked_json(raw[20 : 20 + size]), chunk)

    def items(self, name: str) -> list[dict[str, Any]]:
        """One of the top-level lists of the JSON, empty where there is none."""
        out: list[dict[str, Any]] = self.json.get(name) or []
        return out

    def buffer(self, index: int) -> bytes | memoryview:
        """The bytes of a buffer, from the GLB's chunk, a data URI or a file."""
        uri = self.items("buffers")[index].get("uri")
        return (self.chunk or b"") if uri is None else self._resource(uri)

    def _resource(self, uri: str) -> bytes:
        if uri not in self._resources:
            self._resources[uri] = self._read_resource(uri)
        return self._resources[uri]

    def _read_resource(self, uri: str) -> bytes:
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        folder = self.path.parent.resolve()
        place = (folder / unquote(uri)).resolve()
        remote = "://" in uri or uri.lower().startswith(_SCHEMES)
        if remote or not place.is_relative_to(folder):  # a model must not take other files of the user along
            raise InputError(f"{self.path}: refers to {uri}, which is not in its folder; export it again as .glb")
        if not place.is_file():
            raise InputError(f"{self.path}: {uri} is missing in its folder; put it there, or export again as .glb")
        return read_user_file(place, MAX_FILE_BYTES)

    def image(self, index: int) -> bytes:
        """The encoded bytes of an image."""
        image = self.items("images")[index]
        return bytes(self.view(image["bufferView"])) if "bufferView" in image else self._resource(image["uri"])

    def view(self, index: int) -> bytes | memoryview:
        """The bytes of a buffer view, decoded where they are compressed by meshoptimizer."""
        if index not in self._views:
            view = self.items("bufferViews")[index]
            packed = next((view["extensions"][e] for e in MESHOPT_EXTENSIONS if e in view.get("extensions", {})), None)
            given = packed or view
            start, size = _size(given.get("byteOffset", 0)), _size(given["byteLength"])
            data = memoryview(self.buffer(given["buffer"]))[start : start + size]
            if len(data) < size:
                raise ValueError("a buffer is too short")
            self._views[index] = data if packed is None else self._decode_meshopt(packed, data)
        return self._views[index]

    def _decode_meshopt(self, given: Mapping[str, Any], data: memoryview) -> bytes:
        try:
            import meshoptimizer
        except ImportError:
            raise InputError(_needs_decoder(self.path, MESHOPT_EXTENSIONS[0])) from None
        count, stride, mode = _size(given["count"]), _size(given["byteStride"]), str(given.get("mode"))
        self._take(count * stride)
        if mode == "ATTRIBUTES":
            out = meshoptimizer.decode_vertex_buffer(count, stride, data, np.dtype((np.void, stride)))
            flat = np.frombuffer(out.tobytes(), np.uint8)
            filters = {
                "OCTAHEDRAL": meshoptimizer.decode_filter_oct,
                "QUATERNION": meshoptimizer.decode_filter_quat,
                "EXPONENTIAL": meshoptimizer.decode_filter_exp,
            }
            name = given.get("filter", "NONE")
            if name not in ("NONE", *filters):
                raise ValueError(f"filter {name}")
            return (flat if name == "NONE" else filters[name](flat, count, stride)).tobytes()
        decode = {"TRIANGLES": meshoptimizer.decode_index_buffer, "INDICES": meshoptimizer.decode_index_sequence}[mode]
        raw: bytes = decode(count, stride, data).tobytes()
        return raw[: count * stride]  # its array is as wide as for 32-bit indices

    def _rows(self, view: int, offset: int, count: int, width: int, dtype: Any) -> np.ndarray:
        """Copy `count` rows of `width` values from a buffer view, starting at byte `offset`."""
        dtype = np.dtype(dtype).newbyteorder("<")
        self._take(_size(count) * width * dtype.itemsize)
        stride = _size(self.items("bufferViews")[view].get("byteStride") or width * dtype.itemsize)
        data = self.view(view)
        if count and _size(offset) + (count - 1) * stride + width * dtype.itemsize > len(data):
            raise ValueError("a buffer is too short")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize)).copy()

    def read_accessor(self, index: int) -> np.ndarray:
        """An accessor's values (count, width): floats, or integers that are not normalized."""
        accessor = self.items("accessors")[index]
        dtype, width = COMPONENT_DTYPES[accessor["componentType"]], COMPONENTS_PER_TYPE[accessor["type"]]
        count = _size(accessor["count"])
        if "bufferView" in accessor:
            values = self._rows(accessor["bufferView"], accessor.get("byteOffset", 0), count, width, dtype)
        else:
            self._take(count * width * np.dtype(dtype).itemsize)
            values = np.zeros((count, width), dtype)
        sparse = accessor.get("sparse")
        if sparse and sparse["count"]:
            indices, given = sparse["indices"], sparse["values"]
            kind = COMPONENT_DTYPES[indices["componentType"]]
            rows = self._rows(indices["bufferView"], indices.get("byteOffset", 0), sparse["count"], 1, kind)
            values[rows.ravel()] = self._rows(given["bufferView"], given.get("byteOffset", 0), len(rows), width, dtype)
        return _normalized(values) if accessor.get("normalized") else values

    def read_attribute(self, primitive: Mapping[str, Any], name: str) -> np.ndarray:
        """A vertex attribute (count, width) of a primitive, which has it: floats, or integers not normalized."""
        if name not in primitive.get("extensions", {}).get(DRACO_EXTENSION, {}).get("attributes", {}):
            return self.read_accessor(primitive["attributes"][name])
        values = self.read_raw_attribute(primitive, name)
        return (
            _normalized(values) if self.items("accessors")[primitive["attributes"][name]].get("normalized") else values
        )

    def read_raw_attribute(self, primitive: Mapping[str, Any], name: str) -> np.ndarray:
        """A vertex attribute (count, width) that is compressed by Draco, as it is stored."""
        packed = primitive["extensions"][DRACO_EXTENSION]
        decoded = self._decode_draco(packed["bufferView"])
        wanted = packed["attributes"][name]
        values = next(np.asarray(a["data"]) for a in decoded.attributes if a["unique_id"] == wanted)
        count = self.items("accessors")[primitive["attributes"][name]]["count"]
        if count != len(values):
            raise ValueError(f"{name} has {count} values, but {len(values)} are compressed")
        return values.reshape(len(values), -1)

    def read_triangles(self, primitive: Mapping[str, Any], count: int) -> np.ndarray:
        """The triangles (F, 3) of a primitive of `count` vertices."""
        packed = primitive.get("extensions", {}).get(DRACO_EXTENSION)
        if packed is not None:
            indices = np.asarray(self._decode_draco(packed["bufferView"]).faces).ravel()
        else:
            given = primitive.get("indices")
            indices = np.arange(count) if given is None else self.read_accessor(given).ravel()
        return indices[: len(indices) // 3 * 3].reshape(-1, 3).astype(np.int64)

    def _take(self, size: int) -> None:
        """Count bytes before they are decoded; raises InputError where the file asks for too many."""
        self._decoded += size
        if self._decoded > MAX_DECODED_BYTES:
            raise InputError(
                f"{self.path}: its meshes and shapes take more than {MAX_DECODED_BYTES >> 20} MB; export fewer of them"
            )

    def _decode_draco(self, view: int) -> Any:
        if view not in self._draco:
            try:
                import DracoPy
            except ImportError:
                raise InputError(_needs_decoder(self.path, DRACO_EXTENSION)) from None
            self._draco[view] = DracoPy.decode(bytes(self.view(view)))
        return self._draco[view]


def _checked_json(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES >> 20} MB of JSON; export it as .glb")
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(document, dict) or not str((document.get("asset") or {}).get("version", "")).startswith("2"):
        raise ValueError("no glTF 2.0")
    _check_nodes(document.get("nodes") or [])
    return document


def _check_nodes(nodes: list[dict[str, Any]]) -> None:
    """Raise ValueError where a node stands below itself."""
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise ValueError("its nodes are no list of objects")
    children = [node.get("children") or [] for node in nodes]
    above = [0] * len(nodes)
    for child in (child for some in children for child in some):
        if not isinstance(child, int) or not 0 <= child < len(nodes):
            raise ValueError(f"node {child} does not exist")
        above[child] += 1
    ready = [k for k, count in enumerate(above) if not count]
    done = 0
    while ready:
        done += 1
        for child in children[ready.pop()]:
            above[child] -= 1
            if not above[child]:
                ready.append(child)
    if done < len(nodes):
        raise ValueError("a node stands below itself")


def _size(value: Any) -> int:
    """A count, a stride or an offset; raises ValueError for anything else."""
    if not isinstance(value, int | float) or not 0 <= value < 2**40 or value != int(value):
        raise ValueError(f"{str(value)[:40]} is no size")
    return int(value)


def _normalized(values: np.ndarray) -> np.ndarray:
    return np.maximum(values / np.iinfo(values.dtype).max, -1.0) if values.dtype.kind in "iu" else values


def _needs_decoder(path: Path, extension: str) -> str:
    return f"{path}: compressed with {extension}; pip install 'kmtalk[compressed]', or export it without compression"
