"""Fit the default head's rig to a bare mesh: landmarks, warp, non-rigid ICP, deformation transfer."""

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
from kmtalk.face.joints import HEAD_NAMES
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
from kmtalk.face.rig import MOUTH_SEAL, Rig, compute_mouth_gain
from kmtalk.face.source_head import SourceHead
from kmtalk.face.template import Template, vertex_normals
from kmtalk.face.work_mesh import Skin, WorkMesh, find_skin, prepare_mesh

OPEN_AT_REST = 0.025  # share of the mouth's width: mouthSeal closes lips that are further apart at rest
OPEN_BY_JAW = 0.12  # share of the mouth's width: if the lips are further apart, mouthSeal closes the jaw as well
SEALED_SHARE = 0.012  # share of the mouth's width: shapes that part the source's lips by less keep the target's closed
MESH_468, MESH_478 = 468, 478  # vertex counts of MediaPipe's face mesh, without and with irises
MAX_LANDMARK_DISTANCE = 0.1  # share of the landmarks' extent: greatest distance of a given landmark from the mesh
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


@dataclass(frozen=True)
class FittedRig:
    """A rig on the user's mesh.

    Attributes:
        rig: The rig.
        landmarks: Landmarks (L, 3) of the fit, in the mesh's units.
        report: Report on the fit.
    """

    rig: Rig
    landmarks: np.ndarray
    report: FitReport

    def describe(self) -> str:
        """Return one line that says what animates the mesh."""
        native, joints = self.rig.native_shapes, self.rig.template.joints
        if native is not None:
            own, named = (self.report.measurements[key] for key in ("own_shapes", "driven_by_name"))
            moved = f"animated by its own {own} blendshapes"
            moved += (
                f", which stand for {named} of kmtalk's; mixtures approximate the others" if named else ", in mixtures"
            )
        else:
            moved = f"animated by shapes of the default head ({self.report.method})"
        by_part = {joint.part: joint.name for joint in joints}
        if not joints:
            return f"{moved}; the head turns by shapes"
        turned = f"; the head turns on {' and '.join(by_part[p] for p in ('neck', 'head') if p in by_part)}"
        eyes = [by_part[part] for part in ("eye_left", "eye_right") if part in by_part]
        return moved + turned + (f", the eyes on {' and '.join(eyes)}" if eyes else "")


@dataclass(frozen=True)
class _LandmarkPairs:
    """Corresponding landmarks on the source's skin and on the target.

    Attributes:
        skin_points: The landmarks (L,) as points on the source's triangles.
        source: Their positions (L, 3), metres.
        target: The landmarks (L, 3) on the target, in its units.
        spread: Standard deviation (L,) of detected landmarks over the views, or None.
        origin: "detector", "topology" or "hand".
    """

    skin_points: SurfacePoints
    source: np.ndarray
    target: np.ndarray
    spread: np.ndarray | None
    origin: str

    def __len__(self) -> int:
        return len(self.target)


def fit_rig(
    template: Template, source_head: SourceHead, landmarks: Mapping[str, np.ndarray] | None = None, refine: bool = False
) -> FittedRig:
    """Fit the source head's rig to a mesh of any topology, pose and scale.

    Args:
        template: The mesh.
        source_head: The source head.
        landmarks: Landmark name (one of `LANDMARK_NAMES`) → point (3,) in the mesh's units. Without it, a face
            detector finds the landmarks.
        refine: Use the non-rigid ICP of Amberg et al. (2007), which is slower, instead of the default one.

    Returns:
        The fitted rig.

    Raises:
        InputError: If no face is found, fewer than three landmarks lie on the mesh, or the landmarks do not match
            the mesh.
    """
    start = time.perf_counter()
    fitted, lips = _fit(template, prepare_mesh(template), source_head, landmarks, refine)
    if lips is not None and lips.is_fused and fitted.report.measurements["joined_vertices"]:
        # seam welding may have joined lips that touch: fit again without it
        unwelded, unwelded_lips = _fit(template, prepare_mesh(template, weld=False), source_head, landmarks, refine)
        if unwelded_lips is not None and not unwelded_lips.is_fused:
            fitted = unwelded
    measurements = dict(fitted.report.measurements) | {"seconds": round(time.perf_counter() - start, 2)}
    return replace(fitted, report=replace(fitted.report, measurements=measurements))


