"""Passes requests that are no invocations to control, objects or neighbours, streamed both ways.

Finds the service of a request by its SigV4 scope, presigned query, target header or action, as AWS
clients name no other (client-flows.md 0). While the process behind is away, requests wait for it a
bounded time: a restart of control takes less than a second.
"""

import asyncio
import time
from typing import NamedTuple

from clary.gateway.answering import MAX_COPIED
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import service_fault
from clary.gateway.guard import Guard
from clary.gateway.http import HttpConnection
from clary.gateway.requests import Request
from clary.router.http_client import (
    NO_BODY_STATUSES,
    Exchange,
    unix_pool,
)
from clary.router.http_client import (
    HttpConnection as Upstream,
)
from clary.settings import Settings
from clary.signing import sigv4

RETRY_PAUSE_S = 0.05
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    }
)
REPEATABLE_METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE"})
READING_VERBS = (b"Describe", b"Get", b"List")


PROCESSES = {
    "s3": "objects",
    "iam": "neighbours",
    "sns": "neighbours",
    "sqs": "neighbours",
    "ecr": "neighbours",
}
"""Who serves what a signature names; control serves all else."""

TARGETS = {b"AmazonSQS": "sqs", b"AmazonEC2ContainerRegistry_V20150921": "ecr"}
"""Services that unsigned requests name by the target header."""

METRICS_PATH = b"/metrics"
"""What Prometheus reads. A bucket of this name is found by requests that are signed."""

MESSAGE_LINKS = b"/_clary/sns"
"""Where links in messages of SNS lead. Their readers have no keys: the link is the permission."""


class Target(NamedTuple):
    """Who a request is for."""

    process: str
    """``control``, ``objects`` or ``neighbours``."""
    name: str
    """Service as its signature names it, such as ``sagemaker`` or ``s3``."""


class Service:
    """A process behind the gateway."""

    def __init__(self, name: str, socket_path: str) -> None:
        self.name = name
        self.pool = unix_pool(socket_path)
        self.state = "unknown"
        """``up`` or ``down``, as the last connection attempt found it."""

    async def connect(self) -> Upstream:
        """Return a new connection.

        Raises:
            OSError: The process is away.
        """
        try:
            upstream = await self.pool.open()
        except OSError:
            self.state = "down"
            raise
        self.state = "up"
        return upstream

    async def find(self) -> None:
        """Try until the process answers, so that health knows of it before the first request."""
        while True:
            try:
                self.pool.give_back(await self.connect())
                return
            except OSError:
                await asyncio.sleep(RETRY_PAUSE_S)


def find_service(request: Request) -> Target:
    """Return who a request is for; nothing is verified."""
    headers = request.headers
    scope = sigv4.scope_of(headers, request.query)
    if scope is not None:
        return Target(PROCESSES.get(scope.service, "control"), scope.service)
    path = request.path
    if path.startswith(MESSAGE_LINKS):
        return Target("neighbours", "sns")
    target = headers.get(b"x-amz-target")
    if target is not None:
        service = TARGETS.get(target.partition(b".")[0], "sagemaker")
        return Target(PROCESSES.get(service, "control"), service)
    if path.startswith(b"/_clary") or path == METRICS_PATH:
        return Target("control", "sagemaker")
    content_type = headers.get(b"content-type", b"")
    if request.method == b"POST" and content_type.startswith(b"application/x-www-form-urlencoded"):
        return Target("control", "sts")
    if path == b"/" and (b"Action=" in request.query or not _names_a_bucket(headers)):
        return Target("control", "sts" if b"Action=" in request.query else "sagemaker")
    return Target("objects", "s3")


def is_repeatable(request: Request) -> bool:
    """Whether a request may be sent again when its answer was lost.

    Operations that create or change are not: the process may have died after its commit.
    """
    if request.method in REPEATABLE_METHODS:
        return True
    operation = request.headers.get(b"x-amz-target", b"").rpartition(b".")[2]
    return operation.startswith(READING_VERBS)


