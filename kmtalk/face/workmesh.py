"""A user's mesh made fit to compute on: seams joined, faces without area left out, pieces told apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.geometry import components, crowded_edges, sound_faces, weld
from kmtalk.face.proxy import Proxy, simplify
from kmtalk.face.template import Template

HEAVY, LIGHT = 40_000, 25_000  # skin vertices from which a proxy is fitted, and the proxy's
AROUND = 1.1  # of the face's size: what of the skin is further from its middle does not move

Facts = dict[str, float | int | str | bool]


@dataclass(frozen=True)
class WorkMesh:
    """``vertices`` (W, 3) float64 and ``faces`` of the template's sound surface; ``place`` (V,) says which of them
    each vertex of the file is, -1 for loose ones; ``piece`` (W,) numbers connected pieces; ``facts`` and
    ``remarks`` are for the report."""

    vertices: np.ndarray
    faces: np.ndarray
    place: np.ndarray
    piece: np.ndarray
    facts: Facts = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def on_file(self, values: np.ndarray) -> np.ndarray:
        """Shapes (R, W, 3) → at the file's vertices (R, V, 3) float32; zero at loose ones."""
        if len(self.place) == len(self.vertices) and (self.place == np.arange(len(self.place))).all():
            return values.astype(np.float32, copy=False)
        out = np.zeros((len(values), len(self.place), 3), np.float32)
        whole = self.place >= 0
        for row, shape in enumerate(values):  # one by one: of millions of vertices all at once are gigabytes more
            out[row, whole] = shape[self.place[whole]]
        return out

    def first_on_file(self) -> np.ndarray:
        """One vertex of the file for each vertex (W,)."""
        out = np.zeros(len(self.vertices), np.int64)
        index = np.flatnonzero(self.place >= 0)[::-1]
        out[self.place[index]] = index
        return out


def prepare(template: Template, join: bool = True) -> WorkMesh:
    """The template to compute on; unless ``join``, vertices at one place stay apart.

    Raises InputError where no face has an area.
    """
    vertices, faces = template.vertices.astype(np.float64), np.asarray(template.faces, np.int64)
    remarks: list[str] = []
    facts: Facts = {}
    lead = np.arange(len(vertices))
    if join:
        lead = weld(template.vertices, faces)
        faces = lead[faces]
        facts["joined_vertices"] = int((lead != np.arange(len(lead))).sum())
    sound = sound_faces(vertices, faces)
    if not sound.any():
        raise InputError(f"{template.label}: no face has an area; repair the mesh")
    if not sound.all():
        facts["degenerate_faces"] = int((~sound).sum())
        remarks.append(
            f"{(~sound).sum()} faces without an area are passed over (first: {np.flatnonzero(~sound)[0] + 1})"
        )
    faces = faces[sound]
    crowded = crowded_edges(faces)
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
    piece = components(len(used), faces)
    facts["pieces"] = int(piece.max()) + 1
    return WorkMesh(vertices[used], faces, place, piece, facts, tuple(remarks))


@dataclass(frozen=True)
class Skin:
    """The face's surface: ``index`` (S,) into the work mesh's vertices, ``vertices`` and ``faces`` of itself or
    of its lighter ``proxy``; ``whole`` are all vertices of its pieces, those too far from the face included."""

    index: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    whole: np.ndarray
    proxy: Proxy | None

    def back(self, values: np.ndarray) -> np.ndarray:
        """Values (S or proxy, 3) → at ``index`` (S, 3)."""
        return values if self.proxy is None else self.proxy.places(values)

    def own(self, vertices: np.ndarray) -> np.ndarray:
        """The work mesh's vertex nearest to each of these of the surface (P,)."""
        if self.proxy is None:
            return self.index[vertices]
        out: np.ndarray = self.index[self._tree.query(self.vertices[vertices])[1]]
        return out

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.back(self.vertices))


def find_skin(mesh: WorkMesh, landmarks: np.ndarray, size: float) -> Skin:
    """The pieces that carry the landmarks (L, 3), as far as the face reaches."""
    near = mesh.piece[cKDTree(mesh.vertices).query(landmarks)[1]]
    votes = np.bincount(near, minlength=int(mesh.piece.max()) + 1)
    # eyeballs get landmarks of the lids; of a handful of given ones only most count
    chosen = np.flatnonzero(votes >= max((0.12 if len(landmarks) > 50 else 0.5) * len(landmarks), 1))
    if not len(chosen):
        chosen = np.array([votes.argmax()])
    own = np.isin(mesh.piece, chosen)
    inside = own & (np.linalg.norm(mesh.vertices - landmarks.mean(0), axis=1) < AROUND * size)
    faces = mesh.faces[inside[mesh.faces].all(1)]
    index = np.unique(faces)
    vertices, faces = mesh.vertices[index], np.searchsorted(index, faces)
    proxy = simplify(vertices, faces, LIGHT) if len(index) > HEAVY else None
    if proxy is not None:
        vertices, faces = proxy.vertices, proxy.faces
    return Skin(index, vertices, faces, np.flatnonzero(own), proxy)
