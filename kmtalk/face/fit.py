"""The default head's rig laid on a bare mesh: found, warped, drawn onto the surface, its shapes carried."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from kmtalk.errors import InputError
from kmtalk.face.atlas import Atlas
from kmtalk.face.correspond import LOWER, Correspondence, correspond
from kmtalk.face.geometry import Places, interpolate
from kmtalk.face.landmarks import Found, find_face
from kmtalk.face.lips import Lips, find_lips
from kmtalk.face.parts import carry_parts, classify, make_frame
from kmtalk.face.register import Similarity, Warp, find_similarity, find_warp, refine, robust_similarity, snap
from kmtalk.face.report import HUMAN, STRANGE, Report, confidence, judge
from kmtalk.face.rig import HEAD_NAMES, SEAL, Rig, mouth_gain
from kmtalk.face.template import Template, vertex_normals
from kmtalk.face.transfer import Transfer
from kmtalk.face.workmesh import Skin, WorkMesh, find_skin, prepare

OPEN = 0.025  # of the mouth's width: lips further apart at rest than this are closed by mouthSeal
AGAPE = 0.12  # and further than this with the jaw's help
SEALED = 0.012  # of the mouth's width: shapes that part the source's lips by no more keep the target's sealed
MESH_468, MESH_478 = 468, 478  # vertices of MediaPipe's face, without and with irises
ON_MESH = 0.1  # of the points' own extent: a given landmark further from the mesh is not on it
CLAY = (214, 168, 143)  # sRGB of the default head's skin
PAINT = {
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
class Fitted:
    """A rig on the user's mesh, the points (L, 3) by which it was laid on, and the report."""

    rig: Rig
    landmarks: np.ndarray
    report: Report


@dataclass(frozen=True)
class _Marks:
    """Landmarks on the source's skin and on the target, both (L,), and who found them."""

    places: Places
    source: np.ndarray
    target: np.ndarray
    spread: np.ndarray | None
    by: str

    def __len__(self) -> int:
        return len(self.target)


def fit(
    template: Template, atlas: Atlas, landmarks: Mapping[str, np.ndarray] | None = None, refined: bool = False
) -> Fitted:
    """Lay the atlas's rig on a mesh of any topology, pose and scale.

    ``landmarks`` are points (3,) in the mesh's units by name (names.MARKS), where no detector is to look
    for them; ``refined`` takes Amberg's non-rigid ICP for our own. Raises InputError where no face is found,
    fewer than three landmarks lie on the mesh, or mesh and landmarks do not lie together.
    """
    started = time.perf_counter()
    fitted, lips = _fit(template, prepare(template), atlas, landmarks, refined)
    if lips is not None and lips.fused and fitted.report.facts["joined_vertices"]:
        # lips that lie at one place may have been joined with the seams
        apart, others = _fit(template, prepare(template, join=False), atlas, landmarks, refined)
        if others is not None and not others.fused:
            fitted = apart
    facts = dict(fitted.report.facts) | {"seconds": round(time.perf_counter() - started, 2)}
    return replace(fitted, report=replace(fitted.report, facts=facts))


