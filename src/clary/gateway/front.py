"""The front door: who takes a request.

Invocations go to ``runtime``; health is answered here; all else is forwarded to control or objects
(``forwarding``). Requests are looked at in this order, cheapest first, so that the hot path is one
comparison of bytes.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from clary import __version__
from clary.errors import AccessDenied
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import render, service_fault
from clary.gateway.forwarding import (
    MESSAGE_LINKS,
    METRICS_PATH,
    Forwarder,
    Service,
    Target,
    find_service,
)
from clary.gateway.guard import Guard
from clary.gateway.http import HttpConnection, sweep
from clary.gateway.operations import ASYNC_PATH_END
from clary.gateway.requests import BodySink, Request
from clary.gateway.runtime import RuntimeApi
from clary.gateway.spans import SpanQueue
from clary.gateway.streaming import StreamInvocation
from clary.gateway.traced import TracedRuntimeApi
from clary.reading import ReadBuffers
from clary.router.router import Router
from clary.settings import Settings
from clary.signing import sigv4

SWEEP_S = 1.0
RUNTIME = Target("control", "sagemaker")
"""Where durable operations of the runtime go."""


class FrontDoor:
    """All HTTP of one gateway process; the ``Front`` of its connections."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        guard: Guard,
        services: dict[str, Service],
        *,
        life: str,
        on_demand: Mapping[str, Path],
        spans: SpanQueue | None = None,
    ) -> None:
        """Wire it up.

        Args:
            settings: All settings.
            router: Takes invocations.
            guard: Checks requests.
            services: Where to forward to: ``control``, ``neighbours``, and ``objects`` where there
                is one.
            life: Name of this run of the server.
            on_demand: Processes that are started when they are first needed, by name, with the
                file that is there once that has happened.
            spans: Where invocations leave their spans; None: they leave none.
        """
        self.connections: set[HttpConnection] = set()
        self.is_ready = False
        """Whether the routing table is here, so that requests can be taken."""
        self._settings = settings
        self._guard = guard
        self._clockwork = Clockwork()
        self._runtime = (
            RuntimeApi(settings, router, guard, self._clockwork)
            if spans is None
            else TracedRuntimeApi(settings, router, guard, self._clockwork, spans)
        )
        self.captured = self._runtime.captured
        """Captured calls, to be brought to jobs."""
        self._forwarder = Forwarder(settings, guard, services, self._clockwork)
        self._services = services
        self._life = life
        self._on_demand = on_demand
        self._buffers = ReadBuffers()
        self._sweeper: asyncio.TimerHandle | None = None

    def connect(self) -> HttpConnection:
        """Return the protocol for a new connection."""
        return HttpConnection(self, self._settings.gateway, self.connections, self._buffers)

    def start(self) -> None:
        """Begin to watch time-outs. Call once, on the event loop."""
        self._sweep()

    def _sweep(self) -> None:
        self._clockwork.tick()
        self._guard.tick()
        sweep(self.connections, self._settings.gateway)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    async def drain(self, limit_s: float) -> None:
        """Let requests in work end, then close all connections.

        Args:
            limit_s: Longest time to wait for them, in seconds.
        """
        deadline = time.monotonic() + limit_s
        for connection in list(self.connections):
            connection.stop()
        while self.connections and time.monotonic() < deadline:  # noqa: ASYNC110 - they end one by one
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            if isinstance(connection.responder, StreamInvocation):
                connection.responder.on_stop()
        await asyncio.sleep(0)  # for the last words of streams
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # Front --------------------------------------------------------------------------------

    def handle(self, connection: HttpConnection, request: Request) -> None:
        target = request.target
        if target.startswith(b"/endpoints/") and not is_for_bucket(request):
            if target.endswith(ASYNC_PATH_END):
                self._forward(connection, request, RUNTIME)
            else:
                self._runtime.handle(connection, request)
        elif target.partition(b"?")[0] == b"/_clary/health":
            self._answer_health(connection)
        else:
            self._forward(connection, request)

    def open_body(self, connection: HttpConnection, request: Request) -> BodySink | int:
        if request.target.startswith(b"/endpoints/") and not is_for_bucket(request):
            if request.target.endswith(ASYNC_PATH_END):
                return self._settings.gateway.max_control_body_bytes
            return self._runtime.open_body(connection, request)
        service = find_service(request)
        if service.process != "objects" or "objects" not in self._services:
            return self._settings.gateway.max_control_body_bytes
        try:
            access_key = self._authenticate(request, None, service)
        except AccessDenied as error:
            self._deny(connection, service.name, error)
            return 0
        return self._forwarder.stream(connection, request, service, access_key)

    def refuse(self, connection: HttpConnection, status: int, reason: str) -> bytes:
        body = json.dumps({"message": reason}).encode()
        return render(
            status,
            body,
            content_type=b"application/json",
            request_id=self._clockwork.next_request_id(),
            close=True,
        )

    # The rest -----------------------------------------------------------------------------

    def _forward(
        self, connection: HttpConnection, request: Request, service: Target | None = None
    ) -> None:
        service = service or find_service(request)
        is_s3 = service.process == "objects"
        try:
            digest = None if is_s3 else hashlib.sha256(request.body).hexdigest().encode()
            access_key = self._authenticate(request, digest, service)
        except AccessDenied as error:
            self._deny(connection, service.name, error)
            return
        self._forwarder.send(connection, request, service, access_key)

    def _authenticate(self, request: Request, payload_hash: bytes | None, target: Target) -> str:
        """Return the access key id that a request is made with; empty for none.

        Raises:
            AccessDenied: It may not come in.
        """
        if self._guard.auth_is_on:
            # Only objects checks forms, by the policy inside; any other process would take the
            # request for a verified one.
            if target.process == "objects" and is_browser_upload(request):
                return ""
            if is_message_link(request, target):
                return ""
            if is_scrape(request):
                self._guard.check_scrape(request)
                return ""
            return self._guard.check_signature(request, payload_hash, target.name).id
        self._guard.check_open(request)
        return self._guard.claimed_key(request)

    def _deny(self, connection: HttpConnection, service: str, error: AccessDenied) -> None:
        connection.respond(
            service_fault(
                service,
                error.code,
                error.message,
                403,
                self._clockwork.next_request_id(),
                close=connection.will_close,
            )
        )

    def _answer_health(self, connection: HttpConnection) -> None:
        facts = {
            "status": "ok" if self.is_ready else "starting",
            "version": __version__,
            "life": self._life,
            "authentication": "on" if self._guard.auth_is_on else "open",
            "services": {
                **{name: service.state for name, service in self._services.items()},
                **{
                    name: "started" if file.exists() else "not started"
                    for name, file in self._on_demand.items()
                },
            },
        }
        connection.respond(
            render(
                200 if self.is_ready else 503,
                json.dumps(facts).encode(),
                content_type=b"application/json",
                request_id=self._clockwork.next_request_id(),
                close=connection.will_close,
            )
        )


