"""Playing of the sound that a face follows, as late as its poses are."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.live.sources import SampleBuffer, import_sounddevice

MOST_LATE_SECONDS = 0.1
"""Sound that waits this much longer than it should is left out: the device's clock is slower, or it was interrupted."""


class SoundOutput:
    """The system's loudspeaker, by PortAudio.

    Args:
        rate: Sample rate in Hz.
        delay: Seconds from the sound to its pose.

    Raises:
        InputError: sounddevice or PortAudio is not installed, or nothing plays sound.
    """

    def __init__(self, rate: int, delay: float) -> None:
        sounddevice = import_sounddevice("a loudspeaker")
        self._buffer, self._rate, self._played = SampleBuffer(), rate, False
        try:
            self._stream: Any = sounddevice.OutputStream(
                rate, 0, None, 1, "float32", latency="low", callback=self._play
            )
            self._delay = max(0.0, delay - float(self._stream.latency))
        except (ValueError, sounddevice.PortAudioError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"no loudspeaker plays {rate:,} Hz ({reason}); --no-play does without") from None

    def put(self, samples: np.ndarray) -> None:
        """Play samples (S,) after the delay."""
        if not self._played:
            self._played = True
            self._buffer.put(np.zeros(round(self._delay * self._rate), np.float32))
            self._stream.start()
        self._buffer.put(samples)
        late = len(self._buffer) - round((self._delay + MOST_LATE_SECONDS) * self._rate)
        if late > 0:
            self._buffer.take(late, 0.0)

    def close(self) -> None:
        """Play no more."""
        self._stream.close()

    def _play(self, data: np.ndarray, frames: int, moment: object, status: object) -> None:
        samples = self._buffer.take(frames, 0.0)
        data[:, 0] = samples if samples is not None and len(samples) == frames else 0.0
