"""Tells gateways where invocations can go.

Serves ``publish.sock``: a gateway that connects gets everything, then every change. Publishing one
endpoint costs in proportion to that endpoint, not to the table. Gateways report their counters on
the same connection.

Whoever follows the routes shows its presence (``presence.py``), so that a control process that is
new, and has not heard of anybody yet, stops nothing that somebody still sends invocations to.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from clary.messages import LineDecoder, ProtocolError, encode_line
from clary.metrics.registry import NUMBERS, Item, totals
from clary.presence import FOLLOWERS, present
from clary.resources.routing_table import EndpointRoute
from clary.signing.keys import AccessKey, dump_key

ACK_WAIT_S = 1.0
"""How long a publication waits for the gateways, in seconds. One that is slower hears of it later;
one that has died gets the whole table when it connects again."""

_log = logging.getLogger(__name__)


class Publisher:
    """The routing table as control wants it, and the gateways that follow it."""

    def __init__(self, socket_path: Path, *, life: str, keys: Iterable[AccessKey]) -> None:
        """Prepare; ``start`` opens the socket.

        What gateways say of models goes to ``on_model_message``.

        Args:
            socket_path: ``publish.sock``.
            life: Name of this run of the server.
            keys: Access keys at the start.
        """
        self._socket_path = socket_path
        self._life = life
        self._keys = list(keys)
        self._followers = socket_path.parent / FOLLOWERS
        self._routes: dict[str, EndpointRoute] = {}
        self._version = 0
        self._left: dict[str, int] = {}
        """The version that workers of an instance left the routes with, if not all know it yet."""
        self._gateways: set[Gateway] = set()
        self._server: asyncio.Server | None = None
        self._models: dict[str, dict[str, Mapping[str, Any]]] = {}
        self.on_model_message: Callable[[Mapping[str, Any]], None] = lambda message: None
        """Takes what gateways say of the models of multi-model endpoints."""
        self.on_metrics: Callable[[Mapping[str, Any]], None] = lambda report: None
        """Takes gateways' reports of what they count."""
        self.on_needs: Callable[[Mapping[str, Any]], None] = lambda report: None
        """Takes what gateways say of the workers that calls of serverless variants need."""
        self.on_route: Callable[[str, EndpointRoute | None], None] = lambda name, route: None
        """Hears of every route."""
        self.on_changed: Callable[[str, str], None] = lambda kind, name: None
        """Takes kind and name of what another process has changed in the store."""

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
        old = self._routes.get(name)
        if old == route:
            return
        stay = set() if route is None else route.workers()
        for instance_id, _ in (set() if old is None else old.workers()) - stay:
            self._left[instance_id] = self._version + 1
        if route is None:
            self._routes.pop(name, None)
        else:
            self._routes[name] = route
        self.on_route(name, route)
        data = None if route is None else route.to_json()
        await self._tell({"type": "route", "name": name, "route": data})

    # Models of multi-model endpoints ------------------------------------------------------

    def models(self, instance_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the published models of an instance: name and place."""
        return self._models.get(instance_id, {})

    async def publish_model(
        self, instance_id: str, name: str, place: Mapping[str, Any] | None
    ) -> None:
        """Make known where a model takes calls, or that it does not any more."""
        models = self._models.setdefault(instance_id, {})
        if place is None:
            models.pop(name, None)
            if not models:
                del self._models[instance_id]
        else:
            models[name] = place
        message = {"type": "model", "instance": instance_id, "model": name, "place": place}
        await self._tell(message)

    async def refuse_model(self, instance_id: str, name: str, error: Mapping[str, Any]) -> None:
        """Tell those who wait for a model that it cannot be loaded."""
        await self._tell(
            {"type": "model_refused", "instance": instance_id, "model": name, "error": error}
        )

    async def release_model(self, instance_id: str, name: str) -> bool:
        """Have all gateways give up a model; False when it has an open call, and stays."""
        place = self._models.get(instance_id, {}).get(name)
        if place is None:
            return True  # no gateway knows it
        if not self._all_are_here():
            return False
        gateways = list(self._gateways)
        answers = [gateway.expect_release(instance_id, name) for gateway in gateways]
        await self._tell({"type": "release", "instance": instance_id, "model": name})
        # Each answers before it acknowledges. One that is slow may still send calls; one that has
        # gone gets everything anew when it connects again.
        is_free = all(
            answer.result() if answer.done() else gateway.is_gone
            for gateway, answer in zip(gateways, answers, strict=True)
        )
        await self.publish_model(instance_id, name, None if is_free else place)
        return is_free

    async def use_keys(self, keys: Iterable[AccessKey]) -> None:
        """Replace the access keys."""
        new = list(keys)
        if new != self._keys:
            self._keys = new
            await self._tell({"type": "keys", "keys": [dump_key(key) for key in new]})

    def is_draining(self, instance_id: str) -> bool:
        """Whether somebody has, or may yet send, invocations to workers that left the routes.

        Gateways say what they have open with each acknowledgement. One that has not acknowledged
        that the workers left, or is alive and not connected, may still send them some.
        """
        left_at = self._left.get(instance_id, 0)
        if any(g.seen < left_at or instance_id in g.draining for g in self._gateways):
            return True
        return not self._all_are_here()

    def _all_are_here(self) -> bool:
        return present(self._followers) <= {gateway.name for gateway in self._gateways}

    def reporters(self) -> int:
        """Return how many processes follow the routes, and report what they count."""
        return len(self._gateways)

    def counters(self, endpoint: str) -> dict[str, dict[str, int]]:
        """Return the counters of an endpoint's variants, summed over the gateways.

        Those of a pipeline's containers are at ``<variant>/<container>``.
        """
        total: dict[str, dict[str, int]] = {}
        for gateway in self._gateways:
            mine = [(item, row) for item, row in gateway.counters.items() if item[0] == endpoint]
            for row in totals(mine):
                _add(total.setdefault(str(row["variant"]), {}), row)
                inside: Any = row.get("containers", {})
                for name, counters in inside.items():
                    _add(total.setdefault(f"{row['variant']}/{name}", {}), counters)
        return total

    async def _tell(self, message: dict[str, Any]) -> None:
        self._version += 1
        line = encode_line({**message, "version": self._version})
        gateways = list(self._gateways)
        for gateway in gateways:
            gateway.writer.write(line)
        version = self._version
        try:
            async with asyncio.timeout(ACK_WAIT_S):
                for gateway in gateways:
                    await gateway.has_seen(version)
        except TimeoutError:
            slow = sorted(g.name for g in gateways if g.seen < version and not g.is_gone)
            _log.warning("%s: no word for %s s; going on", ", ".join(slow), ACK_WAIT_S)
        else:
            self._left = {id: left_at for id, left_at in self._left.items() if left_at > version}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gateway = Gateway(
            writer, self.on_model_message, self.on_metrics, self.on_changed, self.on_needs
        )
        snapshot = {
            "type": "snapshot",
            "version": self._version,
            "life": self._life,
            "routes": [route.to_json() for route in self._routes.values()],
            "keys": [dump_key(key) for key in self._keys],
            "models": self._models,
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

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        on_model_message: Callable[[Mapping[str, Any]], None],
        on_metrics: Callable[[Mapping[str, Any]], None],
        on_changed: Callable[[str, str], None] = lambda kind, name: None,
        on_needs: Callable[[Mapping[str, Any]], None] = lambda report: None,
    ) -> None:
        self.writer = writer
        self._on_needs = on_needs
        self._on_metrics = on_metrics
        self._on_changed = on_changed
        self._on_model_message = on_model_message
        self._releases: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self.counters: dict[Item, dict[str, int]] = {}
        self.name = ""
        """That it shows its presence under."""
        self.draining: list[str] = []
        self.seen = -1
        """The newest version that it has acknowledged."""
        self.is_gone = False
        self._changed = asyncio.Event()

    def take(self, message: dict[str, Any]) -> None:
        """Take a line of the gateway's."""
        if message.get("type") == "ack":
            self.draining = message.get("draining", [])
            self.seen = message["version"]
            self._changed.set()
        elif message.get("type") == "follower":
            self.name = message["name"]
        elif message.get("type") == "draining":
            self.draining = message["instances"]
        elif message.get("type") == "metrics":
            self._count(message)
            self._on_metrics(message)
        elif message.get("type") == "needs":
            self._on_needs(message)
        elif message.get("type") == "changed":
            self._on_changed(message["kind"], message["name"])
        elif message.get("type") == "released":
            answer = self._releases.pop((message["instance"], message["model"]), None)
            if answer is not None and not answer.done():
                answer.set_result(message["ok"])
        else:
            self._on_model_message(message)

    def _count(self, report: Mapping[str, Any]) -> None:
        for endpoint, variant, config, container, row in report["items"]:
            item = (endpoint, variant, config, container)
            self.counters[item] = {name: row[name] for name in NUMBERS}
        for endpoint, variant, config, container, _number in report["gone"]:
            self.counters.pop((endpoint, variant, config, container), None)

    def expect_release(self, instance_id: str, name: str) -> "asyncio.Future[bool]":
        """Return what will hold whether the gateway has given a model up."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._releases[instance_id, name] = answer
        return answer

    def gone(self) -> None:
        """Its connection has closed: wait for it no more."""
        self.is_gone = True
        self._changed.set()

    async def has_seen(self, version: int) -> None:
        """Return when it has acknowledged a version, or has gone."""
        while self.seen < version and not self.is_gone:
            self._changed.clear()
            await self._changed.wait()
