"""Serves an ASGI application on a Unix socket, for requests that the gateway forwards."""

import asyncio
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from clary.supervisor.sockets import open_unix

KEEP_ALIVE_S = 3600
"""Longer than the gateway keeps an idle connection, so that it is the gateway that closes."""

STOP_S = 5


async def serve_unix(app: ASGIApp, path: Path) -> None:
    """Serve on a socket of this process's own, as ``serve_listener`` does."""
    await serve_listener(app, open_unix(str(path)))


async def serve_inherited(app: ASGIApp) -> None:
    """Serve on the socket that the supervisor owns, as ``serve_listener`` does."""
    await serve_listener(app, socket.socket(fileno=int(os.environ["CLARY_LISTEN_FD"])))


async def serve_listener(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until cancelled; then let requests in work end for a short while."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        backlog=4096,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


class Server(uvicorn.Server):
    """Uvicorn that leaves signals alone: the role has handlers of its own."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture nothing."""
        yield
