"""Script for a Python with bpy: installs the extension, uses it as an animator would, and writes what Blender shows.

Arguments: the extension's zip file and a folder with short.wav, short.TextGrid, shapes.glb, face.obj and avatar.glb.
For each face it writes seen-NAME.npz into the folder, and prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bpy
import numpy as np

import addon_utils  # isort: skip (bpy makes it importable)

ZIP, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
SOUND, START = FOLDER / "short.wav", 11


def begin(name: str) -> bpy.types.Scene:
    """An empty file, saved in a folder of its own, at 24 fps."""
    bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 24, 1.0
    scene.frame_end = 30
    (FOLDER / name).mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / name / "scene.blend"))
    return scene


def select(*objects: bpy.types.Object) -> None:
    for other in bpy.context.view_layer.objects:
        other.select_set(other in objects)
    bpy.context.view_layer.objects.active = objects[0]


def meshes() -> list[bpy.types.Object]:
    return sorted((o for o in bpy.context.scene.objects if o.type == "MESH"), key=lambda o: o.name)


def animate(**options: object) -> None:
    done = bpy.ops.kmtalk.animate(
        "EXEC_DEFAULT",
        True,  # with an undo step
        filepath=str(SOUND),
        textgrid=str(FOLDER / "short.TextGrid"),
        frame_start=START,
        wait=True,
        **options,
    )
    assert done == {"FINISHED"}


def curves(owner: bpy.types.ID) -> dict[str, bpy.types.FCurve]:
    data = owner.animation_data
    if hasattr(data.action, "layers"):
        bags = [bag for layer in data.action.layers for strip in layer.strips for bag in strip.channelbags]
        return {f"{c.data_path}{c.array_index}": c for bag in bags for c in bag.fcurves}
    return {f"{c.data_path}{c.array_index}": c for c in data.action.fcurves}


def values(owner: bpy.types.ID, frames: range) -> dict[str, np.ndarray]:
    """The curves of shape keys, by shape, at frames of the animation."""
    by_path = curves(owner)
    return {
        block.name: np.array([by_path[f'key_blocks["{block.name}"].value0'].evaluate(START + f) for f in frames])
        for block in owner.key_blocks
        if f'key_blocks["{block.name}"].value0' in by_path
    }


def look(name: str, faces: list[bpy.types.Object], frames: range) -> None:
    """Write the faces' vertices in space with y up, and the values of the shape keys of the one with the most."""
    points = []
    for frame in frames:
        bpy.context.scene.frame_set(START + frame)
        graph, found = bpy.context.evaluated_depsgraph_get(), []
        for face in faces:
            seen = face.evaluated_get(graph)
            flat = np.empty(3 * len(seen.data.vertices), np.float32)
            seen.data.vertices.foreach_get("co", flat)
            matrix = np.array(seen.matrix_world)
            found.append((flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])[:, [0, 2, 1]] * [1, 1, -1])
        points.append(np.concatenate(found))
    keys = max((face.data.shape_keys for face in faces if face.data.shape_keys), key=lambda keys: len(keys.key_blocks))
    held = values(keys, range(int(faces[0].kmtalk.frames)))
    np.savez(
        FOLDER / f"seen-{name}.npz",
        frames=np.array(frames),
        points=np.array(points),
        names=np.array(list(held)),
        values=np.array(list(held.values())).T,
    )


def facts(faces: list[bpy.types.Object]) -> dict[str, object]:
    scene = bpy.context.scene
    editor = scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    owners = [face.data.shape_keys for face in faces if face.data.shape_keys and face.data.shape_keys.animation_data]
    one = next(iter(curves(owners[0]).values()))
    return {
        "take": bpy.path.abspath(faces[0].kmtalk.folder),
        "actions": sorted({owner.animation_data.action.name for owner in owners}),
        "markers": [(m.name, m.frame - START) for m in sorted(scene.timeline_markers, key=lambda m: m.frame)],
        "strips": [(s.type, s.frame_start - START, round(s.frame_final_duration)) for s in strips],
        "sync": scene.sync_mode,
        "end": scene.frame_end - START,
        "keyframes": [round(p.co.x) - START for p in one.keyframe_points],
        "interpolation": sorted({p.interpolation for p in one.keyframe_points}),
    }


