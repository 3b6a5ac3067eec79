"""Reading audio and video files as mono float32 samples at `SAMPLE_RATE`, and measuring loudness."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import soxr

from kmtalk.errors import InputError

SAMPLE_RATE = 16_000
"""Sample rate in Hz that Whisper, PocketSphinx and the speech encoders expect."""

SILENCE_DB = -60.0
"""Level in dBFS; a clip is silent if its loudest 25 ms are below it."""


@dataclass(frozen=True)
class Audio:
    """One audio clip.

    Attributes:
        samples: (S,) float32, mono, at `SAMPLE_RATE`; used for analysis.
        original: (S', C) float32, C channels at `original_rate` Hz; used for playback. Starts at the same
            instant as `samples`.
        original_rate: Sample rate of `original` in Hz.
        source: Name of the clip in messages, usually its path.
    """

    samples: np.ndarray
    original: np.ndarray
    original_rate: int
    source: str = "audio"

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.original) / self.original_rate

    @property
    def is_silent(self) -> bool:
        """True if no part of the clip is louder than `SILENCE_DB`."""
        return bool(rms_level(self.samples).max(initial=-np.inf) < SILENCE_DB)

    @cached_property
    def digest(self) -> int:
        """Hash of the samples: a seed by which random variation differs between clips but not between runs."""
        return int.from_bytes(hashlib.sha256(self.samples.tobytes()).digest()[:8], "little")


def load_audio(path: str | Path) -> Audio:
    """Read an audio file, or the first audio stream of a video file.

    Args:
        path: Any file that libsndfile or FFmpeg can decode.

    Returns:
        The clip. Its time zero is that of the file, also where a video's audio begins later than its picture.

    Raises:
        InputError: The file is missing, empty, a folder or not decodable, has no audio stream or no
            samples, or contains NaN or infinite samples.
    """
    path = Path(path)
    try:
        exists = path.exists()
    except OSError as error:  # the name is too long for the file system
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    if not exists:
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; pass one audio or video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        with _suppress_stderr():
            data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError):
        data, rate = _read_with_av(path)
    return audio_from_samples(data, rate, str(path))


def audio_from_samples(data: np.ndarray, rate: int, source: str = "audio") -> Audio:
    """Create an `Audio` from samples in memory.

    Args:
        data: (S,) or (S, C) samples in [-1, 1].
        rate: Sample rate of `data` in Hz.
        source: Name of the clip in messages.

    Raises:
        InputError: There are no samples, or some are NaN or infinite.
    """
    data = np.asarray(data, np.float32)
    data = data[:, None] if data.ndim == 1 else data
    if len(data) == 0:
        raise InputError(f"{source}: contains no samples (zero length)")
    if not np.isfinite(data).all():
        raise InputError(f"{source}: contains samples that are not numbers (NaN or infinite); export it again")
    mono = data.mean(axis=1)
    power = (data**2).mean(axis=0)
    if (mono**2).mean() < 1e-3 * power.max():  # channels of opposite phase cancel: use the louder one
        mono = data[:, power.argmax()]
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return Audio(np.ascontiguousarray(mono, np.float32), data, int(rate), source)


@contextmanager
def _suppress_stderr() -> Iterator[None]:
    """Silence stderr of the process: libmpg123 prints messages there about files that it cannot decode."""
    sys.stderr.flush()
    saved_stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(saved_stderr, 2)
        os.close(saved_stderr)


def _read_with_av(path: Path) -> tuple[np.ndarray, int]:
    """Return samples (S, C) float32 and the sample rate in Hz of the first audio stream, decoded with PyAV."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path}: has no audio stream")
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            channels = stream.codec_context.channels
            resampler = av.AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=rate)
            blocks: list[np.ndarray] = []
            first_time: float | None = None
            for frame in container.decode(stream):
                if first_time is None:
                    start = (
                        float(container.start_time or 0) / av.time_base
                    )  # timestamps of a broadcast do not begin at zero
                    first_time = float(frame.time or 0.0) - start
                blocks += [out.to_ndarray() for out in resampler.resample(frame)]
            blocks += [out.to_ndarray() for out in resampler.resample(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be decoded as an audio or video file") from None
    if not blocks:
        raise InputError(f"{path}: contains no samples (zero length)")
    data = np.concatenate(blocks, axis=1).T
    # the audio of a video can begin after its picture: pad it so that time zero is that of the file
    padding = round(max(first_time or 0.0, 0.0) * rate)
    return np.concatenate([np.zeros((padding, data.shape[1]), np.float32), data]), rate


def rms_level(samples: np.ndarray, window: float = 0.025, hop: float = 0.010) -> np.ndarray:
    """Compute the RMS level of mono samples (S,) at `SAMPLE_RATE`.

    Returns:
        Levels in dBFS, one every `hop` seconds. Value i is computed over the `window` seconds centred on
        (i + 0.5) · hop.
    """
    width, step = round(window * SAMPLE_RATE), round(hop * SAMPLE_RATE)
    count = max(1, -(-len(samples) // step))
    side = (width - step) // 2
    padded = np.pad(samples.astype(np.float64) ** 2, (side, width + step))
    cumulative = np.concatenate([[0.0], np.cumsum(padded)])
    start = np.arange(count) * step
    power = (cumulative[start + width] - cumulative[start]) / width
    return 10 * np.log10(np.maximum(power, 1e-12))


def detect_speech_span(samples: np.ndarray, threshold_db: float = 38.0, margin: float = 0.1) -> tuple[float, float]:
    """Find the part of a clip between leading and trailing silence.

    Args:
        samples: (S,) mono at `SAMPLE_RATE`.
        threshold_db: Speech is at most this many dB below the loud parts (98th percentile of the level).
        margin: Seconds added on both sides.

    Returns:
        Start and end in seconds; the whole clip if no part of it is loud enough.
    """
    level = rms_level(samples)
    active = np.flatnonzero(level > max(np.percentile(level, 98) - threshold_db, SILENCE_DB))
    end = len(samples) / SAMPLE_RATE
    if not len(active):
        return 0.0, end
    return max(0.0, float(active[0]) * 0.01 - margin), min(end, float(active[-1] + 1) * 0.01 + margin)
