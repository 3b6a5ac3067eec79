"""Evaluation of the joint model on the held-out clips of its corpus: `kmtalk evaluate --corpus joint`.

Speech is scored on sentences of the voice joe at the true durations of their phones, beside Piper itself and the
vocoder's round trip; faces on the same sentences, whose true motion is simulated; the motion between keys on held-out
clips of GRID, whose lips are real, beside smooth lines and CMC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from kmtalk.assets import asset_path
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.face.mouth import MouthMeasurer
from kmtalk.face.rig import Rig
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MEL_RATE, MOTION_RATE, SAMPLE_RATE
from kmtalk.joint.corpus import SIMULATED, JointClip, load_joint_corpus
from kmtalk.joint.joint_flow import JointFlow, Known
from kmtalk.joint.mel import mel_spectrogram
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.joint.tokens import alignment_of_spans
from kmtalk.joint.vocoder import HifiGan, Vocoder
from kmtalk.metrics import (
    MetricResult,
    SoundAndMotion,
    audio_beats,
    beat_consistency,
    closure_f1,
    closure_rate,
    energy_correlation,
    fdd,
    frechet_distance,
    global_variance_ratio,
    log_mel_error,
    lve,
    mask_from_template,
    mel_cepstral_distortion,
    motion_beats,
    pitch_accuracy,
    smile_f1,
    stoi,
    voice_similarity,
    word_error_rate,
)
from kmtalk.motion.inference import load_network_encoder, predict_motion
from kmtalk.motion.model import KMTalkNetwork, load_network
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.styles import style_mixture
from kmtalk.pipeline import NETWORK_FILE
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE as ANALYSIS_RATE
from kmtalk.speech.audio import audio_from_samples
from kmtalk.speech.encoders import SpeechEncoder
from kmtalk.speech.transcribe import Transcriber
from kmtalk.synthesis.voice_vector import default_voice_encoder

VOICE = "piper-joe"
DRAWS = 4  # samples of the rows that are a mean


@dataclass(frozen=True)
class _Said:
    """One rendition of a sentence: samples (S,) at 22,050 Hz, and its mel spectrogram (N, 80)."""

    samples: np.ndarray
    mel: np.ndarray


def evaluate_joint(
    corpus: Path,
    network: Path,
    rig: Rig,
    clips: int = 100,
    steps: int = 16,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Score a joint network; returns the lines of a table.

    Args:
        corpus: Folder of the joint corpus.
        network: Weights of the network.
        rig: The rig of the corpus.
        clips: Most held-out sentences, and most held-out clips of GRID.
        steps: Steps of the flow.
        progress: Receives the stages.
        log: Receives lines on what is left out.

    Raises:
        InputError: The corpus or the network cannot be used, or the corpus has no held-out clips.
    """
    progress = progress or Progress()
    flow, vocoder = JointFlow.load(network), HifiGan()
    held_out = [c for c in load_joint_corpus(corpus, rig.shape_names) if c.held_out]
    spoken = [c for c in held_out if c.voice == VOICE][:clips]
    tracked = [c for c in held_out if not c.source.startswith(SIMULATED)][:clips]
    if not spoken:
        raise InputError(f"{corpus}: has no held-out sentences of {VOICE}; build a longer one")
    lines = _score_speech(flow, vocoder, spoken, rig, steps, progress)
    if tracked:
        lines += _score_between_keys(flow, tracked, rig, steps, progress)
    else:
        log(f"{corpus}: has no clips of GRID; the motion between keys is not scored (kmtalk corpus build joint --grid)")
    return lines


