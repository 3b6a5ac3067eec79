"""WebSockets: sound from other programs, and poses to web pages and other programs.

Sound comes as binary messages of float32 samples in [-1, 1], little-endian, mono. Poses go as JSON: first a message
with `fps`, `names` (ARKit's 52 shapes) and `rotations` (nine names, radians), then one with `frame`, `time`, `weights`
and `rotations` for each pose.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from kmtalk.errors import InputError
from kmtalk.exchange.arkit import LIVE_LINK_ORDER, LIVE_LINK_ROTATIONS
from kmtalk.live.frames import LiveFrame
from kmtalk.live.receivers import parse_address
from kmtalk.live.sources import SampleBuffer, SoundSource
from kmtalk.streaming.face_stream import mix_samples

PORT = 8765
MOST_MESSAGE_BYTES = 1 << 20
CLOSE_SECONDS = 1.0  # that those who listen have to take leave
_ORIGINS: list[Any] = [None, re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")]
"""Who may connect: programs, which name no origin, and pages that this machine serves; no page of another site. A page
that was opened as a file has the origin null, which any site can give to a frame of its own."""


def encode_header(
    fps: float, names: Sequence[str] = LIVE_LINK_ORDER, rotations: Sequence[str] = LIVE_LINK_ROTATIONS
) -> str:
    """Return the first message: what the values of the poses mean."""
    return json.dumps({"type": "header", "fps": fps, "names": names, "rotations": rotations})


def encode_pose(number: int, time: float, weights: np.ndarray, rotations: np.ndarray | None = None) -> str:
    """Return the message of a pose: the weights of shapes and rotations in radians, in the order of the header."""
    values = {
        "type": "pose",
        "frame": number,
        "time": round(time, 4),
        "weights": [round(w, 4) for w in weights.tolist()],
        "rotations": [] if rotations is None else [round(r, 5) for r in rotations.tolist()],
    }
    return json.dumps(values, separators=(",", ":"))


def decode_samples(message: bytes) -> np.ndarray:
    """Return the samples (S,) of a binary message.

    Raises:
        InputError: It is no whole number of float32 values.
    """
    if len(message) % 4:
        raise InputError("a message of sound must be float32 samples, four bytes each")
    return mix_samples(np.frombuffer(message, "<f4"))


def _serve(address: str, handler: Any) -> Any:
    """Start a WebSocket server at [HOST:]PORT in threads of its own."""
    try:
        from websockets.sync.server import serve
    except ImportError:
        raise InputError("WebSockets need websockets; pip install 'kmtalk[live]'") from None
    host, port = parse_address(address if not address.isdecimal() else f"127.0.0.1:{address}", PORT)
    try:
        server = serve(handler, host, port, max_size=MOST_MESSAGE_BYTES, compression=None, origins=_ORIGINS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{address}: cannot listen there ({reason})") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class WebSocketReceiver:
    """Sends poses to every program and page that connects to a WebSocket.

    Args:
        address: [HOST:]PORT to listen at; the host is this machine alone where none is given.
        fps: Frames per second.

    Raises:
        InputError: It cannot listen there, or websockets is not installed.
    """

    def __init__(self, address: str, fps: float) -> None:
        self._header = encode_header(fps)
        self._latest: tuple[int, str] = -1, ""
        self._news = threading.Condition()
        self._closed, self._listeners = False, 0
        self._server = _serve(address, self._handle)
        self.name = f"WebSocket ws://{':'.join(map(str, self._server.socket.getsockname()[:2]))}"

    def send(self, frame: LiveFrame, time: float) -> None:
        """Send a pose to all who listen; one that is slow gets the latest and not those before."""
        with self._news:
            message = encode_pose(frame.number, time, frame.weights, frame.rotations)
            self._latest = self._latest[0] + 1, message
            self._news.notify_all()

    def close(self) -> None:
        """Stop listening, and take leave of all who listen."""
        self._server.shutdown()
        with self._news:
            self._closed = True
            self._news.notify_all()
            self._news.wait_for(lambda: not self._listeners, timeout=CLOSE_SECONDS)

    def _handle(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        with self._news:
            self._listeners += 1
            seen = self._latest[0]
        try:
            connection.send(self._header)
            while True:
                with self._news:
                    if self._latest[0] == seen and not self._closed:
                        self._news.wait(timeout=5)
                    number, message = self._latest
                if number != seen:
                    seen = number
                    connection.send(message)
                elif self._closed:
                    connection.close(1001, "the face has ended")
                    return
                else:
                    connection.ping()
        except ConnectionClosed:
            return
        finally:
            with self._news:
                self._listeners -= 1
                self._news.notify_all()


class WebSocketSource(SoundSource):
    """Sound that one other program sends to a WebSocket.

    Args:
        address: [HOST:]PORT to listen at.
        rate: Sample rate of the sound in Hz.

    Raises:
        InputError: It cannot listen there, or websockets is not installed.
    """

    captures = True

    def __init__(self, address: str, rate: int) -> None:
        self.rate, self.buffer = rate, SampleBuffer()
        self._busy = threading.Lock()
        self._server = _serve(address, self._handle)
        self.name = f"ws://{':'.join(map(str, self._server.socket.getsockname()[:2]))}"

    def start(self) -> None:
        return

    def stop(self) -> None:
        self._server.shutdown()
        super().stop()

    def _handle(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        if not self._busy.acquire(blocking=False):
            connection.close(1013, "another program sends sound already")
            return
        try:
            for message in connection:
                try:
                    samples = decode_samples(message) if isinstance(message, bytes) else None
                except InputError as error:
                    connection.close(1003, str(error))
                    return
                if samples is None:
                    connection.close(1003, "send binary messages of float32 samples")
                    return
                self.buffer.put(samples)
        except ConnectionClosed:
            return
        finally:
            self._busy.release()
