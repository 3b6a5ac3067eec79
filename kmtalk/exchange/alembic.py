"""Write one animated triangle mesh as an Alembic file (.abc) in the Ogawa container, with numpy alone.

An Ogawa file is a tree of groups and data blocks. A group is a u64 count and that many u64 child offsets; a data
block is a u64 size and its bytes. The top bit of a child's offset is set for data and clear for groups. Offsets may
point anywhere, so samples are streamed to disk first and the groups that reference them are written at the end. All
numbers are little-endian.

Alembic stores objects and properties in that tree:

    archive         [layout version, library version, top object, archive metadata, time samplings, metadata table]
    object          [compound of its properties, child objects..., child headers + 32 bytes of hashes]
    compound        [properties..., property headers]
    scalar property [sample, sample...]
    array property  [sample, its dimensions, sample, its dimensions...]

A sample is a 16-byte key (a hash of the values) followed by the values.
"""

import hashlib
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"Ogawa"
_UNFINISHED, _FINISHED = b"\x00", b"\xff"
_CONTAINER_VERSION = b"\x00\x01"
_DATA_BIT = 1 << 63
_EMPTY_GROUP = 0
_EMPTY_DATA = _DATA_BIT

_LAYOUT_VERSION = 0
_LIBRARY_VERSION = 10803  # the layout is that of Alembic 1.8.3
_APPLICATION = "kmtalk"

_POD_CODES = {"|b1": 0, "|u1": 1, "<i4": 6, "<f4": 10, "<f8": 11}
_SCALAR, _ARRAY = 1, 2
_HAS_TIME_SAMPLING, _SAME_SIZE, _CONSTANT = 0x100, 0x400, 0x800
_SIZE_HINT_SHIFT, _POD_SHIFT, _EXTENT_SHIFT, _METADATA_SHIFT = 2, 4, 12, 20

# Time sampling 0 is Alembic's identity sampling, which every archive has.
_FRAME_SAMPLING = 1
_MATRIX_OPERATION = 0x30

_BOX = "interpretation=box"
_POINTS = "geoScope=vtx;interpretation=point"
_XFORM = "schema=AbcGeom_Xform_v3"
_XFORM_OBJECT = f"{_XFORM};schemaObjTitle=AbcGeom_Xform_v3:.xform"
_MESH = "schema=AbcGeom_PolyMesh_v1;schemaBaseType=AbcGeom_GeomBase_v1"
_MESH_OBJECT = f"{_MESH};schemaObjTitle=AbcGeom_PolyMesh_v1:.geom"
# Headers refer to their metadata by its index in this table; index 0 means none and is not stored.
_METADATA = ("", _BOX, _POINTS, _XFORM, _XFORM_OBJECT, _MESH, _MESH_OBJECT)

# Readers use the hashes only as keys, so any 16-byte hash works.
_hash = partial(hashlib.blake2b, digest_size=16)


@dataclass(frozen=True)
class _Node:
    """A property or object already on disk: its header, the offset of its group and a hash of its contents."""

    header: bytes
    group: int
    digest: bytes


