"""Asynchronous inference: what an endpoint's configuration says of it, and what one call asks.

``AsyncConfig`` is the value of ``AsyncInferenceConfig``. ``AsyncOrder`` is one accepted call, with
everything decided that its caller was told: it stays as it is whatever becomes of the endpoint's
configuration. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import unquote

from clary.errors import InvalidRequest

MAX_INLINE_BYTES = 128_000
"""Longest ``Body``; longer ones go through S3 (container.md 3)."""

DEFAULT_TTL_S = 21_600
"""Longest time in the queue where a call does not say: the most that one may ask for."""

DEFAULT_TIMEOUT_S = 900
MAX_TIMEOUT_S = 3600
"""Time for the container's answer (container.md 3)."""

MAX_RESPONSE_IN_MESSAGE = 128 * 1024
"""Longest answer that a notification carries (service model)."""

TEST_MESSAGE = '{"eventVersion":"1.0","eventSource":"aws:sagemaker","eventName":"TestNotification"}'
"""What each topic of an endpoint gets with each change of the endpoint (endpoints.md 6)."""

_S3_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncConfig:
    """How an endpoint takes asynchronous calls."""

    output_path: str | None
    """``s3://bucket/prefix`` without a slash at its end. None: answers are in notifications only,
    where they are at all."""

    failure_path: str | None
    success_topic: str | None
    error_topic: str | None
    includes_answer: bool
    """Whether the success topic's messages carry the container's answer."""

    includes_error: bool
    """Whether the error topic's messages carry it."""

    max_concurrent: int | None
    """Most calls that one instance works on. None: ``jobs/async_plan.py`` decides."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that notifications go to, each once."""
        return tuple(dict.fromkeys(t for t in (self.success_topic, self.error_topic) if t))


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncOrder:
    """One accepted call."""

    input_location: str | None
    """None: the body came with the call."""

    content_type: str | None
    accept: str | None
    custom_attributes: str | None
    timeout_s: int
    output_location: str | None
    failure_location: str | None
    is_named: bool
    """Whether the caller chose the name of the output object, which then may be there already."""

    success_topic: str | None
    error_topic: str | None
    includes_answer: bool
    includes_error: bool
    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers of the trace that the call belongs to (``trace_context``); empty: to none."""

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the value that ``to_json`` wrote."""
        return cls(**data)


def async_config(definition: Mapping[str, Any]) -> AsyncConfig | None:
    """Return what an endpoint configuration says of asynchronous calls; None: it takes none."""
    config = definition.get("AsyncInferenceConfig")
    if not config:
        return None
    output = config.get("OutputConfig", {})
    notification = output.get("NotificationConfig", {})
    included = notification.get("IncludeInferenceResponseIn", ())
    return AsyncConfig(
        output_path=_path(output.get("S3OutputPath")),
        failure_path=_path(output.get("S3FailurePath")),
        success_topic=notification.get("SuccessTopic") or None,
        error_topic=notification.get("ErrorTopic") or None,
        includes_answer="SUCCESS_NOTIFICATION_TOPIC" in included,
        includes_error="ERROR_NOTIFICATION_TOPIC" in included,
        max_concurrent=config.get("ClientConfig", {}).get("MaxConcurrentInvocationsPerInstance"),
    )


def make_order(
    config: AsyncConfig,
    unique: str,
    request: Mapping[str, Any],
    trace: Mapping[str, str] | None = None,
) -> AsyncOrder:
    """Return what a request asks of an endpoint.

    Args:
        config: The endpoint's.
        unique: Names the objects; never the same twice.
        request: Members of InvokeEndpointAsync.
        trace: Headers of the trace that the call belongs to.

    Raises:
        InvalidRequest: It has no input, or two, or one that is no place in S3, or a long one.
    """
    location, body = request.get("InputLocation"), request.get("Body")
    if location is not None and body is not None:
        raise InvalidRequest(
            "InputLocation and Body cannot be given together: a request has one input."
        )
    if location is None and body is None:
        raise InvalidRequest("One of InputLocation and Body must be given.")
    if body is not None and len(body) > MAX_INLINE_BYTES:
        raise InvalidRequest(
            f"The Body has {len(body)} bytes, and may have at most {MAX_INLINE_BYTES}. Put longer "
            "ones into S3, and give their InputLocation."
        )
    if location is not None:
        split_location(location)
    extension = (request.get("S3OutputPathExtension") or "").strip("/")
    name = request.get("Filename")
    output = None
    if config.output_path is not None:
        folder = "/".join(part for part in (config.output_path, extension) if part)
        output = f"{folder}/{name or f'{unique}.out'}"
    failure = config.failure_path
    return AsyncOrder(
        input_location=location,
        content_type=request.get("ContentType"),
        accept=request.get("Accept"),
        custom_attributes=request.get("CustomAttributes"),
        timeout_s=request.get("InvocationTimeoutSeconds", DEFAULT_TIMEOUT_S),
        output_location=output,
        failure_location=None if failure is None else f"{failure}/{unique}-error.out",
        is_named=name is not None,
        success_topic=config.success_topic,
        error_topic=config.error_topic,
        includes_answer=config.includes_answer,
        includes_error=config.includes_error,
        trace=dict(trace or {}),
    )


def split_location(location: str) -> tuple[str, str]:
    """Return bucket and key of an object's URL: ``s3://``, or ``https://`` as Amazon S3 has it.

    Raises:
        InvalidRequest: It names no object in S3.
    """
    bucket = key = ""
    if location.startswith("s3://"):
        # Keys are taken as they stand, also with what is special in other URLs.
        bucket, _, key = location.removeprefix("s3://").partition("/")
    elif location.startswith("https://"):
        host, _, path = location.removeprefix("https://").partition("/")
        key = unquote(path.partition("?")[0])
        found = _S3_HOST.fullmatch(host.lower())
        if found is not None and found["bucket"]:
            bucket = found["bucket"]
        elif found is not None:
            bucket, _, key = key.partition("/")
    if not bucket or not key:
        raise InvalidRequest(
            f"InputLocation {location!r} names no object in S3: use s3://bucket/key."
        )
    return bucket, key


def _path(path: str | None) -> str | None:
    return path.rstrip("/") if path else None
