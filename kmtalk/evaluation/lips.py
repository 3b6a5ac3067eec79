"""``kmtalk evaluate``: every way of making a mouth, scored on the same held-out real lips."""

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
from kmtalk.corpora.grid import FPS, SOURCE, TrackedClip, held_out_clips, load_grid
from kmtalk.errors import InputError
from kmtalk.face.motion import frame_times
from kmtalk.metrics import MouthComparison
from kmtalk.motion.inference import load_network_encoder, predict_motion, predict_without_completion, select_key_frames
from kmtalk.motion.model import KMTalkNetwork, load_network, style_mixture
from kmtalk.motion.postprocessing import postprocess
from kmtalk.motion.predictor import check_rig
from kmtalk.pipeline import DEFAULT_STYLE, NETWORK_FILE, KMTalk
from kmtalk.progress import Progress
from kmtalk.speech.alignment import Alignment, Phone
from kmtalk.speech.audio import Audio, load_audio
from kmtalk.speech.encoders import Features, encode_cached

BOOTSTRAP_SAMPLES = 1000
"""Bootstrap samples of clips behind each 95 % interval."""


@dataclass(frozen=True)
class _AlignedClip:
    """One held-out clip with what was heard in it; ``features`` by the encoder's name, each made once."""

    clip: TrackedClip
    audio: Audio
    alignment: Alignment
    features: dict[str, Features] = field(default_factory=dict)