class _OgawaFile:
    """The Ogawa container: appends data blocks and groups and returns the offset that a parent group stores."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        stream.write(_MAGIC + _UNFINISHED + _CONTAINER_VERSION + struct.pack("<Q", _EMPTY_GROUP))

    def data(self, *parts: bytes) -> int:
        """Append one data block of the concatenated `parts`; returns its offset with the data bit set."""
        offset = self._stream.tell()
        self._stream.write(struct.pack("<Q", sum(map(len, parts))))
        for part in parts:
            self._stream.write(part)
        return offset | _DATA_BIT

    def group(self, children: Sequence[int]) -> int:
        """Append one group of children that are already written; returns its offset."""
        offset = self._stream.tell()
        self._stream.write(struct.pack("<Q", len(children)))
        self._stream.write(np.asarray(children, dtype="<u8").tobytes())
        return offset

    def finish(self, root: int) -> None:
        """Write the offset of the root group and mark the file as finished; readers refuse an unfinished file."""
        self._stream.seek(len(_MAGIC))
        self._stream.write(_FINISHED + _CONTAINER_VERSION + struct.pack("<Q", root))


class _Property:
    """A scalar or array property. Samples are written to disk at once; only their offsets (8 bytes each) are kept."""

    def __init__(self, file: _OgawaFile, name: str, kind: int, dtype: str, extent: int = 1, metadata: str = "") -> None:
        """`kind` is `_SCALAR` or `_ARRAY`; each value has `extent` numbers of `dtype`."""
        self._file, self._name, self._dtype, self._kind, self._metadata = file, name, dtype, kind, metadata
        self._info = kind | _SAME_SIZE | _POD_CODES[dtype] << _POD_SHIFT | extent << _EXTENT_SHIFT
        self._offsets = array("Q")
        self._count = 0
        self._digest = _hash()

    def add(self, values: NDArray[Any]) -> None:
        """Write the next sample: values (extent,) for a scalar property, (n, extent) for an array property."""
        payload = np.asarray(values, dtype=self._dtype).tobytes()
        key = _hash(payload).digest()
        self._offsets.append(self._file.data(key, payload))
        if self._kind == _ARRAY:
            # Empty dimensions: readers derive the length of an array from the size of its data.
            self._offsets.append(_EMPTY_DATA)
        self._digest.update(key)
        self._count += 1

    def close(self) -> _Node:
        """Write the group of all samples and return the finished property."""
        constant = _CONSTANT if self._count == 1 else 0
        header = _property_header(self._name, self._info | constant, self._metadata, self._count)
        return _Node(header, self._file.group(self._offsets), self._digest.digest())


def _property_header(name: str, info: int, metadata: str, count: int | None = None) -> bytes:
    """Header of a property; `count` is its number of samples, None for a compound."""
    encoded = name.encode()
    numbers = [len(encoded)] if count is None else [count, _FRAME_SAMPLING, len(encoded)]
    size_hint = 0 if max(numbers) < 1 << 8 else 1 if max(numbers) < 1 << 16 else 2
    info |= size_hint << _SIZE_HINT_SHIFT | _METADATA.index(metadata) << _METADATA_SHIFT
    if count is not None:
        info |= _HAS_TIME_SAMPLING
    return struct.pack(f"<I{len(numbers)}{'BHI'[size_hint]}", info, *numbers) + encoded


def _compound(file: _OgawaFile, name: str, metadata: str, properties: Sequence[_Node]) -> _Node:
    """Write a compound property with the given child properties."""
    headers = b"".join(node.header for node in properties)
    group = file.group([*(node.group for node in properties), file.data(headers)])
    return _Node(_property_header(name, 0, metadata), group, _digest_of(properties))


def _object(file: _OgawaFile, name: str, metadata: str, schema: _Node | None, children: Sequence[_Node]) -> _Node:
    """Write an object with its child objects and at most one property, the compound `schema`."""
    properties = [] if schema is None else [schema]
    hashes = _digest_of(properties), _digest_of(children)
    headers = file.data(*(node.header for node in children), *hashes)
    top_compound = file.group([schema.group, file.data(schema.header)]) if schema else _EMPTY_GROUP
    group = file.group([top_compound, *(node.group for node in children), headers])
    encoded = name.encode()
    header = struct.pack("<I", len(encoded)) + encoded + bytes([_METADATA.index(metadata)])
    return _Node(header, group, _hash(b"".join(hashes)).digest())


def _digest_of(nodes: Sequence[_Node]) -> bytes:
    """16-byte hash of the headers and contents of `nodes`."""
    return _hash(b"".join(node.header + node.digest for node in nodes)).digest()


def _identity_schema(file: _OgawaFile) -> _Node:
    """Write the schema of a transform that inherits its parent's transform; its own matrix is the identity."""
    inherits = _Property(file, ".inherits", _SCALAR, "|b1")
    inherits.add(np.array([True]))
    operations = _Property(file, ".ops", _SCALAR, "|u1")
    operations.add(np.array([_MATRIX_OPERATION]))
    values = _Property(file, ".vals", _SCALAR, "<f8", 16)
    values.add(np.eye(4).ravel())
    return _compound(file, ".xform", _XFORM, [inherits.close(), operations.close(), values.close()])