def _score_speech(
    flow: JointFlow, vocoder: Vocoder, clips: Sequence[JointClip], rig: Rig, steps: int, progress: Progress
) -> list[str]:
    voice = default_voice_encoder()
    rows: dict[str, list[_Said]] = {name: [] for name in ("Piper", "round trip", "one sample", f"mean of {DRAWS}")}
    faces: list[np.ndarray] = []
    with progress.stage("sample", len(clips)) as advance:
        for i, clip in enumerate(clips):
            samples = clip.load_samples()
            mel = mel_spectrogram(samples)[: STEP * len(clip.weights)]
            rows["Piper"].append(_Said(samples, mel))
            rows["round trip"].append(_vocoded(vocoder, mel))
            vector = voice.encode_samples(soxr.resample(samples, SAMPLE_RATE, ANALYSIS_RATE))
            known = Known(clip.spans)
            one = flow.sample(len(mel), known, voice=vector, style=clip.style, steps=steps, seed=i)
            several = flow.sample(len(mel), known, voice=vector, style=clip.style, steps=steps, seed=i, draws=DRAWS)
            rows["one sample"].append(_vocoded(vocoder, one.mel))
            rows[f"mean of {DRAWS}"].append(_vocoded(vocoder, several.mel))
            faces.append(one.weights)
            advance(i + 1)
    transcriber, lines = Transcriber("base"), []
    source = f"{SIMULATED}: held-out sentences of {VOICE}, true durations"
    truth = rows["Piper"]
    for name, said in rows.items():
        heard = []
        with progress.stage(f"transcribe {name}", len(said)) as advance:
            for i, one_said in enumerate(said):
                audio = audio_from_samples(one_said.samples, SAMPLE_RATE, clips[i].name)
                heard.append(transcriber.transcribe(audio, "en").text)
                advance(i + 1)
        results = [word_error_rate(heard, [c.text for c in clips])]
        if name != "Piper":
            results += _compare_sound(said, truth)
        lines += [f"{name:12s} {r.with_source(source)}" for r in results]
    return lines + _score_faces(faces, rows["one sample"], truth, clips, rig)


def _vocoded(vocoder: Vocoder, mel: np.ndarray) -> _Said:
    return _Said(vocoder.synthesize(mel), mel)


def _compare_sound(said: Sequence[_Said], truth: Sequence[_Said]) -> list[MetricResult]:
    """Compare sounds of equal length with the true ones."""
    lengths = [min(len(a.samples), len(b.samples)) for a, b in zip(said, truth, strict=True)]
    pred, gt = (
        [soxr.resample(s.samples[:n], SAMPLE_RATE, ANALYSIS_RATE) for s, n in zip(side, lengths, strict=True)]
        for side in (said, truth)
    )
    encoder = default_voice_encoder()
    vectors = [[encoder.encode_samples(x) for x in side] for side in (pred, gt)]
    mels = [[mel_spectrogram(s.samples[:n]) for s, n in zip(side, lengths, strict=True)] for side in (said, truth)]
    return [
        mel_cepstral_distortion(*mels),
        log_mel_error(*mels),
        global_variance_ratio(*mels),
        stoi(pred, gt),
        voice_similarity(*vectors),
        *pitch_accuracy(pred, gt),
    ]


def _score_faces(
    faces: Sequence[np.ndarray], said: Sequence[_Said], truth: Sequence[_Said], clips: Sequence[JointClip], rig: Rig
) -> list[str]:
    """Score the faces that were sampled with the sound against those of the corpus."""
    measurer = MouthMeasurer.from_template(rig.template)

    def mouth(weights: np.ndarray) -> np.ndarray:
        return measurer.measure(rig.vertices(weights)[:, measurer.vertex_indices]).lip_channels

    finished = [_postprocessed(f, c, rig) for f, c in zip(faces, clips, strict=True)]
    mouths, true = [mouth(f) for f in finished], [mouth(c.weights) for c in clips]
    alignments = [alignment_of_spans(c.spans, c.voice) for c in clips]
    beats = [
        (motion_beats(m[:, :1], MOTION_RATE), audio_beats(soxr.resample(s.samples, SAMPLE_RATE, ANALYSIS_RATE)))
        for m, s in zip(mouths, said, strict=True)
    ]
    offsets = np.cumsum([0.0] + [len(c.weights) / MOTION_RATE for c in clips[:-1]])
    motion_times, audio_times = (
        np.concatenate([b[k] + start for b, start in zip(beats, offsets, strict=True)]) for k in (0, 1)
    )
    results = [
        closure_rate([(m, a, MOTION_RATE) for m, a in zip(mouths, alignments, strict=True)]),
        closure_f1(mouths, true),
        smile_f1(mouths, true),
        frechet_distance(finished, [c.weights for c in clips]),
        beat_consistency(motion_times, audio_times),
        energy_correlation(
            [SoundAndMotion(f, MOTION_RATE, s.mel, MEL_RATE) for f, s in zip(finished, said, strict=True)]
        ),
    ]
    reference = energy_correlation(
        [SoundAndMotion(c.weights, MOTION_RATE, t.mel, MEL_RATE) for c, t in zip(clips, truth, strict=True)]
    )
    source = f"{SIMULATED}: face and sound of one sample, against the corpus' simulated motion"
    lines = [f"{'one sample':12s} {r.with_source(source)}" for r in results]
    return [*lines, f"{'corpus':12s} {reference.with_source(f'{SIMULATED}: the corpus itself')}"]


