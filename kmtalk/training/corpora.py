"""The corpora of a config, made a task to learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmtalk.articulation.inverse import MouthSolver
from kmtalk.articulation.speaker import Speaker
from kmtalk.assets import asset
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.folder import load_rig_folder
from kmtalk.corpora.grid import fit_clip, held_out, load_grid
from kmtalk.corpora.mesh import MeshCorpus
from kmtalk.corpora.meshes import found_face, load_meshes
from kmtalk.corpora.simulated import load_simulated
from kmtalk.errors import InputError
from kmtalk.face.rig import Rig, load_rig
from kmtalk.metrics import Mask, load_mask, own_mask
from kmtalk.progress import Progress
from kmtalk.training.config import Config, CorpusConfig
from kmtalk.training.tasks import Judged, Task, mesh_task, rig_task

JUDGED_EVERY = 12
"""Every so many clips one is kept from training to choose by; none of GRID's held-out clips is among them."""


def prepare(config: Config, output: Path, progress: Progress | None = None) -> Task:
    """What ``config`` asks to be learnt; features are kept in its cache, or under ``output``. Raises InputError for
    corpora that cannot be read, or not together."""
    cache = config.cache or output / "features"
    of_vertices = {corpus.of_vertices for corpus in config.corpora}
    if len(of_vertices) > 1:
        raise InputError("corpora of a rig's weights and of vertices cannot be learnt together")
    if of_vertices == {True}:
        corpora = [load_meshes(c.kind, c.path, c.fps, c.textgrids) for c in config.corpora]
        given = config.corpora[0].lips
        lips = _own_lips(corpora[0]) if given is None else load_mask(given)
        return mesh_task(config, corpora, lips, cache, progress, [c.keys_from for c in config.corpora])
    rig = load_rig(asset("head.safetensors"))
    clips, judged = gather(config.corpora, rig, progress)
    return rig_task(config, clips, judged, rig, cache, progress)


def _own_lips(corpus: MeshCorpus) -> Mask:
    try:
        return own_mask(found_face(corpus)[0], "lips")
    except InputError as error:
        raise InputError(f"{error}; or give lips, a mask file, to the config's corpus") from None


def gather(
    corpora: Sequence[CorpusConfig], rig: Rig, progress: Progress | None = None
) -> tuple[list[list[Clip]], list[Judged]]:
    """Clips of each corpus, and some kept apart to judge by: clip, mouth (N, 3) mm and frames of speech (N,).

    GRID judges where it is among them, by the real lips; else simulated speech does, by what was
    simulated. GRID's held-out clips are in neither.
    """
    progress = progress or Progress()
    clips: list[list[Clip]] = []
    judged: list[Judged] = []
    real = any(corpus.kind == "grid" for corpus in corpora)
    for corpus in corpora:
        if corpus.kind in ("simulated", "rig"):
            made = (load_simulated if corpus.kind == "simulated" else load_rig_folder)(corpus.path, rig)
            if real:
                clips.append(made)
                continue
            solver = MouthSolver(rig)
            for clip in made[::JUDGED_EVERY]:
                mouth = solver.measure(clip.weights).channels
                judged.append((clip, mouth, np.full(len(mouth), bool(clip.alignment.phones))))
            clips.append([c for i, c in enumerate(made) if i % JUDGED_EVERY])
            continue
        speaker, never = Speaker(rig), held_out()
        tracked = [c for c in load_grid(corpus.path) if c.name not in never]
        mine = []
        with progress.stage("fit", len(tracked)) as told:
            for i, one in enumerate(tracked):
                told(i)
                clip = fit_clip(one, speaker)
                if i % JUDGED_EVERY == 0:
                    judged.append((clip, one.mouth, one.speaking))
                else:
                    mine.append(clip)
        clips.append(mine)
    return clips, judged
