"""A rig: named blendshapes, which form a linear basis, on a template."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.appearance import Appearance
from kmtalk.face.joints import HEAD_NAMES, joint_matrices, joint_rotations, skin_vertices
from kmtalk.face.template import Template, unique_edges

_SIDED = [
    "browDown",
    "browOuterUp",
    "cheekSquint",
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
]
_SINGLE = [
    "browInnerUp",
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawOpen",
    "jawRight",
    "mouthClose",
    "mouthFunnel",
    "mouthLeft",
    "mouthPucker",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "tongueOut",
]
ARKIT_NAMES: tuple[str, ...] = tuple(sorted([n + side for n in _SIDED for side in ("Left", "Right")] + _SINGLE))
"""The 52 face blendshapes of ARKit, in alphabetical order."""

SPEECH_NAMES: tuple[str, ...] = (
    "mouthLabiodental",
    "mouthProtrude",
    "tongueTipUp",
    "tongueInterdental",
    "tongueDorsumUp",
)
"""Blendshapes for speech that ARKit does not define."""

FULL_HEAD, LIGHT_HEAD = "head.safetensors", "head_light.safetensors"
"""Assets: the default head, and its version with fewer vertices, whose skin has the first vertices of the full one."""

MOUTH_SEAL = "mouthSeal"
"""A shape that closes a mouth that is open at rest; only fitted rigs have it. Its weight is 1 in every frame."""


@dataclass(frozen=True)
class NativeShapes:
    """The blendshapes of the user's file, which animate the exported mesh under their own names.

    Attributes:
        names: (K,) names in the file.
        offsets: (K, V, 3) in the template's units.
        mixing_matrix: (R, K) the weights of the file's shapes that make up each shape of the rig.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    mixing_matrix: np.ndarray


