"""Puts the sculpted skin, teeth, tongue, eyes, hair and clothes together as a rig with materials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import parts as attached
import uv
from brows_lashes import make_brows, make_lashes
from clothes import make_shirt
from eyelids import EYEBALL_RADIUS_MM, Eye
from face_shapes import LOOKS
from hair import make_hair
from lip_fields import LipFields
from makehuman import HeadSource
from mouth import contact_point, make_labiodental, seat_teeth_and_tongue, tongue_shapes
from scipy.spatial import cKDTree
from sculpt import rotation_matrix, smoothstep
from skin_texture import Face
from solids import labial_surface, make_dental_arch, make_eyeball
from subdivide import triangulate
from surface import MOUTH, OUTER, Skin
from textures import EYE, MOUTH_LINING, SKIN, TEETH, TONGUE

from kmtalk.face import regions
from kmtalk.face.appearance import Appearance, Material
from kmtalk.face.joints import HEAD_NAMES
from kmtalk.face.rig import ARKIT_NAMES, SPEECH_NAMES, Rig
from kmtalk.face.template import Template

JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight")
SHAPE_NAMES = ARKIT_NAMES + SPEECH_NAMES + HEAD_NAMES
TOUCHING_MM = 0.3  # lips touch where they are closer
# from the ends of the lids and of the line of contact of the lips to the landmarks: outwards, up and forward
EYE_LANDMARK_MM, MOUTH_LANDMARK_MM = (3.4, 0.2, 1.6), (-1.4, -0.9, 5.8)
TORSO_BELOW_EYES_MM, TORSO_HALF_WIDTH_MM = 330.0, 290.0  # the body that the shirt is made on


@dataclass
class Sculpture:
    """The sculpted skin with what other parts are placed by.

    Attributes:
        skin: The skin, with final vertices and shapes.
        eyes: "left" and "right" → the eye.
        source: MakeHuman's data.
    """

    skin: Skin
    eyes: dict[str, Eye]
    source: HeadSource

    @property
    def eye_centres(self) -> np.ndarray:
        """Centres (2, 3) of the left and the right eyeball."""
        return np.stack([self.eyes[side].centre for side in ("left", "right")])

    def lid_edges(self) -> dict[str, np.ndarray]:
        """Return "upper_left" and so on → points (n, 3) of a lid's edge from the inner to the outer corner."""
        out = {}
        for side, eye in self.eyes.items():
            x = eye.x[eye.opening(eye.x) > 0.5]
            x = x[np.argsort(np.abs(x))]
            for row in ("upper", "lower"):
                out[f"{row}_{side}"] = eye.place(x, *eye.edge(row, x))
        return out

    def features(self) -> Face:
        """Return where the features of the face are, for its textures."""
        edges, v, lips = self.lid_edges(), self.skin.vertices, self.skin.lips
        outer = np.unique(self.skin.faces[self.skin.regions == OUTER])
        return Face(
            eye_centres=self.eye_centres,
            eye_radius=EYEBALL_RADIUS_MM,
            lids=(
                (edges["upper_left"], edges["lower_left"]),
                (edges["upper_right"], edges["lower_right"]),
            ),
            lips=(v[lips.upper], v[lips.lower]),
            nose_tip=v[outer][v[outer, 2].argmax()],
        )


