"""kmtalk serve."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from kmtalk.cli.command import command
from kmtalk.cli.console import CommandOutput
from kmtalk.errors import InputError
from kmtalk.server.settings import ServerSettings


@command
def serve(
    console: CommandOutput,
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder of the jobs and their results.")] = Path(
        "kmtalk-server"
    ),
    settings: ServerSettings = ServerSettings(),
) -> None:
    """Serve a web page and an HTTP interface that animate speech: jobs wait in a queue, which a restart keeps."""
    try:
        import uvicorn

        from kmtalk.live.websocket import MOST_MESSAGE_BYTES
        from kmtalk.server.app import create_app, is_local
    except ImportError:
        raise InputError("kmtalk serve needs FastAPI: pip install 'kmtalk[server]'") from None
    if not is_local(settings.host) and settings.token is None:
        raise InputError(
            f"--host {settings.host}: others could use this server; set KMTALK_TOKEN, or give --token, "
            f"16 characters or more, such as {secrets.token_urlsafe(18)}"
        )
    config = uvicorn.Config(
        create_app(folder, settings, console.log),
        settings.host,
        settings.port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
        ws="websockets-sansio",
        ws_max_size=MOST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
    )
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise InputError(f"--port {settings.port}: is not free on {settings.host}; give another, or 0") from None
    host, port = socket.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    ending = "" if settings.token is None else f"?token={quote(settings.token)}"
    console.print(f"http://{shown}:{port}/{ending}")
    uvicorn.Server(config).run(sockets=[socket])
