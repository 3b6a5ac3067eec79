"""Writes an animation into the scene: shape keys, actions, timeline markers and the sound strip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import bpy
import numpy as np

from .mesh_files import MADE_SHAPES, PlacedMesh, made_shapes, read_coordinates
from .process import KMTalkError
from .take import HEAD_SHAPES, Take

MARKER_PREFIX = "km:"
"""Beginning of the names of phones' markers, by which the next run finds and removes them."""

MADE_ACTION = "kmtalk_action"
"""Custom property of actions that the extension has made: the name of the sound."""

_LINEAR, _BEZIER, _AUTO_CLAMPED = 1, 2, 4  # of Keyframe.interpolation and Keyframe.handle_left_type

Curves = Mapping[tuple[str, int], np.ndarray]
"""Data path and array index → values."""


def shape_path(name: str) -> str:
    """Return the data path of a shape key's value."""
    return f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


def curves_of(owner: bpy.types.ID) -> dict[tuple[str, int], bpy.types.FCurve]:
    """Return the curves of an owner's action by data path and array index; none where it has no action."""
    data = owner.animation_data
    if data is None or data.action is None:
        return {}
    if hasattr(data, "action_slot"):  # Blender 4.4 or newer
        if data.action_slot is None:
            return {}
        bags = [bag for layer in data.action.layers for strip in layer.strips for bag in strip.channelbags]
        found = [curve for bag in bags if bag.slot_handle == data.action_slot_handle for curve in bag.fcurves]
    else:
        found = list(data.action.fcurves)
    return {(curve.data_path, curve.array_index): curve for curve in found}


def check_not_tweaked(owner: bpy.types.ID | None) -> None:
    """Raise KMTalkError if an owner cannot get an action because an NLA strip of it is in tweak mode."""
    if owner is not None and owner.animation_data is not None and owner.animation_data.use_tweak_mode:
        raise KMTalkError(f"{owner.name}: an NLA strip is in tweak mode; leave it (Tab in the NLA editor)")


def write_action(owner: bpy.types.ID, sound: str, frames: np.ndarray, curves: Curves, smooth: bool) -> None:
    """Give an owner a new action; its former action stays in the file, or goes if it was made for the same sound.

    Args:
        owner: Data-block that is animated: shape keys or an armature object.
        sound: Name of the sound.
        frames: Frames of the keyframes (m,).
        curves: The values (m,) of each curve.
        smooth: Bézier curves with automatic, clamped handles; else linear.

    """
    data = owner.animation_data_create()
    former, data.action = data.action, None
    if former is not None:
        if former.get(MADE_ACTION) == sound and former.users == 0:
            bpy.data.actions.remove(former)
        else:
            former.use_fake_user = True
    action = bpy.data.actions.new(f"kmtalk {sound}")
    action[MADE_ACTION] = sound
    if hasattr(action, "slots"):
        slot = action.slots.new(id_type=owner.id_type, name=owner.name)
        target = action.layers.new("Layer").strips.new(type="KEYFRAME").channelbag(slot, ensure=True).fcurves
        data.action, data.action_slot = action, slot
    else:
        target = action.fcurves
        data.action = action
    for (path, index), values in curves.items():
        curve = target.new(path, index=index)
        write_keyframes(curve, frames, values, smooth)


def write_keyframes(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, smooth: bool) -> None:
    """Replace the keyframes of a curve: frames (m,) and values (m,)."""
    points = np.stack([frames, values], axis=1).astype(np.float32)
    curve.keyframe_points.clear()
    curve.keyframe_points.add(len(points))
    curve.keyframe_points.foreach_set("co", points.ravel())
    curve.keyframe_points.foreach_set("interpolation", np.full(len(points), _BEZIER if smooth else _LINEAR, np.int32))
    for side in ("handle_left_type", "handle_right_type"):
        curve.keyframe_points.foreach_set(side, np.full(len(points), _AUTO_CLAMPED, np.int32))
    curve.update()


