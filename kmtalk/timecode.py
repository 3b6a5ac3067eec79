"""Frame rates and SMPTE time codes: the exact NTSC rates behind their short names, and drop-frame counting."""

from __future__ import annotations

import re
from fractions import Fraction

from kmtalk.errors import InputError

MIN_FPS, MAX_FPS = 1.0, 10_000.0
"""Frames per second that a clip may have: at least the one, less than the other."""

FIRST_TIMECODE = "00:00:00:00"
"""The time code of frame 0, which every frame rate has."""

_NTSC_BASES = (24, 30, 48, 60, 120)  # whole rates that NTSC slows down by 1000/1001
_SHORT_NAMES = {23.98: 24, 47.95: 48}  # usual roundings that are further from the exact rate than _NTSC_TOLERANCE
_NTSC_TOLERANCE = 5e-4  # frames per second: 23.976, 29.97, 47.952, 59.94 and 119.88 mean the exact rates
_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})[:;.](\d{2,3})")


def parse_frame_rate(value: object) -> object:
    """Convert a frame rate to a float: a number, or text such as "25", "24000/1001" or "23.976".

    The short names of the NTSC rates mean the exact ones: 23.976 is 24000/1001, and so on for 29.97, 47.952, 59.94 and
    119.88. Values of other types are returned as they are.

    Raises:
        ValueError: The text is no frame rate.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        rate = float(Fraction(value.strip()) if isinstance(value, str) else value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"fps {str(value)[:80]}: give frames per second, as 25, 23.976 or 30000/1001") from None
    base = _SHORT_NAMES.get(rate)
    nearest = [n for n in _NTSC_BASES if n == base or abs(rate - n / 1.001) < _NTSC_TOLERANCE]
    return nearest[0] * 1000 / 1001 if nearest else rate


def ntsc_base(fps: float) -> int | None:
    """The whole rate that an NTSC rate is counted in, such as 30 for 29.97; None for all other rates."""
    return next((n for n in _NTSC_BASES if abs(fps - n / 1.001) < _NTSC_TOLERANCE), None)


def is_counted(fps: float) -> bool:
    """Whether time codes exist for a frame rate: a whole rate or an NTSC rate."""
    return ntsc_base(fps) is not None or abs(fps - round(fps)) < 1e-6


def _dropped_per_minute(fps: float) -> int:
    """Frame numbers that drop-frame counting leaves out at most minutes; 0 where a rate is counted without drops."""
    base = ntsc_base(fps)
    return base // 15 if base is not None and base % 30 == 0 else 0


def parse_timecode(text: str, fps: float) -> int:
    """Return the number of the frame that a time code names, counted from 00:00:00:00.

    Args:
        text: HH:MM:SS:FF; a semicolon before the frames is read as well.
        fps: Frames per second. 29.97, 59.94 and 119.88 are counted drop-frame, all others without drops.

    Raises:
        InputError: The text is no time code, or the rate has no such frame.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59 or int(match[3]) > 59:
        raise InputError(f"timecode {text}: give hours, minutes, seconds and frames, as 01:00:00:00")
    hours, minutes, seconds, frames = map(int, match.groups())
    if not is_counted(fps):
        if not any((hours, minutes, seconds, frames)):
            return 0
        raise InputError(f"timecode {text}: there are no time codes at {fps:g} fps; use a whole or an NTSC rate")
    base, dropped = ntsc_base(fps) or round(fps), _dropped_per_minute(fps)
    if frames >= base:
        raise InputError(f"timecode {text}: a second has frames 00 to {base - 1:02d} at {fps:g} fps")
    if seconds == 0 and minutes % 10 and frames < dropped:
        raise InputError(f"timecode {text}: drop-frame time codes leave this frame out; give {text[:-2]}{dropped:02d}")
    total_minutes = 60 * hours + minutes
    return (60 * total_minutes + seconds) * base + frames - dropped * (total_minutes - total_minutes // 10)


def format_timecode(frame: int, fps: float) -> str:
    """Return the time code of a frame, counted from 00:00:00:00: HH:MM:SS:FF, or HH:MM:SS;FF drop-frame.

    After 24 hours it begins again. The frame rate is one for which time codes exist (`is_counted`).
    """
    base, dropped = ntsc_base(fps) or round(fps), _dropped_per_minute(fps)
    in_ten, in_one = 600 * base - 9 * dropped, 60 * base - dropped
    tens, rest = divmod(frame, in_ten)
    if rest >= 60 * base:  # all minutes but the first of ten leave numbers out
        rest += dropped * ((rest - 60 * base) // in_one + 1)
    seconds, frames = divmod(tens * 600 * base + rest, base)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minute:02d}:{second:02d}{';' if dropped else ':'}{frames:02d}"


def timecode_seconds(text: str, fps: float) -> float:
    """Return the time of day in seconds that a time code shows: its hours, minutes and seconds, and its frames.

    Raises:
        InputError: As `parse_timecode`.
    """
    parse_timecode(text, fps)
    hours, minutes, seconds, frames = (int(part) for part in re.split("[:;.]", text.strip()))
    return 3600 * hours + 60 * minutes + seconds + frames / fps
