"""A mesh that brings its own blendshapes: those are driven, and what they lack is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.attachments import add_head_rotations
from kmtalk.face.fit_report import FitReport, measure_lip_opening
from kmtalk.face.registration import fit_similarity
from kmtalk.face.rig import (
    ARKIT_NAMES,
    HEAD_NAMES,
    MOUTH_SEAL,
    NativeShapes,
    Rig,
    compute_mouth_gain,
    fit_scale_and_rotation,
)
from kmtalk.face.shape_names import match_shape_names
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template
from kmtalk.face.work_mesh import Measurements

MIN_ARKIT_SHAPES = 15  # ARKit shapes from which a face can be driven by their names
MIN_VISEMES = 5  # and visemes
REQUIRED_SHAPES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight")
"""ARKit shapes that show where on a mesh mouth and eyes are."""
LIP_SEAL_WEIGHT = 100.0  # where lips are to meet, meeting counts more than where the chin is
SPEECH_SHAPES = (
    *("jawOpen", "mouthFunnel", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthPucker", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
)
"""ARKit's shapes that speech is made of."""
MOUTH_CLOSE_SCALE_RANGE = (0.5, 2.0)  # by what the file's mouthClose is scaled so that its lips meet


def has_arkit_shapes(template: Template) -> bool:
    """Whether the file's ARKit shapes suffice, without knowing the face."""
    known = {meaning: template.shapes[name] for name, meaning in _recognized_shapes(template).items()}
    if len(set(known) & set(ARKIT_NAMES)) < MIN_ARKIT_SHAPES or not set(REQUIRED_SHAPES) <= set(known):
        return False
    return not any(np.array_equal(known[f"{name}Left"], known[f"{name}Right"]) for name in ("mouthSmile", "eyeBlink"))


def _recognized_shapes(template: Template) -> dict[str, str]:
    """The file's shapes of the face that move anything: name → meaning."""
    return match_shape_names(name for name, offsets in template.shapes.items() if np.abs(offsets).max() > 0)


def has_viseme_shapes(template: Template) -> bool:
    """Whether it has visemes, or too few ARKit shapes to go by their names alone."""
    return len(_recognized_shapes(template)) >= MIN_VISEMES


def rig_from_arkit_shapes(
    template: Template, atlas: SourceHead, landmarks: Mapping[str, np.ndarray] | None = None
) -> tuple[Rig, FitReport]:
    """The rig of a mesh with ARKit shapes: each drives its own; a missing one is the combination of those
    there that comes nearest to it on the atlas (non-negative least squares). Where mouth and eyes are is
    told from what the shapes move, unless ``landmarks`` (3,) by name say."""
    brought = _collect_file_shapes(template)
    arkit = [k for k, meaning in enumerate(brought.meanings) if meaning in atlas.rig.index]
    basis = atlas.rig.offsets[[atlas.rig.index[brought.meanings[k]] for k in arkit]]
    mix, made = _mix_shapes(atlas.rig, brought, basis, arkit)
    meant = dict(zip(brought.meanings, brought.offsets, strict=True))
    marks = _landmarks_from_shapes(template, meant)
    vertices = template.vertices.astype(np.float64)
    if landmarks:
        nearest = cKDTree(vertices).query(np.array(list(landmarks.values())))[1]
        marks |= dict(zip(landmarks, nearest.tolist(), strict=True))
    across = vertices[marks["mouth_left"]] - vertices[marks["mouth_right"]]
    pairs = _find_lip_pairs(template.display_name, vertices, meant, across)
    laid = fit_similarity(np.array([atlas.landmarks[n] for n in marks]), vertices[list(marks.values())])
    head = np.zeros((len(atlas.rig.names), len(vertices), 3), np.float32)
    add_head_rotations(atlas, laid, vertices, head)
    return _build_native_rig(template, atlas, brought, mix, head, marks, pairs, laid.rotation, made)


def rig_from_visemes(template: Template, atlas: SourceHead, fitted: Rig, report: FitReport) -> tuple[Rig, FitReport]:
    """The rig of a mesh with visemes: ``fitted`` is the atlas's rig as it was carried onto it; each of its
    shapes that the file does not name is made of the file's own by non-negative least squares."""
    brought = _collect_file_shapes(template)
    mix, made = _mix_shapes(fitted, brought, brought.offsets, list(range(len(brought.names))))
    t = fitted.template
    rotation = np.eye(3)
    if fitted.upright_vertices is not None:
        rotation = fit_scale_and_rotation(fitted.upright_vertices, t.vertices)[1]
    marks, pairs = dict(t.landmarks), t.regions["lip_pairs"]
    tinted = replace(template, preview_colors=t.preview_colors)
    rig, own = _build_native_rig(tinted, atlas, brought, mix, fitted.offsets, marks, pairs, rotation, made, t.regions)
    facts: Measurements = dict(report.measurements) | dict(own.measurements)
    trust = "low" if report.confidence == "low" else own.confidence
    remarks = tuple(r for r in report.notes if MOUTH_SEAL not in r)
    if MOUTH_SEAL in fitted.index:
        remarks += ("the mouth is open at rest, and its own shapes alone move it: it may not close for speech",)
    return rig, replace(
        own, confidence=trust, warnings=report.warnings + own.warnings, notes=remarks, measurements=facts
    )


