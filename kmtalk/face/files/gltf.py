"""glTF, GLB and VRM reader: all meshes of the scene in their rest pose, with their morph targets and bones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.face.files.gltf_bones import find_bones, suggest_names
from kmtalk.face.files.gltf_characters import check_one_character
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.files.mesh_merge import MAX_SHAPES, MAX_VERTICES, MeshMerger
from kmtalk.face.joints import PARTS, Joint
from kmtalk.face.shape_names import match_shape_names
from kmtalk.face.template import Template

Read = TypeVar("Read")

MAX_REPEATS = 10
"""How many times as many nodes a scene may have as the file, where nodes stand below several others; and primitives a
mesh, where some are the same."""


def read_gltf(path: Path, node: str | None = None, head_bone: str | None = None) -> Template:
    """Read a glTF, GLB or VRM file.

    Vertices are in the order of nodes and primitives, with node transforms and skinning by the joints' rest pose
    applied. Of a mesh with morph targets that stands in the scene more than once, the first one is read.

    Args:
        path: The file.
        node: Name of the node whose meshes are read, with those that are skinned to bones below it; None reads all.
        head_bone: Name of the node that turns with the head; None finds it.

    Returns:
        The merged mesh with its morph targets, bones and VRM expressions.

    Raises:
        InputError: If the file is unreadable or compressed in a manner that cannot be read, or has no such node.
    """
    return checked(path, lambda file: _read(file, node, head_bone))


def checked(path: Path, read: Callable[[GltfDocument], Read]) -> Read:
    """Read a file; raises InputError where that fails."""
    try:
        return read(GltfDocument.load(path))
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
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
        positions: Vertices (P, 3) in the rest pose, under the default weights of morph targets that are no face shapes.
        linear: Linear part (P, 3, 3) of the map from the primitive's space to that of the rest pose.
        joints: Nodes (P, K) of the bones that move each vertex, or the primitive's own node (P, 1).
        shares: Their shares (P, K) of the vertices' skinning.
    """

    node: int
    mesh: int
    primitive: int
    start: int
    positions: np.ndarray
    linear: np.ndarray
    joints: np.ndarray
    shares: np.ndarray


def placed_primitives(path: Path, node: str | None = None) -> list[PlacedPrimitive]:
    """Return the primitives of a file in the order of the vertices of `read_gltf`; raises as that does."""
    return checked(path, lambda file: place_primitives(file, nodes_below(file, node)))


def place_primitives(file: GltfDocument, among: set[int] | None = None) -> list[PlacedPrimitive]:
    """Return the primitives of a document whose nodes, or whose bones, are `among` some nodes; None for all."""
    world = world_matrices(file)
    out: list[PlacedPrimitive] = []
    nodes, meshes, skins = file.items("nodes"), file.items("meshes"), file.items("skins")
    start, seen = 0, set()
    for number, matrix in world.items():
        mesh_number = nodes[number].get("mesh")
        if mesh_number is None:
            continue
        skin = skins[nodes[number]["skin"]] if "skin" in nodes[number] else None
        if among is not None and number not in among and not (skin and among & set(skin["joints"])):
            continue
        primitives = meshes[mesh_number]["primitives"]
        if len(primitives) > MAX_REPEATS * len({str(p) for p in primitives}):
            raise InputError(f"mesh {mesh_number} has the same faces more than {MAX_REPEATS} times; remove them")
        if mesh_number in seen and any(p.get("targets") for p in primitives):
            continue  # another instance, which moves as the first one does
        seen.add(mesh_number)
        for place, primitive in enumerate(primitives):
            if primitive.get("mode", 4) != 4 or "POSITION" not in primitive["attributes"]:
                continue
            if start + file.items("accessors")[primitive["attributes"]["POSITION"]]["count"] > MAX_VERTICES:
                raise InputError(f"has more than {MAX_VERTICES:,} vertices; decimate its meshes")
            points = file.read_attribute(primitive, "POSITION").astype(np.float64)
            matrices = np.broadcast_to(matrix, (len(points), 4, 4))
            joints, shares = np.full((len(points), 1), number), np.ones((len(points), 1))
            if skin is not None and "JOINTS_0" in primitive["attributes"]:
                matrices, joints, shares = _skinning(file, skin, primitive, world)
            linear = matrices[:, :3, :3]
            positions = np.einsum("pij,pj->pi", linear, points) + matrices[:, :3, 3]
            names, given = target_names(file.json, mesh_number), default_weights(file.json, number, mesh_number)
            known = match_shape_names(names)  # they get their weights from the motion
            for name, weight, target in zip(names, given, primitive.get("targets") or [], strict=False):
                if weight and name not in known and "POSITION" in target:
                    positions += weight * target_offsets(file, target, linear)
            out.append(PlacedPrimitive(number, mesh_number, place, start, positions, linear, joints, shares))
            start += len(points)
    return out


