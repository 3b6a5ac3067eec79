"""The user's own glTF or VRM character with one animation more: nothing of the file is lost or reordered.

Meshes that have the shapes are animated by their own morph targets; the others get them added to their primitives. Head
and eyes turn on the skeleton's bones where there are some.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.exchange.curve_reduction import reduce_rotations, reduce_weights
from kmtalk.exchange.glb_file import GlbFile
from kmtalk.exchange.gltf import CHARACTER_ANIMATION, MIN_OFFSET_MM, SAME_SHAPE_MM
from kmtalk.face.files.gltf import (
    PlacedPrimitive,
    checked,
    default_weights,
    nodes_below,
    place_primitives,
    target_names,
    target_offsets,
)
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.geometry import invert_maps
from kmtalk.face.joints import HEAD_DEGREES, HEAD_NAMES
from kmtalk.face.motion import Motion


def write_character(
    path: Path,
    source: Path,
    motion: Motion,
    extras: Mapping[str, object] | None = None,
    reduce: float = 0.0,
    animation_only: bool = False,
) -> None:
    """Write the file of a character with the motion as a further animation.

    Keyframe n is stored at n / fps seconds, as `kmtalk.exchange.gltf.write_glb` does.

    Args:
        path: The .glb or .vrm file.
        source: The character's file, from which the motion's template was read.
        motion: The motion.
        extras: Words, phones and key frames to store in the animation's extras.
        reduce: Largest error of a weight at a frame, for fewer keys, and of a rotation the same share of
            `HEAD_DEGREES`; 0 writes a key for every frame.
        animation_only: Leave out what can be seen: the file has the same nodes and the animation, for programs that
            play it on the character that they have.

    Raises:
        InputError: The file cannot be read, or has changed since.
    """
    file = checked(source, lambda document: _animated(document, motion, extras or {}, reduce))
    (_without_geometry(file) if animation_only else file).save(path)


@dataclass(frozen=True)
class _Shapes:
    """The shapes that the motion moves: names (K,), offsets (K, V, 3), weights (N, K), in the template's units.

    Offsets up to `threshold` are dropped; own shapes of the file that differ by more than `tolerance` are others.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    weights: np.ndarray
    threshold: float
    tolerance: float


def _animated(document: GltfDocument, motion: Motion, extras: Mapping[str, object], reduce: float) -> GlbFile:
    """The file with the animation."""
    template = motion.rig.template
    among = nodes_below(document, template.node or None)
    primitives, file = place_primitives(document, among), GlbFile.of(document)
    nodes = file.document["nodes"]
    count = sum(len(p.positions) for p in primitives)
    bones = [j for j in template.joints if j.node >= len(nodes) or nodes[j.node].get("name", j.name) != j.name]
    if count != len(template.vertices) or bones:
        raise InputError("has changed since it was animated; animate it again")
    names, offsets, weights = motion.rig.morph_targets(motion.weights)
    kept = [k for k, name in enumerate(names) if not template.joints or name not in HEAD_NAMES]
    limits = MIN_OFFSET_MM / template.mm_per_unit, SAME_SHAPE_MM / template.mm_per_unit
    shapes = _Shapes(tuple(names[k] for k in kept), offsets[kept], weights[:, kept], *limits)
    animation: dict[str, Any] = {"name": CHARACTER_ANIMATION, "channels": [], "samplers": []}
    animation["extras"] = {"fps": motion.fps, **extras}
    times: dict[bytes, int] = {}

    def add_channel(node: int, channel: str, values: np.ndarray, keys: np.ndarray) -> None:
        if keys.tobytes() not in times:
            times[keys.tobytes()] = file.add_accessor((keys / motion.fps).astype(np.float32), bounds=True)
        output = file.add_accessor(values[keys].reshape(-1) if channel == "weights" else values[keys])
        sampler = {"input": times[keys.tobytes()], "output": output, "interpolation": "LINEAR"}
        animation["samplers"].append(sampler)
        target = {"node": node, "path": channel}
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})

    every = np.arange(len(motion))
    for node, parts in _by_node(primitives).items():
        mesh = parts[0].mesh
        own = [k for k, n in enumerate(nodes) if n.get("mesh") == mesh and _is_among(document, k, among)]
        places = own if any(p.get("targets") for p in document.items("meshes")[mesh]["primitives"]) else [node]
        moved = shapes.offsets[:, parts[0].start : parts[-1].start + len(parts[-1].positions)]
        if not np.abs(moved).max(initial=0) > shapes.threshold:
            continue
        number = _own_mesh(file, document, mesh, node, primitives)
        columns = _add_targets(file, document, number, parts, shapes)
        total = len(target_names(file.document, number))
        for place in places if columns else ():
            rest = (default_weights(document.json, place, mesh) + [0.0] * total)[:total]
            values = np.tile(np.array(rest, np.float32), (len(motion), 1))
            for k, column in columns.items():
                values[:, column] = shapes.weights[:, k]
            if "weights" in nodes[place]:
                nodes[place]["weights"] = rest
            add_channel(place, "weights", values, reduce_weights(values, reduce) if reduce else every)
    rotations = motion.rig.joint_rotations(motion.weights)
    for k, joint in enumerate(template.joints):
        turned = _node_rotations(file.document, joint.node, rotations[:, k])
        keys = reduce_rotations(turned, reduce * np.radians(HEAD_DEGREES)) if reduce else every
        add_channel(joint.node, "rotation", turned, keys)
    file.document.setdefault("animations", []).append(animation)
    return file


