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
from kmtalk.face.rig import rig_for, same_topology
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
    if known is not None and not same_topology(template, known.rig):
        raise InputError(
            f"{template.label}: not the given rig's topology ({len(known.rig.template.vertices)} vertices in its order)"
        )
    if known is not None or (landmarks is None and not template.shapes and same_topology(template, atlas.rig)):
        base = atlas.rig if known is None else known.rig
        rig = rig_for(template, base, template.label)
        if known is not None and known.rig.own is not None:
            raise InputError(f"{template.label}: the given rig moves by shapes of its own file; fit the mesh itself")
        marks = np.array([template.vertices[v] for v in rig.template.landmarks.values()])
        facts = {"vertices": len(template.vertices), "triangles": len(template.faces), "mouth_gain": round(rig.gain, 3)}
        return Fitted(rig, marks, Report("same topology", "high", facts=facts))
    if template.shapes and drives_by_name(template):
        rig, report = by_name(template, atlas)
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
