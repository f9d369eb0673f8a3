"""Invocations: from an HTTP request to the router, and back.

The one place where a protocol of AWS is written by hand, because it is the hot path: the paths,
headers and statuses of ``sagemaker-runtime``. ``tests/conformance/runtime`` compares its names with
botocore's model. The body stays bytes and is not looked at.
"""

import hashlib
import re
import time
from urllib.parse import unquote_to_bytes

from clary.errors import AccessDenied, InvalidRequest, InvocationError, NotFound, Overloaded
from clary.gateway.clockwork import Clockwork
from clary.gateway.faults import ModelErrors, runtime_fault
from clary.gateway.guard import Guard
from clary.gateway.http import BodySink, HttpConnection, Request
from clary.messages import MetaCache
from clary.router.invocation import Invocation
from clary.router.router import Router
from clary.settings import Settings

STREAM_FROM_BYTES = 256 * 1024
"""Bodies from this length on are passed to the worker while they arrive."""

NAME_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
NAME_PATTERN_TEXT = "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
OPERATIONS = {
    b"invocations": "InvokeEndpoint",
    b"invocations-response-stream": "InvokeEndpointWithResponseStream",
    b"async-invocations": "InvokeEndpointAsync",
}

EXTENSION_PREFIX = b"x-amzn-sagemaker-"
FORWARDED = {
    # Headers that reach the container (container.md 4), with their longest value.
    b"content-type": 1024,
    b"accept": 1024,
    b"x-amzn-sagemaker-custom-attributes": 1024,
    b"x-amzn-sagemaker-session-id": 256,
    b"x-amzn-sagemaker-inference-id": 64,
    b"x-amzn-sagemaker-target-variant": 63,
    b"x-amzn-sagemaker-enable-explanations": 64,
    b"x-amzn-sagemaker-prefix-aware-id": 256,
}
REFUSED = {
    # Routing that needs a kind of endpoint which this server does not run yet.
    b"x-amzn-sagemaker-inference-component": (
        "Inference Component Name header is not allowed for endpoints to which you dont plan to "
        "deploy inference components. Please remove the Inference Component Name header and try "
        "again."
    ),
    b"x-amzn-sagemaker-target-model": (
        "The TargetModel parameter is only allowed for endpoints with a multi-model container."
    ),
    b"x-amzn-sagemaker-target-container-hostname": (
        "The TargetContainerHostname parameter is only allowed for endpoints with a "
        "multi-container model in Direct mode."
    ),
}
EXTENSIONS = frozenset(name for name in (*FORWARDED, *REFUSED) if name.startswith(EXTENSION_PREFIX))
RETURNED = {
    # Headers of the container's reply that reach the client (container.md 4).
    "x-amzn-sagemaker-custom-attributes": b"x-amzn-sagemaker-custom-attributes",
    "x-amzn-sagemaker-session-id": b"x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-new-session-id": b"x-amzn-sagemaker-new-session-id",
    "x-amzn-sagemaker-closed-session-id": b"x-amzn-sagemaker-closed-session-id",
}
MAX_ERROR_BODY = 64 * 1024
MAX_REMEMBERED = 4096
MAX_SHOWN = 256
"""Characters of a wrong value that its fault shows."""


