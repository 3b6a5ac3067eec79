"""A rig for any mesh: what the mesh is decides how it gets one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.atlas import Atlas
from kmtalk.face.fit import Fitted, fit
from kmtalk.face.own import by_name, by_viseme, drives_by_name, drives_by_viseme
from kmtalk.face.report import Report
from kmtalk.face.rig import Rig, rig_for, same_topology
from kmtalk.face.template import Template


def rig_on(
    template: Template,
    atlas: Atlas,
    landmarks: Mapping[str, np.ndarray] | None = None,
    refined: bool = False,
    known: Fitted | None = None,
) -> Fitted:
    """The rig on a mesh, by one of three ways:

    a. its topology is the default head's, or that of the rig ``known``: the offsets carry over;
    b. its file brings shapes of its own (ARKit, OVR or VRM): those are driven;
    c. it is a bare mesh: the default head is fitted and its shapes carried (face.fit).

    Landmarks given by hand ask for c, or help b. Raises InputError where no way is open.
    """
    if known is not None:
        if known.rig.own is not None:
            raise InputError(f"{template.label}: the given rig moves by shapes of its own file; fit the mesh itself")
        if not same_topology(template, known.rig):
            count = len(known.rig.template.vertices)
            raise InputError(f"{template.label}: not the given rig's topology ({count} vertices in its order)")
        carried = _carried_over(template, known.rig)
        trust = replace(carried.report, confidence=known.report.confidence, doubts=known.report.doubts)
        return replace(carried, report=trust)
    if landmarks is None and not template.shapes and same_topology(template, atlas.rig):
        return _carried_over(template, atlas.rig)
    if template.shapes and drives_by_name(template):
        rig, report = by_name(template, atlas, landmarks)
        marks = np.array([template.vertices[v] for v in rig.template.landmarks.values()])
        return Fitted(rig, marks, report)
    fitted = fit(replace(template, shapes={}), atlas, landmarks, refined)
    if template.shapes and drives_by_viseme(template):
        rig, report = by_viseme(template, atlas, fitted.rig, fitted.report)
        return Fitted(rig, fitted.landmarks, report)
    if template.shapes:
        few = ", ".join(list(template.shapes)[:3])
        remark = f"its {len(template.shapes)} shapes ({few} …) bear no names of ARKit, OVR or VRM and are not used"
        return replace(fitted, report=replace(fitted.report, remarks=(*fitted.report.remarks, remark)))
    return fitted


def _carried_over(template: Template, base: Rig) -> Fitted:
    rig = rig_for(template, base, template.label)
    marks = {name: template.vertices[v] for name, v in rig.template.landmarks.items()}
    if not np.linalg.norm(marks["eye_outer_left"] - marks["eye_outer_right"]) > 0:
        raise InputError(f"{template.label}: the eyes lie at one place; repair the mesh")
    facts = {"vertices": len(template.vertices), "triangles": len(template.faces), "mouth_gain": round(rig.gain, 3)}
    return Fitted(rig, np.array(list(marks.values())), Report("same topology", "high", facts=facts))
