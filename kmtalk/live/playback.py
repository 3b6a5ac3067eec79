"""Sending of poses at the moment they are due."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kmtalk.errors import InputError
from kmtalk.live.frames import LiveFrame
from kmtalk.live.receivers import Receiver

REMEMBERED_POSES = 100_000  # half an hour at 60 a second: a face may play for days


@dataclass
class PlaybackReport:
    """What was sent.

    Attributes:
        sent: Poses sent.
        dropped: Poses left out because the next one was due already.
        lateness: Seconds between the moment that each of the last `REMEMBERED_POSES` poses was due, or that its sound
            arrived, and its sending.
    """

    sent: int = 0
    dropped: int = 0
    lateness: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_POSES))

    def describe(self) -> str:
        """Return a line of text."""
        text = f"{self.sent} poses sent, {self.dropped} left out"
        if not self.lateness:
            return text
        half, most = np.percentile(np.array(self.lateness) * 1000, (50, 95))
        return f"{text}; late by {half:.1f} ms in the median, {most:.1f} ms in the 95th percentile"


def send_pose(receivers: Sequence[Receiver], frame: LiveFrame, time: float) -> None:
    """Send a pose, which is due `time` seconds after the start, to all receivers.

    Raises:
        InputError: A receiver cannot be reached.
    """
    for receiver in receivers:
        try:
            receiver.send(frame, time)
        except OSError as error:
            raise InputError(f"{receiver.name}: cannot be reached ({error.strerror})") from None


def play(
    frames: Iterable[LiveFrame],
    fps: float,
    receivers: Sequence[Receiver],
    report: PlaybackReport | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> PlaybackReport:
    """Send each pose when it is due: frame n is (n + 0.5) / fps seconds after the start.

    A pose that comes too late, so that the next one is due, is left out: the face keeps its place in time.

    Args:
        frames: The poses, in order.
        fps: Frames per second.
        receivers: To whom they are sent.
        report: Counts what is sent; None for a new one.
        advance: Called with the number of poses that are done.

    Raises:
        InputError: A receiver cannot be reached.
    """
    report = report or PlaybackReport()
    start = time.monotonic()
    for done, frame in enumerate(frames, 1):
        due = (frame.number + 0.5) / fps
        wait = start + due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        late = time.monotonic() - start - due
        if late > 1 / fps:
            report.dropped += 1
            continue
        send_pose(receivers, frame, due)
        report.sent += 1
        report.lateness.append(late)
        advance(done)
    return report
