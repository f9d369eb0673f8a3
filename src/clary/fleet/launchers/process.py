"""Runs instances as processes of this machine.

The supervisor is the parent of each instance's host, so hosts outlive this process; we talk to a
host over its ``host.sock``, and hear of every change as it happens. For each instance there is one
task that follows it from start to end::

    spawn ─▶ connect ─▶ status lines ─▶ end of file ─▶ dead? ──no──▶ connect again
                                                         └─yes─▶ gone, or LOST when nobody asked
"""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clary.errors import TransientError
from clary.fleet.launchers.base import (
    InstanceState,
    InstanceStatus,
    LaunchOrder,
    ModelStatus,
    OnChange,
    OnUsage,
)
from clary.fleet.launchers.supervisor_client import Child, SupervisorClient
from clary.messages import LineDecoder, ProtocolError, encode_line, parse_address
from clary.resources.routing_table import ContainerRoute

_READ_BYTES = 64 * 1024
_CONNECT_PAUSE_S = 0.004
"""Between two tries to connect to a host that has just been started. It says nothing before it
listens, so this pause is what a new instance may lose. Doubled after each second; and longer when
many hosts start, for all of them together must leave the processors to the hosts."""
_CONNECT_PAUSE_MAX_S = 0.25
_CONNECT_PAUSE_PER_HOST_S = 0.001
_ALIVE_CHECK_S = 0.05
_ALIVE_CHECK_PER_HOST_S = 0.01
_RETRY_PAUSE_S = 0.5
_STOP_MARGIN_S = 5.0
_ADOPTION_S = 2.0
_LISTEN_CHECK_S = 0.25
_GROUP_CHECK_S = 0.02
_NO_SIGNAL = 0
"""Asks only whether there is somebody who would get one."""


_STARTING = InstanceStatus(state=InstanceState.STARTING)


