"""animation.usd: one mesh with materials, and blend shapes with their weights or vertex positions per frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.usd_materials import bind_plain_material, write_materials
from kmtalk.face.motion import Motion
from kmtalk.face.template import vertex_normals


def write_usd(path: Path, motion: Motion, bake: bool = False) -> None:
    """Write USD, binary or text by the suffix, y up; time code n is frame n.

    The textures of its materials are written beside it. Positions are in the template's units; metersPerUnit is
    estimated from the template's landmarks.

    Args:
        path: The .usd, .usdc or .usda file.
        motion: The motion; its frame rate sets timeCodesPerSecond and framesPerSecond.
        bake: Write point positions per frame, which every program reads, instead of UsdSkel blend shapes (the
            rig's, or the mesh's own) with animated weights.

    Raises:
        InputError: usd-core is not installed.
    """
    try:
        from pxr import Gf, Usd, UsdGeom, Vt
    except ImportError:
        raise InputError(f"{path.name}: USD needs usd-core; pip install 'kmtalk[usd]'") from None

    template = motion.rig.template
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, _meters_per_unit(template.mm_per_unit / 1000))
    stage.SetTimeCodesPerSecond(motion.fps)
    stage.SetFramesPerSecond(motion.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(motion) - 1)
    name = _prim_name(template.name)
    root = _define_root(stage, name, bake)
    stage.SetDefaultPrim(root.GetPrim())
    mesh = UsdGeom.Mesh.Define(stage, f"/{name}/mesh")
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(template.faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(template.faces.ravel(), np.int32)))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)

    def points(vertices: np.ndarray) -> Any:
        return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices, np.float32))

    neutral = template.vertices
    mesh.CreatePointsAttr(points(neutral))
    mesh.CreateNormalsAttr(points(vertex_normals(neutral, template.faces)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if template.appearance is not None:
        write_materials(stage, f"/{name}", mesh, template.appearance, path)
    else:
        bind_plain_material(stage, f"/{name}", mesh, template.colors is not None)
    if template.colors is not None:
        colors = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        colors.Set(points((template.colors / 255.0) ** 2.2))
    low, high = neutral.min(0), neutral.max(0)
    if bake:
        mesh.GetNormalsAttr().Clear()  # they are those of the neutral; programs compute normals per frame
        frame = 0
        for chunk in motion.vertex_chunks():
            low, high = np.minimum(low, chunk.min((0, 1))), np.maximum(high, chunk.max((0, 1)))
            for vertices in chunk:
                mesh.GetPointsAttr().Set(points(vertices), frame)
                frame += 1
    else:
        _bind_blend_shapes(stage, name, mesh, motion, points)
        for chunk in motion.vertex_chunks():
            low, high = np.minimum(low, chunk.min((0, 1))), np.maximum(high, chunk.max((0, 1)))
    extent = [Gf.Vec3f(*map(float, low)), Gf.Vec3f(*map(float, high))]
    mesh.CreateExtentAttr(extent)
    stage.SetMetadata("documentation", "kmtalk")
    stage.GetRootLayer().Save()


def _define_root(stage: Any, name: str, bake: bool) -> Any:
    from pxr import UsdGeom, UsdSkel

    return (UsdGeom.Xform if bake else UsdSkel.Root).Define(stage, f"/{name}")


def _bind_blend_shapes(stage: Any, name: str, mesh: Any, motion: Motion, points: Callable[[np.ndarray], Any]) -> None:
    """Add the blend shapes and bind them through a skeleton with one joint, which importers require."""
    from pxr import Gf, Sdf, UsdSkel, Vt

    names, shapes, target_weights = motion.rig.morph_targets(motion.weights)
    tokens = _unique_prim_names(names)
    skeleton = UsdSkel.Skeleton.Define(stage, f"/{name}/skeleton")
    skeleton.CreateJointsAttr(["root"])
    identity = Vt.Matrix4dArray(1, Gf.Matrix4d(1.0))
    skeleton.CreateBindTransformsAttr(identity)
    skeleton.CreateRestTransformsAttr(identity)
    animation = UsdSkel.Animation.Define(stage, f"/{name}/skeleton/animation")
    animation.CreateBlendShapesAttr(tokens)
    weights = animation.CreateBlendShapeWeightsAttr()
    for frame, row in enumerate(np.clip(target_weights, 0, 1).astype(np.float32)):
        weights.Set(Vt.FloatArray.FromNumpy(np.ascontiguousarray(row)), frame)
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateBlendShapesAttr(tokens)
    binding.CreateJointIndicesPrimvar(constant=False, elementSize=1).Set(
        Vt.IntArray(len(motion.rig.template.vertices), 0)
    )
    binding.CreateJointWeightsPrimvar(constant=False, elementSize=1).Set(
        Vt.FloatArray(len(motion.rig.template.vertices), 1.0)
    )
    paths = []
    for token, offsets in zip(tokens, shapes, strict=True):
        shape = UsdSkel.BlendShape.Define(stage, f"/{name}/mesh/{token}")
        moved_indices = np.flatnonzero(np.abs(offsets).max(1) > 0)
        shape.CreateOffsetsAttr(points(offsets[moved_indices]))
        shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(moved_indices, np.int32)))
        paths.append(Sdf.Path(f"/{name}/mesh/{token}"))
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)


def _meters_per_unit(estimate: float) -> float:
    """Metres per unit: the common unit nearest to `estimate` if within 35 %, else `estimate` itself."""
    common = min((1.0, 0.1, 0.01, 0.001, 0.0254, 0.3048), key=lambda unit: abs(np.log(unit / estimate)))
    return common if abs(np.log(common / estimate)) < np.log(1.35) else estimate


def _prim_name(name: str) -> str:
    identifier = re.sub(r"[^A-Za-z0-9_]", "_", name) or "face"
    return identifier if not identifier[0].isdigit() else f"_{identifier}"


def _unique_prim_names(names: Sequence[str]) -> list[str]:
    """Valid USD prim names for the shapes, made unique by a numeric suffix."""
    unique: list[str] = []
    for name in names:
        prim_name, n = _prim_name(name), 2
        while prim_name in unique:
            prim_name, n = f"{_prim_name(name)}_{n}", n + 1
        unique.append(prim_name)
    return unique
