"""A rig as named arrays, which npz files hold: fitted rigs and animations."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from kmtalk.face.rig import NativeShapes, Rig
from kmtalk.face.template import Template

_MARKS = {"lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale"}
_MARKS |= {"eye_outer_left", "eye_outer_right"}
_REGIONS = {"lips", "mouth", "upper_face", "chin", "lip_pairs"}


def rig_to_arrays(rig: Rig) -> dict[str, np.ndarray]:
    """``template`` (V, 3), ``faces``, ``names`` (R,), ``offsets`` (R, M, 3) of the vertices ``moving`` (M,), regions,
    colours, and ``rig`` with the rest as JSON. With shapes of the file's own the offsets are those."""
    t = rig.template
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    moving = np.flatnonzero(np.abs(shapes).max((0, 2)) > 0)
    marks = {k: int(v) for k, v in t.landmarks.items()}
    facts = {"units": t.units, "name": t.name, "gain": rig.mouth_gain, "landmarks": marks}
    arrays: dict[str, np.ndarray] = {
        "rig": np.array(json.dumps(facts)),
        "template": t.vertices,
        "faces": t.faces,
        "names": np.array(rig.names),
        "moving": moving,
        "offsets": shapes[:, moving],
    }
    if rig.native_shapes is not None:
        arrays |= {"own_names": np.array(rig.native_shapes.names), "own_mix": rig.native_shapes.mixing_matrix}
    for name, values in (("colors", t.colors), ("tint", t.preview_colors), ("upright", rig.upright_vertices)):
        if values is not None:
            arrays[name] = values
    return arrays | {f"region.{name}": np.asarray(index) for name, index in t.regions.items()}


def rig_from_arrays(held: Mapping[str, np.ndarray]) -> Rig:
    """The rig of which ``rig_to_arrays`` made these; raises KeyError or ValueError where it did not."""
    facts = json.loads(str(held["rig"]))
    if (held["moving"].size and held["moving"].min() < 0) or not isinstance(facts["name"], str):
        raise ValueError("its parts contradict one another")
    full = np.zeros((len(held["offsets"]), len(held["template"]), 3), np.float32)
    full[:, held["moving"]] = held["offsets"]
    template = Template(
        vertices=held["template"],
        faces=held["faces"],
        units=facts["units"],
        name=facts["name"],
        colors=held.get("colors"),
        regions={k.removeprefix("region."): v for k, v in held.items() if k.startswith("region.")},
        landmarks=facts["landmarks"],
        preview_colors=held.get("tint"),
    )
    own = None
    if "own_mix" in held:
        own = NativeShapes(tuple(held["own_names"].tolist()), full, held["own_mix"])
        full = np.einsum("rk,kvx->rvx", own.mixing_matrix, full).astype(np.float32)
    rig = Rig(template, tuple(held["names"].tolist()), full, held.get("upright"), facts["gain"], own)
    _check(rig)
    return rig


def _check(rig: Rig) -> None:
    """Raise ValueError where the parts of a rig contradict one another."""
    t = rig.template
    count = len(t.vertices)
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    per_vertex = [v for v in (t.colors, t.preview_colors, rig.upright_vertices) if v is not None]
    indexes = [t.faces, *t.regions.values(), np.array(list(t.landmarks.values()))]
    sound = (
        all(v.shape == (count, 3) for v in (t.vertices, *per_vertex))
        and t.faces.ndim == 2
        and t.faces.shape[1] == 3
        and all(i.dtype.kind in "iu" and (not i.size or (i.min() >= 0 and i.max() < count)) for i in indexes)
        and all(np.isfinite(v).all() for v in (t.vertices, shapes))
        and isinstance(rig.mouth_gain, float)
        and 0 < rig.mouth_gain < 100
        and len(rig.names) == len(rig.offsets)
        and (
            rig.native_shapes is None
            or rig.native_shapes.mixing_matrix.shape == (len(rig.names), len(rig.native_shapes.names))
        )
        and (rig.native_shapes is None or len(rig.native_shapes.names) == len(shapes))
        and set(t.landmarks) >= _MARKS
        and set(t.regions) >= _REGIONS
        and t.mm_per_unit > 0
    )
    if not sound:
        raise ValueError("its parts contradict one another")
