"""glTF and GLB reader: all meshes of the scene in their rest pose, with their morph targets."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import pygltflib as gl
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.face.files.mesh_merge import MeshMerger
from kmtalk.face.template import Template

COMPONENT_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
COMPONENTS_PER_TYPE = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
Read = TypeVar("Read")
UNSUPPORTED_EXTENSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")


class _GltfFile:
    """A glTF document with its buffers; raises InputError for unsupported compression."""

    def __init__(self, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            document = gl.GLTF2().load(str(path))
        if document is None:
            raise ValueError("empty")
        self.document, self._folder = document, path.parent
        for name in UNSUPPORTED_EXTENSIONS:
            if name in (document.extensionsRequired or []):
                raise InputError(f"{path}: compressed with {name}; export it without compression")
        self._bytes = [self._buffer(b) for b in document.buffers]

    def _buffer(self, buffer: Any) -> bytes:
        """The bytes of a buffer, from the GLB chunk, a data URI or a file."""
        if buffer.uri is None:
            return bytes(self.document.binary_blob() or b"")
        if buffer.uri.startswith("data:"):
            return base64.b64decode(buffer.uri.partition(",")[2])
        return (self._folder / unquote(buffer.uri)).read_bytes()

    def _view(self, index: int, offset: int, count: int, width: int, dtype: Any) -> np.ndarray:
        """Copy `count` rows of `width` values from a buffer view, starting at byte `offset`."""
        view = self.document.bufferViews[index]
        dtype = np.dtype(dtype).newbyteorder("<")
        stride = view.byteStride or width * dtype.itemsize
        start = (view.byteOffset or 0) + offset
        data = self._bytes[view.buffer]
        if count and start + (count - 1) * stride + width * dtype.itemsize > len(data):
            raise ValueError("a buffer is too short")
        shape, strides = (count, width), (stride, dtype.itemsize)
        return np.ndarray(shape, dtype, data, start, strides).copy()

    def read_accessor(self, index: int) -> np.ndarray:
        """An accessor's values (count, width): floats, or integers that are not normalized."""
        accessor = self.document.accessors[index]
        dtype, width = COMPONENT_DTYPES[accessor.componentType], COMPONENTS_PER_TYPE[accessor.type]
        if accessor.bufferView is None:
            values = np.zeros((accessor.count, width), dtype)
        else:
            values = self._view(accessor.bufferView, accessor.byteOffset or 0, accessor.count, width, dtype)
        if accessor.sparse is not None and accessor.sparse.count:
            sparse_indices, sparse_values = accessor.sparse.indices, accessor.sparse.values
            rows = self._view(
                sparse_indices.bufferView,
                sparse_indices.byteOffset or 0,
                accessor.sparse.count,
                1,
                COMPONENT_DTYPES[sparse_indices.componentType],
            )
            values[rows.ravel()] = self._view(
                sparse_values.bufferView, sparse_values.byteOffset or 0, len(rows), width, dtype
            )
        if accessor.normalized and values.dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(values.dtype).max, -1.0)
        return values


def read_gltf(path: Path) -> Template:
    """Read a glTF or GLB file.

    Vertices are in the order of nodes and primitives, with node transforms and skinning by the joints' rest pose
    applied.

    Args:
        path: The file.

    Returns:
        The merged mesh with its morph targets.

    Raises:
        InputError: If the file is unreadable or compressed with an unsupported extension.
    """
    return _checked(path, _read)


def _checked(path: Path, read: Callable[[_GltfFile], Read]) -> Read:
    """Read a file; raises InputError where that fails."""
    try:
        return read(_GltfFile(path))
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable glTF file ({reason[:120]}); export it again") from None


@dataclass(frozen=True)
class PlacedPrimitive:
    """A triangle primitive of the scene, with its vertices' place in the merged mesh.

    Attributes:
        node: Index of the node.
        mesh: Index of the mesh.
        primitive: Index of the primitive in its mesh.
        start: Index of its first vertex in the mesh that `read_gltf` returns.
        positions: Vertices (P, 3) in the rest pose.
        linear: Linear part (P, 3, 3) of the map from the primitive's space to that of the rest pose.
    """

    node: int
    mesh: int
    primitive: int
    start: int
    positions: np.ndarray
    linear: np.ndarray


def placed_primitives(path: Path) -> list[PlacedPrimitive]:
    """Return the primitives of a file in the order of the vertices of `read_gltf`; raises as that does."""
    return _checked(path, lambda file: list(_place_primitives(file)))


