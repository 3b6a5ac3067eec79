"""animation.glb: one mesh with materials, the rig's shapes as named morph targets, and an animation of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib as gl

from kmtalk.errors import InputError
from kmtalk.exchange.glb_file import sparse_offsets
from kmtalk.face.appearance import Material, SubMesh, texture_path
from kmtalk.face.motion import Motion
from kmtalk.face.template import Template, vertex_normals

MIN_OFFSET_MM = 2e-4  # mm: smaller offsets of a shape are dropped; summed over all shapes the error is at most 0.013 mm
CHARACTER_ANIMATION = "kmtalk"
"""Name of the animation that is added to a character's file."""

MAX_GLB_BYTES = 2_000_000_000  # the format can address 4 GB


@dataclass
class _BinaryChunk:
    """Builds the binary chunk and adds its buffer views and accessors to `document`."""

    document: gl.GLTF2
    data: bytearray = field(default_factory=bytearray)

    def add_buffer_view(self, array: np.ndarray, target: int | None = None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        raw = np.ascontiguousarray(array).tobytes()
        self.document.bufferViews.append(
            gl.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(raw), target=target)
        )
        self.data += raw
        return len(self.document.bufferViews) - 1

    def add_accessor(
        self,
        array: np.ndarray,
        kind: str,
        component: int,
        target: int | None = None,
        bounds: bool = False,
        **options: bool,
    ) -> int:
        flat = array.reshape(len(array), -1)
        self.document.accessors.append(
            gl.Accessor(
                bufferView=self.add_buffer_view(array, target),
                componentType=component,
                count=len(array),
                type=kind,
                min=flat.min(0).tolist() if bounds else None,
                max=flat.max(0).tolist() if bounds else None,
                **options,
            )
        )
        return len(self.document.accessors) - 1

    def add_sparse_accessor(self, offsets: np.ndarray, threshold: float = 0.0) -> int:
        """Add offsets (V, 3) as a sparse accessor; only offsets above `threshold` are stored."""
        indices, values, low, high = sparse_offsets(offsets, threshold)
        use_uint16 = indices.dtype == np.uint16
        accessor = gl.Accessor(
            byteOffset=None,  # allowed only together with a buffer view
            componentType=gl.FLOAT,
            count=len(offsets),
            type=gl.VEC3,
            min=low.tolist(),
            max=high.tolist(),
            sparse=gl.Sparse(
                count=len(indices),
                indices=gl.AccessorSparseIndices(
                    bufferView=self.add_buffer_view(indices),
                    componentType=gl.UNSIGNED_SHORT if use_uint16 else gl.UNSIGNED_INT,
                ),
                values=gl.AccessorSparseValues(bufferView=self.add_buffer_view(values)),
            ),
        )
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1


