"""Fit the default head's rig to a bare mesh: landmarks, warp, non-rigid ICP, deformation transfer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.attachments import attach_parts, classify_parts, make_mouth_frame
from kmtalk.face.correspondence import LOWER_LIP_JAW_SHARE, Correspondence, find_correspondence
from kmtalk.face.deformation_transfer import DeformationTransfer
from kmtalk.face.fit_landmarks import FaceNotFoundError, detect_landmarks, match_given_landmarks
from kmtalk.face.fit_regions import locate_regions
from kmtalk.face.fit_report import HUMAN_RESIDUAL, FitReport, assess_fit, rate_confidence
from kmtalk.face.geometry import SurfacePoints
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.lips import Lips, find_lips
from kmtalk.face.registration import (
    RbfWarp,
    SimilarityTransform,
    fit_similarity_robust,
    fit_warp,
    nonrigid_icp,
    nonrigid_icp_amberg,
)
from kmtalk.face.rig import MOUTH_SEAL, Rig, compute_mouth_gain
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template, vertex_normals
from kmtalk.face.work_mesh import Skin, WorkMesh, find_skin, prepare_mesh

OPEN_AT_REST = 0.025  # share of the mouth's width: mouthSeal closes lips that are further apart at rest
OPEN_BY_JAW = 0.12  # share of the mouth's width: if the lips are further apart, mouthSeal closes the jaw as well
SEALED_SHARE = 0.012  # share of the mouth's width: shapes that part the source's lips by less keep the target's closed


@dataclass(frozen=True)
class FittedRig:
    """A rig on the user's mesh.

    Attributes:
        rig: The rig.
        landmarks: Landmarks (L, 3) of the fit, in the mesh's units.
        report: Report on the fit.
    """

    rig: Rig
    landmarks: np.ndarray
    report: FitReport

    def describe(self) -> str:
        """Return one line that says what animates the mesh."""
        native, joints = self.rig.native_shapes, self.rig.template.joints
        if native is not None:
            own, named = (self.report.measurements[key] for key in ("own_shapes", "driven_by_name"))
            moved = f"animated by its own {own} blendshapes"
            moved += (
                f", which stand for {named} of kmtalk's; mixtures approximate the others" if named else ", in mixtures"
            )
        else:
            moved = f"animated by shapes of the default head ({self.report.method})"
        by_part = {joint.part: joint.name for joint in joints}
        if not joints:
            return f"{moved}; the head turns by shapes"
        turned = f"; the head turns on {' and '.join(by_part[p] for p in ('neck', 'head') if p in by_part)}"
        eyes = [by_part[part] for part in ("eye_left", "eye_right") if part in by_part]
        return moved + turned + (f", the eyes on {' and '.join(eyes)}" if eyes else "")


def fit_rig(
    template: Template, source_head: SourceHead, landmarks: Mapping[str, np.ndarray] | None = None, refine: bool = False
) -> FittedRig:
    """Fit the source head's rig to a mesh of any topology, pose and scale.

    Args:
        template: The mesh.
        source_head: The source head.
        landmarks: Landmark name (one of `LANDMARK_NAMES`) → point (3,) in the mesh's units. Without it, a face
            detector finds the landmarks.
        refine: Use the non-rigid ICP of Amberg et al. (2007), which is slower, instead of the default one.

    Returns:
        The fitted rig.

    Raises:
        InputError: If no face is found, fewer than three landmarks lie on the mesh, or the landmarks do not match
            the mesh.
    """
    start = time.perf_counter()
    fitted, lips = _fit(template, prepare_mesh(template), source_head, landmarks, refine)
    if lips is not None and lips.is_fused and fitted.report.measurements["joined_vertices"]:
        # seam welding may have joined lips that touch: fit again without it
        unwelded, unwelded_lips = _fit(template, prepare_mesh(template, weld=False), source_head, landmarks, refine)
        if unwelded_lips is not None and not unwelded_lips.is_fused:
            fitted = unwelded
    measurements = dict(fitted.report.measurements) | {"seconds": round(time.perf_counter() - start, 2)}
    return replace(fitted, report=replace(fitted.report, measurements=measurements))


def _fit(
    template: Template,
    mesh: WorkMesh,
    source_head: SourceHead,
    landmarks: Mapping[str, np.ndarray] | None,
    refine: bool,
) -> tuple[FittedRig, Lips | None]:
    """Fit the rig to a prepared mesh; also returns the target's lips, if any."""
    pairs = (
        match_given_landmarks(template, mesh, source_head, landmarks)
        if landmarks is not None
        else detect_landmarks(template, mesh, source_head)
    )
    warp = fit_warp(pairs.source, pairs.target, exact=pairs.spread is None)
    skin = find_skin(mesh, pairs.target, warp.size)
    warped = warp(source_head.vertices)
    if _is_inside_out(warped, source_head.faces, skin):
        mesh = replace(
            mesh,
            faces=mesh.faces[:, ::-1],
            notes=(*mesh.notes, "its faces point inwards (a mirrored mesh?); their winding is reversed"),
        )
        skin = find_skin(mesh, pairs.target, warp.size)
    matched = find_correspondence(
        warped, source_head.faces, source_head.jaw_motion, skin.vertices, skin.faces, warp.size
    )
    if matched.in_face.sum() < 20:
        raise InputError(f"{template.display_name}: the landmarks do not match the mesh; check their axes and units")
    landmark_points = SurfacePoints(pairs.skin_points.corners[warp.inliers], pairs.skin_points.weights[warp.inliers])
    targets = pairs.target[warp.inliers]
    if refine:
        warped = nonrigid_icp_amberg(warped, source_head.faces, landmark_points, targets, skin.vertices, skin.faces)
    else:
        landmark_matrix = landmark_points.matrix(len(source_head.skin))
        on_lower_lip = source_head.jaw_motion > LOWER_LIP_JAW_SHARE
        warped = nonrigid_icp(
            warped,
            source_head.faces,
            on_lower_lip,
            landmark_matrix,
            targets,
            skin.vertices,
            skin.faces,
            matched.on_lower_lip,
            warp.size,
        )
    matched = find_correspondence(
        warped, source_head.faces, source_head.jaw_motion, skin.vertices, skin.faces, warp.size, matched.on_lower_lip
    )
    lips = find_lips(source_head, warped, skin.vertices, skin.faces, matched, warp.similarity, warp.size)
    residual = fit_similarity_robust(pairs.source, pairs.target)[1]
    if lips is None and landmarks is None and np.median(residual) > HUMAN_RESIDUAL * warp.size:
        raise FaceNotFoundError(f"{template.display_name}: no lips found; pass --landmarks FILE if the mesh has a face")
    names, offsets = _transfer_shapes(source_head, mesh, skin, matched, warp, lips)
    frame = make_mouth_frame(source_head, warped, warp.similarity)
    named_parts = {name: mesh.vertex_map[i][mesh.vertex_map[i] >= 0] for name, i in template.parts.items()}
    parts = classify_parts(source_head, frame, mesh.vertices, mesh.component, skin.all_vertices, named_parts)
    attach_parts(
        source_head, frame, mesh.vertices, mesh.faces, skin.index, parts, offsets[: len(source_head.rig.shape_names)]
    )
    rig_template = locate_regions(template, source_head, mesh, skin, warped, matched, lips, parts, warp.similarity)
    upright = SimilarityTransform(1.0, warp.similarity.rotation, np.zeros(3)).inverse(template.vertices)
    rig = Rig(rig_template, names, mesh.to_file_vertices(offsets), upright_vertices=upright.astype(np.float32))
    if lips is not None:
        rig = replace(rig, mouth_gain=compute_mouth_gain(rig, source_head.rig))

    warnings, measurements = assess_fit(
        source_head, rig, warp, residual, pairs.spread, warped, skin.vertices, matched, lips, len(pairs)
    )
    notes = list(mesh.notes)
    if MOUTH_SEAL in names and lips is not None:
        gap = float(np.median(lips.rest_gap[lips.middle_third])) / lips.width
        notes.append(f"the mouth is open at rest (by {gap:.0%} of its width); {MOUTH_SEAL} closes it for speech")
    if skin.proxy is not None:
        notes.append(
            f"{len(skin.index)} skin vertices were fitted through a proxy mesh of {len(skin.vertices)} vertices"
        )
    measurements = (
        mesh.measurements | measurements | {"parts": ", ".join(f"{k} {len(v)}" for k, v in parts.items()) or "none"}
    )
    measurements |= {
        "landmarks_by": pairs.origin,
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.mouth_gain, 3),
        "refined": refine,
    }
    confidence = rate_confidence(warnings, float(np.median(residual)) / warp.size, lips)
    return FittedRig(
        rig, pairs.target, FitReport("fitted", confidence, tuple(warnings), tuple(notes), measurements)
    ), lips


