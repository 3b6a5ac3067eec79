"""Loads the corpora of a configuration as a training task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.folder import load_rig_folder
from kmtalk.corpora.grid import fit_rig_to_tracking, held_out_clip_names, load_tracked_grid
from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.corpora.registry import load_mesh_corpus, locate_corpus_face
from kmtalk.corpora.simulated import load_simulated_corpus
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig, load_light_head
from kmtalk.metrics import Mask, load_mask, mask_from_template
from kmtalk.progress import Progress
from kmtalk.training.config import CorpusConfig, TrainingConfig
from kmtalk.training.tasks import TrainingTask, ValidationClip, make_mesh_task, make_rig_task

VALIDATION_STRIDE = 12
"""One clip in this many is used for validation instead of training; GRID's held-out clips are used for neither."""


def prepare_task(config: TrainingConfig, output: Path, progress: Progress | None = None) -> TrainingTask:
    """Load the corpora of a configuration and prepare training.

    Args:
        config: Training configuration.
        output: Output folder; audio features are cached in its folder features unless `config.feature_cache` is set.
        progress: Receives progress.

    Raises:
        InputError: A corpus cannot be read, or the corpora cannot be combined.
    """
    cache = config.feature_cache or output / "features"
    has_vertices = {corpus.has_vertices for corpus in config.corpora}
    if len(has_vertices) > 1:
        raise InputError(
            "corpora: rig weights (simulated, grid, rig) and vertices cannot be combined; train them apart"
        )
    if has_vertices == {True}:
        corpora = [load_mesh_corpus(c.kind, c.path, c.fps, c.textgrids) for c in config.corpora]
        lip_mask = config.corpora[0].lip_mask
        lips = _lip_mask_from_mesh(corpora[0]) if lip_mask is None else load_mask(lip_mask)
        return make_mesh_task(config, corpora, lips, cache, progress, [c.keys_from for c in config.corpora])
    rig = load_light_head()
    clips, validation_clips = load_clips(config.corpora, rig, progress)
    return make_rig_task(config, clips, validation_clips, rig, cache, progress)


def _lip_mask_from_mesh(corpus: MeshCorpus) -> Mask:
    try:
        return mask_from_template(locate_corpus_face(corpus)[0], "lips")
    except InputError as error:
        raise InputError(f"{error}; or set lip_mask to a mask file in the config's corpus") from None


def load_clips(
    corpora: Sequence[CorpusConfig], rig: Rig, progress: Progress | None = None
) -> tuple[list[list[Clip]], list[ValidationClip]]:
    """Load the training and validation clips of corpora of rig weights.

    With GRID among the corpora, validation uses GRID clips and their tracked lips; otherwise it uses clips of the other
    corpora and their own motion. GRID's held-out clips are in neither.

    Args:
        corpora: Corpora of kinds simulated, grid and rig.
        rig: Rig of the weights.
        progress: Receives progress.

    Returns:
        clips: Training clips of each corpus.
        validation_clips: Validation clips, see `kmtalk.training.tasks.ValidationClip`.
    """
    progress = progress or Progress()
    clips: list[list[Clip]] = []
    validation_clips: list[ValidationClip] = []
    has_grid = any(corpus.kind == "grid" for corpus in corpora)
    for corpus in corpora:
        if corpus.kind in ("simulated", "rig"):
            corpus_clips = (load_simulated_corpus if corpus.kind == "simulated" else load_rig_folder)(corpus.path, rig)
            if has_grid:
                clips.append(corpus_clips)
                continue
            solver = MouthSolver(rig)
            for clip in corpus_clips[::VALIDATION_STRIDE]:
                mouth = solver.measure(clip.weights).lip_channels
                validation_clips.append((clip, mouth, np.full(len(mouth), bool(clip.alignment.phones))))
            clips.append([c for i, c in enumerate(corpus_clips) if i % VALIDATION_STRIDE])
            continue
        speaker, held_out = SimulatedSpeaker(rig), held_out_clip_names(corpus.speaker)
        tracked = [c for c in load_tracked_grid(corpus.path, corpus.speaker) if c.name not in held_out]
        training_clips = []
        with progress.stage("fit", len(tracked)) as advance:
            for i, tracked_clip in enumerate(tracked):
                advance(i)
                clip = fit_rig_to_tracking(tracked_clip, speaker)
                if i % VALIDATION_STRIDE == 0:
                    validation_clips.append((clip, tracked_clip.mouth_measurements, tracked_clip.utterance_mask))
                else:
                    training_clips.append(clip)
        clips.append(training_clips)
    return clips, validation_clips
