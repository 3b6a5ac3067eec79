"""Sound that arrives now: from a microphone, another program's pipe or socket, or a file at the pace of real time."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kmtalk.errors import InputError
from kmtalk.speech.alignment import Phone
from kmtalk.speech.audio import load_audio
from kmtalk.streaming.face_stream import SAMPLE_RATES, mix_samples

BLOCK_SECONDS = 0.01
STALL_SECONDS = 0.06
"""Silence stands in for sound that is later than this: the face stays alive, and keeps its place in time."""

MOST_AHEAD_SECONDS = 0.1
"""Sound of a microphone or socket that is this far ahead of the clock, and of the longest block in which it comes, is
left out: its clock runs faster, or late sound came in a burst, for which silence has stood in already."""

MOST_BLOCK_SECONDS = 1.0
"""Longest block of a socket that is waited for. Programs send 10 ms to 250 ms at a time."""

PIPE_SECONDS = 1.0  # of a pipe that are read ahead; the other program then waits


@dataclass
class SourceReport:
    """What became of the sound.

    Attributes:
        seconds: Seconds of sound that were taken.
        missing: Seconds of silence that stood in for late sound.
        dropped: Seconds of sound that were left out.
    """

    seconds: float = 0.0
    missing: float = 0.0
    dropped: float = 0.0

    def describe(self) -> str:
        """Return a line of text."""
        text = f"{self.seconds:.1f} s of sound"
        if self.missing or self.dropped:
            text += f"; {self.missing:.2f} s came too late, {self.dropped:.2f} s were left out"
        return text


class SampleBuffer:
    """Mono samples between the thread that receives them and the one that takes them.

    Args:
        most: Number of samples that it holds before `put` waits; None for no bound.

    Attributes:
        longest: Number of samples of the longest block that was put.
    """

    def __init__(self, most: int | None = None) -> None:
        self._parts: deque[np.ndarray] = deque()
        self._count, self._most, self._ended = 0, most, False
        self.longest = 0
        self._changed = threading.Condition()

    def put(self, samples: np.ndarray) -> None:
        """Add samples (S,)."""
        with self._changed:
            while self._most is not None and self._count >= self._most and not self._ended:
                self._changed.wait(0.5)
            self._parts.append(samples)
            self._count += len(samples)
            self.longest = max(self.longest, len(samples))
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more samples follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, count: int, timeout: float) -> np.ndarray | None:
        """Return the next `count` samples, fewer where the sound ends, or none where they do not come in `timeout`
        seconds; None after the end."""
        limit = time.monotonic() + timeout
        with self._changed:
            while self._count < count and not self._ended:
                left = limit - time.monotonic()
                if left <= 0:
                    return np.zeros(0, np.float32)
                self._changed.wait(left)
            if not self._count:
                return None
            return self._pop(min(count, self._count))

    @property
    def has_ended(self) -> bool:
        """Whether no more samples follow those that it holds."""
        return self._ended

    def __len__(self) -> int:
        return self._count

    def _pop(self, count: int) -> np.ndarray:
        taken: list[np.ndarray] = []
        left = count
        while left:
            part = self._parts.popleft()
            if len(part) > left:
                self._parts.appendleft(part[left:])
            taken.append(part[:left])
            left -= len(taken[-1])
        self._count -= count
        self._changed.notify_all()
        return np.concatenate(taken) if taken else np.zeros(0, np.float32)


class SoundSource(ABC):
    """Sound that arrives in another thread.

    Attributes:
        name: Its name in messages.
        rate: Sample rate in Hz.
        buffer: What has arrived and was not taken yet.
        captures: Whether the sound comes at its own pace, as from a microphone; else it is taken at that of the clock.
    """

    name: str
    rate: int
    buffer: SampleBuffer
    captures: bool

    @abstractmethod
    def start(self) -> None:
        """Begin to receive; raises InputError where that cannot be done."""

    def stop(self) -> None:
        """Receive no more."""
        self.buffer.end()

    def take_phones(self) -> list[Phone]:
        """Return the phones that are known of the sound that is taken next, in seconds of the sound."""
        return []


class FileSource(SoundSource):
    """A sound file, at the pace of real time.

    Raises:
        InputError: The file cannot be read.
    """

    captures = False

    def __init__(self, path: Path) -> None:
        audio = load_audio(path)
        self.name, self.rate, self.buffer = str(path), audio.original_rate, SampleBuffer()
        self._samples = mix_samples(audio.original)

    def start(self) -> None:
        self.buffer.put(self._samples)
        self.buffer.end()


class PipeSource(SoundSource):
    """Raw samples of another program: signed integers of 16 bits, little-endian.

    Args:
        stream: The pipe.
        rate: Sample rate in Hz.
        channels: Channels, interleaved.
        captures: Whether the sound is of now, as that of a recorder: what has waited in the pipe is then left out. Else
            the other program waits.
    """

    name = "standard input"

    def __init__(self, stream: BinaryIO, rate: int, channels: int = 1, captures: bool = False) -> None:
        self.rate, self._stream, self._channels, self.captures = rate, stream, channels, captures
        self.buffer = SampleBuffer(None if captures else int(rate * PIPE_SECONDS))

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        width = 2 * self._channels
        size = max(1, int(self.rate * BLOCK_SECONDS)) * width
        rest = b""
        for data in read_available(self._stream, size):
            rest += data
            whole = len(rest) // width * width
            samples, rest = np.frombuffer(rest[:whole], "<i2").reshape(-1, self._channels), rest[whole:]
            self.buffer.put(mix_samples(samples))
        self.buffer.end()


def read_available(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield what a pipe holds, up to `most` bytes at once, as it comes; without its number, `most` bytes each."""
    number = None
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        number = stream.fileno()
    # what reads a buffered stream holds its lock, for which Python waits at its end, and dies of it
    while data := stream.read(most) if number is None else os.read(number, most):
        yield data


