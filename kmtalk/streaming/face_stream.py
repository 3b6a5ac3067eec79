"""A face that follows a voice: samples in, poses out, without an end.

R shapes of the rig. Frame n is at (n + 0.5) / fps seconds after the first sample.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from kmtalk.errors import InputError
from kmtalk.expression.live_layer import LiveExpression, LiveExpressionSettings
from kmtalk.face.rig import Rig
from kmtalk.speech.alignment import Phone
from kmtalk.speech.audio import SAMPLE_RATE
from kmtalk.streaming.model import TOKEN_SECONDS, StreamingNetwork
from kmtalk.streaming.mouth_stream import MouthStream, StreamedMouth
from kmtalk.streaming.resampling import StreamResampler

SAMPLE_RATES = (8_000, 192_000)
FRAME_RATES = (1.0, 240.0)
PART_SECONDS = 1.0  # of sound that are computed at once: what attention takes grows with the square of it


@dataclass(frozen=True)
class StreamedPose:
    """One frame of a face.

    Attributes:
        number: Frame n.
        time: (n + 0.5) / fps seconds after the first sample.
        weights: (R,) float32 weights of the rig in [0, 1].
    """

    number: int
    time: float
    weights: np.ndarray


class FaceStream:
    """Animates a face while the sound arrives.

    Args:
        network: The network of the mouth, in evaluation mode.
        rig: Rig of the weights.
        rate: Sample rate of the sound in Hz.
        fps: Frames per second.
        style: Shares of the network's styles (S,).
        expression: How much moves above the mouth; None for nothing.
        seed: Seed of the random variation above the mouth.

    Raises:
        InputError: A rate is out of range, or the rig is not the network's.
    """

    def __init__(
        self,
        network: StreamingNetwork,
        rig: Rig,
        rate: float,
        fps: float,
        style: np.ndarray,
        expression: LiveExpressionSettings | None = None,
        seed: int = 0,
    ) -> None:
        for value, (low, high), unit in ((rate, SAMPLE_RATES, "Hz"), (fps, FRAME_RATES, "frames per second")):
            if not low <= value <= high:
                raise InputError(f"{value:g} {unit}: a stream needs {low:,g} to {high:,g}")
        self.rig, self.rate, self.fps = rig, rate, fps
        self._mouth = MouthStream(network, rig, style)
        self._expression = None if expression is None else LiveExpression(rig, fps, expression, seed)
        self._resampler = None if rate == SAMPLE_RATE else StreamResampler(rate, SAMPLE_RATE)
        self._tokens = StreamedMouth(np.zeros((0, len(rig.shape_names)), np.float32), np.zeros(0), np.zeros(0))
        self._first = 0  # number of the first token that is kept
        self._next = 0  # number of the next frame
        self._received = 0
        self._ended = False

    @property
    def delay(self) -> float:
        """Seconds of sound that must follow a frame's time before the frame is known, at most.

        It is the network's look-ahead, half a window of the spectrum, and two tokens: the frame lies between two, and
        the second of them ends later. Resampling adds 1 ms or 2 ms.
        """
        resampling = 0.0 if self._resampler is None else self._resampler.delay
        return self._mouth.delay + TOKEN_SECONDS + resampling

    @property
    def received_seconds(self) -> float:
        """Seconds of sound fed so far."""
        return self._received / self.rate

    def expect(self, phones: Sequence[Phone]) -> None:
        """Take the phones of sound that is fed later, as a text-to-speech voice knows them: contacts of the lips, and
        pauses, are then those of the phones.

        Args:
            phones: In seconds after the first sample of the stream, in order of time, after all given before.

        Raises:
            InputError: They overlap, or are not in order.
        """
        self._mouth.expect(phones)

    def feed(self, samples: np.ndarray) -> list[StreamedPose]:
        """Take further samples, and return the frames that are known with them.

        Args:
            samples: (S,) or (S, channels), floats in [-1, 1] or integers of their full range; S 0 or more. Samples that
                are not finite count as silence.

        Raises:
            InputError: The samples have another shape or type, or the stream has ended.
        """
        if self._ended:
            raise InputError("the stream has ended; begin another one")
        mono = mix_samples(samples)
        poses: list[StreamedPose] = []
        size = int(self.rate * PART_SECONDS)
        for start in range(0, len(mono), size):
            part = mono[start : start + size]
            self._received += len(part)
            poses += self._emit(self._mouth.feed(self._resample(part, ends=False)))
        return poses

    def finish(self) -> list[StreamedPose]:
        """Return the last frames, up to the end of the sound."""
        if self._ended:
            return []
        self._ended = True
        rest = self._mouth.feed(self._resample(np.zeros(0, np.float32), ends=True))
        poses = self._emit(rest)
        return poses + self._emit(self._mouth.finish(), ends=True)

    async def follow(self, blocks: AsyncIterable[np.ndarray]) -> AsyncIterator[StreamedPose]:
        """Yield the frames of blocks of samples while they arrive, and the last ones after the last block."""
        async for block in blocks:
            for pose in self.feed(block):
                yield pose
        for pose in self.finish():
            yield pose

    def _resample(self, mono: np.ndarray, ends: bool) -> np.ndarray:
        return mono if self._resampler is None else self._resampler.resample(mono, ends)

    def _emit(self, new: StreamedMouth, ends: bool = False) -> list[StreamedPose]:
        """Take further tokens, and return the frames between those that are known."""
        kept = self._tokens
        self._tokens = kept = StreamedMouth(
            *(np.concatenate([getattr(kept, n), getattr(new, n)]) for n in ("weights", "speaking", "level_db"))
        )
        last = self._first + len(kept.weights) - 1
        known = self._received / self.rate if ends else (last + 0.5) * TOKEN_SECONDS
        stop = round(known * self.fps) if ends else int(np.floor(known * self.fps - 0.5 + 1e-9)) + 1
        if stop <= self._next or not len(kept.weights):
            return []
        numbers = np.arange(self._next, stop)
        times = (numbers + 0.5) / self.fps
        place = np.clip(times / TOKEN_SECONDS - 0.5 - self._first, 0, len(kept.weights) - 1)
        low = np.minimum(place.astype(int), max(0, len(kept.weights) - 2))
        high, share = np.minimum(low + 1, len(kept.weights) - 1), place - low

        def between(values: np.ndarray) -> np.ndarray:
            part = share.reshape(-1, *[1] * (values.ndim - 1))
            out: np.ndarray = (1 - part) * values[low] + part * values[high]
            return out

        weights = between(kept.weights)
        if self._expression is not None:
            upper = self._expression.advance(times, between(kept.speaking), between(kept.level_db))
            weights = np.clip(weights + upper, 0, 1)
        self._next = stop
        passed = int(low[-1])
        self._first += passed
        self._tokens = StreamedMouth(kept.weights[passed:], kept.speaking[passed:], kept.level_db[passed:])
        rows = weights.astype(np.float32)
        return [StreamedPose(int(n), float(t), row) for n, t, row in zip(numbers, times, rows, strict=True)]


def mix_samples(samples: np.ndarray) -> np.ndarray:
    """Return samples (S,) or (S, channels) of floats or integers as mono float32 in [-1, 1].

    Raises:
        InputError: They have another shape or type.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= 64):
        raise InputError(f"samples of shape {samples.shape}: give (samples,) or (samples, channels)")
    if samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype.kind != "f":
        raise InputError(f"samples of type {samples.dtype}: give floats in [-1, 1] or signed integers")
    mono = samples.astype(np.float32).mean(1) if samples.ndim == 2 else samples.astype(np.float32)
    return np.clip(np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0), -8, 8)
