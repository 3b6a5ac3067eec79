"""Writes meshes of the scene as one GLB that kmtalk reads.

Each mesh is written as it is edited: its basis without modifiers and without shape keys, in the axes of glTF (y up),
with its vertices in Blender's order. So a vertex of the animation is a vertex of the mesh.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from .process import KMTalkError

Y_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
"""From Blender's axes, z up, to those of glTF, y up."""

MADE_SHAPES = "kmtalk_shapes"
"""Custom property of shape keys (the data-block): names of those that the extension made, one a line."""


@dataclass(frozen=True)
class PlacedMesh:
    """A mesh object and its place in the exported mesh.

    Objects are kept by name, because undo makes references to them invalid.

    Attributes:
        object_name: Name of the object.
        first: Index of its first vertex.
        count: Number of its vertices.
        to_export: Matrix (4, 4) from the object's local space to the exported mesh.
    """

    object_name: str
    first: int
    count: int
    to_export: np.ndarray

    def find_object(self) -> bpy.types.Object:
        """Return the object; raises KMTalkError if it is gone or has other vertices now."""
        found = bpy.data.objects.get(self.object_name)
        if found is None or found.type != "MESH" or len(found.data.vertices) != self.count:
            raise KMTalkError(f"{self.object_name}: has changed while kmtalk worked; press Animate again")
        check_object_mode(found)
        return found


def collect_objects(context: bpy.types.Context, chosen: bpy.types.Object | None) -> list[bpy.types.Object]:
    """Return the mesh objects to animate, one for each mesh data-block.

    Args:
        context: The context.
        chosen: A mesh, or an armature, which stands for all visible meshes that it deforms or carries; None takes
            what is selected, or else the active object.

    Raises:
        KMTalkError: There is no such mesh, or one cannot be animated.
    """
    layer = context.view_layer.objects
    given = [chosen] if chosen else list(layer.selected) or [layer.active]
    meshes = [o for o in given if o is not None and o.type == "MESH"]
    if not meshes:
        armatures = [o for o in given if o is not None and o.type == "ARMATURE"]
        meshes = [
            o for o in layer if o.type == "MESH" and o.visible_get() and armature_of(o) in armatures and armatures
        ]
    if not meshes:
        raise KMTalkError("no mesh is selected; select the head, and its teeth, tongue and eyes where they are apart")
    by_data = {o.data: o for o in sorted(meshes, key=lambda o: o.name, reverse=True)}
    objects = sorted(by_data.values(), key=lambda o: o.name)
    for found in objects:
        _check(found, layer)
    return objects


def _check(found: bpy.types.Object, layer: Sequence[bpy.types.Object]) -> None:
    """Raise KMTalkError if an object cannot be animated."""
    name, mesh = found.name, found.data
    if found not in list(layer):  # not by name, which an object of a library may share
        raise KMTalkError(f"{name}: is not in this scene's view layer; link it to the scene first")
    if mesh.library is not None or (mesh.shape_keys is not None and mesh.shape_keys.library is not None):
        raise KMTalkError(f"{name}: its mesh is linked from a library; make it local (Object > Relations > Make Local)")
    check_object_mode(found)
    if mesh.shape_keys is not None and not mesh.shape_keys.use_relative:
        raise KMTalkError(f"{name}: has absolute shape keys; switch on Relative in its Shape Keys panel")
    if any(m.type == "MIRROR" and m.show_viewport for m in found.modifiers):
        raise KMTalkError(f"{name}: has a Mirror modifier, so that half a face is left; apply the modifier first")


def check_object_mode(found: bpy.types.Object) -> None:
    """Raise KMTalkError if an object is being edited."""
    if found.mode == "EDIT":
        raise KMTalkError(f"{found.name}: is in Edit Mode; leave it (Tab) and try again")


def armature_of(found: bpy.types.Object) -> bpy.types.Object | None:
    """Return the armature that deforms an object or carries it."""
    armature = found.find_armature()
    parent = found.parent
    while armature is None and parent is not None:
        armature, parent = (parent if parent.type == "ARMATURE" else parent.find_armature()), parent.parent
    return armature


@contextmanager
def rest_position(context: bpy.types.Context, armatures: Iterable[bpy.types.Object]) -> Iterator[None]:
    """Show armatures in rest position, so that objects on their bones stand where they belong on the bare mesh."""
    before = {armature.data: armature.data.pose_position for armature in armatures}
    try:
        for data in before:
            data.pose_position = "REST"
        context.view_layer.update()
        yield
    finally:
        for data, position in before.items():
            data.pose_position = position
        context.view_layer.update()