def change(owner: bpy.types.Key, name: str, frame: int, value: float) -> None:
    curve = curves(owner)[f'key_blocks["{name}"].value0']
    next(p for p in curve.keyframe_points if round(p.co.x) == START + frame).co.y = value
    curve.update()


def own_shapes() -> dict[str, object]:
    """A mesh with ARKit shapes; the animation that it came with stays in the file. One key is edited and completed."""
    begin("shapes")
    bpy.ops.import_scene.gltf(filepath=str(FOLDER / "shapes.glb"))
    faces = meshes()
    before = {action.name for action in bpy.data.actions}
    blocks = {face.name: len(face.data.shape_keys.key_blocks) for face in faces if face.data.shape_keys}
    for face in faces:  # a shape key that a vertex group halves
        group = face.vertex_groups.new(name="half")
        group.add(range(len(face.data.vertices)), 0.5, "REPLACE")
        if face.data.shape_keys and "browInnerUp" in face.data.shape_keys.key_blocks:
            face.data.shape_keys.key_blocks["browInnerUp"].vertex_group = "half"
    select(*faces)
    animate()
    look("shapes", faces, range(0, 48, 9))
    found = facts(faces)
    after = {face.name: len(face.data.shape_keys.key_blocks) for face in faces if face.data.shape_keys}
    frame = int(np.load(Path(found["take"]) / "animation.npz")["key_frames"][5])
    for face in faces[:1]:
        change(face.data.shape_keys, "jawOpen", frame, 0.625)
    assert bpy.ops.kmtalk.complete("EXEC_DEFAULT", wait=True) == {"FINISHED"}
    look("completed", faces, range(0, 48, 9))
    bpy.ops.ed.undo_push(message="completed")
    animate()  # again: markers and strip are replaced
    again = facts(faces)
    bpy.ops.ed.undo()
    undone = values(meshes()[0].data.shape_keys, range(48))["jawOpen"]
    return found | {
        "undone": undone[frame],
        "former": before <= {action.name for action in bpy.data.actions},
        "same blocks": blocks == after,
        "edited": frame,
        "again": {k: v for k, v in again.items() if k in ("markers", "strips")},
    }


def bare_mesh() -> dict[str, object]:
    """A mesh without shapes, moved, turned, scaled and mirrored, with a modifier; keys only at phones."""
    begin("bare")
    bpy.ops.wm.obj_import(filepath=str(FOLDER / "face.obj"))
    (face,) = meshes()
    face.location, face.rotation_euler, face.scale = (1, 2, 3), (0.3, 0.2, 1.9), (-2, 2, 2)
    face.modifiers.new("Subdivision", "SUBSURF")
    face.data.materials.clear()
    select(face)
    animate(only_keys=True)
    found = facts([face])
    face.modifiers["Subdivision"].show_viewport = False
    keys = np.load(Path(found["take"]) / "animation.npz")["key_frames"].tolist()
    look("bare", [face], keys[::3])
    named = {block.name for block in face.data.shape_keys.key_blocks}
    change(face.data.shape_keys, "jawOpen", keys[4], 0.5)
    gap = next(k for k in range(8, len(keys) - 1) if keys[k + 1] - keys[k] > 1)
    for curve in curves(face.data.shape_keys).values():  # one column of keyframes moves by a frame
        next(p for p in curve.keyframe_points if round(p.co.x) == START + keys[gap]).co.x += 1
        curve.update()
    assert bpy.ops.kmtalk.complete("EXEC_DEFAULT", wait=True) == {"FINISHED"}
    completed = facts([face])
    jaw = values(face.data.shape_keys, range(48))["jawOpen"]
    # the next run sees the mesh without the shapes that it got
    animate()
    return found | {
        "keys": keys,
        "moved": keys[gap],
        "edited": keys[4],
        "completed": completed["keyframes"],
        "jaw": jaw[keys[4]],
        "completed take": completed["take"],
        "shapes": sorted(named),
        "shapes again": named == {block.name for block in face.data.shape_keys.key_blocks},
        "template": str(
            np.load(Path(facts([face])["take"]) / "animation.npz")["shape_names"].tolist() == sorted(named)
        ),
    }


