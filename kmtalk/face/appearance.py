"""How a mesh looks: materials with textures, and the texture coordinates of its faces."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kmtalk.assets import asset_path
from kmtalk.errors import InputError

_PICTURE = re.compile(r"\w[^/\\\x00]*")  # a name that leads to no other folder


@dataclass(frozen=True)
class Material:
    """A material of the metallic-roughness model, as in glTF 2.0, without metals.

    Attributes:
        name: Name of the material.
        base_color: Linear RGBA factor in [0, 1] on the texture, or the colour itself where there is none.
        roughness: Roughness factor in [0, 1].
        base_color_texture: Name of a picture (see `Appearance.texture`), sRGB with alpha unless `alpha_mode` is OPAQUE.
        normal_texture: Picture with tangent-space normals (+Y up, as in glTF), or None.
        roughness_texture: Picture whose green channel multiplies `roughness`.
        alpha_mode: How alpha is used, as in glTF; "MASK" discards where it is below `alpha_cutoff`.
        double_sided: Whether back faces are drawn.
        subsurface: From 0 to 1: how far light spreads below the surface, as in skin. For video only.
        alpha_cutoff: Least alpha that is drawn with "MASK".
        has_occlusion: Whether the red channel of the roughness texture is ambient occlusion.
    """

    name: str
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    roughness: float = 0.6
    base_color_texture: str | None = None
    normal_texture: str | None = None
    roughness_texture: str | None = None
    alpha_mode: Literal["OPAQUE", "MASK", "BLEND"] = "OPAQUE"
    double_sided: bool = False
    subsurface: float = 0.0
    alpha_cutoff: float = 0.5
    has_occlusion: bool = True

    @property
    def textures(self) -> tuple[str, ...]:
        """The names of its texture files."""
        return tuple(t for t in (self.base_color_texture, self.normal_texture, self.roughness_texture) if t)

    @property
    def is_cut_out(self) -> bool:
        """Whether a texture's alpha cuts it out, as cards of hair are."""
        return self.alpha_mode == "MASK" and self.base_color_texture is not None


@dataclass(frozen=True)
class SubMesh:
    """The faces of one material, with vertices split where texture coordinates are discontinuous.

    Attributes:
        material: Their material.
        vertex_indices: (P,) vertex of the template for each vertex of the submesh.
        uv: (P, 2) float32 texture coordinates, origin at the upper left, as in glTF.
        faces: (G, 3) int32 triangles, as indices into `vertex_indices`.
    """

    material: Material
    vertex_indices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Appearance:
    """Materials and texture coordinates of a template with F triangles.

    Attributes:
        materials: The materials.
        face_materials: (F,) unsigned index of each triangle's material.
        uv: (U, 2) float32 texture coordinates, origin at the upper left, as in glTF.
        uv_faces: (F, 3) int32 texture coordinates of the triangles' corners, as indices into `uv`.
        images: Encoded pictures (PNG, JPEG, WebP) by name, beside the files in `assets/textures`.
        is_tinted: Whether the vertex colours multiply the materials' colours.
    """

    materials: tuple[Material, ...]
    face_materials: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    images: Mapping[str, bytes] = field(default_factory=dict)
    is_tinted: bool = False

    def texture(self, name: str) -> bytes:
        """Return an encoded picture: its own, else the file in `assets/textures`; InputError if there is none."""
        return self.images[name] if name in self.images else texture_path(name).read_bytes()

    def split(self, faces: np.ndarray) -> list[SubMesh]:
        """Return one submesh for each material in use, given the triangles (F, 3) of the template."""
        out = []
        for number, material in enumerate(self.materials):
            mine = self.face_materials == number
            if not mine.any():
                continue
            corners = np.stack([faces[mine].ravel(), self.uv_faces[mine].ravel()], axis=1).astype(np.int64)
            keys, inverse = np.unique(corners[:, 0] * len(self.uv) + corners[:, 1], return_inverse=True)
            out.append(
                SubMesh(
                    material,
                    (keys // len(self.uv)).astype(np.int32),
                    self.uv[keys % len(self.uv)],
                    inverse.reshape(-1, 3).astype(np.int32),
                )
            )
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return `uv`, `uv_faces`, `face_materials`, `materials`, a JSON string, and `image.NAME` for own pictures."""
        return {f"image.{name}": np.frombuffer(content, np.uint8) for name, content in self.images.items()} | {
            "uv": self.uv,
            "uv_faces": self.uv_faces,
            "face_materials": self.face_materials,
            "materials": np.array(json.dumps([asdict(m) for m in self.materials])),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Appearance:
        """Return the appearance stored by `to_arrays`. Raises ValueError or TypeError if it is inconsistent."""
        materials = tuple(
            Material(**{**fields, "base_color": tuple(fields["base_color"])})
            for fields in json.loads(str(arrays["materials"]))
        )
        images = {k.removeprefix("image."): np.asarray(arrays[k]).tobytes() for k in arrays if k.startswith("image.")}
        out = cls(materials, arrays["face_materials"], arrays["uv"], arrays["uv_faces"], images)
        out.check(len(out.face_materials))
        return out

    def check(self, face_count: int) -> None:
        """Raise ValueError unless this fits a mesh of `face_count` triangles."""
        consistent = (
            self.face_materials.shape == (face_count,)
            and self.uv_faces.shape == (face_count, 3)
            and self.uv.ndim == 2
            and self.uv.shape[1] == 2
            and bool(np.isfinite(self.uv).all())
            and _in_range(self.face_materials, len(self.materials))
            and _in_range(self.uv_faces, len(self.uv))
            and all(_PICTURE.fullmatch(name) for name in self.images)
            and all(_is_valid(material) for material in self.materials)
        )
        if not consistent:
            raise ValueError("its materials do not fit its faces")


def _is_valid(material: Material) -> bool:
    m = material
    numbers = (*m.base_color, m.roughness, m.subsurface, m.alpha_cutoff)
    return (
        isinstance(m.name, str)
        and len(m.base_color) == 4
        and all(isinstance(n, int | float) and np.isfinite(n) for n in numbers)
        and m.alpha_mode in ("OPAQUE", "MASK", "BLEND")
        and all(isinstance(name, str) and bool(_PICTURE.fullmatch(name)) for name in m.textures)
    )


def _in_range(index: np.ndarray, count: int) -> bool:
    return index.dtype.kind in "iu" and (not index.size or (int(index.min()) >= 0 and int(index.max()) < count))


def texture_path(name: str) -> Path:
    """Return the path of a texture file of the default head. Raises InputError if there is none of that name."""
    if "/" in name or "\\" in name:
        raise InputError(f"{name}: not the name of a texture")
    return asset_path(f"textures/{name}")


def texture_files(materials: Sequence[Material]) -> list[str]:
    """Return the texture files of materials, each once, in order."""
    return list(dict.fromkeys(name for m in materials for name in m.textures))
