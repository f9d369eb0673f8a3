"""Tells gateways where invocations can go.

Serves ``publish.sock``: a gateway that connects gets everything, then every change. Publishing one
endpoint costs in proportion to that endpoint, not to the table. Gateways report their counters on
the same connection.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clary.messages import LineDecoder, ProtocolError, encode_line
from clary.resources.routing_table import EndpointRoute
from clary.signing.keys import AccessKey, dump_key

ACK_WAIT_S = 1.0
"""How long a publication waits for the gateways, in seconds. One that is slower, or dead, gets the
whole table when it connects again."""


class Publisher:
    """The routing table as control wants it, and the gateways that follow it."""

    def __init__(self, socket_path: Path, *, life: str, keys: Iterable[AccessKey]) -> None:
        """Prepare; ``start`` opens the socket.

        Args:
            socket_path: ``publish.sock``.
            life: Name of this run of the server.
            keys: Access keys at the start.
        """
        self._socket_path = socket_path
        self._life = life
        self._keys = list(keys)
        self._routes: dict[str, EndpointRoute] = {}
        self._version = 0
        self._gateways: set[Gateway] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the socket. Publish what is running before, so that gateways lose no route."""
        self._socket_path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._socket_path))
        self._socket_path.chmod(0o600)

    async def close(self) -> None:
        """Close the socket and all connections."""
        if self._server is not None:
            self._server.close()
        for gateway in list(self._gateways):
            gateway.writer.close()

    async def publish(self, name: str, route: EndpointRoute | None) -> None:
        """Make a route known, or take it back; return when the gateways have it."""
        if self._routes.get(name) == route:
            return
        if route is None:
            self._routes.pop(name, None)
        else:
            self._routes[name] = route
        data = None if route is None else route.to_json()
        await self._tell({"type": "route", "name": name, "route": data})

    async def use_keys(self, keys: Iterable[AccessKey]) -> None:
        """Replace the access keys."""
        new = list(keys)
        if new != self._keys:
            self._keys = new
            await self._tell({"type": "keys", "keys": [dump_key(key) for key in new]})

    def is_draining(self, instance_id: str) -> bool:
        """Whether a gateway has open invocations with an instance that has left the routes.

        Gateways say so with each acknowledgement, so it is right once ``publish`` has returned.
        """
        return any(instance_id in gateway.draining for gateway in self._gateways)

    def counters(self, endpoint: str) -> dict[str, dict[str, int]]:
        """Return the counters of an endpoint's variants, summed over the gateways.

        Those of a pipeline's containers are at ``<variant>/<container>``.
        """
        total: dict[str, dict[str, int]] = {}
        for gateway in self._gateways:
            for row in gateway.counters:
                if row["endpoint"] == endpoint:
                    _add(total.setdefault(row["variant"], {}), row)
                    for name, counters in row.get("containers", {}).items():
                        _add(total.setdefault(f"{row['variant']}/{name}", {}), counters)
        return total

    async def _tell(self, message: dict[str, Any]) -> None:
        self._version += 1
        line = encode_line({**message, "version": self._version})
        gateways = list(self._gateways)
        for gateway in gateways:
            gateway.writer.write(line)
        with suppress(TimeoutError):
            async with asyncio.timeout(ACK_WAIT_S):
                for gateway in gateways:
                    await gateway.has_seen(self._version)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gateway = Gateway(writer)
        snapshot = {
            "type": "snapshot",
            "version": self._version,
            "life": self._life,
            "routes": [route.to_json() for route in self._routes.values()],
            "keys": [dump_key(key) for key in self._keys],
        }
        writer.write(encode_line(snapshot))
        self._gateways.add(gateway)
        decoder = LineDecoder()
        try:
            while data := await reader.read(1 << 16):
                for message in decoder.feed(data):
                    gateway.take(message)
        except (OSError, ProtocolError):
            pass  # it connects again
        finally:
            self._gateways.discard(gateway)
            gateway.gone()
            writer.close()


def _add(sums: dict[str, int], counters: Mapping[str, Any]) -> None:
    for name, value in counters.items():
        if isinstance(value, int):
            sums[name] = sums.get(name, 0) + value


class Gateway:
    """One gateway that follows."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.counters: list[dict[str, Any]] = []
        self.draining: list[str] = []
        self._seen = -1
        self._is_gone = False
        self._changed = asyncio.Event()

    def take(self, message: dict[str, Any]) -> None:
        """Take a line of the gateway's."""
        if message.get("type") == "ack":
            self.draining = message.get("draining", [])
            self._seen = message["version"]
            self._changed.set()
        elif message.get("type") == "draining":
            self.draining = message["instances"]
        elif message.get("type") == "metrics":
            self.counters = message["variants"]

    def gone(self) -> None:
        """Its connection has closed: wait for it no more."""
        self._is_gone = True
        self._changed.set()

    async def has_seen(self, version: int) -> None:
        """Return when it has acknowledged a version, or has gone."""
        while self._seen < version and not self._is_gone:
            self._changed.clear()
            await self._changed.wait()
