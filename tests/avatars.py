"""The CC0 body of data/characters as a web avatar, and the forms in which others would hand it over."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import ROOT
from scipy.spatial.transform import Rotation

from kmtalk.exchange.glb_file import GlbFile
from kmtalk.face.files.gltf_document import GltfDocument

sys.path.insert(0, str(ROOT / "data" / "characters"))

_CC = {
    "jawOpen": "Jaw_Open", "jawForward": "Jaw_Forward", "jawLeft": "Jaw_L", "jawRight": "Jaw_R",
    "mouthClose": "Mouth_Close", "eyeBlink": "Eye_Blink", "eyeWide": "Eye_Wide", "eyeSquint": "Eye_Squint",
    "mouthSmile": "Mouth_Smile", "mouthFrown": "Mouth_Frown", "mouthDimple": "Mouth_Dimple", "mouthLeft": "Mouth_L",
    "mouthRight": "Mouth_R", "mouthStretch": "Mouth_Stretch", "mouthUpperUp": "Mouth_Up_Upper",
    "mouthLowerDown": "Mouth_Down_Lower", "mouthPress": "Mouth_Press", "mouthRollUpper": "Mouth_Roll_In_Upper",
    "mouthRollLower": "Mouth_Roll_In_Lower", "mouthShrugUpper": "Mouth_Shrug_Upper",
    "mouthShrugLower": "Mouth_Shrug_Lower", "browInnerUp": "Brow_Raise_Inner", "browOuterUp": "Brow_Raise_Outer",
    "browDown": "Brow_Drop", "cheekSquint": "Cheek_Raise", "cheekPuff": "Cheek_Puff", "noseSneer": "Nose_Sneer",
    "tongueOut": "Tongue_Out",
}  # fmt: skip


def character_creator(name: str) -> list[str]:
    """Names of Character Creator 4, in which pucker and funnel are quarters."""
    if name in ("mouthPucker", "mouthFunnel"):
        stem = f"Mouth_{name[5:]}"
        return [f"{stem}_{height}_{side}" for height in ("Up", "Down") for side in "LR"]
    if name.startswith("eyeLook"):
        side, way = (
            name[-5:].replace("Right", "R").replace("t", "")[-1:],
            name[7:-4] if name.endswith("Left") else name[7:-5],
        )
        side = "L" if name.endswith("Left") else "R"
        turned = {"Out": side, "In": "R" if side == "L" else "L"}.get(way, way)
        return [f"Eye_{side}_Look_{turned}"]
    stem, side = (
        (name[:-4], "_L") if name.endswith("Left") else (name[:-5], "_R") if name.endswith("Right") else (name, "")
    )
    if name in _CC:
        if name in ("mouthRollUpper", "mouthRollLower", "browInnerUp", "cheekPuff"):
            return [f"{_CC[name]}_L", f"{_CC[name]}_R"]
        return [_CC[name]]
    return [_CC[stem] + side]


def ict(name: str) -> list[str]:
    """Names of ICT FaceKit, in which brows and cheeks are halves."""
    if name in ("browInnerUp", "cheekPuff"):
        return [f"{name}_L", f"{name}_R"]
    return [
        name.replace("Left", "_L").replace("Right", "_R")
        if name not in ("mouthLeft", "mouthRight", "jawLeft", "jawRight")
        else name
    ]


def numbered(name: str) -> list[str]:
    return [f"{name}.001"]


def meaningless(name: str) -> list[str]:
    return [f"Key {sum(ord(c) * 31**k for k, c in enumerate(name)) % 9973}"]


def turned(scale: float, angles: tuple[float, float, float]) -> Callable[[GlbFile], None]:
    """Scale and turn the whole character by a node above it."""

    def change(file: GlbFile) -> None:
        nodes = file.document["nodes"]
        quaternion = Rotation.from_euler("xyz", angles, degrees=True).as_quat().tolist()
        nodes.append({"name": "Root", "children": [0], "scale": [scale] * 3, "rotation": quaternion})
        file.document["scenes"][0]["nodes"] = [len(nodes) - 1]

    return change


def vrm(version: int) -> Callable[[GlbFile], None]:
    """VRM 0 or 1: humanoid bones, and expressions bound to morph targets without meaning."""

    def change(file: GlbFile) -> None:
        document = file.document
        nodes = document["nodes"]
        names = [n.get("name") for n in nodes]
        human = {
            "hips": "Hips",
            "spine": "Spine",
            "chest": "Spine1",
            "neck": "Neck",
            "head": "Head",
            "leftEye": "LeftEye",
            "rightEye": "RightEye",
        }
        for side in ("Left", "Right"):
            low = side.lower()
            human |= {f"{low}UpperLeg": f"{side}UpLeg", f"{low}LowerLeg": f"{side}Leg", f"{low}Foot": f"{side}Foot"}
            human |= {f"{low}UpperArm": f"{side}Arm", f"{low}LowerArm": f"{side}ForeArm", f"{low}Hand": f"{side}Hand"}
        bones = {bone: names.index(name) for bone, name in human.items()}
        for k in range(len(names)):  # only the humanoid says what they are
            if k in bones.values():
                nodes[k]["name"] = f"bone_{k}"
        head = names.index("Wolf3D_Head")
        mesh = document["meshes"][nodes[head]["mesh"]]
        targets = mesh["extras"]["targetNames"]
        wanted = {"aa": "viseme_aa", "ih": "viseme_I", "ou": "viseme_U", "ee": "viseme_E", "oh": "viseme_O",
                  "blinkLeft": "eyeBlinkLeft", "blinkRight": "eyeBlinkRight"}  # fmt: skip
        places = {expression: targets.index(name) for expression, name in wanted.items()}
        for one in document["meshes"]:
            if "extras" in one:
                one["extras"]["targetNames"] = [f"{one['name']}_{k}" for k in range(len(one["extras"]["targetNames"]))]
        if version == 1:
            preset = {e: {"morphTargetBinds": [{"node": head, "index": k, "weight": 1.0}]} for e, k in places.items()}
            humanoid = {"humanBones": {bone: {"node": node} for bone, node in bones.items()}}
            meta = {"name": "avatar", "authors": ["nobody"], "licenseUrl": "https://vrm.dev/licenses/1.0/"}
            document["extensions"] = {
                "VRMC_vrm": {
                    "specVersion": "1.0",
                    "meta": meta,
                    "humanoid": humanoid,
                    "expressions": {"preset": preset},
                }
            }
            document["extensionsUsed"] = ["VRMC_vrm"]
            return
        old = {"aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkLeft": "blink_l", "blinkRight": "blink_r"}
        groups = [
            {
                "name": old[e].upper(),
                "presetName": old[e],
                "binds": [{"mesh": nodes[head]["mesh"], "index": k, "weight": 100}],
            }
            for e, k in places.items()
        ]
        humanoid = {"humanBones": [{"bone": bone, "node": node} for bone, node in bones.items()]}
        document["extensions"] = {
            "VRM": {"specVersion": "0.0", "humanoid": humanoid, "blendShapeMaster": {"blendShapeGroups": groups}}
        }
        document["extensionsUsed"] = ["VRM"]

    return change


def changed(source: Path, path: Path, change: Callable[[GlbFile], None]) -> Path:
    """Write a GLB of which something is changed."""
    file = GlbFile.of(GltfDocument.load(source))
    change(file)
    file.save(path)
    return path


def skinned_vertices(path: Path, animation: str, frame: int, fps: float) -> np.ndarray:
    """Vertices (V, 3) of all triangle primitives of a GLB at a frame, by glTF's rules alone: targets, then skinning.

    In the order of the scene's nodes; the animation has one key a frame.
    """
    file = GltfDocument.load(path)
    document = copy.deepcopy(file.json)
    nodes, weights = document["nodes"], {}
    (made,) = [a for a in document["animations"] if a["name"] == animation]
    for channel in made["channels"]:
        sampler, target = made["samplers"][channel["sampler"]], channel["target"]
        times = file.read_accessor(sampler["input"]).ravel()
        k = int(np.argmin(np.abs(times - frame / fps)))
        values = file.read_accessor(sampler["output"])
        if target["path"] == "weights":
            weights[target["node"]] = values.reshape(len(times), -1)[k]
        else:
            nodes[target["node"]][target["path"]] = values[k].tolist()
    world: dict[int, np.ndarray] = {}

    def walk(node: int, above: np.ndarray) -> None:
        n, local = nodes[node], np.eye(4)
        if "matrix" in n:
            local = np.array(n["matrix"]).reshape(4, 4).T
        else:
            local[:3, :3] = Rotation.from_quat(n.get("rotation", [0, 0, 0, 1])).as_matrix() * n.get("scale", [1, 1, 1])
            local[:3, 3] = n.get("translation", [0, 0, 0])
        world[node] = above @ local
        for child in n.get("children", []):
            walk(child, world[node])

    for root in document["scenes"][document.get("scene", 0)]["nodes"]:
        walk(root, np.eye(4))
    out = []
    for node in world:
        if "mesh" not in nodes[node]:
            continue
        for primitive in document["meshes"][nodes[node]["mesh"]]["primitives"]:
            points = file.read_attribute(primitive, "POSITION").astype(np.float64)
            for weight, target in zip(weights.get(node, []), primitive.get("targets", []), strict=False):
                if weight:
                    points += weight * file.read_accessor(target["POSITION"])
            matrices = np.broadcast_to(world[node], (len(points), 4, 4))
            if "skin" in nodes[node]:
                skin = document["skins"][nodes[node]["skin"]]
                inverse = file.read_accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
                joints = np.stack([world[j] for j in skin["joints"]]) @ inverse
                shares = file.read_attribute(primitive, "WEIGHTS_0").astype(np.float64)
                shares[shares.sum(1) == 0, 0] = 1
                matrices = np.einsum(
                    "pk,pkij->pij",
                    shares / shares.sum(1, keepdims=True),
                    joints[file.read_attribute(primitive, "JOINTS_0").astype(int)],
                )
            out.append(np.einsum("pij,pj->pi", matrices[:, :3, :3], points) + matrices[:, :3, 3])
    return np.concatenate(out)
