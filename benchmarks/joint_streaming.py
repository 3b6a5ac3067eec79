"""How soon a streaming joint network gives its first frame, and whether it keeps up: against the sound's own time.

    python benchmarks/joint_streaming.py [--network FILE] [--steps 8] [--chunk 6]

Tokens arrive at the rate of speech, 86 mel frames a second. The first frame waits for the tokens that it needs, then
for the computation. Without --network the weights are random, which changes neither. Prints the delay of the first
frame and of the first sound, the time that each chunk takes as a share of its sound, and the difference to sampling the
whole clip.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from kmtalk.face.rig import load_light_head
from kmtalk.joint.clock import MEL_RATE, SAMPLE_RATE
from kmtalk.joint.flow import sample
from kmtalk.joint.joint_flow import JointFlow, Known
from kmtalk.joint.model import JointConfig, JointNetwork
from kmtalk.joint.motion_stream import channel_names
from kmtalk.joint.network_file import load_joint_network
from kmtalk.joint.streaming import JointStream, frames_ahead
from kmtalk.joint.text import phones_of_text
from kmtalk.joint.tokens import FrameTokens, Span, frame_tokens
from kmtalk.joint.vocoder import HifiGan, VocoderStream

TEXT = "The boy was there when the sun rose, and a rod is used to catch pink salmon."
FRAMES_A_PHONE = 7  # mel frames, some 12 phones a second


def random_network() -> JointNetwork:
    """A network of the default size with random weights."""
    names = load_light_head().shape_names
    torch.manual_seed(0)
    network = JointNetwork(JointConfig(names, channel_names(names), ("natural",), "highway")).eval()
    for p in network.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.02)
    return network


def main() -> None:
    """Measure, and print what the module's description lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--chunk", type=int, default=6, help="mel frames that are fed at once")
    given = parser.parse_args()
    network = random_network() if given.network is None else load_joint_network(given.network)
    phones = phones_of_text(TEXT).spans
    spans = [Span(p.label, i * FRAMES_A_PHONE, (i + 1) * FRAMES_A_PHONE, p.stress) for i, p in enumerate(phones)]
    count = spans[-1].stop // 3 * 3
    tokens = frame_tokens(spans, count)
    JointStream(network, steps=given.steps).feed(frame_tokens(spans, 30))  # the first run allocates memory
    stream = JointStream(network, steps=given.steps)
    voice = VocoderStream(HifiGan())
    voice.feed(np.zeros((60, 80), np.float32))
    voice = VocoderStream(HifiGan())
    mels, shares, voice_shares, first, first_sound = [], [], [], 0.0, 0.0
    for start in range(0, count, given.chunk):
        piece = slice(start, start + given.chunk)
        began = time.perf_counter()
        mel, _ = stream.feed(FrameTokens(tokens.labels[piece], tokens.stress[piece], tokens.place[piece]))
        took = time.perf_counter() - began
        if len(mel):
            if not mels:
                first = min(start + given.chunk, count) / MEL_RATE + took
            shares.append(took * MEL_RATE / len(mel))
            mels.append(mel)
            sound = voice.feed(mel)
            both = time.perf_counter() - began
            if len(sound):
                first_sound = first_sound or min(start + given.chunk, count) / MEL_RATE + both
                voice_shares.append((both - took) * SAMPLE_RATE / len(sound))
    mels.append(stream.finish()[0])
    whole, _ = sample(
        network, JointFlow(network).conditions(count, Known(spans)), steps=given.steps, noise=stream.noise
    )
    difference = np.abs(network.restore_mel(whole)[0].numpy() - np.concatenate(mels)).max()
    ahead, size = frames_ahead(network), sum(p.numel() for p in network.parameters())
    middle, most = np.percentile(shares, [50, 95])
    print(f"{size:,} parameters, {given.steps} steps, {torch.get_num_threads()} threads")
    print(f"look-ahead: {ahead} mel frames, {1000 * ahead / MEL_RATE:.0f} ms")
    print(f"first frame: {1000 * first:.0f} ms after the first token, with chunks of {given.chunk} mel frames")
    print(f"computation: {middle:.2f} of the sound's time in the median, {most:.2f} at 95 %")
    heard = np.percentile(voice_shares, 50)
    print(f"first sound: {1000 * first_sound:.0f} ms after the first token; the vocoder takes {heard:.2f} of its time")
    print(f"streamed and whole differ by {difference:.1e} at most, in log mel")


if __name__ == "__main__":
    main()
