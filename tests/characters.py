"""A skinned character in the layout of web avatars, made of the light head: meshes, materials, textures and bones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.rig import ARKIT_NAMES, Rig

BONES = (
    "Hips",
    "Spine",
    "Spine1",
    "Spine2",
    "Neck",
    "Head",
    "LeftEye",
    "RightEye",
    "LeftArm",
    "RightArm",
    "HeadTop_End",
)
PARENTS = (-1, 0, 1, 2, 3, 4, 5, 5, 3, 3, 5)
PARTS = ("skin", "upper_teeth", "lower_teeth", "tongue", "eye_left", "eye_right")


def head_joint(rig: Rig) -> np.ndarray:
    """Where the head bone stands (3,)."""
    low, high = rig.template.vertices[:, 1].min(), rig.template.vertices[:, 1].max()
    return np.array([0, low + 0.2 * (high - low), 0], np.float64)


def write_avatar(path: Path, rig: Rig, shapes: tuple[str, ...] = ARKIT_NAMES, prefix: str = "") -> None:
    """Write a character whose skin, teeth and tongue have the shapes that move them; the body has none."""
    file = GlbFile(
        {"asset": {"version": "2.0", "generator": "a test"}, "scene": 0, "scenes": [{"nodes": [0]}]}, bytearray()
    )
    document, template = file.document, rig.template
    vertices = template.vertices.astype(np.float64)
    low, high = vertices.min(0), vertices.max(0)
    tall = high[1] - low[1]
    # bones: rest rotations that are not the identity, as in files of real programs
    places = {name: np.array([0, low[1] - (4 - k) * tall / 2, 0]) for k, name in enumerate(BONES[:5])}
    places |= {"Head": head_joint(rig)}
    turns = [Rotation.from_euler("xyz", [5 * k, -7 * k, 3 * k], degrees=True) for k in range(len(BONES))]
    worlds: list[np.ndarray] = []
    nodes = [{"name": "Armature", "children": [1]}]
    for k, (name, parent) in enumerate(zip(BONES, PARENTS, strict=True)):
        world = np.eye(4)
        world[:3, :3] = turns[k].as_matrix()
        world[:3, 3] = places.get(name, places["Head"] + [0.01 * k, 0.05 * tall, 0])
        local = world if parent < 0 else np.linalg.inv(worlds[parent]) @ world
        worlds.append(world)
        node = {"name": prefix + name, "translation": local[:3, 3].tolist()}
        node["rotation"] = Rotation.from_matrix(local[:3, :3]).as_quat().tolist()
        children = [1 + c for c, p in enumerate(PARENTS) if p == k]
        nodes.append(node | ({"children": children} if children else {}))
    document["nodes"] = nodes
    inverse = np.stack([np.linalg.inv(w).T for w in worlds]).reshape(len(BONES), 16).astype(np.float32)
    matrices = file.add_accessor(inverse.reshape(-1))
    document["accessors"][matrices] |= {"type": "MAT4", "count": len(BONES)}
    joints = [1 + k for k in range(len(BONES))]
    document["skins"] = [{"joints": joints, "inverseBindMatrices": matrices, "skeleton": 1}]
    document["materials"] = [
        {
            "name": f"material {k}",
            "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "roughnessFactor": 0.1 * k},
        }
        for k in range(6)
    ]
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(picture, "PNG")
    view = file.add_view(np.frombuffer(picture.getvalue(), np.uint8))
    document |= {"images": [{"bufferView": view, "mimeType": "image/png"}], "textures": [{"source": 0}], "meshes": []}

    def add_mesh(name: str, index: np.ndarray, faces: np.ndarray, points: np.ndarray, bone: str, material: int) -> None:
        count = len(points)
        joint = np.zeros((count, 4), np.uint16)
        joint[:, 0] = BONES.index(bone)
        weight = np.zeros((count, 4), np.float32)
        weight[:, 0] = 1
        attributes = {
            "POSITION": file.add_accessor(points, bounds=True),
            "TEXCOORD_0": file.add_accessor(points[:, [0, 1, 2]]),
            "WEIGHTS_0": file.add_accessor(weight),
            "JOINTS_0": file.add_accessor(weight),
        }
        document["accessors"][attributes["JOINTS_0"]] |= {"componentType": 5123, "bufferView": file.add_view(joint)}
        uv = file.add_view(points[:, :2].astype(np.float32))
        document["accessors"][attributes["TEXCOORD_0"]] |= {"type": "VEC2", "bufferView": uv}
        primitive = {"attributes": attributes, "material": material, "indices": file.add_accessor(faces.reshape(-1))}
        indices = file.add_view(faces.reshape(-1).astype(np.uint32))
        document["accessors"][primitive["indices"]] |= {"componentType": 5125, "bufferView": indices}
        mesh = {"name": name, "primitives": [primitive]}
        moving = [s for s in shapes if len(index) and np.abs(rig.offsets[rig.index[s]][index]).max() > 1e-6]
        if moving:
            primitive["targets"] = [
                {"POSITION": file.add_offsets(rig.offsets[rig.index[s]][index], 0.0)} for s in moving
            ]
            mesh |= {"extras": {"targetNames": moving, "maker": "a test"}, "weights": [0.0] * len(moving)}
        document["meshes"].append(mesh)
        nodes.append({"name": name, "mesh": len(document["meshes"]) - 1, "skin": 0})
        nodes[0]["children"].append(len(nodes) - 1)

    for number, part in enumerate(PARTS):
        index = np.asarray(template.regions[part])
        place = np.full(len(vertices), -1)
        place[index] = np.arange(len(index))
        faces = place[template.faces]
        add_mesh(f"Wolf3D_{part}", index, faces[(faces >= 0).all(1)], vertices[index], "Head", number)
    box = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.9, -0.25) for z in (-0.08, 0.08)]) * tall * 4
    box[:, 1] += low[1]
    sides = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]])
    add_mesh("Wolf3D_Body", np.zeros(0, int), sides, box, "Spine", 5)
    times = file.add_accessor(np.array([0.0, 1.0], np.float32), bounds=True)
    wave = file.add_accessor(np.array([[0, 0, 0, 1], [0, 0, 0.1, 0.995]], np.float32))
    channel = {"sampler": 0, "target": {"node": 1 + BONES.index("LeftArm"), "path": "rotation"}}
    sampler = {"input": times, "output": wave, "interpolation": "LINEAR"}
    document["animations"] = [{"name": "wave", "channels": [channel], "samplers": [sampler]}]
    document["extras"] = {"author": "nobody"}
    file.save(path)
