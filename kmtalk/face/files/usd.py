"""USD reader, by Pixar's library: all meshes of the stage in their rest pose, with their blend shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.files.mesh_merge import MeshMerger
from kmtalk.face.template import Template


def read_usd(path: Path) -> Template:
    """Read a USD file: vertices in stage order and in the stage's units, polygons as triangle fans.

    Raises InputError if the file is unreadable or usd-core is not installed.
    """
    try:
        import pxr  # noqa: F401
    except ImportError:
        raise InputError(f"{path}: reading USD needs usd-core; pip install 'kmtalk[usd]'") from None
    try:
        return _read(path)
    except Exception as error:
        # the library's own messages cite its source lines, so they are left out
        raise InputError(f"{path}: not a readable USD file ({type(error).__name__}); export it again") from None


def _read(path: Path) -> Template:
    """Merge all meshes of the stage."""
    from pxr import Usd, UsdGeom, UsdSkel

    stage = Usd.Stage.Open(str(path))
    time = Usd.TimeCode.EarliestTime()
    transforms = UsdGeom.XformCache(time)
    merger = MeshMerger()
    for prim in stage.Traverse():
        if not prim.IsA(UsdGeom.Mesh):
            continue
        mesh = UsdGeom.Mesh(prim)
        required = (mesh.GetPointsAttr(), mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr())
        if any(attribute.Get(time) is None for attribute in required):
            continue
        points = np.array(mesh.GetPointsAttr().Get(time), np.float64).reshape(-1, 3)
        sides = np.array(mesh.GetFaceVertexCountsAttr().Get(time), np.int64).ravel()
        corners = np.array(mesh.GetFaceVertexIndicesAttr().Get(time), np.int64).ravel()
        if not len(points) or not len(sides) or sides.sum() != len(corners):
            continue
        matrix = np.array(transforms.GetLocalToWorldTransform(prim)).T  # Gf matrices multiply row vectors
        triangles = _triangulate_fans(sides, corners)
        left_handed = mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
        if left_handed != (np.linalg.det(matrix[:3, :3]) < 0):
            triangles = triangles[:, ::-1]
        merger.add_mesh(str(prim.GetPath()), points @ matrix[:3, :3].T + matrix[:3, 3], triangles)
        for target in UsdSkel.BindingAPI(prim).GetBlendShapeTargetsRel().GetTargets():
            shape = UsdSkel.BlendShape(stage.GetPrimAtPath(target))
            values = np.array(shape.GetOffsetsAttr().Get(), np.float64).reshape(-1, 3) @ matrix[:3, :3].T
            index = shape.GetPointIndicesAttr().Get()
            offsets = np.zeros((len(points), 3))
            offsets[np.array(index) if index else np.arange(len(values))] = values
            merger.add_shape(target.name, offsets)
    return merger.build_template()


def _triangulate_fans(sides: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of polygons with `sides` (P,) corners each, listed one after another in `corners`."""
    start = np.cumsum(sides) - sides
    triangle_count = np.maximum(sides - 2, 0)
    first = np.repeat(start, triangle_count)
    step = np.arange(triangle_count.sum()) - np.repeat(np.cumsum(triangle_count) - triangle_count, triangle_count)
    triangles: np.ndarray = corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
    return triangles