def write_meshes(context: bpy.types.Context, objects: Sequence[bpy.types.Object], path: Path) -> list[PlacedMesh]:
    """Write mesh objects with their own shape keys as a GLB.

    Shape keys that the extension has made are left out, so that the mesh is fitted as it was the first time.

    Args:
        context: The context.
        objects: The objects.
        path: The file.

    Returns:
        The places of the objects in the file.

    Raises:
        KMTalkError: An object has no faces or no size.
    """
    glb, places, first = _Glb(), [], 0
    with rest_position(context, {a for a in map(armature_of, objects) if a is not None}):
        for found in objects:
            matrix = Y_UP @ np.array(found.matrix_world, np.float64)
            if abs(np.linalg.det(matrix[:3, :3])) < 1e-18:
                raise KMTalkError(f"{found.name}: its scale is 0; correct its scale")
            mesh, linear = found.data, matrix[:3, :3]
            basis, shapes = _basis_and_shapes(mesh)
            mesh.calc_loop_triangles()
            triangles = np.empty(3 * len(mesh.loop_triangles), np.uint32)
            mesh.loop_triangles.foreach_get("vertices", triangles)
            triangles = triangles.reshape(-1, 3)
            if np.linalg.det(linear) < 0:  # a mirrored mesh would be inside out
                triangles = triangles[:, ::-1]
            moved = {name: offsets @ linear.T for name, offsets in shapes.items()}
            if len(triangles):
                glb.add_mesh(found.name, basis @ linear.T + matrix[:3, 3], triangles, moved)
                places.append(PlacedMesh(found.name, first, len(basis), matrix))
                first += len(basis)
    if not places:
        raise KMTalkError(f"{objects[0].name}: has no faces; select the mesh of a head")
    glb.save(path)
    return places


def _basis_and_shapes(mesh: bpy.types.Mesh) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The basis (V, 3) of a mesh in its local space, and the offsets (V, 3) of its own shape keys by name."""
    keys = mesh.shape_keys
    if keys is None:
        return read_coordinates(mesh.vertices), {}
    made = made_shapes(keys)
    shapes = {}
    for block in keys.key_blocks:
        if block != keys.reference_key and block.name not in made and not block.mute:
            offsets = read_coordinates(block.data) - read_coordinates(block.relative_key.data)
            shapes[block.name] = offsets * _group_weights(mesh, block.vertex_group)[:, None]
    return read_coordinates(keys.reference_key.data), shapes


def read_coordinates(points: bpy.types.bpy_prop_collection) -> np.ndarray:
    """Return the coordinates (V, 3) of vertices, or of a shape key's data."""
    out = np.empty(3 * len(points), np.float32)
    points.foreach_get("co", out)
    return out.reshape(-1, 3)


def made_shapes(keys: bpy.types.Key) -> list[str]:
    """Return the names of the shape keys that the extension has made."""
    return str(keys.get(MADE_SHAPES, "")).splitlines()


def _group_weights(mesh: bpy.types.Mesh, group_name: str) -> np.ndarray:
    """Weight of each vertex (V,) by which a shape key with a vertex group moves it."""
    users = [o for o in bpy.data.objects if o.data == mesh and group_name in o.vertex_groups]
    if not group_name or not users:
        return np.ones(len(mesh.vertices))
    number, weights = users[0].vertex_groups[group_name].index, np.zeros(len(mesh.vertices))
    for vertex in mesh.vertices:
        for group in vertex.groups:
            if group.group == number:
                weights[vertex.index] = group.weight
    return weights


class _Glb:
    """A GLB with one node for each mesh."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._document: dict[str, list] = {"bufferViews": [], "accessors": [], "meshes": [], "nodes": []}

    def add_mesh(self, name: str, points: np.ndarray, triangles: np.ndarray, shapes: dict[str, np.ndarray]) -> None:
        """Add a mesh with its morph targets: points (V, 3), triangles (F, 3), and offsets (V, 3) by name."""
        primitive = {
            "attributes": {"POSITION": self._add(points.astype("<f4"))},
            "indices": self._add(triangles.astype("<u4").reshape(-1, 1)),
        }
        mesh = {"name": name, "primitives": [primitive]}
        if shapes:
            primitive["targets"] = [{"POSITION": self._add(offsets.astype("<f4"))} for offsets in shapes.values()]
            mesh["extras"] = {"targetNames": list(shapes)}
        self._document["meshes"].append(mesh)
        self._document["nodes"].append({"name": name, "mesh": len(self._document["meshes"]) - 1})

    def _add(self, values: np.ndarray) -> int:
        """Add an accessor of positions (V, 3) float32 or indices (n, 1) uint32."""
        is_position = values.shape[1] == 3
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": values.nbytes}
        self._data += values.tobytes()
        self._document["bufferViews"].append(view)
        accessor = {
            "bufferView": len(self._document["bufferViews"]) - 1,
            "componentType": 5126 if is_position else 5125,
            "count": len(values),
            "type": "VEC3" if is_position else "SCALAR",
        }
        if is_position:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self._document["accessors"].append(accessor)
        return len(self._document["accessors"]) - 1

    def save(self, path: Path) -> None:
        document = {
            "asset": {"version": "2.0", "generator": "kmtalk for Blender"},
            "scene": 0,
            "scenes": [{"nodes": list(range(len(self._document["nodes"])))}],
            "buffers": [{"byteLength": len(self._data)}],
            **self._document,
        }
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        size = 12 + 8 + len(text) + 8 + len(self._data)
        with path.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(self._data), b"BIN\0"))
            file.write(self._data)
