"""Streaming sampling of a causal joint network (coupling `highway`): tokens in, mel and motion frames out.

A block of three mel frames and one motion frame depends on no later block, so that each is sampled to the end as soon
as its tokens and those of `frames_ahead` mel frames are known. What attention and convolutions need of the past is kept
for each step of the flow; the result is that of sampling the whole clip with the same noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kmtalk.errors import InputError
from kmtalk.joint.blocks import MODULATIONS, StreamBlock, timestep_encoding
from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME as STEP
from kmtalk.joint.clock import MEL_RATE, MOTION_RATE
from kmtalk.joint.couplings import pool
from kmtalk.joint.flow import MOUTH_TEMPERATURE, TEMPERATURE, draw_noise, sway
from kmtalk.joint.mel import BANDS
from kmtalk.joint.model import (
    CAUSAL_TOKENS_AHEAD,
    LOOK_BACK_FRAMES,
    TOKEN_KERNEL,
    JointNetwork,
)
from kmtalk.joint.motion_stream import to_channels
from kmtalk.joint.tokens import FrameTokens
from kmtalk.synthesis.voice_vector import VECTOR_SIZE

_MOTION_LOOK_BACK = -(-LOOK_BACK_FRAMES // STEP)  # motion frames


def frames_ahead(network: JointNetwork) -> int:
    """Return the mel frames of tokens that must be known beyond a frame before it can be sampled."""
    return CAUSAL_TOKENS_AHEAD * network.config.token_layers


@dataclass
class _Memory:
    """What one block of one stream keeps at one step of the flow: keys, values, tokens before the convolution."""

    keys: Tensor | None = None
    values: Tensor | None = None
    middle: Tensor | None = None


@dataclass
class JointStream:
    """Samples sound and face while the tokens arrive.

    Args:
        network: A network with coupling `highway`, in evaluation mode.
        voice: Voice vector (256,), or zeros.
        style: Shares of the styles (S,); None for the mean of all.
        steps: Steps of the flow.
        temperature: Deviation of the noise.
        mouth_temperature: Deviation of the noise of mouth, jaw and tongue.
        seed: Seed of the noise.

    Attributes:
        noise: Noise of all frames so far, mel (1, N, 80) and motion (1, M, C), by which `flow.sample` gives the same.

    Raises:
        InputError: The network is not causal.
    """

    network: JointNetwork
    voice: np.ndarray = field(default_factory=lambda: np.zeros(VECTOR_SIZE, np.float32))
    style: np.ndarray | None = None
    steps: int = 8
    temperature: float = TEMPERATURE
    mouth_temperature: float = MOUTH_TEMPERATURE
    seed: int = 0

    def __post_init__(self) -> None:
        config = self.network.config
        if not config.is_causal:
            raise InputError(f"{config.coupling}: only a network with coupling highway can be streamed")
        shares = np.zeros(len(config.styles)) if self.style is None else self.style
        with torch.inference_mode():
            self._clip = self.network.encode_clip(
                torch.from_numpy(self.voice.astype(np.float32))[None], torch.from_numpy(shares.astype(np.float32))[None]
            )
        self._generator = torch.Generator().manual_seed(self.seed)
        self._labels, self._stress = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._place = np.zeros((0, 3), np.float32)
        channels = len(config.channels)
        self._other = [torch.zeros(1, 0, k) for k in (BANDS, 1, channels, 1)]
        self._done = 0
        self._memory = [[(_Memory(), _Memory()) for _ in range(config.num_layers)] for _ in range(self.steps)]
        self._noise: list[tuple[Tensor, Tensor]] = []

    @property
    def noise(self) -> tuple[Tensor, Tensor]:
        """The noise of all frames so far."""
        return torch.cat([m for m, _ in self._noise], 1), torch.cat([m for _, m in self._noise], 1)

    def hear(self, mel: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take further frames of the other speaker, before the tokens of the same frames; for networks that listen.

        Args:
            mel: (n, 80) log mel frames, n a multiple of three.
            weights: (n / 3, R) weights of the other's face; None where it is not seen.

        Raises:
            InputError: The network does not listen, or the frames are not of these shapes.
        """
        network, names = self.network, self.network.config.shape_names
        if not network.config.listens:
            raise InputError("this joint model does not listen to another speaker; train one with listens: true")
        if len(mel) % STEP or (weights is not None and len(weights) * STEP != len(mel)):
            raise InputError(f"{len(mel)} mel frames of the other: needs a multiple of {STEP}, and as many poses")
        channels = np.zeros((len(mel) // STEP, len(names))) if weights is None else weights
        seen = network.normalize_motion(torch.from_numpy(to_channels(channels.astype(np.float32), names)))
        new = (
            network.normalize_mel(torch.from_numpy(mel.astype(np.float32))),
            torch.ones(len(mel), 1),
            seen,
            torch.full((len(seen), 1), float(weights is not None)),
        )
        self._other = [torch.cat([old, one[None]], 1) for old, one in zip(self._other, new, strict=True)]

    def _heard(self, start: int, stop: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the streams are given of the other speaker in frames [start, stop); unknown where unheard."""
        if not self.network.config.listens:
            return [], []
        parts = []
        for part, step in zip(self._other, (1, 1, STEP, STEP), strict=True):
            unheard = max(0, stop // step - part.shape[1])
            parts.append(functional.pad(part, (0, 0, 0, unheard))[:, start // step : stop // step])
        return self.network.listen(*parts)

    def feed(self, tokens: FrameTokens) -> tuple[np.ndarray, np.ndarray]:
        """Take the tokens of further mel frames; returns the frames that can be sampled with them.

        Returns:
            mel: (n, 80) log mel frames, n a multiple of three, maybe 0.
            motion: (n / 3, C) channels of the motion stream.
        """
        self._labels = np.concatenate([self._labels, tokens.labels])
        self._stress = np.concatenate([self._stress, tokens.stress])
        self._place = np.concatenate([self._place, tokens.place])
        return self._advance(len(self._labels) - frames_ahead(self.network))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the last frames: there are no further tokens."""
        return self._advance(len(self._labels))

    @torch.inference_mode()
    def _advance(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        count = max(0, (limit - self._done) // STEP * STEP)
        channels = len(self.network.config.channels)
        if not count:
            return np.zeros((0, BANDS), np.float32), np.zeros((0, channels), np.float32)
        tokens, mel_mean, motion_mean = self._encode(self._done, self._done + count)
        mel, motion = draw_noise(
            self.network.config, 1, count, self.temperature, self.mouth_temperature, self._generator
        )
        self._noise.append((mel, motion))
        times = sway(self.steps)
        for i, (now, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
            velocity, motion_velocity = self._velocity(i, now, mel, motion, tokens, mel_mean, motion_mean)
            mel = mel + (after - now) * velocity
            motion = motion + (after - now) * motion_velocity
        self._done += count
        return self.network.restore_mel(mel)[0].numpy(), self.network.restore_motion(motion)[0].numpy()

    def _encode(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the tokens of frames [start, stop), with as many around them as the blocks see."""
        network, layers = self.network, self.network.config.token_layers
        first = max(0, start - layers * (TOKEN_KERNEL - 1 - CAUSAL_TOKENS_AHEAD))
        last = min(len(self._labels), stop + frames_ahead(network))
        window = slice(first, last)
        labels, stress = (torch.from_numpy(a[window])[None] for a in (self._labels, self._stress))
        place = torch.from_numpy(self._place[window])[None]
        unheard = place.new_zeros(1, last - first, network.config.num_characters)
        encoded = network.encode_tokens(labels, stress, place, unheard, self._clip, torch.ones_like(labels).bool())[
            :, start - first : stop - first
        ]
        return encoded, network.mel_mean_head(encoded), network.motion_mean_head(pool(encoded))

    def _velocity(
        self, step: int, t: Tensor, mel: Tensor, motion: Tensor, tokens: Tensor, mel_mean: Tensor, motion_mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        network, d = self.network, self.network.config.d_model
        condition = functional.silu(self._clip + network.time_mlp(timestep_encoding(t[None], 64)))
        for_sound, for_motion = (
            layer(condition).unflatten(-1, (MODULATIONS, d))
            for layer in (network.sound_condition, network.motion_condition)
        )
        unknown = torch.zeros_like(mel), torch.zeros_like(mel[..., :1])
        count = mel.shape[1]
        heard, seen = self._heard(self._done, self._done + count)
        x = network.sound_in(torch.cat([mel, *unknown, mel_mean, tokens, *heard], -1))
        still = torch.zeros_like(motion)
        y = network.motion_in(torch.cat([motion, still, still, motion_mean, pool(tokens), *seen], -1))
        times = (torch.arange(self._done, self._done + count) + 0.5) / MEL_RATE
        motion_times = (torch.arange(self._done // STEP, (self._done + count) // STEP) + 0.5) / MOTION_RATE
        for i, memory in enumerate(self._memory[step]):
            blocks = network.sound_blocks[i], network.motion_blocks[i]
            x = self._block(blocks[0], x, for_sound, times, MEL_RATE, LOOK_BACK_FRAMES, memory[0])
            y = self._block(blocks[1], y, for_motion, motion_times, MOTION_RATE, _MOTION_LOOK_BACK, memory[1])
            x, y = network.highways[i](x, y)
        return network.sound_out(network.sound_norm(x)), network.motion_out(network.motion_norm(y))

    def _block(
        self,
        block: torch.nn.Module,
        x: Tensor,
        condition: Tensor,
        times: Tensor,
        rate: float,
        look_back: int,
        memory: _Memory,
    ) -> Tensor:
        """Apply one block to the new frames of a stream, with the keys, values and tokens of the last ones."""
        assert isinstance(block, StreamBlock)
        q, k, v = block.qkv(x, condition, self.network.positions(times))
        keys = k if memory.keys is None else torch.cat([memory.keys, k], 2)
        values = v if memory.values is None else torch.cat([memory.values, v], 2)
        key_times = torch.cat([times[:1] - torch.arange(keys.shape[2] - len(times), 0, -1) / rate, times])
        seen = self.network.causal_band(times, key_times)
        attended = functional.scaled_dot_product_attention(q, keys, values, seen)
        x, middle = block.update(x, attended, condition, before=memory.middle)
        memory.keys, memory.values = keys[:, :, -look_back:], values[:, :, -look_back:]
        past = block.convolution.past
        before = middle.new_zeros(1, past, middle.shape[2]) if memory.middle is None else memory.middle
        memory.middle = torch.cat([before, middle], 1)[:, -past:]
        return x
