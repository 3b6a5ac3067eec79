"""Materials of a USD mesh: UsdPreviewSurface networks, bound to subsets of its faces, with textures beside the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.face.appearance import Appearance, Material, texture_files

CLAY = Material("clay", base_color=(0.58, 0.47, 0.41, 1.0), roughness=0.6, double_sided=True)
"""Material of meshes without an appearance; their vertex colours replace its colour."""


def write_materials(stage: Any, root: str, mesh: Any, appearance: Appearance, path: Path) -> None:
    """Define the materials under `root`/materials, bind them to the mesh's faces, and copy their textures.

    Args:
        stage: The stage.
        root: Path of the root prim.
        mesh: The UsdGeom.Mesh, whose faces are the appearance's triangles.
        appearance: The materials.
        path: The USD file; the texture NAME is copied to STEM-NAME beside it.
    """
    from pxr import Sdf, UsdGeom, UsdShade, Vt

    for name in texture_files(appearance.materials):
        path.with_name(f"{path.stem}-{name}").write_bytes(appearance.texture(name))
    primvars = UsdGeom.PrimvarsAPI(mesh)
    st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
    lower_left = (appearance.uv * [1, -1] + [0, 1]).astype(np.float32)  # glTF's origin is at the upper left
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(lower_left)))
    st.SetIndices(Vt.IntArray.FromNumpy(np.ascontiguousarray(appearance.uv_faces.ravel(), np.int32)))
    UsdGeom.Scope.Define(stage, f"{root}/materials")
    for number, material in enumerate(appearance.materials):
        faces = np.flatnonzero(appearance.face_materials == number)
        if not len(faces):
            continue
        indices = Vt.IntArray.FromNumpy(np.ascontiguousarray(faces, np.int32))
        subset = UsdGeom.Subset.CreateGeomSubset(mesh, material.name, UsdGeom.Tokens.face, indices)
        subset.CreateFamilyNameAttr("materialBind")
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(
            _define_material(stage, f"{root}/materials/{material.name}", material, path.stem)
        )
    UsdGeom.Subset.SetFamilyType(mesh, "materialBind", UsdGeom.Tokens.partition)


def bind_plain_material(stage: Any, root: str, mesh: Any, has_colors: bool) -> None:
    """Define one material without textures, which shows the vertex colours if any, and bind it to the mesh."""
    from pxr import Sdf, UsdGeom, UsdShade

    UsdGeom.Scope.Define(stage, f"{root}/materials")
    material = _define_material(stage, f"{root}/materials/{CLAY.name}", CLAY, "")
    if has_colors:
        reader = UsdShade.Shader.Define(stage, f"{root}/materials/{CLAY.name}/color")
        reader.CreateIdAttr("UsdPrimvarReader_float3")
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        surface = UsdShade.Shader(stage.GetPrimAtPath(f"{root}/materials/{CLAY.name}/surface"))
        surface.GetInput("diffuseColor").ConnectToSource(reader.CreateOutput("result", Sdf.ValueTypeNames.Float3))
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)


def _define_material(stage: Any, path: str, material: Material, stem: str) -> Any:
    """Define a material with a UsdPreviewSurface; the file of the texture NAME is STEM-NAME."""
    from pxr import Gf, Sdf, UsdShade

    out = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    out.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    types = Sdf.ValueTypeNames
    color = surface.CreateInput("diffuseColor", types.Color3f)
    color.Set(Gf.Vec3f(*material.base_color[:3]))
    roughness = surface.CreateInput("roughness", types.Float)
    roughness.Set(material.roughness)
    surface.CreateInput("metallic", types.Float).Set(0.0)
    if not material.textures:
        return out
    reader = UsdShade.Shader.Define(stage, f"{path}/st")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", types.String).Set("st")
    coordinates = reader.CreateOutput("result", types.Float2)

    def texture(
        name: str, kind: str, space: str, scale: tuple[float, ...], bias: tuple[float, ...] | None = None
    ) -> Any:
        shader = UsdShade.Shader.Define(stage, f"{path}/{kind}")
        shader.CreateIdAttr("UsdUVTexture")
        shader.CreateInput("file", types.Asset).Set(f"./{stem}-{name}")
        shader.CreateInput("sourceColorSpace", types.Token).Set(space)
        shader.CreateInput("wrapS", types.Token).Set("repeat")
        shader.CreateInput("wrapT", types.Token).Set("repeat")
        shader.CreateInput("scale", types.Float4).Set(Gf.Vec4f(*scale))
        if bias is not None:
            shader.CreateInput("bias", types.Float4).Set(Gf.Vec4f(*bias))
        shader.CreateInput("st", types.Float2).ConnectToSource(coordinates)
        return shader

    if material.base_color_texture:
        shader = texture(material.base_color_texture, "base_color", "sRGB", material.base_color)
        color.ConnectToSource(shader.CreateOutput("rgb", types.Float3))
        if material.alpha_mode != "OPAQUE":
            alpha = shader.CreateOutput("a", types.Float)
            surface.CreateInput("opacity", types.Float).ConnectToSource(alpha)
        if material.alpha_mode == "MASK":
            surface.CreateInput("opacityThreshold", types.Float).Set(0.5)
    if material.normal_texture:
        shader = texture(material.normal_texture, "normal", "raw", (2.0, 2.0, 2.0, 1.0), (-1.0, -1.0, -1.0, 0.0))
        surface.CreateInput("normal", types.Normal3f).ConnectToSource(shader.CreateOutput("rgb", types.Float3))
    if material.roughness_texture:
        shader = texture(material.roughness_texture, "occlusion_roughness", "raw", (1.0, material.roughness, 1.0, 1.0))
        roughness.ConnectToSource(shader.CreateOutput("g", types.Float))
        surface.CreateInput("occlusion", types.Float).ConnectToSource(shader.CreateOutput("r", types.Float))
    return out
