"""Which of a file's blendshapes stand for which standard shapes: by a map, by name, or by what they do to the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.rig import ARKIT_NAMES, SPEECH_NAMES, Rig
from kmtalk.face.shape_names import OVR_VISEMES, VRM_MOUTHS, is_part_of_shape, match_shape_names
from kmtalk.face.template import Template
from kmtalk.text_files import read_yaml_file

MIN_LIKENESS = 0.6  # cosine of a file's shape and a fitted one, over all vertices, to take them for the same
MEANINGS = (
    *(*ARKIT_NAMES, *SPEECH_NAMES, *HEAD_NAMES),
    *(f"viseme_{name}" for name in OVR_VISEMES),
    *(f"vrm_{name}" for name in (*VRM_MOUTHS.values(), "blink")),
)
"""The standard shapes that a file's shape can stand for."""


@dataclass(frozen=True)
class FileShapes:
    """The file's face shapes, and the standard shapes that they make up.

    Attributes:
        names: (K,) names in the file.
        offsets: (K, V, 3) in the template's units.
        meanings: (G,) standard names.
        parts: (G, K) weights of the file's shapes that make up each standard shape.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    meanings: tuple[str, ...]
    parts: np.ndarray

    def meaning_offsets(self) -> np.ndarray:
        """The standard shapes (G, V, 3) that the file's shapes make up."""
        return np.einsum("gk,kvx->gvx", self.parts, self.offsets).astype(np.float32)


def shapes_by_name(template: Template) -> FileShapes:
    """Return the shapes of a file whose meaning is given by `template.shape_map`, by their names or by VRM's
    expressions, in this order; those that move nothing are left out."""
    moving = {name: offsets for name, offsets in template.shapes.items() if np.abs(offsets).max(initial=0) > 0}
    made: dict[str, dict[str, float]] = {}
    for name, meaning in template.shape_map.items():
        if meaning and name in moving:
            made.setdefault(meaning, {})[name] = 1.0
    free = [name for name in moving if name not in template.shape_map]
    given = set(made)
    by_name = match_shape_names(free)
    touched: dict[str, Any] = {}
    for name in sorted(by_name, key=free.index):
        meaning, mine = by_name[name], moving[name].any(1)
        if meaning in given:
            continue
        if not is_part_of_shape(name, meaning) and meaning in touched and (touched[meaning] & mine).any():
            continue  # a second shape for the same part of the mesh
        touched[meaning] = touched[meaning] | mine if meaning in touched else mine
        made.setdefault(meaning, {})[name] = 1.0
    for expression, meaning in match_shape_names(template.expressions).items():
        bound = {name: weight for name, weight in template.expressions[expression].items() if name in moving}
        if meaning not in made and bound and not set(bound) & set(template.shape_map):
            made[meaning] = bound
    return _assemble(moving, made)


def still_shapes(template: Template) -> list[str]:
    """Return the recognised shapes of a file that move nothing."""
    known = match_shape_names(template.shapes)
    still = [name for name in known if not np.abs(template.shapes[name]).max(initial=0) > 0]
    return [name for name in still if known[name] != "viseme_sil"]  # silence is the neutral


