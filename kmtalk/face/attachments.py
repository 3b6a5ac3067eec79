"""Parts of a head that are not skin: teeth, tongue, eyes, lashes, hair; classify them and give them blendshapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from kmtalk.face.geometry import edge_length_graph
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.registration import SimilarityTransform
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template

# "carried" follows the skin that it grows from (lashes, hair); "apart" only turns with the head
PART_KINDS = ("eye_left", "eye_right", "upper_teeth", "lower_teeth", "tongue", "inner_mouth", "carried", "apart")
PART_NAME_PATTERNS = {
    "tongue": r"tongue|zunge|langue",
    "upper_teeth": r"(upper|top).*(teeth|tooth|gum|dent)|(teeth|tooth|gum|dent).*(upper|top|_u\b|up\b)",
    "lower_teeth": r"(lower|bottom).*(teeth|tooth|gum|dent)|(teeth|tooth|gum|dent).*(lower|bottom|_l\b|low\b|down\b)",
    "carried": r"lash|brow|beard|mustache|moustache|stubble|tear|occlusion|caruncle",
}
"""Part kind → regular expression for the object names that files use."""

# metres; pieces whose centre is less far behind the lip contact, such as a moustache, are not in the mouth
MIN_DEPTH_BEHIND_LIPS = 0.002
JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight", "mouthClose")


@dataclass(frozen=True)
class MouthFrame:
    """Map between the target and the source head's mouth.

    Target points are brought into the source head's axes and units by the inverse similarity; then the mouth
    centre is moved to the source's and the mouth is scaled to the source's width.

    Attributes:
        similarity: Maps source points to target points.
        target_mouth_center: Centre (3,) of the target's mouth, in the source head's axes and metres.
        source_mouth_center: Centre (3,) of the source head's mouth, metres.
        width_ratio: Width of the target's mouth, after the inverse similarity, divided by the source's.
    """

    similarity: SimilarityTransform
    target_mouth_center: np.ndarray
    source_mouth_center: np.ndarray
    width_ratio: float

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """Target points (P, 3) → points in the source head's mouth (P, 3), metres."""
        centered: np.ndarray = self.similarity.inverse(points) - self.target_mouth_center
        return centered / self.width_ratio + self.source_mouth_center

    def to_target(self, offsets: np.ndarray) -> np.ndarray:
        """Displacements (P, 3) in the source head's axes, metres → in the target's axes and units."""
        rotated: np.ndarray = self.similarity.scale * offsets @ self.similarity.rotation.T
        return rotated


def make_mouth_frame(source_head: SourceHead, warped: np.ndarray, similarity: SimilarityTransform) -> MouthFrame:
    """The mouth frame of a target over which the source skin lies `warped` (S, 3)."""
    corners = source_head.nearest_skin_vertex(
        np.array([source_head.landmarks["mouth_left"], source_head.landmarks["mouth_right"]])
    )
    source_mouth = source_head.vertices[source_head.lip_pairs].mean((0, 1))
    target_mouth = similarity.inverse(warped[source_head.lip_pairs].mean((0, 1)))
    width = np.linalg.norm(np.subtract(*similarity.inverse(warped[corners])))
    width_ratio = float(width / np.linalg.norm(np.subtract(*source_head.vertices[corners])))
    return MouthFrame(similarity, target_mouth, source_mouth, width_ratio)