@dataclass(frozen=True)
class Rig:
    """Blendshapes on a template: `vertices(w) = template.vertices + Σ w[r] · offsets[r]`, with w in [0, 1].

    Where the template has joints, head and eyes turn on them instead: linear blend skinning after the blendshapes.

    Attributes:
        template: The neutral mesh.
        shape_names: (R,) names of the shapes.
        offsets: (R, V, 3) float32 in the template's units. With `native_shapes`, these are the offsets that the
            mixed shapes of the file produce.
        upright_vertices: (V, 3) the same head in an upright pose, y up and facing +z; None where the
            template itself is upright.
        mouth_gain: Factor on the weights of jaw and mouth shapes. With it, the mouth opens by the same share of
            its width as that of the default head.
        native_shapes: The blendshapes of the user's file. If given, only they move the mesh.
    """

    template: Template
    shape_names: tuple[str, ...]
    offsets: np.ndarray
    upright_vertices: np.ndarray | None = None
    mouth_gain: float = 1.0
    native_shapes: NativeShapes | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each shape in `shape_names` and `offsets`."""
        return {name: i for i, name in enumerate(self.shape_names)}

    @cached_property
    def upright_rotation(self) -> np.ndarray:
        """Rotation (3, 3) float32 that turns the template upright, y up and facing +z; may include a reflection."""
        if self.upright_vertices is None:
            return np.eye(3, dtype=np.float32)
        _, rotation = fit_scale_and_rotation(self.template.vertices, self.upright_vertices)
        return rotation.astype(np.float32)

    def morph_targets(self, weights: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Return the blendshapes that move the mesh, and their weights.

        Args:
            weights: (N, R) weights of the rig's shapes.

        Returns:
            Names (K,), offsets (K, V, 3) and weights (N, K) in [0, 1] of the native shapes, or of the rig's own
            shapes where there are none.
        """
        weights = np.asarray(weights, np.float32)
        if self.native_shapes is None:
            return self.shape_names, self.offsets, weights
        mixed = np.clip(weights @ self.native_shapes.mixing_matrix.astype(np.float32), 0, 1)
        return self.native_shapes.names, self.native_shapes.offsets, mixed

    def vertices(self, weights: np.ndarray) -> np.ndarray:
        """Return the vertices (N, V, 3) float32, in the template's units, under weights (N, R)."""
        weights = np.asarray(weights, np.float32)
        offsets, mixed = self.moving_targets(weights)
        joints = self.template.joints
        used = np.flatnonzero(mixed.any(0))
        v = self.template.vertices
        basis = offsets[used].reshape(len(used), v.size)
        out: np.ndarray = (mixed[:, used] @ basis).reshape(len(weights), *v.shape)
        out += v
        if joints:
            shares = np.stack([joint.weights for joint in joints])
            skin_vertices(out, shares, joint_matrices(joints, self.joint_rotations(weights)))
        return out

    def moving_targets(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets (K, V, 3) and weights (N, K) of `morph_targets` without those that joints stand for."""
        names, offsets, mixed = self.morph_targets(weights)
        if not self.template.joints:
            return offsets, mixed
        kept = [k for k, name in enumerate(names) if name not in HEAD_NAMES]
        return offsets[kept], mixed[:, kept]

    def joint_rotations(self, weights: np.ndarray) -> np.ndarray:
        """Return the rotations (N, J, 4) of the template's joints under weights (N, R): quaternions, xyzw, each beyond
        the joint above it, in the template's axes."""
        return joint_rotations(self.template.joints, self.upright_rotation, self.shape_names, weights)

    def retarget(self, weights: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Convert weights of the default head to weights of this rig.

        The weights of jaw and mouth shapes are multiplied by `mouth_gain` and clipped to [0, 1]. The shape
        `mouthSeal`, where the rig has it, gets weight 1.

        Args:
            weights: (N, R') weights of the default head's shapes.
            names: (R',) names of those shapes; each must be a shape of this rig.

        Returns:
            (N, R) float32.
        """
        out = np.zeros((len(weights), len(self.shape_names)), np.float32)
        out[:, [self.index[n] for n in names]] = np.clip(self.shape_gains(names) * weights, 0, 1)
        if MOUTH_SEAL in self.index:
            out[:, self.index[MOUTH_SEAL]] = 1.0
        return out

    def shape_gains(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the factor of `retarget` for each shape (R',): `mouth_gain` for jaw and mouth shapes, 1 for others."""
        return np.array([self.mouth_gain if n.startswith(("jaw", "mouth")) else 1.0 for n in names])

    def save(self, path: Path) -> None:
        """Write the rig as safetensors: offsets as float16, the rest unchanged, names and units as metadata."""
        t = self.template
        tensors: dict[str, np.ndarray] = {
            "vertices": t.vertices.astype(np.float32),
            "faces": t.faces.astype(np.int32),
            "offsets": self.offsets.astype(np.float16),
        }
        if t.colors is not None:
            tensors["colors"] = t.colors
        tensors |= {f"region.{name}": np.ascontiguousarray(index, np.int32) for name, index in t.regions.items()}
        facts = {"names": list(self.shape_names), "units": t.units, "name": t.name, "landmarks": dict(t.landmarks)}
        if t.appearance is not None:
            arrays = t.appearance.to_arrays()
            facts["materials"] = str(arrays.pop("materials"))
            tensors |= arrays
        save_file(tensors, path, metadata={"kmtalk": json.dumps(facts, sort_keys=True)})
        path.chmod(0o644)  # safetensors creates the file with mode 0600


def load_rig(path: Path) -> Rig:
    """Read a rig written by `Rig.save`. Raises InputError if the file is not a kmtalk rig."""
    try:
        with safe_open(path, "np") as file:
            facts = json.loads(file.metadata()["kmtalk"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        appearance = Appearance.from_arrays(tensors | facts) if "materials" in facts else None
    except Exception as error:
        raise InputError(f"{path}: not a kmtalk rig, or damaged ({error})") from None
    template = Template(
        vertices=tensors["vertices"],
        faces=tensors["faces"],
        units=facts["units"],
        name=facts["name"],
        colors=tensors.get("colors"),
        regions={k.removeprefix("region."): v for k, v in tensors.items() if k.startswith("region.")},
        landmarks=facts["landmarks"],
        appearance=appearance,
    )
    return Rig(template, tuple(facts["names"]), tensors["offsets"].astype(np.float32))


def load_full_head() -> Rig:
    """Read the rig of the default head."""
    return load_rig(asset_path(FULL_HEAD))


def load_light_head() -> Rig:
    """Read the rig of the default head's light version, from which rigs are fitted to other meshes."""
    return load_rig(asset_path(LIGHT_HEAD))


def transfer_rig(template: Template, reference: Rig, source: str) -> Rig:
    """Transfer the shapes of a reference rig to a template of the same topology.

    The template may show another identity and may be rotated, translated, scaled or mirrored (as left-handed
    programs export it). The offsets are rotated and scaled accordingly.

    Args:
        template: The template, with its vertices in the order of the reference.
        reference: The rig whose shapes are transferred.
        source: Name of the template in error messages.

    Returns:
        The rig on the template, with the regions and landmarks of the reference.

    Raises:
        InputError: The template has another topology.
    """
    base = reference.template
    if not has_same_topology(template, reference):
        raise InputError(
            f"{source}: its topology differs from the rig's ({len(base.vertices)} vertices, in the rig's order)"
        )
    scale, rotation = fit_scale_and_rotation(base.vertices, template.vertices)
    offsets = scale * (reference.offsets @ rotation.T.astype(np.float32))
    colors = base.colors if template.colors is None else template.colors
    appearance = template.appearance
    if appearance is None and np.array_equal(template.faces, base.faces):
        appearance = base.appearance
    transferred = replace(
        template,
        colors=colors,
        preview_colors=base.preview_colors,
        appearance=appearance,
        regions=base.regions,
        landmarks=base.landmarks,
        shapes={},
    )
    upright = base.vertices if reference.upright_vertices is None else reference.upright_vertices
    rig = Rig(transferred, reference.shape_names, offsets.astype(np.float32), upright_vertices=upright)
    return replace(rig, mouth_gain=compute_mouth_gain(rig, reference) * reference.mouth_gain)


def has_same_topology(template: Template, reference: Rig) -> bool:
    """Return whether the template has the vertex count of the reference rig and shares its edges: at least 90 % of its
    own are the rig's, and it has at least half of the rig's."""
    if len(template.vertices) != len(reference.template.vertices):
        return False
    own, kept = shared_edges(template, reference)
    return own >= 0.9 and kept >= 0.5


def shared_edges(template: Template, reference: Rig) -> tuple[float, float]:
    """Return the share of the template's edges that the reference rig has, and the share of the rig's that it has."""
    edges, base_edges = (
        {(a, b) for a, b in unique_edges(f).tolist()} for f in (template.faces, reference.template.faces)
    )
    common = len(edges & base_edges)
    return common / max(len(edges), 1), common / max(len(base_edges), 1)


def fit_scale_and_rotation(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Fit the least-squares scale and rotation from source to target points (V, 3) (Umeyama 1991).

    Returns:
        The scale factor, and the rotation (3, 3), which includes a reflection if the target is mirrored.
    """
    a = source - source.mean(0)
    b = target - target.mean(0)
    left, size, right = np.linalg.svd(b.T.astype(np.float64) @ a)
    return float(size.sum() / (a**2).sum()), left @ right


def compute_mouth_gain(rig: Rig, reference: Rig) -> float:
    """Compute the factor on jaw and mouth weights that makes `rig` open its mouth as wide as `reference`.

    With it, jawOpen separates the lips by the same share of the mouth's width as on `reference`. The factor is
    clipped to [0.5, 2].
    """
    shares = []
    for one in (rig, reference):
        t, jaw = one.template, one.offsets[one.index["jawOpen"]]
        marks = t.landmarks
        width = np.linalg.norm(t.vertices[marks["mouth_left"]] - t.vertices[marks["mouth_right"]])
        opening = jaw[marks["lip_inner_lower"]] - jaw[marks["lip_inner_upper"]]
        shares.append(float(np.linalg.norm(opening)) / max(float(width), 1e-12))
    return float(np.clip(shares[1] / max(shares[0], 1e-6), 0.5, 2.0))