def _by_node(primitives: Sequence[PlacedPrimitive]) -> dict[int, list[PlacedPrimitive]]:
    out: dict[int, list[PlacedPrimitive]] = {}
    for one in primitives:
        out.setdefault(one.node, []).append(one)
    return out


def _is_among(document: GltfDocument, number: int, among: set[int] | None) -> bool:
    """Whether a node is one of the chosen nodes, or is skinned to some of them."""
    node = document.items("nodes")[number]
    joints = document.items("skins")[node["skin"]]["joints"] if "skin" in node else []
    return among is None or number in among or bool(among & set(joints))


def _own_mesh(
    file: GlbFile, document: GltfDocument, mesh: int, node: int, primitives: Sequence[PlacedPrimitive]
) -> int:
    """The mesh of a node; a copy where the same one stands elsewhere and moves otherwise there, as that of two eyes."""
    if node == next(p.node for p in primitives if p.mesh == mesh):
        return mesh
    file.document["meshes"].append(copy.deepcopy(document.items("meshes")[mesh]))
    file.document["nodes"][node]["mesh"] = len(file.document["meshes"]) - 1
    return len(file.document["meshes"]) - 1


def _add_targets(
    file: GlbFile, document: GltfDocument, number: int, parts: Sequence[PlacedPrimitive], shapes: _Shapes
) -> dict[int, int]:
    """Find the morph targets of a mesh that are the shapes, and add those that move it and that it lacks.

    A target of the same name that does something else, such as nothing, is left alone; ours gets another name.

    Returns:
        Shape → the target's index.
    """
    mesh, given = file.document["meshes"][number], document.items("meshes")[parts[0].mesh]
    known = target_names(document.json, parts[0].mesh)
    written = list(known)
    columns: dict[int, int] = {}
    added: list[int] = []
    for k, name in enumerate(shapes.names):
        ours = [shapes.offsets[k, p.start : p.start + len(p.positions)] for p in parts]
        is_own = name in known
        if is_own:
            column = known.index(name)
            theirs = [_file_offsets(document, given["primitives"][p.primitive], column, p) for p in parts]
            is_own = all(np.abs(a - b).max(initial=0) <= shapes.tolerance for a, b in zip(ours, theirs, strict=True))
        if is_own:
            columns[k] = column
        elif any(np.abs(o).max(initial=0) > shapes.threshold for o in ours):
            while name in written:
                name += "_kmtalk"
            columns[k] = len(written)
            written.append(name)
            added.append(k)
    if not added:
        return columns
    placed = {p.primitive: p for p in parts}
    for place, primitive in enumerate(mesh["primitives"]):
        if "POSITION" not in primitive["attributes"]:
            continue
        targets = primitive.setdefault("targets", [])
        size = file.document["accessors"][primitive["attributes"]["POSITION"]]["count"]
        part = placed.get(place)
        # three.js takes the mesh's own normals for a target that lacks them where another has some
        shaded = [name for name in ("NORMAL", "TANGENT") if any(name in target for target in targets)]
        while len(targets) < len(known):
            targets.append({name: file.add_zeros(size) for name in ("POSITION", *shaded)})
        inverse = None if part is None else invert_maps(part.linear)
        for k in added:
            local = np.zeros((size, 3))
            if part is not None and inverse is not None:
                moved = shapes.offsets[k, part.start : part.start + size].astype(np.float64)
                moved[np.abs(moved).max(1) <= shapes.threshold] = 0
                local = np.einsum("pij,pj->pi", inverse, moved)
            targets.append({"POSITION": file.add_offsets(local, 0.0)} | {n: file.add_zeros(size) for n in shaded})
    extras = mesh.get("extras") or {}
    mesh["extras"] = {**(extras if isinstance(extras, dict) else {"extras": extras}), "targetNames": written}
    if "weights" in mesh:
        mesh["weights"] = [*mesh["weights"], *[0.0] * (len(written) - len(mesh["weights"]))]
    return columns