class RuntimeApi:
    """The operations of ``sagemaker-runtime``."""

    def __init__(
        self, settings: Settings, router: Router, guard: Guard, clockwork: Clockwork
    ) -> None:
        self.router = router
        self.clockwork = clockwork
        self.errors = ModelErrors(settings.server.account, settings.server.region)
        self.max_body_bytes = settings.gateway.max_body_bytes
        self._timeout_s = settings.router.invocation_timeout_s
        self._guard = guard
        self._targets: dict[bytes, tuple[str, str]] = {}
        self._metas: dict[tuple[bytes | None, bytes | None], bytes] = {}
        self._reply_metas = MetaCache()
        self._reply_heads: dict[tuple[bytes, str], bytes] = {}

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
            if not self.router.can_stream(invocation.endpoint):
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
            text = self.errors.not_found(error.message)
            return runtime_fault("ValidationError", text, 400, request_id, close=close)
        if isinstance(error, Overloaded):
            return runtime_fault("ServiceUnavailable", error.message, 503, request_id, close=close)
        if isinstance(error, AccessDenied):
            return runtime_fault(error.code, error.message, 403, request_id, close=close)
        return runtime_fault("ValidationError", str(error), 400, request_id, close=close)

    # From the request ---------------------------------------------------------------------

    def _parse(self, connection: HttpConnection, request: Request) -> "GatewayInvocation":
        """Read what the request asks.

        Raises:
            InvalidRequest: It breaks the model's rules.
        """
        known = self._targets.get(request.target)
        if known is None:
            known = self._parse_target(request)
        endpoint, operation = known
        if operation != "InvokeEndpoint":
            raise InvalidRequest(f"The operation {operation} is not implemented yet.")
        headers = request.headers
        key = (headers.get(b"content-type"), headers.get(b"accept"))
        target_variant: str | None = None
        meta = self._metas.get(key)
        if meta is None or not headers.keys().isdisjoint(EXTENSIONS):
            meta = self._meta(headers)
            value = headers.get(b"x-amzn-sagemaker-target-variant")
            if value is not None:
                target_variant = value.decode("ascii")
        deadline = time.monotonic() + self._timeout_s
        invocation = GatewayInvocation(endpoint, meta, b"", deadline)
        invocation.target_variant = target_variant
        invocation.connection = connection
        invocation.api = self
        return invocation

    def _parse_target(self, request: Request) -> tuple[str, str]:
        _, _, name, action = request.path.split(b"/", 3)
        endpoint = unquote_to_bytes(name).decode("utf-8", "replace")
        if NAME_PATTERN.fullmatch(endpoint) is None:
            fault = _fault(
                endpoint, "endpointName", f"satisfy regular expression pattern: {NAME_PATTERN_TEXT}"
            )
            raise _invalid([fault, *_header_faults(request.headers)])
        operation = OPERATIONS.get(action)
        if operation is None or request.method != b"POST":
            method, path = request.method.decode(), request.path.decode("latin-1")
            raise InvalidRequest(f"There is no operation {method} {path}.")
        if len(self._targets) >= MAX_REMEMBERED:
            self._targets.clear()
        self._targets[request.target] = (endpoint, operation)
        return endpoint, operation

    def _meta(self, headers: dict[bytes, bytes]) -> bytes:
        """Return the meta block for the headers that reach the container."""
        if faults := _header_faults(headers):
            raise _invalid(faults)
        refused = next((REFUSED[name] for name in headers if name in REFUSED), None)
        if refused is not None:
            raise InvalidRequest(refused)
        forwarded = [
            (name.decode("ascii"), value.decode("ascii"))
            for name, value in headers.items()
            if name in FORWARDED
        ]
        meta = self._reply_metas.encode(tuple(forwarded))
        if all(not name.startswith("x-") for name, _ in forwarded):
            if len(self._metas) >= MAX_REMEMBERED:
                self._metas.clear()
            self._metas[headers.get(b"content-type"), headers.get(b"accept")] = meta
        return meta

    # To the response ----------------------------------------------------------------------

    def reply_head(self, meta: bytes, variant: str) -> bytes:
        """Return the head of a good reply, but for date, id and length."""
        head = self._reply_heads.get((meta, variant))
        if head is None:
            lines = [b"HTTP/1.1 200 OK"]
            headers = self._reply_metas.decode(meta)
            content_type = headers.get("content-type", "application/octet-stream")
            lines.append(b"content-type: " + _header_value(content_type))
            lines.append(b"x-amzn-invoked-production-variant: " + variant.encode())
            for name, value in headers.items():
                returned = RETURNED.get(name)
                if returned is not None:
                    lines.append(returned + b": " + _header_value(value))
            head = b"\r\n".join(lines) + b"\r\n"
            if len(self._reply_heads) >= MAX_REMEMBERED:
                self._reply_heads.clear()
            self._reply_heads[meta, variant] = head
        return head

    def reply_length(self, meta: bytes) -> int | None:
        """Return the length of a streamed reply's body, where the container announced it."""
        length = self._reply_metas.decode(meta).get("content-length")
        return int(length) if length is not None and length.isdigit() else None


def _header_faults(headers: dict[bytes, bytes]) -> list[str]:
    """Return what is wrong with the headers that reach the container, in AWS's words."""
    faults = []
    for name, value in headers.items():
        limit = FORWARDED.get(name)
        if limit is None:
            continue
        shown = value.decode("utf-8", "backslashreplace")
        if not value.isascii() or not shown.isprintable():
            constraint = r"satisfy regular expression pattern: \p{ASCII}*"
            faults.append(_fault(shown, member_name(name), constraint))
        if len(value) > limit:
            constraint = f"have length less than or equal to {limit}"
            faults.append(_fault(shown, member_name(name), constraint))
    return faults


def _fault(value: str, member: str, constraint: str) -> str:
    return (
        f"Value '{value[:MAX_SHOWN]}' at '{member}' failed to satisfy constraint: "
        f"Member must {constraint}"
    )


