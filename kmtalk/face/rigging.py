"""Rigs any mesh: by shared topology, by the blendshapes of its file, or by fitting the default head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.fit import FittedRig, fit_rig
from kmtalk.face.fit_report import FitReport
from kmtalk.face.native_shapes import has_arkit_shapes, has_viseme_shapes, rig_from_arkit_shapes, rig_from_visemes
from kmtalk.face.rig import Rig, has_same_topology, transfer_rig
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
    2. Its file contains blendshapes named as in ARKit, OVR or VRM: the rig drives those. Visemes of OVR or VRM
       also need a fit of the default head.
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
        report = replace(transferred.report, confidence=reference.report.confidence, warnings=reference.report.warnings)
        return replace(transferred, report=report)
    if landmarks is None and not template.shapes and has_same_topology(template, source_head.rig):
        return _transfer_by_topology(template, source_head.rig)
    if template.shapes and has_arkit_shapes(template):
        rig, report = rig_from_arkit_shapes(template, source_head, landmarks)
        marks = np.array([template.vertices[v] for v in rig.template.landmarks.values()])
        return FittedRig(rig, marks, report)
    fitted = fit_rig(replace(template, shapes={}), source_head, landmarks, refine)
    if template.shapes and has_viseme_shapes(template):
        rig, report = rig_from_visemes(template, source_head, fitted.rig, fitted.report)
        return FittedRig(rig, fitted.landmarks, report)
    if template.shapes:
        examples = ", ".join(list(template.shapes)[:3])
        note = (
            f"its {len(template.shapes)} shapes ({examples} …) are not named as in ARKit, OVR or VRM and are not used"
        )
        return replace(fitted, report=replace(fitted.report, notes=(*fitted.report.notes, note)))
    return fitted


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
    return FittedRig(rig, np.array(list(marks.values())), FitReport("same topology", "high", measurements=facts))