def classify_parts(
    source_head: SourceHead,
    frame: MouthFrame,
    vertices: np.ndarray,
    component: np.ndarray,
    skin: np.ndarray,
    names: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Classify all connected pieces of a mesh that are not skin, by object name, else by position and form.

    Args:
        source_head: The source head.
        frame: The target's mouth frame.
        vertices: Vertices (V, 3) of the whole mesh, in target units.
        component: Label (V,) of each vertex's connected component.
        skin: Indices of the skin's vertices.
        names: Object name in the file → vertex indices.

    Returns:
        Kind (one of `PART_KINDS`) → sorted vertex indices; kinds without vertices are left out.
    """
    template = source_head.rig.template
    non_skin = np.setdiff1d(np.arange(len(vertices)), skin)
    if not len(non_skin):
        return {}
    part_names = np.full(len(vertices), "", object)
    for name, index in names.items():
        part_names[index] = name.lower()
    mouth_points = frame.to_source(vertices)
    head_points = frame.similarity.inverse(vertices)
    eyes = {side: template.vertices[template.regions[side]].astype(float) for side in ("eye_left", "eye_right")}
    skin_tree = cKDTree(vertices[skin])
    parts: dict[str, list[np.ndarray]] = {kind: [] for kind in PART_KINDS}
    order = non_skin[np.argsort(component[non_skin], kind="stable")]
    for index in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        kind = next(
            (k for k, pattern in PART_NAME_PATTERNS.items() if re.search(pattern, str(part_names[index[0]]))), ""
        )
        parts[
            kind
            or _classify_piece(
                source_head, mouth_points[index], head_points[index], vertices[index], skin_tree, eyes, frame
            )
        ].append(index)
    return {kind: np.sort(np.concatenate(pieces)) for kind, pieces in parts.items() if pieces}


def _classify_piece(
    source_head: SourceHead,
    mouth_points: np.ndarray,
    head_points: np.ndarray,
    points: np.ndarray,
    skin: cKDTree,
    eyes: Mapping[str, np.ndarray],
    frame: MouthFrame,
) -> str:
    """The kind of one connected piece (P, 3), by its position and form.

    `mouth_points` and `head_points` (P, 3) are its vertices in the source head's mouth and in its axes.
    """
    for side, eye in eyes.items():
        centre, radius = eye.mean(0), np.linalg.norm(eye - eye.mean(0), axis=1).max()
        middle = (head_points.min(0) + head_points.max(0)) / 2
        piece_radius = np.linalg.norm(head_points - middle, axis=1).max()
        if np.linalg.norm(middle - centre) < 1.2 * radius and 0.4 * radius < piece_radius < 1.7 * radius:
            extent = np.ptp(head_points, axis=0)
            # lashes and lid rims are wide and thin; an eyeball, its cornea or its iris is as tall as wide
            return side if extent[1] > 0.6 * extent[0] else "carried"
    teeth = np.concatenate(
        [
            source_head.rig.template.vertices[source_head.rig.template.regions[p]]
            for p in ("upper_teeth", "lower_teeth", "tongue")
        ]
    )
    low, high = teeth.min(0), teeth.max(0)
    margin = 0.6 * (high - low)
    middle = mouth_points.mean(0)
    in_mouth = ((middle > low - margin) & (middle < high + margin)).all() and middle[2] < frame.source_mouth_center[
        2
    ] - MIN_DEPTH_BEHIND_LIPS
    if in_mouth and (np.ptp(mouth_points, axis=0) < 2.2 * (high - low)).all():
        lip_height = frame.source_mouth_center[1]
        above, below = mouth_points[:, 1].max() - lip_height, lip_height - mouth_points[:, 1].min()
        rear = mouth_points[mouth_points[:, 2] < (mouth_points[:, 2].min() + mouth_points[:, 2].max()) / 2]
        half_width = np.abs(mouth_points[:, 0] - middle[0]).max()
        is_solid = (
            len(rear)
            and np.abs(rear[:, 0] - middle[0]).min() < 0.25 * half_width
            and half_width < 0.9 * (high - low)[0] / 2
        )
        if is_solid and np.ptp(mouth_points[:, 2]) > 0.4 * (high - low)[2] and above < 0.6 * (above + below):
            return "tongue"
        if min(above, below) > 0.3 * (above + below) and above + below > 0.6 * (high - low)[1]:
            return "inner_mouth"
        return "upper_teeth" if above > below else "lower_teeth"
    skin_distance, _ = skin.query(points)
    size = frame.similarity.scale * 0.2
    return (
        "carried"
        if np.percentile(skin_distance, 25) < 0.08 * size and np.ptp(head_points, axis=0).max() < 0.35
        else "apart"
    )


def attach_parts(
    source_head: SourceHead,
    frame: MouthFrame,
    vertices: np.ndarray,
    faces: np.ndarray,
    skin: np.ndarray,
    parts: Mapping[str, np.ndarray],
    offsets: np.ndarray,
) -> None:
    """Write the blendshapes of all parts, and the head rotations of the whole mesh, into `offsets`.

    Args:
        source_head: The source head.
        frame: The target's mouth frame.
        vertices: Vertices (V, 3) of the whole mesh, in target units.
        faces: Triangles (F, 3).
        skin: Indices of the skin's vertices.
        parts: Kind → vertex indices, from `classify_parts`.
        offsets: Blendshapes (R, V, 3) in target units, changed in place; the skin's must be filled in already.
    """
    rig, template = source_head.rig, source_head.rig.template
    lip_height = frame.source_mouth_center[1]
    lower = template.regions["lower_teeth"]
    for kind, index in parts.items():
        mouth_points = frame.to_source(vertices[index])
        if kind in ("lower_teeth", "inner_mouth", "tongue"):
            share = np.ones(len(index))
            if kind == "inner_mouth":
                share = np.clip(0.5 + (lip_height - mouth_points[:, 1]) / 0.015, 0, 1)
            for name in JAW_SHAPES:
                jaw_offsets = _fit_affine(template.vertices[lower], rig.offsets[rig.index[name]][lower], mouth_points)
                offsets[rig.index[name], index] = share[:, None] * frame.to_target(jaw_offsets)
        if kind == "tongue":
            _attach_tongue(source_head, frame, mouth_points, index, offsets)
        if kind.startswith("eye"):
            _attach_eye(source_head, frame, kind, vertices, index, offsets)
        if kind == "carried":
            roots, weights = _bind_to_roots(vertices, faces, skin, index)
            for shape in offsets:
                shape[index] = np.einsum("pk,pkx->px", weights, shape[roots])
    add_head_rotations(source_head, frame.similarity, vertices, offsets)


def _fit_affine(positions: np.ndarray, displacements: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Fit an affine map from `positions` (P, 3) to `displacements` (P, 3); evaluate it at `points` (Q, 3)."""
    system = np.column_stack([positions, np.ones(len(positions))]).astype(np.float64)
    affine, *_ = np.linalg.lstsq(system, displacements.astype(np.float64), rcond=1e-6)
    return np.column_stack([points, np.ones(len(points))]) @ affine


def carry_with_jaw(
    source_head: SourceHead,
    similarity: SimilarityTransform,
    template: Template,
    jaw_offsets: np.ndarray,
    chin: int,
) -> np.ndarray:
    """Return the motion (V, 3) under jawOpen of lower teeth and tongues, known by their names, that have no jawOpen.

    Args:
        source_head: The source head.
        similarity: Maps the source head to the target.
        template: The target.
        jaw_offsets: The file's jawOpen (V, 3).
        chin: Vertex of the chin, whose motion says how far the jaw opens.
    """
    rig, source = source_head.rig, source_head.rig.template
    jaw, lower = rig.offsets[rig.index["jawOpen"]], source.regions["lower_teeth"]
    vertices = template.vertices.astype(np.float64)
    moved = np.linalg.norm(jaw_offsets, axis=1)
    out = np.zeros_like(jaw_offsets)
    lip_height = source.vertices[[source.landmarks["lip_inner_upper"], source.landmarks["lip_inner_lower"]], 1].mean()
    opening = moved[chin] / (similarity.scale * np.linalg.norm(jaw[source.landmarks["chin"]]))
    for label, index in template.parts.items():
        kind = next((k for k, pattern in PART_NAME_PATTERNS.items() if re.search(pattern, label.lower())), "")
        is_mouth = kind in ("tongue", "lower_teeth") or (not kind and re.search("teeth|tooth|gum|dent", label.lower()))
        if not is_mouth or moved[index].max() > 0.02 * moved.max():
            continue
        points = similarity.inverse(vertices[index])
        local = np.full(len(vertices), -1)
        local[index] = np.arange(len(index))
        faces = local[template.faces]
        graph = edge_length_graph(vertices[index], faces[(faces >= 0).all(1)])
        pieces = sp.csgraph.connected_components(graph, directed=False)[1]
        heights = np.array([points[pieces == k, 1].mean() for k in range(pieces.max() + 1)])
        below = (heights < lip_height)[pieces] if not kind else np.full(len(index), True)
        motion = _fit_affine(source.vertices[lower], jaw[lower], points[below])
        out[index[below]] = opening * similarity.scale * motion @ similarity.rotation.T
    return out


def carry_lashes(template: Template, offsets: np.ndarray) -> None:
    """Let lashes, brows and beards, known by their names, follow the skin at their roots where no shape moves them.

    Args:
        template: The target, with its parts.
        offsets: The file's shapes (K, V, 3), changed in place.
    """
    moved = np.linalg.norm(offsets, axis=2).max(0)
    for label, index in template.parts.items():
        if (
            not re.search(PART_NAME_PATTERNS["carried"], label.lower())
            or moved[index].max(initial=0) > 0.02 * moved.max()
        ):
            continue
        others = np.setdiff1d(np.flatnonzero(moved > 0), index)
        roots, weights = _bind_to_roots(template.vertices, template.faces, others, index)
        for shape in offsets:
            shape[index] = np.einsum("pk,pkx->px", weights, shape[roots])


def _attach_tongue(
    source_head: SourceHead, frame: MouthFrame, mouth_points: np.ndarray, index: np.ndarray, offsets: np.ndarray
) -> None:
    """Transfer the tongue shapes and jaw motion of the source's tongue, which is aligned by bounding boxes."""
    rig = source_head.rig
    tongue = rig.template.regions["tongue"]
    points = rig.template.vertices[tongue].astype(np.float64)
    source_box, target_box = np.ptp(points, axis=0), np.maximum(np.ptp(mouth_points, axis=0), 1e-9)
    aligned = (mouth_points - mouth_points.min(0)) / target_box * source_box + points.min(0)
    distance, neighbors = cKDTree(points).query(aligned, k=4)
    weights = 1 / np.maximum(distance, 1e-6) ** 2
    weights /= weights.sum(1, keepdims=True)
    for row, name in enumerate(rig.shape_names):
        if name in HEAD_NAMES or not np.abs(rig.offsets[row, tongue]).max() > 1e-6:
            continue
        displacements = np.einsum("pk,pkx->px", weights, rig.offsets[row, tongue][neighbors])
        offsets[row, index] = frame.to_target(
            displacements * np.minimum(target_box / source_box, 1.5) if name not in JAW_SHAPES else displacements
        )


def _attach_eye(
    source_head: SourceHead, frame: MouthFrame, side: str, vertices: np.ndarray, index: np.ndarray, offsets: np.ndarray
) -> None:
    """Transfer the gaze shapes: the target's eye rotates about its own centre as the source's does."""
    rig = source_head.rig
    eye = rig.template.regions[side]
    points = rig.template.vertices[eye].astype(np.float64)
    points -= (points.min(0) + points.max(0)) / 2
    positions = vertices[index]
    # for several pieces (ball, cornea, iris) the common bounding box is the ball's
    centre = (positions.min(0) + positions.max(0)) / 2
    rotation = frame.similarity.rotation
    for row, name in enumerate(rig.shape_names):
        displacements = rig.offsets[row, eye].astype(np.float64)
        if name.startswith("eyeLook") and np.abs(displacements).max() > 1e-6:
            rotation_gradient, *_ = np.linalg.lstsq(points, displacements - displacements.mean(0), rcond=1e-6)
            offsets[row, index] = (positions - centre) @ rotation @ rotation_gradient @ rotation.T


def _bind_to_roots(
    vertices: np.ndarray, faces: np.ndarray, skin: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each vertex of "carried" pieces: the skin vertices (P, 4) around its root, and their weights (P, 4)."""
    distance, neighbors = cKDTree(vertices[skin]).query(vertices[index], k=min(4, len(skin)))
    distance, neighbors = distance.reshape(len(index), -1), neighbors.reshape(len(index), -1)
    local_index = np.full(len(vertices), -1)
    local_index[index] = np.arange(len(index))
    local = local_index[faces]
    graph = edge_length_graph(vertices[index], local[(local >= 0).all(1)])
    labels = sp.csgraph.connected_components(graph, directed=False)[1]
    # the 30 % of each piece nearest to the skin are its root; the other vertices follow their nearest root vertex
    limit = np.array([np.percentile(distance[labels == label, 0], 30) for label in range(labels.max() + 1)])
    root = np.flatnonzero(distance[:, 0] <= limit[labels] + 1e-12)
    if len(root) and len(root) < len(index):
        _, _, source = sp.csgraph.dijkstra(graph, indices=root, min_only=True, return_predecessors=True)
        source = np.where(source < 0, np.arange(len(index)), source)
        neighbors, distance = neighbors[source], distance[source]
    weights = 1 / np.maximum(distance, 1e-3 * max(float(distance.max()), 1e-12)) ** 2
    return skin[neighbors], weights / weights.sum(1, keepdims=True)


def add_head_rotations(
    source_head: SourceHead, similarity: SimilarityTransform, vertices: np.ndarray, offsets: np.ndarray
) -> None:
    """Write the head rotations (`HEAD_NAMES`) into `offsets` (R, V, 3), in place.

    Each is a rotation field in space, damped towards the neck, so that all pieces of a head move as one.
    `similarity` maps the source head to the target's `vertices` (V, 3).
    """
    rig = source_head.rig
    source_vertices = rig.template.vertices.astype(np.float64)
    head_points = similarity.inverse(vertices)
    for name in HEAD_NAMES:
        displacements = rig.offsets[rig.index[name]].astype(np.float64)
        undamped = np.linalg.norm(displacements, axis=1) > 0  # the upper half, above the damping of the neck
        undamped &= source_vertices[:, 1] > np.median(source_vertices[:, 1])
        rigid = _fit_affine(source_vertices[undamped], displacements[undamped], source_vertices)
        share = (displacements * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-12)
        height = source_vertices[:, 1] + 0.25 * source_vertices[:, 2]
        measurable = np.linalg.norm(rigid, axis=1) > 0.002
        bins = np.linspace(height.min(), height.max(), 60)
        bin_index = np.digitize(height[measurable], bins)
        filled_bins = [b for b in range(1, 61) if (bin_index == b).any()]
        bin_share = np.array([np.median(share[measurable][bin_index == b]) for b in filled_bins])
        bin_height = np.array([height[measurable][bin_index == b].mean() for b in filled_bins])
        bin_share = np.maximum.accumulate(np.clip(bin_share, 0, 1))
        bin_share[0] = 0.0  # nothing moves below the source head's neck
        amount = np.interp(head_points[:, 1] + 0.25 * head_points[:, 2], bin_height, bin_share)
        rotated = _fit_affine(source_vertices[undamped], displacements[undamped], head_points)
        offsets[rig.index[name]] = similarity.scale * (amount[:, None] * rotated) @ similarity.rotation.T