def _fit(
    template: Template,
    mesh: WorkMesh,
    source_head: SourceHead,
    landmarks: Mapping[str, np.ndarray] | None,
    refine: bool,
) -> tuple[FittedRig, Lips | None]:
    """Fit the rig to a prepared mesh; also returns the target's lips, if any."""
    pairs = (
        _match_given_landmarks(template, mesh, source_head, landmarks)
        if landmarks is not None
        else _detect_landmarks(template, mesh, source_head)
    )
    warp = fit_warp(pairs.source, pairs.target, exact=pairs.spread is None)
    skin = find_skin(mesh, pairs.target, warp.size)
    warped = warp(source_head.vertices)
    if _is_inside_out(warped, source_head.faces, skin):
        mesh = replace(
            mesh,
            faces=mesh.faces[:, ::-1],
            notes=(*mesh.notes, "its faces point inwards (a mirrored mesh?); their winding is reversed"),
        )
        skin = find_skin(mesh, pairs.target, warp.size)
    matched = find_correspondence(
        warped, source_head.faces, source_head.jaw_motion, skin.vertices, skin.faces, warp.size
    )
    if matched.in_face.sum() < 20:
        raise InputError(f"{template.display_name}: the landmarks do not match the mesh; check their axes and units")
    landmark_points = SurfacePoints(pairs.skin_points.corners[warp.inliers], pairs.skin_points.weights[warp.inliers])
    targets = pairs.target[warp.inliers]
    if refine:
        warped = nonrigid_icp_amberg(warped, source_head.faces, landmark_points, targets, skin.vertices, skin.faces)
    else:
        landmark_matrix = landmark_points.matrix(len(source_head.skin))
        on_lower_lip = source_head.jaw_motion > LOWER_LIP_JAW_SHARE
        warped = nonrigid_icp(
            warped,
            source_head.faces,
            on_lower_lip,
            landmark_matrix,
            targets,
            skin.vertices,
            skin.faces,
            matched.on_lower_lip,
            warp.size,
        )
    matched = find_correspondence(
        warped, source_head.faces, source_head.jaw_motion, skin.vertices, skin.faces, warp.size, matched.on_lower_lip
    )
    lips = find_lips(source_head, warped, skin.vertices, skin.faces, matched, warp.similarity, warp.size)
    residual = fit_similarity_robust(pairs.source, pairs.target)[1]
    if lips is None and landmarks is None and np.median(residual) > HUMAN_RESIDUAL * warp.size:
        raise FaceNotFoundError(f"{template.display_name}: no lips found; pass --landmarks FILE if the mesh has a face")
    names, offsets = _transfer_shapes(source_head, mesh, skin, matched, warp, lips)
    frame = make_mouth_frame(source_head, warped, warp.similarity)
    named_parts = {name: mesh.vertex_map[i][mesh.vertex_map[i] >= 0] for name, i in template.parts.items()}
    parts = classify_parts(source_head, frame, mesh.vertices, mesh.component, skin.all_vertices, named_parts)
    attach_parts(
        source_head, frame, mesh.vertices, mesh.faces, skin.index, parts, offsets[: len(source_head.rig.shape_names)]
    )
    rig_template = _locate_regions(template, source_head, mesh, skin, warped, matched, lips, parts, warp.similarity)
    upright = SimilarityTransform(1.0, warp.similarity.rotation, np.zeros(3)).inverse(template.vertices)
    rig = Rig(rig_template, names, mesh.to_file_vertices(offsets), upright_vertices=upright.astype(np.float32))
    if lips is not None:
        rig = replace(rig, mouth_gain=compute_mouth_gain(rig, source_head.rig))

    warnings, measurements = assess_fit(
        source_head, rig, warp, residual, pairs.spread, warped, skin.vertices, matched, lips, len(pairs)
    )
    notes = list(mesh.notes)
    if MOUTH_SEAL in names and lips is not None:
        gap = float(np.median(lips.rest_gap[lips.middle_third])) / lips.width
        notes.append(f"the mouth is open at rest (by {gap:.0%} of its width); {MOUTH_SEAL} closes it for speech")
    if skin.proxy is not None:
        notes.append(
            f"{len(skin.index)} skin vertices were fitted through a proxy mesh of {len(skin.vertices)} vertices"
        )
    measurements = (
        mesh.measurements | measurements | {"parts": ", ".join(f"{k} {len(v)}" for k, v in parts.items()) or "none"}
    )
    measurements |= {
        "landmarks_by": pairs.origin,
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.mouth_gain, 3),
        "refined": refine,
    }
    confidence = rate_confidence(warnings, float(np.median(residual)) / warp.size, lips)
    return FittedRig(
        rig, pairs.target, FitReport("fitted", confidence, tuple(warnings), tuple(notes), measurements)
    ), lips