def character() -> dict[str, object]:
    """A character in parts with an armature whose arm waves."""
    begin("character")
    bpy.ops.import_scene.gltf(filepath=str(FOLDER / "avatar.glb"))
    armature = next(o for o in bpy.context.scene.objects if o.type == "ARMATURE")
    blocks = {o.name: len(o.data.shape_keys.key_blocks) for o in meshes() if o.data.shape_keys}
    wave = {action.name for action in bpy.data.actions}
    eye = bpy.data.objects["Wolf3D_eye_left"]  # carried by the bone instead of deformed by it
    matrix = eye.matrix_world.copy()
    eye.modifiers.clear()
    eye.parent_type, eye.parent_bone = "BONE", "mixamorig:Head"
    bpy.context.view_layer.update()
    eye.matrix_world = matrix
    bones = armature.pose.bones
    for name in ("mixamorig:Neck", "mixamorig:Head"):  # a pose that is not the rest position
        bones[name].rotation_quaternion = (0.9, 0.3, 0.2, 0.1)
    select(armature)
    animate()
    bones["mixamorig:Neck"].rotation_quaternion = (1, 0, 0, 0)
    faces = meshes()
    faces = [o for o in faces if o.kmtalk.folder]
    look("character", faces, range(0, 48, 9))
    return facts(faces) | {
        "objects": [o.name for o in faces],
        "counts": [len(o.data.vertices) for o in faces],
        "added": sorted(
            block.name
            for o in faces
            if o.data.shape_keys
            for block in list(o.data.shape_keys.key_blocks)[blocks.get(o.name, 1) :]
        ),
        "bone curves": sorted(curves(armature)),
        "wave kept": wave <= {track.strips[0].action.name for track in armature.animation_data.nla_tracks},
        "bone": armature.animation_data.action.name,
    }


def faults() -> list[str]:
    """What the extension says where it cannot work."""
    begin("faults")
    said = []

    def attempt(**options: object) -> None:
        try:
            bpy.ops.kmtalk.animate("EXEC_DEFAULT", filepath=str(SOUND), wait=True, **options)
        except RuntimeError as error:
            said.append(str(error).strip())

    attempt()  # no mesh
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    attempt(style="no such style")  # kmtalk's own message
    attempt(head_bone="Skull")
    cube.modifiers.new("Mirror", "MIRROR")
    attempt()
    cube.modifiers.clear()
    cube.scale = (0, 1, 1)
    attempt()
    try:
        bpy.ops.kmtalk.complete("EXEC_DEFAULT", wait=True)
    except RuntimeError as error:
        said.append(str(error).strip())
    cube.scale = (1, 1, 1)
    bpy.ops.object.mode_set(mode="EDIT")
    attempt()
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.data.libraries.write(str(FOLDER / "library.blend"), {cube})
    with bpy.data.libraries.load(str(FOLDER / "library.blend"), link=True) as (_, linked):
        linked.objects = ["Cube"]
    bpy.context.collection.objects.link(linked.objects[0])
    select(linked.objects[0])
    attempt()
    select(cube)
    bpy.context.preferences.addons["bl_ext.user_default.kmtalk"].preferences.command = "/nowhere/kmtalk"
    attempt()
    return said


addon_utils.enable("bl_pkg", default_set=True)
installed = bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
bpy.ops.wm.save_userpref()
bpy.ops.wm.save_homefile()
results = {job.__name__: job() for job in (own_shapes, bare_mesh, character, faults)}
print("RESULT", json.dumps({"installed": list(installed), **results}))
