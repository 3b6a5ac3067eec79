"""animation.usd: one mesh with materials, and blend shapes with their weights or vertex positions per frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.upright import UPRIGHT_COSINE, upright_turn
from kmtalk.exchange.usd_materials import bind_plain_material, write_materials
from kmtalk.face.motion import Motion
from kmtalk.face.rig import Rig
from kmtalk.face.template import vertex_normals


def write_usd(path: Path, motion: Motion, bake: bool = False) -> None:
    """Write USD, binary or text by the suffix; time code n is frame n.

    The textures of its materials are written beside it. Positions are in the template's axes and units; upAxis is its
    y or its z, and a template that stands on neither is turned upright by the root. metersPerUnit is estimated from the
    template's landmarks.

    Args:
        path: The .usd, .usdc or .usda file.
        motion: The motion; its frame rate sets timeCodesPerSecond and framesPerSecond.
        bake: Write points and normals per frame, which every program reads, instead of UsdSkel blend shapes (the
            rig's, or the mesh's own) with animated weights.

    Raises:
        InputError: usd-core is not installed.
    """
    try:
        from pxr import Usd, UsdGeom, UsdSkel, Vt
    except ImportError:
        raise InputError(f"{path.name}: USD needs usd-core; pip install 'kmtalk[usd]'") from None

    template = motion.rig.template
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageMetersPerUnit(stage, _meters_per_unit(template.mm_per_unit / 1000))
    stage.SetTimeCodesPerSecond(motion.fps)
    stage.SetFramesPerSecond(motion.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(motion) - 1)
    name = prim_name(template.name)
    root = (UsdGeom.Xform if bake else UsdSkel.Root).Define(stage, f"/{name}")
    _stand_up(stage, root, motion.rig)
    stage.SetDefaultPrim(root.GetPrim())
    mesh = UsdGeom.Mesh.Define(stage, f"/{name}/mesh")
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(template.faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(template.faces.ravel(), np.int32)))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(True)
    if template.appearance is not None:
        write_materials(stage, f"/{name}", mesh, template.appearance, path)
    else:
        bind_plain_material(stage, f"/{name}", mesh, template.colors is not None)
    if template.colors is not None:
        colors = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        colors.Set(vec3f_array((template.colors / 255.0) ** 2.2))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    set_points(mesh, template.vertices)
    mesh.CreateNormalsAttr(vec3f_array(vertex_normals(template.vertices, template.faces)))
    if bake:
        mesh.GetNormalsAttr().Clear()
        frame = 0
        for chunk in motion.vertex_chunks():
            for vertices in chunk:
                set_points(mesh, vertices, frame)
                mesh.GetNormalsAttr().Set(vec3f_array(vertex_normals(vertices, template.faces)), frame)
                frame += 1
    else:
        _bind_blend_shapes(stage, name, mesh, motion)
    stage.SetMetadata("documentation", "kmtalk")
    stage.GetRootLayer().Save()


def _stand_up(stage: Any, root: Any, rig: Rig) -> None:
    """Set the up axis to that on which the template stands; if on none, turn it upright, y up and facing +z."""
    from pxr import Gf, UsdGeom

    height = rig.upright_rotation[1]
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z if height[2] > UPRIGHT_COSINE else UsdGeom.Tokens.y)
    if max(height[1], height[2]) <= UPRIGHT_COSINE:
        matrix = np.eye(4)
        matrix[:3, :3] = upright_turn(rig).T  # Gf matrices multiply row vectors
        root.AddTransformOp().Set(Gf.Matrix4d(*matrix.ravel().tolist()))


def vec3f_array(values: np.ndarray) -> Any:
    """Return values (V, 3) as a Vt.Vec3fArray."""
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def set_points(mesh: Any, vertices: np.ndarray, frame: int | None = None) -> None:
    """Set points (V, 3) of a UsdGeom.Mesh and the extent that belongs to them, at a time code or for all times."""
    from pxr import Usd, UsdGeom

    time = Usd.TimeCode.Default() if frame is None else Usd.TimeCode(frame)
    points = vec3f_array(vertices)
    mesh.GetPointsAttr().Set(points, time)
    mesh.GetExtentAttr().Set(UsdGeom.PointBased.ComputeExtent(points), time)


def define_skeleton(stage: Any, path: str) -> Any:
    """Define and return a UsdSkel.Skeleton with one joint at its origin."""
    from pxr import Gf, UsdSkel, Vt

    skeleton = UsdSkel.Skeleton.Define(stage, path)
    skeleton.CreateJointsAttr(["root"])
    identity = Vt.Matrix4dArray(1, Gf.Matrix4d(1.0))
    skeleton.CreateBindTransformsAttr(identity)
    skeleton.CreateRestTransformsAttr(identity)
    return skeleton


def bind_to_joint(mesh: Any, skeleton: Any, count: int) -> Any:
    """Bind a mesh with `count` vertices to a skeleton's first joint, which importers require for blend shapes.

    Returns:
        The mesh's UsdSkel.BindingAPI.
    """
    from pxr import UsdSkel, Vt

    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    binding.CreateJointIndicesPrimvar(constant=False, elementSize=1).Set(Vt.IntArray(count, 0))
    binding.CreateJointWeightsPrimvar(constant=False, elementSize=1).Set(Vt.FloatArray(count, 1.0))
    return binding


def define_blend_shape(stage: Any, path: Any, offsets: np.ndarray, threshold: float = 0.0) -> None:
    """Define a UsdSkel.BlendShape from offsets (V, 3) in the mesh's space; those up to `threshold` are dropped."""
    from pxr import UsdSkel, Vt

    shape = UsdSkel.BlendShape.Define(stage, path)
    moved_indices = np.flatnonzero(np.abs(offsets).max(1) > threshold)
    shape.CreateOffsetsAttr(vec3f_array(offsets[moved_indices]))
    shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(moved_indices, np.int32)))


