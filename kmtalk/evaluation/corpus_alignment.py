"""Alignments of a whole corpus: as the paper makes them, by Whisper and an aligner."""

from __future__ import annotations

from collections.abc import Callable

from kmtalk.corpora.mesh_corpus import MeshCorpus
from kmtalk.output import atomic_write
from kmtalk.pipeline import KMTalk
from kmtalk.progress import Progress
from kmtalk.speech.alignment import write_textgrid
from kmtalk.speech.audio import SAMPLE_RATE, audio_from_samples


def align_corpus(
    corpus: MeshCorpus,
    talk: KMTalk,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[int, int]:
    """Write the TextGrids that are missing; returns how many were made, and in how many no phones were found.

    A clip without phones is left without a TextGrid, and said. Goes on where it was stopped.
    """
    progress, made, empty = progress or Progress(), 0, 0
    left = [clip for clip in corpus.clips if not clip.textgrid.is_file()]
    with progress.stage("align corpus", len(left)) as told:
        for i, clip in enumerate(left):
            told(i)
            samples = clip.load_file_samples()
            _, alignment = talk.align(audio_from_samples(samples, SAMPLE_RATE, clip.name))
            if not alignment.phones:
                say(f"{clip.name}: no phones found ({alignment.status}); give it a TextGrid by hand")
                empty += 1
                continue
            clip.textgrid.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(clip.textgrid) as temporary:
                write_textgrid(alignment, temporary, len(samples) / SAMPLE_RATE)
            made += 1
    return made, empty