def shapes_by_effect(template: Template, fitted: Rig) -> tuple[FileShapes, dict[str, float]]:
    """Match the file's shapes that have no recognised name to the fitted shape that moves the mesh most alike.

    Args:
        template: The mesh with its blendshapes.
        fitted: The source head's rig, fitted to the bare mesh.

    Returns:
        The shapes, those with recognised names among them, and the likeness (cosine) of each that was matched.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    named = shapes_by_name(template)
    made = {
        meaning: {named.names[k]: float(weight) for k, weight in enumerate(row) if weight}
        for meaning, row in zip(named.meanings, named.parts, strict=True)
    }
    moving = {name: o for name, o in template.shapes.items() if np.abs(o).max(initial=0) > 0}
    free = [n for n in moving if n not in named.names and template.shape_map.get(n, "?")]
    wanted = [n for n in (*ARKIT_NAMES, *SPEECH_NAMES) if n not in made and fitted.offsets[fitted.index[n]].any()]
    likeness: dict[str, float] = {}
    if free and wanted:
        theirs = np.stack([moving[name].ravel() for name in free]).astype(np.float64)
        ours = fitted.offsets[[fitted.index[n] for n in wanted]].reshape(len(wanted), -1).astype(np.float64)
        cosine = theirs @ ours.T
        cosine /= np.linalg.norm(theirs, axis=1)[:, None] * np.linalg.norm(ours, axis=1)
        for row, column in zip(*linear_sum_assignment(-cosine), strict=True):
            if cosine[row, column] >= MIN_LIKENESS:
                made[wanted[column]] = {free[row]: 1.0}
                likeness[free[row]] = float(cosine[row, column])
    return _assemble(moving, made), likeness


def add_shapes_of_still_parts(
    template: Template, file_shapes: FileShapes, mix: np.ndarray, fitted: Rig
) -> tuple[FileShapes, np.ndarray]:
    """Add fitted shapes for parts, such as teeth and lashes, that the file's shapes leave where they are.

    Args:
        template: The mesh, with its parts.
        file_shapes: The file's K shapes.
        mix: Weights (R, K) of the file's shapes that make up each shape of the rig.
        fitted: The source head's rig, fitted to the bare mesh.

    Returns:
        The K + A shapes, and their weights (R, K + A).
    """
    moved, smallest = np.linalg.norm(file_shapes.offsets, axis=2).max(0), 0.05 / fitted.template.mm_per_unit
    still = [i for i in template.parts.values() if len(i) and moved[i].max() < 0.02 * moved.max()]
    if not still:
        return file_shapes, mix
    on_bones = [np.flatnonzero(j.weights > 0.5) for j in template.joints if j.part.startswith("eye")]  # they turn there
    index = np.setdiff1d(np.concatenate(still), np.concatenate([*on_bones, np.zeros(0, np.int64)]))
    rows = [
        row
        for name, row in fitted.index.items()
        if name not in HEAD_NAMES and np.abs(fitted.offsets[row, index]).max(initial=0) > smallest
    ]
    offsets = np.zeros((len(rows), *template.vertices.shape), np.float32)
    offsets[:, index] = fitted.offsets[rows][:, index]
    added = np.zeros((len(mix), len(rows)))
    added[rows, np.arange(len(rows))] = 1.0
    names = [fitted.shape_names[row] for row in rows]
    names = [f"{name}_kmtalk" if name in file_shapes.names else name for name in names]
    parts = np.concatenate([file_shapes.parts, np.zeros((len(file_shapes.parts), len(rows)))], axis=1)
    both = np.concatenate([file_shapes.offsets, offsets])
    wider = FileShapes((*file_shapes.names, *names), both, file_shapes.meanings, parts)
    return wider, np.concatenate([mix, added], axis=1)


def _assemble(moving: Mapping[str, np.ndarray], made: Mapping[str, Mapping[str, float]]) -> FileShapes:
    names = [name for name in moving if any(name in parts for parts in made.values())]
    parts = np.zeros((len(made), len(names)))
    for row, given in enumerate(made.values()):
        for name, weight in given.items():
            parts[row, names.index(name)] = weight
    count = len(next(iter(moving.values()))) if moving else 0
    offsets = np.stack([moving[n] for n in names]) if names else np.zeros((0, count, 3))
    return FileShapes(tuple(names), offsets.astype(np.float32), tuple(made), parts)


def read_shape_map(path: Path, template: Template) -> dict[str, str]:
    """Read a YAML file that says what a file's shapes are: shape in the file → standard shape, or nothing to leave it.

    Raises:
        InputError: The file cannot be read, or names a shape that the file or kmtalk does not have.
    """
    document = read_yaml_file(path)
    if not isinstance(document, dict) or not document:
        raise InputError(f"{path}: give lines such as  morph_0: jawOpen")
    known = {meaning.lower(): meaning for meaning in MEANINGS}
    out: dict[str, str] = {}
    for name, meaning in document.items():
        if str(name) not in template.shapes:
            some = ", ".join(list(template.shapes)[:8])
            raise InputError(f"{path}: {template.display_name} has no shape {name}; it has {some or 'none'}")
        if meaning in (None, ""):
            out[str(name)] = ""
        elif str(meaning).lower() in known:
            out[str(name)] = known[str(meaning).lower()]
        else:
            raise InputError(f"{path}: {meaning} is no shape of ARKit, kmtalk, OVR (viseme_PP) or VRM (vrm_aa)")
    return out
