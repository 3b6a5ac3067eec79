"""Prepares a user's mesh for fitting: welds seams, drops degenerate faces and labels connected components."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.geometry import component_labels, count_nonmanifold_edges, nondegenerate_faces, weld_seams
from kmtalk.face.proxy_surface import ProxySurface, simplify_surface
from kmtalk.face.template import Template

PROXY_THRESHOLD, PROXY_VERTICES = 40_000, 25_000  # skin vertices above which a proxy is fitted, and its size
MAX_SKIN_DISTANCE = 1.1  # of the face's size: skin further than this from the face's centre does not move
MAX_AREA = 500  # of all faces, as a multiple of the square of the mesh's size; cards of hair reach 20

Measurements = dict[str, float | int | str | bool]


@dataclass(frozen=True)
class WorkMesh:
    """The surface of a template without seams, degenerate faces and loose vertices.

    Attributes:
        vertices: (W, 3) float64 in the template's units.
        faces: (F, 3) triangles.
        vertex_map: (V,) index into `vertices` of each vertex of the file; -1 for loose vertices.
        component: (W,) label of the connected component of each vertex.
        measurements: Counts for the fit report.
        notes: Messages for the fit report.
    """

    vertices: np.ndarray
    faces: np.ndarray
    vertex_map: np.ndarray
    component: np.ndarray
    measurements: Measurements = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_file_vertices(self, values: np.ndarray) -> np.ndarray:
        """Map offsets (R, W, 3) to the vertices of the file, (R, V, 3) float32; loose vertices get zero."""
        if len(self.vertex_map) == len(self.vertices) and (self.vertex_map == np.arange(len(self.vertex_map))).all():
            return values.astype(np.float32, copy=False)
        out = np.zeros((len(values), len(self.vertex_map), 3), np.float32)
        mapped = self.vertex_map >= 0
        for row, shape in enumerate(
            values
        ):  # one at a time: with millions of vertices, all at once take gigabytes more
            out[row, mapped] = shape[self.vertex_map[mapped]]
        return out

    def first_file_vertex(self) -> np.ndarray:
        """Return the first vertex of the file that maps to each vertex, (W,)."""
        out = np.zeros(len(self.vertices), np.int64)
        index = np.flatnonzero(self.vertex_map >= 0)[::-1]
        out[self.vertex_map[index]] = index
        return out


def prepare_mesh(template: Template, weld: bool = True) -> WorkMesh:
    """Prepare a template for fitting.

    Args:
        template: The mesh as read from the file.
        weld: Join the coincident vertices of seams.

    Raises:
        InputError: No face has an area, or thousands lie over one another.
    """
    vertices, faces = template.vertices.astype(np.float64), np.asarray(template.faces, np.int64)
    notes: list[str] = []
    facts: Measurements = {}
    representative = np.arange(len(vertices))
    if weld:
        representative = weld_seams(template.vertices, faces)
        faces = representative[faces]
        facts["joined_vertices"] = int((representative != np.arange(len(representative))).sum())
    valid = nondegenerate_faces(vertices, faces)
    if not valid.any():
        raise InputError(f"{template.display_name}: no face has an area; repair the mesh")
    _check_overlap(template.display_name, vertices, faces[valid])
    if not valid.all():
        facts["degenerate_faces"] = int((~valid).sum())
        notes.append(f"{(~valid).sum()} faces without an area are ignored (first: {np.flatnonzero(~valid)[0] + 1})")
    faces = faces[valid]
    nonmanifold = count_nonmanifold_edges(faces)
    if nonmanifold:
        facts["non_manifold_edges"] = nonmanifold
        notes.append(f"{nonmanifold} edges belong to more than two faces; shapes are transferred across them as well")
    used = np.unique(faces)
    new_index = np.full(len(vertices), -1)
    new_index[used] = np.arange(len(used))
    vertex_map = new_index[representative]
    if (vertex_map < 0).any():
        facts["loose_vertices"] = int((vertex_map < 0).sum())
        notes.append(f"{(vertex_map < 0).sum()} vertices belong to no face with an area and stay where they are")
    faces = new_index[faces]
    component = component_labels(len(used), faces)
    facts["pieces"] = int(component.max()) + 1
    return WorkMesh(vertices[used], faces, vertex_map, component, facts, tuple(notes))


def _check_overlap(name: str, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise InputError where triangles cover one another so often that no picture of them is drawn in time."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())
    if area > MAX_AREA * float((np.ptp(vertices[faces].reshape(-1, 3), axis=0) ** 2).sum()):
        raise InputError(f"{name}: its faces lie over one another thousands of times; remove the repeated ones")


@dataclass(frozen=True)
class Skin:
    """The skin of the face, as a part of a `WorkMesh`.

    Attributes:
        index: (S,) its vertices, as indices into the work mesh.
        vertices: (P, 3) vertices to fit on: those of the proxy if there is one, else those at `index`.
        faces: Triangles among `vertices`.
        all_vertices: All vertices of the skin's connected components, also those too far from the face to move,
            as indices into the work mesh.
        proxy: The simplified surface of a dense skin, or None.
    """

    index: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    all_vertices: np.ndarray
    proxy: ProxySurface | None

    def to_skin(self, values: np.ndarray) -> np.ndarray:
        """Map values (P, 3) at `vertices` to values (S, 3) at `index`."""
        return values if self.proxy is None else self.proxy.surface_points(values)

    def nearest_mesh_vertex(self, vertices: np.ndarray) -> np.ndarray:
        """Return, for each index into `vertices`, the nearest vertex of the skin, as an index into the work mesh."""
        if self.proxy is None:
            return self.index[vertices]
        out: np.ndarray = self.index[self._tree.query(self.vertices[vertices])[1]]
        return out

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.to_skin(self.vertices))


def find_skin(mesh: WorkMesh, landmarks: np.ndarray, size: float) -> Skin:
    """Find the skin: the connected components on which the landmarks lie, within reach of the face.

    Args:
        mesh: The prepared mesh.
        landmarks: (L, 3) positions of the landmarks.
        size: The face's size; skin further than `MAX_SKIN_DISTANCE` times this from the landmarks' mean is left
            out.

    Returns:
        The skin, with a proxy if it has more than `PROXY_THRESHOLD` vertices.
    """
    nearest_component = mesh.component[cKDTree(mesh.vertices).query(landmarks)[1]]
    votes = np.bincount(nearest_component, minlength=int(mesh.component.max()) + 1)
    # some eyelid landmarks fall on the eyeballs; of a few given landmarks, a component needs at least half
    chosen = np.flatnonzero(votes >= max((0.12 if len(landmarks) > 50 else 0.5) * len(landmarks), 1))
    if not len(chosen):
        chosen = np.array([votes.argmax()])
    on_skin = np.isin(mesh.component, chosen)
    inside = on_skin & (np.linalg.norm(mesh.vertices - landmarks.mean(0), axis=1) < MAX_SKIN_DISTANCE * size)
    faces = mesh.faces[inside[mesh.faces].all(1)]
    index = np.unique(faces)
    vertices, faces = mesh.vertices[index], np.searchsorted(index, faces)
    proxy = simplify_surface(vertices, faces, PROXY_VERTICES) if len(index) > PROXY_THRESHOLD else None
    if proxy is not None:
        vertices, faces = proxy.vertices, proxy.faces
    return Skin(index, vertices, faces, np.flatnonzero(on_skin), proxy)
