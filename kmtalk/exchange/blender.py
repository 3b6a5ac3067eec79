"""Writes import_blender.py, a script beside an export that imports it into Blender.

The script also sets the frame rate, the frame range and the sound, which the model formats do not carry.
"""

from __future__ import annotations

from pathlib import Path

from kmtalk.face.motion import Motion

IMPORTABLE_SUFFIXES = (".glb", ".usd", ".usdc", ".usda", ".abc", ".pc2", ".mdd")
"""Suffixes of the formats that the script can import, best first."""

_SCRIPT = '''"""Import this animation into Blender 4.2 or newer: open this file in the Text Editor and press Run, or

    blender --python {name}

Written by kmtalk. Sets the frame rate, the frame range and the sound, and imports {model}.
"""

import json
import math
import os

import bpy

FOLDER = os.path.dirname(os.path.abspath(globals().get("__file__") or bpy.context.space_data.text.filepath))
MODEL, NEUTRAL, SOUND, CURVES = {model!r}, {neutral!r}, {sound!r}, {keyed!r}
FPS, FRAMES = {fps!r}, {frames!r}
ANIMATIONS = ("speech", "kmtalk")  # names that kmtalk gives to a face's and to a character's animation


def curves(action):
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    bags = [b for layer in action.layers for strip in layer.strips for b in strip.channelbags]  # Blender 5
    return [curve for bag in bags for curve in bag.fcurves]


def rest_other_bones(armature, others):
    # put bones that only other animations move back to rest: the importer leaves them in one of its poses
    action = armature.animation_data.action if armature.animation_data else None
    ours = {{c.data_path.rpartition(".")[0] for c in curves(action)}} if action else set()
    theirs = {{c.data_path.rpartition(".")[0] for other in others for c in curves(other)}}
    for bone in armature.pose.bones:
        if bone.path_from_id() in theirs - ours:
            bone.matrix_basis.identity()


def model():
    path = os.path.join(FOLDER, MODEL)
    kind = os.path.splitext(path)[1]
    if kind == ".glb":
        before = set(bpy.data.actions)
        bpy.ops.import_scene.gltf(filepath=path)
        for action in set(bpy.data.actions) - before:  # the importer assumes an integer frame rate
            for point in (p for curve in curves(action) for p in curve.keyframe_points):
                point.co.x = round(point.co.x * FPS / scene.render.fps)
        for owner in [*bpy.data.objects, *bpy.data.shape_keys]:  # a character may have other animations, which rest
            data = owner.animation_data
            if data is not None and data.nla_tracks:
                strips = [track.strips[0] for track in data.nla_tracks if track.name in ANIMATIONS and track.strips]
                data.action = strips[-1].action if strips else None
                if strips and hasattr(data, "action_slot"):
                    data.action_slot = strips[-1].action_slot
        for armature in [found for found in bpy.data.objects if found.type == "ARMATURE"]:
            rest_other_bones(armature, set(bpy.data.actions) - before)
    elif kind.startswith(".usd"):
        bpy.ops.wm.usd_import(filepath=path, set_frame_range=False)
    elif kind == ".abc":
        bpy.ops.wm.alembic_import(filepath=path, set_frame_range=False, as_background_job=False)
    else:
        bpy.ops.wm.obj_import(filepath=os.path.join(FOLDER, NEUTRAL), forward_axis="NEGATIVE_Z", up_axis="Y")
        cache = bpy.context.selected_objects[0].modifiers.new("kmtalk", "MESH_CACHE")
        cache.cache_format, cache.filepath = kind[1:].upper(), path
        cache.frame_start = 0


def set_keys():
    """Give the shape keys few keys with tangents in place of one for each frame."""
    with open(os.path.join(FOLDER, CURVES), encoding="utf-8") as file:
        given = json.load(file)["curves"]
    for owner in bpy.data.shape_keys:
        action = owner.animation_data.action if owner.animation_data else None
        for curve in curves(action) if action else []:
            keys = given.get(bpy.utils.unescape_identifier(curve.data_path.partition('"')[2].rpartition('"')[0]))
            if keys is None:
                continue
            curve.keyframe_points.clear()
            curve.keyframe_points.add(len(keys))
            for n, (point, (frame, value, slope)) in enumerate(zip(curve.keyframe_points, keys)):
                before = (frame - keys[n - 1][0]) / 3 if n else 1 / 3
                after = (keys[n + 1][0] - frame) / 3 if n + 1 < len(keys) else 1 / 3
                point.co = frame, value
                point.interpolation = "BEZIER"
                point.handle_left_type = point.handle_right_type = "ALIGNED"
                point.handle_left = frame - before, value - before * slope
                point.handle_right = frame + after, value + after * slope
            curve.update()


scene = bpy.context.scene
scene.render.fps = math.ceil(FPS)
scene.render.fps_base = scene.render.fps / FPS
scene.frame_start, scene.frame_end = 0, FRAMES - 1
model()
if CURVES:
    set_keys()
if SOUND:
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_sound("speech", os.path.join(FOLDER, SOUND), 1, 0)
    scene.sync_mode = "AUDIO_SYNC"
scene.frame_set(0)
'''


def write_blender_script(
    path: Path, motion: Motion, model: str, neutral: str = "", sound: str = "", keyed: str = ""
) -> None:
    """Write the script to `path`.

    Args:
        path: The script, in the folder of the exported files.
        motion: The motion; its frame rate and length set the scene.
        model: Name of the exported model file in the same folder.
        neutral: Name of the neutral OBJ in the same folder; needed for .pc2 and .mdd.
        sound: Name of the sound file in the same folder; empty for none.
        keyed: Name of the .curves.json in the same folder, whose keys replace the model's; empty for none.
    """
    script = _SCRIPT.format(
        name=path.name, model=model, neutral=neutral, sound=sound, keyed=keyed, fps=motion.fps, frames=len(motion)
    )
    path.write_text(script, encoding="utf-8")
