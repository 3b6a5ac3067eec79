"""The user's own USD with the motion: a layer over their stage, in which nothing changes.

The layer sublayers the stage. So paths, materials, variants and all else of it remain, and USD scales its time codes to
the layer's. Shapes that a mesh lacks are added to it. Each skeleton is bound to a new SkelAnimation, not to an edited
one, because an animation may drive other skeletons too; what the former one does to joints and shapes is copied.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.gltf import MIN_OFFSET_MM, SAME_SHAPE_MM
from kmtalk.exchange.usd import bind_to_joint, define_blend_shape, define_skeleton, prim_name, set_points, set_weights
from kmtalk.exchange.usd_skeleton import HeadTurn, find_head_joint, head_rotations, write_skeleton_animation
from kmtalk.face.files.usd import PlacedMesh, blend_shape_targets, open_stage, place_meshes
from kmtalk.face.geometry import invert_maps
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.motion import Motion
from kmtalk.output import final_path

USD_SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")
"""Suffixes of characters over whose stage a layer is written."""

JOINTS = "skel:jointIndices"
_KEPT_METADATA = (
    *("defaultPrim", "upAxis", "metersPerUnit", "kilogramsPerUnit", "renderSettingsPrimPath"),
    *("customLayerData", "expressionVariables"),
)


@dataclass(frozen=True)
class _Shapes:
    """The shapes that the motion moves: names (K,), offsets (K, V, 3) and weights (N, K) in [0, 1].

    Offsets up to `threshold`, in the template's units, are dropped.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    weights: np.ndarray
    threshold: float

    def of(self, mesh: PlacedMesh) -> np.ndarray:
        """Offsets (K, P, 3) of a mesh's vertices."""
        return self.offsets[:, mesh.start : mesh.start + len(mesh.positions)]


def write_usd_character(path: Path, source: Path, motion: Motion) -> None:
    """Write a layer over the stage of a character that makes it talk; time code n is frame n.

    Args:
        path: The .usd, .usdc or .usda file. It cites the stage relative to the place where it will lie.
        source: The character's file, from which the motion's template was read.
        motion: The motion; its frame rate sets timeCodesPerSecond and framesPerSecond.

    Raises:
        InputError: The stage is unreadable or has changed since, or usd-core is not installed.
        OSError: The file cannot be written.
    """
    try:
        from pxr import Sdf
    except ImportError:
        raise InputError(f"{path.name}: USD needs usd-core; pip install 'kmtalk[usd]'") from None
    source, folder = source.resolve(), final_path(path).parent.resolve()
    layer = Sdf.Layer.CreateAnonymous("kmtalk.usda")
    layer.subLayerPaths.append(source.as_posix())
    _write_layer(layer, source, motion)
    # no stage is open any more, which would look for the relative path beside the temporary file
    layer.subLayerPaths[0] = _asset_path(source, folder)
    if not layer.Export(str(path)):
        raise OSError(errno.EIO, "USD cannot write the file")


def _asset_path(source: Path, folder: Path) -> str:
    """The path of a file from a folder: relative, so that both can move, unless they share only the root."""
    if source.drive != folder.drive or os.path.commonpath([source, folder]) == source.anchor:
        return source.as_posix()
    relative = Path(os.path.relpath(source, folder)).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _write_layer(layer: Any, source: Path, motion: Motion) -> None:
    """Write the motion into a layer that sublayers the stage."""
    from pxr import Sdf, UsdGeom

    try:
        below = Sdf.Layer.FindOrOpen(source.as_posix())
        for key in _KEPT_METADATA:  # a stage takes these from its root layer alone
            if below.pseudoRoot.HasInfo(key):
                layer.pseudoRoot.SetInfo(key, below.pseudoRoot.GetInfo(key))
        # before any query, because these times scale those of the stage below
        layer.timeCodesPerSecond = layer.framesPerSecond = motion.fps
        layer.startTimeCode, layer.endTimeCode = 0, len(motion) - 1
        layer.documentation = "kmtalk"
        stage = open_stage(layer)
        UsdGeom.SetStageUpAxis(stage, UsdGeom.GetStageUpAxis(stage))
        UsdGeom.SetStageMetersPerUnit(stage, UsdGeom.GetStageMetersPerUnit(stage))
        meshes = place_meshes(stage)
    except Exception as error:
        raise InputError(f"{source}: not a readable USD file ({type(error).__name__}); export it again") from None
    count = sum(len(mesh.positions) for mesh in meshes)
    if count != len(motion.rig.template.vertices):
        raise InputError(f"{source}: has changed since it was animated ({count} vertices); animate it again")
    _write_motion(stage, meshes, motion)


