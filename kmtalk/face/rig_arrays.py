"""Converts a rig to named arrays and back, for the npz files of fitted rigs and animations."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from kmtalk.face.appearance import Appearance
from kmtalk.face.rig import NativeShapes, Rig
from kmtalk.face.template import Template

_MARKS = {"lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale"}
_MARKS |= {"eye_outer_left", "eye_outer_right"}
_REGIONS = {"lips", "mouth", "upper_face", "chin", "lip_pairs"}


def rig_to_arrays(rig: Rig) -> dict[str, np.ndarray]:
    """Convert a rig to named arrays.

    Returns:
        `template` (V, 3), the neutral vertices, `faces` (F, 3), `shape_names` (R,), `moving_vertices` (M,), the
        vertices that any shape moves, `offsets` (R, M, 3) at those vertices, `region.NAME` for each region, and
        `rig_metadata`, a JSON string with units, name, mouth gain and landmarks. `colors`, `preview_colors` and
        `upright_vertices`, each (V, 3), only where the rig has them. For a rig with native shapes, `offsets` are
        theirs (K, M, 3), and `native_shape_names` (K,) and `mixing_matrix` (R, K) are added. With materials,
        `materials`, `face_materials`, `uv` and `uv_faces` (see `Appearance`) are added too.
    """
    t = rig.template
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    moving = np.flatnonzero(np.abs(shapes).max((0, 2)) > 0)
    marks = {k: int(v) for k, v in t.landmarks.items()}
    metadata = {"units": t.units, "name": t.name, "mouth_gain": rig.mouth_gain, "landmarks": marks}
    arrays: dict[str, np.ndarray] = {
        "rig_metadata": np.array(json.dumps(metadata)),
        "template": t.vertices,
        "faces": t.faces,
        "shape_names": np.array(rig.shape_names),
        "moving_vertices": moving,
        "offsets": shapes[:, moving],
    }
    if rig.native_shapes is not None:
        arrays |= {
            "native_shape_names": np.array(rig.native_shapes.names),
            "mixing_matrix": rig.native_shapes.mixing_matrix,
        }
    for name, values in (
        ("colors", t.colors),
        ("preview_colors", t.preview_colors),
        ("upright_vertices", rig.upright_vertices),
    ):
        if values is not None:
            arrays[name] = values
    if t.appearance is not None:
        arrays |= t.appearance.to_arrays()
    return arrays | {f"region.{name}": np.asarray(index) for name, index in t.regions.items()}


def rig_from_arrays(arrays: Mapping[str, np.ndarray]) -> Rig:
    """Build the rig from the arrays of `rig_to_arrays`; other arrays are ignored.

    Raises:
        KeyError: An array is missing.
        ValueError: The arrays are inconsistent with each other.
    """
    metadata = json.loads(str(arrays["rig_metadata"]))
    if (arrays["moving_vertices"].size and arrays["moving_vertices"].min() < 0) or not isinstance(
        metadata["name"], str
    ):
        raise ValueError("its arrays are inconsistent")
    full = np.zeros((len(arrays["offsets"]), len(arrays["template"]), 3), np.float32)
    full[:, arrays["moving_vertices"]] = arrays["offsets"]
    template = Template(
        vertices=arrays["template"],
        faces=arrays["faces"],
        units=metadata["units"],
        name=metadata["name"],
        colors=arrays.get("colors"),
        regions={k.removeprefix("region."): v for k, v in arrays.items() if k.startswith("region.")},
        landmarks=metadata["landmarks"],
        preview_colors=arrays.get("preview_colors"),
        appearance=Appearance.from_arrays(arrays) if "materials" in arrays else None,
    )
    native = None
    if "mixing_matrix" in arrays:
        native = NativeShapes(tuple(arrays["native_shape_names"].tolist()), full, arrays["mixing_matrix"])
        full = np.einsum("rk,kvx->rvx", native.mixing_matrix, full).astype(np.float32)
    rig = Rig(
        template,
        tuple(arrays["shape_names"].tolist()),
        full,
        arrays.get("upright_vertices"),
        metadata["mouth_gain"],
        native,
    )
    _check(rig)
    return rig


def _check(rig: Rig) -> None:
    """Raise ValueError if the parts of a rig are inconsistent with each other."""
    t = rig.template
    count = len(t.vertices)
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    per_vertex = [v for v in (t.colors, t.preview_colors, rig.upright_vertices) if v is not None]
    index_arrays = [t.faces, *t.regions.values(), np.array(list(t.landmarks.values()))]
    consistent = (
        all(v.shape == (count, 3) for v in (t.vertices, *per_vertex))
        and t.faces.ndim == 2
        and t.faces.shape[1] == 3
        and all(i.dtype.kind in "iu" and (not i.size or (i.min() >= 0 and i.max() < count)) for i in index_arrays)
        and all(np.isfinite(v).all() for v in (t.vertices, shapes))
        and isinstance(rig.mouth_gain, float)
        and 0 < rig.mouth_gain < 100
        and len(rig.shape_names) == len(rig.offsets)
        and (
            rig.native_shapes is None
            or rig.native_shapes.mixing_matrix.shape == (len(rig.shape_names), len(rig.native_shapes.names))
        )
        and (rig.native_shapes is None or len(rig.native_shapes.names) == len(shapes))
        and set(t.landmarks) >= _MARKS
        and set(t.regions) >= _REGIONS
        and t.mm_per_unit > 0
        and (t.appearance is None or len(t.appearance.face_materials) == len(t.faces))
    )
    if not consistent:
        raise ValueError("its arrays are inconsistent")
