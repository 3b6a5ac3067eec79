"""The default head's rig laid on a bare mesh: found, warped, drawn onto the surface, its shapes carried."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.attachments import attach_parts, classify_parts, make_mouth_frame
from kmtalk.face.correspondence import LOWER_LIP_JAW_SHARE, Correspondence, find_correspondence
from kmtalk.face.deformation_transfer import DeformationTransfer
from kmtalk.face.face_detection import DetectedFace, find_face
from kmtalk.face.fit_report import HUMAN_RESIDUAL, UNLIKE_HUMAN_RESIDUAL, FitReport, assess_fit, rate_confidence
from kmtalk.face.geometry import SurfacePoints, interpolate_barycentric
from kmtalk.face.lips import Lips, find_lips
from kmtalk.face.registration import (
    RbfWarp,
    SimilarityTransform,
    fit_similarity,
    fit_similarity_robust,
    fit_warp,
    nonrigid_icp,
    nonrigid_icp_amberg,
)
from kmtalk.face.rig import HEAD_NAMES, MOUTH_SEAL, Rig, compute_mouth_gain
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template, vertex_normals
from kmtalk.face.work_mesh import Skin, WorkMesh, find_skin, prepare_mesh

OPEN_AT_REST = 0.025  # of the mouth's width: lips further apart at rest than this are closed by mouthSeal
OPEN_BY_JAW = 0.12  # and further than this with the jaw's help
SEALED_SHARE = 0.012  # of the mouth's width: shapes that part the source's lips by no more keep the target's sealed
MESH_468, MESH_478 = 468, 478  # vertices of MediaPipe's face, without and with irises
MAX_LANDMARK_DISTANCE = 0.1  # of the points' own extent: a given landmark further from the mesh is not on it
CLAY_COLOR = (214, 168, 143)  # sRGB of the default head's skin
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


@dataclass(frozen=True)
class FittedRig:
    """A rig on the user's mesh, the points (L, 3) by which it was laid on, and the report."""

    rig: Rig
    landmarks: np.ndarray
    report: FitReport


@dataclass(frozen=True)
class _LandmarkPairs:
    """Landmarks on the source's skin and on the target, both (L,), and who found them."""

    places: SurfacePoints
    source: np.ndarray
    target: np.ndarray
    spread: np.ndarray | None
    by: str

    def __len__(self) -> int:
        return len(self.target)


def fit_rig(
    template: Template, atlas: SourceHead, landmarks: Mapping[str, np.ndarray] | None = None, refine: bool = False
) -> FittedRig:
    """Lay the atlas's rig on a mesh of any topology, pose and scale.

    ``landmarks`` are points (3,) in the mesh's units by name (names.MARKS), where no detector is to look
    for them; ``refine`` takes Amberg's non-rigid ICP for our own. Raises InputError where no face is found,
    fewer than three landmarks lie on the mesh, or mesh and landmarks do not lie together.
    """
    started = time.perf_counter()
    fitted, lips = _fit(template, prepare_mesh(template), atlas, landmarks, refine)
    if lips is not None and lips.is_fused and fitted.report.measurements["joined_vertices"]:
        # lips that lie at one place may have been joined with the seams
        apart, others = _fit(template, prepare_mesh(template, weld=False), atlas, landmarks, refine)
        if others is not None and not others.is_fused:
            fitted = apart
    facts = dict(fitted.report.measurements) | {"seconds": round(time.perf_counter() - started, 2)}
    return replace(fitted, report=replace(fitted.report, measurements=facts))


