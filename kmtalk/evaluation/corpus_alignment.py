"""Alignment of a whole corpus as in the paper: Whisper transcribes, an aligner times the phones."""

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
    pipeline: KMTalk,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[int, int]:
    """Write the missing TextGrids of a corpus.

    A clip without phones gets no TextGrid; it is reported. An interrupted run is continued by running it again.

    Args:
        corpus: The corpus.
        pipeline: Pipeline that transcribes and aligns.
        progress: Progress display.
        log: Receives log lines.

    Returns:
        The number of TextGrids written, and the number of clips in which no phones were found.
    """
    progress, written, empty = progress or Progress(), 0, 0
    pending = [clip for clip in corpus.clips if not clip.textgrid.is_file()]
    with progress.stage("align corpus", len(pending)) as advance:
        for i, clip in enumerate(pending):
            advance(i)
            samples = clip.load_file_samples()
            _, alignment = pipeline.align(audio_from_samples(samples, SAMPLE_RATE, clip.name))
            if not alignment.phones:
                log(f"{clip.name}: no phones found ({alignment.status}); add a TextGrid by hand")
                empty += 1
                continue
            clip.textgrid.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(clip.textgrid) as temporary:
                write_textgrid(alignment, temporary, len(samples) / SAMPLE_RATE)
            written += 1
    return written, empty
