"""Conversations of two synthetic voices for the joint corpus: two clips as long as each other, one for each speaker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from kmtalk.dialogue_motion import Speaker, dialogue_weights
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import HOP_SAMPLES, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import SAMPLES_PER_POSE, SIMULATED, Utterance, write_clip
from kmtalk.joint.tokens import Span, alignment_of_spans
from kmtalk.listener_settings import DialogueSettings
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples

HELD_OUT_EVERY = 32  # conversations
LISTENING_SECONDS = (0.3, 1.5)  # of silence before and after the turns
GAP_SECONDS = (0.1, 0.7)
"""Between the turns: most are between 0 and 0.5 s (Heldner & Edlund 2010: Pauses, gaps and overlaps in conversations.
Journal of Phonetics 38, 555-568)."""


class MotionSource(Protocol):
    """Predicts the mouth from sound; `kmtalk.motion.predictor.MotionPredictor` does."""

    @property
    def styles(self) -> tuple[str, ...]:
        """Names of the styles."""
        ...

    def predict(self, rig: Rig, alignment: Alignment, audio: Audio, fps: float, style: str | None) -> np.ndarray:
        """Return weights (N, R)."""
        ...


def write_dialogues(
    folder: Path,
    number: int,
    voices: Sequence[Iterator[Utterance]],
    hours: float,
    rig: Rig,
    motion: MotionSource,
    seed: int,
    progress: Progress,
) -> list[dict[str, object]]:
    """Write conversations: the one says a sentence, the other listens and then says one, by `dialogue_weights`.

    Args:
        folder: Folder of the corpus.
        number: Number of the first clip.
        voices: What each voice says next; the first takes part in every conversation.
        hours: Duration of the conversations together; it ends sooner where the sentences do.
        rig: The rig of the corpus.
        motion: Predictor of the mouth.
        seed: Random seed.
        progress: Receives the stage "converse".

    Returns:
        Rows of the manifest, two for each conversation.
    """
    rows: list[dict[str, object]] = []
    seconds, conversation = 0.0, 0
    with progress.stage("converse", max(1, round(hours * 60))) as advance:
        while seconds < hours * 3600:
            rng = np.random.default_rng([seed, number + len(rows), 3])
            second = voices[int(rng.integers(1, len(voices)))] if len(voices) > 1 else voices[0]
            turns = [next(voices[0], None), next(second, None)]
            if turns[0] is None or turns[1] is None:
                break
            first_speaks_first = bool(rng.random() < 0.5)
            said = [turns[0], turns[1]] if first_speaks_first else [turns[1], turns[0]]
            clips = _lay_out(said, rng)
            styles = [str(rng.choice(motion.styles)) for _ in clips]
            speakers = [_speaker(clip, motion, rig, style) for clip, style in zip(clips, styles, strict=True)]
            settings = DialogueSettings.create(None, fps=MOTION_RATE, seed=int(rng.integers(1 << 30)))
            both = dialogue_weights(rig, speakers, settings)
            held_out = conversation % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
            at = number + len(rows)
            for k, (clip, weights, style) in enumerate(zip(clips, both, styles, strict=True)):
                count = len(clip.samples) // SAMPLES_PER_POSE
                source = f"{SIMULATED}, conversation"
                rows.append(write_clip(folder, at + k, clip, weights[:count], style, source, held_out, at + 1 - k))
            seconds += len(clips[0].samples) / SAMPLE_RATE
            conversation += 1
            advance(round(seconds / 60))
    return rows


def _lay_out(said: Sequence[Utterance], rng: np.random.Generator) -> list[Utterance]:
    """Lay two utterances out one after the other, each with silence where the other speaks."""
    before, after = (round(rng.uniform(*LISTENING_SECONDS) * SAMPLE_RATE / HOP_SAMPLES) for _ in range(2))
    gap = round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE / HOP_SAMPLES)
    lengths = [u.spans[-1].stop for u in said]
    starts = [before, before + lengths[0] + gap]
    total = -(-(starts[1] + lengths[1] + after) // 3) * 3
    out = []
    for one, start, length in zip(said, starts, lengths, strict=True):
        samples = np.zeros(total * HOP_SAMPLES, np.float32)
        sound = one.samples[: length * HOP_SAMPLES]
        samples[start * HOP_SAMPLES : start * HOP_SAMPLES + len(sound)] = sound
        shifted = [Span(s.label, s.start + start, s.stop + start, s.stress) for s in one.spans]
        silence = [Span("SIL", 0, start, 0)], [Span("SIL", start + length, total, 0)]
        out.append(Utterance(samples, [*silence[0], *shifted, *silence[1]], one.voice, one.text))
    return out


def _speaker(clip: Utterance, motion: MotionSource, rig: Rig, style: str) -> Speaker:
    audio: Audio = audio_from_samples(clip.samples, SAMPLE_RATE)
    alignment: Alignment = alignment_of_spans(clip.spans, clip.voice)
    return Speaker(audio, alignment, motion.predict(rig, alignment, audio, MOTION_RATE, style), 1.0, ())
