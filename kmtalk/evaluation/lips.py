"""`kmtalk evaluate` on GRID: networks and baselines, scored on the same held-out clips of real lips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk import __version__
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES
from kmtalk.assets import asset_path
from kmtalk.corpora.grid import FPS, STYLES, TrackedClip, data_source, held_out_clip_names, load_tracked_grid
from kmtalk.errors import InputError
from kmtalk.evaluation.lip_reader import SLOTS, LipReader, ReadableClip
from kmtalk.evaluation.lip_scores import BOOTSTRAP_SAMPLES, ScoredClip, ScoreTable
from kmtalk.face.motion import frame_times
from kmtalk.face.mouth import LIP_CHANNELS
from kmtalk.face.rig import Rig
from kmtalk.motion.inference import load_network_encoder, predict_motion, predict_without_completion, select_key_frames
from kmtalk.motion.model import KMTalkNetwork, load_network
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.predictor import check_rig_fits_network
from kmtalk.motion.styles import DEFAULT_STYLE, style_mixture
from kmtalk.mouth_animator import NETWORK_FILE, STREAMING_FILE
from kmtalk.network_files import network_kind
from kmtalk.pipeline import KMTalk
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import SAMPLE_RATE, Audio, load_audio
from kmtalk.speech.encoders import SpeechFeatures, encode_cached
from kmtalk.speech.prosody import analyze_prosody, loudness
from kmtalk.streaming.face_stream import FaceStream
from kmtalk.streaming.model import StreamingNetwork
from kmtalk.streaming.network_file import KIND as STREAMING_KIND
from kmtalk.streaming.network_file import load_streaming_network


@dataclass(frozen=True)
class _AlignedClip(ScoredClip):
    """A held-out clip with its alignment; `features` caches audio features by encoder name."""

    alignment: Alignment
    features: dict[str, SpeechFeatures] = field(default_factory=dict)


def evaluate_on_grid(
    folder: Path,
    extra_networks: Sequence[tuple[str, Path]],
    reference_phones: bool = False,
    cache: Path | None = None,
    max_clips: int | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
    speaker: str = "s1",
    reader_corpora: Sequence[tuple[str, Path]] = (),
) -> Iterator[str]:
    """Yield the lines of a table of baselines, the shipped network, further networks and the real lips.

    Each row is measured on the rig's own lips at 25 fps. Closures are counted on the true phones.

    Args:
        folder: The speaker's folder.
        extra_networks: Names and files of further networks; NAME-1, NAME-2 … are seeds of one network, which also get a
            row of mean and range.
        reference_phones: Give rules and networks the true phones, not kmtalk's own transcription and alignment.
        cache: Folder for alignments and audio features.
        max_clips: Number of clips; None: all.
        progress: Progress display.
        warn: Receives warnings.
        speaker: One of `kmtalk.corpora.grid.SPEAKERS`.
        reader_corpora: Further speakers with their folders, on whose training clips the lip reader is trained too.

    Yields:
        The lines.

    Raises:
        InputError: The corpus or a network cannot be read, a network is for another rig, or no held-out clip is found.
    """
    progress, pipeline = progress or Progress(), KMTalk(warn=lambda line: None)
    further: list[tuple[str, KMTalkNetwork]] = []
    streaming = [("live", load_streaming_network(asset_path(STREAMING_FILE)))]
    for name, path in extra_networks:
        if network_kind(path) == STREAMING_KIND:
            streaming.append((name, load_streaming_network(path)))
            continue
        further.append((name, load_network(path)))
        check_rig_fits_network(further[-1][1], pipeline.rig)
    shipped = load_network(asset_path(NETWORK_FILE))
    clips, training = _split_clips(folder, speaker)
    clips = clips[:max_clips]
    if not clips:
        raise InputError(f"{folder}: has none of the clips of data/grid/held_out_{speaker}.txt")
    for other, path in reader_corpora:
        training += _split_clips(path, other)[1]
    with progress.stage("train the lip reader", 1):
        reader = LipReader([ReadableClip(c.mouth_measurements, c.alignment.words) for c in training])
    aligned = []
    with progress.stage("transcribe and align", len(clips)) as advance:
        for i, clip in enumerate(clips):
            advance(i)
            audio = load_audio(clip.audio)
            alignment = clip.alignment if reference_phones else _align_cached(pipeline, clip.name, audio, cache)
            aligned.append(_AlignedClip(clip, audio, alignment))
    rules_speaker, solver = SimulatedSpeaker(pipeline.rig), MouthSolver(pipeline.rig)
    unaligned = sum(not a.alignment.phones for a in aligned)
    own = f"own transcription and alignment (no phones found in {unaligned})"
    phones = "true phones given" if reference_phones else own
    yield f"{data_source(speaker)}: {len(clips)} held-out clips; {phones}"
    yield f"r and RMSE in mm of {', '.join(LIP_CHANNELS)}: pooled over frames of speech;"
    yield f"[95 % bootstrap over clips, {BOOTSTRAP_SAMPLES} samples]; closed: bilabials under 1 mm;"
    yield "speed: 99th percentile of aperture speed; 4-10 Hz: power of aperture speed against the real lips';"
    yield "lead: opening velocity before the envelope, median; open: rise of the upper and drop of the lower lip in mm"
    yield "where the real lips are open by more than 8 mm; pressed: the same at p, b, m; words read: by a lip reader"
    yield f"trained on the real lips of {reader.clip_count} training clips, {', '.join(SLOTS)}, mean"
    rows = ScoreTable(aligned, reader)
    mean = np.concatenate([c.mouth_measurements[c.utterance_mask] for c in clips]).mean(0)
    yield from rows.format("constant (mean pose)", [np.tile(mean, (len(c.mouth_measurements), 1)) for c in clips])
    yield from rows.format("envelope", [mouth_from_loudness(a.audio, len(a.clip.mouth_measurements)) for a in aligned])
    rules = [rules_speaker.mouth_weights(a.alignment, a.audio, FPS, SPEAKING_STYLES["neutral"]) for a in aligned]
    yield from rows.format("rules", [solver.measure(w).lip_channels for w in rules])
    groups: dict[str, list[list[np.ndarray]]] = {}
    for name, network in [("network", shipped), *further]:
        stem = name.rpartition("-")[0] if name.rpartition("-")[2].isdecimal() else name
        predict = partial(_predict_mouths, network, aligned, solver, pipeline, cache, STYLES[speaker])
        groups.setdefault(stem, []).append(predict())
        yield from rows.format(name, groups[stem][-1])
        if name == "network":
            yield from rows.format("  no postprocessing", predict(postprocessed=False))
        if stem in ("network", "full"):
            without_completion = predict(without_completion=True)
            groups.setdefault(f"{stem}, no CMC", []).append(without_completion)
            yield from rows.format("  no CMC", without_completion)
    for stem, seeds in groups.items():
        if len(seeds) > 1:
            yield rows.format_seeds(stem, seeds)
    for name, stream in streaming:
        yield from rows.format(
            name, [_stream_mouth(stream, a.audio, solver, pipeline.rig, STYLES[speaker]) for a in aligned]
        )
    yield from rows.format("real lips", [c.mouth_measurements for c in clips])


def _split_clips(folder: Path, speaker: str) -> tuple[list[TrackedClip], list[TrackedClip]]:
    """The held-out and the other clips of a speaker."""
    held_out = held_out_clip_names(speaker)
    clips = list(load_tracked_grid(folder, speaker))
    return [c for c in clips if c.name in held_out], [c for c in clips if c.name not in held_out]


def _align_cached(pipeline: KMTalk, name: str, audio: Audio, cache: Path | None) -> Alignment:
    """kmtalk's own alignment of the audio, cached under a hash of its samples."""
    digest = hashlib.sha256(__version__.encode() + audio.samples.tobytes()).hexdigest()[:12]
    path = cache / f"{name}-{digest}.json" if cache else None
    if path and path.is_file():
        try:
            cached = json.loads(path.read_text())
            phones, unaligned = (tuple(map(tuple, cached[k])) for k in ("phones", "unaligned"))
            return Alignment(tuple(Phone(*p) for p in phones), status=cached["status"], unaligned=unaligned)
        except (ValueError, KeyError, TypeError):
            path.unlink()  # incomplete because a run was killed: align again
    _, alignment = pipeline.align(audio)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [[p.label, p.start, p.end] for p in alignment.phones]
        stored = {"status": alignment.status, "phones": rows, "unaligned": alignment.unaligned}
        path.with_suffix(".part").write_text(json.dumps(stored))
        path.with_suffix(".part").replace(path)
    return alignment


