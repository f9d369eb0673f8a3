"""Notifications of asynchronous invocations as SageMaker writes them (endpoints.md 6). Pure."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clary.resources.async_inference import MAX_RESPONSE_IN_MESSAGE
from clary.store.async_rows import Lease
from clary.store.outbox import Notification

_SEE_LOGS = "See the SageMaker Endpoint logs in your account for more information."


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an invocation ended, as messages tell it."""

    is_good: bool
    reason: str = ""
    """Why it failed."""

    content_type: str = ""
    """Of the container's answer."""

    location: str | None = None
    """Where the answer lies, or the error."""

    answer: bytes | None = None
    """The container's answer, where a message should carry it and it is not too long."""


def model_failure(status: int) -> str:
    """Return AWS's reason for what a container answered; status 0: it answered nothing."""
    kind = "client" if 400 <= status < 500 else "server"
    return f"ClientError: Received {kind} error ({status}) from model. {_SEE_LOGS}"


def notification(
    lease: Lease, outcome: Outcome, *, region: str, now: datetime
) -> Notification | None:
    """Return the message that tells of an end; None: there is no topic for it.

    Args:
        lease: The invocation.
        outcome: How it ended.
        region: Of this server.
        now: When it ended.
    """
    order = lease.order
    topic = order.success_topic if outcome.is_good else order.error_topic
    if topic is None:
        return None
    asked = {
        "contentType": order.content_type,
        "accept": order.accept,
        "endpointName": lease.endpoint,
        "inputLocation": order.input_location,
    }
    told = {
        "contentType": outcome.content_type,
        ("outputLocation" if outcome.is_good else "failureLocation"): outcome.location,
    }
    message: dict[str, Any] = {
        "awsRegion": region,
        "eventTime": _time(now),
        "receivedTime": _time(lease.accepted_at),
        "invocationStatus": "Completed" if outcome.is_good else "Failed",
    }
    if not outcome.is_good:
        message["failureReason"] = outcome.reason
    message["requestParameters"] = {name: value for name, value in asked.items() if value}
    if outcome.is_good or outcome.location:
        message["responseParameters"] = {name: value for name, value in told.items() if value}
    is_included = order.includes_answer if outcome.is_good else order.includes_error
    if is_included and outcome.answer is not None:
        message["responseBody"] = {
            "content": base64.b64encode(outcome.answer).decode(),
            "message": None,
            "encoding": "BASE64",
        }
    message["inferenceId"] = lease.inference_id
    message["eventVersion"] = "1.0"
    message["eventSource"] = "aws:sagemaker"
    message["eventName"] = "InferenceResult"
    return Notification(
        topic=topic,
        endpoint=lease.endpoint,
        message=json.dumps(message, separators=(",", ":"), ensure_ascii=False),
    )


def wants_answer(lease: Lease, *, is_good: bool, size: int) -> bool:
    """Whether a message carries the container's answer, which has so many bytes."""
    order = lease.order
    topic = order.success_topic if is_good else order.error_topic
    included = order.includes_answer if is_good else order.includes_error
    return topic is not None and included and size <= MAX_RESPONSE_IN_MESSAGE


def _time(moment: datetime) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
