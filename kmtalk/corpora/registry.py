"""Corpora of moving meshes by kind, and the landmarks and regions of their faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kmtalk.corpora.biwi import load_biwi
from kmtalk.corpora.folder import load_folder_corpus
from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.corpora.vocaset import load_vocaset
from kmtalk.errors import InputError
from kmtalk.face.landmark_file import load_landmarks
from kmtalk.face.rig import load_light_head
from kmtalk.face.rigging import rig_template
from kmtalk.face.source_head import load_source_head
from kmtalk.face.template import Template

MESH_CORPUS_LOADERS: dict[str, Callable[[Path, float, Path | None], MeshCorpus]] = {
    "vocaset": load_vocaset,
    "biwi": lambda path, fps, textgrids: load_biwi(path, textgrids),
    "folder": lambda path, fps, textgrids: load_folder_corpus(path, textgrids),
}
"""Loader of each kind of corpus of vertices: called with its folder, VOCASET's frame rate and a folder of TextGrids."""

MESH_CORPUS_KINDS = tuple(MESH_CORPUS_LOADERS)
DEFAULT_TEST_SPLIT = {"biwi": "test-a"}
"""Default split to score by corpus kind; "test" for kinds that are not listed."""


def load_mesh_corpus(kind: str, path: Path, fps: float = 30.0, textgrids: Path | None = None) -> MeshCorpus:
    """Load a corpus.

    Args:
        kind: One of `MESH_CORPUS_KINDS`.
        path: The corpus' folder.
        fps: Frame rate of VOCASET, 30 or 60; other kinds have their own.
        textgrids: Folder of alignments; None: the corpus' own.

    Returns:
        The corpus.

    Raises:
        InputError: The kind is unknown or the folder is not such a corpus.
    """
    if kind not in MESH_CORPUS_LOADERS:
        raise InputError(f"{kind}: unknown corpus of vertices; use one of {', '.join(MESH_CORPUS_KINDS)}")
    return MESH_CORPUS_LOADERS[kind](path, fps, textgrids)


def locate_corpus_face(corpus: MeshCorpus, landmarks: Path | None = None) -> tuple[Template, tuple[str, ...]]:
    """Find regions and landmarks on the neutral face of a corpus' first subject.

    Args:
        corpus: The corpus.
        landmarks: File of landmarks; None: they are detected, as on any mesh (`kmtalk.face.fit`).

    Returns:
        The template in the corpus' vertex order, and warnings about the fit.

    Raises:
        InputError: The corpus' triangles are unknown, no face is found, or confidence in the fit is low.
    """
    subject, vertices = next(iter(corpus.templates.items()))
    if corpus.faces is None:
        file_name = {"vocaset": "FLAME_sample.ply", "biwi": "BIWI.ply"}.get(corpus.kind, "a template with faces")
        raise InputError(f"{corpus.path}: its triangles are unknown, so the face cannot be located; add {file_name}")
    template = Template(vertices.astype(np.float32), corpus.faces, units=corpus.unit, name=subject)
    given_landmarks = None if landmarks is None else load_landmarks(landmarks, template.vertices)
    fit = rig_template(template, load_source_head(load_light_head()), given_landmarks)
    if fit.report.confidence == "low":
        reasons = "; ".join(fit.report.warnings)
        raise InputError(f"{corpus.path}: the face of {subject} was found with low confidence ({reasons})")
    return fit.rig.template, fit.report.warnings
