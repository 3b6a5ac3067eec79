"""A user's mesh made fit to compute on: seams joined, faces without area left out, pieces told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.geometry import component_labels, count_nonmanifold_edges, nondegenerate_faces, weld_seams
from kmtalk.face.proxy_surface import ProxySurface, simplify_surface
from kmtalk.face.template import Template

PROXY_THRESHOLD, PROXY_VERTICES = 40_000, 25_000  # skin vertices from which a proxy is fitted, and the proxy's
MAX_SKIN_DISTANCE = 1.1  # of the face's size: what of the skin is further from its middle does not move

Measurements = dict[str, float | int | str | bool]


@dataclass(frozen=True)
class WorkMesh:
    """``vertices`` (W, 3) float64 and ``faces`` of the template's sound surface; ``vertex_map`` (V,) says which of them
    each vertex of the file is, -1 for loose ones; ``component`` (W,) numbers connected pieces; ``measurements`` and
    ``notes`` are for the report."""

    vertices: np.ndarray
    faces: np.ndarray
    vertex_map: np.ndarray
    component: np.ndarray
    measurements: Measurements = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_file_vertices(self, values: np.ndarray) -> np.ndarray:
        """Shapes (R, W, 3) → at the file's vertices (R, V, 3) float32; zero at loose ones."""
        if len(self.vertex_map) == len(self.vertices) and (self.vertex_map == np.arange(len(self.vertex_map))).all():
            return values.astype(np.float32, copy=False)
        out = np.zeros((len(values), len(self.vertex_map), 3), np.float32)
        whole = self.vertex_map >= 0
        for row, shape in enumerate(values):  # one by one: of millions of vertices all at once are gigabytes more
            out[row, whole] = shape[self.vertex_map[whole]]
        return out

    def first_file_vertex(self) -> np.ndarray:
        """One vertex of the file for each vertex (W,)."""
        out = np.zeros(len(self.vertices), np.int64)
        index = np.flatnonzero(self.vertex_map >= 0)[::-1]
        out[self.vertex_map[index]] = index
        return out


def prepare_mesh(template: Template, weld: bool = True) -> WorkMesh:
    """The template to compute on; unless ``weld``, vertices at one place stay apart.

    Raises InputError where no face has an area.
    """
    vertices, faces = template.vertices.astype(np.float64), np.asarray(template.faces, np.int64)
    remarks: list[str] = []
    facts: Measurements = {}
    lead = np.arange(len(vertices))
    if weld:
        lead = weld_seams(template.vertices, faces)
        faces = lead[faces]
        facts["joined_vertices"] = int((lead != np.arange(len(lead))).sum())
    sound = nondegenerate_faces(vertices, faces)
    if not sound.any():
        raise InputError(f"{template.display_name}: no face has an area; repair the mesh")
    if not sound.all():
        facts["degenerate_faces"] = int((~sound).sum())
        remarks.append(
            f"{(~sound).sum()} faces without an area are passed over (first: {np.flatnonzero(~sound)[0] + 1})"
        )
    faces = faces[sound]
    crowded = count_nonmanifold_edges(faces)
    if crowded:
        facts["non_manifold_edges"] = crowded
        remarks.append(f"{crowded} edges join more than two faces; shapes are carried over them all the same")
    used = np.unique(faces)
    number = np.full(len(vertices), -1)
    number[used] = np.arange(len(used))
    place = number[lead]
    if (place < 0).any():
        facts["loose_vertices"] = int((place < 0).sum())
        remarks.append(f"{(place < 0).sum()} vertices belong to no face with an area and stay where they are")
    faces = number[faces]
    piece = component_labels(len(used), faces)
    facts["pieces"] = int(piece.max()) + 1
    return WorkMesh(vertices[used], faces, place, piece, facts, tuple(remarks))


@dataclass(frozen=True)
class Skin:
    """The face's surface: ``index`` (S,) into the work mesh's vertices, ``vertices`` and ``faces`` of itself or
    of its lighter ``proxy``; ``all_vertices`` are all vertices of its pieces, those too far from the face included."""

    index: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    all_vertices: np.ndarray
    proxy: ProxySurface | None

    def to_skin(self, values: np.ndarray) -> np.ndarray:
        """Values (S or proxy, 3) → at ``index`` (S, 3)."""
        return values if self.proxy is None else self.proxy.surface_points(values)

    def nearest_mesh_vertex(self, vertices: np.ndarray) -> np.ndarray:
        """The work mesh's vertex nearest to each of these of the surface (P,)."""
        if self.proxy is None:
            return self.index[vertices]
        out: np.ndarray = self.index[self._tree.query(self.vertices[vertices])[1]]
        return out

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.to_skin(self.vertices))


def find_skin(mesh: WorkMesh, landmarks: np.ndarray, size: float) -> Skin:
    """The pieces that carry the landmarks (L, 3), as far as the face reaches."""
    near = mesh.component[cKDTree(mesh.vertices).query(landmarks)[1]]
    votes = np.bincount(near, minlength=int(mesh.component.max()) + 1)
    # eyeballs get landmarks of the lids; of a handful of given ones only most count
    chosen = np.flatnonzero(votes >= max((0.12 if len(landmarks) > 50 else 0.5) * len(landmarks), 1))
    if not len(chosen):
        chosen = np.array([votes.argmax()])
    own = np.isin(mesh.component, chosen)
    inside = own & (np.linalg.norm(mesh.vertices - landmarks.mean(0), axis=1) < MAX_SKIN_DISTANCE * size)
    faces = mesh.faces[inside[mesh.faces].all(1)]
    index = np.unique(faces)
    vertices, faces = mesh.vertices[index], np.searchsorted(index, faces)
    proxy = simplify_surface(vertices, faces, PROXY_VERTICES) if len(index) > PROXY_THRESHOLD else None
    if proxy is not None:
        vertices, faces = proxy.vertices, proxy.faces
    return Skin(index, vertices, faces, np.flatnonzero(own), proxy)
