"""The corpora of a config, as clips to learn from and clips to be judged by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmtalk.articulation.inverse import MouthSolver
from kmtalk.articulation.speaker import Speaker
from kmtalk.corpora.clip import Clip
from kmtalk.corpora.grid import fit_clip, held_out, load_grid
from kmtalk.corpora.simulated import load_simulated
from kmtalk.face.rig import Rig
from kmtalk.progress import Progress
from kmtalk.training.config import CorpusConfig

JUDGED_EVERY = 12
"""Every so many clips one is kept from training to choose by; none of GRID's held-out clips is among them."""

Judged = tuple[Clip, np.ndarray, np.ndarray]


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
        if corpus.kind == "simulated":
            made = load_simulated(corpus.path, rig)
            if real:
                clips.append(made)
                continue
            solver = MouthSolver(rig)
            for clip in made[::JUDGED_EVERY]:
                m = solver.measure(clip.weights.astype(np.float64))
                mouth = np.stack([m.aperture, m.width, m.jaw], 1)
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
