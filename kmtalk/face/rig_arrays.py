"""Converts a rig to named arrays and back, for the npz files of fitted rigs and animations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from kmtalk.face.appearance import Appearance
from kmtalk.face.joints import PARTS, Joint
from kmtalk.face.rig import NativeShapes, Rig
from kmtalk.face.template import Template

FREE_SHAPE_BYTES, MAX_EXPANSION = 512 << 20, 64
"""What the offsets of all vertices may take: this many bytes, and this many times those that are not zero."""

MAX_SIZE = 1e9
"""Least coordinate and offset, in any unit, that no mesh has."""

_MARKS = {"lip_inner_upper", "lip_inner_lower", "mouth_left", "mouth_right", "chin", "subnasale"}
_MARKS |= {"eye_outer_left", "eye_outer_right"}
_REGIONS = {"lips", "mouth", "upper_face", "chin", "lip_pairs"}


def rig_to_arrays(rig: Rig) -> dict[str, np.ndarray]:
    """Convert a rig to named arrays.

    Returns:
        `template` (V, 3), the neutral vertices, `faces` (F, 3), `shape_names` (R,), `region.NAME` for each region,
        and `rig_metadata`, a JSON string with units, name, mouth gain, landmarks, and the mesh's file and node. The
        offsets that are not zero, shape by shape: `offset_vertices` (M,), their vertices, `offsets` (M, 3), and
        `offset_starts` (R + 1,), where each shape's begin. `colors`, `preview_colors` and `upright_vertices`, each
        (V, 3), only where the rig has them. For a rig with native shapes, the offsets are those of its K native
        shapes, and `native_shape_names` (K,) and `mixing_matrix` (R, K) are added. With materials, `materials`,
        `face_materials`, `uv` and `uv_faces` (see `Appearance`) are added too. With bones, `joints`, a JSON string,
        `joint_positions` (J, 3) and `joint_weights` (J, V) are added.
    """
    t = rig.template
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    shape_index, vertex_index = np.nonzero(shapes.any(2))
    marks = {k: int(v) for k, v in t.landmarks.items()}
    metadata = {"units": t.units, "name": t.name, "mouth_gain": rig.mouth_gain, "landmarks": marks}
    metadata |= {"source": str(Path(t.source).absolute()) if t.source else "", "node": t.node}
    arrays: dict[str, np.ndarray] = {
        "rig_metadata": np.array(json.dumps(metadata)),
        "template": t.vertices,
        "faces": t.faces,
        "shape_names": np.array(rig.shape_names),
        "offset_starts": np.searchsorted(shape_index, np.arange(len(shapes) + 1)),
        "offset_vertices": vertex_index.astype(np.int32),
        "offsets": shapes[shape_index, vertex_index],
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
    if t.joints:
        facts = [{"part": j.part, "name": j.name, "node": j.node, "parent": j.parent} for j in t.joints]
        arrays |= {
            "joints": np.array(json.dumps(facts)),
            "joint_positions": np.stack([j.position for j in t.joints]),
            "joint_weights": np.stack([j.weights for j in t.joints]),
        }
    return arrays | {f"region.{name}": np.asarray(index) for name, index in t.regions.items()}


def rig_from_arrays(arrays: Mapping[str, np.ndarray]) -> Rig:
    """Build the rig from the arrays of `rig_to_arrays`; other arrays are ignored.

    Raises:
        KeyError: An array is missing.
        ValueError: The arrays are inconsistent with each other.
    """
    metadata = json.loads(str(arrays["rig_metadata"]))
    if not isinstance(metadata["name"], str):
        raise ValueError("its arrays are inconsistent")
    full = _dense_offsets(arrays)
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
        source=str(metadata.get("source", "")),
        node=str(metadata.get("node", "")),
        joints=_joints(arrays),
    )
    native = None
    if "mixing_matrix" in arrays:
        native = NativeShapes(tuple(arrays["native_shape_names"].tolist()), full, arrays["mixing_matrix"])
        mixing, names = native.mixing_matrix, arrays["shape_names"]
        if mixing.shape != (len(names), len(full)) or mixing.dtype.kind != "f" or not np.isfinite(mixing).all():
            raise ValueError("its arrays are inconsistent")
        _check_size(len(names), full.shape[1], full.nbytes)
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


def find_source(template: Template, holder: Path) -> Template:
    """Return the template with the place of its file: where it was, or else beside the file that holds the template."""
    beside = holder.resolve().parent / Path(template.source).name
    if not template.source or Path(template.source).is_file() or not beside.is_file():
        return template
    return replace(template, source=str(beside))


def _joints(arrays: Mapping[str, np.ndarray]) -> tuple[Joint, ...]:
    """The bones; raises ValueError or KeyError if their arrays are inconsistent."""
    if "joints" not in arrays:
        return ()
    facts, positions, weights = json.loads(str(arrays["joints"])), arrays["joint_positions"], arrays["joint_weights"]
    consistent = (
        positions.shape == (len(facts), 3)
        and weights.shape == (len(facts), len(arrays["template"]))
        and bool(np.isfinite(positions).all() and np.isfinite(weights).all())
        and all(-1 <= fact["parent"] < k and fact["part"] in PARTS for k, fact in enumerate(facts))
    )
    if not consistent:
        raise ValueError("its bones are inconsistent")
    return tuple(
        Joint(**fact, position=position, weights=weight)
        for fact, position, weight in zip(facts, positions, weights, strict=True)
    )


def _dense_offsets(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the offsets (K, V, 3) float32 of all vertices; raises ValueError if their arrays are inconsistent."""
    starts, vertices, offsets = (arrays[name] for name in ("offset_starts", "offset_vertices", "offsets"))
    count = len(arrays["template"])
    consistent = (
        starts.ndim == vertices.ndim == 1
        and starts.dtype.kind == vertices.dtype.kind == "i"
        and len(starts) > 0
        and starts[0] == 0
        and starts[-1] == len(vertices)
        and bool((np.diff(starts) >= 0).all())
        and offsets.shape == (len(vertices), 3)
        and offsets.dtype.kind == "f"
        and (not len(vertices) or (int(vertices.min()) >= 0 and int(vertices.max()) < count))
    )
    if not consistent:
        raise ValueError("its arrays are inconsistent")
    _check_size(len(starts) - 1, count, offsets.nbytes)
    out = np.zeros((len(starts) - 1, count, 3), np.float32)
    out[np.repeat(np.arange(len(starts) - 1), np.diff(starts)), vertices] = offsets
    return out


