"""Rigs any mesh: by shared topology, by the blendshapes of its file, or by fitting the default head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.fit import FittedRig, fit_rig
from kmtalk.face.fit_report import FitReport
from kmtalk.face.joints import HEAD_NAMES, choose_joints, joint_matrices, joint_rotations, skin_vertices
from kmtalk.face.native_shapes import MIN_VISEMES, has_arkit_shapes, rig_from_arkit_shapes, rig_from_visemes
from kmtalk.face.rig import Rig, has_same_topology, shared_edges, transfer_rig
from kmtalk.face.shape_matching import shapes_by_effect, shapes_by_name, still_shapes
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template


def rig_template(
    template: Template,
    source_head: SourceHead,
    landmarks: Mapping[str, np.ndarray] | None = None,
    refine: bool = False,
    reference: FittedRig | None = None,
) -> FittedRig:
    """Rig a mesh by the first method that applies.

    1. The mesh has the topology of `reference`, or that of the default head and no blendshapes: the offsets are
       transferred.
    2. Its file contains blendshapes named as in ARKit, OVR or VRM, or that do to the mesh what those do: the rig
       drives those. All but ARKit's also need a fit of the default head.
    3. Otherwise the default head is fitted and its shapes are transferred (`kmtalk.face.fit`).

    Args:
        template: The mesh.
        source_head: The default head.
        landmarks: Named landmarks (3,) given by hand. They exclude method 1 with the default head.
        refine: Fit by the slower non-rigid ICP of Amberg et al.
        reference: A fitted rig whose topology the mesh must have; its shapes are transferred.

    Returns:
        The rig with the landmarks and the report of the fit.

    Raises:
        InputError: No method applies, or the mesh is unusable.
    """
    if reference is not None:
        if reference.rig.native_shapes is not None:
            raise InputError(
                f"{template.display_name}: the given rig uses blendshapes of its own file; "
                "fit the mesh without --reference-rig"
            )
        if not has_same_topology(template, reference.rig):
            count = len(reference.rig.template.vertices)
            raise InputError(
                f"{template.display_name}: its topology differs from the given rig's "
                f"({count} vertices, in the rig's order); fit the mesh without --reference-rig"
            )
        transferred = _transfer_by_topology(template, reference.rig)
        own, given = transferred.report, reference.report
        confidence = own.confidence if own.warnings else given.confidence
        report = replace(own, confidence=confidence, warnings=(*own.warnings, *given.warnings))
        return replace(transferred, report=report)
    if landmarks is None and not template.shapes and has_same_topology(template, source_head.rig):
        return _transfer_by_topology(template, source_head.rig)
    if template.shapes and has_arkit_shapes(template):
        rig, report = rig_from_arkit_shapes(template, source_head, landmarks)
        marks = np.array([template.vertices[v] for v in rig.template.landmarks.values()])
        return _turn_on_joints(FittedRig(rig, marks, _with_still_shapes(report, template)))
    fitted = fit_rig(replace(template, shapes={}), source_head, landmarks, refine)
    if not template.shapes:
        return _turn_on_joints(fitted)
    file_shapes = shapes_by_name(template)
    likeness: dict[str, float] = {}
    if len(file_shapes.meanings) < MIN_VISEMES:
        file_shapes, likeness = shapes_by_effect(template, fitted.rig)
    if len(file_shapes.meanings) >= MIN_VISEMES:
        rig, report = rig_from_visemes(template, source_head, fitted.rig, fitted.report, file_shapes)
        if likeness:
            rows = zip(file_shapes.meanings, file_shapes.parts, strict=True)
            meant = {file_shapes.names[row.argmax()]: meaning for meaning, row in rows}
            pairs = ", ".join(f"{name} = {meant[name]} ({like:.2f})" for name, like in likeness.items())
            note = (
                f"{len(likeness)} shapes matched by what they do to the face (kmtalk fit lists them, --map names them)"
            )
            measurements = {**report.measurements, "matched_by_effect": pairs}
            report = replace(report, notes=(*report.notes, note), measurements=measurements)
        return _turn_on_joints(FittedRig(rig, fitted.landmarks, _with_still_shapes(report, template)))
    examples = ", ".join(list(template.shapes)[:3])
    note = (
        f"its {len(template.shapes)} shapes ({examples} …) are not used: by name or by what they do "
        f"{len(file_shapes.meanings)} are known, {MIN_VISEMES} are needed; --map FILE.yaml names them"
    )
    report = replace(fitted.report, notes=(*fitted.report.notes, note))
    return _turn_on_joints(replace(fitted, report=_with_still_shapes(report, template)))


def _with_still_shapes(report: FitReport, template: Template) -> FitReport:
    still = still_shapes(template)
    if not still:
        return report
    named = ", ".join(still[:6]) + (" …" if len(still) > 6 else "")
    return replace(report, notes=(*report.notes, f"shapes that move nothing ({len(still)}): {named}"))


def _turn_on_joints(fitted: FittedRig) -> FittedRig:
    """Let head and eyes turn on the file's bones, if it has some.

    Eyes that the file's own shapes turn keep these. The linearised head rotations become those of the bones.
    """
    rig, joints = fitted.rig, fitted.rig.template.joints
    if not joints:
        return fitted
    looks = [r for r, name in enumerate(rig.shape_names) if name.startswith("eyeLook")]
    motion = np.linalg.norm(rig.offsets[looks], axis=2).max(0)
    parts = {"neck", "head"}
    for joint in joints:
        bound = joint.weights > 0.5
        has_own = rig.native_shapes is not None and motion[bound].max(initial=0) > 0.1 * motion.max()
        if joint.part.startswith("eye") and bound.any() and not has_own:
            parts.add(joint.part)
            rig.offsets[np.ix_(np.array(looks), np.flatnonzero(bound))] = 0.0
    chosen = choose_joints(joints, parts)
    rows = [rig.index[name] for name in HEAD_NAMES]
    rest = np.repeat(rig.template.vertices[None].astype(np.float64), len(rows), axis=0)
    moved, unit = rest.copy(), np.eye(len(rig.shape_names))[rows]
    turns = joint_rotations(chosen, rig.upright_rotation, rig.shape_names, unit)
    skin_vertices(moved, np.stack([joint.weights for joint in chosen]), joint_matrices(chosen, turns))
    rig.offsets[rows] = moved - rest
    native = rig.native_shapes
    if native is not None:
        for row, name in zip(rows, HEAD_NAMES, strict=True):
            native.offsets[native.names.index(name)] = rig.offsets[row]
    return replace(fitted, rig=replace(rig, template=replace(rig.template, joints=chosen)))


def _transfer_by_topology(template: Template, base: Rig) -> FittedRig:
    """Transfer the shapes of `base` to a template of the same topology, with a report."""
    rig = transfer_rig(template, base, template.display_name)
    marks = {name: template.vertices[v] for name, v in rig.template.landmarks.items()}
    if not np.linalg.norm(marks["eye_outer_left"] - marks["eye_outer_right"]) > 0:
        raise InputError(f"{template.display_name}: both eye corners are at the same point; repair the mesh")
    facts = {
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.mouth_gain, 3),
    }
    kept = shared_edges(template, base)[1]
    warnings = () if kept >= 0.9 else (f"{1 - kept:.0%} of the triangles of this topology are missing",)
    report = FitReport("same topology", "low" if warnings else "high", warnings, measurements=facts)
    fitted = FittedRig(rig, np.array(list(marks.values())), report)
    return _turn_on_joints(fitted)
