"""Programs that receive poses by UDP."""

from __future__ import annotations

import datetime
import re
import socket
from collections.abc import Callable
from typing import Any, Protocol

from kmtalk.errors import InputError
from kmtalk.face.rig import Rig
from kmtalk.live import live_link, vmc
from kmtalk.live.frames import LiveFrame


class Receiver(Protocol):
    """Something that poses are sent to.

    Attributes:
        name: Its name in messages.
    """

    name: str

    def send(self, frame: LiveFrame, time: float) -> None:
        """Send a pose, which is due `time` seconds after the start; raises OSError where it cannot be sent."""
        ...

    def close(self) -> None:
        """Send no more."""
        ...


class _Udp:
    """Packets to one address."""

    def __init__(self, name: str, address: str, port: int, encode: Callable[[LiveFrame, float], bytes]) -> None:
        host, port = parse_address(address, port)
        self._address: Any
        try:
            family, _, _, _, self._address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError):
            raise InputError(f"{address}: there is no such host") from None
        self.name = f"{name} {host}:{port}"
        self._encode = encode
        self._socket = socket.socket(family, socket.SOCK_DGRAM)

    def send(self, frame: LiveFrame, time: float) -> None:
        self._socket.sendto(self._encode(frame, time), self._address)

    def close(self) -> None:
        self._socket.close()


def parse_address(address: str, port: int) -> tuple[str, int]:
    """Split HOST[:PORT] or [IPV6][:PORT]; `port` is the default.

    Raises:
        InputError: It is none of these.
    """
    found = re.fullmatch(r"(\[[^][]+\]|[^][:\s]+)(?::(\d{1,5}))?", address)
    if not found or (found[2] and not 0 < int(found[2]) < 65536):
        raise InputError(f"{address or repr(address)}: is no address; give HOST or HOST:PORT")
    return found[1].strip("[]"), int(found[2] or port)


def live_link_receiver(address: str, subject: str, fps: float) -> Receiver:
    """Return Unreal's Live Link at HOST[:PORT], which lists the face as `subject`.

    Raises:
        InputError: There is no such host.
    """
    encoder = live_link.LiveLinkEncoder(subject, fps)

    def encode(frame: LiveFrame, time: float) -> bytes:
        now = datetime.datetime.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return encoder.encode(frame, (now - midnight).total_seconds())

    return _Udp("Live Link Face", address, live_link.PORT, encode)


def vmc_receiver(address: str, rig: Rig) -> Receiver:
    """Return a program that receives the VMC protocol at HOST[:PORT].

    Raises:
        InputError: There is no such host, or python-osc is not installed.
    """
    return _Udp("VMC", address, vmc.PORT, vmc.VmcEncoder(rig).encode)