@dataclass(slots=True, eq=False)
class _Host:
    id: str
    socket: Path
    status: InstanceStatus = _STARTING
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it has told its status, or is known to be dead."""
    is_stopping: bool = False
    writer: asyncio.StreamWriter | None = None
    following: asyncio.Task[None] | None = None
    stopping: asyncio.Task[None] | None = None


class ProcessLauncher:
    """A ``Launcher`` of processes.

    Args:
        supervisor: Parent of all processes.
        run_dir: ``R``; an instance's sockets lie in ``R/i/<id>``.
        host_command: Interpreter and program of a host, to which ``clary-host``, the label and the
            spec file are added.
        environment: Variables of the host process itself.
        stop_timeout_s: Time that a host gives its workers between SIGTERM and SIGKILL.
        on_change: Called with an instance's id whenever its status changes.
        on_usage: Called with what a host answers to ``{"op": "usage"}``.
    """

    def __init__(
        self,
        supervisor: SupervisorClient,
        run_dir: Path,
        host_command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stop_timeout_s: float,
        on_change: OnChange,
        on_usage: OnUsage = lambda instance_id, usage: None,
    ) -> None:
        self._supervisor = supervisor
        self._run_dir = run_dir
        self._host_command = tuple(host_command)
        self._environment = dict(environment)
        self._stop_timeout_s = stop_timeout_s
        self._on_change = on_change
        self._on_usage = on_usage
        self._hosts: dict[str, _Host] = {}
        self._connecting = 0
        self._listing: asyncio.Task[list[Child]] | None = None

    async def open(self) -> Sequence[str]:
        children = await self._supervisor.list()
        hosts = [self._follow(child.id) for child in children]
        # What is not known to be healthy is not routed to: hear all of them first.
        waits = [asyncio.ensure_future(host.heard.wait()) for host in hosts]
        if waits:
            _, late = await asyncio.wait(waits, timeout=_ADOPTION_S)
            for wait in late:
                wait.cancel()
        return [child.id for child in children]

    async def start(self, order: LaunchOrder) -> None:
        if order.instance_id in self._hosts:
            return
        try:
            await self._supervisor.spawn(
                order.instance_id,
                [*self._host_command, "clary-host", order.label, str(order.spec_file)],
                self._environment,
                order.spec_file.parent,
                order.log,
            )
        except asyncio.CancelledError:
            # Nobody knows whether it runs by now; who follows it will find out.
            self._follow(order.instance_id)
            raise
        self._follow(order.instance_id)

    def status(self, instance_id: str) -> InstanceStatus | None:
        host = self._hosts.get(instance_id)
        return None if host is None else host.status

    def tell(self, instance_id: str, request: Mapping[str, Any]) -> None:
        host = self._hosts.get(instance_id)
        if host is None or host.writer is None or host.is_stopping:
            raise TransientError(f"the host of instance {instance_id} cannot be reached")
        host.writer.write(encode_line(dict(request)))

    async def stop(self, instance_id: str) -> None:
        host = self._hosts.get(instance_id)
        if host is None or host.stopping is not None:
            return
        host.is_stopping = True
        host.stopping = asyncio.create_task(self._stop(host))

    async def close(self) -> None:
        tasks: list[asyncio.Task[Any]] = [
            task
            for host in self._hosts.values()
            for task in (host.following, host.stopping)
            if task is not None
        ]
        if self._listing is not None:
            tasks.append(self._listing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hosts.clear()
        self._supervisor.close()

    # One host -----------------------------------------------------------------------------

    def _follow(self, instance_id: str) -> _Host:
        host = self._hosts.get(instance_id)
        if host is None:
            host = _Host(instance_id, self._run_dir / "i" / instance_id / "host.sock")
            self._hosts[instance_id] = host
            host.following = asyncio.create_task(self._follow_to_the_end(host))
        return host

    async def _follow_to_the_end(self, host: _Host) -> None:
        returncode = None
        while True:
            try:
                returncode = await self._talk_until_dead(host)
                break
            except TransientError:  # of the supervisor; without it nothing lives for long
                await asyncio.sleep(_RETRY_PAUSE_S)
        host.heard.set()
        if host.is_stopping or host.status.state is InstanceState.FAILED:
            # A host that failed has said why; it may leave then.
            return
        # Workers outlive a host that was killed, and can serve until there is another instance.
        containers = await _still_listening(host.status.containers)
        self._set(
            host,
            InstanceStatus(
                state=InstanceState.LOST, reason=_why(returncode), containers=containers
            ),
        )

    async def _talk_until_dead(self, host: _Host) -> int | None:
        """Return the exit status of the host once it is dead."""
        while True:
            streams, returncode = await self._connect(host)
            if streams is None:
                return returncode
            reader, writer = streams
            try:
                await self._converse(host, reader, writer)
            finally:
                host.writer = None
                writer.close()

    async def _connect(
        self, host: _Host
    ) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, int | None]:
        """Return a connection to the host as soon as it listens; or none, and its exit status."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        next_check = 0.0
        self._connecting += 1
        try:
            while True:
                try:
                    return await asyncio.open_unix_connection(str(host.socket)), None
                except OSError:
                    pass  # nobody listens: it is not ready yet, or it is dead
                now = loop.time()
                if now >= next_check:
                    child = await self._find(host.id)
                    if child is None or not child.is_alive:
                        return None, child.returncode if child else None
                    next_check = now + max(
                        _ALIVE_CHECK_S, _ALIVE_CHECK_PER_HOST_S * self._connecting
                    )
                pause = _CONNECT_PAUSE_S * 2 ** min(int(now - began), 10)
                pause = min(pause, _CONNECT_PAUSE_MAX_S)
                await asyncio.sleep(max(pause, _CONNECT_PAUSE_PER_HOST_S * self._connecting))
        finally:
            self._connecting -= 1

    async def _converse(
        self, host: _Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take status lines until the connection ends."""
        host.writer = writer
        if host.is_stopping:
            writer.write(encode_line({"op": "stop"}))
        decoder = LineDecoder()
        try:
            while data := await reader.read(_READ_BYTES):
                for message in decoder.feed(data):
                    if "usage" in message:
                        self._on_usage(host.id, message["usage"])
                        continue
                    self._set(host, parse_status(message))
                    host.heard.set()
        except OSError:
            return  # connect again: it begins with the whole status
        except ProtocolError:
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _find(self, instance_id: str) -> Child | None:
        """Return what the supervisor knows of a host. Those who ask together share one answer."""
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._supervisor.list())
        children = await asyncio.shield(self._listing)
        return next((child for child in children if child.id == instance_id), None)

    async def _stop(self, host: _Host) -> None:
        self._set(host, InstanceStatus(state=InstanceState.STOPPING, reason=host.status.reason))
        while True:
            try:
                await self._end(host)
                await self._supervisor.forget(host.id)
                break
            except TransientError:
                await asyncio.sleep(_RETRY_PAUSE_S)
        del self._hosts[host.id]
        self._on_change(host.id)

    async def _end(self, host: _Host) -> None:
        """End the host, and workers that outlived it: politely first."""
        assert host.following is not None
        if host.writer is not None:
            host.writer.write(encode_line({"op": "stop"}))
        else:
            await self._supervisor.signal(host.id, signal.SIGTERM)
        await asyncio.wait([host.following], timeout=self._stop_timeout_s + _STOP_MARGIN_S)
        if not host.following.done():
            await self._supervisor.signal(host.id, signal.SIGKILL, group=True)
            await asyncio.wait([host.following])
        # From here on only workers can be left, in the process group of a host that was killed.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._stop_timeout_s
        number: int = signal.SIGTERM
        while await self._supervisor.signal(host.id, number, group=True):
            number = signal.SIGKILL if loop.time() > deadline else _NO_SIGNAL
            await asyncio.sleep(_GROUP_CHECK_S)

    def _set(self, host: _Host, status: InstanceStatus) -> None:
        if host.is_stopping and status.state is not InstanceState.STOPPING:
            # It may take a moment to hear of the stop; nothing is sent to it meanwhile.
            status = InstanceStatus(state=InstanceState.STOPPING, reason=status.reason)
        if status != host.status:
            host.status = status
            self._on_change(host.id)


def parse_status(message: Mapping[str, Any]) -> InstanceStatus:
    """Return the status in a line of ``host.sock``.

    Raises:
        ProtocolError: It is no status.
    """
    try:
        return InstanceStatus(
            state=InstanceState(message["state"]),
            reason=message.get("reason"),
            failed_containers=tuple(
                container["name"]
                for container in message["containers"]
                if container.get("has_failed")
            ),
            containers=tuple(
                ContainerRoute(
                    name=container["name"],
                    workers=tuple(
                        worker["address"]
                        for worker in container["workers"]
                        if worker["state"] == "ready"
                    ),
                )
                for container in message["containers"]
            ),
            models=tuple(
                ModelStatus(
                    name=model["name"],
                    state=model["state"],
                    address=model.get("address") or "",
                    memory_kib=model.get("memory_kib", 0),
                    reason=model.get("reason", ""),
                )
                for model in message.get("models", ())
            ),
            spare_memory_kib=int(message.get("spare_memory_kib", 0)),
            wanted_workers=message.get("wanted"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"no status of a host: {error!r}") from error


async def _still_listening(containers: Sequence[ContainerRoute]) -> tuple[ContainerRoute, ...]:
    """Return containers with the workers that still take connections; nothing if one has none."""
    alive = []
    for container in containers:
        workers = [address for address in container.workers if await _listens(address)]
        if not workers:
            return ()
        alive.append(ContainerRoute(name=container.name, workers=tuple(workers)))
    return tuple(alive)


async def _listens(address: str) -> bool:
    scheme, host, port = parse_address(address)
    try:
        async with asyncio.timeout(_LISTEN_CHECK_S):
            if scheme == "unix":
                _, writer = await asyncio.open_unix_connection(host)
            else:
                _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _why(returncode: int | None) -> str:
    if returncode is None:
        return "Its host process is gone."
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"Its host process was killed by {name}."
    return f"Its host process ended with status {returncode}."