def target_offsets(file: GltfDocument, target: Mapping[str, int], linear: np.ndarray) -> np.ndarray:
    """Offsets (P, 3) of a morph target in the space of the rest pose, to which `linear` (P, 3, 3) maps."""
    offsets: np.ndarray = np.einsum("pij,pj->pi", linear, file.read_accessor(target["POSITION"]).astype(np.float64))
    return offsets


def default_weights(document: Mapping[str, Any], node: int, mesh: int) -> list[float]:
    """The weights of a mesh's morph targets where no animation sets them: the node's, else the mesh's, else zero."""
    given = document["nodes"][node].get("weights") or document["meshes"][mesh].get("weights") or []
    count = len(target_names(document, mesh))
    return ([float(weight) for weight in given] + [0.0] * count)[:count]


def target_names(document: Mapping[str, Any], mesh_number: int) -> list[str]:
    """Names of a mesh's morph targets: in the extras of the mesh or of a primitive, or on the accessors."""
    mesh = document["meshes"][mesh_number]
    targets = max((p.get("targets") or [] for p in mesh["primitives"]), key=len, default=[])
    given: list[Any] = []
    for holder in (mesh, *mesh["primitives"]):
        extras = holder.get("extras")
        names = extras.get("targetNames") if isinstance(extras, dict) else None
        if isinstance(names, list) and names:
            given = names
            break
    if len(targets) > MAX_SHAPES:
        raise InputError(f"mesh {mesh.get('name', mesh_number)} has more than {MAX_SHAPES:,} morph targets")
    label = str(mesh.get("name") or f"mesh_{mesh_number}")
    out: list[str] = []
    for k, target in enumerate(targets):
        name = str(given[k]) if k < len(given) else None
        if name is None and "POSITION" in target:  # FBX2glTF names the accessors
            name = document["accessors"][target["POSITION"]].get("name")
        name = name or f"{label}_target_{k}"
        out.append(name if name not in out else f"{name}_{k}")
    return out


def nodes_below(file: GltfDocument, name: str | None) -> set[int] | None:
    """A node of a name and all below it; None for no name."""
    if name is None:
        return None
    nodes = file.items("nodes")
    roots = [k for k, node in enumerate(nodes) if node.get("name") == name]
    if not roots:
        holders = [str(n["name"]) for n in nodes if n.get("name") and ("mesh" in n or n.get("children"))]
        raise InputError(f"no node is named {name}; {suggest_names(name, holders)}")
    out: set[int] = set()
    while roots:
        node = roots.pop()
        if node not in out:
            out.add(node)
            roots += nodes[node].get("children") or []
    return out