@dataclass
class Piece:
    """Triangles with their materials, before they are joined.

    Attributes:
        vertices: (n, 3) in mm.
        faces: (m, 3) triangles.
        uv: (u, 2) texture coordinates.
        uv_faces: (m, 3) texture coordinates of the corners.
        materials: The materials.
        face_materials: (m,) their numbers.
        shapes: Name → offsets (n, 3) in mm.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    uv_faces: np.ndarray
    materials: tuple[Material, ...]
    face_materials: np.ndarray
    shapes: dict[str, np.ndarray] = field(default_factory=dict)


def _piece(vertices: np.ndarray, faces: np.ndarray, coordinates, material: Material) -> Piece:  # type: ignore[no-untyped-def]
    """Return a piece of one material, whose coordinates are (uv, uv_faces), or uv alone, by vertex."""
    uv_, uv_faces = coordinates if isinstance(coordinates, tuple) else (coordinates, faces)
    return Piece(vertices, faces, uv_, uv_faces, (material,), np.zeros(len(faces), np.uint8))


def skin_piece(sculpture: Sculpture, full: bool) -> Piece:
    """Return the skin of the full or the light head, with the inside of the mouth as a second material."""
    skin = sculpture.skin
    faces, region = (skin.faces, skin.regions) if full else (skin.light_faces, skin.light_regions)
    count = len(skin.vertices) if full else skin.light_count
    vertices = skin.vertices[:count]
    in_mouth = region == MOUTH
    outside, inside = faces[~in_mouth], faces[in_mouth]
    depth = LipFields(skin, skin.vertices).distance[:count]
    outer_uv = uv.skin_uv(vertices, outside, sculpture.eye_centres)
    inner_uv = uv.mouth_uv(vertices, inside, contact_point(skin.vertices, skin.lips), depth)
    return Piece(
        vertices=vertices,
        faces=np.concatenate([outside, inside]),
        uv=np.concatenate([outer_uv[0], inner_uv[0]]),
        uv_faces=np.concatenate([outer_uv[1], inner_uv[1] + np.int32(len(outer_uv[0]))]),
        materials=(SKIN, MOUTH_LINING),
        face_materials=np.repeat(np.array([0, 1], np.uint8), [len(outside), len(inside)]),
        shapes={name: offsets[:count] for name, offsets in skin.shapes.items()},
    )


def mouth_pieces(sculpture: Sculpture, full: bool) -> tuple[dict[str, Piece], np.ndarray]:
    """Return tongue and teeth, and mouthLabiodental of the skin (V, 3), which depends on the teeth."""
    skin, source = sculpture.skin, sculpture.source
    points, faces, coordinates, shapes = {}, {}, {}, {}
    for name in ("upper_teeth", "lower_teeth"):
        old = np.unique(np.concatenate(source.polygons[name]))
        surface = labial_surface(source.vertices[old], name)
        points[name], faces[name], columns = make_dental_arch(*surface, fine=full)
        coordinates[name] = uv.teeth_uv(columns, len(points[name]) // columns)
        shapes[name] = {}
        if name == "lower_teeth":
            shapes[name] = {
                jaw: _affine_motion(source.vertices[old], source.shapes[jaw][old], points[name]) for jaw in JAW_SHAPES
            }
    tongue = np.unique(np.concatenate(source.polygons["tongue"]))
    index = np.full(len(source.vertices), -1)
    index[tongue] = np.arange(len(tongue))
    points["tongue"] = source.vertices[tongue].copy()
    faces["tongue"] = triangulate([index[p].tolist() for p in source.polygons["tongue"]], points["tongue"])
    shapes["tongue"] = {name: source.shapes[name][tongue] for name in (*JAW_SHAPES, "tongueOut")}
    seat_teeth_and_tongue(points, shapes, contact_point(skin.vertices, skin.lips))
    coordinates["tongue"] = uv.tongue_uv(points["tongue"], faces["tongue"])
    upper = points["upper_teeth"]
    front = upper[upper[:, 2] > upper[:, 2].max() - 5]
    drop = -float(shapes["lower_teeth"]["jawOpen"][:, 1].min())
    shapes["tongue"] |= tongue_shapes(points["tongue"], shapes["tongue"]["jawOpen"], drop, upper)
    labiodental = make_labiodental(
        LipFields(skin, skin.vertices), skin.shapes["jawOpen"], drop, front[front[:, 1].argmin()], skin.lips
    )
    pieces = {}
    for name, material in (("tongue", TONGUE), ("upper_teeth", TEETH), ("lower_teeth", TEETH)):
        pieces[name] = _piece(points[name], faces[name], coordinates[name], material)
        pieces[name].shapes = shapes[name]
    return pieces, labiodental


def eye_pieces(sculpture: Sculpture, full: bool) -> dict[str, Piece]:
    """Return the eyeballs, which turn under the eyeLook shapes."""
    out = {}
    for side, eye in sculpture.eyes.items():
        ball, faces = make_eyeball(eye.centre, EYEBALL_RADIUS_MM, full)
        piece = _piece(ball, faces, uv.eye_uv(ball, eye.centre), EYE)
        outwards = 1 if side == "left" else -1
        for name, (up, out_degrees) in LOOKS.items():
            turn = rotation_matrix("x", -up) @ rotation_matrix("y", out_degrees * outwards)
            piece.shapes[f"{name}{side.capitalize()}"] = (ball - eye.centre) @ (turn - np.eye(3)).T
        out[f"eye_{side}"] = piece
    return out


def hair_pieces(sculpture: Sculpture, full: bool) -> dict[str, attached.Part]:
    """Return hair, brows and lashes, anchored to the skin of the full head."""
    skin, centres = sculpture.skin, sculpture.eye_centres
    outer = skin.faces[skin.regions == OUTER]
    return {
        "hair": make_hair(skin.vertices, outer, centres, light=not full),
        "brows": make_brows(skin.vertices, outer, centres),
        "lashes": make_lashes(skin.vertices, outer, centres, sculpture.lid_edges(), columns=15 if full else 9),
    }


def torso(sculpture: Sculpture) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and triangles (F, 3) of head and trunk, on which the shirt is made."""
    source = sculpture.source
    low = sculpture.eye_centres[0, 1] - TORSO_BELOW_EYES_MM
    polygons = [
        p
        for p in (*source.polygons["skin"], *source.polygons["body"])
        if source.vertices[p, 1].max() > low and np.abs(source.vertices[p, 0]).max() < TORSO_HALF_WIDTH_MM
    ]
    used = np.unique(np.concatenate(polygons))
    index = np.full(len(source.vertices), -1)
    index[used] = np.arange(len(used))
    points = source.vertices[used]
    return points, triangulate([index[p].tolist() for p in polygons], points)


