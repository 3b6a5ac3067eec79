"""USD reader, by Pixar's library: the shown meshes of the stage in their rest pose, with their blend shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.mesh_merge import MAX_VERTICES, MeshMerger
from kmtalk.face.template import Template

MAX_LAYERS = 10_000

UNITS = {1.0: "m", 0.1: "dm", 0.01: "cm", 0.001: "mm", 0.0254: "in", 0.3048: "ft"}
"""Name of the unit by its metersPerUnit."""


@dataclass(frozen=True)
class PlacedMesh:
    """A mesh of a stage, with its vertices' place in the merged mesh.

    Attributes:
        prim: The Usd.Prim.
        start: Index of its first vertex in the mesh that `read_usd` returns.
        positions: Vertices (P, 3) in the rest pose, in the stage's space and units.
        linear: Linear part (P, 3, 3) of the map from the mesh's space to that of the rest pose.
        shapes: Blend shapes: name of the prim → offsets (P, 3), in the stage's space.
        tokens: Name of each of their prims → the token by which animations drive it. Blender, for one, numbers the
            tokens of meshes that have shapes of the same name.
        skeleton: The UsdSkel.SkeletonQuery of the skeleton that it is bound to; None without.
        joints: Indices of the skeleton's joints that move it.
    """

    prim: Any
    start: int
    positions: np.ndarray
    linear: np.ndarray
    shapes: Mapping[str, np.ndarray]
    tokens: Mapping[str, str]
    skeleton: Any | None
    joints: np.ndarray


def read_usd(path: Path) -> Template:
    """Read a USD file: vertices in stage order and in the stage's axes and units, polygons as triangle fans.

    Vertices are those of the rest pose. Meshes for proxies and guides, and invisible ones, are left out where there
    are others.

    Raises InputError if the file is unreadable or usd-core is not installed.
    """
    try:
        import pxr  # noqa: F401
    except ImportError:
        raise InputError(f"{path}: reading USD needs usd-core; pip install 'kmtalk[usd]'") from None
    try:
        _check_layers(path)
        return _read(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        # the library's own messages cite its source lines, so they are left out
        raise InputError(f"{path}: not a readable USD file ({type(error).__name__}); export it again") from None


def _check_layers(path: Path) -> None:
    """Raise InputError where a file, or one that it refers to, refers to the network or to itself as a sublayer.

    Layers in other folders are read, as they are usual in a production's tree of files.
    """
    from pxr import Sdf

    left: list[tuple[str, tuple[str, ...]]] = [(str(path), (str(path.resolve()),))]
    seen: set[str] = set()
    layers = []
    while left and len(seen) < MAX_LAYERS:
        name, above = left.pop()
        layer = Sdf.Layer.FindOrOpen(name)
        if layer is None or name in seen:
            continue  # the stage does without it
        seen.add(name)
        layers.append(layer)  # a layer lives as long as something holds it
        for given in layer.GetCompositionAssetDependencies():
            if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", given):
                raise InputError(
                    f"refers to {given[:200]}, which is not on this machine; export it with its references"
                )
            place = layer.ComputeAbsolutePath(given)
            if place in above and given in layer.subLayerPaths:
                raise InputError(f"its layer {given[:200]} stands below itself; export it again")
            left.append((place, (*above, place)))


def _check_references(stage: Any) -> None:
    """Raise InputError where a stage has references or layers that cannot be read, and so lacks a part."""
    from pxr import Pcp

    circles = (Pcp.ErrorType_ArcCycle, Pcp.ErrorType_SublayerCycle)
    missing = (Pcp.ErrorType_InvalidAssetPath, Pcp.ErrorType_InvalidSublayerPath, Pcp.ErrorType_UnresolvedPrimPath)
    for error in stage.GetCompositionErrors():
        if error.errorType in circles:
            raise InputError("refers to itself; export it again")
        if error.errorType not in missing:
            continue  # contradictions, of which one side counts
        found = re.search(r"@([^@]+)@", str(error))
        raise InputError(f"refers to {found[1] if found else 'a part'}, which cannot be read; export it in one file")


def open_stage(source: Any) -> Any:
    """Open a stage from a path or an Sdf.Layer, with its instances unrolled.

    The session layer holds `instanceable = false` for each of them, because prims inside an instance cannot be
    edited. Raises Tf.ErrorException if the file is unreadable.
    """
    from pxr import Usd

    stage = Usd.Stage.Open(source)
    with Usd.EditContext(stage, stage.GetSessionLayer()):
        while instances := [prim for prim in stage.Traverse() if prim.IsInstance()]:
            for prim in instances:  # an instance inside it is found in the next round
                prim.SetInstanceable(False)
    return stage


def place_meshes(stage: Any) -> list[PlacedMesh]:
    """Return the meshes of a stage of `open_stage`, in the order of the vertices of `read_usd`."""
    from pxr import Usd, UsdGeom

    time = Usd.TimeCode.EarliestTime()
    transforms, bindings = UsdGeom.XformCache(time), _skel_bindings(stage)
    placed: list[PlacedMesh] = []
    start = 0
    for prim in _shown_meshes(stage, time):
        points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get(time), np.float64).reshape(-1, 3)
        if start + len(points) > MAX_VERTICES:
            raise InputError(f"has more than {MAX_VERTICES:,} vertices; decimate its meshes")
        matrices = np.broadcast_to(_columns(transforms.GetLocalToWorldTransform(prim)), (len(points), 4, 4))
        skeleton, skinning = bindings.get(prim.GetPath(), (None, None))
        joints = np.zeros(0, np.int64)
        skinned = None if skeleton is None else _skinning_matrices(skeleton, skinning, len(points), time)
        if skinned is not None:
            joints = skinned[1]
            matrices = _columns(transforms.GetLocalToWorldTransform(skeleton.GetPrim())) @ skinned[0]
        linear = matrices[:, :3, :3]
        positions = np.einsum("pij,pj->pi", linear, points) + matrices[:, :3, 3]
        tokens = {target.name: token for token, target in blend_shape_targets(prim)}
        placed.append(PlacedMesh(prim, start, positions, linear, _blend_shapes(prim, linear), tokens, skeleton, joints))
        start += len(points)
    return placed


def rest_transforms(skeleton: Any) -> np.ndarray:
    """Return the joints' transforms (J, 4, 4) in the skeleton's space, in its rest pose or else its bind pose.

    Args:
        skeleton: The UsdSkel.SkeletonQuery.
    """
    from pxr import Usd

    found = None
    if skeleton.HasRestPose():
        found = skeleton.ComputeJointSkelTransforms(Usd.TimeCode.EarliestTime(), True)
    if found is None:
        found = skeleton.GetJointWorldBindTransforms()
    return np.array(found, np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)


def _read(path: Path) -> Template:
    """Merge the meshes of the stage."""
    from pxr import Usd, UsdGeom, UsdUtils

    quiet = UsdUtils.CoalescingDiagnosticDelegate()  # else the library writes to stderr, in several lines
    stage = open_stage(str(path))
    del quiet
    _check_references(stage)
    time = Usd.TimeCode.EarliestTime()
    merger = MeshMerger()
    for placed in place_meshes(stage):
        mesh = UsdGeom.Mesh(placed.prim)
        sides = np.array(mesh.GetFaceVertexCountsAttr().Get(time), np.int64).ravel()
        corners = np.array(mesh.GetFaceVertexIndicesAttr().Get(time), np.int64).ravel()
        triangles = _triangulate_fans(sides, corners)
        left_handed = mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
        if left_handed != (np.linalg.det(placed.linear.mean(0)) < 0):
            triangles = triangles[:, ::-1]
        merger.add_mesh(str(placed.prim.GetPath()), placed.positions, triangles)
        for name, offsets in placed.shapes.items():
            merger.add_shape(name, offsets)
    units = "unknown"
    if UsdGeom.StageHasAuthoredMetersPerUnit(stage):
        units = UNITS.get(round(UsdGeom.GetStageMetersPerUnit(stage), 6), units)
    return replace(merger.build_template(), units=units)


def _shown_meshes(stage: Any, time: Any) -> list[Any]:
    """The prims of the meshes that have faces; of these the rendered ones, and of those the visible, if any."""
    from pxr import UsdGeom

    meshes = []
    for prim in stage.Traverse():
        if prim.IsA(UsdGeom.Mesh):
            mesh = UsdGeom.Mesh(prim)
            attributes = (mesh.GetPointsAttr(), mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr())
            points, sides, corners = (attribute.Get(time) for attribute in attributes)
            if not (points and sides and corners):
                continue
            counts = np.array(sides, np.int64)
            if counts.min() >= 0 and counts.sum() == len(corners):
                meshes.append(prim)
    rendered = (UsdGeom.Tokens.default_, UsdGeom.Tokens.render)
    meshes = [p for p in meshes if UsdGeom.Imageable(p).ComputePurpose() in rendered] or meshes
    invisible = UsdGeom.Tokens.invisible
    return [p for p in meshes if UsdGeom.Imageable(p).ComputeVisibility(time) != invisible] or meshes


def _blend_shapes(prim: Any, linear: np.ndarray) -> dict[str, np.ndarray]:
    """Name and offsets (P, 3) of a mesh's blend shapes; `linear` (P, 3, 3) maps them to the stage's space."""
    from pxr import UsdSkel

    out: dict[str, np.ndarray] = {}
    for _, target in blend_shape_targets(prim):
        shape = UsdSkel.BlendShape(prim.GetStage().GetPrimAtPath(target))
        values = np.array(shape.GetOffsetsAttr().Get(), np.float64).reshape(-1, 3)
        index = shape.GetPointIndicesAttr().Get()
        offsets = np.zeros((len(linear), 3))
        offsets[np.array(index) if index else np.arange(len(values))] = values
        out[target.name] = np.einsum("pij,pj->pi", linear, offsets)
    return out


def blend_shape_targets(prim: Any) -> list[tuple[str, Any]]:
    """Return the token and the Sdf.Path of each of a mesh's blend shapes; the prims' names where tokens lack."""
    from pxr import UsdSkel

    binding = UsdSkel.BindingAPI(prim)
    targets = binding.GetBlendShapeTargetsRel().GetTargets()
    tokens = list(binding.GetBlendShapesAttr().Get() or [])
    if len(tokens) != len(targets) or len(set(tokens)) != len(tokens):
        tokens = [target.name for target in targets]
    return list(zip(tokens, targets, strict=True))


def _skel_bindings(stage: Any) -> dict[Any, tuple[Any, Any]]:
    """Path of each bound mesh → the queries of its skeleton and of its skinning. Only SkelRoots bind."""
    from pxr import Usd, UsdSkel

    cache, out = UsdSkel.Cache(), {}
    for prim in stage.Traverse():
        if prim.IsA(UsdSkel.Root):
            root = UsdSkel.Root(prim)
            cache.Populate(root, Usd.PrimDefaultPredicate)
            for binding in cache.ComputeSkelBindings(root, Usd.PrimDefaultPredicate):
                skeleton = cache.GetSkelQuery(binding.GetSkeleton())
                for skinning in binding.GetSkinningTargets() if skeleton else ():
                    out[skinning.GetPrim().GetPath()] = skeleton, skinning
    return out


def _skinning_matrices(skeleton: Any, skinning: Any, count: int, time: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Map (P, 4, 4) of each vertex to the skeleton's space in the rest pose, and the joints that have weights.

    None without a bind pose or with joint influences that USD cannot use: such a mesh stands where its prim does.
    """
    if not skinning.HasJointInfluences() or not skeleton.HasBindPose():
        return None
    influences = skinning.ComputeVaryingJointInfluences(count)
    if influences is None:
        return None
    names = list(skeleton.GetJointOrder())
    order = np.arange(len(names))
    if own := skinning.GetJointOrder():
        order = np.array([names.index(name) for name in own])
    index, weights = (np.array(values).reshape(count, -1) for values in influences)
    if index.min() < 0 or index.max() >= len(order):
        return None
    index, weights = order[index], weights.astype(np.float64)
    bind = np.array(skeleton.GetJointWorldBindTransforms(), np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    motion = rest_transforms(skeleton) @ np.linalg.pinv(bind)
    placed = np.zeros((count, 4, 4))
    for column in range(index.shape[1]):
        placed += weights[:, column, None, None] * motion[index[:, column]]
    return placed @ _columns(skinning.GetGeomBindTransform(time)), np.unique(index[weights > 0])


def _columns(matrix: Any) -> np.ndarray:
    """A Gf matrix, which multiplies row vectors, as one (4, 4) that multiplies column vectors."""
    return np.array(matrix, np.float64).T


def _triangulate_fans(sides: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of polygons with `sides` (P,) corners each, listed one after another in `corners`."""
    start = np.cumsum(sides) - sides
    triangle_count = np.maximum(sides - 2, 0)
    first = np.repeat(start, triangle_count)
    step = np.arange(triangle_count.sum()) - np.repeat(np.cumsum(triangle_count) - triangle_count, triangle_count)
    triangles: np.ndarray = corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
    return triangles
