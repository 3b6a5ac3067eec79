"""USD, read with Pixar's library: all meshes of the stage as they stand at rest, with their blend shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.mesh_merge import MeshMerger
from kmtalk.face.template import Template


def read_usd(path: Path) -> Template:
    """Vertices in stage order, in the stage's units, polygons as triangle fans."""
    try:
        import pxr  # noqa: F401
    except ImportError:
        raise InputError(f"{path}: reading USD needs usd-core: pip install 'kmtalk[usd]'") from None
    try:
        return _read(path)
    except Exception as error:
        # what Pixar's library says names its own source lines
        raise InputError(f"{path}: not a readable USD file ({type(error).__name__}); export it again") from None


def _read(path: Path) -> Template:
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.Open(str(path))
    time = Usd.TimeCode.EarliestTime()
    places = UsdGeom.XformCache(time)
    scene = MeshMerger()
    for prim in stage.Traverse():
        if not prim.IsA(UsdGeom.Mesh):
            continue
        mesh = UsdGeom.Mesh(prim)
        given = (mesh.GetPointsAttr(), mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr())
        if any(attribute.Get(time) is None for attribute in given):
            continue
        points = np.array(mesh.GetPointsAttr().Get(time), np.float64).reshape(-1, 3)
        sides = np.array(mesh.GetFaceVertexCountsAttr().Get(time), np.int64).ravel()
        corners = np.array(mesh.GetFaceVertexIndicesAttr().Get(time), np.int64).ravel()
        if not len(points) or not len(sides) or sides.sum() != len(corners):
            continue
        matrix = np.array(places.GetLocalToWorldTransform(prim)).T  # Gf multiplies rows
        triangles = _triangulate_fans(sides, corners)
        left_handed = mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
        if left_handed != (np.linalg.det(matrix[:3, :3]) < 0):
            triangles = triangles[:, ::-1]
        scene.add_mesh(str(prim.GetPath()), points @ matrix[:3, :3].T + matrix[:3, 3], triangles)
        for target in UsdSkel.BindingAPI(prim).GetBlendShapeTargetsRel().GetTargets():
            shape = UsdSkel.BlendShape(stage.GetPrimAtPath(target))
            moved = np.array(shape.GetOffsetsAttr().Get(), np.float64).reshape(-1, 3) @ matrix[:3, :3].T
            index = shape.GetPointIndicesAttr().Get()
            full = np.zeros((len(points), 3))
            full[np.array(index) if index else np.arange(len(moved))] = moved
            scene.add_shape(target.name, full)
    return scene.build_template()


def _triangulate_fans(sides: np.ndarray, corners: np.ndarray) -> np.ndarray:
    start = np.cumsum(sides) - sides
    many = np.maximum(sides - 2, 0)
    first = np.repeat(start, many)
    step = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    out: np.ndarray = corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
    return out
