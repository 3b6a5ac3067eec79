"""Reading the samples of sound files and of the sound tracks of video files, with libsndfile or FFmpeg."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kmtalk.errors import InputError

MAX_SECONDS = 4 * 3600.0
"""Longest sound in seconds that is read."""

MEMORY_SHARE = 0.25
"""Share of the free memory that a sound's samples may take; reading and analysing it takes three times as much."""

MIN_RATE, MAX_RATE = 2_000, 1_000_000
"""Sample rates in Hz that are read; other ones are those of damaged files."""

GAP_SECONDS = 0.05
"""Seconds by which time stamps may jitter; where they leap further ahead, the sound has a gap."""

# Containers of sound and video. Not those that name other files to be opened: playlists, lists of images, streams.
_CONTAINERS = (
    "3dostr aa aac ac3 act adts adx aea aiff amr amrnb amrwb ape apm aptx asf asf_o ast au av1 avi avr bonk caf dsf "
    "dss dts dtshd dv dxa eac3 epaf flac flv gsm gxf iamf iff ilbc ircam ivf kux latm live_flv loas m4v matroska "
    "matroska,webm mlp mov,mp4,m4a,3gp,3g2,mj2 mov mp4 mp3 mpc mpc8 mpeg mpegts mpegtsraw mpegvideo mxf nistsphere nsv "
    "nut nuv ogg oma osq paf pva pvf qcp qoa r3d rm rso shn sln smjpeg sol sox spdif swf tak truehd tta ty vivo voc "
    "vqf w64 wav wsd wsvqa wtv wv wve xa xwma"
)
_MPEG_SUFFIXES = (".mp1", ".mp2", ".mp3")
_SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b"riff", b".snd")


@dataclass(frozen=True)
class Sound:
    """What a file holds.

    Attributes:
        samples: (S, C) float32.
        rate: Sample rate in Hz.
        notes: One line on each thing that is unusual about the file.
    """

    samples: np.ndarray
    rate: int
    notes: tuple[str, ...] = ()


def check_sample_rate(rate: int, source: str) -> None:
    """Raise InputError, which names `source`, where a sample rate in Hz is not one at which sound is recorded."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(
            f"{source}: claims a sample rate of {rate} Hz, which no sound has ({MIN_RATE} to {MAX_RATE}): the file is "
            "damaged; export it again"
        )


def read_sound(path: Path, track: int | None = None, keep_channels: bool = False) -> Sound:
    """Read a sound file, or a sound track of a video file.

    Args:
        path: The file.
        track: Number of the sound track, from 1; None for the one that the file marks as its default, or else the
            first.
        keep_channels: Keep all channels of a sound that FFmpeg decodes; else more than two are mixed to one, with the
            shares that their places in the room give them.

    Returns:
        The samples, from the file's time zero.

    Raises:
        InputError: The file cannot be read, or holds no such sound.
    """
    head = _read_head(path)
    if not _is_mpeg(head, path.suffix.lower()):
        sound = _read_with_libsndfile(path, head)
        if sound is not None and not (head.startswith(b"OggS") and _has_gaps(path, sound)):
            if track not in (None, 1):
                raise InputError(f"{path}: track {track}: the file has one sound track; leave --track out")
            return sound
    return _read_with_ffmpeg(path, track, keep_channels)


def _has_gaps(path: Path, sound: Sound) -> bool:
    """Whether the time stamps of an Ogg file leave out parts, which libsndfile joins."""
    import av

    try:
        with path.open("rb") as file, av.open(file, mode="r", options={"format_whitelist": "ogg"}) as container:
            seconds = float(container.duration or 0) / av.time_base
    except (av.FFmpegError, ValueError, OSError):
        return False
    return seconds > len(sound.samples) / sound.rate + GAP_SECONDS


def _read_head(path: Path) -> bytes:
    """Return the first bytes of a file; raises InputError where it is not a regular file with contents."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: is a folder; pass one audio or video file")
        if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
            raise InputError(f"{path}: is not a file but a pipe or a device; save the sound as a file first")
        if status.st_size == 0:
            raise InputError(f"{path}: the file is empty")
        with path.open("rb") as file:
            return file.read(16)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # no permission, a name that is too long, a null character in it
        raise InputError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from None