def _affine_motion(points: np.ndarray, offsets: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the offsets of other points under the affine motion that fits the offsets (n, 3) of points best."""
    affine, *_ = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), offsets, rcond=None)
    out: np.ndarray = np.column_stack([others, np.ones(len(others))]) @ affine
    return out


def head_rotations(points: np.ndarray, eye_centres: np.ndarray) -> dict[str, np.ndarray]:
    """Return linearised rotations of the head by 10 degrees about the top of the neck, which fade down the neck."""
    pivot = np.array([0.0, *(eye_centres[:, 1:].mean(0) - [88.0, 78.0])])
    weight = smoothstep(points[:, 1] + 0.25 * (points[:, 2] - pivot[2]), pivot[1] - 52, pivot[1] + 18)[:, None]
    small = 1.0  # degree: step for the derivative at rest, so that the shapes combine linearly
    out = {}
    for name, axis, sign in (
        ("headYawLeft", "y", 1),
        ("headYawRight", "y", -1),
        ("headPitchUp", "x", -1),
        ("headPitchDown", "x", 1),
        ("headRollLeft", "z", -1),
        ("headRollRight", "z", 1),
    ):
        turn = (rotation_matrix(axis, small) - rotation_matrix(axis, -small)) * (sign * 10.0 / (2 * small))
        out[name] = weight * ((points - pivot) @ turn.T)
    return out


def assemble_heads(sculpture: Sculpture) -> tuple[Rig, Rig]:
    """Return the full and the light rig, in metres, with the origin 70 mm behind the middle of the eyes.

    The light one is a head and neck without clothes. Their landmarks are at the same places.
    """
    light = assemble(sculpture, full=False)
    return assemble(sculpture, full=True, light=light), light


def assemble(sculpture: Sculpture, full: bool, light: Rig | None = None) -> Rig:
    """Return one of the rigs of `assemble_heads`; the full one takes its landmarks from `light`."""
    pieces = {"skin": skin_piece(sculpture, full)}
    others, labiodental = mouth_pieces(sculpture, full)
    sculpture.skin.shapes["mouthLabiodental"] = labiodental
    pieces["skin"].shapes["mouthLabiodental"] = labiodental[: len(pieces["skin"].vertices)]
    pieces |= others | eye_pieces(sculpture, full)
    for piece in pieces.values():
        piece.shapes |= head_rotations(piece.vertices, sculpture.eye_centres)
    skin = sculpture.skin
    all_shapes = skin.shapes | head_rotations(skin.vertices, sculpture.eye_centres)
    moving = np.stack([all_shapes[name] for name in SHAPE_NAMES if name in all_shapes])
    moving_names = [name for name in SHAPE_NAMES if name in all_shapes]
    pairs = lip_pairs(skin, full)
    for name, part in hair_pieces(sculpture, full).items():
        pieces[name] = _piece(part.vertices, part.faces, (part.uv, part.uv_faces), part.material)
        pieces[name].shapes = dict(zip(moving_names, attached.bind(part, skin.vertices, moving), strict=True))
    if full:
        shirt = make_shirt(*torso(sculpture), sculpture.eye_centres)
        part = shirt.part
        pieces["clothes"] = _piece(part.vertices, part.faces, (part.uv, part.uv_faces), part.material)
        pairs = _keep_faces(pieces["skin"], ~shirt.covered(pieces["skin"].vertices, pieces["skin"].faces))[pairs]
    rig = _join(pieces, pairs, sculpture.eye_centres, "kmtalk default head" if full else "kmtalk light head")
    return _set_landmarks(rig, sculpture, light)


def _set_landmarks(rig: Rig, sculpture: Sculpture, light: Rig | None) -> Rig:
    """Return the rig with landmarks at the corners of eyes and mouth, and those of the skin of `light` if given."""
    template, skin = rig.template, rig.template.regions["skin"]
    origin = _origin(sculpture.eye_centres)
    places, edges = {}, sculpture.lid_edges()
    for side, outwards, end in (("left", 1, -1), ("right", -1, 0)):
        for name, corner, shift in (
            ("eye_outer", edges[f"upper_{side}"][-1], EYE_LANDMARK_MM),
            ("mouth", sculpture.skin.vertices[sculpture.skin.lips.upper[end]], MOUTH_LANDMARK_MM),
        ):
            places[f"{name}_{side}"] = (corner + np.array(shift) * [outwards, 1, 1] - origin) / 1000
    if light is not None:
        marks, points = light.template.landmarks, light.template.vertices
        on_skin = set(light.template.regions["skin"].tolist())
        places |= {name: points[vertex] for name, vertex in marks.items() if vertex in on_skin}
    landmarks = dict(template.landmarks)
    for name, place in places.items():
        landmarks[name] = int(skin[np.linalg.norm(template.vertices[skin] - place, axis=1).argmin()])
    corners = np.array([landmarks["mouth_left"], landmarks["mouth_right"]])
    regions_ = dict(template.regions) | {"corners": corners}
    return replace(rig, template=replace(template, landmarks=landmarks, regions=regions_))


def _origin(eye_centres: np.ndarray) -> np.ndarray:
    """Return the origin (3,) of the assets in mm: 70 mm behind the middle of the eyes."""
    return np.asarray(eye_centres.mean(0) - [0, 0, 70.0])


def _keep_faces(piece: Piece, kept: np.ndarray) -> np.ndarray:
    """Keep triangles (m,) of a piece, and the vertices and texture coordinates that they use, in place.

    Returns:
        New index of each vertex; -1 for those that are removed.
    """
    new_index = np.full(len(piece.vertices), -1)
    used, faces = np.unique(piece.faces[kept], return_inverse=True)
    new_index[used] = np.arange(len(used))
    used_uv, uv_faces = np.unique(piece.uv_faces[kept], return_inverse=True)
    piece.vertices, piece.uv = piece.vertices[used], piece.uv[used_uv]
    piece.faces, piece.uv_faces = faces.reshape(-1, 3), uv_faces.reshape(-1, 3)
    piece.face_materials = piece.face_materials[kept]
    piece.shapes = {name: offsets[used] for name, offsets in piece.shapes.items()}
    return new_index


def lip_pairs(skin: Skin, full: bool) -> np.ndarray:
    """Return the vertices (n, 2) of the upper and the lower lip that touch, from -x to x."""
    chains = [chain[1:-1] for chain in (skin.lips.upper, skin.lips.lower)]
    upper, lower = chains if full else (chain[chain < skin.light_count] for chain in chains)
    v = skin.vertices
    distance, nearest = cKDTree(v[upper]).query(v[lower])
    return np.stack([upper[nearest], lower], axis=1)[distance < TOUCHING_MM]


def _join(pieces: dict[str, Piece], pairs: np.ndarray, eye_centres: np.ndarray, name: str) -> Rig:
    """Join pieces, the skin first, to one rig with regions and landmarks; `pairs` are the lips' of the skin."""
    starts = np.cumsum([0] + [len(p.vertices) for p in pieces.values()])
    uv_starts = np.cumsum([0] + [len(p.uv) for p in pieces.values()])
    materials: list[Material] = []
    face_materials = []
    for piece in pieces.values():
        materials += [m for m in piece.materials if m not in materials]
        face_materials.append(np.array([materials.index(m) for m in piece.materials], np.uint8)[piece.face_materials])
    offsets = np.zeros((len(SHAPE_NAMES), starts[-1], 3))
    for piece, start in zip(pieces.values(), starts, strict=False):
        for row, shape in enumerate(SHAPE_NAMES):
            if shape in piece.shapes:
                offsets[row, start : start + len(piece.vertices)] = piece.shapes[shape]
    vertices = np.concatenate([p.vertices for p in pieces.values()])
    origin = _origin(eye_centres)
    template = Template(
        vertices=((vertices - origin) / 1000.0).astype(np.float32),
        faces=np.concatenate([p.faces + start for p, start in zip(pieces.values(), starts, strict=False)]).astype(
            np.int32
        ),
        units="m",
        name=name,
        appearance=Appearance(
            materials=tuple(materials),
            face_materials=np.concatenate(face_materials),
            uv=np.concatenate([p.uv for p in pieces.values()]).astype(np.float32),
            uv_faces=np.concatenate(
                [p.uv_faces + start for p, start in zip(pieces.values(), uv_starts, strict=False)]
            ).astype(np.int32),
        ),
    )
    index = {part: np.arange(a, b) for part, a, b in zip(pieces, starts[:-1], starts[1:], strict=True)}
    index["lip_pairs"] = pairs.astype(np.int32)
    stored = (offsets / 1000.0).astype(np.float16).astype(np.float32)
    return regions.add_regions_and_landmarks(Rig(template=template, shape_names=SHAPE_NAMES, offsets=stored), index)
