"""animation.vrma: a VRM animation (VRMC_vrm_animation 1.0), which plays on any VRM character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.exchange.arkit import LIVE_LINK_ORDER, arkit_curves, head_and_eye_rotations
from kmtalk.exchange.glb_file import GlbFile
from kmtalk.exchange.gltf import CHARACTER_ANIMATION
from kmtalk.face.joints import NECK_SHARE
from kmtalk.face.motion import Motion
from kmtalk.face.rig import Rig
from kmtalk.face.weight_solver import solve_bounded

# height in metres of the bones above the one before; VRM players use rotations relative to this rest pose alone
BONES = {"hips": 0.95, "spine": 0.1, "chest": 0.15, "neck": 0.25, "head": 0.08}
MOUTHS = {
    "aa": {"jawOpen": 0.6},
    "ih": {"jawOpen": 0.12, "mouthSmileLeft": 0.4, "mouthSmileRight": 0.4},
    "ou": {"jawOpen": 0.1, "mouthPucker": 0.8},
    "ee": {"jawOpen": 0.25, "mouthSmileLeft": 0.3, "mouthSmileRight": 0.3},
    "oh": {"jawOpen": 0.35, "mouthFunnel": 0.6},
}
"""VRM's mouth expressions as poses of ARKit's shapes."""


def write_vrm_animation(path: Path, motion: Motion) -> None:
    """Write the motion for VRM characters: head, gaze, VRM's preset expressions, and ARKit's shapes as custom ones.

    Keyframe n is stored at n / fps seconds.

    Args:
        path: The .vrma file.
        motion: The motion.
    """
    file = GlbFile({"asset": {"version": "2.0", "generator": "kmtalk"}, "scene": 0}, bytearray())
    nodes: list[dict[str, Any]] = []
    for number, (name, height) in enumerate(BONES.items()):
        nodes.append({"name": name, "translation": [0, height, 0]})
        if number:
            nodes[number - 1]["children"] = [number]
    humanoid = {"humanBones": {name: {"node": k} for k, name in enumerate(BONES)}}
    times = file.add_accessor(np.arange(len(motion), dtype=np.float32) / motion.fps, bounds=True)
    animation: dict[str, Any] = {"name": CHARACTER_ANIMATION, "channels": [], "samplers": []}

    def add(node: int, channel: str, values: np.ndarray) -> None:
        sampler = {"input": times, "output": file.add_accessor(values), "interpolation": "LINEAR"}
        animation["samplers"].append(sampler)
        target = {"node": node, "path": channel}
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": target})

    yaw, pitch, roll, left_yaw, left_pitch, _, right_yaw, right_pitch, _ = head_and_eye_rotations(motion).T
    head = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, -roll], axis=1)).as_rotvec()
    for name, share in (("neck", NECK_SHARE), ("head", 1 - NECK_SHARE)):
        add(list(BONES).index(name), "rotation", Rotation.from_rotvec(share * head).as_quat())
    gaze = np.stack([(left_yaw + right_yaw) / 2, -(left_pitch + right_pitch) / 2, np.zeros(len(yaw))], axis=1)
    nodes.append({"name": "lookAt"})
    nodes[list(BONES).index("head")]["children"] = [len(nodes) - 1]
    add(len(nodes) - 1, "rotation", Rotation.from_euler("YXZ", gaze).as_quat())
    roots = [0]
    expressions: dict[str, dict[str, Any]] = {"preset": {}, "custom": {}}
    weights = arkit_curves(motion)
    curves = dict(zip(LIVE_LINK_ORDER, weights.T, strict=True))
    presets = MouthExpressionFitter(motion.rig).fit(weights)
    presets |= {"blinkLeft": curves["eyeBlinkLeft"], "blinkRight": curves["eyeBlinkRight"]}
    for kind, given in (("preset", presets), ("custom", curves)):
        for name, values in given.items():
            roots.append(len(nodes))
            nodes.append({"name": name})
            expressions[kind][name] = {"node": len(nodes) - 1}
            weight = np.zeros((len(values), 3))
            weight[:, 0] = values  # the weight is the node's translation along x
            add(len(nodes) - 1, "translation", weight)
    look = {"node": len(BONES), "offsetFromHeadBone": [0.0, 0.06, 0.0]}
    extension = {"specVersion": "1.0", "humanoid": humanoid, "expressions": expressions, "lookAt": look}
    file.document |= {"scenes": [{"nodes": roots}], "nodes": nodes, "animations": [animation]}
    file.document |= {"extensionsUsed": ["VRMC_vrm_animation"], "extensions": {"VRMC_vrm_animation": extension}}
    file.save(path)


class MouthExpressionFitter:
    """Fits VRM's mouth expressions to ARKit's shapes: their mixture is nearest to the mouth (least squares).

    Args:
        rig: The rig, on whose mesh the mouth is compared.
    """

    def __init__(self, rig: Rig) -> None:
        names = [name for name in LIVE_LINK_ORDER if name.startswith(("jaw", "mouth"))]
        flat = rig.offsets[[rig.index[name] for name in names]].reshape(len(names), -1).astype(np.float64)
        gram = flat @ flat.T
        poses = np.array([[pose.get(name, 0.0) for name in names] for pose in MOUTHS.values()])
        self._columns = [LIVE_LINK_ORDER.index(name) for name in names]
        self._project = gram @ poses.T
        self._gram = poses @ self._project + 1e-9 * np.trace(gram) * np.eye(len(poses))

    def fit(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return weights (N,) of the expressions by name, for weights (N, 52) in the order of `LIVE_LINK_ORDER`."""
        solved = solve_bounded(self._gram, weights[:, self._columns] @ self._project)
        return dict(zip(MOUTHS, solved.T, strict=True))
