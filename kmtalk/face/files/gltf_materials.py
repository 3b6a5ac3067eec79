"""How a glTF character looks: its materials and textures, for film and for meshes that are written anew."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmtalk.face.appearance import Appearance, Material
from kmtalk.face.files.gltf import PlacedPrimitive, checked, nodes_below, place_primitives, world_matrices
from kmtalk.face.files.gltf_document import GltfDocument

_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
_SKIN = re.compile(r"(?<![a-z])(skin|face|head|body)(?![a-z])", re.IGNORECASE)
SKIN_SUBSURFACE = 0.5


def read_gltf_appearance(path: Path, node: str | None = None) -> Appearance:
    """Read the materials and textures of the meshes that `read_gltf` reads.

    Textures in KHR_texture_basisu without another picture are left out, because nothing here decodes them.

    Args:
        path: The file.
        node: The node that was read; None for all.

    Returns:
        The appearance for the triangles of `read_gltf`'s template.

    Raises:
        InputError: The file is unreadable.
    """
    return checked(path, lambda file: _read(file, place_primitives(file, nodes_below(file, node))))


def _read(file: GltfDocument, placed: list[PlacedPrimitive]) -> Appearance:
    world, textures = world_matrices(file), _Textures(file)
    materials: dict[int, Material] = {}
    numbers, uvs, corners, colored = [], [], [], False
    for one in placed:
        primitive = file.items("meshes")[one.mesh]["primitives"][one.primitive]
        count, number = len(one.positions), primitive.get("material", -1)
        given = file.items("materials")[number] if 0 <= number < len(file.items("materials")) else {}
        if number not in materials:
            materials[number] = _material(given, number, textures)
        triangles = file.read_triangles(primitive, count)
        if np.linalg.det(world[one.node][:3, :3]) < 0:
            triangles = triangles[:, ::-1]
        uvs.append(_texture_coordinates(file, primitive, given, count))
        corners.append(triangles + one.start)
        numbers.append(np.full(len(triangles), list(materials).index(number), np.uint16))
        colored |= "COLOR_0" in primitive["attributes"]
    return Appearance(
        tuple(materials.values()),
        np.concatenate(numbers),
        np.concatenate(uvs).astype(np.float32),
        np.concatenate(corners).astype(np.int32),
        textures.images,
        colored,
    )


class _Textures:
    """The textures of a file as pictures with names; `images` collects those in use."""

    def __init__(self, file: GltfDocument) -> None:
        self._file = file
        self.images: dict[str, bytes] = {}

    def name(self, info: Mapping[str, Any] | None) -> str | None:
        """The name of a texture's picture; None where there is none that can be decoded."""
        textures, images = self._file.items("textures"), self._file.items("images")
        number = -1 if info is None else info.get("index", -1)
        if not 0 <= number < len(textures):
            return None
        texture = textures[number]
        source = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source", texture.get("source", -1))
        if not 0 <= source < len(images):
            return None
        try:
            content = self._file.image(source)
            with Image.open(io.BytesIO(content)) as picture:
                picture.verify()
        except Exception:  # of any kind: the face is shown without it
            return None
        suffix = next((s for start, s in _SUFFIXES.items() if content.startswith(start)), None)
        if suffix is None:
            return None
        given = str(self._file.items("images")[source].get("name") or "texture")
        name = f"{source}-{re.sub(r'[^A-Za-z0-9_-]', '_', given)}{suffix}"
        self.images[name] = content
        return name


def _material(given: Mapping[str, Any], number: int, textures: _Textures) -> Material:
    surface = given.get("pbrMetallicRoughness") or {}
    rough, occlusion = surface.get("metallicRoughnessTexture"), given.get("occlusionTexture")
    name = str(given.get("name") or f"material {number}")
    return Material(
        name,
        tuple(surface.get("baseColorFactor") or (1.0, 1.0, 1.0, 1.0)),
        float(surface.get("roughnessFactor", 1.0)),
        textures.name(surface.get("baseColorTexture")),
        textures.name(given.get("normalTexture")),
        textures.name(rough),
        given["alphaMode"] if given.get("alphaMode") in ("MASK", "BLEND") else "OPAQUE",
        bool(given.get("doubleSided", False)),
        SKIN_SUBSURFACE if _SKIN.search(name) else 0.0,
        float(given.get("alphaCutoff", 0.5)),
        rough is not None and occlusion is not None and rough.get("index") == occlusion.get("index"),
    )


def _texture_coordinates(
    file: GltfDocument, primitive: Mapping[str, Any], material: Mapping[str, Any], count: int
) -> np.ndarray:
    """Coordinates (count, 2) of the base colour's texture, with its KHR_texture_transform."""
    info = (material.get("pbrMetallicRoughness") or {}).get("baseColorTexture") or {}
    transform = info.get("extensions", {}).get("KHR_texture_transform", {})
    name = f"TEXCOORD_{transform.get('texCoord', info.get('texCoord', 0))}"
    if name not in primitive["attributes"]:
        return np.zeros((count, 2))
    uv = file.read_attribute(primitive, name).astype(np.float64)
    angle = transform.get("rotation", 0.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved: np.ndarray = (uv * transform.get("scale", [1, 1])) @ turn.T + transform.get("offset", [0, 0])
    return moved
