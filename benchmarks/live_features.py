"""What a live network should hear: log mel, or the first layers of a Whisper encoder, at an equal delay.

    python benchmarks/live_features.py CORPUS [--steps 1500] [--clips 400] [--voices 0] [--seeds 1] [--threads 2]

CORPUS is a folder that `kmtalk corpus build joint` wrote with GRID's speakers s1 and s4. Networks of one architecture
and one seed, but for the layer that takes the features in, learn the tracked lips of s1, and with --voices those of
simulated speakers too; held-out clips of s1, and all of s4, whom they never heard, are compared by the opening of the
lips. Log mel is learnt as it is, and varied as in `kmtalk train`; Whisper's states are of the sound as it is, since
those of varied sound would have to be computed anew for each crop.

The delay is that from a sound to the last moment at which its token is known: the look-ahead and the wait for a block
to be full. Log mel comes in blocks of 20 ms with a look-ahead of 140 ms in the network. "In windows", Whisper reads the
last 1.5 s anew for each block of 40 ms, which takes half a core already; its look-ahead of 120 ms is in those windows.
"In a band", it is as in `kmtalk live`: each token is computed once, and sees 3 tokens ahead in each layer.

Prints, for each, correlation and root mean square error of the opening (all frames of all clips pooled; mm), and the
time to compute Whisper's states for a second of sound on one thread.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import whisper
from torch import Tensor, nn

from kmtalk.face.rig import Rig, load_light_head
from kmtalk.joint.corpus import SIMULATED, JointClip, load_joint_corpus
from kmtalk.joint.motion_stream import is_mouth
from kmtalk.motion.losses import RigSurfaceMetric
from kmtalk.progress import Progress
from kmtalk.speech.audio import SAMPLE_RATE, load_audio
from kmtalk.speech.encoders import normalize_level
from kmtalk.streaming.encoders import MEL_PER_TOKEN, StackedFrames, load_streaming_encoder
from kmtalk.streaming.log_mel import relative_bands
from kmtalk.streaming.model import TOKEN_SECONDS, StreamingConfig, StreamingNetwork
from kmtalk.streaming.training import StreamingModule
from kmtalk.streaming.training_data import (
    LONGEST_STREAM,
    StreamingBatch,
    StreamingExample,
    prepare_streaming_examples,
    vary_sound,
)
from kmtalk.weights import load_whisper_encoder

WINDOW_SECONDS, BLOCK, BAND = 1.5, 2, 50  # of Whisper; tokens in a block, and of the past in a band
TOKEN = round(TOKEN_SECONDS * SAMPLE_RATE)  # samples
BATCH, CROP, WARMUP = 24, 100, 200
TRACKED_SHARE = 0.3  # of the crops, where simulated speakers are learnt too: as in `kmtalk train`


@dataclass(frozen=True)
class Features:
    """One kind of input.

    Attributes:
        name: What is printed.
        layer: Whisper's layer; 0 for log mel.
        ahead: Tokens of look-ahead in Whisper's windows.
        look_ahead: Tokens of look-ahead of each of the network's blocks.
        band: Whether Whisper's attention is a band, as in `kmtalk live`.
        varied: Whether the spectra vary as other voices, rooms and microphones would make them.
    """

    name: str
    layer: int
    ahead: int
    look_ahead: tuple[int, ...]
    varied: bool = False
    band: bool = False

    @property
    def delay(self) -> float:
        """Seconds from a sound to the moment at which its token is known at the latest."""
        return (self.ahead + sum(self.look_ahead) + (BLOCK if self.layer and not self.band else 1)) * TOKEN_SECONDS


KINDS = (
    Features("log mel", 0, 0, (2, 2, 2, 1, 0)),
    Features("log mel, varied", 0, 0, (2, 2, 2, 1, 0), varied=True),
    Features("2 layers of Whisper base in windows", 2, 6, (0, 0, 0, 0, 0)),
    Features("4 layers of Whisper base in windows", 4, 6, (0, 0, 0, 0, 0)),
    Features("2 layers of Whisper base in a band", 2, 6, (0, 0, 0, 0, 0), band=True),
)


class Given(StackedFrames):
    """Features that were computed before."""

    def forward(self, mel: Tensor, start: Tensor | None = None) -> Tensor:
        return mel


class FeatureNetwork(StreamingNetwork):
    """The streaming network with another input."""

    def __init__(self, config: StreamingConfig, dimension: int) -> None:
        super().__init__(config)
        d = config.d_model
        self.input = nn.Sequential(nn.Linear(dimension, 2 * d), nn.GELU(), nn.Linear(2 * d, d), nn.LayerNorm(d))

        self.encoder = Given()


@torch.inference_mode()
@torch.autocast("cpu", torch.bfloat16)
def whisper_states(encoder: whisper.model.AudioEncoder, samples: np.ndarray, ahead: int, count: int) -> list[Tensor]:
    """States (count, 512) of each layer, of windows that end `ahead` tokens after their block."""
    width = round(WINDOW_SECONDS / TOKEN_SECONDS)
    padded = np.pad(samples, (width * TOKEN, (ahead + BLOCK) * TOKEN))
    ends = [(first + BLOCK + ahead + width) * TOKEN for first in range(0, count, BLOCK)]
    states: list[list[Tensor]] = [[] for _ in encoder.blocks]
    for group in np.array_split(ends, max(1, len(ends) // 25)):
        windows = torch.from_numpy(np.stack([padded[end - width * TOKEN : end] for end in group]))
        x = nn.functional.gelu(encoder.conv1(whisper.log_mel_spectrogram(windows, encoder.conv1.in_channels)))
        x = nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
        x = x + encoder.positional_embedding[: x.shape[1]]
        for layer, block in enumerate(encoder.blocks):
            x = block(x)
            states[layer].append(x[:, width - ahead - BLOCK : width - ahead].flatten(0, 1))
    return [torch.cat(layer)[:count].half() for layer in states]


def mel_tokens(bands: np.ndarray) -> Tensor:
    """Tokens (T, D) of bands in dB relative to the voice's level."""
    return torch.from_numpy(relative_bands(bands, 0.0)).unflatten(0, (-1, MEL_PER_TOKEN)).flatten(1)