def _file_offsets(
    document: GltfDocument, primitive: Mapping[str, Any], column: int, part: PlacedPrimitive
) -> np.ndarray:
    """Offsets (P, 3) of a morph target of the file in the rest pose, zero where it has none."""
    targets = primitive.get("targets") or []
    if column >= len(targets) or "POSITION" not in targets[column]:
        return np.zeros_like(part.positions)
    return target_offsets(document, targets[column], part.linear)


def _node_rotations(document: dict[str, Any], number: int, turns: np.ndarray) -> np.ndarray:
    """Rotation (N, 4) of a node that is turned by quaternions (N, 4) in space; a matrix gives way to its parts."""
    axes, node = _parent_axes(document, number), document["nodes"][number]
    if "matrix" in node:
        matrix = np.array(node.pop("matrix"), np.float64).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        scale[0] *= np.sign(np.linalg.det(matrix[:3, :3])) or 1.0
        node["translation"], node["scale"] = matrix[:3, 3].tolist(), scale.tolist()
        node["rotation"] = Rotation.from_matrix(matrix[:3, :3] / scale).as_quat().tolist()
    rest = Rotation.from_quat(node.get("rotation") or [0, 0, 0, 1])
    local = Rotation.from_matrix(axes.T @ Rotation.from_quat(turns).as_matrix() @ axes)
    out: np.ndarray = (local * rest).as_quat().astype(np.float32)
    flips = np.cumprod(np.concatenate([[1], np.where((out[1:] * out[:-1]).sum(1) < 0, -1, 1)]))
    return out * flips[:, None].astype(np.float32)  # neighbouring keys on the same side, for linear interpolation


def _parent_axes(document: Mapping[str, Any], node: int) -> np.ndarray:
    """The axes (3, 3) of the space in which a node stands, without scale; mirrored where that is."""
    parents = {child: k for k, n in enumerate(document["nodes"]) for child in n.get("children") or []}
    linear = np.eye(3)
    while node in parents:
        node = parents[node]
        given = document["nodes"][node]
        if "matrix" in given:
            own = np.array(given["matrix"], np.float64).reshape(4, 4).T[:3, :3]
        else:
            own = Rotation.from_quat(given.get("rotation") or [0, 0, 0, 1]).as_matrix() * (
                given.get("scale") or [1, 1, 1]
            )
        linear = own @ linear
    left, _, right = np.linalg.svd(linear)
    axes: np.ndarray = left @ right
    return axes


def _without_geometry(file: GlbFile) -> GlbFile:
    """The nodes and the last animation of a file; meshes with morph targets keep their names and weights alone."""
    document, out = file.document, GlbFile({}, bytearray())
    animation = document["animations"][-1]
    out.document = {key: document[key] for key in ("asset", "scene", "scenes", "nodes") if key in document}

    def copied(accessor: int) -> int:
        given = document["accessors"][accessor]
        view = document["bufferViews"][given["bufferView"]]
        raw = file.data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        mine = {**given, "bufferView": out.add_view(np.frombuffer(bytes(raw), np.uint8))}
        out.document.setdefault("accessors", []).append(mine)
        return len(out.document["accessors"]) - 1

    copies: dict[int, int] = {}
    for sampler in animation["samplers"]:
        for end in ("input", "output"):
            if sampler[end] not in copies:
                copies[sampler[end]] = copied(sampler[end])
            sampler[end] = copies[sampler[end]]
    kept: dict[int, int] = {}
    meshes: list[dict[str, Any]] = []
    point = out.add_zeros(3, bounds=True)
    animated = {c["target"]["node"] for c in animation["channels"] if c["target"]["path"] == "weights"}
    for number, node in enumerate(out.document["nodes"]):
        for key in ("skin", "camera", "extensions"):
            node.pop(key, None)
        mesh = node.pop("mesh", None)
        if number not in animated:
            node.pop("weights", None)
            continue
        if mesh not in kept:
            given, kept[mesh] = document["meshes"][mesh], len(meshes)
            count = max(len(p.get("targets") or []) for p in given["primitives"])
            mine = {key: given[key] for key in ("name", "extras", "weights") if key in given}
            targets = [{"POSITION": point} for _ in range(count)]
            meshes.append({**mine, "primitives": [{"attributes": {"POSITION": point}, "targets": targets}]})
        node["mesh"] = kept[mesh]
    out.document |= {"animations": [animation]} | ({"meshes": meshes} if meshes else {})
    return out
