"""Characters in USD as other programs write them, made of the light head: z up, in centimetres, and animated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from characters import BONES, PARENTS, PARTS, head_joint
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdSkel, Vt
from scipy.spatial.transform import Rotation

from kmtalk.face.rig import ARKIT_NAMES, Rig
from kmtalk.face.template import vertex_normals

RATE = 24.0  # time codes per second, unlike those of the animations
WAVE = (0.0, 12.0, 24.0)  # time codes of its own animation


def vec3f(values):
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def gf(matrix):
    """A Gf matrix, which multiplies row vectors, of one that multiplies column vectors."""
    return Gf.Matrix4d(*np.asarray(matrix, np.float64).T.ravel().tolist())


def joint_paths() -> list[str]:
    paths: list[str] = []
    for name, parent in zip(BONES, PARENTS, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    return paths


def joint_worlds(rig: Rig) -> np.ndarray:
    """Bind transforms (J, 4, 4), with rotations that are not the identity."""
    vertices = rig.template.vertices
    low, tall = vertices[:, 1].min(), np.ptp(vertices[:, 1])
    places = {name: np.array([0, low - (4 - k) * tall / 2, 0]) for k, name in enumerate(BONES[:5])}
    worlds = np.tile(np.eye(4), (len(BONES), 1, 1))
    for k, name in enumerate(BONES):
        worlds[k, :3, :3] = Rotation.from_euler("xyz", [5 * k, -7 * k, 3 * k], degrees=True).as_matrix()
        worlds[k, :3, 3] = places.get(name, head_joint(rig) + [0.01 * k, 0.05 * tall, 0])
    return worlds


def local_transforms(worlds: np.ndarray) -> np.ndarray:
    return np.stack([w if p < 0 else np.linalg.inv(worlds[p]) @ w for w, p in zip(worlds, PARENTS, strict=True)])


def write_usd_avatar(
    path: Path,
    rig: Rig,
    shapes: tuple[str, ...] = ARKIT_NAMES,
    skinned: bool = True,
    rest_turn: float = 0.0,
    animated: bool = True,
) -> None:
    """Write a character.

    Args:
        path: The file.
        rig: The rig of the light head.
        shapes: Those that its skin, teeth and tongue have.
        skinned: With a skeleton; its meshes hang on Xforms otherwise.
        rest_turn: Degrees that the rest pose of its hips is turned from the bind pose.
        animated: With an animation of its left arm and of a shape of its body.
    """
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    stage.SetTimeCodesPerSecond(RATE)
    root = (UsdSkel.Root if skinned else UsdGeom.Xform).Define(stage, "/Hero")
    upright = np.eye(4)
    upright[:3, :3] = 100 * Rotation.from_euler("x", 90, degrees=True).as_matrix()
    root.AddTransformOp().Set(gf(upright))
    stage.SetDefaultPrim(root.GetPrim())
    root.GetPrim().SetCustomDataByKey("author", "nobody")
    template = rig.template
    vertices = template.vertices.astype(np.float64)
    worlds = joint_worlds(rig)
    if skinned:
        skeleton = UsdSkel.Skeleton.Define(stage, "/Hero/Armature")
        skeleton.CreateJointsAttr(joint_paths())
        skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray([gf(w) for w in worlds]))
        locals_ = local_transforms(worlds)
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("z", rest_turn, degrees=True).as_matrix()
        locals_[0] = turn @ locals_[0]
        skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray([gf(w) for w in locals_]))
        UsdSkel.BindingAPI.Apply(skeleton.GetPrim())
        if animated:
            _add_wave(stage, skeleton, locals_)

    tokens: set[str] = set()

    def token_of(shape: str) -> str:
        """A token that no other mesh has, as Blender makes them: jawOpen, jawOpen2 …"""
        token, number = shape, 2
        while token in tokens:
            token, number = f"{shape}{number}", number + 1
        tokens.add(token)
        return token

    def add_mesh(name: str, index: np.ndarray, faces: np.ndarray, points: np.ndarray, bone: str, number: int) -> None:
        parent = f"/Hero/{name}"
        UsdGeom.Xform.Define(stage, parent).AddTranslateOp().Set(Gf.Vec3d(0.01 * number, 0, 0))
        points = points - [0.01 * number, 0, 0]
        mesh = UsdGeom.Mesh.Define(stage, f"{parent}/geo")
        mesh.CreatePointsAttr(vec3f(points))
        mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
        mesh.CreateFaceVertexCountsAttr([3] * len(faces))
        mesh.CreateSubdivisionSchemeAttr("none")
        mesh.CreateNormalsAttr(vec3f(vertex_normals(points, faces)))
        mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(faces.ravel(), np.int32)))
        st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, "vertex")
        st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(points[:, :2], np.float32)))
        material = UsdShade.Material.Define(stage, f"/Hero/looks/material_{number}")
        shader = UsdShade.Shader.Define(stage, f"/Hero/looks/material_{number}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(0.1 * number)
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
        moving = [s for s in shapes if len(index) and np.abs(rig.offsets[rig.index[s]][index]).max() > 1e-6]
        offsets = {s: rig.offsets[rig.index[s]][index] for s in moving}
        if not len(index):
            offsets["belly"] = np.tile([0.0, 0, 0.1], (len(points), 1))
        if skinned or moving:
            binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
        if skinned:
            binding.CreateSkeletonRel().SetTargets([Sdf.Path("/Hero/Armature")])
            binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(0.01 * number, 0, 0)))
            binding.CreateJointIndicesPrimvar(constant=False, elementSize=2).Set(
                Vt.IntArray([BONES.index(bone), 0] * len(points))
            )
            binding.CreateJointWeightsPrimvar(constant=False, elementSize=2).Set(Vt.FloatArray([1, 0] * len(points)))
        if skinned or moving:
            binding.CreateBlendShapesAttr([token_of(shape) for shape in offsets])
            binding.CreateBlendShapeTargetsRel().SetTargets([mesh.GetPath().AppendChild(s) for s in offsets])
        for shape, values in offsets.items() if skinned or moving else ():
            UsdSkel.BlendShape.Define(stage, mesh.GetPath().AppendChild(shape)).CreateOffsetsAttr(vec3f(values))

    UsdGeom.Scope.Define(stage, "/Hero/looks")
    for number, part in enumerate(PARTS):
        index = np.asarray(template.regions[part])
        place = np.full(len(vertices), -1)
        place[index] = np.arange(len(index))
        faces = place[template.faces]
        add_mesh(part, index, faces[(faces >= 0).all(1)], vertices[index], "Head", number)
    tall = np.ptp(vertices[:, 1])
    box = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.9, -0.25) for z in (-0.08, 0.08)]) * tall * 4
    box[:, 1] += vertices[:, 1].min()
    sides = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]])
    add_mesh("Body", np.zeros(0, int), sides, box, "Spine", len(PARTS))
    stage.Save()


def _add_wave(stage, skeleton, locals_: np.ndarray) -> None:
    """Its own animation: the left arm, and a shape of the body."""
    animation = UsdSkel.Animation.Define(stage, "/Hero/wave")
    animation.CreateJointsAttr([joint_paths()[BONES.index("LeftArm")]])
    translation, rotation, scale = UsdSkel.DecomposeTransform(gf(locals_[BONES.index("LeftArm")]))
    animation.CreateTranslationsAttr([translation])
    animation.CreateScalesAttr(Vt.Vec3hArray([scale]))
    animation.CreateBlendShapesAttr(["belly"])
    for time, degrees, belly in zip(WAVE, (0, 60, 0), (0.0, 1.0, 0.0), strict=True):
        x, y, z, w = Rotation.from_euler("z", degrees, degrees=True).as_quat().tolist()
        animation.CreateRotationsAttr().Set(Vt.QuatfArray([rotation * Gf.Quatf(w, x, y, z)]), time)
        animation.CreateBlendShapeWeightsAttr().Set([belly], time)
    UsdSkel.BindingAPI(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