@dataclass(frozen=True)
class _FileShapes:
    """The file's shapes of the face: their names (K,), what they mean, and offsets (K, V, 3)."""

    names: tuple[str, ...]
    meanings: tuple[str, ...]
    offsets: np.ndarray


def _collect_file_shapes(template: Template) -> _FileShapes:
    known = _recognized_shapes(template)
    offsets = np.stack([template.shapes[name] for name in known]).astype(np.float32)
    return _FileShapes(tuple(known), tuple(known.values()), offsets)


def _mix_shapes(
    rig: Rig, brought: _FileShapes, basis: np.ndarray, columns: list[int]
) -> tuple[np.ndarray, dict[str, float]]:
    """What of each of the file's shapes every shape of ``rig`` is (R, K): itself where the file has it, else a
    mixture of ``basis``, which are the file's shapes ``columns`` on the rig's mesh; and how well those explain it."""
    pairs = rig.template.regions["lip_pairs"]
    mix = np.zeros((len(rig.index), len(brought.names)))
    made: dict[str, float] = {}
    for name, row in rig.index.items():
        if name in brought.meanings:
            mix[row, brought.meanings.index(name)] = 1.0
        elif name not in (*HEAD_NAMES, MOUTH_SEAL, "mouthClose"):
            mix[row, columns], made[name] = solve_shape_mixture(basis, rig.offsets[row], pairs)
    jaw, close = rig.index["jawOpen"], rig.index["mouthClose"]
    if "mouthClose" not in brought.meanings:
        both = rig.offsets[jaw] + rig.offsets[close]
        sealed, made["mouthClose"] = solve_shape_mixture(basis, both, pairs, LIP_SEAL_WEIGHT)
        mix[close, columns] = sealed - mix[jaw, columns]  # instead of the open jaw, not on top of it
    return mix, made


def solve_shape_mixture(
    basis: np.ndarray, wanted: np.ndarray, pairs: np.ndarray, gap_weight: float = 1.0
) -> tuple[np.ndarray, float]:
    """Weights (K,) in [0, 1] of shapes (K, V, 3) that come nearest to ``wanted`` (V, 3), and the share of its
    motion that they explain. By how much the lips' ``pairs`` (P, 2) part counts as all the rest does,
    times ``gap_weight``: an eye sees the mouth's opening first."""
    flat, goal = basis.reshape(len(basis), -1).astype(np.float64), wanted.ravel().astype(np.float64)
    total = float((goal**2).sum())
    if total == 0:
        return np.zeros(len(basis)), 1.0
    gaps = (basis[:, pairs[:, 1]] - basis[:, pairs[:, 0]]).reshape(len(basis), -1).astype(np.float64)
    gap = (wanted[pairs[:, 1]] - wanted[pairs[:, 0]]).ravel().astype(np.float64)
    scale = gap_weight * total / max(float((gaps**2).sum(1).max()), 1e-30)
    # the normal equations' factor: as small as the number of shapes, whatever the mesh
    gram = flat @ flat.T + scale * gaps @ gaps.T
    gram += 1e-9 * max(float(np.trace(gram)), 1e-30) * np.eye(len(gram))
    root = np.linalg.cholesky(gram)
    weights, _ = nnls(root.T, np.linalg.solve(root, flat @ goal + scale * gaps @ gap))
    weights = np.clip(weights, 0, 1)
    left = float(((weights @ flat - goal) ** 2).sum())
    return np.where(weights < 0.01, 0, weights), max(0.0, 1 - left / total)


