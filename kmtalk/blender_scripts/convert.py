"""Converts between FBX and GLB; runs in Blender's Python: convert.py -- IN OUT [FPS FRAMES].

On Linux it ends with the process that started it.
"""

import ctypes
import math
import os
import signal
import sys
import traceback
from typing import Any

import bpy

ANIMATIONS = ("speech", "kmtalk")  # names that kmtalk gives to a face's and to a character's animation


def curves(action: Any) -> list[Any]:
    if hasattr(action, "fcurves"):
        return list(action.fcurves)
    bags = [b for layer in action.layers for strip in layer.strips for b in strip.channelbags]  # Blender 5
    return [curve for bag in bags for curve in bag.fcurves]


def rest_other_bones(armature: Any, others: Any) -> None:
    """Put bones that only other animations move back to rest: the importer leaves them in one of its poses."""
    action = armature.animation_data.action if armature.animation_data else None
    ours = {c.data_path.rpartition(".")[0] for c in curves(action)} if action else set()
    theirs = {c.data_path.rpartition(".")[0] for other in others for c in curves(other)}
    for bone in armature.pose.bones:
        if bone.path_from_id() in theirs - ours:
            bone.matrix_basis.identity()


def fbx_to_glb(source: str, target: str) -> None:
    bpy.ops.import_scene.fbx(filepath=source, automatic_bone_orientation=False)
    bpy.ops.export_scene.gltf(
        filepath=target,
        export_format="GLB",
        export_morph_normal=False,
        export_animation_mode="ACTIONS",
        export_optimize_animation_size=False,
        export_apply=False,
    )


def glb_to_fbx(source: str, target: str, fps: float, frames: int) -> None:
    scene = bpy.context.scene
    scene.render.fps = math.ceil(fps)
    scene.render.fps_base = scene.render.fps / fps
    scene.frame_start, scene.frame_end = 0, frames - 1
    scene.name = "kmtalk"  # the exporter names the animation after it
    before = set(bpy.data.actions)
    known = bpy.ops.import_scene.gltf.get_rna_type().properties
    bpy.ops.import_scene.gltf(
        filepath=source, **({"disable_bone_shape": True} if "disable_bone_shape" in known else {})
    )
    for action in set(bpy.data.actions) - before:  # the importer assumes an integer frame rate
        for point in (p for curve in curves(action) for p in curve.keyframe_points):
            point.co.x = round(point.co.x * fps / scene.render.fps)
    for owner in [*bpy.data.objects, *bpy.data.shape_keys]:
        data = owner.animation_data
        if data is None:
            continue
        strips = [track.strips[0] for track in data.nla_tracks if track.name in ANIMATIONS and track.strips]
        data.action = strips[-1].action if strips else None
        if strips and hasattr(data, "action_slot"):
            data.action_slot = strips[-1].action_slot
        for track in list(data.nla_tracks):
            data.nla_tracks.remove(track)
    for armature in [found for found in bpy.data.objects if found.type == "ARMATURE"]:
        rest_other_bones(armature, set(bpy.data.actions) - before)
    for found in [one for one in bpy.data.objects if one.type == "EMPTY" and not one.children]:
        name = found.name
        mesh = bpy.data.objects.get(f"{name}.001")
        bpy.data.objects.remove(found)  # the importer's place for a node whose mesh is bound to bones
        if mesh is not None:
            mesh.name = name
    for number, image in enumerate(bpy.data.images):  # the exporter embeds pictures that are files
        if image.packed_file is not None:
            suffix = ".jpg" if image.file_format == "JPEG" else ".png"
            name = f"{number}-{bpy.path.clean_name(image.name)}{suffix}"
            image.filepath_raw = os.path.join(os.path.dirname(source), name)
            image.save()
    scene.frame_set(0)
    bpy.ops.export_scene.fbx(
        filepath=target,
        add_leaf_bones=False,
        bake_anim_use_all_actions=False,
        bake_anim_use_nla_strips=False,
        bake_anim_simplify_factor=0.0,
        path_mode="COPY",
        embed_textures=True,
        use_armature_deform_only=False,
        mesh_smooth_type="OFF",
    )


def main(source: str, target: str, fps: str = "30", frames: str = "1") -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if source.lower().endswith(".fbx"):
        fbx_to_glb(source, target)
    else:
        glb_to_fbx(source, target, float(fps), int(frames))
    print("KMTALK DONE", flush=True)


if sys.platform == "linux":  # a thread that waits for the end of a pipe can hang Blender at its own end
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
try:
    main(*sys.argv[sys.argv.index("--") + 1 :])
except Exception:
    traceback.print_exc()
    sys.exit(1)
