"""The operations of ``sagemaker-runtime``: paths, and the headers that each takes.

The one place where a protocol of AWS is written by hand, because it is the hot path.
``tests/conformance/runtime`` compares the names with botocore's model.
"""

from clary.errors import InvalidRequest

EXTENSION_PREFIX = b"x-amzn-sagemaker-"
SESSION_ID = b"x-amzn-sagemaker-session-id"
NEW_SESSION = b"NEW_SESSION"

FORWARDED = {
    # Headers that reach the container (container.md 4), with their longest value.
    b"content-type": 1024,
    b"accept": 1024,
    b"x-amzn-sagemaker-custom-attributes": 1024,
    SESSION_ID: 256,
    b"x-amzn-sagemaker-inference-id": 64,
    b"x-amzn-sagemaker-target-model": 1024,
    b"x-amzn-sagemaker-target-variant": 63,
    b"x-amzn-sagemaker-enable-explanations": 64,
    b"x-amzn-sagemaker-prefix-aware-id": 256,
    b"x-amzn-sagemaker-target-container-hostname": 63,
}
COMPONENT = b"x-amzn-sagemaker-inference-component"
CHECKED = {COMPONENT: 63}
"""Headers that route and do not reach the container, with their longest value."""
ADAPTER = "x-amzn-sagemaker-adapter-identifier"
"""Tells a container which of its adapters an invocation is for."""
TARGET_MODEL = b"x-amzn-sagemaker-target-model"
NOT_IN_STREAMS = frozenset({b"x-amzn-sagemaker-enable-explanations", TARGET_MODEL})
"""Headers that InvokeEndpointWithResponseStream does not have."""

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
"""W3C Trace Context (``resources/trace_context``), which reaches the container as well."""

MAX_REMEMBERED = 4096
MAX_SHOWN = 256
"""Characters of a wrong value that its fault shows."""


class Operation:
    """One operation that invokes a container."""

    __slots__ = ("accept", "extensions", "forwarded", "is_stream", "metas", "name")

    def __init__(
        self,
        name: str,
        forwarded: dict[bytes, int],
        *,
        accept: bytes,
        is_stream: bool = False,
    ) -> None:
        self.name = name
        self.forwarded = forwarded
        """Headers that reach the container, with their longest value in bytes."""
        self.accept = accept
        """The header that the container is given as ``Accept``."""
        self.is_stream = is_stream
        """Whether the answer is an event stream."""
        self.extensions = frozenset(
            header
            for header in (*forwarded, *CHECKED, TRACEPARENT)
            if header.startswith((EXTENSION_PREFIX, TRACEPARENT)) and header != accept
        )
        """Headers with which a request is none of the common ones that ``metas`` remembers."""
        self.metas: dict[tuple[bytes | None, bytes | None], bytes] = {}
        """Meta blocks by content type and accept."""

    def faults(self, headers: dict[bytes, bytes]) -> list[str]:
        """Return what is wrong with the headers that reach the container, in AWS's words."""
        faults = []
        for name, value in headers.items():
            limit = self.forwarded.get(name) or CHECKED.get(name)
            if limit is None:
                continue
            shown = value.decode("utf-8", "backslashreplace")
            if not value.isascii() or not shown.isprintable():
                constraint = r"satisfy regular expression pattern: \p{ASCII}*"
                faults.append(fault(shown, member_name(name), constraint))
            if len(value) > limit:
                constraint = f"have length less than or equal to {limit}"
                faults.append(fault(shown, member_name(name), constraint))
        return faults

    def container_headers(self, headers: dict[bytes, bytes]) -> tuple[tuple[str, str], ...]:
        """Return the headers that reach the container.

        Raises:
            InvalidRequest: One of them breaks the model's rules.
        """
        if faults := self.faults(headers):
            raise invalid(faults)
        if self.is_stream and headers.get(SESSION_ID) == NEW_SESSION:
            raise InvalidRequest(
                f"A session cannot be opened by {self.name}. Open it by {INVOKE.name} with "
                "SessionId NEW_SESSION."
            )
        return tuple(
            (
                "accept" if name == self.accept else name.decode("ascii"),
                value.decode("ascii"),
            )
            for name, value in headers.items()
            if name in self.forwarded
        )


def _stream_headers() -> dict[bytes, int]:
    kept = {n: limit for n, limit in FORWARDED.items() if n not in (b"accept", *NOT_IN_STREAMS)}
    return {**kept, b"x-amzn-sagemaker-accept": FORWARDED[b"accept"]}


INVOKE = Operation("InvokeEndpoint", FORWARDED, accept=b"accept")
STREAM = Operation(
    "InvokeEndpointWithResponseStream",
    _stream_headers(),
    accept=b"x-amzn-sagemaker-accept",
    is_stream=True,
)
OPERATIONS = {b"invocations": INVOKE, b"invocations-response-stream": STREAM}
"""Operations by the last word of their path."""

ASYNC_PATH_END = b"/async-invocations"
"""InvokeEndpointAsync is durable, and so belongs to control."""


def member_name(header: bytes) -> str:
    """Return the name of an operation's member for a header, as AWS's texts spell it."""
    words = header.removeprefix(EXTENSION_PREFIX).decode().split("-")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def checked_model_name(name: str) -> str:
    """Return a ``TargetModel``: a path below the endpoint's ``ModelDataUrl``.

    Raises:
        InvalidRequest: It leads elsewhere.
    """
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidRequest(
            f"TargetModel {name[:MAX_SHOWN]!r} is no path below the endpoint's ModelDataUrl: it "
            "must name an archive such as model.tar.gz or folder/model.tar.gz."
        )
    return name


def fault(value: str, member: str, constraint: str) -> str:
    """Return AWS's text for one value that breaks its model's rules."""
    return (
        f"Value '{value[:MAX_SHOWN]}' at '{member}' failed to satisfy constraint: "
        f"Member must {constraint}"
    )


def invalid(faults: list[str]) -> InvalidRequest:
    """Return the error for values that break the model's rules."""
    count = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
    return InvalidRequest(f"{count} detected: {'; '.join(faults)}")
