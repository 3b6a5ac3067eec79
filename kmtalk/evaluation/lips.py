"""`kmtalk evaluate` on GRID: networks and baselines, scored on the same held-out clips of real lips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from kmtalk import __version__, metrics
from kmtalk.articulation.mouth_solver import MouthSolver
from kmtalk.articulation.prosody import analyze_prosody
from kmtalk.articulation.speaker import SimulatedSpeaker
from kmtalk.articulation.styles import SPEAKING_STYLES
from kmtalk.assets import asset_path
from kmtalk.corpora.grid import DATA_SOURCE, FPS, TrackedClip, held_out_clip_names, load_tracked_grid
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.metrics import MouthComparison
from kmtalk.motion.inference import load_network_encoder, predict_motion, predict_without_completion, select_key_frames
from kmtalk.motion.model import KMTalkNetwork, load_network
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.predictor import check_rig_fits_network
from kmtalk.motion.styles import DEFAULT_STYLE, style_mixture
from kmtalk.pipeline import NETWORK_FILE, KMTalk
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.encoders import SpeechFeatures, encode_cached

BOOTSTRAP_SAMPLES = 1000
"""Number of bootstrap samples of clips for each 95 % interval."""


@dataclass(frozen=True)
class _AlignedClip:
    """A held-out clip with its alignment; `features` caches audio features by encoder name."""

    clip: TrackedClip
    audio: Audio
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
) -> Iterator[str]:
    """Yield the lines of a table of baselines, the shipped network, further networks and the real lips.

    Each row is measured on the rig's own lips at 25 fps. Closures are counted on the true phones.

    Args:
        folder: The corpus' folder.
        extra_networks: Names and files of further networks; NAME-1, NAME-2 … are seeds of one network, which also get a
            row of mean and range.
        reference_phones: Give rules and networks the true phones, not kmtalk's own transcription and alignment.
        cache: Folder for alignments and audio features.
        max_clips: Number of clips; None: all.
        progress: Progress display.
        warn: Receives warnings.

    Yields:
        The lines.

    Raises:
        InputError: The corpus or a network cannot be read, a network is for another rig, or no held-out clip is found.
    """
    progress, pipeline = progress or Progress(), KMTalk(warn=lambda line: None)
    further: list[tuple[str, KMTalkNetwork]] = []
    for name, path in extra_networks:
        further.append((name, load_network(path)))
        check_rig_fits_network(further[-1][1], pipeline.rig)
    shipped = load_network(asset_path(NETWORK_FILE))
    held_out = held_out_clip_names()
    clips = [c for c in load_tracked_grid(folder) if c.name in held_out][:max_clips]
    if not clips:
        raise InputError(f"{folder}: has none of the clips of data/grid/held_out.txt")
    aligned = []
    with progress.stage("transcribe and align", len(clips)) as advance:
        for i, clip in enumerate(clips):
            advance(i)
            audio = load_audio(clip.audio)
            aligned.append(
                _AlignedClip(
                    clip,
                    audio,
                    clip.alignment if reference_phones else _align_cached(pipeline, clip.name, audio, cache),
                )
            )
    speaker, solver = SimulatedSpeaker(pipeline.rig), MouthSolver(pipeline.rig)
    unaligned = sum(not a.alignment.phones for a in aligned)
    own = f"own transcription and alignment (no phones found in {unaligned})"
    phones = "true phones given" if reference_phones else own
    yield f"{DATA_SOURCE}: {len(clips)} held-out clips; {phones}"
    yield "r and RMSE of aperture, width, chin: pooled over frames of speech; closed: bilabials under 1 mm;"
    yield "speed: 99th percentile of aperture speed; 4-10 Hz: power of aperture speed against the real lips';"
    bootstrap = f"[95 % bootstrap over clips, {BOOTSTRAP_SAMPLES} samples]"
    yield f"lead: opening velocity before the envelope, median; {bootstrap}"
    rows = _ScoreTable(aligned)
    mean = np.concatenate([c.mouth_measurements[c.utterance_mask] for c in clips]).mean(0)
    yield rows.format_row("constant (mean pose)", [np.tile(mean, (len(c.mouth_measurements), 1)) for c in clips])
    yield rows.format_row("envelope", [mouth_from_loudness(a.audio, len(a.clip.mouth_measurements)) for a in aligned])
    rules = [speaker.mouth_weights(a.alignment, a.audio, FPS, SPEAKING_STYLES["neutral"]) for a in aligned]
    yield rows.format_row("rules", [solver.measure(w).frontal_channels for w in rules])
    groups: dict[str, list[list[np.ndarray]]] = {}
    for name, network in [("network", shipped), *further]:
        stem = name.rpartition("-")[0] if name.rpartition("-")[2].isdecimal() else name
        mouths = _predict_mouths(network, aligned, solver, pipeline, cache)
        groups.setdefault(stem, []).append(mouths)
        yield rows.format_row(name, mouths)
        if name == "network":
            yield rows.format_row(
                "  no postprocessing",
                _predict_mouths(network, aligned, solver, pipeline, cache, postprocessed=False),
            )
        if stem in ("network", "full"):
            without_completion = _predict_mouths(network, aligned, solver, pipeline, cache, without_completion=True)
            groups.setdefault(f"{stem}, no CMC", []).append(without_completion)
            yield rows.format_row("  no CMC", without_completion)
    for stem, seeds in groups.items():
        if len(seeds) > 1:
            yield rows.format_seeds(stem, seeds)
    yield rows.format_row("real lips", [c.mouth_measurements for c in clips])


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
    """Return a mouth (N, 3) in mm that follows loudness: aperture and chin with it, width against it."""
    voice = analyze_prosody(audio.samples)
    times = (np.arange(frame_count) + 0.5) / FPS
    level = gaussian_filter1d(np.clip(voice.interpolate(times, voice.level_db) / 30 + 1, 0, 1), 1.0)
    return np.stack([12 * level, -2 * level, 5 * level], axis=1)


def _predict_mouths(
    network: KMTalkNetwork,
    aligned: list[_AlignedClip],
    solver: MouthSolver,
    pipeline: KMTalk,
    cache: Path | None,
    without_completion: bool = False,
    postprocessed: bool = True,
) -> list[np.ndarray]:
    """Mouths predicted by a network, with postprocessing where `postprocessed`.

    `without_completion` joins LKMA's key motions by straight lines, the paper's ablation without CMC.
    """
    encoder = load_network_encoder(network)
    styles = network.config.styles
    style = style_mixture(network.config, DEFAULT_STYLE if DEFAULT_STYLE in styles else None)
    columns = [pipeline.rig.index[n] for n in network.config.shape_names]
    out = []
    for a in aligned:
        if encoder.name not in a.features:
            a.features[encoder.name] = encode_cached(encoder, a.audio.samples, cache / "features" if cache else None)
        count = round(a.audio.duration * FPS)
        keys = select_key_frames(a.alignment, count, FPS, network.config.key_placement)
        weights = np.zeros((count, len(pipeline.rig.shape_names)))
        predict = predict_without_completion if without_completion else predict_motion
        weights[:, columns] = predict(network, a.features[encoder.name], keys, count, FPS, style)
        if postprocessed:
            weights = postprocess(weights, pipeline.rig, a.alignment, frame_times(count, FPS))
        out.append(solver.measure(weights).frontal_channels)
    return out


class _ScoreTable:
    """Formats scores as rows of one table."""

    def __init__(self, aligned: list[_AlignedClip]) -> None:
        self._aligned = aligned
        self._real = metrics.band_power([(a.clip.mouth_measurements, FPS) for a in aligned]).value
        rng = np.random.default_rng(0)
        self._draws = rng.integers(0, len(aligned), (BOOTSTRAP_SAMPLES, len(aligned)))

    def _scored(self, mouths: list[np.ndarray]) -> list[MouthComparison]:
        """The real and the given mouths of each clip, equally long."""
        out = []
        for a, mouth in zip(self._aligned, mouths, strict=True):
            count = len(a.clip.mouth_measurements)
            predicted = np.pad(mouth, ((0, max(0, count - len(mouth))), (0, 0)), mode="edge")[:count]
            out.append(
                MouthComparison(
                    a.clip.mouth_measurements, predicted, a.clip.utterance_mask, a.clip.alignment, a.audio.samples, FPS
                )
            )
        return out

    def _intervals(self, clips: list[MouthComparison]) -> np.ndarray:
        """95 % intervals (2, 4) of r (3) and aperture RMSE, from sums per clip."""
        sums = []
        for c in clips:
            a, b = c.reference[c.utterance_mask], c.predicted[c.utterance_mask]
            sums.append([np.full(3, len(a)), a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)])
        n, a, b, aa, bb, ab = np.moveaxis(np.array(sums)[self._draws].sum(1), 1, 0)
        spread = np.sqrt(np.maximum(aa / n - (a / n) ** 2, 0) * np.maximum(bb / n - (b / n) ** 2, 1e-12))
        r = (ab / n - a * b / n**2) / np.maximum(spread, 1e-6)
        error = np.sqrt(np.maximum(aa + bb - 2 * ab, 0) / n)[:, :1]
        return np.percentile(np.concatenate([r, error], 1), [2.5, 97.5], axis=0)

    def format_row(self, name: str, mouths: list[np.ndarray]) -> str:
        """Scores of one row; `mouths` (N, 3) are one per clip."""
        clips = self._scored(mouths)
        r, error = [m.value for m in metrics.correlation(clips)], [m.value for m in metrics.rmse(clips)]
        low, high = self._intervals(clips)
        moving = bool(np.ptp(clips[0].predicted[:, 0]) > 1e-9)
        power = metrics.band_power([(c.predicted, FPS) for c in clips]).value / self._real
        lead = (
            f"{1000 * metrics.audiovisual_lead([(c.predicted, c.samples, FPS) for c in clips]).value:+.0f}"
            if moving
            else "-"
        )
        closed = metrics.closure_rate([(c.predicted, c.alignment, FPS) for c in clips]).value
        speed = metrics.speed_percentile([(c.predicted, FPS) for c in clips]).value
        rs = "  ".join(
            f"{r[k]:.3f} [{low[k]:.3f} {high[k]:.3f}]" if moving else f"{0.0:.3f} {'':13s}" for k in range(3)
        )
        return (
            f"{name:21s} r {rs}  RMSE mm {error[0]:.2f} [{low[3]:.2f} {high[3]:.2f}] {error[1]:.2f} {error[2]:.2f}  "
            f"closed {100 * closed:5.1f} %  speed {speed:3.0f} mm/s  "
            f"4-10 Hz {power:.2f}  lead {lead} ms"
        )

    def format_seeds(self, name: str, seeds: list[list[np.ndarray]]) -> str:
        """Mean and range over the seeds of one network."""
        r = np.array([[c.value for c in metrics.correlation(self._scored(m))] for m in seeds])
        error = np.array([metrics.rmse(self._scored(m))[0].value for m in seeds])
        rs = "  ".join(f"{r[:, k].mean():.3f} ({r[:, k].min():.3f} to {r[:, k].max():.3f})" for k in range(3))
        return (
            f"{name:21s} {len(seeds)} seeds: r {rs}  "
            f"RMSE mm {error.mean():.2f} ({error.min():.2f} to {error.max():.2f})"
        )
