"""Regions, landmarks and preview colours of a mesh that a rig was fitted to, from those of the source head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.correspondence import Correspondence
from kmtalk.face.geometry import interpolate_barycentric
from kmtalk.face.lips import Lips
from kmtalk.face.registration import SimilarityTransform
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template
from kmtalk.face.work_mesh import Skin, WorkMesh

CLAY_COLOR = (214, 168, 143)  # sRGB colour of the default head's skin
PART_COLORS = {
    "upper_teeth": (232, 226, 214),
    "lower_teeth": (232, 226, 214),
    "tongue": (178, 96, 96),
    "inner_mouth": (120, 50, 50),
    "eye_left": (238, 238, 236),
    "eye_right": (238, 238, 236),
    "carried": (96, 74, 62),
    "apart": (160, 150, 145),
}


def locate_regions(
    template: Template,
    source_head: SourceHead,
    mesh: WorkMesh,
    skin: Skin,
    warped: np.ndarray,
    matched: Correspondence,
    lips: Lips | None,
    parts: Mapping[str, np.ndarray],
    similarity: SimilarityTransform,
) -> Template:
    """The template with the regions, landmarks and preview colours of the source head."""
    file_vertex = mesh.first_file_vertex()
    source = source_head.rig.template
    source_vertex = source_head.faces[matched.triangle, :][np.arange(len(matched.triangle)), matched.weights.argmax(1)]
    source_index = np.where(matched.reliable & matched.in_face, source_head.skin[source_vertex], -1)
    skin_landmarks: dict[str, int] = {}
    if len(skin.vertices) < 3:
        raise InputError(f"{template.display_name}: no surface near the landmarks; check their axes and units")
    tree = cKDTree(skin.vertices)
    for name, point in source_head.landmarks.items():
        target_point = warped[source_head.nearest_skin_vertex(point[None])[0]]
        skin_landmarks[name] = int(tree.query(target_point)[1])
    if lips is not None:
        middle = lips.middle_third[len(lips.middle_third) // 2]
        for name, side in (("lip_inner_upper", lips.upper), ("lip_inner_lower", lips.lower)):
            skin_landmarks[name] = int(side.corners[middle, side.weights[middle].argmax()])
    landmarks = {name: file_vertex[skin.nearest_mesh_vertex(np.array([v]))][0] for name, v in skin_landmarks.items()}
    regions: dict[str, np.ndarray] = {"skin": file_vertex[skin.index]}
    for name, index in source.regions.items():
        if name in ("lips", "inner_lips", "mouth", "upper_face", "chin"):
            regions[name] = np.unique(
                file_vertex[skin.nearest_mesh_vertex(np.flatnonzero(np.isin(source_index, index)))]
            )
    if lips is not None:
        rim = np.stack([p.corners[np.arange(len(p.corners)), p.weights.argmax(1)] for p in (lips.upper, lips.lower)], 1)
        rim = rim[np.sort(np.unique(rim, axis=0, return_index=True)[1])]  # from the right corner to the left
        regions["lip_pairs"] = file_vertex[skin.nearest_mesh_vertex(rim.ravel())].reshape(-1, 2)
    else:
        regions["lip_pairs"] = np.array([[landmarks["lip_inner_upper"], landmarks["lip_inner_lower"]]])
    regions["corners"] = np.array([landmarks["mouth_left"], landmarks["mouth_right"]])
    for kind, index in parts.items():
        regions[kind] = file_vertex[index]
    vertex_landmarks = {name: int(v) for name, v in landmarks.items()}
    preview_colors = _preview_colors(template, source_head, mesh, skin, matched, parts, similarity)
    return replace(template, regions=regions, landmarks=vertex_landmarks, shapes={}, preview_colors=preview_colors)


def _preview_colors(
    template: Template,
    source_head: SourceHead,
    mesh: WorkMesh,
    skin: Skin,
    matched: Correspondence,
    parts: Mapping[str, np.ndarray],
    similarity: SimilarityTransform,
) -> np.ndarray:
    """Preview colours (V, 3) uint8 sRGB: the source head's lips, brows and inner mouth on a clay skin."""
    colors = np.tile(np.array(CLAY_COLOR, np.float32), (len(mesh.vertices), 1))
    source = source_head.rig.template.colors
    if source is not None:
        skin_colors = interpolate_barycentric(
            source[source_head.skin].astype(np.float32), source_head.faces, matched.triangle, matched.weights
        )
        face_colors = np.where((matched.reliable & matched.in_face)[:, None], skin_colors, CLAY_COLOR)
        colors[skin.index] = skin.to_skin(face_colors)
    for kind, index in parts.items():
        colors[index] = PART_COLORS.get(kind, CLAY_COLOR)
        if kind.startswith("eye") and source is not None:
            colors[index] = _eye_colors(source_head, kind, similarity.inverse(mesh.vertices[index]), source)
    file_colors = np.tile(np.array(CLAY_COLOR, np.uint8), (len(template.vertices), 1))
    used = mesh.vertex_map >= 0
    file_colors[used] = np.round(colors[mesh.vertex_map[used]]).astype(np.uint8)
    return file_colors


def _eye_colors(source_head: SourceHead, side: str, points: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Colours (P, 3) of the source head's eye at points with the same direction from the eye's centre."""
    region = source_head.rig.template.regions[side]
    eye = source_head.rig.template.vertices[region].astype(np.float64)
    unit_directions = []
    for ball in (eye, points):
        directions = ball - (ball.min(0) + ball.max(0)) / 2
        unit_directions.append(directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12))
    colors: np.ndarray = source[region][cKDTree(unit_directions[0]).query(unit_directions[1])[1]]
    return colors
