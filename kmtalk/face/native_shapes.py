"""Rigs for meshes with their own blendshapes: missing shapes are approximated by mixtures of the file's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.attachments import add_head_rotations, carry_lashes, carry_with_jaw
from kmtalk.face.fit_report import FitReport, measure_lip_opening
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.registration import fit_similarity
from kmtalk.face.rig import ARKIT_NAMES, MOUTH_SEAL, NativeShapes, Rig, compute_mouth_gain, fit_scale_and_rotation
from kmtalk.face.shape_matching import FileShapes, add_shapes_of_still_parts, shapes_by_name
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template
from kmtalk.face.weight_solver import solve_bounded
from kmtalk.face.work_mesh import Measurements

MIN_ARKIT_SHAPES = 15  # least number of ARKit shapes to drive a face by their names
MIN_VISEMES = 5  # least number of recognized shapes, visemes included, to drive a face by mixtures
REQUIRED_SHAPES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeBlinkRight")
"""ARKit shapes that locate the mouth and the eyes on a mesh."""

LIP_SEAL_WEIGHT = 100.0  # weight of the lips' gap, relative to all other motion, in a mixture that must close them
SPEECH_SHAPES = (
    *("jawOpen", "mouthFunnel", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthPucker", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
)
"""ARKit shapes that speech needs."""

MOUTH_CLOSE_SCALE_RANGE = (0.5, 2.0)  # limits of the factor on the file's mouthClose that makes its lips meet


def has_arkit_shapes(template: Template) -> bool:
    """True if the file has enough ARKit shapes, with left and right apart, to build a rig without a fit."""
    file_shapes = shapes_by_name(template)
    meanings = dict(zip(file_shapes.meanings, file_shapes.meaning_offsets(), strict=True))
    if len(set(meanings) & set(ARKIT_NAMES)) < MIN_ARKIT_SHAPES or not set(REQUIRED_SHAPES) <= set(meanings):
        return False
    return not any(
        np.array_equal(meanings[f"{name}Left"], meanings[f"{name}Right"]) for name in ("mouthSmile", "eyeBlink")
    )


def rig_from_arkit_shapes(
    template: Template, source_head: SourceHead, landmarks: Mapping[str, np.ndarray] | None = None
) -> tuple[Rig, FitReport]:
    """Build the rig of a mesh with ARKit shapes.

    Each shape in the file is used as it is; a missing one is the combination of the others that is nearest to it on
    the source head (least squares with weights in [0, 1]).

    Args:
        template: The mesh with its blendshapes.
        source_head: The source head.
        landmarks: Landmark name → point (3,) in the mesh's units; others are located from the vertices that the
            shapes move.

    Returns:
        The rig and its report.

    Raises:
        InputError: If the shapes move no lips.
    """
    file_shapes = shapes_by_name(template)
    columns = [k for k, meaning in enumerate(file_shapes.meanings) if meaning in source_head.rig.index]
    basis = source_head.rig.offsets[[source_head.rig.index[file_shapes.meanings[k]] for k in columns]]
    mix, explained = _mix_shapes(source_head.rig, file_shapes, basis, columns)
    shapes_by_meaning = dict(zip(file_shapes.meanings, file_shapes.meaning_offsets(), strict=True))
    vertex_landmarks = _landmarks_from_shapes(template, shapes_by_meaning)
    vertices = template.vertices.astype(np.float64)
    if landmarks:
        nearest = cKDTree(vertices).query(np.array(list(landmarks.values())))[1]
        vertex_landmarks |= dict(zip(landmarks, nearest.tolist(), strict=True))
    across = vertices[vertex_landmarks["mouth_left"]] - vertices[vertex_landmarks["mouth_right"]]
    pairs = _find_lip_pairs(template.display_name, vertices, shapes_by_meaning, across)
    similarity = fit_similarity(
        np.array([source_head.landmarks[n] for n in vertex_landmarks]), vertices[list(vertex_landmarks.values())]
    )
    jaw = file_shapes.meanings.index("jawOpen")
    carried = carry_with_jaw(source_head, similarity, template, shapes_by_meaning["jawOpen"], vertex_landmarks["chin"])
    file_shapes.offsets[file_shapes.parts[jaw].argmax()] += carried
    carry_lashes(template, file_shapes.offsets)
    head_offsets = np.zeros((len(source_head.rig.shape_names), len(vertices), 3), np.float32)
    add_head_rotations(source_head, similarity, vertices, head_offsets)
    return _build_native_rig(
        template, source_head, file_shapes, mix, head_offsets, vertex_landmarks, pairs, similarity.rotation, explained
    )


def rig_from_visemes(
    template: Template, source_head: SourceHead, fitted: Rig, report: FitReport, file_shapes: FileShapes
) -> tuple[Rig, FitReport]:
    """Build the rig of a mesh with visemes.

    Each shape of the fitted rig that the file lacks is approximated by a mixture of the file's own shapes
    (least squares with weights in [0, 1]).

    Args:
        template: The mesh with its blendshapes.
        source_head: The source head.
        fitted: The source head's rig, fitted to the bare mesh.
        report: The report of that fit.
        file_shapes: The file's shapes.

    Returns:
        The rig and its report.
    """
    basis = file_shapes.meaning_offsets()
    mix, explained = _mix_shapes(fitted, file_shapes, basis, list(range(len(basis))))
    file_shapes, mix = add_shapes_of_still_parts(template, file_shapes, mix, fitted)
    t = fitted.template
    rotation = np.eye(3)
    if fitted.upright_vertices is not None:
        rotation = fit_scale_and_rotation(fitted.upright_vertices, t.vertices)[1]
    vertex_landmarks, pairs = dict(t.landmarks), t.regions["lip_pairs"]
    tinted = replace(template, preview_colors=t.preview_colors)
    rig, own_report = _build_native_rig(
        tinted, source_head, file_shapes, mix, fitted.offsets, vertex_landmarks, pairs, rotation, explained, t.regions
    )
    measurements: Measurements = dict(report.measurements) | dict(own_report.measurements)
    confidence = "low" if report.confidence == "low" else own_report.confidence
    notes = tuple(r for r in report.notes if MOUTH_SEAL not in r)
    if MOUTH_SEAL in fitted.index:
        notes += ("the mouth is open at rest; the mesh moves by its own shapes alone, so it may not close for speech",)
    return rig, replace(
        own_report,
        confidence=confidence,
        warnings=report.warnings + own_report.warnings,
        notes=notes,
        measurements=measurements,
    )


def _mix_shapes(
    rig: Rig, file_shapes: FileShapes, basis: np.ndarray, columns: list[int]
) -> tuple[np.ndarray, dict[str, float]]:
    """Express each shape of a rig by the file's shapes: by itself where the file has it, else by a mixture.

    Args:
        rig: Rig with R shapes.
        file_shapes: The file's K shapes, which make up G standard ones.
        basis: Those of the standard shapes that mixtures use (B, V, 3), on the rig's mesh.
        columns: Their indices (B,) among the standard shapes.

    Returns:
        Weights (R, K) of the file's shapes, and for each mixture the share of the shape's motion that it explains.
    """
    pairs = rig.template.regions["lip_pairs"]
    mix = np.zeros((len(rig.index), len(file_shapes.meanings)))
    explained: dict[str, float] = {}
    for name, row in rig.index.items():
        if name in file_shapes.meanings:
            mix[row, file_shapes.meanings.index(name)] = 1.0
        elif name not in (*HEAD_NAMES, MOUTH_SEAL, "mouthClose"):
            mix[row, columns], explained[name] = solve_shape_mixture(basis, rig.offsets[row], pairs)
    jaw, close = rig.index["jawOpen"], rig.index["mouthClose"]
    if "mouthClose" not in file_shapes.meanings:
        closed_target = rig.offsets[jaw] + rig.offsets[close]
        closed_weights, explained["mouthClose"] = solve_shape_mixture(basis, closed_target, pairs, LIP_SEAL_WEIGHT)
        mix[close, columns] = (
            closed_weights - mix[jaw, columns]
        )  # so that jawOpen and mouthClose together give the closed mouth
    return mix @ file_shapes.parts, explained


def solve_shape_mixture(
    basis: np.ndarray, target: np.ndarray, pairs: np.ndarray, gap_weight: float = 1.0
) -> tuple[np.ndarray, float]:
    """Approximate a shape by a mixture of others (least squares with weights in [0, 1]).

    The gaps between the lips count as much as all other motion, times `gap_weight`, because viewers notice the
    mouth's opening first.

    Args:
        basis: Shapes (K, V, 3).
        target: The shape (V, 3) to approximate.
        pairs: Vertices (P, 2) on upper and lower lip that touch.
        gap_weight: Factor on the weight of the lips' gaps.

    Returns:
        Weights (K,) in [0, 1], and the share of the shape's squared motion that the mixture explains.
    """
    flat_basis, flat_target = basis.reshape(len(basis), -1).astype(np.float64), target.ravel().astype(np.float64)
    total = float((flat_target**2).sum())
    if total == 0:
        return np.zeros(len(basis)), 1.0
    basis_gaps = (basis[:, pairs[:, 1]] - basis[:, pairs[:, 0]]).reshape(len(basis), -1).astype(np.float64)
    target_gap = (target[pairs[:, 1]] - target[pairs[:, 0]]).ravel().astype(np.float64)
    scale = gap_weight * total / max(float((basis_gaps**2).sum(1).max()), 1e-30)
    # the normal equations are (K, K), however large the mesh is
    gram = flat_basis @ flat_basis.T + scale * basis_gaps @ basis_gaps.T
    gram += 1e-9 * max(float(np.trace(gram)), 1e-30) * np.eye(len(gram))
    weights = solve_bounded(gram, (flat_basis @ flat_target + scale * basis_gaps @ target_gap)[None])[0]
    residual = float(((weights @ flat_basis - flat_target) ** 2).sum())
    return np.where(weights < 0.01, 0, weights), max(0.0, 1 - residual / total)


def _build_native_rig(
    template: Template,
    source_head: SourceHead,
    file_shapes: FileShapes,
    mix: np.ndarray,
    head_offsets: np.ndarray,
    landmarks: dict[str, int],
    pairs: np.ndarray,
    rotation: np.ndarray,
    explained: Mapping[str, float],
    regions: Mapping[str, np.ndarray] | None = None,
) -> tuple[Rig, FitReport]:
    """The rig whose shapes are mixtures `mix` (R, K) of the file's own; head rotations that it lacks are added."""
    names, mix = file_shapes.names, mix[: len(source_head.rig.shape_names)]
    added_rotations = [name for name in HEAD_NAMES if name not in names]
    rows = [source_head.rig.index[name] for name in added_rotations]
    native_offsets = np.concatenate([file_shapes.offsets, head_offsets[rows]])
    mixing_matrix = np.zeros((len(mix), len(native_offsets)))
    mixing_matrix[:, : mix.shape[1]] = mix
    mixing_matrix[rows, np.arange(mix.shape[1], len(native_offsets))] = 1.0
    jaw, close = source_head.rig.index["jawOpen"], source_head.rig.index["mouthClose"]
    motion = np.linalg.norm(native_offsets[: mix.shape[1]], axis=2)
    mouth_vertices = np.flatnonzero((motion > 0.25 * motion.max()).any(0))
    all_regions = (
        dict(regions)
        if regions is not None
        else _regions_from_shapes(template, native_offsets, mixing_matrix, source_head, pairs)
    )
    rig_template = replace(template, regions=all_regions | {"mouth": mouth_vertices}, landmarks=landmarks, shapes={})
    scale = _mouth_close_scale(native_offsets, mixing_matrix, jaw, close, pairs)
    mixing_matrix[close] = np.where(mixing_matrix[close] > 0, scale * mixing_matrix[close], mixing_matrix[close])
    offsets = np.einsum("rk,kvx->rvx", mixing_matrix, native_offsets).astype(np.float32)
    upright = (template.vertices - template.vertices.mean(0)) @ rotation
    rig = Rig(
        rig_template,
        source_head.rig.shape_names,
        offsets,
        upright.astype(np.float32),
        native_shapes=NativeShapes((*names, *added_rotations), native_offsets, mixing_matrix),
    )
    rig = replace(rig, mouth_gain=compute_mouth_gain(rig, source_head.rig))
    opened, remaining_gap = measure_lip_opening(rig)
    warnings = []
    if remaining_gap > 0.1 * opened:
        warnings.append(
            f"the lips do not close: a gap of {remaining_gap / max(opened, 1e-9):.0%} of the opening remains"
        )
    missing = sorted(name for name, share in explained.items() if share < 0.5 and name in SPEECH_SHAPES)
    if missing:
        warnings.append(f"the mesh's shapes cannot form {', '.join(missing)}; speech goes without them")
    measurements: Measurements = {
        "own_shapes": sum(name in template.shapes for name in names),
        "driven_by_name": sum(name in file_shapes.meanings for name in source_head.rig.shape_names),
        "made_of_others": ", ".join(f"{n} {s:.0%}" for n, s in sorted(explained.items()) if s >= 0.05) or "none",
        "not_reached": ", ".join(missing) or "none",
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "opening_of_mouth": round(opened, 3),
        "left_open_of_opening": round(remaining_gap / max(opened, 1e-9), 4),
        "mouth_gain": round(rig.mouth_gain, 3),
    }
    return rig, FitReport("own shapes", "medium" if warnings else "high", tuple(warnings), (), measurements)