def import_sounddevice(needed_by: str) -> Any:
    """Return the module sounddevice.

    Args:
        needed_by: What needs it, for messages.

    Raises:
        InputError: It or PortAudio is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise InputError(f"{needed_by} needs sounddevice; pip install 'kmtalk[live]'") from None
    except OSError:
        raise InputError(f"{needed_by} needs PortAudio; install it (Debian: apt install libportaudio2)") from None
    return sounddevice


class MicrophoneSource(SoundSource):
    """A microphone, by PortAudio.

    Args:
        device: Name or part of it, or number; "" for the system's default.
        rate: Sample rate in Hz; None for that of the device.

    Raises:
        InputError: sounddevice or PortAudio is not installed, or there is no such device.
    """

    captures = True

    def __init__(self, device: str, rate: int | None) -> None:
        sounddevice = import_sounddevice("a microphone")
        chosen = int(device) if device.isdecimal() else device or None
        try:
            found = sounddevice.query_devices(chosen, "input")
        except (ValueError, sounddevice.PortAudioError) as error:
            reason = " ".join(str(error).split())  # it may list the devices, one in each line
            raise InputError(f"mic{':' * bool(device)}{device}: no such microphone ({reason[:300]})") from None
        self.name, self.rate = str(found["name"]), int(rate or found["default_samplerate"])
        self.buffer = SampleBuffer()
        try:
            self._stream = sounddevice.InputStream(
                self.rate, int(self.rate * BLOCK_SECONDS), chosen, 1, "float32", latency="low", callback=self._receive
            )
        except (ValueError, sounddevice.PortAudioError) as error:
            raise InputError(f"{self.name}: cannot record at {self.rate} Hz ({error}); give another --rate") from None

    def start(self) -> None:
        self._stream.start()

    def stop(self) -> None:
        self._stream.close()
        super().stop()

    def _receive(self, data: np.ndarray, frames: int, moment: object, status: object) -> None:
        self.buffer.put(data[:, 0].copy())


def open_source(text: str, stdin: BinaryIO, rate: int | None, channels: int = 1, captures: bool = False) -> SoundSource:
    """Return the source that `text` names: a sound file, "-" for a pipe, "mic" or "mic:DEVICE", or ws://HOST:PORT.

    Raises:
        InputError: There is no such source.
    """
    if rate is not None and not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise InputError(f"--rate {rate}: must be {SAMPLE_RATES[0]:,} to {SAMPLE_RATES[1]:,} Hz")
    if text == "-":
        return PipeSource(stdin, rate or 16_000, channels, captures)
    if captures:
        raise InputError("--capture: is for samples on standard input (-)")
    if text == "mic" or text.startswith("mic:"):
        return MicrophoneSource(text[4:], rate)
    if text.startswith("ws://"):
        from kmtalk.live.websocket import WebSocketSource

        return WebSocketSource(text.removeprefix("ws://"), rate or 16_000)
    if rate is not None:
        raise InputError(f"{text}: --rate is for a pipe, a microphone or a socket; a sound file has its own")
    return FileSource(Path(text))


def timed_blocks(source: SoundSource, report: SourceReport) -> Iterator[tuple[np.ndarray, float]]:
    """Yield blocks of samples (S,) that keep to the clock, each with the moment at which the stream's time was zero.

    The sound of files and pipes is taken as the clock goes. That of microphones and sockets is taken as it comes;
    where it is late by `STALL_SECONDS`, silence stands in for it, and where it is ahead by `MOST_AHEAD_SECONDS`, some
    is left out. So the stream's time is that of the clock after hours too.
    """
    rate, size = source.rate, max(1, round(source.rate * BLOCK_SECONDS))
    begin, fed, surplus = None, 0, 0
    while True:
        if begin is not None and not source.captures:
            time.sleep(max(0.0, begin + (fed + size) / rate - time.monotonic()))
        block = source.buffer.take(size, BLOCK_SECONDS if begin is not None else 0.5)
        if block is None:
            return
        now = time.monotonic()
        if begin is None:
            if not len(block):
                continue
            begin = now - len(block) / rate
        # what has come while the machine was busy is taken at once, which costs little more than one block
        behind = int((now - begin) * rate) - fed - len(block)
        extra = min(behind, len(source.buffer), round(MOST_BLOCK_SECONDS * rate))
        if len(block) and extra >= size:
            more = source.buffer.take(extra, 0.0)
            block = block if more is None else np.concatenate([block, more])
        left_out = min(surplus, len(block))
        block, surplus = block[left_out:], surplus - left_out
        report.dropped += left_out / rate
        if len(block):
            fed += len(block)
            report.seconds += len(block) / rate
            yield block, begin
        now = time.monotonic()  # whoever took the block may have taken long, and sound has come meanwhile
        ahead = (fed + len(source.buffer) - surplus) / rate - (now - begin)
        if ahead < -STALL_SECONDS and not source.buffer.has_ended:
            lost = np.zeros(round(-ahead * rate), np.float32)
            fed += len(lost)
            report.missing += len(lost) / rate
            yield lost, begin
        elif source.captures:
            usual = min(source.buffer.longest / rate, MOST_BLOCK_SECONDS)
            if ahead > MOST_AHEAD_SECONDS + usual:
                surplus += round((ahead - usual) * rate)
