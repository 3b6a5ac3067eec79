"""A rig for any mesh: what the mesh is decides how it gets one."""

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
    atlas: SourceHead,
    landmarks: Mapping[str, np.ndarray] | None = None,
    refine: bool = False,
    reference: FittedRig | None = None,
) -> FittedRig:
    """The rig on a mesh, by one of three ways:

    a. its topology is the default head's, or that of the rig ``reference``: the offsets carry over;
    b. its file brings shapes of its own (ARKit, OVR or VRM): those are driven;
    c. it is a bare mesh: the default head is fitted and its shapes carried (face.fit).

    Landmarks given by hand ask for c, or help b. Raises InputError where no way is open.
    """
    if reference is not None:
        if reference.rig.native_shapes is not None:
            raise InputError(
                f"{template.display_name}: the given rig moves by shapes of its own file; fit the mesh itself"
            )
        if not has_same_topology(template, reference.rig):
            count = len(reference.rig.template.vertices)
            raise InputError(f"{template.display_name}: not the given rig's topology ({count} vertices in its order)")
        carried = _transfer_by_topology(template, reference.rig)
        trust = replace(carried.report, confidence=reference.report.confidence, warnings=reference.report.warnings)
        return replace(carried, report=trust)
    if landmarks is None and not template.shapes and has_same_topology(template, atlas.rig):
        return _transfer_by_topology(template, atlas.rig)
    if template.shapes and has_arkit_shapes(template):
        rig, report = rig_from_arkit_shapes(template, atlas, landmarks)
        marks = np.array([template.vertices[v] for v in rig.template.landmarks.values()])
        return FittedRig(rig, marks, report)
    fitted = fit_rig(replace(template, shapes={}), atlas, landmarks, refine)
    if template.shapes and has_viseme_shapes(template):
        rig, report = rig_from_visemes(template, atlas, fitted.rig, fitted.report)
        return FittedRig(rig, fitted.landmarks, report)
    if template.shapes:
        few = ", ".join(list(template.shapes)[:3])
        remark = f"its {len(template.shapes)} shapes ({few} …) bear no names of ARKit, OVR or VRM and are not used"
        return replace(fitted, report=replace(fitted.report, notes=(*fitted.report.notes, remark)))
    return fitted


def _transfer_by_topology(template: Template, base: Rig) -> FittedRig:
    rig = transfer_rig(template, base, template.display_name)
    marks = {name: template.vertices[v] for name, v in rig.template.landmarks.items()}
    if not np.linalg.norm(marks["eye_outer_left"] - marks["eye_outer_right"]) > 0:
        raise InputError(f"{template.display_name}: the eyes lie at one place; repair the mesh")
    facts = {
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.mouth_gain, 3),
    }
    return FittedRig(rig, np.array(list(marks.values())), FitReport("same topology", "high", measurements=facts))