def mouth_from_loudness(audio: Audio, frame_count: int) -> np.ndarray:
    """Return a mouth (N, 5) in mm that follows loudness: the lips open with it, and the width falls."""
    voice = analyze_prosody(audio.samples)
    times = (np.arange(frame_count) + 0.5) / FPS
    level = gaussian_filter1d(np.clip(voice.interpolate(times, voice.level_db) / 30 + 1, 0, 1), 1.0)
    return np.stack([12 * level, -2 * level, 2 * level, 10 * level, -2 * level], axis=1)


def _stream_mouth(
    network: StreamingNetwork, audio: Audio, solver: MouthSolver, rig: Rig, style_name: str
) -> np.ndarray:
    """Mouth (N, 5) in mm of a streaming network, which knows no phones; the sound's blocks change nothing in it."""
    styles = network.config.styles
    known = [name for name in (style_name, DEFAULT_STYLE) if name in styles]
    stream = FaceStream(network, rig, SAMPLE_RATE, FPS, style_mixture(styles, known[0] if known else None))
    poses = stream.feed(audio.samples) + stream.finish()
    return solver.measure(np.stack([p.weights for p in poses]).astype(np.float64)).lip_channels


def _predict_mouths(
    network: KMTalkNetwork,
    aligned: list[_AlignedClip],
    solver: MouthSolver,
    pipeline: KMTalk,
    cache: Path | None,
    style_name: str,
    without_completion: bool = False,
    postprocessed: bool = True,
) -> list[np.ndarray]:
    """Mouths predicted by a network in the speaker's style where it has it, with postprocessing where `postprocessed`.

    `without_completion` joins LKMA's key motions by straight lines, the paper's ablation without CMC.
    """
    encoder = load_network_encoder(network)
    styles = network.config.styles
    known = [name for name in (style_name, DEFAULT_STYLE) if name in styles]
    style = style_mixture(network.config.styles, known[0] if known else None)
    columns = [pipeline.rig.index[n] for n in network.config.shape_names]
    out = []
    for a in aligned:
        if encoder.name not in a.features:
            a.features[encoder.name] = encode_cached(encoder, a.audio.samples, cache / "features" if cache else None)
        count = round(a.audio.duration * FPS)
        keys = select_key_frames(a.alignment, count, FPS, network.config.key_placement)
        weights = np.zeros((count, len(pipeline.rig.shape_names)))
        predict = predict_without_completion if without_completion else predict_motion
        weights[:, columns] = predict(network, a.features[encoder.name], a.alignment, keys, count, FPS, style)
        if postprocessed:
            times = frame_times(count, FPS)
            level = loudness(a.audio.samples, times)
            weights = postprocess(weights, pipeline.rig, a.alignment, times, level)
        out.append(solver.measure(weights).lip_channels)
    return out
