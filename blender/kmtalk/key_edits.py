"""Finds the keyframes that an animator has changed, and writes them into keys.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .animation_data import curves_of, shape_path
from .process import KMTalkError
from .take import Take

TOLERANCE = 1e-4  # largest difference of equal weights, as in kmtalk
_MAX_SWEEPS = 100


def read_edits(all_keys: Iterable[bpy.types.Key], take: Take, start: int) -> tuple[dict[int, dict[str, float]], set]:
    """Compare the keyframes of shape keys with the animation that they were made from.

    Where several meshes have a shape, the keyframe that differs most counts.

    Args:
        all_keys: Shape keys of all meshes of the face.
        take: The animation before the edits.
        start: Scene frame of the animation's frame 0.

    Returns:
        Changed values by frame and shape, and the frames that have keyframes.

    Raises:
        KMTalkError: No keyframe stands on a frame of the animation.
    """
    edits: dict[int, dict[str, float]] = {}
    keyed: set[int] = set()
    for keys in all_keys:
        curves = curves_of(keys)
        for column, name in enumerate(take.names):
            curve = curves.get((shape_path(name), 0))
            if curve is None:
                continue
            points = np.empty(2 * len(curve.keyframe_points), np.float32)
            curve.keyframe_points.foreach_get("co", points)
            times, values = points.reshape(-1, 2).T
            frames = np.round(times - start).astype(int)
            whole = (np.abs(times - start - frames) < 0.01) & (frames >= 0) & (frames < len(take))
            keyed |= set(frames[whole].tolist())
            original = take.weights[np.clip(frames, 0, len(take) - 1), column]
            for k in np.flatnonzero(whole & (np.abs(values - original) > TOLERANCE)):
                frame, before = int(frames[k]), float(original[k])
                other = edits.setdefault(frame, {}).get(name, before)
                edits[frame][name] = max(float(values[k]), other, key=lambda value: abs(value - before))
    if not keyed:
        raise KMTalkError(f"no keyframes of this animation from frame {start} on; press Animate again")
    return edits, keyed


def edit_key_file(
    path: Path, take: Take, edits: dict[int, dict[str, float]], keyed: set[int]
) -> tuple[dict[str, Any], float]:
    """Return the contents of a keys.json with edits; what they change is pinned.

    Args:
        path: The keys.json of the animation.
        take: The animation.
        edits: Changed values by frame and shape. A frame that is not a key becomes one.
        keyed: Frames that have keyframes. A key whose keyframes are all gone is removed.

    Returns:
        The contents, and the largest part of an edit that the shapes cannot express.

    Raises:
        KMTalkError: Nothing was edited, or the file is gone.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise KMTalkError(f"{path}: is gone or damaged; press Animate again") from None
    kept = {*keyed, 0, len(take) - 1}
    entries = {entry["frame"]: dict(entry) for entry in document["keys"] if entry["frame"] in kept}
    if not edits and len(entries) == len(document["keys"]):
        raise KMTalkError("no keyframe differs from the animation; change some, then press Complete")
    missed = 0.0
    for frame, values in edits.items():
        pose = take.rig_weights[frame].astype(np.float64)
        target = pose @ take.mixing_matrix
        for name, value in values.items():
            target[take.names.index(name)] = np.clip(value, 0, 1)
        pose, missing = _solve_pose(take.mixing_matrix.astype(np.float64), pose, target)
        missed = max(missed, missing)
        weights = {name: float(w) for name, w in zip(take.rig_names, pose, strict=True) if w > 1e-6}
        entry = entries.get(frame) or {"frame": frame, "phone": _phone_at(take, frame)}
        entries[frame] = entry | {"weights": weights, "pinned": True}
    return document | {"keys": [entries[frame] for frame in sorted(entries)]}, missed


def _solve_pose(mixing: np.ndarray, pose: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Change weights of the rig (R,) in [0, 1] until they mix (R, K) to the weights of the mesh's shapes (K,).

    Coordinate descent: first the shapes of the rig that are one shape of the mesh, then mixtures.

    Returns:
        The weights, and the largest difference that remains.
    """
    pose, norms = np.clip(pose, 0, 1), (mixing**2).sum(1)
    rows = [row for row in np.argsort((mixing != 0).sum(1), kind="stable") if norms[row] > 0]
    for _ in range(_MAX_SWEEPS):
        for row in rows:
            remaining = target - pose @ mixing
            if np.abs(remaining).max() < 1e-7:
                return pose, 0.0
            pose[row] = np.clip(pose[row] + mixing[row] @ remaining / norms[row], 0, 1)
    return pose, float(np.abs(target - pose @ mixing).max())


def _phone_at(take: Take, frame: int) -> str:
    time = (frame + 0.5) / take.fps
    return next((label for label, start, end in take.phones if start <= time < end), "sil")
