"""What control tells those who route: routes and keys, kept in memory and as a file.

For every process that has a ``Router`` of its own: gateways, and jobs. Connects to
``publish.sock``, applies what comes and acknowledges it; shows its presence, so that control stops
nothing that it may still send invocations to. Everything is appended to a file of this
process's own where it has one, so that it serves on after its restart while control is away. A file
of another life of the server is ignored: its instances are not there any more.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clary.messages import LineDecoder, ProtocolError, encode_line
from clary.metrics.registry import Registry
from clary.presence import FOLLOWERS, show_presence
from clary.resources.routing_table import EndpointRoute
from clary.router.router import Router

Keys = list[dict[str, Any]]
"""Access keys as they are published."""

RECONNECT_PAUSE_S = 0.05
REPORT_S = 1.0
DRAIN_REPORT_S = 0.1
REWRITE_AFTER_LINES = 1000


class Subscriber:
    """Follows control's publications for one process."""

    def __init__(
        self,
        socket_path: Path,
        file: Path | None,
        *,
        name: str,
        life: str,
        router: Router,
        registry: Registry,
        on_keys: Callable[[Keys], None] = lambda keys: None,
        on_table: Callable[[], None] = lambda: None,
        on_routes: Callable[[], None] = lambda: None,
    ) -> None:
        """Wire it up.

        Args:
            socket_path: ``publish.sock``.
            file: Where this process keeps what it was told; None: nowhere.
            name: Of this process.
            life: Name of this run of the server.
            router: Gets the routes.
            registry: Its counters are reported each second.
            on_keys: Gets the keys.
            on_table: Called when a first table is here.
            on_routes: Called when routes have changed.
        """
        self._socket_path = socket_path
        self._file = file
        self._name = name
        self._life = life
        self._router = router
        self._registry = registry
        self._on_keys = on_keys
        self._on_table = on_table
        self._on_routes = on_routes
        self._routes: dict[str, dict[str, Any]] = {}
        self._keys: Keys = []
        self._draining: list[str] = []
        """Instances that control was told to be draining."""
        self._lines = 0
        self._writer: asyncio.StreamWriter | None = None
        router.models.say = router.serverless.say = self.say

    def start(self) -> None:
        """Show this process's presence. Begin with the file, where there is one of this life.

        To be called before any invocation is taken; ``run`` comes after it.
        """
        show_presence(self._socket_path.parent / FOLLOWERS, self._name)
        if self._file is None:
            return
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                break  # the last line of a killed process
            if message.get("type") == "snapshot" and message.get("life") != self._life:
                return
            self._apply(message)

    async def run(self) -> None:
        """Follow control for ever, through its restarts."""
        while True:
            with suppress(OSError, ProtocolError):
                await self._follow()
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._socket_path))
        self._writer = writer
        writer.write(encode_line({"type": "follower", "name": self._name}))
        report = asyncio.create_task(self._report(writer))
        decoder = LineDecoder(limit=1 << 30)
        try:
            while data := await reader.read(1 << 20):
                messages = decoder.feed(data)
                for message in messages:
                    self._apply(message)
                    self._draining = self._router.draining()
                    acknowledged = {"type": "ack", "version": message["version"]}
                    writer.write(encode_line({**acknowledged, "draining": self._draining}))
                if messages and self._file is not None:
                    await asyncio.to_thread(self._keep, self._file, messages)
                await writer.drain()
        finally:
            report.cancel()
            self._writer = None
            writer.close()

    def say(self, message: Mapping[str, Any]) -> None:
        """Tell control something; while it is away, nothing."""
        if self._writer is not None:
            self._writer.write(encode_line(dict(message)))

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        """Send counters each second, and at once that an instance has been drained."""
        loop = asyncio.get_running_loop()
        is_first = True
        report_at = loop.time()
        needs = self._router.serverless.report()
        if needs:  # what a control process that is new does not know
            writer.write(encode_line(self._router.serverless.message(needs)))
        while True:
            await asyncio.sleep(DRAIN_REPORT_S)
            draining = self._router.draining()
            if draining != self._draining:
                self._draining = draining
                writer.write(encode_line({"type": "draining", "instances": draining}))
            if loop.time() >= report_at:
                report_at += REPORT_S
                self._report_metrics(writer, all_of_it=is_first)
                is_first = False
                needs = self._router.serverless.report()
                if needs:
                    writer.write(encode_line(self._router.serverless.message(needs)))
                used = self._router.models.usage()
                if used:
                    writer.write(encode_line({"type": "used", "models": used}))

    def _report_metrics(self, writer: asyncio.StreamWriter, *, all_of_it: bool) -> None:
        report = self._registry.report(all_of_it=all_of_it)
        writer.write(encode_line({"type": "metrics", **report}))

    def report_last(self) -> None:
        """Tell control what was counted since the last report, before this process ends."""
        if self._writer is not None:
            self._report_metrics(self._writer, all_of_it=False)

    def _apply(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "snapshot":
            self._routes = {route["name"]: route for route in message["routes"]}
            self._use_keys(message["keys"])
            self._router.apply_snapshot(
                [EndpointRoute.from_json(route) for route in message["routes"]]
            )
            self._router.models.apply_snapshot(message.get("models", {}))
            self._on_table()
            self._on_routes()
        elif kind in ("model", "model_refused", "release"):
            self._router.models.apply(message)
        elif kind == "route":
            name, route = message["name"], message["route"]
            if route is None:
                self._routes.pop(name, None)
                self._router.apply_route(name, None)
            else:
                self._routes[name] = route
                self._router.apply_route(name, EndpointRoute.from_json(route))
            self._on_routes()
        elif kind == "keys":
            self._use_keys(message["keys"])

    def _use_keys(self, keys: Keys) -> None:
        self._keys = keys
        self._on_keys(keys)

    def _keep(self, kept: Path, messages: list[dict[str, Any]]) -> None:
        """Bring the file up to date: append, or write it anew when it has grown long."""
        self._lines += len(messages)
        is_new = any(message["type"] == "snapshot" for message in messages)
        if is_new or self._lines > REWRITE_AFTER_LINES + 2 * len(self._routes):
            whole = {
                "type": "snapshot",
                "life": self._life,
                "routes": list(self._routes.values()),
                "keys": self._keys,
                "models": self._router.models.to_json(),
            }
            partial = kept.with_suffix(".partial")
            partial.touch(mode=0o600)
            partial.write_bytes(encode_line(whole))
            partial.replace(kept)
            self._lines = 1
            return
        with kept.open("ab") as file:
            file.write(b"".join(encode_line(message) for message in messages))
