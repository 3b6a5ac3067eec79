"""Corpora of moving meshes by their kind, and where on them the lips are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kmtalk.assets import asset_path
from kmtalk.corpora.biwi import load_biwi
from kmtalk.corpora.folder import load_folder_corpus
from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.corpora.vocaset import load_vocaset
from kmtalk.errors import InputError
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.rig import load_rig
from kmtalk.face.rigging import rig_template
from kmtalk.face.source_head import load_source_head
from kmtalk.face.template import Template

MESH_CORPUS_KINDS = ("vocaset", "biwi", "folder")
DEFAULT_TEST_SPLIT = {"biwi": "test-a"}
"""The split that is scored where none is named, by kind; "test" where it is not here."""


def load_mesh_corpus(kind: str, path: Path, fps: float = 30.0, textgrids: Path | None = None) -> MeshCorpus:
    """The corpus of a ``kind`` of KINDS; ``fps`` is VOCASET's. Raises InputError where it is none."""
    if kind == "vocaset":
        return load_vocaset(path, fps, textgrids)
    if kind == "biwi":
        return load_biwi(path, textgrids)
    if kind == "folder":
        return load_folder_corpus(path, textgrids)
    raise InputError(f"{kind}: no such corpus of vertices; one of {', '.join(MESH_CORPUS_KINDS)}")


def locate_corpus_face(corpus: MeshCorpus, landmarks: Path | None = None) -> tuple[Template, tuple[str, ...]]:
    """The corpus' first neutral face with its regions and landmarks, found as on any mesh (face.fit), or helped by a
    file of ``landmarks``; and what leaves doubts of it.

    Raises InputError where the corpus has no triangles, or no face is found, or none that can be trusted.
    """
    subject, vertices = next(iter(corpus.templates.items()))
    if corpus.faces is None:
        where = {"vocaset": "FLAME_sample.ply", "biwi": "BIWI.ply"}.get(corpus.kind, "a template with faces")
        raise InputError(f"{corpus.path}: its triangles are unknown, so no face can be found; add {where}")
    template = Template(vertices.astype(np.float32), corpus.faces, units=corpus.unit, name=subject)
    points = None if landmarks is None else load_landmarks(landmarks, template.vertices)
    found = rig_template(template, load_source_head(load_rig(asset_path("head.safetensors"))), points)
    if found.report.confidence == "low":
        raise InputError(f"{corpus.path}: the face of {subject} was found badly ({'; '.join(found.report.warnings)})")
    return found.rig.template, found.report.warnings