def _mouth_close_scale(native_offsets: np.ndarray, mix: np.ndarray, jaw: int, close: int, pairs: np.ndarray) -> float:
    """Factor on the file's mouthClose that makes it close the gap of the file's jawOpen."""
    if not (mix[close] > 0).any() or (mix[close] < 0).any():
        return 1.0
    middle = pairs[len(pairs) // 3 : len(pairs) - len(pairs) // 3]
    gap = native_offsets[:, middle[:, 1]] - native_offsets[:, middle[:, 0]]
    opened = np.einsum("k,kpx->px", mix[jaw], gap)
    closed = np.einsum("k,kpx->px", mix[close], gap)
    overlap = float((closed * opened).sum())
    return float(np.clip(-(opened**2).sum() / overlap, *MOUTH_CLOSE_SCALE_RANGE)) if overlap < 0 else 1.0


def _landmarks_from_shapes(template: Template, shapes: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Landmark name → vertex index, located from the vertices that the shapes move."""
    v = template.vertices.astype(np.float64)
    motion = {name: np.linalg.norm(offsets, axis=1) for name, offsets in shapes.items()}
    left, right = (int(motion[f"mouthSmile{s}"].argmax()) for s in ("Left", "Right"))
    pairs = _find_lip_pairs(template.display_name, v, shapes, v[left] - v[right], min_share=0.05)
    left, right = int(pairs[-1, 0]), int(pairs[0, 0])  # the ends of the lip rim are the mouth's corners
    middle = (v[left] + v[right]) / 2
    nearest = pairs[np.linalg.norm(v[pairs].mean(1) - middle, axis=1).argmin()]
    eyes = {s: motion[f"eyeBlink{s}"] > 0.2 * motion[f"eyeBlink{s}"].max() for s in ("Left", "Right")}
    centre = {s: v[mask].mean(0) for s, mask in eyes.items()}
    outer = {}
    for s, other in (("Left", "Right"), ("Right", "Left")):
        index = np.flatnonzero(eyes[s])
        outer[s] = int(index[((v[index] - centre[s]) @ (centre[s] - centre[other])).argmax()])
    up = (centre["Left"] + centre["Right"]) / 2 - middle
    up /= np.linalg.norm(up)
    drop = shapes["jawOpen"] @ -up
    jaw_vertices = np.flatnonzero(drop > 0.6 * drop.max())
    across = (v[left] - v[right]) / np.linalg.norm(v[left] - v[right])
    forward = np.cross(across, up)
    chin = int(
        jaw_vertices[
            (v[jaw_vertices] @ (forward - 0.6 * up) - 2 * np.abs((v[jaw_vertices] - middle) @ across)).argmax()
        ]
    )
    midline = np.flatnonzero(
        (motion["jawOpen"] < 0.1 * motion["jawOpen"].max())
        & (np.abs((v - middle) @ across) < 0.1 * np.linalg.norm(v[left] - v[right]))
    )
    height = (v[midline] - middle) @ up / max(float((centre["Left"] - middle) @ up), 1e-9)
    nose_candidates = midline[(height > 0.2) & (height < 0.9)]
    landmarks = {
        "lip_inner_upper": int(nearest[0]),
        "lip_inner_lower": int(nearest[1]),
        "mouth_left": left,
        "mouth_right": right,
    }
    landmarks |= {"chin": chin, "eye_outer_left": outer["Left"], "eye_outer_right": outer["Right"]}
    if len(nose_candidates):
        nose = int(nose_candidates[(v[nose_candidates] @ forward).argmax()])
        landmarks["nose_tip"] = nose
        philtrum = midline[((v[midline] - v[nose]) @ up < 0) & (height > 0.05)]
        philtrum = philtrum[(v[philtrum] - middle) @ forward > 0]  # excludes the roof of the mouth
        # the columella meets the lip at the deepest point between nose tip and lip
        depth = v[philtrum] @ forward + 0.3 * np.abs((v[philtrum] - v[nose]) @ up)
        landmarks["subnasale"] = int(philtrum[depth.argmin()]) if len(philtrum) else nose
    else:
        landmarks["nose_tip"] = landmarks["subnasale"] = int(nearest[0])
    return landmarks


def _find_lip_pairs(
    name: str, vertices: np.ndarray, shapes: Mapping[str, np.ndarray], across: np.ndarray, min_share: float = 0.3
) -> np.ndarray:
    """Find pairs of vertices on upper and lower lip that lie close together at rest.

    Lips are the vertices that lip shapes move, because jawOpen parts the teeth as well.

    Args:
        name: What error messages call the mesh.
        vertices: Vertices (V, 3).
        shapes: Standard shape name → offsets (V, 3).
        across: Vector (3,) from the right mouth corner to the left.
        min_share: Least separation of a pair under jawOpen, as a share of the greatest.

    Returns:
        Pairs (P, 2) of vertex indices, upper then lower, from the right corner to the left.
    """

    def moving(start: tuple[str, ...], share: float) -> np.ndarray:
        motions = [np.linalg.norm(offsets, axis=1) for shape, offsets in shapes.items() if shape.startswith(start)]
        amount = np.max(motions, axis=0) if motions else np.ones(len(vertices))
        return amount > share * amount.max()

    jaw = np.linalg.norm(shapes["jawOpen"], axis=1)
    lips = moving(("mouthPucker", "mouthFunnel", "mouthSmile"), 0.15)
    lower_vertices = np.flatnonzero(lips & (jaw > 0.35 * jaw.max()) & moving(("mouthLowerDown",), 0.25))
    upper_vertices = np.flatnonzero(lips & (jaw < 0.45 * jaw.max()) & moving(("mouthUpperUp",), 0.25))
    if len(lower_vertices) < 3 or len(upper_vertices) < 3:
        lower_vertices, upper_vertices = (
            np.flatnonzero(lips & (jaw > 0.5 * jaw.max())),
            np.flatnonzero(lips & (jaw < 0.3 * jaw.max())),
        )
    if not len(lower_vertices) or not len(upper_vertices):
        raise InputError(
            f"{name}: jawOpen and mouthPucker move no lips; repair these shapes, or export the mesh without shapes"
        )
    distance, nearest = cKDTree(vertices[upper_vertices]).query(vertices[lower_vertices])
    touching = np.flatnonzero(distance < np.percentile(distance, 2) + 0.04 * np.linalg.norm(across))
    pairs = np.stack([upper_vertices[nearest[touching]], lower_vertices[touching]], axis=1)
    parted = np.linalg.norm(shapes["jawOpen"][pairs[:, 1]] - shapes["jawOpen"][pairs[:, 0]], axis=1)
    pairs = pairs[parted > min_share * parted.max()]
    return pairs[np.argsort(vertices[pairs].mean(1) @ across)]


def _regions_from_shapes(
    template: Template, native_offsets: np.ndarray, mix: np.ndarray, source_head: SourceHead, pairs: np.ndarray
) -> dict[str, np.ndarray]:
    """Region name → vertex indices, located from the vertices that the shapes move."""
    offsets = np.einsum("rk,kvx->rvx", mix, native_offsets)
    motion = np.linalg.norm(offsets, axis=2)

    def moving(start: tuple[str, ...], share: float) -> np.ndarray:
        rows = [r for r, name in enumerate(source_head.rig.shape_names) if name.startswith(start)]
        amount = motion[rows].max(0)
        return np.flatnonzero(amount > share * max(float(amount.max()), 1e-12))

    lips = moving(("mouthPucker", "mouthFunnel"), 0.6)
    jaw = motion[source_head.rig.index["jawOpen"]]
    return {
        "skin": np.arange(len(template.vertices)),
        "lips": lips if len(lips) else np.unique(pairs),
        "inner_lips": np.unique(pairs),
        "upper_face": moving(("brow", "eyeBlink"), 0.25),
        "chin": np.flatnonzero(jaw > 0.8 * jaw.max()),
        "lip_pairs": pairs,
    }