def _read(file: GltfDocument, node: str | None, head_bone: str | None) -> Template:
    """Merge all triangle primitives of the scene."""
    merger, world, among = MeshMerger(), world_matrices(file), nodes_below(file, node)
    placed = place_primitives(file, among)
    if node is None:
        boxes = [(p.node, p.positions.min(0), p.positions.max(0)) for p in placed if len(p.positions)]
        check_one_character(file, boxes, {p.node: target_names(file.json, p.mesh) for p in placed})
    for one in placed:
        mesh_node, mesh = file.items("nodes")[one.node], file.items("meshes")[one.mesh]
        primitive, count = mesh["primitives"][one.primitive], len(one.positions)
        triangles = file.read_triangles(primitive, count)
        mirrored = np.linalg.det(world[one.node][:3, :3]) < 0
        colors = None
        if "COLOR_0" in primitive["attributes"]:
            linear = file.read_attribute(primitive, "COLOR_0")[:, :3].astype(np.float64)
            colors = np.clip(linear, 0, 1) ** (1 / 2.2) * 255
        label = str(mesh_node.get("name") or mesh.get("name") or f"node {one.node}")
        merger.add_mesh(label, one.positions, triangles[:, ::-1] if mirrored else triangles, colors)
        names = target_names(file.json, one.mesh)
        for number, target in enumerate(primitive.get("targets") or []):
            if "POSITION" in target:
                merger.add_shape(names[number], target_offsets(file, target, one.linear))
    template = merger.build_template()
    joints = _joints(file, placed, world, head_bone, among, len(template.vertices))
    return replace(template, joints=joints, expressions=_expressions(file), node=node or "")


def _joints(
    file: GltfDocument,
    placed: list[PlacedPrimitive],
    world: Mapping[int, np.ndarray],
    head_bone: str | None,
    among: set[int] | None,
    count: int,
) -> tuple[Joint, ...]:
    """The bones on which head and eyes turn, with the vertices bound to them or to bones below them."""
    nodes = file.items("nodes")
    if among is not None:  # the skeleton of the chosen meshes may stand elsewhere
        among = among | {int(j) for p in placed for j in np.unique(p.joints)}
    bones = find_bones(file.json, head_bone, among)
    chosen = [part for part in PARTS if part in bones and bones[part] in world]
    parents = {child: k for k, node in enumerate(nodes) for child in node.get("children") or []}
    places = {bones[part]: k for k, part in enumerate(chosen)}

    def nearest(node: int | None) -> int:
        """Place of the chosen bone that a node stands on, -1 without."""
        passed = []
        while node is not None and node not in places:
            passed.append(node)
            node = parents.get(node)
        found = -1 if node is None else places[node]
        places.update(dict.fromkeys(passed, found))  # so that each node is passed once
        return found

    weights = np.zeros((len(chosen) + 1, count), np.float32)  # the last row is that of all other bones
    place_of = np.array([nearest(k) for k in range(len(nodes))], np.int64)
    for one in placed:
        vertices = np.arange(one.start, one.start + len(one.joints))
        for column in range(one.joints.shape[1]):
            np.add.at(weights, (place_of[one.joints[:, column]], vertices), one.shares[:, column])
    if head_bone is not None and not (weights[chosen.index("head")] > 0).any():
        raise InputError(f"the bone {head_bone} moves no vertices; choose another for --head-bone")
    if not (weights[[k for k, part in enumerate(chosen) if part == "head"]] > 0).any():
        return ()  # bones without a mesh
    return tuple(
        Joint(
            part,
            str(nodes[bones[part]].get("name") or f"node {bones[part]}"),
            bones[part],
            nearest(parents.get(bones[part])),
            world[bones[part]][:3, 3],
            weights[k],
        )
        for k, part in enumerate(chosen)
    )


