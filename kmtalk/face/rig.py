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
from kmtalk.face.template import Template, edges

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


SEAL = "mouthSeal"
"""A shape of fitted rigs alone, held at weight 1 while the face speaks: it closes a mouth that stands open at rest."""


@dataclass(frozen=True)
class Own:
    """Shapes that the user's file brought, which programs that know it drive: ``names`` (K,), ``offsets`` (K, V, 3),
    and ``mix`` (R, K), what of each one of the rig's shapes is."""

    names: tuple[str, ...]
    offsets: np.ndarray
    mix: np.ndarray


@dataclass(frozen=True)
class Rig:
    """Shapes on a template: ``vertices(w) = template.vertices + Σ w[r] · offsets[r]``.

    ``names`` (R,), ``offsets`` (R, V, 3) float32 in the template's units, weights in [0, 1].
    ``upright`` (V, 3) is the same head standing y up and looking along +z, where the template itself
    may be turned; None means that it stands so. ``gain`` multiplies the mouth's weights so that it
    opens by as much of its own width as the default head's does. With ``own``, the mesh moves by its file's
    own shapes alone, and ``offsets`` are what the rig's amount to.
    """

    template: Template
    names: tuple[str, ...]
    offsets: np.ndarray
    upright: np.ndarray | None = None
    gain: float = 1.0
    own: Own | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def played(self, weights: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """What moves the mesh under weights (N, R): names (K,), offsets (K, V, 3) and weights (N, K) in [0, 1]."""
        weights = np.asarray(weights, np.float32)
        if self.own is None:
            return self.names, self.offsets, weights
        mixed = np.clip(weights @ self.own.mix.astype(np.float32), 0, 1)
        return self.own.names, self.own.offsets, mixed

    def vertices(self, weights: np.ndarray) -> np.ndarray:
        """Pose the template: weights (N, R) → vertices (N, V, 3) float32."""
        _, offsets, weights = self.played(weights)
        used = np.flatnonzero(weights.any(0))
        v = self.template.vertices
        basis = offsets[used].reshape(len(used), v.size)
        out: np.ndarray = (weights[:, used] @ basis).reshape(len(weights), *v.shape)
        out += v
        return out

    def perform(self, weights: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Weights (N, R') of the default head's shapes ``names`` → this rig's (N, R) float32: the mouth's are
        multiplied by the gain, and a mouth that stands open at rest is held closed."""
        out = np.zeros((len(weights), len(self.names)), np.float32)
        out[:, [self.index[n] for n in names]] = np.clip(self.scales(names) * weights, 0, 1)
        if SEAL in self.index:
            out[:, self.index[SEAL]] = 1.0
        return out

    def scales(self, names: tuple[str, ...]) -> np.ndarray:
        """By what ``perform`` multiplies the weights of each shape (R',): the gain for the mouth's, 1 for others."""
        return np.array([self.gain if n.startswith(("jaw", "mouth")) else 1.0 for n in names])

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


def rig_for(template: Template, known: Rig, source: str) -> Rig:
    """The known rig's shapes on a template of the same topology, posed and scaled as the template is.

    The template may be any variation of the rig's neutral: another identity, turned, moved, scaled,
    mirrored (as left-handed programs export).
    Raises InputError, naming ``source``, where the topology is another one.
    """
    base = known.template
    if not same_topology(template, known):
        raise InputError(f"{source}: not the known rig's topology ({len(base.vertices)} vertices, in its order)")
    scale, rotation = similarity(base.vertices, template.vertices)
    offsets = scale * (known.offsets @ rotation.T.astype(np.float32))
    colors = base.colors if template.colors is None else template.colors
    dressed = replace(
        template, colors=colors, tint=base.tint, regions=base.regions, landmarks=base.landmarks, shapes={}
    )
    upright = base.vertices if known.upright is None else known.upright
    rig = Rig(dressed, known.names, offsets.astype(np.float32), upright=upright)
    return replace(rig, gain=mouth_gain(rig, known) * known.gain)


def same_topology(template: Template, known: Rig) -> bool:
    """Whether ``rig_for`` would take the template."""
    base = known.template
    if len(template.vertices) != len(base.vertices):
        return False
    theirs, ours = ({(a, b) for a, b in edges(f).tolist()} for f in (template.faces, base.faces))
    return len(theirs & ours) >= 0.9 * len(theirs)


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and rotation (3, 3), with a reflection where there is one, that best carry source points
    (V, 3) onto target (Umeyama 1991)."""
    a = source - source.mean(0)
    b = target - target.mean(0)
    left, size, right = np.linalg.svd(b.T.astype(np.float64) @ a)
    return float(size.sum() / (a**2).sum()), left @ right


def mouth_gain(rig: Rig, known: Rig) -> float:
    """By what the mouth's weights are multiplied on ``rig``, so that jawOpen parts its lips by as much of the
    mouth's width as it does on the known rig; from a half to two."""
    shares = []
    for one in (rig, known):
        t, jaw = one.template, one.offsets[one.index["jawOpen"]]
        marks = t.landmarks
        width = np.linalg.norm(t.vertices[marks["mouth_left"]] - t.vertices[marks["mouth_right"]])
        apart = jaw[marks["lip_inner_lower"]] - jaw[marks["lip_inner_upper"]]
        shares.append(float(np.linalg.norm(apart)) / max(float(width), 1e-12))
    return float(np.clip(shares[1] / max(shares[0], 1e-6), 0.5, 2.0))