def _is_mpeg(head: bytes, suffix: str) -> bool:
    """Whether libsndfile would give the file to libmpg123, which prints to the process's stderr."""
    synchronized = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head.startswith(b"ID3") or synchronized or (suffix in _MPEG_SUFFIXES and not head.startswith(_SIGNATURES))


def _read_with_libsndfile(path: Path, head: bytes) -> Sound | None:
    """Read a whole sound file; None where libsndfile cannot, or where the header does not say how long it is."""
    # absolute, since libsndfile takes "-" for the standard input; bytes, since a name may not be UTF-8
    source: Any = os.fsencode(path.absolute()) if os.name == "posix" else str(path.absolute())
    if head.startswith((b"RF64", b".snd")):
        source = _with_length(path) or source
    try:
        with soundfile.SoundFile(source) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            check_sample_rate(rate, str(path))
            if not 0 < frames < 1 << 48:
                return None
            _check_length(path, frames, channels, rate, _free_memory())
            return Sound(file.read(dtype="float32", always_2d=True), rate)
    except InputError:
        raise
    except (soundfile.SoundFileError, RuntimeError, TypeError, AttributeError, ValueError):
        return None


def _with_length(path: Path) -> io.BytesIO | None:
    """Return an RF64 or AU file with its length in the header, where that is 0 since the recording was cut off.

    FFmpeg reads the other formats in spite of such a header.
    """
    with path.open("rb") as file:
        head = bytearray(file.read(4096))
        begin = head.find(b"data", 36) + 8
        if head[:4] == b".snd" and head[8:12] == bytes(4):
            head[8:12] = b"\xff" * 4  # to the end of the file
        elif head[:4] == b"RF64" and head[12:16] == b"ds64" and head[28:36] == bytes(8) and begin >= 44:
            size = path.stat().st_size
            head[20:36] = struct.pack("<QQ", size - 8, size - begin)
        else:
            return None
        return io.BytesIO(bytes(head) + file.read())


def _check_length(path: Path, frames: float, channels: int, rate: int, free: float) -> None:
    """Raise InputError where a sound of `frames` samples per channel is longer than what is read with `free` bytes."""
    if frames / rate > MAX_SECONDS:
        raise InputError(
            f"{path}: is {frames / rate / 3600:.3g} hours long, and at most {MAX_SECONDS / 3600:g} are read; "
            "cut it into parts"
        )
    needed = frames * channels * 4
    if needed > MEMORY_SHARE * free:
        raise InputError(
            f"{path}: is too long for this machine's memory ({needed / 1e9:.1f} GB of samples, {free / 1e9:.1f} GB "
            "free); cut it into parts, or save it as mono at 16000 Hz"
        )


def _free_memory() -> float:
    """Memory in bytes that a process can still take; half of the machine's where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4e9


def _read_with_ffmpeg(path: Path, track: int | None, keep_channels: bool) -> Sound:
    """Read one sound track with FFmpeg's decoders."""
    import av

    # An open file rather than its name, which FFmpeg takes for a protocol where it contains a colon. Of the name only
    # the suffix matters, for files that have no header.
    with io.FileIO(path) as file:
        file.name = f"sound{path.suffix if path.suffix.isascii() else ''}"
        options = {"format_whitelist": ",".join(_CONTAINERS.split()), "protocol_whitelist": "none"}
        try:
            with av.open(file, options=options, metadata_errors="replace") as container:
                stream, notes = _choose_track(path, container, track)
                samples, rate, damaged = _decode(path, container, stream, keep_channels)
        except InputError:
            raise
        except (av.FFmpegError, ValueError, OSError, AttributeError, OverflowError):
            raise InputError(f"{path}: cannot be decoded as an audio or video file") from None
    return Sound(samples, rate, (*notes, *damaged))


