"""Captured calls as SageMaker writes them: one line of JSON each, in objects by hour.

endpoints.md 7 has the format.
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from clary.router.capture_records import CaptureContext, CaptureRecord, Observed

SHADOW_SOURCE = "ShadowExperiment"
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Place:
    """What the lines of one object have in common."""

    bucket: str
    prefix: str
    """Key without the file's name, without a slash at its end."""

    endpoint: str


def place_of(record: CaptureRecord) -> Place:
    """Return where a record belongs: its variant, and the UTC hour of the call."""
    return _place_of(record.context, int(record.time // HOUR_S))


@lru_cache(maxsize=1024)
def _place_of(context: CaptureContext, hour: int) -> Place:
    bucket, _, prefix = context.destination.removeprefix("s3://").partition("/")
    folder = datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y/%m/%d/%H")
    parts = [part for part in (prefix, context.endpoint, context.variant, folder) if part]
    return Place(bucket, "/".join(parts), context.endpoint)


def file_name(first: float, unique: str) -> str:
    """Return the name of an object.

    Args:
        first: When its first call began, in seconds of Unix time.
        unique: What no other object's name has.
    """
    moment = datetime.fromtimestamp(first, UTC)
    return f"{moment:%M-%S}-{moment.microsecond // 1000:03d}-{unique}.jsonl"


def line_of(record: CaptureRecord) -> bytes:
    """Return a record as a line, with its end."""
    context = record.context
    data: dict[str, Any] = {}
    if context.input is not None:
        data["endpointInput"] = _side(context.input, "INPUT", record.input)
    if context.output is not None:
        data["endpointOutput"] = _side(context.output, "OUTPUT", record.output)
    metadata: dict[str, Any] = {}
    if context.custom_attributes is not None:
        metadata["customAttributes"] = [context.custom_attributes]
    metadata["eventId"] = record.event_id
    if context.inference_id is not None:
        metadata["inferenceId"] = context.inference_id
    if context.is_shadow:
        metadata["invocationSource"] = SHADOW_SOURCE
    metadata["inferenceTime"] = _second(int(record.time))
    line = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return _encode(line).encode() + b"\n"


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@lru_cache(maxsize=16)
def _second(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _side(observed: Observed, mode: str, body: bytes) -> dict[str, str]:
    data, encoding = None, observed.encoding
    if encoding != "BASE64":
        try:
            data = body.decode()
        except UnicodeDecodeError:
            encoding = "BASE64"
    if data is None:
        data = base64.b64encode(body).decode()
    return {
        "observedContentType": observed.content_type,
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }
