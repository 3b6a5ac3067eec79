"""OpenGL buffers, textures and shader programs of a mesh with materials; built on pyrender.

Imported only by the child process, after `opengl.select_backend()`; never together with torch.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyrender
from OpenGL import GL
from PIL import Image
from pyrender.shader_program import ShaderProgram

from kmtalk.face.appearance import Appearance, Material, SubMesh

_SHADERS = Path(__file__).parent / "shaders"
_TEXTURE_UNITS = {"shadow_map": 0, "base_color_texture": 1, "normal_texture": 2, "roughness_texture": 3}
WET_ROUGHNESS = 0.12  # and below: the material has sharp highlights
# factor on the light that reaches the back faces of a surface that is not drawn on both sides in its file
INSIDE_LIGHT = 0.25


class Surface:
    """The vertices, textures and programs of one material.

    Attributes:
        material: The material.
        vertices: (P,) vertex of the mesh for each vertex of the surface.
        textures: Uniform → its texture.
        is_masked: Whether it is cut out by alpha, as cards of hair are.
    """

    def __init__(self, part: SubMesh, colors: np.ndarray, textures: dict[str, pyrender.Texture]) -> None:
        self.material: Material = part.material
        self.vertices = part.vertex_indices
        # per vertex: position (3), normal (3), texture coordinates (2), colour (3), ambient occlusion (1)
        self._buffer = np.ones((len(part.vertex_indices), 12), np.float32)
        self._buffer[:, 6:8] = part.uv * [1, -1] + [0, 1]  # pyrender turns pictures upside down, as OpenGL has them
        self.paint(colors)
        self._primitive = pyrender.Primitive(
            positions=self._buffer[:, :3],
            normals=self._buffer[:, 3:6],
            texcoord_0=self._buffer[:, 6:8],
            color_0=self._buffer[:, 8:],
            indices=part.faces,
            mode=4,
        )
        names = {
            "base_color_texture": self.material.base_color_texture,
            "normal_texture": self.material.normal_texture,
            "roughness_texture": self.material.roughness_texture,
        }
        self.textures = {uniform: textures[name] for uniform, name in names.items() if name is not None}
        self.is_masked = self.material.is_cut_out
        self.program: ShaderProgram
        self.depth_program: ShaderProgram

    def paint(self, colors: np.ndarray) -> None:
        """Set the colours of the mesh's vertices (V, 3), sRGB of 0 to 1."""
        srgb = colors[self.vertices]
        self._buffer[:, 8:11] = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)

    def load(self) -> None:
        """Upload the vertices and the textures."""
        self._primitive._add_to_context()
        for texture in self.textures.values():
            if not texture._in_context():
                texture._add_to_context()

    def compile(self, per_pixel: bool) -> None:
        """Compile the programs."""
        defines = {uniform.upper() for uniform in self.textures}
        if self.is_masked:
            defines.add("ALPHA_MASK")
        elif self.material.alpha_mode == "BLEND":
            defines.add("ALPHA_BLEND")
        if self.material.has_occlusion:
            defines.add("OCCLUSION")
        if _is_lit_per_vertex(self.material, per_pixel):
            defines.add("PER_VERTEX")
        self.program = load_program("surface", defines)
        material = self.material
        self.program.set_uniform("base_color", np.array(material.base_color, np.float32))
        self.program.set_uniform("roughness", float(material.roughness))
        self.program.set_uniform("subsurface", float(material.subsurface))
        self.program.set_uniform("back_light", 1.0 if self.is_masked else INSIDE_LIGHT)
        if self.is_masked:
            self.program.set_uniform("alpha_cutoff", float(material.alpha_cutoff))
        self.depth_program = load_program("depth", {"ALPHA_MASK"} & defines)
        if self.is_masked:
            self.depth_program.set_uniform("alpha_cutoff", float(material.alpha_cutoff))

    def upload(self, vertices_normals: np.ndarray, occlusion: np.ndarray) -> None:
        """Replace positions and normals (V, 6) and ambient occlusion (V,)."""
        self._buffer[:, :6] = vertices_normals[self.vertices]
        self._buffer[:, 11] = occlusion[self.vertices]
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._primitive._buffers[0])
        GL.glBufferSubData(GL.GL_ARRAY_BUFFER, 0, self._buffer.nbytes, self._buffer)

    def draw(self) -> None:
        """Draw with the material's program, whose other uniforms are set."""
        self.program._bind()
        for uniform, texture in self.textures.items():
            GL.glActiveTexture(GL.GL_TEXTURE0 + _TEXTURE_UNITS[uniform])
            texture._bind()
        self._draw_triangles()

    def draw_depth(self, matrix: np.ndarray) -> None:
        """Draw depth only, with the projection `matrix` (4, 4)."""
        self.depth_program._bind()
        self.depth_program.set_uniform("view_projection", matrix)
        if self.is_masked:
            GL.glActiveTexture(GL.GL_TEXTURE0 + _TEXTURE_UNITS["base_color_texture"])
            self.textures["base_color_texture"]._bind()
        self._draw_triangles()

    def _draw_triangles(self) -> None:
        (GL.glDisable if self.material.double_sided else GL.glEnable)(GL.GL_CULL_FACE)
        self._primitive._bind()
        GL.glDrawElements(GL.GL_TRIANGLES, self._primitive.indices.size, GL.GL_UNSIGNED_INT, None)