def _expressions(file: GltfDocument) -> dict[str, dict[str, float]]:
    """VRM expression → morph target → weight, of VRM 0's groups or VRM 1's expressions."""
    extensions = file.json.get("extensions") or {}
    out: dict[str, dict[str, float]] = {}

    names_of = lru_cache(partial(target_names, file.json))

    def bind(name: str, mesh: Any, target: Any, weight: Any) -> None:
        meshes = file.items("meshes")
        names = names_of(mesh) if isinstance(mesh, int) and 0 <= mesh < len(meshes) else []
        usable = isinstance(target, int) and 0 <= target < len(names) and isinstance(weight, int | float)
        if usable and weight:
            out.setdefault(name, {})[names[target]] = float(weight)

    for group in ((extensions.get("VRM") or {}).get("blendShapeMaster") or {}).get("blendShapeGroups") or []:
        preset = str(group.get("presetName") or "unknown")
        name = str(group.get("name") or "") if preset.lower() == "unknown" else preset
        for one in group.get("binds") or []:
            bind(name, one.get("mesh"), one.get("index"), (one.get("weight") or 0) / 100)
    expressions = (extensions.get("VRMC_vrm") or {}).get("expressions") or {}
    nodes = file.items("nodes")
    for kind in ("preset", "custom"):
        for name, given in (expressions.get(kind) or {}).items():
            for one in (given or {}).get("morphTargetBinds") or []:
                node = one.get("node")
                holder = nodes[node] if isinstance(node, int) and 0 <= node < len(nodes) else {}
                bind(name, holder.get("mesh"), one.get("index"), one.get("weight"))
    return out


def world_matrices(file: GltfDocument) -> dict[int, np.ndarray]:
    """Node index → world matrix (4, 4), for all nodes of the scene."""
    nodes, scenes = file.items("nodes"), file.items("scenes")
    if scenes:
        roots = scenes[file.json.get("scene") or 0].get("nodes") or []
    else:
        children = {child for node in nodes for child in node.get("children") or []}
        roots = [index for index in range(len(nodes)) if index not in children]

    out: dict[int, np.ndarray] = {}
    left, visits = [(root, np.eye(4)) for root in reversed(roots)], 0
    while left:
        index, parent = left.pop()
        node, visits = nodes[index], visits + 1
        if visits > MAX_REPEATS * len(nodes) + 1000:
            raise ValueError("its nodes stand below several others, over and over")
        local = np.eye(4)
        if "matrix" in node:
            local = np.array(node["matrix"], np.float64).reshape(4, 4).T
        else:
            local[:3, :3] = Rotation.from_quat(node.get("rotation") or [0, 0, 0, 1]).as_matrix()
            local[:3, :3] *= node.get("scale") or [1, 1, 1]
            local[:3, 3] = node.get("translation") or [0, 0, 0]
        out[index] = parent @ local
        left += [(child, out[index]) for child in reversed(node.get("children") or [])]
    return out


def _skinning(
    file: GltfDocument, skin: Mapping[str, Any], primitive: Mapping[str, Any], world: Mapping[int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skinning matrix (P, 4, 4) of each vertex by the joints' rest pose, its joints' nodes (P, K) and their shares."""
    joint_matrices = np.stack([world.get(joint, np.eye(4)) for joint in skin["joints"]])
    if "inverseBindMatrices" in skin:
        inverse = file.read_accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        joint_matrices = joint_matrices @ inverse[: len(joint_matrices)]
    sets = [k for k in range(4) if f"JOINTS_{k}" in primitive["attributes"]]
    read = lambda name: np.concatenate([file.read_attribute(primitive, f"{name}_{k}") for k in sets], axis=1)  # noqa: E731
    joints, weights = read("JOINTS").astype(np.int64), read("WEIGHTS").astype(np.float64)
    weights[weights.sum(1) <= 0, 0] = 1.0  # as three.js has it
    weights /= weights.sum(1, keepdims=True)
    vertex_matrices = np.zeros((len(joints), 4, 4))
    for column in range(joints.shape[1]):
        vertex_matrices += weights[:, column, None, None] * joint_matrices[joints[:, column]]
    return vertex_matrices, np.array(skin["joints"])[joints], weights
