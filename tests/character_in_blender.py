"""Script for a Python with bpy; arguments are a folder or an .fbx file, and an .npz of expected vertices.

Imports the character as a user would, compares the vertices of all its meshes with the arrays, and prints JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np

source = Path(sys.argv[1])
with np.load(sys.argv[2]) as held:
    frames, scale, fps = held["frames"].tolist(), float(held["mm_per_unit"]), float(held["fps"])
    expected = {name.removeprefix("part "): held[name] for name in held.files if name.startswith("part ")}
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
if source.is_dir():
    runpy.run_path(str(source / "import_blender.py"), {"__file__": str(source / "import_blender.py")})
else:
    scene.render.fps = round(fps)
    bpy.ops.import_scene.fbx(filepath=str(source), automatic_bone_orientation=False, anim_offset=0.0)
worst, seen = {}, []
for frame in frames:
    scene.frame_set(frame)
    for name, vertices in expected.items():
        named = next(o for o in bpy.data.objects if o.type == "MESH" and o.name.partition(".")[0] == name)
        found = named.evaluated_get(bpy.context.evaluated_depsgraph_get())
        points = np.empty(3 * len(found.data.vertices), np.float32)
        found.data.vertices.foreach_get("co", points)
        matrix = np.array(found.matrix_world)
        points = points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
        shown = points[:, [0, 2, 1]] * [1, 1, -1]  # from Blender's z up to y up
        miss = float(np.abs(shown - vertices[frames.index(frame)]).max()) * scale
        worst[name] = max(worst.get(name, 0.0), miss)
        seen.append(len(shown))
bones = [bone.name for found in bpy.data.objects if found.type == "ARMATURE" for bone in found.data.bones]
print(
    "RESULT",
    json.dumps(
        {
            "worst_mm": worst,
            "vertices": sum(seen) // len(frames),
            "bones": len(bones),
            "materials": len(bpy.data.materials),
            "images": len(bpy.data.images),
            "meshes": sum(found.type == "MESH" for found in bpy.data.objects),
        }
    ),
)