def features_of(kind: Features, clips: list[JointClip], examples: list[StreamingExample], cache: Path) -> list[Tensor]:
    """Features (T, D) of each clip; Whisper's are kept in a folder."""
    if not kind.layer:
        return [mel_tokens(e.bands.astype(np.float32) - e.level_db) for e in examples]
    if kind.band:
        band, rng = load_streaming_encoder("whisper-base-2", (kind.ahead // 2,) * 2, BAND), np.random.default_rng(0)
        with torch.inference_mode():
            return [
                band(
                    torch.from_numpy(relative_bands(e.bands.astype(np.float32) - e.level_db, 0.0))[None],
                    torch.from_numpy(rng.integers(LONGEST_STREAM, size=1)),
                )[0].half()
                for e in examples
            ]
    cache.mkdir(parents=True, exist_ok=True)
    encoder, out = None, []
    for clip, example in zip(clips, examples, strict=True):
        path = cache / f"{clip.name}-{kind.ahead}-{kind.layer}.npy"
        if not path.is_file():
            if encoder is None:
                encoder = load_whisper_encoder("base")
                encoder.blocks = encoder.blocks[: kind.layer]
            samples = normalize_level(load_audio(clip.audio).samples)
            states = whisper_states(encoder, samples, kind.ahead, len(example.motion))
            np.save(path, states[-1].numpy())
        out.append(torch.from_numpy(np.load(path)))
    return out


def whisper_cost(kind: Features, clip: JointClip) -> float:
    """Seconds on one thread to compute Whisper's states for a second of sound, in batches of 25 windows."""
    encoder = load_whisper_encoder("base")
    encoder.blocks = encoder.blocks[: kind.layer]
    samples = normalize_level(load_audio(clip.audio).samples)
    torch.set_num_threads(1)
    began = time.perf_counter()
    whisper_states(encoder, samples, kind.ahead, len(samples) // TOKEN)
    return (time.perf_counter() - began) / (len(samples) / SAMPLE_RATE)


def train(
    kind: Features,
    features: list[Tensor],
    examples: list[StreamingExample],
    rig: Rig,
    names: tuple[str, ...],
    steps: int,
    seed: int,
) -> FeatureNetwork:
    """Train a network on clips."""
    torch.manual_seed(seed)
    styles = tuple(sorted({e.style for e in examples}))
    network = FeatureNetwork(StreamingConfig(names, styles, kind.look_ahead), features[0].shape[1])
    motion = np.concatenate([e.motion for e in examples])
    network.motion_mean.copy_(torch.from_numpy(motion.mean(0)))
    network.motion_std.copy_(torch.from_numpy(np.maximum(motion.std(0), 0.01)))
    module = StreamingModule(network, RigSurfaceMetric(rig, names)).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, (n + 1) / WARMUP, (steps - n) / (0.4 * steps))
    )
    rng = np.random.default_rng(seed)
    tracked = np.array([e.tracked for e in examples])
    share = TRACKED_SHARE if not tracked.all() else 1.0
    chances = np.where(tracked, share / tracked.sum(), (1 - share) / max(1, (~tracked).sum()))
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            chosen = rng.choice(len(examples), BATCH, p=chances)
            losses = module(batch(features, examples, chosen, styles, rng, kind.varied))
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def batch(
    features: list[Tensor],
    examples: list[StreamingExample],
    chosen: np.ndarray,
    styles: tuple[str, ...],
    rng: np.random.Generator,
    varied: bool,
) -> StreamingBatch:
    """Crops of clips."""
    rows: dict[str, list[Tensor]] = {n: [] for n in ("mel", "motion", "contacts", "labels", "valid")}
    for index in chosen:
        example = examples[index]
        start = int(rng.integers(max(0, len(example.motion) - CROP) + 1))
        stop = min(start + CROP, len(example.motion))
        values = {n: torch.from_numpy(getattr(example, n)[start:stop]) for n in ("motion", "contacts", "labels")}
        values["mel"] = features[index][start:stop].float()
        if varied:
            bands = example.bands[start * MEL_PER_TOKEN : stop * MEL_PER_TOKEN].astype(np.float32) - example.level_db
            values["mel"] = mel_tokens(vary_sound(bands, rng).astype(np.float32))
        values["valid"] = torch.ones(stop - start, dtype=torch.bool)
        for name, value in values.items():
            padding = value.new_zeros(CROP - len(value), *value.shape[1:])
            rows[name].append(torch.cat([value, padding]))
    style = torch.eye(len(styles))[[styles.index(examples[i].style) for i in chosen]]
    return StreamingBatch(
        style=style, start=torch.zeros(len(chosen)), **{name: torch.stack(r) for name, r in rows.items()}
    )


@torch.inference_mode()
def quality(
    network: FeatureNetwork, surface: RigSurfaceMetric, features: list[Tensor], examples: list[StreamingExample]
) -> str:
    """Correlation and error of the opening of the lips over clips."""
    found, true = [], []
    for x, example in zip(features, examples, strict=True):
        styles = network.config.styles
        style = styles.index(example.style if example.style in styles else "natural")
        predicted = network(x.float()[None], torch.eye(len(styles))[[style]]).motion[0]
        for out, motion in ((found, predicted), (true, torch.from_numpy(example.motion))):
            out.append(surface.lip_opening(motion).mean(-1).numpy())
    a, b = np.concatenate(found), np.concatenate(true)
    return f"r {np.corrcoef(a, b)[0, 1]:.3f}, error {np.sqrt(((a - b) ** 2).mean()):.2f} mm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--clips", type=int, default=400, help="clips of s1 to learn from")
    parser.add_argument("--test-clips", type=int, default=50, help="clips of each speaker to test on")
    parser.add_argument("--voices", type=int, default=0, help="simulated speakers to learn from too")
    parser.add_argument("--voice-clips", type=int, default=200, help="clips of each of them at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--features", type=Path, help="folder for Whisper's features; default in the corpus")
    parser.add_argument("--kinds", help="numbers of the rows to compute, from 0, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rig = load_light_head()
    clips = load_joint_corpus(options.corpus, rig.shape_names)
    s1, s4 = ([c for c in clips if c.source.startswith(f"GRID {name}")] for name in ("s1", "s4"))
    learnt = [c for c in s1 if not c.held_out][: options.clips]
    simulated = [c for c in clips if c.source.startswith(SIMULATED) and not c.held_out]
    voices = sorted({c.voice for c in simulated})[: options.voices]
    others = [c for voice in voices for c in [c for c in simulated if c.voice == voice][: options.voice_clips]]
    tests = {"s1, held out": [c for c in s1 if c.held_out][: options.test_clips], "s4": s4[: options.test_clips]}
    columns = np.flatnonzero(is_mouth(rig.shape_names))
    names = tuple(rig.shape_names[i] for i in columns)
    surface = RigSurfaceMetric(rig, names)
    print(f"{len(learnt)} clips of s1 (GRID, tracked, monocular), {len(others)} of {len(voices)} simulated speakers, "
          f"{options.steps} steps; tested on "
          + ", ".join(f"{len(c)} clips of {name}" for name, c in tests.items()), flush=True)  # fmt: skip
    learnt += others

    def examples_of(some: list[JointClip]) -> list[StreamingExample]:
        return prepare_streaming_examples(options.corpus, some, columns, Progress())

    cache = options.features or options.corpus / "whisper_states"
    for kind in KINDS if options.kinds is None else [KINDS[int(n)] for n in options.kinds.split(",")]:
        if kind.layer and not kind.band:
            print(
                f"{kind.name}: {whisper_cost(kind, learnt[0]):.2f} s for a second of sound, on one thread", flush=True
            )
            torch.set_num_threads(options.threads)
        began = time.perf_counter()
        examples = examples_of(learnt)
        features = features_of(kind, learnt, examples, cache)
        tested = {name: features_of(kind, some, examples_of(some), cache) for name, some in tests.items()}
        for seed in options.seeds:
            network = train(kind, features, examples, rig, names, options.steps, seed)
            found = [
                f"{name}: {quality(network, surface, tested[name], examples_of(some))}" for name, some in tests.items()
            ]
            took = time.perf_counter() - began
            print(
                f"{kind.name}, delay {kind.delay * 1000:.0f} ms, seed {seed}: {'; '.join(found)}; {took:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
