"""Invocations: from an HTTP request to the router.

The paths and headers are in ``operations``, the answers in ``invocations`` and ``streaming``. The
body stays bytes and is not looked at.
"""

import hashlib
import random
import re
import time
from urllib.parse import unquote_to_bytes

from clary.errors import AccessDenied, InvalidRequest, NotFound, Overloaded, Throttled
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import runtime_fault
from clary.gateway.guard import Guard
from clary.gateway.http import HttpConnection
from clary.gateway.invocations import GatewayInvocation, InvocationBody
from clary.gateway.operations import (
    ADAPTER,
    COMPONENT,
    INVOKE,
    MAX_REMEMBERED,
    OPERATIONS,
    SESSION_ID,
    TARGET_MODEL,
    TRACEPARENT,
    TRACESTATE,
    Operation,
    checked_model_name,
    fault,
    invalid,
    member_name,
)
from clary.gateway.replies import Replies
from clary.gateway.requests import BodySink, Request
from clary.gateway.streaming import StreamInvocation
from clary.messages import with_trace
from clary.resources.trace_context import TraceContext, read_context
from clary.router.capture import CaptureQueue, Recording
from clary.router.components import find_route
from clary.router.router import Router
from clary.router.sessions import Session
from clary.settings import Settings

STREAM_FROM_BYTES = 256 * 1024
"""Bodies from this length on are passed to the worker while they arrive."""

ONLY_TARGET_MODEL = {TARGET_MODEL}
ONLY_COMPONENT = {COMPONENT}
ONLY_TRACE = {TRACEPARENT}

NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
COMPONENT_PATTERN = re.compile(r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?")
COMPONENT_PATTERN_TEXT = r"^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?$"
NAME_PATTERN_TEXT = "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"


class RuntimeApi:
    """The operations of ``sagemaker-runtime``."""

    def __init__(
        self, settings: Settings, router: Router, guard: Guard, clockwork: Clockwork
    ) -> None:
        self.router = router
        self.clockwork = clockwork
        self.replies = Replies(settings, router, clockwork)
        self.captured = CaptureQueue(settings.capture)
        self._captures = router.captures.by_endpoint
        self.max_body_bytes = settings.gateway.max_body_bytes
        self._timeout_s = settings.router.invocation_timeout_s
        self._stream_timeout_s = settings.router.stream_timeout_s
        self._guard = guard
        self._plain: type[GatewayInvocation] = GatewayInvocation
        self._stream: type[StreamInvocation] = StreamInvocation
        self._targets: dict[bytes, tuple[str, Operation]] = {}
        self._models: dict[tuple[bytes | None, bytes | None, bytes], tuple[bytes, str]] = {}
        """Meta block and model's name by content type, accept and target model."""
        self._component_metas: dict[tuple[str, str, bytes | None, bytes | None], bytes] = {}
        """Meta block by operation, adapter, content type and accept."""

    def handle(self, connection: HttpConnection, request: Request) -> None:
        """Take a whole invocation."""
        try:
            if self._guard.auth_is_on:
                self._guard.check_signature(
                    request, hashlib.sha256(request.body).hexdigest().encode(), "sagemaker"
                )
            else:
                self._guard.check_open(request)
            invocation = self._parse(connection, request)
            invocation.body = request.body
            connection.responder = invocation
            self.router.submit(invocation)
        except (InvalidRequest, AccessDenied, NotFound, Overloaded) as error:
            connection.responder = None
            connection.respond(self._refusal(connection, request, error))

    def open_body(self, connection: HttpConnection, request: Request) -> BodySink | int:
        """Decide whether a long body is passed on while it arrives."""
        length = request.body_bytes
        if (
            self._guard.auth_is_on  # the signature covers the body: it must be there to be checked
            or length is None
            or not STREAM_FROM_BYTES <= length <= self.max_body_bytes
        ):
            return self.max_body_bytes
        try:
            self._guard.check_open(request)
            invocation = self._parse(connection, request)
            if not self.router.can_stream(invocation):
                return self.max_body_bytes
            invocation.is_streamed = True
            invocation.body_length = length
            connection.responder = invocation
            self.router.submit(invocation)
        except (InvalidRequest, AccessDenied, NotFound, Overloaded) as error:
            connection.responder = None
            connection.respond(self._refusal(connection, request, error))
            return self.max_body_bytes
        return InvocationBody(self.router, connection, invocation)

    def _refusal(self, connection: HttpConnection, request: Request, error: Exception) -> bytes:
        request_id = self.clockwork.next_request_id()
        close = connection.will_close
        if isinstance(error, NotFound):
            text = self.replies.errors.not_found(error.message)
            return runtime_fault("ValidationError", text, 400, request_id, close=close)
        if isinstance(error, Throttled):
            return runtime_fault("ThrottlingException", error.message, 429, request_id, close=close)
        if isinstance(error, Overloaded):
            return runtime_fault("ServiceUnavailable", error.message, 503, request_id, close=close)
        if isinstance(error, AccessDenied):
            return runtime_fault(error.code, error.message, 403, request_id, close=close)
        return runtime_fault("ValidationError", str(error), 400, request_id, close=close)

    # From the request ---------------------------------------------------------------------

    def _parse(self, connection: HttpConnection, request: Request) -> GatewayInvocation:
        """Read what the request asks.

        Raises:
            InvalidRequest: It breaks the model's rules.
        """
        known = self._targets.get(request.target)
        if known is None:
            known = self._parse_target(request)
        endpoint, operation = known
        headers = request.headers
        key = (headers.get(b"content-type"), headers.get(operation.accept))
        target_variant: str | None = None
        session: Session | None = None
        target_container: str | None = None
        target_model: str | None = None
        meta = operation.metas.get(key)
        if meta is not None and headers.keys().isdisjoint(operation.extensions):
            pass
        elif (extensions := headers.keys() & operation.extensions) == ONLY_TARGET_MODEL and (
            operation is INVOKE
        ):
            meta, target_model = self._for_model(headers, *key)
        elif extensions == ONLY_COMPONENT:
            endpoint, meta = self._for_component(
                endpoint, headers[COMPONENT], operation, headers, key
            )
        else:
            component = headers.get(COMPONENT)
            if meta is None or extensions != ONLY_TRACE:
                meta = self._meta(headers, operation)
            value = headers.get(b"x-amzn-sagemaker-target-variant")
            if value is not None:
                target_variant = value.decode("ascii")
            value = headers.get(SESSION_ID)
            if value is not None:
                session = self.replies.find_session(value.decode("ascii"))
                meta = self._meta({**headers, SESSION_ID: session.container_id.encode()}, operation)
            value = headers.get(b"x-amzn-sagemaker-target-container-hostname")
            if value is not None:
                target_container = value.decode("ascii")
            value = headers.get(TARGET_MODEL)
            if value is not None and TARGET_MODEL in operation.forwarded:
                target_model = checked_model_name(value.decode("ascii"))
            if component is not None:
                endpoint, adapter = self._component_route(endpoint, component)
                meta = self._with_adapter(meta, adapter)
            if TRACEPARENT in headers:
                meta = self._carry(meta, headers)
        now = time.monotonic()
        if operation is INVOKE:
            deadline = now + self._timeout_s
            invocation = self._plain(endpoint, meta, deadline, connection, self.replies)
        else:
            deadline = now + self._stream_timeout_s
            invocation = self._stream(endpoint, meta, deadline, connection, self.replies)
        invocation.began_at = now
        invocation.target_variant = target_variant
        invocation.session = session
        invocation.target_container = target_container
        invocation.target_model = target_model
        capture = self._captures.get(endpoint)
        if capture is not None and random.random() < capture.share:  # noqa: S311 - no secret
            event_id = self.clockwork.next_request_id().decode()
            invocation.recording = Recording(self.captured, capture, event_id)
        return invocation

    def _carry(self, meta: bytes, headers: dict[bytes, bytes]) -> bytes:
        """Return the meta block with the trace that the client's call belongs to, if to any."""
        context = client_context(headers)
        return meta if context is None else with_trace(meta, context.headers())

    def _parse_target(self, request: Request) -> tuple[str, Operation]:
        _, _, name, action = request.path.split(b"/", 3)
        endpoint = unquote_to_bytes(name).decode("utf-8", "replace")
        operation = OPERATIONS.get(action)
        if NAME_PATTERN.fullmatch(endpoint) is None:
            constraint = f"satisfy regular expression pattern: {NAME_PATTERN_TEXT}"
            others = operation.faults(request.headers) if operation is not None else []
            raise invalid([fault(endpoint, "endpointName", constraint), *others])
        if operation is None or request.method != b"POST":
            method, path = request.method.decode(), request.path.decode("latin-1")
            raise InvalidRequest(f"There is no operation {method} {path}.")
        if len(self._targets) >= MAX_REMEMBERED:
            self._targets.clear()
        self._targets[request.target] = (endpoint, operation)
        return endpoint, operation

    def _meta(self, headers: dict[bytes, bytes], operation: Operation) -> bytes:
        """Return the meta block for the headers that reach the container."""
        forwarded = operation.container_headers(headers)
        meta = self.replies.metas.encode(forwarded)
        if all(not name.startswith("x-") for name, _ in forwarded):
            if len(operation.metas) >= MAX_REMEMBERED:
                operation.metas.clear()
            operation.metas[headers.get(b"content-type"), headers.get(operation.accept)] = meta
        return meta

    def _for_component(
        self,
        endpoint: str,
        component: bytes,
        operation: Operation,
        headers: dict[bytes, bytes],
        key: tuple[bytes | None, bytes | None],
    ) -> tuple[str, bytes]:
        """Return route and meta block: all that is special about such a call, usually."""
        route, adapter = self._component_route(endpoint, component)
        known = self._component_metas.get((operation.name, adapter, *key))
        if known is None:
            known = self._with_adapter(self._meta(headers, operation), adapter)
            if len(self._component_metas) >= MAX_REMEMBERED:
                self._component_metas.clear()
            self._component_metas[operation.name, adapter, *key] = known
        return route, known

    def _component_route(self, endpoint: str, component: bytes) -> tuple[str, str]:
        """Return the route to a component, and its name where it is an adapter, else nothing."""
        name = component.decode("ascii", "replace")
        if COMPONENT_PATTERN.fullmatch(name) is None:
            constraint = f"satisfy regular expression pattern: {COMPONENT_PATTERN_TEXT}"
            raise invalid([fault(name, member_name(COMPONENT), constraint)])
        route, is_adapter = find_route(self.router.find, endpoint, name)
        return route, name if is_adapter else ""

    def _with_adapter(self, meta: bytes, adapter: str) -> bytes:
        if not adapter:
            return meta
        headers = self.replies.metas.decode(meta)
        return self.replies.metas.encode((*headers.items(), (ADAPTER, adapter)))

    def _for_model(
        self, headers: dict[bytes, bytes], content_type: bytes | None, accept: bytes | None
    ) -> tuple[bytes, str]:
        """Return the meta block and the model: all that is special about such a call, usually."""
        key = (content_type, accept, headers[TARGET_MODEL])
        known = self._models.get(key)
        if known is None:
            meta = self.replies.metas.encode(INVOKE.container_headers(headers))
            known = (meta, checked_model_name(headers[TARGET_MODEL].decode("ascii")))
            if len(self._models) >= MAX_REMEMBERED:
                self._models.clear()
            self._models[key] = known
        return known


def client_context(headers: dict[bytes, bytes]) -> TraceContext | None:
    """Return the trace that a client's call belongs to; None: to none that can be read."""
    return read_context(
        headers.get(TRACEPARENT, b"").decode("latin-1"),
        headers.get(TRACESTATE, b"").decode("latin-1"),
    )