def _energies(faces: Sequence[np.ndarray], sounds: Sequence[_Said]) -> MetricResult:
    return energy_correlation(
        [SoundAndMotion(f, MOTION_RATE, s.mel, MEL_RATE) for f, s in zip(faces, sounds, strict=True)]
    )


def _postprocessed(weights: np.ndarray, clip: JointClip, rig: Rig) -> np.ndarray:
    times = frame_times(len(weights), MOTION_RATE)
    out = postprocess(weights.astype(np.float64), rig, alignment_of_spans(clip.spans, clip.voice), times)
    return np.clip(out, 0, 1).astype(np.float32)


def _score_between_keys(
    flow: JointFlow, clips: Sequence[JointClip], rig: Rig, steps: int, progress: Progress
) -> list[str]:
    """Score the mouth between true poses at phone boundaries: smooth lines, CMC, one sample and the mean of several."""
    network = load_network(asset_path(NETWORK_FILE))
    encoder = load_network_encoder(network)
    names = ["smooth lines", "CMC", "one sample", f"mean of {DRAWS}"]
    made: dict[str, list[np.ndarray]] = {name: [] for name in names}
    channels = flow.network.config.channels
    mouth = [rig.index[n] for n, m in zip(channels, is_mouth(channels), strict=True) if m]
    with progress.stage("between keys", len(clips)) as advance:
        for i, clip in enumerate(clips):
            keys = key_frames_of(clip)
            mel = mel_spectrogram(clip.load_samples())[: STEP * len(clip.weights)]
            known = np.repeat(~is_mouth(channels)[None], len(clip.weights), 0)
            known[keys] = True
            given = Known(clip.spans, mel, None, clip.weights, known)
            made["smooth lines"].append(_smooth_lines(clip.weights, keys))
            made["CMC"].append(_cmc(network, encoder, clip, keys, rig))
            for name, draws in (("one sample", 1), (f"mean of {DRAWS}", DRAWS)):
                sampled = flow.sample(len(mel), given, style=clip.style, steps=steps, seed=i, draws=draws)
                made[name].append(sampled.weights)
            advance(i + 1)
    lips = mask_from_template(rig.template, "lips")
    scale = rig.template.mm_per_unit

    def vertices(weights: np.ndarray, clip: JointClip) -> np.ndarray:
        mixed = clip.weights.copy()
        mixed[:, mouth] = weights[:, mouth]
        return rig.vertices(mixed) * scale

    truth = [vertices(c.weights, c) for c in clips]
    neutral = rig.template.vertices * scale
    source = f"held-out {', '.join(sorted({c.source for c in clips}))}; true poses at phone boundaries"
    lines = []
    for name, weights in made.items():
        pred = [vertices(w, c) for w, c in zip(weights, clips, strict=True)]
        for result in (lve(pred, truth, lips, "mm"), fdd(pred, truth, neutral, lips, "mm", absolute=True)):
            lines.append(f"{name:12s} {result.with_source(source)}")
    return lines


def key_frames_of(clip: JointClip) -> np.ndarray:
    """Return the motion frames (m,) at the boundaries of a clip's phones, with the first and the last."""
    last = len(clip.weights) - 1
    return np.unique(np.clip([0, last, *(s.start // STEP for s in clip.spans)], 0, last))


def _smooth_lines(weights: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Join the poses (m, R) at the keys by cubics with level ends: (N, R)."""
    frames = np.arange(len(weights))
    left = np.clip(np.searchsorted(keys, frames, side="right") - 1, 0, max(len(keys) - 2, 0))
    if len(keys) < 2:
        return np.repeat(weights[keys], len(weights), 0)
    t = (frames - keys[left]) / (keys[left + 1] - keys[left])
    rise = (t * t * (3 - 2 * t))[:, None]
    out: np.ndarray = (1 - rise) * weights[keys[left]] + rise * weights[keys[left + 1]]
    return out


def _cmc(network: KMTalkNetwork, encoder: SpeechEncoder, clip: JointClip, keys: np.ndarray, rig: Rig) -> np.ndarray:
    """Complete the true poses at the keys by the shipped network's CMC: (N, R)."""
    columns = [rig.index[n] for n in network.config.shape_names]
    features = encoder.encode(soxr.resample(clip.load_samples(), SAMPLE_RATE, ANALYSIS_RATE))
    motion = predict_motion(
        network,
        features,
        alignment_of_spans(clip.spans, clip.voice),
        keys,
        len(clip.weights),
        MOTION_RATE,
        style_mixture(network.config, clip.style),
        other_system_keys=clip.weights[keys][:, columns],
    )
    out = clip.weights.copy()
    out[:, columns] = motion
    return out