def write_glb(path: Path, motion: Motion, bake: bool = False, extras: Mapping[str, object] | None = None) -> None:
    """Write a binary glTF with morph targets: the rig's shapes, or the mesh's own shapes where it has some.

    Keyframe n is stored at n / fps seconds, where frame-based programs show frame n; its pose is that of time
    (n + 0.5) / fps, the middle of the frame.

    Args:
        path: The .glb file.
        motion: The motion, in the template's units.
        bake: Write one morph target per frame instead of the named shapes: exact, but large.
        extras: Words, phones and key frames to store in the animation's extras, for `kmtalk view`.

    Raises:
        InputError: The baked frames exceed the size that a .glb can hold.
    """
    template = motion.rig.template
    size = len(motion) * (template.vertices.size * 16 // 3 + 8 * len(motion))  # bytes: sparse offsets and weights
    if bake and size > MAX_GLB_BYTES:
        raise InputError(
            f"{path.name}: {len(motion)} baked frames do not fit in a .glb; write .abc or .usd with --bake"
        )
    document = gl.GLTF2(
        asset=gl.Asset(version="2.0", generator="kmtalk"),
        scene=0,
        scenes=[gl.Scene(nodes=[0])],
        nodes=[gl.Node(mesh=0, name=template.name)],
    )
    buffer = _BinaryChunk(document)
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
            indices.append(buffer.add_sparse_accessor(offsets[submesh.vertex_indices], threshold))
    normals = vertex_normals(template.vertices, template.faces).astype(np.float32)
    normals[~normals.any(1)] = 0, 0, 1  # vertices of triangles without area: glTF wants unit length
    primitives = [
        _add_primitive(buffer, template, normals, submesh, indices)
        for submesh, indices in zip(submeshes, targets, strict=True)
    ]
    initial_weights = target_weights[0].astype(float).tolist()
    document.meshes.append(
        gl.Mesh(primitives=primitives, name=template.name, weights=initial_weights, extras={"targetNames": list(names)})
    )
    times = (np.arange(len(motion)) / motion.fps).astype(np.float32)
    weights = np.clip(target_weights, 0, 1).astype(np.float32).reshape(-1)
    sampler = gl.AnimationSampler(
        input=buffer.add_accessor(times, gl.SCALAR, gl.FLOAT, bounds=True),
        output=buffer.add_accessor(weights, gl.SCALAR, gl.FLOAT),
        interpolation="LINEAR",
    )
    channel = gl.AnimationChannel(sampler=0, target=gl.AnimationChannelTarget(node=0, path="weights"))
    extras = {"fps": motion.fps, **(extras or {})}
    document.animations.append(gl.Animation(name="speech", samplers=[sampler], channels=[channel], extras=extras))
    document.buffers.append(gl.Buffer(byteLength=len(buffer.data)))
    document.set_binary_blob(bytes(buffer.data))
    document.save_binary(str(path))


def _submeshes(template: Template) -> list[SubMesh]:
    """The mesh by material; without materials, the whole mesh with one neutral material."""
    if template.appearance is not None:
        return template.appearance.split(template.faces)
    count = len(template.vertices)
    plain = Material("skin", double_sided=True)
    return [SubMesh(plain, np.arange(count), np.zeros((count, 0), np.float32), template.faces)]


def _add_primitive(
    buffer: _BinaryChunk, template: Template, normals: np.ndarray, submesh: SubMesh, targets: list[int]
) -> gl.Primitive:
    chosen = submesh.vertex_indices
    attributes = gl.Attributes(
        POSITION=buffer.add_accessor(
            template.vertices[chosen].astype(np.float32), gl.VEC3, gl.FLOAT, gl.ARRAY_BUFFER, bounds=True
        ),
        NORMAL=buffer.add_accessor(normals[chosen], gl.VEC3, gl.FLOAT, gl.ARRAY_BUFFER),
    )
    if submesh.uv.shape[1]:
        attributes.TEXCOORD_0 = buffer.add_accessor(submesh.uv, gl.VEC2, gl.FLOAT, gl.ARRAY_BUFFER)
    elif template.colors is not None:
        linear = np.round((template.colors[chosen] / 255.0) ** 2.2 * 65535).astype(np.uint16)
        padded = np.concatenate([linear, np.full((len(linear), 1), 65535, np.uint16)], axis=1)
        attributes.COLOR_0 = buffer.add_accessor(padded, gl.VEC4, gl.UNSIGNED_SHORT, gl.ARRAY_BUFFER, normalized=True)
    return gl.Primitive(
        attributes=attributes,
        indices=buffer.add_accessor(
            submesh.faces.astype(np.uint32).reshape(-1), gl.SCALAR, gl.UNSIGNED_INT, gl.ELEMENT_ARRAY_BUFFER
        ),
        material=_add_material(buffer, submesh.material),
        targets=[{"POSITION": target} for target in targets],
    )


def _add_material(buffer: _BinaryChunk, material: Material) -> int:
    document = buffer.document

    def info(name: str | None, kind: type = gl.TextureInfo) -> Any:
        return None if name is None else kind(index=_add_texture(buffer, name))

    document.materials.append(
        gl.Material(
            name=material.name,
            doubleSided=material.double_sided,
            alphaMode=material.alpha_mode,
            alphaCutoff=0.5 if material.alpha_mode == "MASK" else None,
            normalTexture=info(material.normal_texture, gl.NormalMaterialTexture),
            occlusionTexture=info(material.roughness_texture, gl.OcclusionTextureInfo),
            pbrMetallicRoughness=gl.PbrMetallicRoughness(
                baseColorFactor=list(material.base_color),
                metallicFactor=0.0,
                roughnessFactor=material.roughness,
                baseColorTexture=info(material.base_color_texture),
                metallicRoughnessTexture=info(material.roughness_texture),
            ),
        )
    )
    return len(document.materials) - 1


def _add_texture(buffer: _BinaryChunk, name: str) -> int:
    """Embed a texture file, once; returns the index of the texture."""
    document = buffer.document
    for number, image in enumerate(document.images):
        if image.name == name:
            return number
    if not document.samplers:
        wrap = gl.REPEAT
        document.samplers.append(
            gl.Sampler(magFilter=gl.LINEAR, minFilter=gl.LINEAR_MIPMAP_LINEAR, wrapS=wrap, wrapT=wrap)
        )
    raw = np.frombuffer(texture_path(name).read_bytes(), np.uint8)
    kind = "image/png" if name.endswith(".png") else "image/jpeg"
    document.images.append(gl.Image(name=name, mimeType=kind, bufferView=buffer.add_buffer_view(raw)))
    document.textures.append(gl.Texture(sampler=0, source=len(document.images) - 1))
    return len(document.textures) - 1


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
    if path.read_bytes()[:4] != b"glTF":
        raise InputError(f"{path}: neither a .glb nor an animation.npz; kmtalk animate writes both")
    try:
        document = gl.GLTF2().load_binary(str(path))
        shown = [a for a in document.animations if a.name == CHARACTER_ANIMATION] or document.animations[:1]
        extras = dict(shown[0].extras or {}) if shown else {}
        inputs = [document.accessors[s.input] for a in shown[:1] for s in a.samplers]
        end = max((float(i.max[0]) for i in inputs if i.max), default=0.0)
        fps = float(extras.get("fps", 30.0))
        if not 0 < fps < 10_000:
            raise ValueError(f"fps {fps}")
    except Exception as error:
        raise InputError(f"{path}: damaged .glb ({(str(error).splitlines() or ['?'])[0][:80]})") from None
    return GlbInfo(fps, round(end * fps) + 1, extras)