def set_weights(animation: Any, tokens: Sequence[str], times: Sequence[float], weights: np.ndarray) -> None:
    """Set weights (T, K) of the blend shapes of a UsdSkel.Animation at T time codes."""
    from pxr import Vt

    animation.CreateBlendShapesAttr(list(tokens))
    attribute = animation.CreateBlendShapeWeightsAttr()
    for time, row in zip(times, weights.astype(np.float32), strict=True):
        attribute.Set(Vt.FloatArray.FromNumpy(np.ascontiguousarray(row)), float(time))


def _bind_blend_shapes(stage: Any, name: str, mesh: Any, motion: Motion) -> None:
    """Add the blend shapes, and bind them through a skeleton with one joint."""
    from pxr import Sdf, UsdSkel

    names, shapes, target_weights = motion.rig.morph_targets(motion.weights)
    tokens = _unique_prim_names(names)
    skeleton = define_skeleton(stage, f"/{name}/skeleton")
    animation = UsdSkel.Animation.Define(stage, f"/{name}/skeleton/animation")
    set_weights(animation, tokens, range(len(motion)), np.clip(target_weights, 0, 1))
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
    binding = bind_to_joint(mesh, skeleton, len(motion.rig.template.vertices))
    binding.CreateBlendShapesAttr(tokens)
    paths = [Sdf.Path(f"/{name}/mesh/{token}") for token in tokens]
    for path, offsets in zip(paths, shapes, strict=True):
        define_blend_shape(stage, path, offsets)
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)


def _meters_per_unit(estimate: float) -> float:
    """Metres per unit: the common unit nearest to `estimate` if within 35 %, else `estimate` itself."""
    common = min((1.0, 0.1, 0.01, 0.001, 0.0254, 0.3048), key=lambda unit: abs(np.log(unit / estimate)))
    return common if abs(np.log(common / estimate)) < np.log(1.35) else estimate


def prim_name(name: str) -> str:
    """Return the name with other characters than USD allows in a prim's name replaced."""
    identifier = re.sub(r"[^A-Za-z0-9_]", "_", name) or "face"
    return identifier if not identifier[0].isdigit() else f"_{identifier}"


def _unique_prim_names(names: Sequence[str]) -> list[str]:
    """Valid USD prim names for the shapes, made unique by a numeric suffix."""
    unique: list[str] = []
    for name in names:
        token, n = prim_name(name), 2
        while token in unique:
            token, n = f"{prim_name(name)}_{n}", n + 1
        unique.append(token)
    return unique
