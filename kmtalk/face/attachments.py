"""What is not skin: teeth and tongue that ride on the jaw, eyes that turn, lashes and hair that are carried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from kmtalk.face.geometry import edge_length_graph
from kmtalk.face.registration import SimilarityTransform
from kmtalk.face.rig import HEAD_NAMES
from kmtalk.face.source_head import SourceHead

PART_KINDS = ("eye_left", "eye_right", "upper_teeth", "lower_teeth", "tongue", "inner_mouth", "carried", "apart")
PART_NAME_PATTERNS = {
    "tongue": r"tongue|zunge|langue",
    "upper_teeth": r"(upper|top).*(teeth|tooth|gum|dent)|(teeth|tooth|gum|dent).*(upper|top|_u\b|up\b)",
    "lower_teeth": r"(lower|bottom).*(teeth|tooth|gum|dent)|(teeth|tooth|gum|dent).*(lower|bottom|_l\b|low\b|down\b)",
    "carried": r"lash|brow|beard|mustache|moustache|stubble|tear|occlusion|caruncle",
}
"""What files call their parts, where they call them anything."""

MIN_DEPTH_BEHIND_LIPS = (
    0.002  # metres behind where the lips meet: what is nearer to the front, such as a moustache, is not in the mouth
)
JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight", "mouthClose")


@dataclass(frozen=True)
class MouthFrame:
    """Target points as the atlas would have them: its similarity undone, then the mouth laid on the
    atlas's and scaled to its width."""

    similarity: SimilarityTransform
    mouth: np.ndarray
    own_mouth: np.ndarray
    width_ratio: float

    def to_source(self, points: np.ndarray) -> np.ndarray:
        out: np.ndarray = (self.similarity.inverse(points) - self.mouth) / self.width_ratio + self.own_mouth
        return out

    def to_target(self, offsets: np.ndarray) -> np.ndarray:
        """Displacements in the atlas's axes → the target's."""
        out: np.ndarray = self.similarity.scale * offsets @ self.similarity.rotation.T
        return out


def make_mouth_frame(atlas: SourceHead, warped: np.ndarray, similarity: SimilarityTransform) -> MouthFrame:
    ends = atlas.nearest_skin_vertex(np.array([atlas.landmarks["mouth_left"], atlas.landmarks["mouth_right"]]))
    own = atlas.vertices[atlas.lip_pairs].mean((0, 1))
    there = similarity.inverse(warped[atlas.lip_pairs].mean((0, 1)))
    width = np.linalg.norm(np.subtract(*similarity.inverse(warped[ends])))
    grown = float(width / np.linalg.norm(np.subtract(*atlas.vertices[ends])))
    return MouthFrame(similarity, there, own, grown)