def _build_native_rig(
    template: Template,
    atlas: SourceHead,
    brought: _FileShapes,
    mix: np.ndarray,
    head: np.ndarray,
    marks: dict[str, int],
    pairs: np.ndarray,
    rotation: np.ndarray,
    made: Mapping[str, float],
    regions: Mapping[str, np.ndarray] | None = None,
) -> tuple[Rig, FitReport]:
    """The rig whose shapes are mixtures of the file's own, with head turns added to those."""
    names, mix = brought.names, mix[: len(atlas.rig.names)]
    turns = [name for name in HEAD_NAMES if name not in names]
    rows = [atlas.rig.index[name] for name in turns]
    own = np.concatenate([brought.offsets, head[rows]])
    wide = np.zeros((len(mix), len(own)))
    wide[:, : mix.shape[1]] = mix
    wide[rows, np.arange(mix.shape[1], len(own))] = 1.0
    jaw, close = atlas.rig.index["jawOpen"], atlas.rig.index["mouthClose"]
    motion = np.linalg.norm(own[: mix.shape[1]], axis=2)
    mouth = np.flatnonzero((motion > 0.25 * motion.max()).any(0))
    places = dict(regions) if regions is not None else _regions_from_shapes(template, own, wide, atlas, pairs)
    dressed = replace(template, regions=places | {"mouth": mouth}, landmarks=marks, shapes={})
    scale = _mouth_close_scale(own, wide, jaw, close, pairs)
    wide[close] = np.where(wide[close] > 0, scale * wide[close], wide[close])
    offsets = np.einsum("rk,kvx->rvx", wide, own).astype(np.float32)
    upright = (template.vertices - template.vertices.mean(0)) @ rotation
    rig = Rig(
        dressed,
        atlas.rig.names,
        offsets,
        upright.astype(np.float32),
        native_shapes=NativeShapes((*names, *turns), own, wide),
    )
    rig = replace(rig, mouth_gain=compute_mouth_gain(rig, atlas.rig))
    opened, left = measure_lip_opening(rig)
    doubts = []
    if left > 0.1 * opened:
        doubts.append(f"its lips stay apart by {left / max(opened, 1e-9):.0%} of the opening where they should meet")
    poor = sorted(name for name, share in made.items() if share < 0.5 and name in SPEECH_SHAPES)
    if poor:
        doubts.append(f"its shapes cannot make {', '.join(poor)}: the mouth speaks without")
    facts: Measurements = {
        "own_shapes": len(names),
        "driven_by_name": int(sum(mix[r].max() == 1.0 and (mix[r] > 0).sum() == 1 for r in range(len(mix)))),
        "made_of_others": ", ".join(f"{n} {s:.0%}" for n, s in sorted(made.items()) if s >= 0.05) or "none",
        "not_reached": ", ".join(poor) or "none",
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "opening_of_mouth": round(opened, 3),
        "left_open_of_opening": round(left / max(opened, 1e-9), 4),
        "mouth_gain": round(rig.mouth_gain, 3),
    }
    return rig, FitReport("own shapes", "medium" if doubts else "high", tuple(doubts), (), facts)


