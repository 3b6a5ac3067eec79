"""Evaluation of joint models on the held-out clips of their corpus: `kmtalk evaluate --corpus joint`.

Speech and face are scored on sentences of the voice joe, beside Piper itself, the vocoder's round trip and the motion
of the corpus, which is simulated; the motion between keys on held-out clips of GRID, whose lips are real
(`kmtalk.evaluation.joint_keys`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.evaluation.joint_keys import score_between_keys
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MEL_RATE, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import SIMULATED, JointClip, load_joint_corpus
from kmtalk.joint.joint_flow import NETWORK_FILE, JointFlow, JointSample, Known
from kmtalk.joint.mel import mel_spectrogram
from kmtalk.joint.reading import align_phones, read_phones
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import Span, alignment_of_spans
from kmtalk.joint.vocoder import HifiGan, Vocoder
from kmtalk.joint_conversion import finish_mouth
from kmtalk.metrics import (
    MetricResult,
    SoundAndMotion,
    audio_beats,
    beat_consistency,
    closure_f1,
    closure_rate,
    energy_correlation,
    frechet_distance,
    global_variance_ratio,
    log_mel_error,
    mel_cepstral_distortion,
    motion_beats,
    pitch_accuracy,
    smile_f1,
    stoi,
    voice_similarity,
    word_error_rate,
)
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.audio import audio_from_samples
from kmtalk.speech.openai_whisper import OpenAIWhisper
from kmtalk.synthesis.voice_vector import default_voice_encoder

VOICE = "piper-joe"


@dataclass(frozen=True)
class SampledRow:
    """A row of the table: how the sentences are sampled.

    Attributes:
        name: Name of the row.
        durations: Of the phones: "true"; "predicted" by the model from the text; or read from the mouth, whose motion
            is then known, so that the sound alone is sampled ("mouth").
        draws: Samples whose mean is scored.
        guidance: Weights of classifier-free guidance, of sound and of face.
    """

    name: str
    durations: Literal["true", "predicted", "mouth"] = "true"
    draws: int = 1
    guidance: tuple[float, float] = (0.0, 0.0)


ROWS = (
    SampledRow("one sample"),
    SampledRow("predicted durations", "predicted"),
    SampledRow("voice of the face", "mouth"),
)


@dataclass(frozen=True)
class _Said:
    """One rendition of a sentence: samples (S,) at 22,050 Hz, its mel spectrogram (N, 80), weights (M, R), phones, and
    the weights as they were sampled, before postprocessing."""

    samples: np.ndarray
    mel: np.ndarray
    weights: np.ndarray
    spans: tuple[Span, ...]
    sampled: np.ndarray


def evaluate_joint(
    corpus: Path,
    networks: Sequence[tuple[str, Path]],
    rig: Rig,
    clips: int = 100,
    steps: int = 16,
    rows: Sequence[SampledRow] = ROWS,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Score joint models; yields the lines of a table.

    Args:
        corpus: Folder of the joint corpus.
        networks: Names and files of networks; none scores the one shipped.
        rig: The rig of the corpus.
        clips: Most held-out sentences, and most held-out clips of GRID.
        steps: Steps of the flow.
        rows: How the sentences are sampled.
        progress: Receives the stages.
        log: Receives lines on what is left out.

    Raises:
        InputError: The corpus or a network cannot be used, or the corpus has no held-out clips.
    """
    progress = progress or Progress()
    given = list(networks) or [("shipped", asset_path(NETWORK_FILE))]
    flows = [(name, JointFlow.load(path)) for name, path in given]
    held_out = [c for c in load_joint_corpus(corpus, rig.shape_names) if c.held_out]
    held_out = [c for c in held_out if not c.other]  # conversations are for networks that listen
    spoken = [c for c in held_out if c.voice == VOICE][:clips]
    tracked = [c for c in held_out if not c.source.startswith(SIMULATED)]
    tracked = tracked[:: -(-len(tracked) // clips)]  # of all speakers
    if not spoken:
        raise InputError(f"{corpus}: has no held-out sentences of {VOICE}; build a longer one")
    scorer = _Scorer(spoken, rig, steps, progress)
    yield from scorer.score_references()
    for name, flow in flows:
        for row in rows:
            yield from (f"{name}: {line}" for line in scorer.score(flow, row))
    if not tracked:
        log(f"{corpus}: has no clips of GRID; the motion between keys is not scored (kmtalk corpus build joint --grid)")
        return
    for name, flow in flows:
        yield from (f"{name}: {line}" for line in score_between_keys(flow, tracked, rig, steps, progress))


class _Scorer:
    """Scores renditions of the held-out sentences."""

    def __init__(self, clips: Sequence[JointClip], rig: Rig, steps: int, progress: Progress) -> None:
        self._clips, self._rig, self._steps, self._progress = clips, rig, steps, progress
        self._voice, self._transcriber = default_voice_encoder(), OpenAIWhisper("base")
        self._vocoder: Vocoder = HifiGan()
        self._measurer = MouthMeasurer.from_template(rig.template)
        self._truth = []
        for clip in clips:
            samples = clip.load_samples()
            mel = mel_spectrogram(samples)[: STEP * len(clip.weights)]
            self._truth.append(_Said(samples, mel, clip.weights, clip.spans, clip.weights))

    def score_references(self) -> list[str]:
        """Score Piper itself, the vocoder's round trip, and the motion of the corpus."""
        source = f"{SIMULATED}: held-out sentences of {VOICE}"
        trip = [replace(t, samples=self._vocoder.synthesize(t.mel)) for t in self._truth]
        lines = [f"Piper: {self._intelligibility(self._truth, 'Piper').with_source(source)}"]
        results = [self._intelligibility(trip, "round trip"), *self._compare_sound(trip)]
        lines += [f"round trip: {r.with_source(source)}" for r in results]
        return lines + [f"corpus: {r.with_source(source)}" for r in self._score_faces(self._truth)]

    def score(self, flow: JointFlow, row: SampledRow) -> list[str]:
        """Sample the sentences and score them: the lines of one row."""
        said = []
        with self._progress.stage(f"sample: {row.name}", len(self._clips)) as advance:
            for i in range(len(self._clips)):
                said.append(self._sample(flow, row, i))
                advance(i + 1)
        results = [self._intelligibility(said, row.name)]
        if row.durations == "true":
            results += self._compare_sound(said)
        if row.durations == "mouth":
            results.append(self._boundaries(said))
        else:
            results += self._score_faces(said)
        if row.durations == "true":
            results += self._compare_faces(said)
        source = f"{SIMULATED}: held-out sentences of {VOICE}, {_DURATIONS[row.durations]}"
        return [f"{row.name}: {r.with_source(source)}" for r in results]

    def _sample(self, flow: JointFlow, row: SampledRow, i: int) -> _Said:
        clip, truth = self._clips[i], self._truth[i]
        voice = flow.default_voice  # not that of the true sound, which would tell how it was spoken
        spans: Sequence[Span] = clip.spans
        if row.durations != "true":
            spans = flow.durations(phones_of_text(clip.text).spans, voice=voice, style=clip.style)
        weights = None
        if row.durations == "mouth":
            weights = clip.weights
            spans = align_phones(read_phones(flow.network, weights), spans)
        frames = len(truth.mel) if row.durations == "true" else spans[-1].stop
        made: JointSample = flow.sample(
            frames,
            Known(spans, weights=weights),
            voice=voice,
            style=clip.style,
            steps=self._steps,
            guidance=row.guidance,
            seed=i,
            draws=row.draws,
        )
        finished = made.weights
        if row.durations != "mouth":
            finished = finish_mouth(made.weights, flow, self._rig, alignment_of_spans(spans, VOICE), MOTION_RATE)
        sound = self._vocoder.synthesize(made.mel)
        return _Said(sound, made.mel, finished.astype(np.float32), tuple(spans), made.weights)

    def _intelligibility(self, said: Sequence[_Said], name: str) -> MetricResult:
        heard = []
        with self._progress.stage(f"transcribe: {name}", len(said)) as advance:
            for i, (one, clip) in enumerate(zip(said, self._clips, strict=True)):
                audio = audio_from_samples(one.samples, SAMPLE_RATE, clip.name)
                heard.append(self._transcriber.transcribe(audio, "en").text)
                advance(i + 1)
        return word_error_rate(heard, [c.text for c in self._clips])

    def _compare_sound(self, said: Sequence[_Said]) -> list[MetricResult]:
        """Compare sounds of equal length with the true ones."""
        lengths = [min(len(a.samples), len(b.samples)) for a, b in zip(said, self._truth, strict=True)]
        pred, gt = (
            [soxr.resample(s.samples[:n], SAMPLE_RATE, ANALYSIS_RATE) for s, n in zip(side, lengths, strict=True)]
            for side in (said, self._truth)
        )
        vectors = [[self._voice.encode_samples(x) for x in side] for side in (pred, gt)]
        mels = [
            [mel_spectrogram(s.samples[:n]) for s, n in zip(side, lengths, strict=True)] for side in (said, self._truth)
        ]
        return [
            mel_cepstral_distortion(*mels),
            log_mel_error(*mels),
            global_variance_ratio(*mels),
            stoi(pred, gt),
            voice_similarity(*vectors),
            *pitch_accuracy(pred, gt),
        ]

    def _mouth(self, weights: np.ndarray) -> np.ndarray:
        return self._measurer.measure(self._rig.vertices(weights)[:, self._measurer.vertex_indices]).lip_channels

    def _score_faces(self, said: Sequence[_Said]) -> list[MetricResult]:
        """Score faces by their own phones and sound."""
        raw = [self._mouth(s.sampled) for s in said]
        mouths = [self._mouth(s.weights) for s in said]
        alignments = [alignment_of_spans(s.spans, VOICE) for s in said]
        beats = [
            (motion_beats(m[:, :1], MOTION_RATE), audio_beats(soxr.resample(s.samples, SAMPLE_RATE, ANALYSIS_RATE)))
            for m, s in zip(mouths, said, strict=True)
        ]
        offsets = np.cumsum([0.0] + [len(s.weights) / MOTION_RATE for s in said[:-1]])
        motion_times, audio_times = (
            np.concatenate([b[k] + start for b, start in zip(beats, offsets, strict=True)]) for k in (0, 1)
        )
        return [
            closure_rate([(m, a, MOTION_RATE) for m, a in zip(mouths, alignments, strict=True)]),
            _unprocessed(closure_rate([(m, a, MOTION_RATE) for m, a in zip(raw, alignments, strict=True)])),
            beat_consistency(motion_times, audio_times),
            energy_correlation([SoundAndMotion(s.weights, MOTION_RATE, s.mel, MEL_RATE) for s in said]),
        ]

    def _compare_faces(self, said: Sequence[_Said]) -> list[MetricResult]:
        """Compare faces with those of the corpus at equal durations."""
        mouths, true = [self._mouth(s.weights) for s in said], [self._mouth(t.weights) for t in self._truth]
        return [
            closure_f1(mouths, true),
            _unprocessed(closure_f1([self._mouth(s.sampled) for s in said], true)),
            smile_f1(mouths, true),
            frechet_distance([s.weights for s in said], [t.weights for t in self._truth]),
        ]

    def _boundaries(self, said: Sequence[_Said]) -> MetricResult:
        """Compare the beginnings of phones that were read from the mouth with the true ones."""
        differences: list[float] = []
        for one, truth in zip(said, self._truth, strict=True):
            found, true = ([s for s in side.spans if not s.is_pause] for side in (one, truth))
            if [s.label for s in found] == [s.label for s in true]:
                differences += [abs(a.start - b.start) / MEL_RATE * 1000 for a, b in zip(found, true, strict=True)]
        return MetricResult(
            "boundary error", float(np.median(differences)), "ms", f"median of {len(differences)} beginnings of phones"
        )


def _unprocessed(result: MetricResult) -> MetricResult:
    """Name a result that was measured before postprocessing, which seals the lips by rule."""
    return replace(result, name=f"{result.name} before postprocessing")


_DURATIONS = {
    "true": "true durations",
    "predicted": "predicted durations",
    "mouth": "durations read from the corpus' motion, which is known",
}
