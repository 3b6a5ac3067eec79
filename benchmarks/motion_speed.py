"""Time of the motion stage for a minute of speech, beside the decoders of FaceFormer and SelfTalk, in one run.

    python benchmarks/motion_speed.py [--seconds 60] [--runs 7]

kmtalk's stage is what `kmtalk animate` does between the speech encoder's features and the weights of the rig, with the
shipped network at 30 fps. The two others are timing models with random weights: layers and sizes of the published code,
from audio features to vertices, without their speech encoders.

- FaceFormer (Fan et al., CVPR 2022): one transformer decoder layer of 4 heads, feed-forward width 2d, which
  computes the whole sequence again for each frame (autoregressive); d = 64 and 5,023 vertices (VOCASET, 30 fps),
  d = 128 and 23,370 vertices (BIWI, 25 fps). Its biases end at 600 frames, so that longer clips are decoded in parts.
- SelfTalk (Peng et al., ACM MM 2023): one such layer, d = 512 (VOCASET) or 1,024 (BIWI), all frames at once.

Also prints the share of the machine's rate of multiplying matrices (2,048², float32) that kmtalk's network reaches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kmtalk import KMTalk
from kmtalk.assets import asset_path
from kmtalk.motion.styles import resolve_style
from kmtalk.speech.alignment import Alignment
from kmtalk.speech.audio import Audio, audio_from_samples, load_audio

FPS = 30.0
MESHES = {"VOCASET": (5023, 30.0), "BIWI": (23370, 25.0)}
FACEFORMER_WIDTH = {"VOCASET": 64, "BIWI": 128}
SELFTALK_WIDTH = {"VOCASET": 512, "BIWI": 1024}
FACEFORMER_FRAMES = 600
AUDIO_WIDTH = {"FaceFormer": 768, "SelfTalk": 1024}  # of their wav2vec 2.0


class FaceFormerDecoder(nn.Module):
    """FaceFormer from the features of wav2vec 2.0 on; weights are random."""

    def __init__(self, width: int, vertices: int) -> None:
        super().__init__()
        self.audio_feature_map = nn.Linear(AUDIO_WIDTH["FaceFormer"], width)
        self.vertice_map = nn.Linear(3 * vertices, width)
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, 1)
        self.vertice_map_r = nn.Linear(width, 3 * vertices)
        self.style = nn.Parameter(torch.randn(width))

    def forward(self, features: Tensor) -> Tensor:
        """Return vertices (1, N, 3V) for features (1, N, 768)."""
        memory = self.audio_feature_map(features)
        count = features.shape[1]
        causal = torch.triu(torch.full((count, count), float("-inf")), 1)
        to_own_frame = torch.full((count, count), float("-inf")).fill_diagonal_(0.0)
        tokens = self.style[None, None]
        out = tokens
        for n in range(1, count + 1):
            decoded = self.transformer_decoder(
                tokens, memory, tgt_mask=causal[:n, :n], memory_mask=to_own_frame[:n, :count]
            )
            out = self.vertice_map_r(decoded)  # of all frames so far, in every step, as published
            if n < count:
                tokens = torch.cat([tokens, self.vertice_map(out[:, -1:]) + self.style], 1)
        return out


class SelfTalkDecoder(nn.Module):
    """SelfTalk from the features of wav2vec 2.0 on; weights are random."""

    def __init__(self, width: int, vertices: int) -> None:
        super().__init__()
        self.audio_feature_map = nn.Linear(AUDIO_WIDTH["SelfTalk"], width)
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, 1)
        self.vertice_map_r = nn.Linear(width, 3 * vertices)

    def forward(self, features: Tensor) -> Tensor:
        """Return vertices (1, N, 3V) for features (1, N, 1024)."""
        hidden = self.audio_feature_map(features)
        return self.vertice_map_r(self.transformer_decoder(hidden, hidden))


def median_seconds(run: Callable[[], object], runs: int) -> float:
    """Median time of a call, after one call of warm-up where there are several."""
    seconds = []
    for _ in range(runs + (runs > 1)):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[runs > 1 :])


def multiplication_rate() -> float:
    """Floating-point operations per second of multiplying two matrices."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / median_seconds(lambda: a @ a, 5)


def motion_stage(seconds: float) -> tuple[Callable[[], object], Audio, Alignment]:
    """kmtalk's motion stage for a clip: assets/speech.wav over and over."""
    talk = KMTalk(warn=lambda line: None)
    samples = load_audio(asset_path("speech.wav")).samples
    audio = audio_from_samples(np.tile(samples, int(seconds * 16000 / len(samples)) + 1)[: int(seconds * 16000)], 16000)
    alignment = talk.align(audio, language="en")[1]
    features = talk.predictor.encode_audio(audio)
    style = resolve_style(talk.network.config.styles, "neutral")
    return lambda: talk.predictor.predict(talk.rig, alignment, audio, FPS, style, features), audio, alignment


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    stage, *_ = motion_stage(options.seconds)
    ours = median_seconds(stage, options.runs)
    with FlopCounterMode(display=False) as counter:
        stage()
    rate = multiplication_rate()
    share = counter.get_total_flops() / ours / rate
    print(f"motion stage, rig, {options.seconds:g} s at {FPS:g} fps: {ours:.3f} s; {torch.get_num_threads()} threads")
    print(f"{share:.0%} of the rate of multiplying matrices ({rate / 1e9:.0f} GFLOP/s)")
    for corpus, (vertices, fps) in MESHES.items():
        count = round(options.seconds * fps)
        selftalk = SelfTalkDecoder(SELFTALK_WIDTH[corpus], vertices).eval()
        features = torch.randn(1, count, AUDIO_WIDTH["SelfTalk"])
        took = median_seconds(lambda net=selftalk, x=features: net(x), options.runs)
        print(f"SelfTalk's decoder, {corpus}: {took:.2f} s, {took / ours:.1f} × kmtalk's", flush=True)
        faceformer = FaceFormerDecoder(FACEFORMER_WIDTH[corpus], vertices).eval()
        features = torch.randn(1, min(count, FACEFORMER_FRAMES), AUDIO_WIDTH["FaceFormer"])
        parts = count / features.shape[1]
        took = parts * median_seconds(lambda net=faceformer, x=features: net(x), 1)
        print(f"FaceFormer's decoder, {corpus}: {took:.1f} s, {took / ours:.0f} × kmtalk's", flush=True)


if __name__ == "__main__":
    main()