def _check_size(shapes: int, vertices: int, given: int) -> None:
    """Raise ValueError if offsets of all vertices would take far more memory than the `given` bytes, before they do."""
    size = 12 * shapes * vertices
    if size > FREE_SHAPE_BYTES + MAX_EXPANSION * given:
        raise ValueError(f"its shapes would take {size / 1e6:,.0f} MB")


def _check(rig: Rig) -> None:
    """Raise ValueError if the parts of a rig are inconsistent with each other."""
    t = rig.template
    count = len(t.vertices)
    shapes = rig.offsets if rig.native_shapes is None else rig.native_shapes.offsets
    per_vertex = [v for v in (t.colors, t.preview_colors, rig.upright_vertices) if v is not None]
    index_arrays = [t.faces, *t.regions.values(), np.array(list(t.landmarks.values()))]
    consistent = (
        all(v.shape == (count, 3) and v.dtype.kind in "fiu" for v in (t.vertices, *per_vertex))
        and t.faces.ndim == 2
        and t.faces.shape[1] == 3
        and all(i.dtype.kind in "iu" and (not i.size or (i.min() >= 0 and i.max() < count)) for i in index_arrays)
        and all(-MAX_SIZE < float(v.min(initial=0)) <= float(v.max(initial=0)) < MAX_SIZE for v in (t.vertices, shapes))
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
        and all(i.shape[1:] == ((2,) if name == "lip_pairs" else ()) for name, i in t.regions.items())
        and t.mm_per_unit > 0
        and (t.appearance is None or len(t.appearance.face_materials) == len(t.faces))
    )
    if not consistent:
        raise ValueError("its arrays are inconsistent")