def _fit(
    template: Template, mesh: WorkMesh, atlas: SourceHead, landmarks: Mapping[str, np.ndarray] | None, refined: bool
) -> tuple[FittedRig, Lips | None]:
    marks = (
        _match_given_landmarks(template, mesh, atlas, landmarks)
        if landmarks is not None
        else _detect_landmarks(template, mesh, atlas)
    )
    warp = fit_warp(marks.source, marks.target, exact=marks.spread is None)
    skin = find_skin(mesh, marks.target, warp.size)
    warped = warp(atlas.vertices)
    if _is_inside_out(warped, atlas.faces, skin):
        mesh = replace(
            mesh,
            faces=mesh.faces[:, ::-1],
            notes=(*mesh.notes, "its faces are wound inwards (mirrored?): taken the other way round"),
        )
        skin = find_skin(mesh, marks.target, warp.size)
    matched = find_correspondence(warped, atlas.faces, atlas.jaw_motion, skin.vertices, skin.faces, warp.size)
    if matched.in_face.sum() < 20:
        raise InputError(
            f"{template.display_name}: landmarks and mesh do not lie together; check the points' axes and units"
        )
    held = SurfacePoints(marks.places.corners[warp.inliers], marks.places.weights[warp.inliers])
    aims = marks.target[warp.inliers]
    if refined:
        warped = nonrigid_icp_amberg(warped, atlas.faces, held, aims, skin.vertices, skin.faces)
    else:
        pull = held.matrix(len(atlas.skin))
        lower = atlas.jaw_motion > LOWER_LIP_JAW_SHARE
        warped = nonrigid_icp(
            warped, atlas.faces, lower, pull, aims, skin.vertices, skin.faces, matched.on_lower_lip, warp.size
        )
    matched = find_correspondence(
        warped, atlas.faces, atlas.jaw_motion, skin.vertices, skin.faces, warp.size, matched.on_lower_lip
    )
    lips = find_lips(atlas, warped, skin.vertices, skin.faces, matched, warp.similarity, warp.size)
    off = fit_similarity_robust(marks.source, marks.target)[1]
    if lips is None and landmarks is None and np.median(off) > HUMAN_RESIDUAL * warp.size:
        raise FaceNotFoundError(
            f"{template.display_name}: what looks like a face has no lips; if it has, give --landmarks FILE"
        )
    names, offsets = _transfer_shapes(atlas, mesh, skin, matched, warp, lips)
    frame = make_mouth_frame(atlas, warped, warp.similarity)
    called = {name: mesh.vertex_map[i][mesh.vertex_map[i] >= 0] for name, i in template.parts.items()}
    parts = classify_parts(atlas, frame, mesh.vertices, mesh.component, skin.all_vertices, called)
    attach_parts(atlas, frame, mesh.vertices, mesh.faces, skin.index, parts, offsets[: len(atlas.rig.names)])
    located = _locate_regions(template, atlas, mesh, skin, warped, matched, lips, parts, warp.similarity)
    standing = SimilarityTransform(1.0, warp.similarity.rotation, np.zeros(3)).inverse(template.vertices)
    rig = Rig(located, names, mesh.to_file_vertices(offsets), upright_vertices=standing.astype(np.float32))
    if lips is not None:
        rig = replace(rig, mouth_gain=compute_mouth_gain(rig, atlas.rig))

    doubts, facts = assess_fit(atlas, rig, warp, off, marks.spread, warped, skin.vertices, matched, lips, len(marks))
    remarks = list(mesh.notes)
    if MOUTH_SEAL in names and lips is not None:
        gap = float(np.median(lips.rest_gap[lips.middle_third])) / lips.width
        remarks.append(
            f"the mouth is open at rest (by {gap:.0%} of its width): taken as relaxed; {MOUTH_SEAL} closes it for speech"
        )
    if skin.proxy is not None:
        remarks.append(f"{len(skin.index)} vertices of skin were fitted through a proxy of {len(skin.vertices)}")
    facts = mesh.measurements | facts | {"parts": ", ".join(f"{k} {len(v)}" for k, v in parts.items()) or "none"}
    facts |= {
        "landmarks_by": marks.by,
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.mouth_gain, 3),
        "refined": refined,
    }
    trust = rate_confidence(doubts, float(np.median(off)) / warp.size, lips)
    return FittedRig(rig, marks.target, FitReport("fitted", trust, tuple(doubts), tuple(remarks), facts)), lips


