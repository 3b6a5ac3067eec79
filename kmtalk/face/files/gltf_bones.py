"""Finds the bones of a glTF character on which its head and its eyes turn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from kmtalk.errors import InputError

# Mixamo, Ready Player Me, Character Creator, VRoid, 3ds Max, Rigify, Auto-Rig Pro, Unreal
_HEAD = re.compile(
    r"(?:.*[:_\s.\-]|mixamorig\d*|^)head(?:[_.\s]?(?:bone|joint|x|m|0?1|001))?$|(?:def-)?spine\.006$", re.IGNORECASE
)
_NECK = re.compile(r"neck|(?:def-)?spine\.005$", re.IGNORECASE)
_START, _END = r"(?:^|[:_\s.\-\d]|mixamorig)", r"(?:ball)?(?:[_.\s]?(?:bone|joint|01))?$"
_EYES = {
    f"eye_{side}": re.compile(
        rf"{_START}(?:{side}[_\s.]?|{side[0]}[_\s.]?(?:face)?)eye{_END}|"
        rf"(?:^|[:_\s.\-])eye(?:ball)?[_\s.]?(?:{side}|{side[0]}){_END}",
        re.IGNORECASE,
    )
    for side in ("left", "right")
}
_VRM_BONES = {"head": "head", "neck": "neck", "eye_left": "leftEye", "eye_right": "rightEye"}


def find_bones(document: Mapping[str, Any], head: str | None = None, among: set[int] | None = None) -> dict[str, int]:
    """Return the nodes on which the parts of a character turn: "neck", "head", "eye_left", "eye_right".

    The head is the node called `head`, or that which VRM's humanoid names, or a skin's joint with the head's name in
    the manner of Mixamo, Ready Player Me, Character Creator, VRoid, Rigify or Unreal.

    Args:
        document: The file's JSON.
        head: Name of the node that turns with the head; None finds it.
        among: Nodes that count; None for all.

    Raises:
        InputError: There is no node called `head`.
    """
    nodes = document.get("nodes") or []
    names = [str(node.get("name", "")) for node in nodes]
    humanoid = _humanoid(document)
    joints = list(dict.fromkeys(j for skin in document.get("skins") or [] for j in skin.get("joints", [])))
    if among is not None:
        humanoid = {part: node for part, node in humanoid.items() if node in among}
        joints = [j for j in joints if j in among]
    parents = {child: k for k, node in enumerate(nodes) for child in node.get("children") or []}
    out: dict[str, int] = {}
    if head is not None:
        named = [k for k, name in enumerate(names) if name == head and (among is None or k in among)]
        if not named:
            raise InputError(f"no node is named {head}; {suggest_names(head, names)}")
        out["head"] = named[0]
    else:
        # a bone on a neck rather than that of a tool or of hair, such as arrow_head
        heads = sorted(
            (j for j in joints if _HEAD.match(names[j])),
            key=lambda j: (not _NECK.search(names[parents[j]]) if j in parents else True, len(names[j])),
        )
        found = humanoid.get("head", next(iter(heads), None))
        if found is None:
            return {}
        out["head"] = found
    above = parents.get(out["head"])
    if above is not None and (humanoid.get("neck") == above or _NECK.search(names[above])):
        out = {"neck": above, **out}
    for part, pattern in _EYES.items():
        found = humanoid.get(part, next((j for j in joints if pattern.search(names[j])), None))
        if found is not None and found not in out.values():
            out[part] = found
    return out


def _humanoid(document: Mapping[str, Any]) -> dict[str, int]:
    """The bones that VRM names."""
    extensions = document.get("extensions") or {}
    listed = ((extensions.get("VRM") or {}).get("humanoid") or {}).get("humanBones") or []
    found = {bone.get("bone"): bone.get("node") for bone in listed if isinstance(bone, dict)}
    named = ((extensions.get("VRMC_vrm") or {}).get("humanoid") or {}).get("humanBones") or {}
    found |= {bone: given.get("node") for bone, given in named.items() if isinstance(given, dict)}
    count = len(document.get("nodes") or [])
    return {p: node for p, bone in _VRM_BONES.items() if isinstance(node := found.get(bone), int) and 0 <= node < count}


def suggest_names(wanted: str, names: Sequence[str]) -> str:
    """A part of a message: the names that are like a name that is not there, else the first ones."""
    given = list(dict.fromkeys(name for name in names if name))
    lower = {name.lower(): name for name in reversed(given)}
    close = [lower[name] for name in get_close_matches(wanted.lower(), lower, 3, 0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(given[:12])}" + (" …" if len(given) > 12 else "")