def _is_lit_per_vertex(material: Material, per_pixel: bool) -> bool:
    """Wet surfaces are always lit per pixel, to have their highlights, and hair never is."""
    return (not per_pixel or material.is_cut_out) and material.roughness > WET_ROUGHNESS


def make_surfaces(
    appearance: Appearance, faces: np.ndarray, colors: np.ndarray, per_pixel: bool, texture_size: int
) -> list[Surface]:
    """Return the surfaces of a mesh in the order of drawing: opaque, cut out by alpha, blended.

    Args:
        appearance: The materials.
        faces: Triangles (F, 3).
        colors: Vertex colours (V, 3) sRGB of 0 to 1.
        per_pixel: Whether light is computed for each pixel; otherwise for each vertex, without normal textures.
        texture_size: Greatest width and height of textures in texels; larger ones are reduced.
    """
    parts = appearance.split(faces)
    for n, part in enumerate(parts):
        if _is_lit_per_vertex(part.material, per_pixel):
            parts[n] = replace(part, material=replace(part.material, normal_texture=None))
    names = {name for part in parts for name in part.material.textures}
    textures = {name: _load_texture(appearance.texture(name), texture_size) for name in sorted(names)}
    order = ("OPAQUE", "MASK", "BLEND")
    parts.sort(key=lambda part: order.index(part.material.alpha_mode))
    return [Surface(part, colors, textures) for part in parts]


def _load_texture(content: bytes, most: int) -> pyrender.Texture:
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft(None, (most, most))  # JPEG files are decoded at the smaller size
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        converted = picture.convert(mode)
    if max(converted.size) > most:
        converted = converted.reduce(-(-max(converted.size) // most))
    pixels = np.asarray(converted)
    # one level of detail: mixing two would double the cost of each sample
    sampler = pyrender.Sampler(magFilter=GL.GL_LINEAR, minFilter=GL.GL_LINEAR_MIPMAP_NEAREST)
    return pyrender.Texture(source=pixels, source_channels=mode, sampler=sampler)


class _Program(ShaderProgram):
    """A shader program whose sources may contain `#include "FILE"`."""

    def _load(self, shader_filename: str) -> str:
        text: str = super()._load(shader_filename)
        return re.sub(r'#include "([a-z.]+)"', lambda m: (_SHADERS / m[1]).read_text(encoding="ascii"), text)


def load_program(name: str, defines: Iterable[str] = ()) -> ShaderProgram:
    """Compile a vertex and a fragment shader of this package, with its samplers on texture units."""
    sources = [str(_SHADERS / f"{name}.{stage}") for stage in ("vert", "frag")]
    program = _Program(*sources, defines=dict.fromkeys(defines, 1))
    program._add_to_context()
    program._bind()
    for uniform, unit in _TEXTURE_UNITS.items():
        program.set_uniform(uniform, unit)
    return program