def classify_parts(
    atlas: SourceHead,
    frame: MouthFrame,
    vertices: np.ndarray,
    piece: np.ndarray,
    skin: np.ndarray,
    names: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Kind → vertices of everything but ``skin``. ``piece`` (V,) numbers connected pieces; ``names`` are the
    file's own: object name → vertices."""
    template = atlas.rig.template
    rest = np.setdiff1d(np.arange(len(vertices)), skin)
    if not len(rest):
        return {}
    called = np.full(len(vertices), "", object)
    for name, index in names.items():
        called[index] = name.lower()
    inside = frame.to_source(vertices)
    plain = frame.similarity.inverse(vertices)
    eyes = {side: template.vertices[template.regions[side]].astype(float) for side in ("eye_left", "eye_right")}
    skin_tree = cKDTree(vertices[skin])
    out: dict[str, list[np.ndarray]] = {kind: [] for kind in PART_KINDS}
    order = rest[np.argsort(piece[rest], kind="stable")]
    for index in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
        kind = next((k for k, pattern in PART_NAME_PATTERNS.items() if re.search(pattern, str(called[index[0]]))), "")
        out[
            kind or _classify_piece(atlas, inside[index], plain[index], vertices[index], skin_tree, eyes, frame)
        ].append(index)
    return {kind: np.sort(np.concatenate(found)) for kind, found in out.items() if found}


def _classify_piece(
    atlas: SourceHead,
    inside: np.ndarray,
    plain: np.ndarray,
    points: np.ndarray,
    skin: cKDTree,
    eyes: Mapping[str, np.ndarray],
    frame: MouthFrame,
) -> str:
    """What a piece is, by where it lies and how it is made."""
    for side, eye in eyes.items():
        centre, radius = eye.mean(0), np.linalg.norm(eye - eye.mean(0), axis=1).max()
        middle = (plain.min(0) + plain.max(0)) / 2
        reach = np.linalg.norm(plain - middle, axis=1).max()
        if np.linalg.norm(middle - centre) < 1.2 * radius and 0.4 * radius < reach < 1.7 * radius:
            flat = np.ptp(plain, axis=0)
            # lashes and lid rims are wide and thin; an eyeball, its cornea or its iris is as tall as wide
            return side if flat[1] > 0.6 * flat[0] else "carried"
    teeth = np.concatenate(
        [atlas.rig.template.vertices[atlas.rig.template.regions[p]] for p in ("upper_teeth", "lower_teeth", "tongue")]
    )
    low, high = teeth.min(0), teeth.max(0)
    room = 0.6 * (high - low)
    middle = inside.mean(0)
    within = ((middle > low - room) & (middle < high + room)).all() and middle[2] < frame.own_mouth[
        2
    ] - MIN_DEPTH_BEHIND_LIPS
    if within and (np.ptp(inside, axis=0) < 2.2 * (high - low)).all():
        bite = frame.own_mouth[1]
        above, below = inside[:, 1].max() - bite, bite - inside[:, 1].min()
        rear = inside[inside[:, 2] < (inside[:, 2].min() + inside[:, 2].max()) / 2]
        half = np.abs(inside[:, 0] - middle[0]).max()
        filled = len(rear) and np.abs(rear[:, 0] - middle[0]).min() < 0.25 * half and half < 0.9 * (high - low)[0] / 2
        if filled and np.ptp(inside[:, 2]) > 0.4 * (high - low)[2] and above < 0.6 * (above + below):
            return "tongue"
        if min(above, below) > 0.3 * (above + below) and above + below > 0.6 * (high - low)[1]:
            return "inner_mouth"
        return "upper_teeth" if above > below else "lower_teeth"
    close, _ = skin.query(points)
    size = frame.similarity.scale * 0.2
    return "carried" if np.percentile(close, 25) < 0.08 * size and np.ptp(plain, axis=0).max() < 0.35 else "apart"


def attach_parts(
    atlas: SourceHead,
    frame: MouthFrame,
    vertices: np.ndarray,
    faces: np.ndarray,
    skin: np.ndarray,
    parts: Mapping[str, np.ndarray],
    offsets: np.ndarray,
) -> None:
    """Fill in ``offsets`` (R, V, 3) of what is not skin, whose own are there already."""
    rig, template = atlas.rig, atlas.rig.template
    bite = frame.own_mouth[1]
    lower = template.regions["lower_teeth"]
    for kind, index in parts.items():
        inside = frame.to_source(vertices[index])
        if kind in ("lower_teeth", "inner_mouth", "tongue"):
            share = np.ones(len(index))
            if kind == "inner_mouth":
                share = np.clip(0.5 + (bite - inside[:, 1]) / 0.015, 0, 1)
            for name in JAW_SHAPES:
                ride = _fit_affine(template.vertices[lower], rig.offsets[rig.index[name]][lower], inside)
                offsets[rig.index[name], index] = share[:, None] * frame.to_target(ride)
        if kind == "tongue":
            _attach_tongue(atlas, frame, inside, index, offsets)
        if kind.startswith("eye"):
            _attach_eye(atlas, frame, kind, vertices, index, offsets)
        if kind == "carried":
            bound, weights = _bind_to_roots(vertices, faces, skin, index)
            for shape in offsets:
                shape[index] = np.einsum("pk,pkx->px", weights, shape[bound])
    add_head_rotations(atlas, frame.similarity, vertices, offsets)


def _fit_affine(places: np.ndarray, moved: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The affine map that takes ``places`` (P, 3) to displacements ``moved`` (P, 3), at other points."""
    system = np.column_stack([places, np.ones(len(places))]).astype(np.float64)
    answer, *_ = np.linalg.lstsq(system, moved.astype(np.float64), rcond=1e-6)
    return np.column_stack([at, np.ones(len(at))]) @ answer


def _attach_tongue(
    atlas: SourceHead, frame: MouthFrame, inside: np.ndarray, index: np.ndarray, offsets: np.ndarray
) -> None:
    """The atlas's tongue laid into the target's by their boxes; its own shapes and what the jaw does to it."""
    rig = atlas.rig
    own = rig.template.regions["tongue"]
    points = rig.template.vertices[own].astype(np.float64)
    box, theirs = np.ptp(points, axis=0), np.maximum(np.ptp(inside, axis=0), 1e-9)
    laid = (inside - inside.min(0)) / theirs * box + points.min(0)
    away, near = cKDTree(points).query(laid, k=4)
    weights = 1 / np.maximum(away, 1e-6) ** 2
    weights /= weights.sum(1, keepdims=True)
    for row, name in enumerate(rig.names):
        if name in HEAD_NAMES or not np.abs(rig.offsets[row, own]).max() > 1e-6:
            continue
        moved = np.einsum("pk,pkx->px", weights, rig.offsets[row, own][near])
        offsets[row, index] = frame.to_target(
            moved * np.minimum(theirs / box, 1.5) if name not in JAW_SHAPES else moved
        )


def _attach_eye(
    atlas: SourceHead, frame: MouthFrame, side: str, vertices: np.ndarray, index: np.ndarray, offsets: np.ndarray
) -> None:
    """An eye turns about its own middle as the atlas's does about its."""
    rig = atlas.rig
    own = rig.template.regions[side]
    points = rig.template.vertices[own].astype(np.float64)
    points -= (points.min(0) + points.max(0)) / 2
    box = vertices[index]
    # of several pieces (ball, cornea, iris) the whole's box is the ball's
    centre = (box.min(0) + box.max(0)) / 2
    r = frame.similarity.rotation
    for row, name in enumerate(rig.names):
        moved = rig.offsets[row, own].astype(np.float64)
        if name.startswith("eyeLook") and np.abs(moved).max() > 1e-6:
            turn, *_ = np.linalg.lstsq(points, moved - moved.mean(0), rcond=1e-6)
            offsets[row, index] = (box - centre) @ r @ turn @ r.T


def _bind_to_roots(
    vertices: np.ndarray, faces: np.ndarray, skin: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each vertex of carried pieces: the skin vertices (P, 4) around the root it grows from, and weights."""
    away, near = cKDTree(vertices[skin]).query(vertices[index], k=min(4, len(skin)))
    away, near = away.reshape(len(index), -1), near.reshape(len(index), -1)
    place = np.full(len(vertices), -1)
    place[index] = np.arange(len(index))
    local = place[faces]
    graph = edge_length_graph(vertices[index], local[(local >= 0).all(1)])
    labels = sp.csgraph.connected_components(graph, directed=False)[1]
    # the nearest tenth of each piece is its root; the rest of it goes where its root goes
    limit = np.array([np.percentile(away[labels == one, 0], 30) for one in range(labels.max() + 1)])
    root = np.flatnonzero(away[:, 0] <= limit[labels] + 1e-12)
    if len(root) and len(root) < len(index):
        _, _, source = sp.csgraph.dijkstra(graph, indices=root, min_only=True, return_predecessors=True)
        source = np.where(source < 0, np.arange(len(index)), source)
        near, away = near[source], away[source]
    weights = 1 / np.maximum(away, 1e-3 * max(float(away.max()), 1e-12)) ** 2
    return skin[near], weights / weights.sum(1, keepdims=True)


def add_head_rotations(
    atlas: SourceHead, similarity: SimilarityTransform, vertices: np.ndarray, offsets: np.ndarray
) -> None:
    """The head's small turns, as a field in space: all pieces of a head turn as one."""
    rig = atlas.rig
    own = rig.template.vertices.astype(np.float64)
    at = similarity.inverse(vertices)
    for name in HEAD_NAMES:
        moved = rig.offsets[rig.index[name]].astype(np.float64)
        full = np.linalg.norm(moved, axis=1) > 0  # where the neck does not damp it yet: the upper half
        full &= own[:, 1] > np.median(own[:, 1])
        rigid = _fit_affine(own[full], moved[full], own)
        share = (moved * rigid).sum(1) / np.maximum((rigid**2).sum(1), 1e-12)
        height = own[:, 1] + 0.25 * own[:, 2]
        clear = np.linalg.norm(rigid, axis=1) > 0.002
        bins = np.linspace(height.min(), height.max(), 60)
        which = np.digitize(height[clear], bins)
        known = [b for b in range(1, 61) if (which == b).any()]
        level = np.array([np.median(share[clear][which == b]) for b in known])
        middle = np.array([height[clear][which == b].mean() for b in known])
        level = np.maximum.accumulate(np.clip(level, 0, 1))
        level[0] = 0.0  # below the atlas's own neck nothing turns
        amount = np.interp(at[:, 1] + 0.25 * at[:, 2], middle, level)
        turned = _fit_affine(own[full], moved[full], at)
        offsets[rig.index[name]] = similarity.scale * (amount[:, None] * turned) @ similarity.rotation.T