def _write_motion(stage: Any, meshes: Sequence[PlacedMesh], motion: Motion) -> None:
    """Write shapes, skeletons and animations over the stage."""
    names, offsets, weights = motion.rig.morph_targets(motion.weights)
    mm_per_unit = motion.rig.template.mm_per_unit
    own = tuple(_own_name(k, name, offsets, meshes, SAME_SHAPE_MM / mm_per_unit) for k, name in enumerate(names))
    shapes = _Shapes(own, offsets, np.clip(weights, 0, 1), MIN_OFFSET_MM / mm_per_unit)
    is_head, rotations = np.array([name in HEAD_NAMES for name in names]), head_rotations(motion)
    bound: dict[Any, list[tuple[PlacedMesh, np.ndarray]]] = {}  # by the path of the skeleton
    turns: dict[Any, HeadTurn] = {}
    unbound = []
    for mesh in meshes:
        moving = np.array([np.abs(o).max(initial=0) > shapes.threshold for o in shapes.of(mesh)])
        if not moving.any():
            continue
        if mesh.skeleton is None:
            unbound.append((mesh, np.flatnonzero(moving)))
            continue
        path, head = mesh.skeleton.GetPrim().GetPath(), find_head_joint(mesh.skeleton, mesh.joints)
        if head is not None and moving[is_head].any():
            turns[path] = HeadTurn(head, rotations)
        chosen = np.flatnonzero(moving if head is None else moving & ~is_head)
        bound.setdefault(path, []).append((mesh, chosen))
    for path, group in bound.items():
        prim = _editable(stage, path)
        animation, skeleton = _free_path(stage, path, "kmtalk"), group[0][0].skeleton
        write_skeleton_animation(prim, skeleton, animation, _curves(group, shapes), len(motion), turns.get(path))
        for mesh, chosen in group:
            _add_shapes(stage, mesh, shapes, chosen)
    roots = _skel_roots(stage, [mesh for mesh, _ in unbound])
    for root in dict.fromkeys(roots.values()):
        group = [(mesh, chosen) for mesh, chosen in unbound if roots[mesh.prim.GetPath()] == root]
        if root is not None:
            _bind(stage, root, group, shapes)
            continue
        for mesh, chosen in group:
            _set_points_per_frame(stage, mesh, shapes, chosen)


def _curves(group: Sequence[tuple[PlacedMesh, np.ndarray]], shapes: _Shapes) -> dict[str, np.ndarray]:
    """Token → weights (N,) of the shapes that move any of the meshes."""
    return {
        mesh.tokens.get(shapes.names[k], shapes.names[k]): shapes.weights[:, k]
        for mesh, chosen in group
        for k in chosen
    }


def _own_name(number: int, name: str, offsets: np.ndarray, meshes: Sequence[PlacedMesh], tolerance: float) -> str:
    """Name of a shape in the file: another than its own if a mesh has a shape of that name that differs from it."""

    def differs(mesh: PlacedMesh) -> bool:
        ours = offsets[number, mesh.start : mesh.start + len(mesh.positions)]
        return name in mesh.shapes and bool(np.abs(mesh.shapes[name] - ours).max() > tolerance)

    while any(differs(mesh) for mesh in meshes):
        name += "_kmtalk"
    return name


def _add_shapes(stage: Any, mesh: PlacedMesh, shapes: _Shapes, chosen: np.ndarray) -> None:
    """Add the chosen shapes that a mesh lacks, after its own."""
    from pxr import UsdSkel

    prim = _editable(stage, mesh.prim.GetPath())
    binding, known = UsdSkel.BindingAPI(prim), blend_shape_targets(prim)
    tokens, targets = [token for token, _ in known], [target for _, target in known]
    lacking = [k for k in chosen if shapes.names[k] not in mesh.tokens]
    inverse, offsets = invert_maps(mesh.linear), shapes.of(mesh)
    for k in lacking:
        path = _free_path(stage, prim.GetPath(), prim_name(shapes.names[k]))
        kept = np.where(np.abs(offsets[k]).max(1, keepdims=True) > shapes.threshold, offsets[k], 0)
        define_blend_shape(stage, path, np.einsum("pij,pj->pi", inverse, kept))
        tokens.append(shapes.names[k])
        targets.append(path)
    if lacking or tokens != list(binding.GetBlendShapesAttr().Get() or []):
        binding = UsdSkel.BindingAPI.Apply(prim)
        binding.CreateBlendShapesAttr(tokens)
        binding.CreateBlendShapeTargetsRel().SetTargets(targets)