def _is_inside_out(warped: np.ndarray, faces: np.ndarray, skin: Skin) -> bool:
    """Whether the skin's normals point the other way than the source's that lies over it (S, 3)."""
    away, nearest = cKDTree(warped).query(skin.vertices)
    near = away < np.percentile(away, 50)
    own, theirs = vertex_normals(skin.vertices, skin.faces)[near], vertex_normals(warped, faces)[nearest[near]]
    return bool(np.einsum("ij,ij->i", own, theirs).mean() < 0)


def _mediapipe_topology_landmarks(template: Template, atlas: SourceHead) -> _LandmarkPairs | None:
    """Landmarks of a mesh whose vertices are MediaPipe's landmarks, in their order: nothing is to be found then."""
    vertices = template.vertices.astype(np.float64)
    if len(vertices) not in (MESH_468, MESH_478):
        return None
    which = atlas.usable_landmarks & (np.arange(MESH_478) < len(vertices))
    places = atlas.detector_landmarks_on_skin(which, on_rims=True)
    source, target = places(atlas.vertices), vertices[np.flatnonzero(which)]
    off = np.median(fit_similarity_robust(source, target)[1])
    if off > UNLIKE_HUMAN_RESIDUAL * np.linalg.norm(np.ptp(target, axis=0)):
        return None
    return _LandmarkPairs(places, source, target, None, "topology")


def _detect_landmarks(template: Template, mesh: WorkMesh, atlas: SourceHead) -> _LandmarkPairs:
    known = _mediapipe_topology_landmarks(template, atlas)
    if known is not None:
        return known
    found: DetectedFace | None = find_face(mesh.vertices, mesh.faces)
    if found is None:
        raise FaceNotFoundError(
            f"{template.display_name}: no face found on this mesh; if it has one, give --landmarks FILE"
        )
    seen = atlas.usable_landmarks & np.isfinite(found.points[:, 0])
    if seen.sum() < 3:
        raise FaceNotFoundError(
            f"{template.display_name}: fewer than three landmarks of the face are visible; give --landmarks FILE"
        )
    places = atlas.detector_landmarks_on_skin(seen)
    return _LandmarkPairs(places, places(atlas.vertices), found.points[seen], found.spread[seen], "detector")


def _match_given_landmarks(
    template: Template, mesh: WorkMesh, atlas: SourceHead, landmarks: Mapping[str, np.ndarray]
) -> _LandmarkPairs:
    names = [name for name in landmarks if name in atlas.landmarks]
    points = np.array([landmarks[name] for name in names], np.float64).reshape(-1, 3)
    extent = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
    on = cKDTree(mesh.vertices).query(points)[0] < MAX_LANDMARK_DISTANCE * extent if len(points) else np.zeros(0, bool)
    edge = _median_edge_length(mesh)
    if len(points):
        on |= cKDTree(mesh.vertices).query(points)[0] < 2 * edge
    if on.sum() < 3:
        raise InputError(
            f"{template.display_name}: fewer than three landmarks lie on the mesh ({on.sum()} of {len(landmarks)} given); "
            "give points on its surface, in its own units and axes"
        )
    points, names = points[on], [name for name, kept in zip(names, on, strict=True) if kept]
    if np.linalg.matrix_rank(points - points.mean(0), tol=0.05 * extent) < 2:
        raise InputError(f"{template.display_name}: the landmarks lie on one line; give some that do not")
    places = atlas.named_landmarks_on_skin(names)
    source = places(atlas.vertices)
    # whoever took the picture's left for the face's has a mirror image, which no turn makes right
    swapped = atlas.named_landmarks_on_skin([_mirrored_name(n) for n in names])
    if _similarity_error(swapped(atlas.vertices), points) < 0.5 * _similarity_error(source, points):
        return _LandmarkPairs(swapped, swapped(atlas.vertices), points, None, "hand")
    return _LandmarkPairs(places, source, points, None, "hand")