def _fit(
    template: Template, mesh: WorkMesh, atlas: Atlas, landmarks: Mapping[str, np.ndarray] | None, refined: bool
) -> tuple[Fitted, Lips | None]:
    marks = _given(template, mesh, atlas, landmarks) if landmarks is not None else _detected(template, mesh, atlas)
    warp = find_warp(marks.source, marks.target, exact=marks.spread is None)
    skin = find_skin(mesh, marks.target, warp.size)
    warped = warp(atlas.vertices)
    if _inside_out(warped, atlas.faces, skin):
        mesh = replace(
            mesh,
            faces=mesh.faces[:, ::-1],
            remarks=(*mesh.remarks, "its faces are wound inwards (mirrored?): taken the other way round"),
        )
        skin = find_skin(mesh, marks.target, warp.size)
    matched = correspond(warped, atlas.faces, atlas.jaw, skin.vertices, skin.faces, warp.size)
    if matched.near.sum() < 20:
        raise InputError(f"{template.label}: landmarks and mesh do not lie together; check the points' axes and units")
    held = Places(marks.places.corners[warp.kept], marks.places.weights[warp.kept])
    aims = marks.target[warp.kept]
    if refined:
        warped = refine(warped, atlas.faces, held, aims, skin.vertices, skin.faces)
    else:
        pull = held.matrix(len(atlas.skin))
        lower = atlas.jaw > LOWER
        warped = snap(warped, atlas.faces, lower, pull, aims, skin.vertices, skin.faces, matched.lower, warp.size)
    matched = correspond(warped, atlas.faces, atlas.jaw, skin.vertices, skin.faces, warp.size, matched.lower)
    lips = find_lips(atlas, warped, skin.vertices, skin.faces, matched, warp.similarity, warp.size)
    off = robust_similarity(marks.source, marks.target)[1]
    if lips is None and landmarks is None and np.median(off) > HUMAN * warp.size:
        raise NoFace(f"{template.label}: what looks like a face has no lips; if it has, give --landmarks FILE")
    names, offsets = _carry(atlas, mesh, skin, matched, warp, lips)
    frame = make_frame(atlas, warped, warp.similarity)
    called = {name: mesh.place[i][mesh.place[i] >= 0] for name, i in template.parts.items()}
    parts = classify(atlas, frame, mesh.vertices, mesh.piece, skin.whole, called)
    carry_parts(atlas, frame, mesh.vertices, mesh.faces, skin.index, parts, offsets[: len(atlas.rig.names)])
    located = _locate(template, atlas, mesh, skin, warped, matched, lips, parts, warp.similarity)
    standing = Similarity(1.0, warp.similarity.rotation, np.zeros(3)).back(template.vertices)
    rig = Rig(located, names, mesh.on_file(offsets), upright=standing.astype(np.float32))
    if lips is not None:
        rig = replace(rig, gain=mouth_gain(rig, atlas.rig))

    doubts, facts = judge(atlas, rig, warp, off, marks.spread, warped, skin.vertices, matched, lips, len(marks))
    remarks = list(mesh.remarks)
    if SEAL in names and lips is not None:
        gap = float(np.median(lips.gap[lips.middle])) / lips.width
        remarks.append(
            f"the mouth is open at rest (by {gap:.0%} of its width): taken as relaxed; {SEAL} closes it for speech"
        )
    if skin.proxy is not None:
        remarks.append(f"{len(skin.index)} vertices of skin were fitted through a proxy of {len(skin.vertices)}")
    facts = mesh.facts | facts | {"parts": ", ".join(f"{k} {len(v)}" for k, v in parts.items()) or "none"}
    facts |= {
        "landmarks_by": marks.by,
        "vertices": len(template.vertices),
        "triangles": len(template.faces),
        "mouth_gain": round(rig.gain, 3),
        "refined": refined,
    }
    trust = confidence(doubts, float(np.median(off)) / warp.size, lips)
    return Fitted(rig, marks.target, Report("fitted", trust, tuple(doubts), tuple(remarks), facts)), lips


def _inside_out(warped: np.ndarray, faces: np.ndarray, skin: Skin) -> bool:
    """Whether the skin's normals point the other way than the source's that lies over it (S, 3)."""
    away, nearest = cKDTree(warped).query(skin.vertices)
    near = away < np.percentile(away, 50)
    own, theirs = vertex_normals(skin.vertices, skin.faces)[near], vertex_normals(warped, faces)[nearest[near]]
    return bool(np.einsum("ij,ij->i", own, theirs).mean() < 0)


def _canonical(template: Template, atlas: Atlas) -> _Marks | None:
    """Landmarks of a mesh whose vertices are MediaPipe's landmarks, in their order: nothing is to be found then."""
    vertices = template.vertices.astype(np.float64)
    if len(vertices) not in (MESH_468, MESH_478):
        return None
    which = atlas.usable & (np.arange(MESH_478) < len(vertices))
    places = atlas.detected_on_skin(which, rimmed=True)
    source, target = places(atlas.vertices), vertices[np.flatnonzero(which)]
    off = np.median(robust_similarity(source, target)[1])
    if off > STRANGE * np.linalg.norm(np.ptp(target, axis=0)):
        return None
    return _Marks(places, source, target, None, "topology")


def _detected(template: Template, mesh: WorkMesh, atlas: Atlas) -> _Marks:
    known = _canonical(template, atlas)
    if known is not None:
        return known
    found: Found | None = find_face(mesh.vertices, mesh.faces)
    if found is None:
        raise NoFace(f"{template.label}: no face found on this mesh; if it has one, give --landmarks FILE")
    seen = atlas.usable & np.isfinite(found.points[:, 0])
    if seen.sum() < 3:
        raise NoFace(f"{template.label}: fewer than three landmarks of the face are visible; give --landmarks FILE")
    places = atlas.detected_on_skin(seen)
    return _Marks(places, places(atlas.vertices), found.points[seen], found.spread[seen], "detector")


