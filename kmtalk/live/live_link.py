"""Live Link Face: the UDP packets of Epic's iPhone app, which Unreal's Live Link receives on port 11111.

A packet is: version (1 byte, 6), device identifier and subject name (each with its length as int32), time of day as
frame number (int32) and fraction of a frame (float32), frame rate as numerator and denominator (int32 each), number of
values (1 byte, 61), and the values (float32); all big-endian.
"""

from __future__ import annotations

import struct
import uuid
from fractions import Fraction

import numpy as np

from kmtalk.exchange.arkit import LIVE_LINK_ORDER
from kmtalk.live.frames import LiveFrame

PORT = 11111
_VERSION = 6
_SWAPPED = {"jawRight": "jawLeft", "jawLeft": "jawRight", "mouthRight": "mouthLeft", "mouthLeft": "mouthRight"}
PACKET_ORDER = tuple(_SWAPPED.get(name, name) for name in LIVE_LINK_ORDER)
"""The 52 shapes in the order of a packet: left before right, where the app's CSV has right before left."""

_COLUMNS = np.array([LIVE_LINK_ORDER.index(name) for name in PACKET_ORDER])


class LiveLinkEncoder:
    """Encodes poses as packets of one subject.

    Args:
        subject: Name of the subject, as Unreal lists it.
        fps: Frames per second.
    """

    def __init__(self, subject: str, fps: float) -> None:
        rate = Fraction(fps).limit_denominator(1001)
        device = str(uuid.uuid5(uuid.NAMESPACE_URL, f"kmtalk:{subject}")).upper().encode()
        name = subject.encode()
        self._head = struct.pack("!Bi", _VERSION, len(device)) + device + struct.pack("!i", len(name)) + name
        self._rate = struct.pack("!ii", rate.numerator, rate.denominator)
        self._fps = fps

    def encode(self, frame: LiveFrame, time_of_day: float) -> bytes:
        """Return the packet of a pose.

        Args:
            frame: The pose.
            time_of_day: Seconds since midnight, which the receiver takes as the time code.
        """
        number = int(time_of_day * self._fps)
        time = struct.pack("!if", number, time_of_day * self._fps - number)
        values = np.concatenate([frame.weights[_COLUMNS], frame.rotations])
        return self._head + time + self._rate + struct.pack(f"!B{len(values)}f", len(values), *values.tolist())
