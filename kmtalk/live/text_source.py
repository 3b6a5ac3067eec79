"""Lines of text as a source of sound: a voice speaks each one as it comes, and its phones are known."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from kmtalk.errors import InputError
from kmtalk.live.sources import SampleBuffer, SoundSource, read_available
from kmtalk.speaking import Voice, synthesize_text
from kmtalk.speech.alignment import Phone
from kmtalk.streaming.face_stream import mix_samples

LINE_BYTES = 20_000  # of a longer line, the first part is spoken by itself


class SpokenBuffer(SampleBuffer):
    """Samples of what is spoken, with silence between: it always has samples, so that the clock goes on.

    Args:
        rate: Sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        super().__init__()
        self._rate, self._taken = rate, 0
        self._waiting: deque[tuple[np.ndarray, tuple[Phone, ...]]] = deque()
        self._begun: list[Phone] = []

    def say(self, samples: np.ndarray, phones: tuple[Phone, ...]) -> None:
        """Add samples (S,) and their phones, in seconds of the samples."""
        with self._changed:
            self._waiting.append((samples, phones))

    def take(self, count: int, timeout: float) -> np.ndarray | None:
        """Return the next `count` samples, silence where nothing is spoken; None after the end."""
        with self._changed:
            if self._ended and not self._waiting and not self._count:
                return None
            while self._count < count and self._waiting:
                samples, phones = self._waiting.popleft()
                offset = (self._taken + self._count) / self._rate
                self._begun += [replace(p, start=p.start + offset, end=p.end + offset) for p in phones]
                self._parts.append(samples)
                self._count += len(samples)
            spoken = self._pop(min(count, self._count))
            self._taken += count
            return np.concatenate([spoken, np.zeros(count - len(spoken), np.float32)])

    def take_phones(self) -> list[Phone]:
        """Return the phones of what was begun since the last call, in seconds of all samples taken."""
        with self._changed:
            begun, self._begun = self._begun, []
            return begun

    def __len__(self) -> int:
        return self._rate  # a second: as many as are wanted at once


class TextSource(SoundSource):
    """Lines of text, UTF-8, which a voice speaks one after the other.

    Args:
        stream: The pipe with the lines.
        voice: The voice.
        speaker: Name or number of a speaker of the voice; None for the first.
        warn: Called with one line for each line of text that cannot be spoken.

    Raises:
        InputError: The voice has no such speaker.
    """

    captures = False
    buffer: SpokenBuffer

    def __init__(
        self,
        stream: BinaryIO,
        voice: Voice,
        speaker: str | None,
        warn: Callable[[str], None],
    ) -> None:
        voice.speaker_number(speaker)
        self._stream, self._voice, self._speaker, self._warn = stream, voice, speaker, warn
        self.name, self.rate = f"lines of text, spoken by {voice.name}", voice.rate
        self.buffer = SpokenBuffer(self.rate)

    def start(self) -> None:
        threading.Thread(target=self._speak, daemon=True).start()

    def take_phones(self) -> list[Phone]:
        return self.buffer.take_phones()

    def _speak(self) -> None:
        for line in _lines(self._stream):
            try:
                audio, alignment = synthesize_text(self._voice, line, speaker=self._speaker, warn=self._warn)
            except InputError as error:
                self._warn(str(error))
                continue
            self.buffer.say(mix_samples(audio.original), alignment.phones)
        self.buffer.end()


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Yield lines that are not empty, as they come."""
    rest = b""
    for data in read_available(stream, LINE_BYTES):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) >= LINE_BYTES:
            whole, rest = [*whole, rest], b""
        yield from (text for line in whole if (text := line.decode(errors="replace").strip()))
    if text := rest.decode(errors="replace").strip():
        yield text