def _given(template: Template, mesh: WorkMesh, atlas: Atlas, landmarks: Mapping[str, np.ndarray]) -> _Marks:
    names = [name for name in landmarks if name in atlas.marks]
    points = np.array([landmarks[name] for name in names], np.float64).reshape(-1, 3)
    extent = float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 0.0
    on = cKDTree(mesh.vertices).query(points)[0] < ON_MESH * extent if len(points) else np.zeros(0, bool)
    edge = _typical_edge(mesh)
    if len(points):
        on |= cKDTree(mesh.vertices).query(points)[0] < 2 * edge
    if on.sum() < 3:
        raise InputError(
            f"{template.label}: fewer than three landmarks lie on the mesh ({on.sum()} of {len(landmarks)} given); "
            "give points on its surface, in its own units and axes"
        )
    points, names = points[on], [name for name, kept in zip(names, on, strict=True) if kept]
    if np.linalg.matrix_rank(points - points.mean(0), tol=0.05 * extent) < 2:
        raise InputError(f"{template.label}: the landmarks lie on one line; give some that do not")
    places = atlas.named_on_skin(names)
    source = places(atlas.vertices)
    # whoever took the picture's left for the face's has a mirror image, which no turn makes right
    swapped = atlas.named_on_skin([_other_side(n) for n in names])
    if _misfit(swapped(atlas.vertices), points) < 0.5 * _misfit(source, points):
        return _Marks(swapped, swapped(atlas.vertices), points, None, "hand")
    return _Marks(places, source, points, None, "hand")


def _other_side(name: str) -> str:
    if name.endswith("_left"):
        return name.removesuffix("left") + "right"
    return name.removesuffix("right") + "left" if name.endswith("_right") else name


def _misfit(source: np.ndarray, target: np.ndarray) -> float:
    return float(np.linalg.norm(find_similarity(source, target)(source) - target))


def _typical_edge(mesh: WorkMesh) -> float:
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // 10_000)]]
    return float(np.median(np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)))


class NoFace(InputError):
    """No face was found: a picture of what was looked at helps."""


