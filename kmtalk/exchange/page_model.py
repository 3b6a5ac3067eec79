"""The model of a web page: a GLB without what the page's loader cannot decode."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.files.gltf import checked
from kmtalk.face.files.gltf_document import DRACO_EXTENSION, MESHOPT_EXTENSIONS, GltfDocument

KTX_EXTENSION = "KHR_texture_basisu"


def page_model(path: Path) -> tuple[bytes, list[str]]:
    """Return the bytes of a GLB for the page, and one line for each thing that it lacks.

    Meshes compressed by Draco or meshoptimizer are decoded. Textures in KTX2 without another picture become white. A
    file that needs neither stays as it is.

    Raises:
        InputError: The file is unreadable.
    """
    return checked(path, _convert)


def is_meshopt_compressed(path: Path) -> bool:
    """Whether a GLB is compressed by meshoptimizer."""
    return checked(path, lambda source: bool(set(MESHOPT_EXTENSIONS) & set(source.json.get("extensionsUsed") or [])))


def has_mesh(path: Path) -> bool:
    """Whether a GLB has a mesh with an extent, which files of an animation alone have not."""

    def find(source: GltfDocument) -> bool:
        accessors = source.items("accessors")
        corners = [
            accessors[primitive["attributes"]["POSITION"]]
            for mesh in source.items("meshes")
            for primitive in mesh["primitives"]
            if "POSITION" in primitive["attributes"]
        ]
        return any(one.get("min") != one.get("max") or "min" not in one for one in corners)

    return checked(path, find)


def _convert(source: GltfDocument) -> tuple[bytes, list[str]]:
    used = set(source.json.get("extensionsUsed") or [])
    is_whole = source.chunk is not None and not any("uri" in b for b in source.items("buffers"))
    unreadable = {DRACO_EXTENSION, KTX_EXTENSION, *MESHOPT_EXTENSIONS}
    if is_whole and not used & unreadable:
        return source.path.read_bytes(), []
    file, notes = GlbFile.of(source), []
    if used & set(MESHOPT_EXTENSIONS):
        _decode_meshopt(source, file)
    if DRACO_EXTENSION in used:
        _decode_draco(source, file)
    if KTX_EXTENSION in used and _whiten_ktx(file):
        notes.append(f"{source.path}: textures in KTX2 ({KTX_EXTENSION}) are not shown in the page")
    for name in unreadable:
        for key in ("extensionsUsed", "extensionsRequired"):
            if name in file.document.get(key, []):
                file.document[key].remove(name)
                if not file.document[key]:
                    del file.document[key]
    return file.to_bytes(), notes


def _decode_meshopt(source: GltfDocument, file: GlbFile) -> None:
    """Decode all buffer views, and drop the buffers that stand for the decoded data."""
    for number, view in enumerate(file.document.get("bufferViews") or []):
        packed = [view["extensions"].pop(e) for e in MESHOPT_EXTENSIONS if e in view.get("extensions", {})]
        if not packed:
            continue
        if not view["extensions"]:
            del view["extensions"]
        content = np.frombuffer(source.view(number), np.uint8)
        decoded = file.document["bufferViews"].pop(file.add_view(content))
        view |= {key: decoded[key] for key in ("buffer", "byteOffset", "byteLength")}
    file.document["buffers"] = file.document["buffers"][:1]


def _decode_draco(source: GltfDocument, file: GlbFile) -> None:
    for mesh, decoded in zip(source.items("meshes"), file.document["meshes"], strict=True):
        for given, primitive in zip(mesh["primitives"], decoded["primitives"], strict=True):
            packed = primitive.get("extensions", {}).pop(DRACO_EXTENSION, None)
            if packed is None:
                continue
            if not primitive["extensions"]:
                del primitive["extensions"]
            count = source.items("accessors")[given["attributes"]["POSITION"]]["count"]
            for name in packed["attributes"]:
                _fill(file, primitive["attributes"][name], source.read_raw_attribute(given, name))
            triangles = source.read_triangles(given, count).reshape(-1, 1)
            if "indices" in primitive:
                _fill(file, primitive["indices"], triangles)


def _fill(file: GlbFile, accessor: int, values: np.ndarray) -> None:
    given: dict[str, Any] = file.document["accessors"][accessor]
    if "bufferView" not in given:
        given["bufferView"] = file.add_rows(values, given["componentType"])


def _whiten_ktx(file: GlbFile) -> bool:
    """Give textures that are KTX2 alone a white picture; returns whether there are such."""
    white: int | None = None
    for texture in file.document.get("textures") or []:
        if texture.get("extensions", {}).pop(KTX_EXTENSION, None) is None or "source" in texture:
            continue
        if white is None:
            stream = io.BytesIO()
            Image.new("RGB", (1, 1), "white").save(stream, "PNG")
            view = file.add_view(np.frombuffer(stream.getvalue(), np.uint8))
            file.document["images"].append({"bufferView": view, "mimeType": "image/png"})
            white = len(file.document["images"]) - 1
        texture["source"] = white
    return white is not None