def _is_inside_out(warped: np.ndarray, faces: np.ndarray, skin: Skin) -> bool:
    """True if the skin's normals point against those of the warped source (S, 3)."""
    distance, nearest = cKDTree(warped).query(skin.vertices)
    mask = distance < np.percentile(distance, 50)
    target_normals, source_normals = (
        vertex_normals(skin.vertices, skin.faces)[mask],
        vertex_normals(warped, faces)[nearest[mask]],
    )
    return bool(np.einsum("ij,ij->i", target_normals, source_normals).mean() < 0)


def _transfer_shapes(
    source_head: SourceHead, mesh: WorkMesh, skin: Skin, matched: Correspondence, warp: RbfWarp, lips: Lips | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (R,) and offsets (R, W, 3) float32 of the shapes, with the skin filled in and all other vertices at 0."""
    names = source_head.rig.shape_names
    transfer = DeformationTransfer(source_head, skin.vertices, skin.faces, matched, warp.similarity, warp.size, lips)
    open_at_rest = lips is not None and float(np.median(lips.rest_gap[lips.middle_third])) > OPEN_AT_REST * lips.width
    offsets = np.zeros((len(names) + open_at_rest, len(mesh.vertices), 3), np.float32)
    up = warp.similarity.rotation @ [0.0, 1.0, 0.0]
    jaw = None
    for row, name in enumerate(names):
        if name in HEAD_NAMES:
            continue  # `attach_parts` fills these in for the whole mesh
        offset = transfer(row)
        if lips is not None:
            separation = transfer.source_lip_separation(row)
            if name == "mouthClose":  # the lips must close the gap of the target's own jawOpen, not the source's
                assert jaw is not None
                separation = (
                    separation + transfer.source_lip_separation(names.index("jawOpen")) - transfer.lip_separation(jaw)
                )
            if name == "mouthClose" or np.linalg.norm(separation, axis=1).max() < SEALED_SHARE * lips.width:
                missing = separation - transfer.lip_separation(offset)
                if name != "mouthClose":  # lips that slide over each other stay closed
                    missing = (missing @ up)[:, None] * up
                offset = offset + transfer.separate_lips(missing)
        offsets[row, skin.index] = skin.to_skin(offset)
        if name == "jawOpen":
            jaw = offset
    if not open_at_rest:
        return names, offsets
    assert lips is not None and jaw is not None
    seal = np.zeros_like(jaw)
    gap = np.maximum(lips.rest_gap, 0)
    if float(np.median(gap[lips.middle_third])) > OPEN_BY_JAW * lips.width:
        drop = (lips.upper(jaw) - lips.lower(jaw)) @ up
        share = float(np.median((gap / np.maximum(drop, 1e-9))[lips.middle_third]))
        seal -= min(share, 1.5) * jaw
        offsets[len(names)] -= np.float32(min(share, 1.5)) * offsets[names.index("jawOpen")]
        gap = gap - min(share, 1.5) * drop
    offsets[len(names), skin.index] = skin.to_skin(seal + transfer.separate_lips(gap[:, None] * up))
    return (*names, MOUTH_SEAL), offsets