def make_shape_keys(found: bpy.types.Object, place: PlacedMesh, take: Take, skipped: tuple[str, ...]) -> None:
    """Add the shapes that move a mesh and that it lacks as shape keys.

    Args:
        found: The mesh object.
        place: Its place in the take's mesh.
        take: The animation.
        skipped: Shapes that get no shape key.
    """
    to_local, keys = np.linalg.inv(place.to_export[:3, :3]).T, found.data.shape_keys
    known = set(keys.key_blocks.keys()) if keys else set()
    for name in take.names:
        offsets = None if name in known or name in skipped else take.offsets(name, place.first, place.count)
        if offsets is None:
            continue
        if found.data.shape_keys is None:
            found.shape_key_add(name="Basis", from_mix=False)
        keys = found.data.shape_keys
        block = found.shape_key_add(name=name, from_mix=False)
        basis = read_coordinates(keys.reference_key.data)
        block.data.foreach_set("co", (basis + offsets @ to_local).astype(np.float32).ravel())
        keys[MADE_SHAPES] = "\n".join([*made_shapes(keys), block.name])
    found.show_only_shape_key = False  # else the viewport shows one shape instead of the animation
    found.data.update()


def write_shape_animation(
    keys: bpy.types.Key, take: Take, sound: str, start: int, only_keys: bool, skipped: tuple[str, ...]
) -> list[str]:
    """Animate the shape keys of a mesh.

    Args:
        keys: The shape keys.
        take: The animation.
        sound: Name of the sound.
        start: Scene frame of the animation's frame 0.
        only_keys: Keyframes at key frames only.
        skipped: Shapes that are not animated.

    Returns:
        Names of the animated shape keys; none if the mesh has none of the shapes.
    """
    frames = take.frames(only_keys)
    names = [name for name in take.names if name in keys.key_blocks and name not in skipped]
    if names:
        curves = {(shape_path(name), 0): take.weights[frames, take.names.index(name)] for name in names}
        write_action(keys, sound, start + frames, curves, smooth=only_keys)
    return names


def driven_shapes(keys: bpy.types.Key, names: list[str]) -> list[str]:
    """Return those of the named shape keys that have a driver, which wins over keyframes."""
    drivers = keys.animation_data.drivers if keys.animation_data else []
    paths = {driver.data_path for driver in drivers}
    return [name for name in names if shape_path(name) in paths]


def head_shapes_of(take: Take) -> tuple[str, ...]:
    """Return the take's shapes that turn the head."""
    return tuple(name for name in HEAD_SHAPES if name in take.names)


def write_markers(scene: bpy.types.Scene, take: Take, start: int) -> None:
    """Add a timeline marker at the first frame of each phone."""
    for label, begin, _ in take.phones:
        frame = min(int(begin * take.fps), len(take) - 1)
        scene.timeline_markers.new(MARKER_PREFIX + label, frame=start + frame)


def remove_markers(scene: bpy.types.Scene, start: int, end: int) -> None:
    """Remove the phones' markers from frame `start` to frame `end`."""
    for marker in list(scene.timeline_markers):
        if marker.name.startswith(MARKER_PREFIX) and start <= marker.frame <= end:
            scene.timeline_markers.remove(marker)


def write_sound_strip(scene: bpy.types.Scene, sound: Path, start: int, former: str) -> str:
    """Add the sound to the sequencer, on the lowest channel that is free, and have the playback follow it.

    Args:
        scene: The scene.
        sound: The sound file.
        start: Scene frame at which it begins.
        former: Name of the strip of the run before, which is removed.

    Returns:
        Name of the strip, empty if the sequencer had this sound at this place already.

    Raises:
        KMTalkError: Blender cannot read the sound.
    """
    scene.sync_mode = "AUDIO_SYNC"
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences  # the name before Blender 4.4
    if former in strips and strips[former].type == "SOUND":
        strips.remove(strips[former])
    for strip in strips:
        is_sound = strip.type == "SOUND" and Path(bpy.path.abspath(strip.sound.filepath)) == sound
        if is_sound and round(strip.frame_start) == start:
            return ""
    top = max((strip.channel for strip in strips), default=0) + 1
    try:
        added = strips.new_sound(f"kmtalk {sound.stem}", str(sound), top, start)
    except RuntimeError as error:
        raise KMTalkError(f"{sound}: cannot be played in Blender ({error}); add it as WAV in the sequencer") from None
    begin, end = added.frame_final_start, added.frame_final_end
    taken = {
        strip.channel
        for strip in strips
        if strip != added and strip.frame_final_start < end and strip.frame_final_end > begin
    }
    added.channel = min(set(range(1, top + 1)) - taken)
    return str(added.name)
