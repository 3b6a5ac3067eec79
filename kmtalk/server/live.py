"""A face that follows a voice, on a page and for other programs: WebSocket in, poses out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse, Response
from pydantic import Field, ValidationError

from kmtalk.errors import InputError, describe_validation_error
from kmtalk.live.frames import LiveFrameConverter
from kmtalk.live.websocket import decode_samples, encode_header, encode_pose
from kmtalk.pipeline import KMTalk
from kmtalk.server.settings import ServerSettings
from kmtalk.stream_settings import StreamSettings
from kmtalk.streaming.face_stream import FaceStream, StreamedPose

PAGE = Path(__file__).parent / "live.html"
FACE_FILE = "live-face.html"
MOST_AHEAD_SECONDS = 3.0  # by which sound may be ahead of the clock: the server's time is not for whole files
MOST_WAITING = 500  # messages that wait while poses are made; then the client has to
IDLE_SECONDS = 30.0  # without sound, after which the place is given to others
MOST_REASON_BYTES = 123  # of a socket's closing frame
CLOSED_BUSY, CLOSED_WRONG, CLOSED_POLICY = 1013, 1003, 1008
_PAGE_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data:; media-src blob:; "
    "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_FACE_POLICY = "frame-ancestors 'self'"


class LiveRequest(StreamSettings):
    """The first message of a socket: what the sound is, and how the face follows it."""

    rate: int = Field(description="Sample rate of the sound in Hz.")
    fps: float = Field(default=60.0, description="Poses per second.")
    shapes: Literal["arkit", "rig"] = Field(
        default="arkit", description="Shapes of the poses: ARKit's 52 with rotations, or all of the default head."
    )


class LiveFaces:
    """The faces that follow a voice now; what they need is loaded for the first one.

    Args:
        folder: Folder of the server, for the page of the face.
        most: Most faces at a time.
        log: Receives one line for each face that ends.
    """

    def __init__(self, folder: Path, most: int, log: Callable[[str], None]) -> None:
        self._folder, self._most, self._log = folder, most, log
        self._count, self._lock = 0, threading.Lock()
        self._talk: KMTalk | None = None

    def enter(self) -> bool:
        """Take a place; returns False where there is none."""
        with self._lock:
            free = self._count < self._most
            self._count += free
            return free

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._count -= 1

    def begin(self, wanted: LiveRequest) -> FaceStream:
        """Begin a stream; raises InputError where a value cannot be used."""
        settings = StreamSettings.create(None, **{n: getattr(wanted, n) for n in StreamSettings.model_fields})
        return self._pipeline().stream(wanted.rate, wanted.fps, settings=settings)

    def face_page(self) -> Path:
        """Return the page with the default head, written at first use."""
        path = self._folder / FACE_FILE
        talk = self._pipeline()
        with self._lock:
            if not path.is_file():
                rest = np.zeros((2, len(talk.rig.shape_names)), np.float32)
                silence = np.zeros(1600, np.float32)
                temporary = path.with_name(f".{FACE_FILE}.part.html")
                talk.animation_of_stream(rest, 30.0, silence, 16_000).save(temporary)
                temporary.replace(path)
        return path

    def _pipeline(self) -> KMTalk:
        with self._lock:
            if self._talk is None:
                self._talk = KMTalk(warn=self._log)
            return self._talk


def add_live_face(app: FastAPI, folder: Path, settings: ServerSettings, log: Callable[[str], None]) -> None:
    """Add the page /live, and its socket /live/socket.

    The first message of the socket is a `LiveRequest` as JSON. The answer is the header of `kmtalk.live.websocket`.
    Then binary messages of samples go in, and poses come out; the text "end" asks for the last poses, after which the
    socket is closed.
    """
    faces = LiveFaces(folder, settings.max_live, log)
    # what an earlier version wrote is not shown
    (folder / FACE_FILE).unlink(missing_ok=True)

    @app.get("/live", response_class=HTMLResponse, include_in_schema=False)
    def live_page() -> Response:
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/live/face", response_class=HTMLResponse, include_in_schema=False)
    def live_face() -> Response:
        headers = {"Content-Security-Policy": _FACE_POLICY, "X-Content-Type-Options": "nosniff"}
        return FileResponse(faces.face_page(), media_type="text/html; charset=utf-8", headers=headers)

    @app.websocket("/live/socket")
    async def live_socket(socket: WebSocket) -> None:
        await socket.accept()
        if not faces.enter():
            await socket.close(CLOSED_BUSY, "as many faces as may follow a voice here; try again later")
            return
        try:
            await _follow(socket, faces)
        except WebSocketDisconnect:
            pass
        except InputError as error:
            reason = str(error).encode()[:MOST_REASON_BYTES].decode(errors="ignore")
            await socket.close(CLOSED_WRONG, reason)
        except TimeoutError:
            await socket.close(CLOSED_POLICY, f"no sound for {IDLE_SECONDS:g} s")
        finally:
            faces.leave()


async def _follow(socket: WebSocket, faces: LiveFaces) -> None:
    """Answer one socket until it closes.

    Raises:
        InputError: A message cannot be used.
        TimeoutError: No message came for `IDLE_SECONDS`.
    """
    first = await _receive(socket)
    if not isinstance(first, str):
        raise InputError("the first message must be text: JSON with rate")
    try:
        wanted = LiveRequest.model_validate_json(first)
    except ValidationError as error:
        raise InputError(describe_validation_error(error)) from None
    stream = await asyncio.to_thread(faces.begin, wanted)
    convert = LiveFrameConverter(stream.rig, stream.fps) if wanted.shapes == "arkit" else None
    await socket.send_text(
        encode_header(stream.fps) if convert else encode_header(stream.fps, stream.rig.shape_names, ())
    )

    def messages(poses: list[StreamedPose]) -> list[str]:
        if convert is None:
            return [encode_pose(p.number, p.time, p.weights) for p in poses]
        frames = [(p, convert.frame(p.number, p.weights)) for p in poses]
        return [encode_pose(p.number, p.time, f.weights, f.rotations) for p, f in frames]

    incoming: asyncio.Queue[str | bytes | Exception] = asyncio.Queue(MOST_WAITING)
    reader = asyncio.create_task(_read(socket, incoming))
    try:
        begin = time.monotonic()
        while True:
            # all that waits is taken at once, so that a server that was busy catches up
            samples, ends = _join([await incoming.get(), *(incoming.get_nowait() for _ in range(incoming.qsize()))])
            ahead = stream.received_seconds + len(samples) / stream.rate - (time.monotonic() - begin)
            if ahead > MOST_AHEAD_SECONDS:
                raise InputError(f"the sound is {ahead:.1f} s ahead of the clock; send it in real time")
            poses = await asyncio.to_thread(stream.feed, samples)
            if ends:
                poses += await asyncio.to_thread(stream.finish)
            for text in messages(poses):
                await socket.send_text(text)
            if ends:
                await socket.close()
                return
    finally:
        reader.cancel()


async def _read(socket: WebSocket, incoming: asyncio.Queue[str | bytes | Exception]) -> None:
    """Put the messages of a socket in a queue, and what ends it."""
    try:
        while True:
            await incoming.put(await _receive(socket))
    except (WebSocketDisconnect, TimeoutError) as error:
        await incoming.put(error)


def _join(messages: list[str | bytes | Exception]) -> tuple[np.ndarray, bool]:
    """Return the samples (S,) of messages, and whether they end with "end".

    Raises:
        InputError: A message cannot be used.
        Exception: What has ended the socket.
    """
    blocks = [np.zeros(0, np.float32)]
    for message in messages:
        if isinstance(message, Exception):
            raise message
        if message == "end":
            return np.concatenate(blocks), True
        if isinstance(message, str):
            raise InputError('send binary messages of float32 samples, or the text "end"')
        blocks.append(decode_samples(message))
    return np.concatenate(blocks), False


async def _receive(socket: WebSocket) -> str | bytes:
    """Return the next message.

    Raises:
        WebSocketDisconnect: The socket was closed.
        TimeoutError: None came for `IDLE_SECONDS`.
    """
    message = await asyncio.wait_for(socket.receive(), IDLE_SECONDS)
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    text: str | None = message.get("text")
    return text if text is not None else bytes(message.get("bytes") or b"")
