"""Script for a Python with bpy; arguments are folders.

Runs import_blender.py of each folder as a user would, compares Blender's vertices with the arrays, and prints JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import bpy
import numpy as np


def check(folder: Path) -> dict[str, object]:
    with np.load(folder / "expected.npz") as held:
        expected, scale = held["vertices"], float(held["mm_per_unit"])
    bpy.ops.wm.read_factory_settings(use_empty=True)
    runpy.run_path(str(folder / "import_blender.py"), {"__file__": str(folder / "import_blender.py")})
    scene = bpy.context.scene
    face = max((o for o in scene.objects if o.type == "MESH"), key=lambda o: len(o.data.vertices))
    worst, factor = 0.0, 0.0
    for frame in range(len(expected)):
        scene.frame_set(frame)
        seen = face.evaluated_get(bpy.context.evaluated_depsgraph_get())
        points = np.empty(3 * len(seen.data.vertices), np.float32)
        seen.data.vertices.foreach_get("co", points)
        points = points.reshape(-1, 3) @ np.array(seen.matrix_world)[:3, :3].T + np.array(seen.matrix_world)[:3, 3]
        shown = points[:, [0, 2, 1]] * [1, 1, -1]  # from Blender's z up to y up
        if frame == 0:
            factor = np.ptp(expected[0], axis=0).max() / np.ptp(shown, axis=0).max()
        worst = max(worst, float(np.abs(shown - expected[frame]).max()) * scale)
    editor = scene.sequence_editor
    strips = list(editor.strips if hasattr(editor, "strips") else editor.sequences) if editor else []
    keyed = [c.keyframe_points[-1].co.x for a in bpy.data.actions for c in getattr(a, "fcurves", [])]
    return {
        "worst_mm": worst,
        "factor": float(factor),
        "fps": scene.render.fps / scene.render.fps_base,
        "range": [scene.frame_start, scene.frame_end],
        "keys": sum(len(c.keyframe_points) for a in bpy.data.actions for c in getattr(a, "fcurves", [])),
        "last_key": max(keyed, default=None),
        "sound": [[s.type, s.frame_start, s.frame_final_duration] for s in strips],
        "shapes": len(face.data.shape_keys.key_blocks) - 1 if face.data.shape_keys else 0,
    }


for name in sys.argv[1:]:
    print("RESULT", json.dumps(check(Path(name))))
