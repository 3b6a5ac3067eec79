"""Catmull-Clark subdivision of a part of a polygon mesh, as a matrix that also subdivides blendshapes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def subdivide(
    polygons: list[list[int]], selected: np.ndarray, count: int
) -> tuple[sp.csr_matrix, list[list[int]], np.ndarray]:
    """Subdivide the selected polygons once (Catmull & Clark 1978).

    Every vertex moves to its Catmull-Clark position, also outside the selection, so that vertices that are not
    split lie on the same smooth surface. Unselected neighbours of a split polygon receive its new edge vertices.

    Args:
        polygons: P polygons as vertex indices.
        selected: (P,) bool, the polygons to split.
        count: Number of vertices V.

    Returns:
        A matrix (V', V) that gives the new vertices from the old ones, the first V of which correspond to each other;
        the new polygons; and for each the index of the polygon that it comes from.
    """
    edges: dict[tuple[int, int], list[int]] = {}
    for number, polygon in enumerate(polygons):
        for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            edges.setdefault((min(a, b), max(a, b)), []).append(number)
    face_rows = sp.csr_matrix(
        (
            np.concatenate([np.full(len(p), 1 / len(p)) for p in polygons]),
            (np.repeat(np.arange(len(polygons)), [len(p) for p in polygons]), np.concatenate(polygons)),
        ),
        (len(polygons), count),
    )
    keys = np.array(list(edges))
    middles = sp.csr_matrix(
        (np.full(2 * len(keys), 0.5), (np.repeat(np.arange(len(keys)), 2), keys.ravel())), (len(keys), count)
    )
    faces_of_edge = sp.csr_matrix(
        (
            np.concatenate([np.full(len(f), 1 / len(f)) for f in edges.values()]),
            (np.repeat(np.arange(len(keys)), [len(f) for f in edges.values()]), np.concatenate(list(edges.values()))),
        ),
        (len(keys), len(polygons)),
    )
    is_border = np.array([len(f) == 1 for f in edges.values()])
    inner = sp.diags(np.where(is_border, 0.0, 0.5))
    edge_rows = (sp.eye(len(keys)) - inner) @ middles + inner @ faces_of_edge @ face_rows

    rows = [_vertex_rows(polygons, keys, is_border, face_rows, middles, count)]
    split_edges = {
        key: place
        for place, (key, faces) in enumerate(edges.items())
        if any(selected[f] for f in faces)  # the border of the selection, too
    }
    new_edge = {key: count + n for n, key in enumerate(split_edges)}
    rows.append(edge_rows.tocsr()[list(split_edges.values())])
    centres = np.flatnonzero(selected)
    rows.append(face_rows[centres])
    new_centre = {int(f): count + len(new_edge) + n for n, f in enumerate(centres)}

    out: list[list[int]] = []
    origin: list[int] = []
    for number, polygon in enumerate(polygons):
        ring = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
        middle = [new_edge.get((min(e), max(e))) for e in ring]
        if selected[number]:
            pieces = [
                [polygon[k], middle[k], new_centre[number], middle[k - 1]]  # type: ignore[list-item]
                for k in range(len(polygon))
            ]
            out += pieces
            origin += [number] * len(pieces)
        else:
            out.append([i for v, m in zip(polygon, middle, strict=True) for i in (v, m) if i is not None])
            origin.append(number)
    return sp.vstack(rows).tocsr(), out, np.array(origin)


def _vertex_rows(
    polygons: list[list[int]],
    edges: np.ndarray,
    is_border: np.ndarray,
    face_rows: sp.csr_matrix,
    middles: sp.csr_matrix,
    count: int,
) -> sp.csr_matrix:
    """Return the rule (V, V) of the old vertices: inside, (F + 2R + (n - 3)P)/n; on a border, the cubic spline's."""
    vertex = np.concatenate(polygons)
    face = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
    at_face = sp.csr_matrix((np.ones(len(vertex)), (vertex, face)), (count, len(polygons)))
    at_edge = sp.csr_matrix(
        (np.ones(2 * len(edges)), (edges.ravel(), np.repeat(np.arange(len(edges)), 2))), (count, len(edges))
    )
    faces = np.maximum(np.asarray(at_face.sum(1)).ravel(), 1)
    valence = np.maximum(np.asarray(at_edge.sum(1)).ravel(), 1)
    smooth = (
        sp.diags(1 / (faces * valence)) @ at_face @ face_rows
        + sp.diags(2 / (valence * valence)) @ at_edge @ middles
        + sp.diags((valence - 3) / valence)
    )
    border = at_edge @ sp.diags(is_border.astype(float))
    on_border = np.asarray(border.sum(1)).ravel() > 0
    spline = sp.diags(np.where(on_border, 0.25, 0)) @ border @ middles + sp.diags(np.where(on_border, 0.5, 0))
    keep = sp.diags(np.where(on_border | (faces < 1), 0.0, 1.0))
    return (keep @ smooth + spline).tocsr()


def triangulate(polygons: list[list[int]], vertices: np.ndarray) -> np.ndarray:
    """Return triangles (F, 3) int32 of polygons of up to eight corners.

    A quadrilateral is cut along its shorter diagonal; a larger polygon by repeatedly cutting off the ear with the
    shortest diagonal.
    """
    out = []
    for polygon in polygons:
        ring = list(polygon)
        while len(ring) > 3:
            size = len(ring)
            lengths = [np.linalg.norm(vertices[ring[k - 1]] - vertices[ring[(k + 1) % size]]) for k in range(size)]
            straight = [_is_straight(vertices[[ring[k - 1], ring[k], ring[(k + 1) % size]]]) for k in range(size)]
            k = int(np.argmin(np.where(straight, np.inf, np.round(lengths, 6))))
            out.append([ring[k - 1], ring[k], ring[(k + 1) % size]])
            ring.pop(k)
        out.append(ring)
    return np.array(out, np.int32)


def _is_straight(corner: np.ndarray) -> bool:
    """Return whether three points lie nearly on one line: an ear there would have no area."""
    a, b = corner[1] - corner[0], corner[2] - corner[1]
    return bool(a @ b > 0.985 * np.linalg.norm(a) * np.linalg.norm(b))