def evaluate_grid(
    folder: Path,
    further: Sequence[tuple[str, Path]],
    given: bool = False,
    cache: Path | None = None,
    count: int | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> Iterator[str]:
    """Lines of a table. ``further`` are weights by name; NAME-1, NAME-2 … are seeds of one.

    Every row is measured on the rig's own lips at 25 fps; phones are the product's own (transcribed and
    aligned) unless ``given``, closures are counted by the true phones. Raises InputError for what cannot
    be read.
    """
    progress, talk = progress or Progress(), KMTalk(warn=lambda line: None)
    named: list[tuple[str, KMTalkNetwork]] = []
    for name, path in further:
        named.append((name, load_network(path)))
        check_rig(named[-1][1], talk.rig)
    shipped = load_network(asset_path(NETWORK_FILE))
    never = held_out_clips()
    clips = [c for c in load_grid(folder) if c.name in never][:count]
    if not clips:
        raise InputError(f"{folder}: holds none of the clips of data/grid/held_out.txt")
    heard = []
    with progress.stage("transcribe and align", len(clips)) as told:
        for i, clip in enumerate(clips):
            told(i)
            audio = load_audio(clip.audio)
            heard.append(
                _AlignedClip(clip, audio, clip.alignment if given else _align_cached(talk, clip.name, audio, cache))
            )
    speaker, solver = SimulatedSpeaker(talk.rig), MouthSolver(talk.rig)
    lost = sum(not h.alignment.phones for h in heard)
    phones = "true phones given" if given else f"own transcription and alignment (no phones found in {lost})"
    yield f"{SOURCE}: {len(clips)} held-out clips; {phones}"
    yield "r and RMSE of aperture, width, chin: pooled over frames of speech; closed: bilabials under 1 mm;"
    yield "speed: 99th percentile of aperture speed; 4-10 Hz: power of aperture speed against the real lips';"
    yield f"lead: opening velocity before the envelope, median; [95 % bootstrap over clips, {BOOTSTRAP_SAMPLES} samples]"
    rows = _ScoreTable(heard)
    mean = np.concatenate([c.mouth[c.speech_mask] for c in clips]).mean(0)
    yield rows.format_row("constant (their mean)", [np.tile(mean, (len(c.mouth), 1)) for c in clips])
    yield rows.format_row("envelope", [loudness_baseline(h.audio, len(h.clip.mouth)) for h in heard])
    rules = [speaker.mouth_weights(h.alignment, h.audio, FPS, SPEAKING_STYLES["neutral"]) for h in heard]
    yield rows.format_row("rules", [solver.measure(w).frontal_channels for w in rules])
    groups: dict[str, list[list[np.ndarray]]] = {}
    for name, network in [("network", shipped), *named]:
        stem = name.rpartition("-")[0] if name.rpartition("-")[2].isdecimal() else name
        mouths = _predict_mouths(network, heard, solver, talk, cache)
        groups.setdefault(stem, []).append(mouths)
        yield rows.format_row(name, mouths)
        if name == "network":
            yield rows.format_row("  unfinished", _predict_mouths(network, heard, solver, talk, cache, finished=False))
        if stem in ("network", "full"):
            alone = _predict_mouths(network, heard, solver, talk, cache, keys_alone=True)
            groups.setdefault(f"{stem}, no CMC", []).append(alone)
            yield rows.format_row("  no CMC", alone)
    for stem, seeds in groups.items():
        if len(seeds) > 1:
            yield rows.format_seeds(stem, seeds)
    yield rows.format_row("real lips", [c.mouth for c in clips])


def _align_cached(talk: KMTalk, name: str, audio: Audio, cache: Path | None) -> Alignment:
    """The product's own alignment of the sound, kept under ``cache`` by the sound's content."""
    digest = hashlib.sha256(__version__.encode() + audio.samples.tobytes()).hexdigest()[:12]
    path = cache / f"{name}-{digest}.json" if cache else None
    if path and path.is_file():
        try:
            found = json.loads(path.read_text())
            phones, unaligned = (tuple(map(tuple, found[k])) for k in ("phones", "unaligned"))
            return Alignment(tuple(Phone(*p) for p in phones), status=found["status"], unaligned=unaligned)
        except (ValueError, KeyError, TypeError):
            path.unlink()  # cut off by a kill: made again
    _, alignment = talk.align(audio)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [[p.label, p.start, p.end] for p in alignment.phones]
        facts = {"status": alignment.status, "phones": rows, "unaligned": alignment.unaligned}
        path.with_suffix(".part").write_text(json.dumps(facts))
        path.with_suffix(".part").replace(path)
    return alignment


def loudness_baseline(audio: Audio, count: int) -> np.ndarray:
    """A mouth (N, 3) that follows loudness: one curve for aperture and chin, its negative for width."""
    voice = analyze_prosody(audio.samples)
    times = (np.arange(count) + 0.5) / FPS
    level = gaussian_filter1d(np.clip(voice.interpolate(times, voice.level) / 30 + 1, 0, 1), 1.0)
    return np.stack([12 * level, -2 * level, 5 * level], axis=1)


def _predict_mouths(
    network: KMTalkNetwork,
    heard: list[_AlignedClip],
    solver: MouthSolver,
    talk: KMTalk,
    cache: Path | None,
    keys_alone: bool = False,
    finished: bool = True,
) -> list[np.ndarray]:
    """Mouths of one network, ``finished`` by the phones or left as they came.

    ``keys_alone``: LKMA's keys joined by straight lines, which is the paper's ablation without CMC.
    """
    encoder = load_network_encoder(network)
    known = network.config.styles
    style = style_mixture(network.config, DEFAULT_STYLE if DEFAULT_STYLE in known else None)
    columns = [talk.rig.index[n] for n in network.config.shape_names]
    out = []
    for h in heard:
        if encoder.name not in h.features:
            h.features[encoder.name] = encode_cached(encoder, h.audio.samples, cache / "features" if cache else None)
        count = round(h.audio.duration * FPS)
        located = select_key_frames(h.alignment, count, FPS, network.config.key_placement)
        weights = np.zeros((count, len(talk.rig.names)))
        perform = predict_without_completion if keys_alone else predict_motion
        weights[:, columns] = perform(network, h.features[encoder.name], located, count, FPS, style)
        if finished:
            weights = postprocess(weights, talk.rig, h.alignment, frame_times(count, FPS))
        out.append(solver.measure(weights).frontal_channels)
    return out


class _ScoreTable:
    """Scores printed as rows of one table."""

    def __init__(self, heard: list[_AlignedClip]) -> None:
        self._heard = heard
        self._real = metrics.band_power([(h.clip.mouth, FPS) for h in heard]).value
        rng = np.random.default_rng(0)
        self._draws = rng.integers(0, len(heard), (BOOTSTRAP_SAMPLES, len(heard)))

    def _scored(self, mouths: list[np.ndarray]) -> list[MouthComparison]:
        out = []
        for h, mouth in zip(self._heard, mouths, strict=True):
            count = len(h.clip.mouth)
            made = np.pad(mouth, ((0, max(0, count - len(mouth))), (0, 0)), mode="edge")[:count]
            out.append(MouthComparison(h.clip.mouth, made, h.clip.speech_mask, h.clip.alignment, h.audio.samples, FPS))
        return out

    def _intervals(self, clips: list[MouthComparison]) -> np.ndarray:
        """95 % intervals (2, 4) of r (3) and aperture RMSE, from sums by clip."""
        sums = []
        for c in clips:
            a, b = c.reference[c.speech_mask], c.predicted[c.speech_mask]
            sums.append([np.full(3, len(a)), a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), (a * b).sum(0)])
        n, a, b, aa, bb, ab = np.moveaxis(np.array(sums)[self._draws].sum(1), 1, 0)
        spread = np.sqrt(np.maximum(aa / n - (a / n) ** 2, 0) * np.maximum(bb / n - (b / n) ** 2, 1e-12))
        r = (ab / n - a * b / n**2) / np.maximum(spread, 1e-6)
        error = np.sqrt(np.maximum(aa + bb - 2 * ab, 0) / n)[:, :1]
        return np.percentile(np.concatenate([r, error], 1), [2.5, 97.5], axis=0)

    def format_row(self, name: str, mouths: list[np.ndarray]) -> str:
        clips = self._scored(mouths)
        r, error = [m.value for m in metrics.correlation(clips)], [m.value for m in metrics.rmse(clips)]
        low, high = self._intervals(clips)
        moving = bool(np.ptp(clips[0].predicted[:, 0]) > 1e-9)
        power = metrics.band_power([(c.predicted, FPS) for c in clips]).value / self._real
        ahead = (
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
            f"4-10 Hz {power:.2f}  lead {ahead} ms"
        )

    def format_seeds(self, name: str, seeds: list[list[np.ndarray]]) -> str:
        """Mean and range over seeds of one network."""
        r = np.array([[c.value for c in metrics.correlation(self._scored(m))] for m in seeds])
        error = np.array([metrics.rmse(self._scored(m))[0].value for m in seeds])
        rs = "  ".join(f"{r[:, k].mean():.3f} ({r[:, k].min():.3f} to {r[:, k].max():.3f})" for k in range(3))
        return (
            f"{name:21s} {len(seeds)} seeds: r {rs}  "
            f"RMSE mm {error.mean():.2f} ({error.min():.2f} to {error.max():.2f})"
        )
