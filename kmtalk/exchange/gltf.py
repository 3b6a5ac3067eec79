"""animation.glb: one mesh with materials, the rig's shapes as named morph targets, and an animation of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kmtalk.errors import InputError
from kmtalk.exchange.curve_reduction import reduce_weights
from kmtalk.exchange.glb_file import INDICES, VERTICES, GlbFile
from kmtalk.exchange.upright import UPRIGHT_COSINE, upright_turn
from kmtalk.face.appearance import Appearance, Material, SubMesh
from kmtalk.face.files.gltf_document import GltfDocument
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template, vertex_normals

MIN_OFFSET_MM = 2e-4  # mm: smaller offsets of a shape are dropped; summed over all shapes the error is at most 0.013 mm
SAME_SHAPE_MM = 0.01  # mm: a mesh's own shape that differs by more is another shape of that name
CHARACTER_ANIMATION = "kmtalk"
"""Name of the animation that is added to a character's file."""

MAX_GLB_BYTES = 2_000_000_000  # the format can address 4 GB


def write_glb(
    path: Path,
    motion: Motion,
    bake: bool = False,
    extras: Mapping[str, object] | None = None,
    reduce: float = 0.0,
) -> None:
    """Write a binary glTF with morph targets: the rig's shapes, or the mesh's own shapes where it has some.

    Keyframe n is stored at n / fps seconds, where frame-based programs show frame n; its pose is that of time
    (n + 0.5) / fps, the middle of the frame. A template that lies is turned upright by its node, y up and facing +z.

    Args:
        path: The .glb file.
        motion: The motion, in the template's units.
        bake: Write one morph target per frame instead of the named shapes: exact, but large.
        extras: Words, phones and key frames to store in the animation's extras, for `kmtalk view`.
        reduce: Largest error of a weight at a frame, for fewer keys; 0 writes a key for every frame.

    Raises:
        InputError: The baked frames exceed the size that a .glb can hold.
    """
    template, turn = motion.rig.template, None
    if motion.rig.upright_rotation[1, 1] <= UPRIGHT_COSINE:  # glTF is y up
        turn = upright_turn(motion.rig)
        extras = _turned_focus(extras or {}, turn)
    size = len(motion) * (template.vertices.size * 16 // 3 + 8 * len(motion))  # bytes: sparse offsets and weights
    if bake and size > MAX_GLB_BYTES:
        raise InputError(
            f"{path.name}: {len(motion)} baked frames do not fit in a .glb; write .abc or .usd with --bake"
        )
    node: dict[str, Any] = {"mesh": 0, "name": template.name}
    if turn is not None:
        node["rotation"] = Rotation.from_matrix(turn).as_quat().tolist()
    document: dict[str, Any] = {"asset": {"version": "2.0", "generator": "kmtalk"}, "scene": 0, "materials": []}
    file = GlbFile(document | {"scenes": [{"nodes": [0]}], "nodes": [node]}, bytearray())
    if bake:
        names: Sequence[str] = [f"frame{n:05d}" for n in range(len(motion))]
        shapes: Iterable[np.ndarray] = (
            positions - template.vertices for chunk in motion.vertex_chunks() for positions in chunk
        )
        target_weights, threshold = np.eye(len(motion), dtype=np.float32), 0.0
    else:
        names, shapes, target_weights = motion.rig.morph_targets(motion.weights)
        threshold = MIN_OFFSET_MM / template.mm_per_unit
    submeshes = _submeshes(template)
    targets: list[list[int]] = [[] for _ in submeshes]
    for offsets in shapes:
        for submesh, indices in zip(submeshes, targets, strict=True):
            indices.append(file.add_offsets(offsets[submesh.vertex_indices], threshold))
    normals = vertex_normals(template.vertices, template.faces).astype(np.float32)
    normals[~normals.any(1)] = 0, 0, 1  # vertices of triangles without area: glTF wants unit length
    primitives = [
        _add_primitive(file, template, normals, submesh, indices)
        for submesh, indices in zip(submeshes, targets, strict=True)
    ]
    initial = np.clip(target_weights[0], 0, 1).astype(float).tolist()
    mesh = {"primitives": primitives, "name": template.name, "weights": initial, "extras": {"targetNames": list(names)}}
    # lines, because Blender's importer drops the tangents of weights
    keys = reduce_weights(target_weights, reduce) if reduce > 0 else np.arange(len(motion))
    times = file.add_accessor((keys / motion.fps).astype(np.float32), bounds=True)
    weights = file.add_accessor(np.clip(target_weights[keys], 0, 1).reshape(-1))
    animation = {
        "name": "speech",
        "samplers": [{"input": times, "output": weights, "interpolation": "LINEAR"}],
        "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
        "extras": {"fps": motion.fps, **(extras or {})},
    }
    file.document |= {"meshes": [mesh], "animations": [animation]}
    file.save(path)


def _turned_focus(extras: Mapping[str, object], turn: np.ndarray) -> dict[str, object]:
    """The extras with the place of the face in the scene, whose node is turned."""
    focus = extras.get("focus")
    if not isinstance(focus, dict):
        return dict(extras)
    places = {name: (turn @ np.array(focus[name])).tolist() for name in ("eyes", "chin")}
    return {**extras, "focus": {**places, "upright": (np.array(focus["upright"]) @ turn.T).tolist()}}


def _submeshes(template: Template) -> list[SubMesh]:
    """The mesh by material; without materials, the whole mesh with one neutral material."""
    if template.appearance is not None:
        return template.appearance.split(template.faces)
    count = len(template.vertices)
    plain = Material("skin", double_sided=True)
    return [SubMesh(plain, np.arange(count), np.zeros((count, 0), np.float32), template.faces)]


def _add_primitive(
    file: GlbFile, template: Template, normals: np.ndarray, submesh: SubMesh, targets: list[int]
) -> dict[str, Any]:
    chosen, appearance = submesh.vertex_indices, template.appearance
    attributes = {
        "POSITION": file.add_accessor(template.vertices[chosen], bounds=True, target=VERTICES),
        "NORMAL": file.add_accessor(normals[chosen], target=VERTICES),
    }
    if submesh.uv.shape[1]:
        attributes["TEXCOORD_0"] = file.add_accessor(submesh.uv, target=VERTICES)
    if template.colors is not None and (appearance is None or appearance.is_tinted):
        linear = np.round((template.colors[chosen] / 255.0) ** 2.2 * 65535).astype(np.uint16)
        padded = np.concatenate([linear, np.full((len(linear), 1), 65535, np.uint16)], axis=1)
        attributes["COLOR_0"] = file.add_accessor(padded, target=VERTICES, normalized=True)
    return {
        "attributes": attributes,
        "indices": file.add_accessor(submesh.faces.astype(np.uint32).reshape(-1), target=INDICES),
        "material": _add_material(file, appearance, submesh.material),
        "targets": [{"POSITION": target} for target in targets],
    }


def _add_material(file: GlbFile, appearance: Appearance | None, material: Material) -> int:
    def texture(name: str | None) -> dict[str, int] | None:
        if name is None or appearance is None:
            return None
        return {"index": file.add_picture(name, appearance.texture(name))}

    surface = {
        "baseColorFactor": list(material.base_color),
        "metallicFactor": 0.0,
        "roughnessFactor": material.roughness,
        "baseColorTexture": texture(material.base_color_texture),
        "metallicRoughnessTexture": texture(material.roughness_texture),
    }
    given = {
        "name": material.name,
        "doubleSided": material.double_sided,
        "alphaMode": material.alpha_mode,
        "alphaCutoff": material.alpha_cutoff if material.alpha_mode == "MASK" else None,
        "normalTexture": texture(material.normal_texture),
        "occlusionTexture": texture(material.roughness_texture if material.has_occlusion else None),
        "pbrMetallicRoughness": {key: value for key, value in surface.items() if value is not None},
    }
    materials: list[dict[str, Any]] = file.document["materials"]
    materials.append({key: value for key, value in given.items() if value is not None})
    return len(materials) - 1


@dataclass(frozen=True)
class GlbInfo:
    """Timing and extras of a GLB.

    Attributes:
        fps: Frames per second; 30 where the file does not state it.
        frames: Number of frames of the animation: kmtalk's in a character's file, else the first one.
        extras: The extras that kmtalk stores with the animation.
    """

    fps: float
    frames: int
    extras: Mapping[str, object]


def read_glb_info(path: Path) -> GlbInfo:
    """Read the frame rate, length and extras of a GLB; raises InputError for any other file."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the .glb or animation.npz in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        document = GltfDocument.load(path)
    except Exception as error:  # whatever the damage leads to
        if path.suffix.lower() in (".glb", ".gltf", ".vrm") and path.read_bytes()[:4] == b"glTF":
            raise InputError(f"{path}: damaged .glb ({(str(error).splitlines() or ['?'])[0][:80]})") from None
        raise InputError(f"{path}: neither a .glb nor an animation.npz; kmtalk animate writes both") from None
    try:
        animations, accessors = document.items("animations"), document.items("accessors")
        shown = [a for a in animations if a.get("name") == CHARACTER_ANIMATION] or animations[:1]
        extras = dict(shown[0].get("extras") or {}) if shown else {}
        inputs = [accessors[sampler["input"]] for one in shown[:1] for sampler in one["samplers"]]
        end = max((float(one["max"][0]) for one in inputs if one.get("max")), default=0.0)
        fps = float(extras.get("fps", 30.0))
        if not 0 < fps < 10_000:
            raise ValueError(f"fps {fps}")
    except Exception as error:
        raise InputError(f"{path}: damaged .glb ({(str(error).splitlines() or ['?'])[0][:80]})") from None
    return GlbInfo(fps, round(end * fps) + 1, extras)
