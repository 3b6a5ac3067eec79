"""How late a face that follows a voice is, what it costs, and whether it keeps its place in time.

    python benchmarks/live.py [--sound FILE] [--minutes 1] [--drift-minutes 0]

Prints the difference between streamed and whole, the delay that the algorithm needs, the time to compute a pose, the
delay of poses against their sound while a loop of the sound is followed in real time as from a microphone, and, with
--drift-minutes, the error against the clock in so much simulated time with a microphone whose clock is 0.1 % fast, and
one 0.1 % slow.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from kmtalk import KMTalk
from kmtalk.assets import asset_path
from kmtalk.live import sources
from kmtalk.live.following import follow
from kmtalk.live.playback import PlaybackReport
from kmtalk.live.sources import BLOCK_SECONDS, SampleBuffer, SoundSource, SourceReport, timed_blocks
from kmtalk.speech.audio import load_audio
from kmtalk.streaming.face_stream import mix_samples


class LoopedMicrophone(SoundSource):
    """A sound over and over, in blocks of 10 ms at the pace of the clock, for so many seconds."""

    captures, name = True, "loop"

    def __init__(self, samples: np.ndarray, rate: int, seconds: float) -> None:
        self.rate, self.buffer, self._samples = rate, SampleBuffer(), samples
        self._blocks = round(seconds / BLOCK_SECONDS)

    def start(self) -> None:
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self) -> None:
        size, begin = round(self.rate * BLOCK_SECONDS), time.monotonic()
        for number in range(self._blocks):
            time.sleep(max(0.0, begin + (number + 1) * BLOCK_SECONDS - time.monotonic()))
            place = np.arange(number * size, (number + 1) * size) % len(self._samples)
            self.buffer.put(self._samples[place])
        self.buffer.end()


class DriftingBuffer(SampleBuffer):
    """Blocks of silence from a device whose clock differs from ours, in simulated time."""

    def __init__(self, clock: SimpleNamespace, rate: int, drift: float, seconds: float) -> None:
        super().__init__()
        self._clock, self._begin, self._until = clock, clock.now, clock.now + seconds
        self._size, self._every, self._arrived = round(rate * BLOCK_SECONDS), BLOCK_SECONDS / (1 + drift), 0

    def take(self, count: int, timeout: float) -> np.ndarray | None:
        limit = self._clock.now + timeout
        while self._count < count and self._begin + self._arrived * self._every <= limit:
            self._clock.now = max(self._clock.now, self._begin + self._arrived * self._every)
            self.put(np.zeros(self._size, np.float32))
            self._arrived += 1
        if self._clock.now > self._until:
            return None
        if self._count < count:
            self._clock.now = limit
            return np.zeros(0, np.float32)
        return super().take(count, 0.0)


def drift(rate: int, share: float, minutes: float) -> tuple[float, float, float]:
    """Return the greatest and the last error of the stream's time in seconds, and the seconds that were made up."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    report, fed, worst, error = SourceReport(), 0, 0.0, 0.0
    with mock.patch.object(sources, "time", clock):
        source = SimpleNamespace(
            rate=rate, captures=True, buffer=DriftingBuffer(clock, rate, share, 60 * minutes), name="drift"
        )
        for block, begin in timed_blocks(source, report):  # type: ignore[arg-type]
            fed += len(block)
            error = fed / rate - (clock.now - begin)
            worst = max(worst, abs(error))
    return worst, error, report.missing + report.dropped


def main() -> None:
    """Measure, and print what the module's description lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sound", type=Path, default=asset_path("speech.wav"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of real time that a loop of the sound is followed")
    parser.add_argument("--drift-minutes", type=float, default=0.0, help="of simulated time")
    given = parser.parse_args()
    audio, talk = load_audio(given.sound), KMTalk()
    samples, rate = mix_samples(audio.original), audio.original_rate
    stream = talk.stream(rate)
    whole = np.array([p.weights for p in stream.feed(samples) + stream.finish()])

    stream, size = talk.stream(rate), round(rate * BLOCK_SECONDS)
    poses, shares, took = [], [], []
    for start in range(0, len(samples), size):
        began = time.perf_counter()
        new = stream.feed(samples[start : start + size])
        seconds = time.perf_counter() - began
        shares.append(seconds)
        took += [seconds / len(new)] * len(new) if new else []
        poses += new
    poses += stream.finish()
    difference = np.abs(np.array([p.weights for p in poses]) - whole).max()
    print(f"sound: {len(samples) / rate:.1f} s at {rate:,} Hz, {stream.fps:g} poses a second, blocks of 10 ms")
    print(f"streamed against whole: weights differ by {difference:.1e} at most")
    print(f"delay of the algorithm: {1000 * stream.delay:.1f} ms")
    middle, most = 1000 * np.percentile(took, [50, 95])
    print(f"computation of a pose: {middle:.2f} ms in the median, {most:.2f} ms in the 95th percentile")
    print(f"computation: {sum(shares) / (len(samples) / rate):.1%} of real time")

    report, heard = PlaybackReport(), SourceReport()
    follow(LoopedMicrophone(samples, rate, 60 * given.minutes), talk.stream(rate), [], report, heard)
    middle, most = 1000 * np.percentile(report.lateness, [50, 95])
    print(f"followed for {given.minutes:g} min: {report.sent:,} poses, {heard.describe()}")
    print(f"delay of poses against their sound: {middle:.1f} ms in the median, {most:.1f} ms in the 95th percentile")
    first, last = (1000 * np.median(list(report.lateness)[part]) for part in (slice(0, 600), slice(-600, None)))
    print(f"delay in the first and the last 10 s: {first:.1f} ms and {last:.1f} ms in the median")
    if given.drift_minutes:
        for share in (0.001, -0.001):
            worst, error, made_up = drift(rate, share, given.drift_minutes)
            print(
                f"clock {share:+.1%}, {given.drift_minutes:g} min simulated: off by {1000 * worst:.0f} ms at most, "
                f"{1000 * error:+.0f} ms at the end; {made_up:.2f} s left out or filled"
            )


if __name__ == "__main__":
    main()
