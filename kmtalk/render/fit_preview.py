"""Preview picture of a fitted rig: the neutral mesh with its landmarks, and a few test poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kmtalk.face.fit import FittedRig
from kmtalk.face.motion import Motion
from kmtalk.face.rig import MOUTH_SEAL, Rig
from kmtalk.face.template import Template
from kmtalk.render.video import CLAY_COLOR, Cell, render_contact_sheet

# (caption, shape weights, view, what is in the picture)
PREVIEW_CELLS: tuple[tuple[str, dict[str, float], str, str], ...] = (
    ("neutral, landmarks", {"landmarks": 1.0}, "front", "head"),
    ("profile, landmarks", {"landmarks": 1.0}, "profile", "head"),
    ("jaw open", {"jawOpen": 0.7}, "portrait", "face"),
    ("pucker", {"mouthPucker": 1.0}, "portrait", "face"),
    ("smile", {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8}, "portrait", "face"),
    ("p: jaw half open, lips closed", {"jawOpen": 0.4, "mouthClose": 0.4}, "portrait", "face"),
    ("eyes open", {}, "front", "eyes"),
    ("eyes closed", {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, "front", "eyes"),
)
LANDMARK_COLOR = (20, 90, 210)
CELL_SIZE, COLUMNS = 360, 4


def write_fit_preview(path: Path, fitted: FittedRig) -> None:
    """Write a PNG of the fitted rig in `PREVIEW_CELLS`. Raises InputError where no OpenGL works."""
    rig = _add_landmark_markers(fitted.rig, fitted.landmarks)
    weights = np.zeros((len(PREVIEW_CELLS), len(rig.shape_names)), np.float32)
    for row, (_, pose, _, _) in enumerate(PREVIEW_CELLS):
        for name, value in pose.items():
            weights[row, rig.index[name]] = value
        if MOUTH_SEAL in rig.index and "landmarks" not in pose:
            weights[row, rig.index[MOUTH_SEAL]] = 1.0
    cells = [Cell(row, label, view, framing) for row, (label, _, view, framing) in enumerate(PREVIEW_CELLS)]
    render_contact_sheet(Motion(rig, weights, 1.0), cells, path, CELL_SIZE, COLUMNS)


def write_mesh_preview(path: Path, template: Template) -> None:
    """Write a PNG of a mesh on which no face was found, seen from the front under three common axis conventions."""
    rotations = [np.eye(3), [[1, 0, 0], [0, 0, 1], [0, -1, 0]], [[0, 0, -1], [0, 1, 0], [1, 0, 0]]]
    middle = (template.vertices.min(0) + template.vertices.max(0)) / 2
    offsets = np.stack([(template.vertices - middle) @ (np.array(r).T - np.eye(3)) for r in rotations]).astype(
        np.float32
    )
    rig = Rig(template, ("y up", "z up", "y up, from its side"), offsets)
    motion = Motion(rig, np.eye(3, dtype=np.float32), 1.0)
    cells = [Cell(n, name, "front", "body") for n, name in enumerate(rig.shape_names)]
    render_contact_sheet(motion, cells, path, CELL_SIZE, 3)


def _add_landmark_markers(rig: Rig, points: np.ndarray) -> Rig:
    """Add an octahedron at every landmark, of zero size in the neutral and visible at weight 1 of shape "landmarks"."""
    template = rig.template
    count = len(template.vertices)
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    marker_faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    marker_vertices = np.repeat(points, 6, axis=0).astype(np.float32)
    few = len(points) < 50
    marker_offsets = np.tile(axes, (len(points), 1)) * (2.4 if few else 0.9) / template.mm_per_unit
    offsets = np.zeros((len(rig.shape_names) + 1, count + len(marker_vertices), 3), np.float32)
    offsets[:-1, :count] = rig.offsets  # also for files with native shapes: the rig's effective offsets
    offsets[-1, count:] = marker_offsets
    colors = template.colors if template.colors is not None else template.preview_colors
    if colors is None:
        colors = np.tile(np.array(CLAY_COLOR, np.uint8), (count, 1))
    faces = marker_faces + 6 * np.arange(len(points))[:, None, None] + count
    marked = replace(
        template,
        vertices=np.concatenate([template.vertices, marker_vertices]),
        faces=np.concatenate([template.faces, faces.reshape(-1, 3).astype(np.int32)]),
        colors=np.concatenate([colors, np.tile(np.array(LANDMARK_COLOR, np.uint8), (len(marker_vertices), 1))]),
        appearance=None,
        joints=(),
    )
    upright = rig.upright_vertices
    if upright is not None:
        transform = np.linalg.lstsq(
            template.vertices - template.vertices.mean(0), upright - upright.mean(0), rcond=None
        )[0]
        upright = np.concatenate([upright, (marker_vertices - template.vertices.mean(0)) @ transform + upright.mean(0)])
    return Rig(marked, (*rig.shape_names, "landmarks"), offsets, upright_vertices=upright)