def _is_inside_out(warped: np.ndarray, faces: np.ndarray, skin: Skin) -> bool:
    """True if the skin's normals point against those of the warped source (S, 3)."""
    distance, nearest = cKDTree(warped).query(skin.vertices)
    mask = distance < np.percentile(distance, 50)
    target_normals, source_normals = (
        vertex_normals(skin.vertices, skin.faces)[mask],
        vertex_normals(warped, faces)[nearest[mask]],
    )
    return bool(np.einsum("ij,ij->i", target_normals, source_normals).mean() < 0)


def _mediapipe_topology_landmarks(template: Template, source_head: SourceHead) -> _LandmarkPairs | None:
    """Landmarks of a mesh whose vertices are MediaPipe's landmarks in their order, or None for other meshes."""
    vertices = template.vertices.astype(np.float64)
    if len(vertices) not in (MESH_468, MESH_478):
        return None
    mask = source_head.usable_landmarks & (np.arange(MESH_478) < len(vertices))
    points = source_head.detector_landmarks_on_skin(mask, on_rims=True)
    source, target = points(source_head.vertices), vertices[np.flatnonzero(mask)]
    residual = np.median(fit_similarity_robust(source, target)[1])
    if residual > UNLIKE_HUMAN_RESIDUAL * np.linalg.norm(np.ptp(target, axis=0)):
        return None
    return _LandmarkPairs(points, source, target, None, "topology")


def _detect_landmarks(template: Template, mesh: WorkMesh, source_head: SourceHead) -> _LandmarkPairs:
    """Landmarks by MediaPipe's topology or by its face detector; raises FaceNotFoundError if there is no face."""
    by_topology = _mediapipe_topology_landmarks(template, source_head)
    if by_topology is not None:
        return by_topology
    try:
        face: DetectedFace | None = find_face(mesh.vertices, mesh.faces)
    except TimeoutError as error:
        raise InputError(f"{template.display_name}: {error}") from None
    if face is None:
        raise FaceNotFoundError(
            f"{template.display_name}: no face found on this mesh; pass --landmarks FILE if it has one"
        )
    visible = source_head.usable_landmarks & np.isfinite(face.points[:, 0])
    if visible.sum() < 3:
        raise FaceNotFoundError(
            f"{template.display_name}: fewer than three landmarks of the face are visible; pass --landmarks FILE"
        )
    points = source_head.detector_landmarks_on_skin(visible)
    return _LandmarkPairs(points, points(source_head.vertices), face.points[visible], face.spread[visible], "detector")


