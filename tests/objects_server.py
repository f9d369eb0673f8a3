"""A running embedded S3 of a test's own, without the rest of the server."""

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import uvicorn

from clary.objects.server import build_objects_app
from clary.signing.keys import AccessKey


class ObjectsServer:
    """Serves from a thread, on a free TCP port and on a Unix socket.

    Args:
        data_dir: Where it keeps its objects.
        keys: Access keys by id.
        auth_is_on: Whether signed chunks and forms are verified.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        keys: Mapping[str, AccessKey] | None = None,
        auth_is_on: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self.socket_path = data_dir / "o.sock"
        self._keys = dict(keys or {})
        self._auth_is_on = auth_is_on
        # With its protocol named, asyncio turns Nagle's algorithm off.
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._tcp.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._tcp.getsockname()[1]}"
        self._unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._started = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "ObjectsServer":
        self._unix.bind(str(self.socket_path))
        self._thread.start()
        assert self._started.wait(20), "the server does not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.socket_path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        app = build_objects_app(
            self.data_dir,
            region="us-east-1",
            account="123456789012",
            keys=lambda: self._keys,
            auth_is_on=self._auth_is_on,
        )
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config, self._started)
        await self._server.serve(sockets=[self._tcp, self._unix])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._event = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._event.set()
