"""Conditional flow matching: the loss on straight paths from noise to data, and the Euler sampler.

x_t = (1 − (1 − σ) t) x_0 + t x_1, velocity x_1 − (1 − σ) x_0 (Lipman et al., 2023; AV-Flow, JAM-Flow). Values that are
known have no noise and no loss, and come back as they were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kmtalk.joint.clock import MEL_FRAMES_PER_MOTION_FRAME
from kmtalk.joint.mel import BANDS
from kmtalk.joint.model import Conditions, Encoded, JointConfig, JointNetwork
from kmtalk.joint.motion_stream import is_mouth

SIGMA = 1e-4
"""Deviation of the noise that is left at the end of a path."""

TEMPERATURE, MOUTH_TEMPERATURE = 0.8, 0.3
"""Deviation of the noise that samples start from, and of that of the mouth, which the phones determine: more makes
mouths less true, while head, brows and sound live by theirs."""


@dataclass(frozen=True)
class FlowLosses:
    """Mean squared errors over all unknown values of normalised streams.

    Attributes:
        mel, motion: Of the velocities.
        mel_mean, motion_mean: Of the means predicted from the phones alone.
    """

    mel: Tensor
    motion: Tensor
    mel_mean: Tensor
    motion_mean: Tensor


def flow_losses(
    network: Callable[..., tuple[Tensor, Tensor]],
    encoded: Encoded,
    given: Conditions,
    mel: Tensor,
    motion: Tensor,
    generator: torch.Generator | None = None,
) -> FlowLosses:
    """Compute the losses of a batch.

    Args:
        network: A `JointNetwork`.
        encoded: What its `encode` returned for `given`.
        given: Conditions.
        mel: True mel frames (B, N, 80), normalised.
        motion: True motion (B, M, C), normalised.
        generator: Source of noise and times.
    """
    device = mel.device
    t = torch.rand(len(mel), generator=generator).to(device)
    noise, motion_noise = (torch.randn(x.shape, generator=generator).to(device) for x in (mel, motion))
    at = t[:, None, None]
    noisy = (1 - (1 - SIGMA) * at) * noise + at * mel
    noisy_motion = (1 - (1 - SIGMA) * at) * motion_noise + at * motion
    velocity, motion_velocity = network(noisy, noisy_motion, t, encoded, given)
    valid = given.valid[..., None].float()
    motion_valid = valid[:, ::3]
    unknown, motion_unknown = valid * (1 - given.mel_known), motion_valid * (1 - given.motion_known)
    has_text = (given.labels > 0)[..., None].float()
    return FlowLosses(
        _mean((velocity - mel + (1 - SIGMA) * noise) ** 2, unknown),
        _mean((motion_velocity - motion + (1 - SIGMA) * motion_noise) ** 2, motion_unknown),
        _mean((encoded.mel_mean - mel) ** 2, valid * has_text),
        _mean((encoded.motion_mean - motion) ** 2, motion_valid * has_text[:, 1::3]),
    )


def _mean(errors: Tensor, weight: Tensor) -> Tensor:
    weight = weight.expand_as(errors)
    return (errors * weight).sum() / weight.sum().clamp(min=1.0)


def sway(steps: int) -> Tensor:
    """Return `steps` + 1 times from 0 to 1, denser at the noise: t' = 1 − cos(π t / 2)."""
    return 1 - torch.cos(torch.linspace(0, 1, steps + 1) * (math.pi / 2))


def draw_noise(
    config: JointConfig,
    batch: int,
    frames: int,
    temperature: float,
    mouth_temperature: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw the noise that the flow starts from.

    Args:
        config: The network's configuration.
        batch: Clips B.
        frames: Mel frames N, a multiple of three.
        temperature: Deviation of the noise.
        mouth_temperature: That of mouth, jaw and tongue.
        generator: Source of random numbers.

    Returns:
        mel: (B, N, 80).
        motion: (B, M, C).
    """
    of_mouth = torch.from_numpy(is_mouth(config.channels))
    deviations = torch.where(of_mouth, mouth_temperature, temperature)
    mel = torch.randn(batch, frames, BANDS, generator=generator)
    motion = torch.randn(batch, frames // MEL_FRAMES_PER_MOTION_FRAME, len(config.channels), generator=generator)
    return mel * temperature, motion * deviations


@torch.inference_mode()
def sample(
    network: JointNetwork,
    given: Conditions,
    *,
    steps: int = 16,
    temperature: float = TEMPERATURE,
    mouth_temperature: float = MOUTH_TEMPERATURE,
    guidance: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    noise: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample both streams at once by Euler's method.

    Args:
        network: The network.
        given: Conditions; what is known comes back bit for bit.
        steps: Steps from noise to data.
        temperature: Deviation of the noise; below 1 samples are nearer to the mean.
        mouth_temperature: Deviation of the noise of mouth, jaw and tongue.
        guidance: Weights of classifier-free guidance by the text, of sound and of motion: velocities move this many
            times further from those without text.
        seed: Seed of the noise.
        noise: The noise itself, (B, N, 80) and (B, M, C), instead of the temperatures and `seed`.

    Returns:
        mel: (B, N, 80), normalised.
        motion: (B, M, C), normalised.
    """
    generator = torch.Generator().manual_seed(seed)
    device = given.mel.device
    batch, count, _ = given.mel.shape
    drawn = noise or draw_noise(network.config, batch, count, temperature, mouth_temperature, generator)
    mel, motion = (x.to(device) for x in drawn)
    encoded = network.encode(given)
    blank = given.without_text() if any(guidance) else None
    blank_encoded = network.encode(blank) if blank is not None else None
    times = sway(steps).to(device)
    for now, after in zip(times[:-1], times[1:], strict=True):
        t = now.expand(len(mel))
        velocity, motion_velocity = network(mel, motion, t, encoded, given)
        if blank is not None and blank_encoded is not None:
            without, motion_without = network(mel, motion, t, blank_encoded, blank)
            velocity = velocity + guidance[0] * (velocity - without)
            motion_velocity = motion_velocity + guidance[1] * (motion_velocity - motion_without)
        mel = mel + (after - now) * velocity
        motion = motion + (after - now) * motion_velocity
    return torch.where(given.mel_known > 0, given.mel, mel), torch.where(given.motion_known > 0, given.motion, motion)
