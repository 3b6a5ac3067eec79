"""Rig: named shapes as a linear basis on a template."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from kmtalk.errors import InputError
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
"""The 52 face shapes of ARKit, in alphabetical order."""

SPEECH_NAMES: tuple[str, ...] = (
    "mouthLabiodental",
    "mouthProtrude",
    "tongueTipUp",
    "tongueInterdental",
    "tongueDorsumUp",
)
"""Shapes that speech needs and ARKit lacks."""

HEAD_NAMES: tuple[str, ...] = (
    "headYawLeft",
    "headYawRight",
    "headPitchUp",
    "headPitchDown",
    "headRollLeft",
    "headRollRight",
)
"""Small head rotations, linearised: weight 1 is 10 degrees."""


MOUTH_SEAL = "mouthSeal"
"""A shape of fitted rigs alone, held at weight 1 while the face speaks: it closes a mouth that stands open at rest."""


@dataclass(frozen=True)
class NativeShapes:
    """Shapes that the user's file brought, which programs that know it drive: ``names`` (K,), ``offsets`` (K, V, 3),
    and ``mixing_matrix`` (R, K), what of each one of the rig's shapes is."""

    names: tuple[str, ...]
    offsets: np.ndarray
    mixing_matrix: np.ndarray


@dataclass(frozen=True)
class Rig:
    """Shapes on a template: ``vertices(w) = template.vertices + Σ w[r] · offsets[r]``.

    ``names`` (R,), ``offsets`` (R, V, 3) float32 in the template's units, weights in [0, 1].
    ``upright_vertices`` (V, 3) is the same head standing y up and looking along +z, where the template itself
    may be turned; None means that it stands so. ``mouth_gain`` multiplies the mouth's weights so that it
    opens by as much of its own width as the default head's does. With ``native_shapes``, the mesh moves by its file's
    own shapes alone, and ``offsets`` are what the rig's amount to.
    """

    template: Template
    names: tuple[str, ...]
    offsets: np.ndarray
    upright_vertices: np.ndarray | None = None
    mouth_gain: float = 1.0
    native_shapes: NativeShapes | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def morph_targets(self, weights: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """What moves the mesh under weights (N, R): names (K,), offsets (K, V, 3) and weights (N, K) in [0, 1]."""
        weights = np.asarray(weights, np.float32)
        if self.native_shapes is None:
            return self.names, self.offsets, weights
        mixed = np.clip(weights @ self.native_shapes.mixing_matrix.astype(np.float32), 0, 1)
        return self.native_shapes.names, self.native_shapes.offsets, mixed

    def vertices(self, weights: np.ndarray) -> np.ndarray:
        """Pose the template: weights (N, R) → vertices (N, V, 3) float32."""
        _, offsets, weights = self.morph_targets(weights)
        used = np.flatnonzero(weights.any(0))
        v = self.template.vertices
        basis = offsets[used].reshape(len(used), v.size)
        out: np.ndarray = (weights[:, used] @ basis).reshape(len(weights), *v.shape)
        out += v
        return out

    def retarget(self, weights: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Weights (N, R') of the default head's shapes ``names`` → this rig's (N, R) float32: the mouth's are
        multiplied by the gain, and a mouth that stands open at rest is held closed."""
        out = np.zeros((len(weights), len(self.names)), np.float32)
        out[:, [self.index[n] for n in names]] = np.clip(self.shape_gains(names) * weights, 0, 1)
        if MOUTH_SEAL in self.index:
            out[:, self.index[MOUTH_SEAL]] = 1.0
        return out

    def shape_gains(self, names: tuple[str, ...]) -> np.ndarray:
        """By what ``retarget`` multiplies the weights of each shape (R',): the gain for the mouth's, 1 for others."""
        return np.array([self.mouth_gain if n.startswith(("jaw", "mouth")) else 1.0 for n in names])

    def save(self, path: Path) -> None:
        """Write as safetensors: offsets float16, the rest exact, names and units as metadata."""
        t = self.template
        tensors: dict[str, np.ndarray] = {
            "vertices": t.vertices.astype(np.float32),
            "faces": t.faces.astype(np.int32),
            "offsets": self.offsets.astype(np.float16),
        }
        if t.colors is not None:
            tensors["colors"] = t.colors
        tensors |= {f"region.{name}": np.ascontiguousarray(index, np.int32) for name, index in t.regions.items()}
        facts = {"names": list(self.names), "units": t.units, "name": t.name, "landmarks": dict(t.landmarks)}
        save_file(tensors, path, metadata={"kmtalk": json.dumps(facts, sort_keys=True)})
        path.chmod(0o644)  # safetensors writes for the owner alone


def load_rig(path: Path) -> Rig:
    """Read a rig written by ``Rig.save``; raises InputError where the file is not one."""
    try:
        with safe_open(path, "np") as file:
            facts = json.loads(file.metadata()["kmtalk"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:
        raise InputError(f"{path}: not a kmtalk rig ({error})") from None
    template = Template(
        vertices=tensors["vertices"],
        faces=tensors["faces"],
        units=facts["units"],
        name=facts["name"],
        colors=tensors.get("colors"),
        regions={k.removeprefix("region."): v for k, v in tensors.items() if k.startswith("region.")},
        landmarks=facts["landmarks"],
    )
    return Rig(template, tuple(facts["names"]), tensors["offsets"].astype(np.float32))


def transfer_rig(template: Template, reference: Rig, source: str) -> Rig:
    """The known rig's shapes on a template of the same topology, posed and scaled as the template is.

    The template may be any variation of the rig's neutral: another identity, turned, moved, scaled,
    mirrored (as left-handed programs export).
    Raises InputError, naming ``source``, where the topology is another one.
    """
    base = reference.template
    if not has_same_topology(template, reference):
        raise InputError(f"{source}: not the known rig's topology ({len(base.vertices)} vertices, in its order)")
    scale, rotation = fit_scale_and_rotation(base.vertices, template.vertices)
    offsets = scale * (reference.offsets @ rotation.T.astype(np.float32))
    colors = base.colors if template.colors is None else template.colors
    dressed = replace(
        template,
        colors=colors,
        preview_colors=base.preview_colors,
        regions=base.regions,
        landmarks=base.landmarks,
        shapes={},
    )
    upright = base.vertices if reference.upright_vertices is None else reference.upright_vertices
    rig = Rig(dressed, reference.names, offsets.astype(np.float32), upright_vertices=upright)
    return replace(rig, mouth_gain=compute_mouth_gain(rig, reference) * reference.mouth_gain)


def has_same_topology(template: Template, reference: Rig) -> bool:
    """Whether ``transfer_rig`` would take the template."""
    base = reference.template
    if len(template.vertices) != len(base.vertices):
        return False
    theirs, ours = ({(a, b) for a, b in unique_edges(f).tolist()} for f in (template.faces, base.faces))
    return len(theirs & ours) >= 0.9 * len(theirs)


def fit_scale_and_rotation(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and rotation (3, 3), with a reflection where there is one, that best carry source points
    (V, 3) onto target (Umeyama 1991)."""
    a = source - source.mean(0)
    b = target - target.mean(0)
    left, size, right = np.linalg.svd(b.T.astype(np.float64) @ a)
    return float(size.sum() / (a**2).sum()), left @ right


def compute_mouth_gain(rig: Rig, reference: Rig) -> float:
    """By what the mouth's weights are multiplied on ``rig``, so that jawOpen parts its lips by as much of the
    mouth's width as it does on the known rig; from a half to two."""
    shares = []
    for one in (rig, reference):
        t, jaw = one.template, one.offsets[one.index["jawOpen"]]
        marks = t.landmarks
        width = np.linalg.norm(t.vertices[marks["mouth_left"]] - t.vertices[marks["mouth_right"]])
        apart = jaw[marks["lip_inner_lower"]] - jaw[marks["lip_inner_upper"]]
        shares.append(float(np.linalg.norm(apart)) / max(float(width), 1e-12))
    return float(np.clip(shares[1] / max(shares[0], 1e-6), 0.5, 2.0))