def _choose_track(path: Path, container: Any, track: int | None) -> tuple[Any, list[str]]:
    """Return a sound track of a container, and a line on the choice where there are several and none was asked for."""
    from av.stream import Disposition

    streams = container.streams.audio
    if not streams:
        raise InputError(f"{path}: has no audio stream")
    if track is not None:
        if not 1 <= track <= len(streams):
            several = f"{len(streams)} sound tracks" if len(streams) > 1 else "one sound track"
            raise InputError(f"{path}: track {track}: the file has {several}; give --track a number up to that")
        return streams[track - 1], []
    secondary = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired

    def rank(stream: Any) -> tuple[bool, bool]:
        return not stream.disposition & Disposition.default, bool(stream.disposition & secondary)

    chosen = min(streams, key=rank)  # the first of equal ones
    if len(streams) == 1:
        return chosen, []
    number = streams.index(chosen) + 1
    language = f" ({chosen.language})" if chosen.language not in (None, "und") else ""
    return chosen, [f"{path}: takes sound track {number}{language} of {len(streams)}; --track chooses another"]


def _decode(path: Path, container: Any, stream: Any, keep_channels: bool) -> tuple[np.ndarray, int, list[str]]:
    """Return the samples (S, C) float32 of a track, its sample rate in Hz, and a line where it is damaged.

    The samples begin at the time zero of the file, and what its time stamps leave out is silent.
    """
    import av

    if stream.codec_context is None:
        raise InputError(f"{path}: its sound is coded in a way that FFmpeg does not know; export it again")
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    check_sample_rate(rate, str(path))
    layout = None if keep_channels else "stereo" if channels == 2 else "mono"
    width = channels if keep_channels else 2 if layout == "stereo" else 1
    start = float(container.start_time or 0) / av.time_base  # the time stamps of a broadcast do not begin at zero
    free = _free_memory()
    _check_length(path, float(container.duration or 0) / av.time_base * rate, width, rate, free)
    converter, blocks = _Converter(layout, rate, width), list[np.ndarray]()
    position, first, failures, successes = 0, True, 0, 0

    def append(block: np.ndarray) -> None:
        nonlocal position
        position += len(block)
        _check_length(path, position, width, rate, free)
        blocks.append(block)

    for frame in _frames(container, stream):
        if frame is None:
            failures += 1
            continue
        successes += 1
        if frame.pts is not None and frame.time_base:
            ahead = round((float(frame.pts * frame.time_base) - start) * rate) - position
            if ahead > (0 if first else GAP_SECONDS * rate):
                _check_length(path, position + ahead, width, rate, free)
                append(np.zeros((ahead, width), np.float32))
        first = False
        append(converter.convert(frame))
    append(converter.finish())
    if failures > successes:
        raise InputError(f"{path}: cannot be decoded as an audio or video file")
    if not position:
        raise InputError(f"{path}: contains no samples (zero length)")
    notes = [f"{path}: is damaged: {failures} of its parts cannot be decoded"] if failures else []
    return np.concatenate(blocks), rate, notes


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the decoded frames of a track, and None for each packet that cannot be decoded."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:  # the container ends in the middle of a packet
            yield None
            return
        try:
            yield from packet.decode()
        except EOFError:
            return
        except av.FFmpegError:
            yield None


class _Converter:
    """Converts frames to samples (S, `width`) float32 of one layout (None: the frame's own) and sample rate.

    A track may change its format on the way, as those of broadcasts do.
    """

    def __init__(self, layout: str | None, rate: int, width: int) -> None:
        self._layout, self._rate, self._width = layout, rate, width
        self._resamplers: dict[tuple[str, str, int], Any] = {}

    def convert(self, frame: Any) -> np.ndarray:
        """Return the samples of a frame."""
        from av import AudioResampler

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind not in self._resamplers:
            self._resamplers[kind] = AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        return self._join(self._resamplers[kind].resample(frame))

    def finish(self) -> np.ndarray:
        """Return the samples that the conversion still holds."""
        return self._join([out for resampler in self._resamplers.values() for out in resampler.resample(None)])

    def _join(self, frames: list[Any]) -> np.ndarray:
        blocks = [np.asarray(frame.to_ndarray(), np.float32).T for frame in frames if frame is not None]
        out = np.concatenate(blocks) if blocks else np.zeros((0, self._width), np.float32)
        return np.pad(out, ((0, 0), (0, max(0, self._width - out.shape[1]))))[:, : self._width]
