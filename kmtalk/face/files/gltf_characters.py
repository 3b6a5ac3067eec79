"""Tells whether a glTF file has several characters, of which one must be chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.gltf_bones import find_bones
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.shape_names import match_shape_names

MAX_FACES = 1000
_MOUTHS = {"jawOpen", "viseme_aa", "vrm_aa"}


def check_one_character(
    file: GltfDocument, boxes: Sequence[tuple[int, np.ndarray, np.ndarray]], targets: dict[int, list[str]]
) -> None:
    """Raise InputError if several meshes with mouths stand apart, or if there are several skeletons with heads.

    Args:
        file: The file.
        boxes: Node, least and greatest coordinates (3,) of each mesh in the scene.
        targets: Names of the morph targets of each mesh, by node.
    """
    nodes = file.items("nodes")
    parents = {child: k for k, node in enumerate(nodes) for child in node.get("children") or []}
    faces = [box for box in boxes if _MOUTHS & set(match_shape_names(targets[box[0]]).values())]
    if len(faces) > MAX_FACES:
        raise InputError(f"has {len(faces):,} meshes with mouths; choose one with --node")
    members = [[_skeleton(file, box[0]) for box in group] for group in _apart(faces)]
    if not faces:  # meshes without shapes that are skinned to skeletons with heads
        heads = {}
        for box in boxes:
            if "skin" in nodes[box[0]]:
                skin = file.items("skins")[nodes[box[0]]["skin"]]
                head = find_bones(file.json, among=set(skin["joints"])).get("head")
                if head is not None:
                    heads[box[0]] = head
        groups = _apart([box for box in boxes if box[0] in heads])
        members = [list(dict.fromkeys(heads[box[0]] for box in group)) for group in groups]
    if len(members) < 2:
        return
    above = [{a for node in group for a in _ancestors(node, parents)} for group in members]
    names = []
    for k, group in enumerate(members):
        others = set().union(*(a for j, a in enumerate(above) if j != k))
        own = [a for a in _ancestors(group[0], parents) if a not in others and nodes[a].get("name")]
        names.append(str(nodes[own[-1]]["name"]) if own else f"node {group[0]}")
    if len(set(names)) > 1:
        raise InputError(f"has {len(names)} characters ({', '.join(names)}); choose one with --node {names[0]}")


def _apart(boxes: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
    """Groups of boxes that overlap."""
    groups: list[list[tuple[int, np.ndarray, np.ndarray]]] = []
    for box in boxes:
        near = [g for g in groups if any((box[1] <= o[2]).all() and (o[1] <= box[2]).all() for o in g)]
        rest = [g for g in groups if not any(g is one for one in near)]
        groups = [*rest, [box, *(b for g in near for b in g)]]
    return groups


def _skeleton(file: GltfDocument, node: int) -> int:
    """A bone of a mesh's node; the node itself where it is not skinned."""
    skin = file.items("nodes")[node].get("skin")
    return node if skin is None else int(file.items("skins")[skin]["joints"][0])


def _ancestors(node: int, parents: dict[int, int]) -> list[int]:
    """A node and all nodes above it, from below."""
    out = [node]
    while out[-1] in parents:
        out.append(parents[out[-1]])
    return out