def _skel_roots(stage: Any, meshes: Sequence[PlacedMesh]) -> dict[Any, Any]:
    """Path of each mesh without a skeleton → path of the prim that can be the SkelRoot above it, or None.

    A SkelRoot is needed for blend shapes. It is one above the mesh, or else an Xform that the layer gives the type
    SkelRoot: an Xform that also deforms what is in it. One prim for all meshes is preferred. There is none for meshes
    at the root of the stage, for those that move against it or have a part of a binding, and for a prim that
    contains another SkelRoot, or a skeleton that would begin to deform meshes.
    """
    from pxr import Usd, UsdGeom, UsdSkel

    def root_above(path: Any) -> Any:
        above = [stage.GetPrimAtPath(p) for p in path.GetPrefixes()]
        inside = next((p for p in above if p.IsA(UsdSkel.Root)), None)
        if inside is not None:
            return inside
        found = next((p for p in reversed(above) if p.GetTypeName() in ("Xform", "")), None)
        kinds = (UsdSkel.Root, UsdSkel.Skeleton)
        nested = found is None or any(p.IsA(kind) for p in Usd.PrimRange(found) for kind in kinds)
        return None if nested else found

    def suits(root: Any, mesh: PlacedMesh) -> bool:
        if root is None or UsdGeom.PrimvarsAPI(mesh.prim).FindPrimvarWithInheritance(JOINTS).HasAuthoredValue():
            return False
        below = [p for p in mesh.prim.GetPath().GetPrefixes() if p.HasPrefix(root.GetPath()) and p != root.GetPath()]
        between = [UsdGeom.Xformable(stage.GetPrimAtPath(path)) for path in below]
        return not any(x and (x.TransformMightBeTimeVarying() or x.GetResetXformStack()) for x in between)

    parents = [mesh.prim.GetPath().GetParentPath() for mesh in meshes]
    shared = parents[0] if parents else None
    for parent in parents:
        shared = shared.GetCommonPrefix(parent)  # type: ignore[union-attr]
    common = root_above(shared) if shared else None
    out = {}
    for mesh, parent in zip(meshes, parents, strict=True):
        root = next((r for r in (common, root_above(parent)) if suits(r, mesh)), None)
        out[mesh.prim.GetPath()] = None if root is None else root.GetPath()
    return out


def _bind(stage: Any, root: Any, group: Sequence[tuple[PlacedMesh, np.ndarray]], shapes: _Shapes) -> None:
    """Bind meshes to a new skeleton below a prim, which becomes a SkelRoot if it is none, and animate them."""
    from pxr import Usd, UsdGeom, UsdSkel

    prim, transforms = _editable(stage, root), UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
    placed = [transforms.ComputeRelativeTransform(mesh.prim, prim)[0] for mesh, _ in group]
    for mesh, _ in group:
        _editable(stage, mesh.prim.GetPath())
    if not prim.IsA(UsdSkel.Root):
        prim.SetTypeName("SkelRoot")
    skeleton = define_skeleton(stage, _free_path(stage, root, "kmtalk"))
    animation = UsdSkel.Animation.Define(stage, skeleton.GetPath().AppendChild("animation"))
    curves = _curves(group, shapes)
    set_weights(animation, list(curves), range(len(shapes.weights)), np.stack(list(curves.values()), axis=1))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    for (mesh, chosen), matrix in zip(group, placed, strict=True):
        binding = bind_to_joint(stage.GetPrimAtPath(mesh.prim.GetPath()), skeleton, len(mesh.positions))
        binding.CreateGeomBindTransformAttr(matrix)
        _add_shapes(stage, mesh, shapes, chosen)


def _set_points_per_frame(stage: Any, mesh: PlacedMesh, shapes: _Shapes, chosen: np.ndarray) -> None:
    """Set the points of a mesh that no skeleton can move, at each frame."""
    from pxr import Usd, UsdGeom

    geometry = UsdGeom.Mesh(_editable(stage, mesh.prim.GetPath()))
    neutral = np.array(geometry.GetPointsAttr().Get(Usd.TimeCode.EarliestTime()), np.float64).reshape(-1, 3)
    inverse, offsets = invert_maps(mesh.linear), shapes.of(mesh)
    local = np.stack([np.einsum("pij,pj->pi", inverse, offsets[k]) for k in chosen])
    for frame, weights in enumerate(shapes.weights[:, chosen]):
        set_points(geometry, neutral + np.einsum("k,kpx->px", weights, local), frame)


def _editable(stage: Any, path: Any) -> Any:
    """The prim at a path; the layer turns instances above it into plain prims, inside which nothing can change."""
    for above in path.GetPrefixes():
        spec = stage.GetSessionLayer().GetPrimAtPath(above)
        if spec is not None and spec.HasInfo("instanceable"):
            stage.GetPrimAtPath(above).SetInstanceable(False)
    return stage.GetPrimAtPath(path)


def _free_path(stage: Any, parent: Any, name: str) -> Any:
    """Path of a new child prim."""
    path, number = parent.AppendChild(name), 2
    while stage.GetPrimAtPath(path):
        path, number = parent.AppendChild(f"{name}_{number}"), number + 1
    return path
