"""SkelAnimations for skeletons of the user's: weights of shapes, a turn of the head, and what they did before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.exchange.usd import set_weights
from kmtalk.face.files.gltf_bones import find_bones
from kmtalk.face.files.usd import rest_transforms
from kmtalk.face.joints import head_turns
from kmtalk.face.motion import Motion


@dataclass(frozen=True)
class HeadTurn:
    """A turn of the head.

    Attributes:
        joint: Index of the head joint in the skeleton's order.
        rotations: Rotations (N, 3, 3) in the stage's space, by frame.
    """

    joint: int
    rotations: np.ndarray


def find_head_joint(skeleton: Any, joints: np.ndarray) -> int | None:
    """Return the index of the head joint, found by its name; None without, or if it does not move a mesh.

    Args:
        skeleton: The UsdSkel.SkeletonQuery.
        joints: Indices of the joints that move the mesh.
    """
    names = [str(name) for name in skeleton.GetJointOrder()]
    leaves = [{"name": name.rpartition("/")[2]} for name in names]
    head = find_bones({"nodes": leaves, "skins": [{"joints": range(len(names))}]}).get("head")
    if head is None or not any(f"{names[k]}/".startswith(f"{names[head]}/") for k in joints):
        return None
    return head


def head_rotations(motion: Motion) -> np.ndarray:
    """Return the rotations (N, 3, 3) of the head in the template's space, from the weights of the head's shapes."""
    rig = motion.rig
    upright = rig.upright_rotation.astype(np.float64)
    out: np.ndarray = head_turns(upright, rig.shape_names, motion.weights).as_matrix()
    return out


def write_skeleton_animation(
    prim: Any, skeleton: Any, path: Any, curves: Mapping[str, np.ndarray], frames: int, turn: HeadTurn | None
) -> None:
    """Bind a skeleton to a new animation, which goes on with what its former one does to other joints and shapes.

    Args:
        prim: The skeleton's prim.
        skeleton: Its UsdSkel.SkeletonQuery.
        path: The Sdf.Path of the new animation.
        curves: Token → weights (N,) of the blend shapes that it drives.
        frames: Number of frames N.
        turn: The head's turn, which is added to that of the former animation.
    """
    from pxr import UsdSkel

    animation = UsdSkel.Animation.Define(prim.GetStage(), path)
    former = skeleton.GetAnimQuery() or None
    joints = _Joints(skeleton, former, turn)
    if joints.names:
        joints.write(animation, frames)
    known = [str(token) for token in former.GetBlendShapeOrder()] if former is not None else []
    tokens = known + [token for token in curves if token not in known]
    if tokens:
        times = _times(frames, former.GetBlendShapeWeightTimeSamples() if former is not None and known else ())
        rows = np.zeros((len(times), len(tokens)))
        for row, time in zip(rows, times, strict=True):
            given = former.ComputeBlendShapeWeights(time) if former is not None and known else None
            if given is not None and len(given) == len(known):
                row[: len(known)] = given
        for token, curve in curves.items():
            rows[:, tokens.index(token)] = np.interp(times, np.arange(frames), curve)
        set_weights(animation, tokens, times, rows)
    UsdSkel.BindingAPI.Apply(prim).CreateAnimationSourceRel().SetTargets([path])


def _times(frames: int, samples: Sequence[float]) -> list[float]:
    """Time codes of all frames and of the samples of an animation."""
    return sorted({*map(float, range(frames)), *samples})


class _Joints:
    """The joints of the former animation, and the head if it turns; other joints stay at rest without being named."""

    def __init__(self, skeleton: Any, former: Any | None, turn: HeadTurn | None) -> None:
        from pxr import Gf, Usd, UsdSkel

        self._skeleton, self._former, self._turn = skeleton, former, turn
        self._rest = rest_transforms(skeleton)
        self.names: list[str] = []
        self._added: list[Any] = []  # translation, rotation and scale at rest of a head that the animation lacks
        if former is not None and former.ComputeJointLocalTransformComponents(Usd.TimeCode.EarliestTime()):
            self.names = [str(name) for name in former.GetJointOrder()]
        if not self.names:
            self._former = None
        if turn is not None:
            head = str(skeleton.GetJointOrder()[turn.joint])
            if head not in self.names:
                parent = skeleton.GetTopology().GetParent(turn.joint)
                local = self._rest[turn.joint]
                local = local if parent < 0 else np.linalg.inv(self._rest[parent]) @ local
                self._added = [UsdSkel.DecomposeTransform(Gf.Matrix4d(*local.T.ravel().tolist()))]
                self.names.append(head)
            self._place = self.names.index(head)

    def write(self, animation: Any, frames: int) -> None:
        """Write their translations, rotations and scales: the former animation's samples, and the turn's frames."""
        from pxr import Gf, Usd, Vt

        animation.CreateJointsAttr(self.names)
        samples = list(self._former.GetJointTransformTimeSamples()) if self._former is not None else []
        translations, scales = animation.CreateTranslationsAttr(), animation.CreateScalesAttr()
        rotations = animation.CreateRotationsAttr()
        for time in samples or [Usd.TimeCode.Default()]:
            parts = self._parts(time if samples else Usd.TimeCode.EarliestTime())
            translations.Set(Vt.Vec3fArray(parts[0]), time)
            scales.Set(Vt.Vec3hArray(parts[2]), time)
            if self._turn is None:
                rotations.Set(Vt.QuatfArray(parts[1]), time)
        if self._turn is None:
            return
        turns, times = self._local_turns(), _times(frames, samples)
        vectors = np.stack([np.interp(times, np.arange(frames), turns[:, axis]) for axis in range(3)], axis=1)
        for time, (x, y, z, w) in zip(times, Rotation.from_rotvec(vectors).as_quat().tolist(), strict=True):
            values = self._parts(time)[1]
            values[self._place] = values[self._place] * Gf.Quatf(w, x, y, z)
            rotations.Set(Vt.QuatfArray(values), time)

    def _parts(self, time: Any) -> list[list[Any]]:
        """Translations, rotations and scales of the joints at a time code."""
        given = self._former.ComputeJointLocalTransformComponents(time) if self._former is not None else ((), (), ())
        return [[*values, *(one[k] for one in self._added)] for k, values in enumerate(given)]

    def _local_turns(self) -> np.ndarray:
        """The turn by frame as rotation vectors (N, 3) in the head joint's axes at rest: so it follows the body."""
        from pxr import Usd, UsdGeom

        assert self._turn is not None
        cache = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
        to_stage = np.array(cache.GetLocalToWorldTransform(self._skeleton.GetPrim()), np.float64).T[:3, :3]
        left, _, right = np.linalg.svd(to_stage @ self._rest[self._turn.joint, :3, :3])
        axes = left @ right  # without scale
        out: np.ndarray = Rotation.from_matrix(axes.T @ self._turn.rotations @ axes).as_rotvec()
        return out
