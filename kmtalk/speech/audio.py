"""Read any sound, or a video's sound, as mono float32 at SAMPLE_RATE."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from kmtalk.errors import InputError

SAMPLE_RATE = 16_000
"""Hz; what Whisper, PocketSphinx and the speech encoders hear."""

SILENCE_DB = -60.0
"""dBFS under which a clip's loudest 25 ms count as silence."""


@dataclass(frozen=True)
class Audio:
    """One clip. ``samples`` (S,) float32 mono at SAMPLE_RATE for analysis; ``original`` (S', C) float32
    at ``original_rate`` Hz for playback; both start at the same instant."""

    samples: np.ndarray
    original: np.ndarray
    original_rate: int
    source: str = "audio"

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.original) / self.original_rate

    @property
    def is_silent(self) -> bool:
        """True where nothing in the clip is louder than SILENCE_DB."""
        return bool(rms_level(self.samples).max(initial=-np.inf) < SILENCE_DB)


def load_audio(path: str | Path) -> Audio:
    """Read a sound or video file.

    Raises InputError for a missing, empty, undecodable or zero-length file and for NaN samples.
    """
    path = Path(path)
    try:
        found = path.exists()
    except OSError as error:  # a name too long for the system
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    if not found:
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give one sound or video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        with _suppress_stderr():
            data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError):
        data, rate = _read_with_av(path)
    return audio_from_samples(data, rate, str(path))


def audio_from_samples(data: np.ndarray, rate: int, source: str = "audio") -> Audio:
    """Audio from samples (S,) or (S, C) in [-1, 1] at ``rate`` Hz; raises InputError as load_audio."""
    data = np.asarray(data, np.float32)
    data = data[:, None] if data.ndim == 1 else data
    if len(data) == 0:
        raise InputError(f"{source}: holds no samples (zero length)")
    if not np.isfinite(data).all():
        raise InputError(f"{source}: holds samples that are not numbers (NaN or infinite); export it again")
    mono = data.mean(axis=1)
    power = (data**2).mean(axis=0)
    if (mono**2).mean() < 1e-3 * power.max():  # channels that cancel: one was wired the wrong way round
        mono = data[:, power.argmax()]
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return Audio(np.ascontiguousarray(mono, np.float32), data, int(rate), source)


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """libmpg123 talks on the process's stderr about files that are none of its own."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _read_with_av(path: Path) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: has no sound track")
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            channels = stream.codec_context.channels
            resampler = av.AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=rate)
            blocks: list[np.ndarray] = []
            first: float | None = None
            for frame in container.decode(stream):
                if first is None:
                    start = float(container.start_time or 0) / av.time_base  # a broadcast's clock is hours on
                    first = float(frame.time or 0.0) - start
                blocks += [out.to_ndarray() for out in resampler.resample(frame)]
            blocks += [out.to_ndarray() for out in resampler.resample(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a sound or video file that can be decoded") from None
    if not blocks:
        raise InputError(f"{path}: holds no samples (zero length)")
    data = np.concatenate(blocks, axis=1).T
    # a video's sound may begin after its picture: keep the file's own clock
    late = round(max(first or 0.0, 0.0) * rate)
    return np.concatenate([np.zeros((late, data.shape[1]), np.float32), data]), rate


def rms_level(samples: np.ndarray, window: float = 0.025, hop: float = 0.010) -> np.ndarray:
    """RMS level in dBFS of mono samples at SAMPLE_RATE, one value every ``hop`` seconds.

    Value i describes the ``window`` seconds centred on (i + 0.5)·hop.
    """
    width, step = round(window * SAMPLE_RATE), round(hop * SAMPLE_RATE)
    count = max(1, -(-len(samples) // step))
    side = (width - step) // 2
    padded = np.pad(samples.astype(np.float64) ** 2, (side, width + step))
    total = np.concatenate([[0.0], np.cumsum(padded)])
    start = np.arange(count) * step
    power = (total[start + width] - total[start]) / width
    return 10 * np.log10(np.maximum(power, 1e-12))


def detect_speech_span(samples: np.ndarray, below_peak_db: float = 38.0, margin: float = 0.1) -> tuple[float, float]:
    """Seconds (start, end) of the part that is not leading or trailing silence, with a margin."""
    level = rms_level(samples)
    active = np.flatnonzero(level > max(np.percentile(level, 98) - below_peak_db, SILENCE_DB))
    end = len(samples) / SAMPLE_RATE
    if not len(active):
        return 0.0, end
    return max(0.0, float(active[0]) * 0.01 - margin), min(end, float(active[-1] + 1) * 0.01 + margin)
