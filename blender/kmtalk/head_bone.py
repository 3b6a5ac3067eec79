"""Turns the head on a bone of the armature instead of by shape keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from .animation_data import MADE_ACTION, curves_of, write_action
from .mesh_files import Y_UP, armature_of
from .process import KMTalkError
from .take import Take

_HEAD_BONE = re.compile(
    r"(?:.*[:_\s.\-]|mixamorig\d*|^)head(?:[_.\s]?(?:bone|joint|x|m|0?1|001))?$|(?:def-)?spine\.006$", re.IGNORECASE
)
"""Names of the head's bone in Mixamo, Ready Player Me, Character Creator, VRoid, Rigify and 3ds Max."""


@dataclass(frozen=True)
class HeadBone:
    """The bone that the head turns on.

    Attributes:
        armature_name: Name of the armature object.
        bone_name: Name of the bone.
        rest: Rotation (3, 3) of the bone at rest in the scene.
    """

    armature_name: str
    bone_name: str
    rest: np.ndarray


def find_head_bone(objects: Sequence[bpy.types.Object], given: str) -> HeadBone | None:
    """Return the bone that the head turns on, or None if there is none.

    Args:
        objects: The mesh objects.
        given: Name of the bone; empty finds it by the names that common programs use.

    Raises:
        KMTalkError: There is no bone of the given name.
    """
    armatures = {a.name: a for a in map(armature_of, objects) if a is not None}
    if given:
        for armature in armatures.values():
            if given in armature.pose.bones:
                return _head_bone(armature, given)
        where = ", ".join(armatures) or "no armature"
        raise KMTalkError(f"{given}: no such bone ({where}); correct the head bone, or leave it empty")
    found = [
        (any(not c.mute for c in bone.constraints), len(bone.name), name, bone.name)
        for name, armature in armatures.items()
        if armature.library is None
        for bone in armature.pose.bones
        if _HEAD_BONE.match(bone.name)
    ]
    # a bone without constraints is the control where bones that deform follow it, as in Rigify
    return _head_bone(armatures[min(found)[2]], min(found)[3]) if found else None


def _head_bone(armature: bpy.types.Object, name: str) -> HeadBone:
    rest = np.array((armature.matrix_world @ armature.data.bones[name].matrix_local).to_3x3().normalized())
    if np.linalg.det(rest) < 0:  # a mirrored armature
        rest = -rest
    return HeadBone(armature.name, name, rest)


def write_head_animation(head: HeadBone, take: Take, sound: str, start: int, only_keys: bool) -> None:
    """Animate the rotation of the head's bone.

    An action that the armature has already moves to an NLA track below, so that the head turns on top of it.

    Args:
        head: The bone.
        take: The animation.
        sound: Name of the sound.
        start: Scene frame of the animation's frame 0.
        only_keys: Keyframes at key frames only.

    Raises:
        KMTalkError: The bone is gone.
    """
    armature = bpy.data.objects.get(head.armature_name)
    if armature is None or armature.type != "ARMATURE" or head.bone_name not in armature.pose.bones:
        raise KMTalkError(f"{head.armature_name}: has changed while kmtalk worked; press Animate again")
    to_blender = Y_UP[:3, :3].T
    turns = to_blender @ take.head_rotations @ to_blender.T
    frames = take.frames(only_keys)
    local = [Matrix(m) for m in (head.rest.T @ turns @ head.rest)[frames]]
    channel, values = _channel_values(
        armature.pose.bones[head.bone_name].rotation_mode, [m.to_quaternion() for m in local]
    )
    path = f'pose.bones["{bpy.utils.escape_identifier(head.bone_name)}"].{channel}'
    _push_down(armature)
    curves = {(path, k): values[:, k] for k in range(values.shape[1])}
    write_action(armature, sound, start + frames, curves, smooth=only_keys)
    has_tracks = bool(armature.animation_data.nla_tracks)
    armature.animation_data.action_blend_type = "COMBINE" if has_tracks else "REPLACE"


def _channel_values(mode: str, rotations: list[Quaternion]) -> tuple[str, np.ndarray]:
    """The property of a bone for a rotation mode, and its values (m, 3 or 4) without jumps."""
    if mode == "QUATERNION":
        for before, after in zip(rotations, rotations[1:], strict=False):
            after.make_compatible(before)
        return "rotation_quaternion", np.array(rotations)
    if mode == "AXIS_ANGLE":
        pairs = [rotation.to_axis_angle() for rotation in rotations]
        return "rotation_axis_angle", np.array([(angle, *axis) for axis, angle in pairs])
    angles = [rotation.to_euler(mode) for rotation in rotations]
    for before, after in zip(angles, angles[1:], strict=False):
        after.make_compatible(before)
    return "rotation_euler", np.array(angles)


def _push_down(armature: bpy.types.Object) -> None:
    """Move the armature's action to an NLA track, unless the extension made it or it is empty."""
    data = armature.animation_data
    if data is None or data.action is None or MADE_ACTION in data.action or not curves_of(armature):
        return
    action, slot = data.action, getattr(data, "action_slot", None)
    if any(strip.action == action for track in data.nla_tracks for strip in track.strips):
        data.action = None  # it plays on a track already
        return
    track = data.nla_tracks.new()
    track.name = action.name
    strip = track.strips.new(action.name, int(action.frame_range[0]), action)
    if slot is not None:
        strip.action_slot = slot
    data.action = None