def _place_primitives(file: _GltfFile) -> Iterator[PlacedPrimitive]:
    world, start = _world_matrices(file.document), 0
    for node, matrix in world.items():
        mesh_node = file.document.nodes[node]
        if mesh_node.mesh is None:
            continue
        for number, primitive in enumerate(file.document.meshes[mesh_node.mesh].primitives):
            if (primitive.mode if primitive.mode is not None else 4) != 4 or primitive.attributes.POSITION is None:
                continue
            points = file.read_accessor(primitive.attributes.POSITION).astype(np.float64)
            matrices = np.broadcast_to(matrix, (len(points), 4, 4))
            if mesh_node.skin is not None and primitive.attributes.JOINTS_0 is not None:
                matrices = _skinning_matrices(file, file.document.skins[mesh_node.skin], primitive.attributes, world)
            linear = matrices[:, :3, :3]
            positions = np.einsum("pij,pj->pi", linear, points) + matrices[:, :3, 3]
            yield PlacedPrimitive(node, mesh_node.mesh, number, start, positions, linear)
            start += len(points)


def _read(file: _GltfFile) -> Template:
    """Merge all triangle primitives of the scene."""
    merger, world = MeshMerger(), _world_matrices(file.document)
    for placed in _place_primitives(file):
        mesh_node, mesh = file.document.nodes[placed.node], file.document.meshes[placed.mesh]
        holders = (mesh, *mesh.primitives)
        names: list[str] = next((h.extras["targetNames"] for h in holders if "targetNames" in (h.extras or {})), [])
        primitive, count = mesh.primitives[placed.primitive], len(placed.positions)
        indices = np.arange(count) if primitive.indices is None else file.read_accessor(primitive.indices).ravel()
        triangles = indices[: len(indices) // 3 * 3].reshape(-1, 3)
        mirrored = np.linalg.det(world[placed.node][:3, :3]) < 0
        colors = None
        if primitive.attributes.COLOR_0 is not None:
            linear = file.read_accessor(primitive.attributes.COLOR_0)[:, :3].astype(np.float64)
            colors = np.clip(linear, 0, 1) ** (1 / 2.2) * 255
        label = str(mesh_node.name or mesh.name or f"node {placed.node}")
        merger.add_mesh(label, placed.positions, triangles[:, ::-1] if mirrored else triangles, colors)
        for number, target in enumerate(primitive.targets or []):
            index = target.get("POSITION") if isinstance(target, dict) else target.POSITION
            if index is not None:
                name = str(names[number]) if number < len(names) else f"target_{number}"
                offsets = file.read_accessor(index).astype(np.float64)
                merger.add_shape(name, np.einsum("pij,pj->pi", placed.linear, offsets))
    return merger.build_template()


def _world_matrices(document: gl.GLTF2) -> dict[int, np.ndarray]:
    """Node index → world matrix (4, 4), for all nodes of the scene."""
    if document.scenes:
        roots = document.scenes[document.scene or 0].nodes or []
    else:
        children = {child for node in document.nodes for child in node.children or []}
        roots = [index for index in range(len(document.nodes)) if index not in children]

    def walk(index: int, parent: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        node = document.nodes[index]
        local = np.eye(4)
        if node.matrix is not None:
            local = np.array(node.matrix, np.float64).reshape(4, 4).T
        else:
            local[:3, :3] = Rotation.from_quat(node.rotation or [0, 0, 0, 1]).as_matrix() * (node.scale or [1, 1, 1])
            local[:3, 3] = node.translation or [0, 0, 0]
        yield index, parent @ local
        for child in node.children or []:
            yield from walk(child, parent @ local)

    return {index: matrix for root in roots for index, matrix in walk(root, np.eye(4))}


def _skinning_matrices(file: _GltfFile, skin: Any, attributes: Any, world: dict[int, np.ndarray]) -> np.ndarray:
    """Skinning matrix (P, 4, 4) of each vertex, by the joints' rest pose."""
    joint_matrices = np.stack([world.get(joint, np.eye(4)) for joint in skin.joints])
    if skin.inverseBindMatrices is not None:
        joint_matrices = joint_matrices @ file.read_accessor(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(
            0, 2, 1
        )
    joints = file.read_accessor(attributes.JOINTS_0).astype(np.int64)
    weights = file.read_accessor(attributes.WEIGHTS_0).astype(np.float64)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    vertex_matrices: np.ndarray = np.einsum("pk,pkij->pij", weights, joint_matrices[joints])
    return vertex_matrices