def _names_a_bucket(headers: dict[bytes, bytes]) -> bool:
    """Whether the host is of the form ``bucket.host``."""
    host = headers.get(b"host", b"").partition(b":")[0]
    return host.count(b".") > 0 and not host.replace(b".", b"").isdigit()


class Forwarder:
    """Starts exchanges with the processes behind."""

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        services: dict[str, Service],
        clockwork: Clockwork,
    ) -> None:
        self.wait_s = settings.gateway.control_wait_s
        self.clockwork = clockwork
        self._guard = guard
        self._services = services
        self._tasks: set[asyncio.Task[None]] = set()

    def send(
        self, connection: HttpConnection, request: Request, target: Target, access_key: str
    ) -> None:
        """Forward a request whose body is whole."""
        exchange = self._exchange(connection, request, target, access_key)
        if exchange is not None:
            exchange.finish_body()
            self.begin(exchange)

    def stream(
        self, connection: HttpConnection, request: Request, target: Target, access_key: str
    ) -> "ForwardExchange | int":
        """Forward a request whose body is still to come; return what takes it."""
        exchange = self._exchange(connection, request, target, access_key)
        if exchange is None:
            return 0
        self.begin(exchange)
        return exchange

    def _exchange(
        self, connection: HttpConnection, request: Request, target: Target, access_key: str
    ) -> "ForwardExchange | None":
        service = self._services.get(target.process)
        request_id = self.clockwork.next_request_id()
        if service is None:
            connection.respond(
                service_fault(
                    target.name,
                    "NotImplemented",
                    "This server keeps no objects: the setting storage.s3_endpoint_url names "
                    "another S3. Point the S3 client there (AWS_ENDPOINT_URL_S3).",
                    501,
                    request_id,
                    close=connection.will_close,
                )
            )
            return None
        exchange = ForwardExchange(self, service, connection, request, target, request_id)
        exchange.set_head(access_key)
        connection.responder = exchange
        return exchange

    def begin(self, exchange: "ForwardExchange") -> None:
        """Give an exchange a connection, now or as soon as there is one."""
        if not exchange.service.pool.begin(exchange):
            task = asyncio.get_running_loop().create_task(self._open(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, exchange: "ForwardExchange") -> None:
        service = exchange.service
        while not exchange.has_ended():
            try:
                upstream = await service.connect()
            except OSError:
                if time.monotonic() >= exchange.give_up_at:
                    exchange.fail()
                    return
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            if exchange.has_ended():
                service.pool.give_back(upstream)
            else:
                upstream.begin(exchange)
            return


class ForwardExchange(Exchange):
    """One forwarded request: a ``BodySink`` and ``Responder`` on the client's side."""

    __slots__ = (
        "_client",
        "_early",
        "_forwarder",
        "_has_whole_body",
        "_head",
        "_held",
        "_is_chunked",
        "_is_started",
        "_request",
        "_request_id",
        "_target",
        "give_up_at",
        "is_over",
        "service",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        service: Service,
        client: HttpConnection,
        request: Request,
        target: Target,
        request_id: bytes,
    ) -> None:
        super().__init__()
        self.service = service
        self.is_head = request.method == b"HEAD"
        self.is_over = False
        self.give_up_at = time.monotonic() + forwarder.wait_s
        self._forwarder = forwarder
        self._client = client
        self._request = request
        self._target = target
        self._request_id = request_id
        self._head = b""
        self._is_chunked = b"transfer-encoding" in request.headers
        self._early: list[bytes] = []
        self._has_whole_body = False
        self._is_started = False
        self._held = b""
        """Head of a response of known length, until the first of its body is there, and both leave
        in one write. Clients take a head without its body for an empty answer, when the process
        behind, or this one, dies in between."""

    def has_ended(self) -> bool:
        """Whether nothing more is wanted of the upstream."""
        return self.is_over

    def set_head(self, access_key: str) -> None:
        """Build request line and headers; ours replace what a client sent under our names."""
        request = self._request
        lines = [request.method + b" " + request.target + b" HTTP/1.1"]
        lines += [
            name + b": " + value
            for name, value in request.headers.items()
            if name not in HOP_BY_HOP and not name.startswith(b"x-clary-")
        ]
        lines.append(b"x-clary-request-id: " + self._request_id)
        lines.append(b"x-clary-service: " + self._target.name.encode("latin-1", "replace"))
        if access_key:
            lines.append(b"x-clary-access-key: " + access_key.encode("latin-1", "replace"))
        self._head = b"\r\n".join(lines) + b"\r\n"

    def finish_body(self) -> None:
        """The request's body is whole already: it can be sent with a length, and again."""
        self._has_whole_body = True
        self._is_chunked = False

    # BodySink -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        upstream = self.connection
        if upstream is None:
            self._early.append(data)
            self._client.pause_reading()
            return
        self._write(upstream, data)
        if upstream.is_full:
            self._client.pause_reading()

    def end(self) -> None:
        if self.connection is None:
            self._early.append(b"")
        else:
            self._write(self.connection, b"")

    def _write(self, upstream: Upstream, data: bytes) -> None:
        if self._is_chunked:
            upstream.write(b"%x\r\n" % len(data))
            upstream.write(data + b"\r\n" if len(data) < 1024 else data)
            if len(data) >= 1024:
                upstream.write(b"\r\n")
        elif data:
            upstream.write(data)

    # Exchange -----------------------------------------------------------------------------

    def on_connected(self) -> None:
        upstream = self.connection
        assert upstream is not None
        request = self._request
        if self._has_whole_body:
            length = b"content-length: %d\r\n\r\n" % len(request.body)
            upstream.write(self._head + length + request.body)
            return
        if self._is_chunked:
            upstream.write(self._head + b"transfer-encoding: chunked\r\n\r\n")
        else:
            upstream.write(self._head + b"content-length: %d\r\n\r\n" % (request.body_bytes or 0))
        early, self._early = self._early, []
        for data in early:
            self._write(upstream, data)
        self._client.resume_reading()

    def on_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        client = self._client
        length: bytes | None = None
        lines = [b"HTTP/1.1 %d %s" % (status, b"OK" if status == 200 else b"Status")]
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length":
                length = value
            elif lower not in HOP_BY_HOP:
                lines.append(name + b": " + value)
        has_body = not self.is_head and status not in NO_BODY_STATUSES
        chunked = has_body and length is None and not client.is_http_1_0
        if length is not None:
            lines.append(b"content-length: " + length)
        elif chunked:
            lines.append(b"transfer-encoding: chunked")
        elif has_body:
            client.close_after_response()
        if client.will_close:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if has_body and length is not None:
            self._held = head
        else:
            self._start(head, chunked=chunked)

    def _start(self, head: bytes, *, chunked: bool = False) -> None:
        self._is_started = True
        self._held = b""
        self._client.start(head, chunked=chunked)

    def on_data(self, data: bytes) -> None:
        if not self._held:
            self._client.send(data)
        elif len(data) < MAX_COPIED:
            self._start(self._held + data)
        else:
            self._start(self._held)
            self._client.send(data)
        if self._client.is_full and self.connection is not None:
            self.connection.pause_reading()

    def on_end(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._held:
                self._start(self._held)
            self._client.end()

    def on_error(self, error: Exception) -> None:
        self.connection = None
        if self.is_over:
            return
        if self._is_started:
            self.is_over = True
            self._client.abort()
            return
        self._held = b""
        if (
            self._has_whole_body
            and is_repeatable(self._request)
            and time.monotonic() < self.give_up_at
        ):
            self._forwarder.begin(self)
        else:
            self.fail()

    def on_writable(self) -> None:
        self._client.resume_reading()

    def fail(self) -> None:
        """Answer that the process behind is away."""
        self.is_over = True
        self._client.respond(
            service_fault(
                self._target.name,
                "ServiceUnavailable",
                f"The {self.service.name} process is not available. Try again in a moment.",
                503,
                self._request_id,
                close=self._client.will_close,
            )
        )

    # Responder ----------------------------------------------------------------------------

    def on_client_gone(self) -> None:
        self.is_over = True
        if self.connection is not None:
            self.connection.abort()

    def on_client_writable(self) -> None:
        if self.connection is not None:
            self.connection.resume_reading()