def _match_given_landmarks(
    template: Template, mesh: WorkMesh, source_head: SourceHead, landmarks: Mapping[str, np.ndarray]
) -> _LandmarkPairs:
    """Landmarks that the user gives; raises InputError if fewer than three lie on the mesh or all on one line."""
    names = [name for name in landmarks if name in source_head.landmarks]
    points = np.array([landmarks[name] for name in names], np.float64).reshape(-1, 3)
    extent = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
    on_mesh = (
        cKDTree(mesh.vertices).query(points)[0] < MAX_LANDMARK_DISTANCE * extent if len(points) else np.zeros(0, bool)
    )
    edge_length = _median_edge_length(mesh)
    if len(points):
        on_mesh |= cKDTree(mesh.vertices).query(points)[0] < 2 * edge_length
    if on_mesh.sum() < 3:
        raise InputError(
            f"{template.display_name}: fewer than three landmarks lie on the mesh "
            f"({on_mesh.sum()} of {len(landmarks)} given); give points on its surface, in its units and axes"
        )
    points, names = points[on_mesh], [name for name, kept in zip(names, on_mesh, strict=True) if kept]
    if np.linalg.matrix_rank(points - points.mean(0), tol=0.05 * extent) < 2:
        raise InputError(f"{template.display_name}: all landmarks lie on one line; give others")
    vertices, on_skin = source_head.vertices, source_head.named_landmarks_on_skin
    # names with the viewer's left instead of the face's give a mirror image, which fits no rotation: swap them
    swapped = [_mirrored_name(name) for name in names]
    mirrored_error = _similarity_error(on_skin(swapped)(vertices), points)
    if mirrored_error < 0.5 * _similarity_error(on_skin(names)(vertices), points):
        names = swapped
    # sorted, so that sums are equal to the last bit in whatever order the landmarks are given
    order = sorted(range(len(names)), key=names.__getitem__)
    skin_points = on_skin([names[i] for i in order])
    return _LandmarkPairs(skin_points, skin_points(vertices), points[order], None, "hand")


def _mirrored_name(name: str) -> str:
    """The name with left and right exchanged."""
    if name.endswith("_left"):
        return name.removesuffix("left") + "right"
    return name.removesuffix("right") + "left" if name.endswith("_right") else name


def _similarity_error(source: np.ndarray, target: np.ndarray) -> float:
    """Root of the summed squared distances after the best similarity, in target units."""
    return float(np.linalg.norm(fit_similarity(source, target)(source) - target))


def _median_edge_length(mesh: WorkMesh) -> float:
    """Median length of the triangles' first edges, over up to about 20,000 triangles."""
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // 10_000)]]
    return float(np.median(np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)))


class FaceNotFoundError(InputError):
    """No face was found on a mesh; `kmtalk fit` then writes a picture of the mesh."""


def _transfer_shapes(
    source_head: SourceHead, mesh: WorkMesh, skin: Skin, matched: Correspondence, warp: RbfWarp, lips: Lips | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (R,) and offsets (R, W, 3) float32 of the shapes, with the skin filled in and all other vertices at 0."""
    names = source_head.rig.shape_names
    transfer = DeformationTransfer(source_head, skin.vertices, skin.faces, matched, warp.similarity, warp.size, lips)
    open_at_rest = lips is not None and float(np.median(lips.rest_gap[lips.middle_third])) > OPEN_AT_REST * lips.width
    offsets = np.zeros((len(names) + open_at_rest, len(mesh.vertices), 3), np.float32)
    up = warp.similarity.rotation @ [0.0, 1.0, 0.0]
    jaw = None
    for row, name in enumerate(names):
        if name in HEAD_NAMES:
            continue  # `attach_parts` fills these in for the whole mesh
        offset = transfer(row)
        if lips is not None:
            separation = transfer.source_lip_separation(row)
            if name == "mouthClose":  # the lips must close the gap of the target's own jawOpen, not the source's
                assert jaw is not None
                separation = (
                    separation + transfer.source_lip_separation(names.index("jawOpen")) - transfer.lip_separation(jaw)
                )
            if name == "mouthClose" or np.linalg.norm(separation, axis=1).max() < SEALED_SHARE * lips.width:
                missing = separation - transfer.lip_separation(offset)
                if name != "mouthClose":  # lips that slide over each other stay closed
                    missing = (missing @ up)[:, None] * up
                offset = offset + transfer.separate_lips(missing)
        offsets[row, skin.index] = skin.to_skin(offset)
        if name == "jawOpen":
            jaw = offset
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
    offsets[len(names), skin.index] = skin.to_skin(seal + transfer.separate_lips(gap[:, None] * up))
    return (*names, MOUTH_SEAL), offsets


def _locate_regions(
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