def _mirrored_name(name: str) -> str:
    if name.endswith("_left"):
        return name.removesuffix("left") + "right"
    return name.removesuffix("right") + "left" if name.endswith("_right") else name


def _similarity_error(source: np.ndarray, target: np.ndarray) -> float:
    return float(np.linalg.norm(fit_similarity(source, target)(source) - target))


def _median_edge_length(mesh: WorkMesh) -> float:
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // 10_000)]]
    return float(np.median(np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)))


class FaceNotFoundError(InputError):
    """No face was found: a picture of what was looked at helps."""


def _transfer_shapes(
    atlas: SourceHead, mesh: WorkMesh, skin: Skin, matched: Correspondence, warp: RbfWarp, lips: Lips | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and offsets (R, W, 3) float32 of the shapes on the skin; the rest of the mesh is still."""
    names = atlas.rig.names
    carry = DeformationTransfer(atlas, skin.vertices, skin.faces, matched, warp.similarity, warp.size, lips)
    open_at_rest = lips is not None and float(np.median(lips.rest_gap[lips.middle_third])) > OPEN_AT_REST * lips.width
    offsets = np.zeros((len(names) + open_at_rest, len(mesh.vertices), 3), np.float32)
    up = warp.similarity.rotation @ [0.0, 1.0, 0.0]
    jaw = None
    for row, name in enumerate(names):
        if name in HEAD_NAMES:
            continue  # turned as a field in space, with all that is not skin
        shape = carry(row)
        if lips is not None:
            wanted = carry.source_lip_separation(row)
            if name == "mouthClose":  # the lips meet behind the target's own jaw, not the source's
                assert jaw is not None
                wanted = wanted + carry.source_lip_separation(names.index("jawOpen")) - carry.lip_separation(jaw)
            if name == "mouthClose" or np.linalg.norm(wanted, axis=1).max() < SEALED_SHARE * lips.width:
                short = wanted - carry.lip_separation(shape)
                if name != "mouthClose":  # sliding lips stay shut
                    short = (short @ up)[:, None] * up
                shape = shape + carry.separate_lips(short)
        offsets[row, skin.index] = skin.to_skin(shape)
        if name == "jawOpen":
            jaw = shape
    if not open_at_rest:
        return names, offsets
    assert lips is not None and jaw is not None
    seal = np.zeros_like(jaw)
    gap = np.maximum(lips.rest_gap, 0)
    if float(np.median(gap[lips.middle_third])) > OPEN_BY_JAW * lips.width:
        drop = (lips.upper(jaw) - lips.lower(jaw)) @ up
        share = float(np.median((gap / np.maximum(drop, 1e-9))[lips.middle_third]))
        seal -= min(share, 1.5) * jaw
        offsets[len(names)] -= np.float32(min(share, 1.5)) * offsets[names.index("jawOpen")]
        gap = gap - min(share, 1.5) * drop
    offsets[len(names), skin.index] = skin.to_skin(seal + carry.separate_lips(gap[:, None] * up))
    return (*names, MOUTH_SEAL), offsets


def _locate_regions(
    template: Template,
    atlas: SourceHead,
    mesh: WorkMesh,
    skin: Skin,
    warped: np.ndarray,
    matched: Correspondence,
    lips: Lips | None,
    parts: Mapping[str, np.ndarray],
    similarity: SimilarityTransform,
) -> Template:
    """The template with the atlas's regions and landmarks on it."""
    first = mesh.first_file_vertex()
    source = atlas.rig.template
    where = atlas.faces[matched.triangle, :][np.arange(len(matched.triangle)), matched.weights.argmax(1)]
    answers = np.where(matched.reliable & matched.in_face, atlas.skin[where], -1)
    found: dict[str, int] = {}
    if len(skin.vertices) < 3:
        raise InputError(f"{template.display_name}: no surface where the landmarks lie")
    tree = cKDTree(skin.vertices)
    for name, point in atlas.landmarks.items():
        place = warped[atlas.nearest_skin_vertex(point[None])[0]]
        found[name] = int(tree.query(place)[1])
    if lips is not None:
        middle = lips.middle_third[len(lips.middle_third) // 2]
        for name, side in (("lip_inner_upper", lips.upper), ("lip_inner_lower", lips.lower)):
            found[name] = int(side.corners[middle, side.weights[middle].argmax()])
    local = {name: first[skin.nearest_mesh_vertex(np.array([v]))][0] for name, v in found.items()}
    regions: dict[str, np.ndarray] = {"skin": first[skin.index]}
    for name, index in source.regions.items():
        if name in ("lips", "inner_lips", "mouth", "upper_face", "chin"):
            regions[name] = np.unique(first[skin.nearest_mesh_vertex(np.flatnonzero(np.isin(answers, index)))])
    if lips is not None:
        rim = np.stack([p.corners[np.arange(len(p.corners)), p.weights.argmax(1)] for p in (lips.upper, lips.lower)], 1)
        rim = rim[np.sort(np.unique(rim, axis=0, return_index=True)[1])]  # from the right corner to the left
        regions["lip_pairs"] = first[skin.nearest_mesh_vertex(rim.ravel())].reshape(-1, 2)
    else:
        regions["lip_pairs"] = np.array([[local["lip_inner_upper"], local["lip_inner_lower"]]])
    regions["corners"] = np.array([local["mouth_left"], local["mouth_right"]])
    for kind, index in parts.items():
        regions[kind] = first[index]
    marks = {name: int(v) for name, v in local.items()}
    tint = _preview_colors(template, atlas, mesh, skin, matched, parts, similarity)
    return replace(template, regions=regions, landmarks=marks, shapes={}, preview_colors=tint)


def _preview_colors(
    template: Template,
    atlas: SourceHead,
    mesh: WorkMesh,
    skin: Skin,
    matched: Correspondence,
    parts: Mapping[str, np.ndarray],
    similarity: SimilarityTransform,
) -> np.ndarray:
    """The atlas's colours on the template (V, 3) uint8: vermilion, brows and the inside of the mouth on clay."""
    colors = np.tile(np.array(CLAY_COLOR, np.float32), (len(mesh.vertices), 1))
    source = atlas.rig.template.colors
    if source is not None:
        there = interpolate_barycentric(
            source[atlas.skin].astype(np.float32), atlas.faces, matched.triangle, matched.weights
        )
        face = np.where((matched.reliable & matched.in_face)[:, None], there, CLAY_COLOR)
        colors[skin.index] = skin.to_skin(face)
    for kind, index in parts.items():
        colors[index] = PART_COLORS.get(kind, CLAY_COLOR)
        if kind.startswith("eye") and source is not None:
            colors[index] = _eye_colors(atlas, kind, similarity.inverse(mesh.vertices[index]), source)
    out = np.tile(np.array(CLAY_COLOR, np.uint8), (len(template.vertices), 1))
    whole = mesh.vertex_map >= 0
    out[whole] = np.round(colors[mesh.vertex_map[whole]]).astype(np.uint8)
    return out


def _eye_colors(atlas: SourceHead, side: str, points: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The atlas's eye's colours (P, 3), by the direction from the eye's middle."""
    own = atlas.rig.template.regions[side]
    eye = atlas.rig.template.vertices[own].astype(np.float64)
    rays = []
    for ball in (eye, points):
        out = ball - (ball.min(0) + ball.max(0)) / 2
        rays.append(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12))
    found: np.ndarray = source[own][cKDTree(rays[0]).query(rays[1])[1]]
    return found
