"""One clip of sound: mono samples at `SAMPLE_RATE` for analysis, the sound as recorded for playback, and its level."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import soxr

from kmtalk.errors import InputError
from kmtalk.speech.sound_file import check_sample_rate, read_sound

SAMPLE_RATE = 16_000
"""Sample rate in Hz that Whisper, PocketSphinx and the speech encoders expect."""

SILENCE_DB = -60.0
"""Level in dBFS; a clip is silent if its loudest 25 ms are below it."""

QUIET_DB = -30.0
"""Level in dBFS; speech whose loudest 25 ms are below it is raised to `SPEECH_DB` for analysis."""

SPEECH_DB = -15.0
"""Level in dBFS of the loudest 25 ms of quiet speech after it was raised; that of ordinary recordings."""

SPEECH_RANGE_DB = 12.0
"""Range in dB from the quietest tenth of a clip to its loudest part. Sound of a smaller one, such as the tone of an
empty room (at most 8 dB), is no speech and is not raised; clean recordings of speech have 25 dB and more."""

LARGEST_SAMPLE = 8.0
"""Samples beyond it are integers in a file of floats, not sound that is somewhat too loud."""

CHANNEL_NAMES = {"left": 1, "right": 2}
"""Channels that have a name, with their numbers."""

MIX = "mix"
"""The choice of all channels."""


@dataclass(frozen=True)
class Audio:
    """One audio clip.

    Attributes:
        samples: (S,) float32, mono, at `SAMPLE_RATE`; used for analysis. Quiet speech is raised.
        original: (S', C) float32, C channels at `original_rate` Hz; used for playback. Starts at the same
            instant as `samples`.
        original_rate: Sample rate of `original` in Hz.
        source: Name of the clip in messages, usually its path.
        channel: Which channels `samples` is made of: "mix", "left", "right", or a number from 1.
        track: Number of the file's sound track, from 1; None for its default.
        voice_only: Whether all that is not speech is silenced in `samples`.
        notes: One line on each thing that is unusual about the sound.
    """

    samples: np.ndarray
    original: np.ndarray
    original_rate: int
    source: str = "audio"
    channel: str = MIX
    track: int | None = None
    voice_only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.original) / self.original_rate

    @cached_property
    def is_silent(self) -> bool:
        """True if no part of the clip is louder than `SILENCE_DB`."""
        return bool(rms_level(self.samples).max(initial=-np.inf) < SILENCE_DB)

    @cached_property
    def digest(self) -> int:
        """Hash of the samples: a seed by which random variation differs between clips but not between runs."""
        return int.from_bytes(hashlib.sha256(self.samples.tobytes()).digest()[:8], "little")

    def unanalyzed(self) -> Audio:
        """The same sound for playback, with silence for analysis: what a face hears does not move its mouth."""
        return replace(self, samples=np.zeros_like(self.samples))

    def playback(self) -> np.ndarray:
        """The sound as recorded (S', C) float32, with at most two channels: more are mixed to one that is as loud as
        the loudest of them."""
        if self.original.shape[1] <= 2:
            return self.original
        mono = choose_channel(self.original, MIX, self.source)[:, None]
        peak = np.abs(mono).max()
        return mono * (np.abs(self.original).max() / peak) if peak > 0 else mono


def load_audio(
    path: str | Path, *, channel: str | int = MIX, track: int | None = None, voice_only: bool = False
) -> Audio:
    """Read a sound file, or a sound track of a video file.

    Args:
        path: Any file that libsndfile or FFmpeg can decode.
        channel: Channel to analyse, as for `audio_from_samples`.
        track: Number of the sound track, from 1; None for the one that the file marks as its default, or else the
            first.
        voice_only: Whether to silence all that is not speech, as for `audio_from_samples`.

    Returns:
        The clip. Its time zero is that of the file, also where a video's sound begins later than its picture, and
        gaps in the file's time stamps are silent.

    Raises:
        InputError: The file is missing, empty, no file or not decodable, has no sound, no such track or channel or no
            samples, contains NaN or infinite samples, or is longer than `sound_file.MAX_SECONDS` or than memory allows.
    """
    path = Path(path)
    chosen = str(channel) != MIX
    try:
        sound = read_sound(path, track, keep_channels=chosen)
        return audio_from_samples(
            sound.samples,
            sound.rate,
            str(path),
            channel=channel,
            track=track,
            voice_only=voice_only,
            notes=sound.notes,
        )
    except MemoryError:
        raise InputError(f"{path}: is too long for this machine's memory; cut it into parts") from None


def audio_from_samples(
    data: np.ndarray,
    rate: int,
    source: str = "audio",
    *,
    channel: str | int = MIX,
    track: int | None = None,
    voice_only: bool = False,
    notes: Sequence[str] = (),
) -> Audio:
    """Create an `Audio` from samples in memory.

    Args:
        data: (S,) or (S, C) samples in [-1, 1]. Larger ones than `LARGEST_SAMPLE` are taken as integers, and scaled.
        rate: Sample rate of `data` in Hz.
        source: Name of the clip in messages.
        channel: Channel to analyse: its number from 1, "left", "right", or "mix" for the mean of all.
        track: Number of the file's sound track that `data` is; recorded only.
        voice_only: Whether to silence all that is not speech for analysis (see `voice_activity`).
        notes: Lines on what is unusual about the sound.

    Raises:
        InputError: There are no samples, some are NaN or infinite, the sample rate is no sound's, there is no such
            channel, or the detector of speech is not installed.
    """
    check_sample_rate(rate, source)
    data = np.asarray(data, np.float32)
    data = data[:, None] if data.ndim == 1 else data
    if data.size == 0:
        raise InputError(f"{source}: contains no samples (zero length)")
    if not np.isfinite(data).all():
        raise InputError(f"{source}: contains samples that are not numbers (NaN or infinite); export it again")
    data, scaled = _scale_integers(data, source)
    mono = choose_channel(data, str(channel), source)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    mono = _raise_quiet_speech(np.ascontiguousarray(mono, np.float32))
    if voice_only:
        from kmtalk.speech.voice_activity import keep_speech

        mono = _raise_quiet_speech(keep_speech(mono))
    told = (*notes, *scaled)
    return Audio(mono, data, int(rate), source, str(channel), track, voice_only, told)


def _scale_integers(data: np.ndarray, source: str) -> tuple[np.ndarray, list[str]]:
    """Return samples (S, C) of which none is beyond `LARGEST_SAMPLE`, and a line where they were scaled to that end."""
    low, high = float(data.min()), float(data.max())
    peak = max(-low, high)
    if peak <= LARGEST_SAMPLE:
        return data, []
    bits = next((bits for bits in (8, 16, 24, 32) if peak <= 2 ** (bits if low >= 0 else bits - 1)), 0)
    full = float(2 ** (bits - 1)) if bits else peak
    middle = full if bits and low >= 0 else 0.0  # unsigned samples are silent at half of their range
    kind = f"integers of {bits} bits" if bits else "samples of an unknown scale"
    line = f"{source}: its samples reach {peak:.6g} instead of 1: taken as {kind}, and scaled"
    return ((data - np.float32(middle)) / np.float32(full)).astype(np.float32), [line]


def choose_channel(data: np.ndarray, channel: str, source: str) -> np.ndarray:
    """Return one channel of samples (S, C) as (S,), or their mean."""
    count = data.shape[1]
    if channel == MIX and count == 1:
        return data[:, 0]  # not a mean, which would be a copy: an hour has 230 MB
    if channel == MIX:
        mono: np.ndarray = data.mean(axis=1)
        power = _power(data)
        if _power(mono[:, None])[0] < 1e-3 * power.max():  # channels of opposite phase cancel: the louder one
            mono = data[:, power.argmax()]
        return mono
    number = CHANNEL_NAMES.get(channel) or (int(channel) if channel.isdecimal() else 0)
    if count == 1 and channel != "1":
        raise InputError(f"{source}: channel {channel}: the sound has one channel; leave --channel out")
    if not 1 <= number <= count:
        raise InputError(
            f"{source}: channel {channel}: the sound has {count} channels; choose one from 1 to {count}, left, right "
            "or mix"
        )
    return data[:, number - 1]


def _power(data: np.ndarray) -> np.ndarray:
    """Mean square (C,) of samples (S, C), in blocks: an hour's squares would take as much memory as its samples."""
    block = 1 << 20
    sums = [(data[i : i + block].astype(np.float64) ** 2).sum(axis=0) for i in range(0, len(data), block)]
    return np.sum(sums, axis=0) / len(data)


def _raise_quiet_speech(samples: np.ndarray) -> np.ndarray:
    """Return mono samples (S,) at the level of ordinary recordings, where they are quiet speech; else unchanged.

    What follows has limits of its own: Whisper's and the encoders' features, and the level that counts as silence.
    """
    level = rms_level(samples)
    loudest = float(level.max())
    if not SILENCE_DB <= loudest < QUIET_DB or loudest - float(np.percentile(level, 10)) < SPEECH_RANGE_DB:
        return samples
    return samples * np.float32(10 ** ((SPEECH_DB - loudest) / 20))


_BLOCK = 60 * SAMPLE_RATE  # samples


def rms_level(samples: np.ndarray, window: float = 0.025, hop: float = 0.010) -> np.ndarray:
    """Compute the RMS level of mono samples (S,) at `SAMPLE_RATE`.

    Returns:
        Levels in dBFS, one every `hop` seconds. Value i is computed over the `window` seconds centred on
        (i + 0.5) · hop.
    """
    width, step = round(window * SAMPLE_RATE), round(hop * SAMPLE_RATE)
    count = max(1, -(-len(samples) // step))
    side = (width - step) // 2
    edges = np.arange(count) * step  # where the windows begin, in samples that are padded by `side` before the first
    bounds = np.stack([edges, edges + width])
    total, sums = 0.0, np.zeros(bounds.shape)
    length = len(samples) + side + width + step
    for start in range(0, length, _BLOCK):  # in blocks, since the sums take four times the memory of the samples
        stop = min(start + _BLOCK, length)
        squares = samples[max(0, start - side) : max(0, stop - side)].astype(np.float64) ** 2
        squares = np.pad(squares, (max(0, min(side - start, stop - start)), 0))
        squares = np.pad(squares, (0, stop - start - len(squares)))
        cumulative = np.cumsum(np.concatenate([[total], squares]))
        for row, line in zip(sums, bounds, strict=True):
            first, last = np.searchsorted(line, [start, stop])
            row[first:last] = cumulative[line[first:last] - start]
        total = cumulative[-1]
    power = (sums[1] - sums[0]) / width
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)))


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
