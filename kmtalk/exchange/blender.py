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

import math
import os

import bpy

FOLDER = os.path.dirname(os.path.abspath(globals().get("__file__") or bpy.context.space_data.text.filepath))
MODEL, NEUTRAL, SOUND = {model!r}, {neutral!r}, {sound!r}
FPS, FRAMES = {fps!r}, {frames!r}
ANIMATIONS = ("speech", "kmtalk")  # names that kmtalk gives to a face's and to a character's animation


def curves(action):
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    bags = [b for layer in action.layers for strip in layer.strips for b in strip.channelbags]  # Blender 5
    return [curve for bag in bags for curve in bag.fcurves]


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
    elif kind.startswith(".usd"):
        bpy.ops.wm.usd_import(filepath=path, set_frame_range=False)
    elif kind == ".abc":
        bpy.ops.wm.alembic_import(filepath=path, set_frame_range=False, as_background_job=False)
    else:
        bpy.ops.wm.obj_import(filepath=os.path.join(FOLDER, NEUTRAL), forward_axis="NEGATIVE_Z", up_axis="Y")
        cache = bpy.context.selected_objects[0].modifiers.new("kmtalk", "MESH_CACHE")
        cache.cache_format, cache.filepath = kind[1:].upper(), path
        cache.frame_start = 0


scene = bpy.context.scene
scene.render.fps = math.ceil(FPS)
scene.render.fps_base = scene.render.fps / FPS
scene.frame_start, scene.frame_end = 0, FRAMES - 1
model()
if SOUND:
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_sound("speech", os.path.join(FOLDER, SOUND), 1, 0)
    scene.sync_mode = "AUDIO_SYNC"
scene.frame_set(0)
'''


def write_blender_script(path: Path, motion: Motion, model: str, neutral: str = "", sound: str = "") -> None:
    """Write the script to `path`.

    Args:
        path: The script, in the folder of the exported files.
        motion: The motion; its frame rate and length set the scene.
        model: Name of the exported model file in the same folder.
        neutral: Name of the neutral OBJ in the same folder; needed for .pc2 and .mdd.
        sound: Name of the sound file in the same folder; empty for none.
    """
    script = _SCRIPT.format(
        name=path.name, model=model, neutral=neutral, sound=sound, fps=motion.fps, frames=len(motion)
    )
    path.write_text(script, encoding="utf-8")
