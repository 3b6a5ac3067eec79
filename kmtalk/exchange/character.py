"""The user's own GLB or VRM with one animation more: nothing of the file is lost or reordered.

Meshes that have the shapes are animated by their own morph targets; the others get them added to their primitives. The
head turns on the skeleton's head bone where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.exchange.glb_file import GlbFile
from kmtalk.exchange.gltf import CHARACTER_ANIMATION
from kmtalk.expression.head import DEGREES_PER_WEIGHT
from kmtalk.face.files.gltf import PlacedPrimitive, placed_primitives
from kmtalk.face.motion import Motion
from kmtalk.face.rig import HEAD_NAMES

CHARACTER_SUFFIXES = (".glb", ".vrm")
MIN_OFFSET_MM = 2e-4  # mm; smaller offsets of an added shape are dropped
_HEAD_BONE = re.compile(
    r"(?:.*[:_\s.\-]|mixamorig\d*|^)head(?:[_.\s]?(?:bone|joint|x|m|0?1|001))?$|(?:def-)?spine\.006$", re.IGNORECASE
)
_HEAD_PAIRS = (("headPitchUp", "headPitchDown"), ("headYawLeft", "headYawRight"), ("headRollLeft", "headRollRight"))


def write_character(
    path: Path, source: Path, motion: Motion, extras: Mapping[str, object] | None = None, head_bone: str | None = None
) -> None:
    """Write the file of a character with the motion as a further animation.

    Keyframe n is stored at n / fps seconds, as `kmtalk.exchange.gltf.write_glb` does.

    Args:
        path: The .glb or .vrm file.
        source: The character's file, from which the motion's template was read.
        motion: The motion.
        extras: Words, phones and key frames to store in the animation's extras.
        head_bone: Name of the node that turns with the head; None finds it.

    Raises:
        InputError: The file is not a GLB, has changed since, or has no node of that name.
    """
    file, primitives = GlbFile.load(source), placed_primitives(source)
    count = sum(len(p.positions) for p in primitives)
    if count != len(motion.rig.template.vertices):
        raise InputError(f"{source}: has changed since it was animated ({count} vertices); animate it again")
    names, offsets, weights = motion.rig.morph_targets(motion.weights)
    bone = find_head_bone(file.document, head_bone)
    if head_bone is not None and bone is None:
        raise InputError(f"{source}: has no node named {head_bone}")
    kept = [k for k, name in enumerate(names) if bone is None or name not in HEAD_NAMES]
    times = file.add_accessor(np.arange(len(motion), dtype=np.float32) / motion.fps, bounds=True)
    animation: dict[str, Any] = {"name": CHARACTER_ANIMATION, "channels": [], "samplers": []}
    animation["extras"] = {"fps": motion.fps, **(extras or {})}

    def add_channel(node: int, channel: str, values: np.ndarray) -> None:
        sampler = {"input": times, "output": file.add_accessor(values), "interpolation": "LINEAR"}
        animation["samplers"].append(sampler)
        target = {"node": node, "path": channel}
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})

    threshold = MIN_OFFSET_MM / motion.rig.template.mm_per_unit
    targets_of_mesh: dict[int, list[str]] = {}
    for node in dict.fromkeys(p.node for p in primitives):
        parts = [p for p in primitives if p.node == node]
        mesh = parts[0].mesh
        if mesh not in targets_of_mesh:
            targets_of_mesh[mesh] = _add_targets(file, parts, [names[k] for k in kept], offsets[kept], threshold)
        targets = targets_of_mesh[mesh]
        moved = [names[k] for k in kept if names[k] in targets]
        if moved:
            rest = np.array(file.document["meshes"][mesh].get("weights", [0.0] * len(targets)), np.float32)
            values = np.tile(rest, (len(motion), 1))
            for name in moved:
                values[:, targets.index(name)] = weights[:, names.index(name)]
            add_channel(node, "weights", values.reshape(-1))
    if bone is not None and any(name in names for name in HEAD_NAMES):
        add_channel(bone, "rotation", _bone_rotations(file.document, bone, motion, names, weights))
    file.document.setdefault("animations", []).append(animation)
    file.save(path)


def find_head_bone(document: Mapping[str, Any], name: str | None = None) -> int | None:
    """Return the node that the head turns on.

    It is the node called `name`, or that which VRM's humanoid names, or a skin's joint with the head's name in
    Mixamo's, Ready Player Me's, Rigify's, Character Creator's, VRoid's or Unreal's manner; None without.
    """
    nodes = document.get("nodes", [])
    if name is not None:
        return next((k for k, node in enumerate(nodes) if node.get("name") == name), None)
    extensions = document.get("extensions", {})
    bones = extensions.get("VRM", {}).get("humanoid", {}).get("humanBones", [])
    found = [bone.get("node") for bone in bones if isinstance(bone, dict) and bone.get("bone") == "head"]
    found.append(extensions.get("VRMC_vrm", {}).get("humanoid", {}).get("humanBones", {}).get("head", {}).get("node"))
    joints = dict.fromkeys(j for skin in document.get("skins", []) for j in skin.get("joints", []))
    found += [j for j in joints if _HEAD_BONE.match(str(nodes[j].get("name", "")))]
    return next((int(node) for node in found if node is not None), None)


def _target_names(mesh: Mapping[str, Any]) -> list[str]:
    """Names of a mesh's morph targets, in the mesh's or its primitives' extras; "target_0" … without."""
    count = max((len(p.get("targets", [])) for p in mesh["primitives"]), default=0)
    holders = (mesh, *mesh["primitives"])
    given: list[Any] = next(
        (h["extras"]["targetNames"] for h in holders if "targetNames" in (h.get("extras") or {})), []
    )
    return [str(given[k]) if k < len(given) else f"target_{k}" for k in range(count)]