def _mesh_schema(file: _OgawaFile, frames: Iterable[NDArray[np.float32]], count: int, faces: NDArray[Any]) -> _Node:
    """Write the schema of a mesh with constant topology: positions and bounds per frame, faces once."""
    bounds = _Property(file, ".selfBnds", _SCALAR, "<f8", 6, _BOX)
    points = _Property(file, "P", _ARRAY, "<f4", 3, _POINTS)
    indices = _Property(file, ".faceIndices", _ARRAY, "<i4")
    counts = _Property(file, ".faceCounts", _ARRAY, "<i4")
    # Alembic winds faces clockwise.
    indices.add(faces[:, ::-1])
    counts.add(np.full(len(faces), faces.shape[1]))

    shape: tuple[int, ...] | None = None
    written = 0
    for chunk in frames:
        for positions in chunk:
            shape = shape or positions.shape
            if positions.shape != shape or shape != (len(positions), 3):
                raise ValueError(
                    f"frame {written} has shape {positions.shape}; all frames must have the shape (V, 3) of frame 0"
                )
            points.add(positions)
            bounds.add(np.concatenate([positions.min(axis=0), positions.max(axis=0)]))
            written += 1
    if written != count or not written:
        raise ValueError(f"expected {count} frames, got {written}")
    return _compound(file, ".geom", _MESH, [node.close() for node in (bounds, points, indices, counts)])


def write_alembic(
    path: Path, frames: Iterable[NDArray[np.float32]], frame_count: int, faces: NDArray[Any], fps: float, name: str
) -> None:
    """Write an animated mesh with constant topology as an Alembic file, a PolyMesh under an Xform.

    One chunk of positions is in memory at a time. If `frames` fails or yields too few frames, the file stays marked
    as unfinished.

    Args:
        path: The .abc file.
        frames: Chunks (n, V, 3) of float32 positions in the template's units. Frame n is stored at n / fps seconds.
        frame_count: Number of frames in all chunks.
        faces: Counter-clockwise triangles (F, 3).
        fps: Frames per second.
        name: Name of the Xform; the PolyMesh below it is called `name` + "Shape".

    Raises:
        ValueError: `name` is empty or contains a slash, frames differ in shape, or their number is not `count`.
    """
    if not name or "/" in name:
        raise ValueError(f"{name!r} is not a valid name for an Alembic object: it must not be empty or contain '/'")
    with path.open("wb") as stream:
        file = _OgawaFile(stream)
        mesh = _object(file, f"{name}Shape", _MESH_OBJECT, _mesh_schema(file, frames, frame_count, faces), [])
        xform = _object(file, name, _XFORM_OBJECT, _identity_schema(file), [mesh])
        top = _object(file, "ABC", "", None, [xform])
        samplings = [(0, 1.0), (frame_count, 1 / fps)]  # (number of samples, seconds between samples)
        root = [
            file.data(struct.pack("<i", _LAYOUT_VERSION)),
            file.data(struct.pack("<i", _LIBRARY_VERSION)),
            top.group,
            file.data(f"FramesPerTimeUnit={fps:.6f};_ai_Application={_APPLICATION}".encode()),
            # Each uniform sampling stores one time, its start at 0 s.
            file.data(b"".join(struct.pack("<IdId", samples, period, 1, 0.0) for samples, period in samplings)),
            file.data(b"".join(bytes([len(text)]) + text.encode() for text in _METADATA[1:])),
        ]
        file.finish(file.group(root))