def _mouth_close_scale(own: np.ndarray, mix: np.ndarray, jaw: int, close: int, pairs: np.ndarray) -> float:
    """By what the file's mouthClose is multiplied so that it answers the file's jawOpen."""
    if not (mix[close] > 0).any() or (mix[close] < 0).any():
        return 1.0
    middle = pairs[len(pairs) // 3 : len(pairs) - len(pairs) // 3]
    gap = own[:, middle[:, 1]] - own[:, middle[:, 0]]
    opened = np.einsum("k,kpx->px", mix[jaw], gap)
    closed = np.einsum("k,kpx->px", mix[close], gap)
    along = float((closed * opened).sum())
    return float(np.clip(-(opened**2).sum() / along, *MOUTH_CLOSE_SCALE_RANGE)) if along < 0 else 1.0


def _landmarks_from_shapes(template: Template, shapes: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Landmarks of a face nobody has looked at, from what its shapes move."""
    v = template.vertices.astype(np.float64)
    motion = {name: np.linalg.norm(offsets, axis=1) for name, offsets in shapes.items()}
    left, right = (int(motion[f"mouthSmile{s}"].argmax()) for s in ("Left", "Right"))
    pairs = _find_lip_pairs(template.display_name, v, shapes, v[left] - v[right], least=0.05)
    left, right = int(pairs[-1, 0]), int(pairs[0, 0])  # the ends of the rim are its corners
    middle = (v[left] + v[right]) / 2
    nearest = pairs[np.linalg.norm(v[pairs].mean(1) - middle, axis=1).argmin()]
    eyes = {s: motion[f"eyeBlink{s}"] > 0.2 * motion[f"eyeBlink{s}"].max() for s in ("Left", "Right")}
    centre = {s: v[which].mean(0) for s, which in eyes.items()}
    outer = {}
    for s, other in (("Left", "Right"), ("Right", "Left")):
        index = np.flatnonzero(eyes[s])
        outer[s] = int(index[((v[index] - centre[s]) @ (centre[s] - centre[other])).argmax()])
    up = (centre["Left"] + centre["Right"]) / 2 - middle
    up /= np.linalg.norm(up)
    drop = shapes["jawOpen"] @ -up
    moving = np.flatnonzero(drop > 0.6 * drop.max())
    across = (v[left] - v[right]) / np.linalg.norm(v[left] - v[right])
    forward = np.cross(across, up)
    chin = int(moving[(v[moving] @ (forward - 0.6 * up) - 2 * np.abs((v[moving] - middle) @ across)).argmax()])
    still = np.flatnonzero(
        (motion["jawOpen"] < 0.1 * motion["jawOpen"].max())
        & (np.abs((v - middle) @ across) < 0.1 * np.linalg.norm(v[left] - v[right]))
    )
    height = (v[still] - middle) @ up / max(float((centre["Left"] - middle) @ up), 1e-9)
    between = still[(height > 0.2) & (height < 0.9)]
    out = {
        "lip_inner_upper": int(nearest[0]),
        "lip_inner_lower": int(nearest[1]),
        "mouth_left": left,
        "mouth_right": right,
    }
    out |= {"chin": chin, "eye_outer_left": outer["Left"], "eye_outer_right": outer["Right"]}
    if len(between):
        nose = int(between[(v[between] @ forward).argmax()])
        out["nose_tip"] = nose
        philtrum = still[((v[still] - v[nose]) @ up < 0) & (height > 0.05)]
        philtrum = philtrum[(v[philtrum] - middle) @ forward > 0]  # not the roof of the mouth
        # the deepest point between nose tip and lip is where the columella meets the lip
        depth = v[philtrum] @ forward + 0.3 * np.abs((v[philtrum] - v[nose]) @ up)
        out["subnasale"] = int(philtrum[depth.argmin()]) if len(philtrum) else nose
    else:
        out["nose_tip"] = out["subnasale"] = int(nearest[0])
    return out


def _find_lip_pairs(
    name: str, vertices: np.ndarray, shapes: Mapping[str, np.ndarray], across: np.ndarray, least: float = 0.3
) -> np.ndarray:
    """Pairs (P, 2) of vertices of upper and lower lip that lie close together and that jawOpen parts by at
    least a share ``least`` of the most, in their order along ``across`` (3,), from the right corner to the left.

    Lips are what the shapes of the lips move: jawOpen alone parts teeth as well.
    """

    def moved(start: tuple[str, ...], share: float) -> np.ndarray:
        found = [np.linalg.norm(offsets, axis=1) for shape, offsets in shapes.items() if shape.startswith(start)]
        amount = np.max(found, axis=0) if found else np.ones(len(vertices))
        return amount > share * amount.max()

    jaw = np.linalg.norm(shapes["jawOpen"], axis=1)
    lips = moved(("mouthPucker", "mouthFunnel", "mouthSmile"), 0.15)
    low = np.flatnonzero(lips & (jaw > 0.35 * jaw.max()) & moved(("mouthLowerDown",), 0.25))
    high = np.flatnonzero(lips & (jaw < 0.45 * jaw.max()) & moved(("mouthUpperUp",), 0.25))
    if len(low) < 3 or len(high) < 3:
        low, high = np.flatnonzero(lips & (jaw > 0.5 * jaw.max())), np.flatnonzero(lips & (jaw < 0.3 * jaw.max()))
    if not len(low) or not len(high):
        raise InputError(
            f"{name}: its shapes part no lips (jawOpen, mouthPucker); repair them, or give it as a bare mesh"
        )
    away, nearest = cKDTree(vertices[high]).query(vertices[low])
    close = np.flatnonzero(away < np.percentile(away, 2) + 0.04 * np.linalg.norm(across))
    pairs = np.stack([high[nearest[close]], low[close]], axis=1)
    parted = np.linalg.norm(shapes["jawOpen"][pairs[:, 1]] - shapes["jawOpen"][pairs[:, 0]], axis=1)
    pairs = pairs[parted > least * parted.max()]
    return pairs[np.argsort(vertices[pairs].mean(1) @ across)]


def _regions_from_shapes(
    template: Template, own: np.ndarray, mix: np.ndarray, atlas: SourceHead, pairs: np.ndarray
) -> dict[str, np.ndarray]:
    """Regions from what the shapes move."""
    offsets = np.einsum("rk,kvx->rvx", mix, own)
    motion = np.linalg.norm(offsets, axis=2)

    def moved(start: tuple[str, ...], share: float) -> np.ndarray:
        rows = [r for r, name in enumerate(atlas.rig.names) if name.startswith(start)]
        amount = motion[rows].max(0)
        return np.flatnonzero(amount > share * max(float(amount.max()), 1e-12))

    lips = moved(("mouthPucker", "mouthFunnel"), 0.6)
    jaw = motion[atlas.rig.index["jawOpen"]]
    return {
        "skin": np.arange(len(template.vertices)),
        "lips": lips if len(lips) else np.unique(pairs),
        "inner_lips": np.unique(pairs),
        "upper_face": moved(("brow", "eyeBlink"), 0.25),
        "chin": np.flatnonzero(jaw > 0.8 * jaw.max()),
        "lip_pairs": pairs,
    }