def is_for_bucket(request: Request) -> bool:
    """Whether a path that begins as an invocation's does is one in a bucket called "endpoints".

    No invocation has a query or another method than POST, and no POST to S3 comes without a query:
    those that matter for speed are told by that alone.
    """
    if request.method == b"POST" and b"?" not in request.target:
        return False
    scope = sigv4.scope_of(request.headers, request.query)
    return scope is not None and scope.service == "s3"


def is_browser_upload(request: Request) -> bool:
    """Whether this is a form upload to S3, which is signed inside its body.

    The same test as in ``objects/forms.py``: what passes here unsigned is a form there.
    """
    content_type = request.headers.get(b"content-type", b"")
    return request.method == b"POST" and content_type.lower().startswith(b"multipart/form-data")


def is_scrape(request: Request) -> bool:
    """Whether this asks for the metrics without a signature, as Prometheus does."""
    return (
        request.method == b"GET"
        and request.path == METRICS_PATH
        and sigv4.scope_of(request.headers, request.query) is None
    )


def is_message_link(request: Request, target: Target) -> bool:
    """Whether this is a link that SNS has sent to somebody: to confirm, to leave, to check."""
    return (
        request.method == b"GET"
        and target == ("neighbours", "sns")
        and request.path.startswith(MESSAGE_LINKS)
    )