def _add_targets(
    file: GlbFile, parts: list[PlacedPrimitive], names: list[str], offsets: np.ndarray, threshold: float
) -> list[str]:
    """Add the shapes that move a mesh and that it lacks as morph targets; return the names of all its targets."""
    mesh = file.document["meshes"][parts[0].mesh]
    known = _target_names(mesh)
    added = []
    for k, name in enumerate(names):
        if name in known:
            continue
        if any(np.abs(offsets[k, p.start : p.start + len(p.positions)]).max(initial=0) > threshold for p in parts):
            added.append(k)
    if not added:
        return known
    placed = {p.primitive: p for p in parts}
    for number, primitive in enumerate(mesh["primitives"]):
        targets = primitive.setdefault("targets", [])
        count = file.document["accessors"][primitive["attributes"]["POSITION"]]["count"]
        part = placed.get(number)
        inverse = None if part is None else np.linalg.inv(part.linear)
        # three.js takes the mesh's own normals for a target that lacks them where another has some
        shaded = [name for name in ("NORMAL", "TANGENT") if any(name in target for target in targets)]
        for k in added:
            local = np.zeros((count, 3))
            if part is not None and inverse is not None:
                moved = offsets[k, part.start : part.start + count].astype(np.float64)
                local = np.einsum("pij,pj->pi", inverse, moved)
            position = file.add_offsets(local, 0.0 if part is None else threshold)
            targets.append({"POSITION": position} | {name: file.add_zeros(count) for name in shaded})
    known += [names[k] for k in added]
    mesh["extras"] = {**(mesh.get("extras") or {}), "targetNames": known}
    if "weights" in mesh:
        mesh["weights"] = [*mesh["weights"], *[0.0] * (len(known) - len(mesh["weights"]))]
    return known


def _bone_rotations(
    document: dict[str, Any], bone: int, motion: Motion, names: tuple[str, ...], weights: np.ndarray
) -> np.ndarray:
    """Rotation (N, 4) of the head bone, xyzw; a node with a matrix gets its parts instead."""
    curve = lambda name: weights[:, names.index(name)] if name in names else np.zeros(len(weights))  # noqa: E731
    pitch, yaw, roll = (DEGREES_PER_WEIGHT * (curve(plus) - curve(minus)) for plus, minus in _HEAD_PAIRS)
    # upright the face looks along +z with y up, and its left is +x
    turned = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, -roll], axis=1), degrees=True)
    upright = motion.rig.upright_rotation.astype(np.float64)
    upright = Rotation.from_matrix(upright if np.linalg.det(upright) > 0 else -upright)
    world = upright.inv() * turned * upright
    parent, node = _parent_rotation(document, bone), document["nodes"][bone]
    if "matrix" in node:
        matrix = np.array(node.pop("matrix"), np.float64).reshape(4, 4).T
        scale = np.linalg.norm(matrix[:3, :3], axis=0)
        node["translation"], node["scale"] = matrix[:3, 3].tolist(), scale.tolist()
        node["rotation"] = Rotation.from_matrix(matrix[:3, :3] / scale).as_quat().tolist()
    rest = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1]))
    out: np.ndarray = (parent.inv() * world * parent * rest).as_quat().astype(np.float32)
    flips = np.cumprod(np.concatenate([[1], np.sign((out[1:] * out[:-1]).sum(1))]))
    return out * flips[:, None].astype(np.float32)  # neighbouring keys on the same side, for linear interpolation


def _parent_rotation(document: Mapping[str, Any], node: int) -> Rotation:
    """Rotation of the space in which a node stands, without scale."""
    parents = {child: k for k, n in enumerate(document["nodes"]) for child in n.get("children", [])}
    rotation = Rotation.identity()
    while node in parents:
        node = parents[node]
        given = document["nodes"][node]
        if "matrix" in given:
            matrix = np.array(given["matrix"], np.float64).reshape(4, 4).T[:3, :3]
            own = Rotation.from_matrix(matrix / np.linalg.norm(matrix, axis=0))
        else:
            own = Rotation.from_quat(given.get("rotation", [0, 0, 0, 1]))
        rotation = own * rotation
    return rotation