def _invalid(faults: list[str]) -> InvalidRequest:
    count = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
    return InvalidRequest(f"{count} detected: {'; '.join(faults)}")


class GatewayInvocation(Invocation):
    """An invocation whose answer goes to an HTTP connection."""

    __slots__ = ("_error_parts", "_error_status", "_is_started", "_owed", "api", "connection")

    api: RuntimeApi
    connection: HttpConnection

    def __init__(self, endpoint: str, meta: bytes, body: bytes, deadline: float) -> None:
        super().__init__(endpoint, meta, body, deadline)
        self._is_started = False
        self._error_status = 0
        self._error_parts: list[bytes] = []
        self._owed = 0

    # From the router ----------------------------------------------------------------------

    def on_reply(self, status: int, meta: bytes, body: bytes, more: bool) -> None:
        if not 200 <= status < 300:
            self._error_status = status
            self._collect_error(body, more)
            return
        api = self.api
        connection = self.connection
        head = api.reply_head(meta, self.variant) + api.clockwork.date_line
        if more:
            self._start(head, meta)
            self.on_part(200, body, True)
            return
        if connection.will_close:
            head += b"connection: close\r\n"
        connection.respond(
            b"%bx-amzn-requestid: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (head, api.clockwork.next_request_id(), len(body), body)
        )

    def _start(self, head: bytes, meta: bytes) -> None:
        length = self.api.reply_length(meta)
        connection = self.connection
        if length is not None:
            head += b"content-length: %d\r\n" % length
        elif connection.is_http_1_0:
            connection.close_after_response()
        else:
            head += b"transfer-encoding: chunked\r\n"
        if connection.will_close:
            head += b"connection: close\r\n"
        request_id = self.api.clockwork.next_request_id()
        self._is_started = True
        connection.start(
            head + b"x-amzn-requestid: " + request_id + b"\r\n\r\n",
            chunked=length is None and not connection.is_http_1_0,
        )

    def on_part(self, status: int, body: bytes, more: bool) -> None:
        if self._error_status:
            self._collect_error(body, more)
            return
        connection = self.connection
        if status != 200:
            connection.abort()
            return
        connection.send(body)
        if not more:
            connection.end()
        elif connection.is_full:
            self._owed += len(body)
        elif body and self.channel is not None:
            self.channel.credit(self, len(body))

    def _collect_error(self, body: bytes, more: bool) -> None:
        if sum(map(len, self._error_parts)) < MAX_ERROR_BODY:
            self._error_parts.append(body)
        if more:
            if self.channel is not None:
                self.channel.credit(self, len(body))
            return
        if self.counters is not None:
            self.counters.model_errors += 1
        self.connection.respond(
            self.api.errors.from_container(
                self.endpoint,
                self.container,
                self._error_status,
                b"".join(self._error_parts),
                self.api.clockwork.next_request_id(),
                close=self.connection.will_close,
            )
        )

    def on_failure(self, error: InvocationError) -> None:
        if self._is_started:
            self.connection.abort()
            return
        if self.counters is not None:
            self.counters.model_errors += 1
        self.connection.respond(
            self.api.errors.from_failure(
                self.endpoint,
                self.container,
                error,
                self.api.clockwork.next_request_id(),
                close=self.connection.will_close,
            )
        )

    def on_writable(self) -> None:
        self.connection.resume_reading()

    # From the connection ------------------------------------------------------------------

    def on_client_gone(self) -> None:
        self.api.router.cancel(self)

    def on_client_writable(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self.channel is not None:
            self.channel.credit(self, owed)


class InvocationBody:
    """Passes a long body on while it arrives."""

    __slots__ = ("_connection", "_held", "_invocation", "_router")

    def __init__(
        self, router: Router, connection: HttpConnection, invocation: GatewayInvocation
    ) -> None:
        self._router = router
        self._connection = connection
        self._invocation = invocation
        self._held = b""

    def feed(self, data: bytes) -> None:
        # One piece is held back, for the last one has to be marked as such.
        held, self._held = self._held, data
        if held:
            self._send(held, more=True)

    def end(self) -> None:
        self._send(self._held, more=False)

    def _send(self, data: bytes, *, more: bool) -> None:
        channel = self._invocation.channel
        if channel is not None and not channel.send_body(self._invocation, data, more):
            self._connection.pause_reading()


def member_name(header: bytes) -> str:
    """Return the name of InvokeEndpoint's member for a header, as AWS's texts spell it."""
    words = header.removeprefix(EXTENSION_PREFIX).decode().split("-")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _header_value(text: str) -> bytes:
    """Return a header's value; what would break the line is replaced."""
    return "".join(c if c.isprintable() else " " for c in text).encode("latin-1", "replace")