def _carry(
    atlas: Atlas, mesh: WorkMesh, skin: Skin, matched: Correspondence, warp: Warp, lips: Lips | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and offsets (R, W, 3) float32 of the shapes on the skin; the rest of the mesh is still."""
    names = atlas.rig.names
    carry = Transfer(atlas, skin.vertices, skin.faces, matched, warp.similarity, warp.size, lips)
    open_at_rest = lips is not None and float(np.median(lips.gap[lips.middle])) > OPEN * lips.width
    offsets = np.zeros((len(names) + open_at_rest, len(mesh.vertices), 3), np.float32)
    up = warp.similarity.rotation @ [0.0, 1.0, 0.0]
    jaw = None
    for row, name in enumerate(names):
        if name in HEAD_NAMES:
            continue  # turned as a field in space, with all that is not skin
        shape = carry(row)
        if lips is not None:
            wanted = carry.source_parting(row)
            if name == "mouthClose":  # the lips meet behind the target's own jaw, not the source's
                assert jaw is not None
                wanted = wanted + carry.source_parting(names.index("jawOpen")) - carry.parting(jaw)
            if name == "mouthClose" or np.linalg.norm(wanted, axis=1).max() < SEALED * lips.width:
                short = wanted - carry.parting(shape)
                if name != "mouthClose":  # sliding lips stay shut
                    short = (short @ up)[:, None] * up
                shape = shape + carry.part(short)
        offsets[row, skin.index] = skin.back(shape)
        if name == "jawOpen":
            jaw = shape
    if not open_at_rest:
        return names, offsets
    assert lips is not None and jaw is not None
    seal = np.zeros_like(jaw)
    gap = np.maximum(lips.gap, 0)
    if float(np.median(gap[lips.middle])) > AGAPE * lips.width:
        drop = (lips.upper(jaw) - lips.lower(jaw)) @ up
        share = float(np.median((gap / np.maximum(drop, 1e-9))[lips.middle]))
        seal -= min(share, 1.5) * jaw
        offsets[len(names)] -= np.float32(min(share, 1.5)) * offsets[names.index("jawOpen")]
        gap = gap - min(share, 1.5) * drop
    offsets[len(names), skin.index] = skin.back(seal + carry.part(gap[:, None] * up))
    return (*names, SEAL), offsets


def _locate(
    template: Template,
    atlas: Atlas,
    mesh: WorkMesh,
    skin: Skin,
    warped: np.ndarray,
    matched: Correspondence,
    lips: Lips | None,
    parts: Mapping[str, np.ndarray],
    similarity: Similarity,
) -> Template:
    """The template with the atlas's regions and landmarks on it."""
    first = mesh.first_on_file()
    source = atlas.rig.template
    where = atlas.faces[matched.triangle, :][np.arange(len(matched.triangle)), matched.weights.argmax(1)]
    answers = np.where(matched.sure & matched.near, atlas.skin[where], -1)
    found: dict[str, int] = {}
    if len(skin.vertices) < 3:
        raise InputError(f"{template.label}: no surface where the landmarks lie")
    tree = cKDTree(skin.vertices)
    for name, point in atlas.marks.items():
        place = warped[atlas.near_skin(point[None])[0]]
        found[name] = int(tree.query(place)[1])
    if lips is not None:
        middle = lips.middle[len(lips.middle) // 2]
        for name, side in (("lip_inner_upper", lips.upper), ("lip_inner_lower", lips.lower)):
            found[name] = int(side.corners[middle, side.weights[middle].argmax()])
    local = {name: first[skin.own(np.array([v]))][0] for name, v in found.items()}
    regions: dict[str, np.ndarray] = {"skin": first[skin.index]}
    for name, index in source.regions.items():
        if name in ("lips", "inner_lips", "mouth", "upper_face", "chin"):
            regions[name] = np.unique(first[skin.own(np.flatnonzero(np.isin(answers, index)))])
    if lips is not None:
        rim = np.stack([p.corners[np.arange(len(p.corners)), p.weights.argmax(1)] for p in (lips.upper, lips.lower)], 1)
        rim = rim[np.sort(np.unique(rim, axis=0, return_index=True)[1])]  # from the right corner to the left
        regions["lip_pairs"] = first[skin.own(rim.ravel())].reshape(-1, 2)
    else:
        regions["lip_pairs"] = np.array([[local["lip_inner_upper"], local["lip_inner_lower"]]])
    regions["corners"] = np.array([local["mouth_left"], local["mouth_right"]])
    for kind, index in parts.items():
        regions[kind] = first[index]
    marks = {name: int(v) for name, v in local.items()}
    tint = _tinted(template, atlas, mesh, skin, matched, parts, similarity)
    return replace(template, regions=regions, landmarks=marks, shapes={}, tint=tint)


def _tinted(
    template: Template,
    atlas: Atlas,
    mesh: WorkMesh,
    skin: Skin,
    matched: Correspondence,
    parts: Mapping[str, np.ndarray],
    similarity: Similarity,
) -> np.ndarray:
    """The atlas's colours on the template (V, 3) uint8: vermilion, brows and the inside of the mouth on clay."""
    colors = np.tile(np.array(CLAY, np.float32), (len(mesh.vertices), 1))
    source = atlas.rig.template.colors
    if source is not None:
        there = interpolate(source[atlas.skin].astype(np.float32), atlas.faces, matched.triangle, matched.weights)
        face = np.where((matched.sure & matched.near)[:, None], there, CLAY)
        colors[skin.index] = skin.back(face)
    for kind, index in parts.items():
        colors[index] = PAINT.get(kind, CLAY)
        if kind.startswith("eye") and source is not None:
            colors[index] = _eye_colors(atlas, kind, similarity.back(mesh.vertices[index]), source)
    out = np.tile(np.array(CLAY, np.uint8), (len(template.vertices), 1))
    whole = mesh.place >= 0
    out[whole] = np.round(colors[mesh.place[whole]]).astype(np.uint8)
    return out


def _eye_colors(atlas: Atlas, side: str, points: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The atlas's eye's colours (P, 3), by the direction from the eye's middle."""
    own = atlas.rig.template.regions[side]
    eye = atlas.rig.template.vertices[own].astype(np.float64)
    rays = []
    for ball in (eye, points):
        out = ball - (ball.min(0) + ball.max(0)) / 2
        rays.append(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12))
    found: np.ndarray = source[own][cKDTree(rays[0]).query(rays[1])[1]]
    return found
