"""The corpora of a config, made a task to learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.assets import asset_path
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.folder import load_rig_folder
from kmtalk.corpora.grid import held_out_clips, load_grid, rig_clip_from_tracking
from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.corpora.registry import load_mesh_corpus, locate_corpus_face
from kmtalk.corpora.simulated import load_simulated_corpus
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig, load_rig
from kmtalk.metrics import Mask, load_mask, mask_from_template
from kmtalk.progress import Progress
from kmtalk.training.config import CorpusConfig, TrainingConfig
from kmtalk.training.tasks import TrainingTask, ValidationClip, make_mesh_task, make_rig_task

VALIDATION_STRIDE = 12
"""Every so many clips one is kept from training to choose by; none of GRID's held-out clips is among them."""


def prepare_task(config: TrainingConfig, output: Path, progress: Progress | None = None) -> TrainingTask:
    """What ``config`` asks to be learnt; features are kept in its cache, or under ``output``. Raises InputError for
    corpora that cannot be read, or not together."""
    cache = config.feature_cache or output / "features"
    of_vertices = {corpus.has_vertices for corpus in config.corpora}
    if len(of_vertices) > 1:
        raise InputError("corpora of a rig's weights and of vertices cannot be learnt together")
    if of_vertices == {True}:
        corpora = [load_mesh_corpus(c.kind, c.path, c.fps, c.textgrids) for c in config.corpora]
        given = config.corpora[0].lip_mask
        lips = _lip_mask_from_mesh(corpora[0]) if given is None else load_mask(given)
        return make_mesh_task(config, corpora, lips, cache, progress, [c.keys_from for c in config.corpora])
    rig = load_rig(asset_path("head.safetensors"))
    clips, judged = load_clips(config.corpora, rig, progress)
    return make_rig_task(config, clips, judged, rig, cache, progress)


def _lip_mask_from_mesh(corpus: MeshCorpus) -> Mask:
    try:
        return mask_from_template(locate_corpus_face(corpus)[0], "lips")
    except InputError as error:
        raise InputError(f"{error}; or give lips, a mask file, to the config's corpus") from None


def load_clips(
    corpora: Sequence[CorpusConfig], rig: Rig, progress: Progress | None = None
) -> tuple[list[list[Clip]], list[ValidationClip]]:
    """Clips of each corpus, and some kept apart to judge by: clip, mouth (N, 3) mm and frames of speech (N,).

    GRID judges where it is among them, by the real lips; else simulated speech does, by what was
    simulated. GRID's held-out clips are in neither.
    """
    progress = progress or Progress()
    clips: list[list[Clip]] = []
    judged: list[ValidationClip] = []
    real = any(corpus.kind == "grid" for corpus in corpora)
    for corpus in corpora:
        if corpus.kind in ("simulated", "rig"):
            made = (load_simulated_corpus if corpus.kind == "simulated" else load_rig_folder)(corpus.path, rig)
            if real:
                clips.append(made)
                continue
            solver = MouthSolver(rig)
            for clip in made[::VALIDATION_STRIDE]:
                mouth = solver.measure(clip.weights).frontal_channels
                judged.append((clip, mouth, np.full(len(mouth), bool(clip.alignment.phones))))
            clips.append([c for i, c in enumerate(made) if i % VALIDATION_STRIDE])
            continue
        speaker, never = SimulatedSpeaker(rig), held_out_clips()
        tracked = [c for c in load_grid(corpus.path) if c.name not in never]
        mine = []
        with progress.stage("fit", len(tracked)) as told:
            for i, one in enumerate(tracked):
                told(i)
                clip = rig_clip_from_tracking(one, speaker)
                if i % VALIDATION_STRIDE == 0:
                    judged.append((clip, one.mouth, one.speech_mask))
                else:
                    mine.append(clip)
        clips.append(mine)
    return clips, judged
