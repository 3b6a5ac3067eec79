"""What protects the server: ASGI middleware that limits the size of requests and checks where they come from."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_COOKIE = "kmtalk-token"
LINGER_SECONDS = 5.0  # in which the rest of a request that is too large is taken in


async def _refuse(
    send: Send, status: int, detail: str, scope: Scope | None = None, receive: Receive | None = None
) -> None:
    """Answer with a problem; with `receive`, of a request whose body is still coming, and close its connection.

    Some of the rest is taken in before: a connection that is closed over unread bytes is reset, and the client may
    never see the answer (RFC 9112, 9.6).
    """
    if scope is not None and scope["type"] == "websocket":  # before it is accepted, which the client sees as 403
        await send({"type": "websocket.close", "code": 1008, "reason": detail[:120]})
        return
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if receive is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": receive is not None})
    if receive is None:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})


class SizeLimit:
    """Refuses requests of more than `limit` bytes, by their header or as soon as more have come.

    Args:
        app: The application.
        limit: Bytes.
    """

    def __init__(self, app: App, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the request is larger than {self._limit / 1e6:g} MB"
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > self._limit:
            await _refuse(send, 413, detail, receive=receive)
            return
        received = 0

        async def limited_receive() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > self._limit else message

        async def limited_send(message: MutableMapping[str, Any]) -> None:
            if received <= self._limit:
                await send(message)

        try:
            await self._app(scope, limited_receive, limited_send)
        except Exception:
            if received <= self._limit:
                raise
        if received > self._limit:
            await _refuse(send, 413, detail, receive=receive)


class AccessCheck:
    """Refuses requests for other hosts, from pages of other origins, and without the token.

    A page on the web may make a browser send requests to a server on the same machine. Such requests carry the origin
    of the page, or another host name that leads to this machine.

    Args:
        app: The application.
        hosts: Names of this server, without port; None takes any.
        token: What a request must bring, as a bearer token or as a cookie; None for nothing.
    """

    def __init__(self, app: App, hosts: frozenset[str] | None, token: str | None) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            await _refuse(send, 400, "the request is for another host", scope)
        elif origin and urlsplit(origin).netloc != host:
            await _refuse(send, 403, "the request comes from a page of another origin", scope)
        elif self._token is not None and not self._has_token(scope):
            await _refuse(send, 401, "the token is missing or wrong; open the address that kmtalk serve printed", scope)
        else:
            await self._app(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        bearer = _header(scope, b"authorization").removeprefix("Bearer ")
        cookie = SimpleCookie()
        with suppress(CookieError):
            cookie.load(_header(scope, b"cookie"))
        from_cookie = cookie[TOKEN_COOKIE].value if TOKEN_COOKIE in cookie else ""
        from_page = ""
        if scope.get("path") == "/" and scope.get("method") == "GET":
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            from_page = query.get("token", [""])[0]
        given = (bearer, from_cookie, from_page)
        wanted = (self._token or "").encode()
        return any([secrets.compare_digest(one.encode(), wanted) for one in given])


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope.get("headers", []):
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    return (urlsplit(f"//{host}").hostname or "") if host.isprintable() and "/" not in host else ""


class RateLimit:
    """Counts what each address does in the last minute.

    Args:
        per_minute: Most that one may do.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def allows(self, address: str) -> bool:
        """Return whether an address may do one more, and count it."""
        now = time.monotonic()
        with self._lock:
            for known in [a for a, times in self._times.items() if now - times[-1] > 60]:
                del self._times[known]
            times = self._times.setdefault(address, deque())
            while times and now - times[0] > 60:
                times.popleft()
            if len(times) >= self._per_minute:
                return False
            times.append(now)
            return True
