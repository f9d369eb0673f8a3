"""Captured calls as SageMaker writes them: one line of JSON each, in objects by hour.

endpoints.md 7 has the format.
"""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clary.router.capture_records import CaptureRecord, Observed

SHADOW_SOURCE = "ShadowExperiment"


@dataclass(frozen=True, slots=True)
class Place:
    """What the lines of one object have in common."""

    bucket: str
    prefix: str
    """Key without the file's name, without a slash at its end."""

    endpoint: str


def place_of(record: CaptureRecord) -> Place:
    """Return where a record belongs: its variant, and the UTC hour of the call."""
    bucket, _, prefix = record.destination.removeprefix("s3://").partition("/")
    hour = datetime.fromtimestamp(record.time, UTC).strftime("%Y/%m/%d/%H")
    parts = [part for part in (prefix, record.endpoint, record.variant, hour) if part]
    return Place(bucket, "/".join(parts), record.endpoint)


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
    data: dict[str, Any] = {}
    if record.input is not None:
        data["endpointInput"] = _side(record.input, "INPUT")
    if record.output is not None:
        data["endpointOutput"] = _side(record.output, "OUTPUT")
    metadata: dict[str, Any] = {}
    if record.custom_attributes is not None:
        metadata["customAttributes"] = [record.custom_attributes]
    metadata["eventId"] = record.event_id
    if record.inference_id is not None:
        metadata["inferenceId"] = record.inference_id
    if record.is_shadow:
        metadata["invocationSource"] = SHADOW_SOURCE
    moment = datetime.fromtimestamp(record.time, UTC)
    metadata["inferenceTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    line = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _side(observed: Observed, mode: str) -> dict[str, str]:
    data, encoding = None, observed.encoding
    if encoding != "BASE64":
        try:
            data = observed.body.decode()
        except UnicodeDecodeError:
            encoding = "BASE64"
    if data is None:
        data = base64.b64encode(observed.body).decode()
    return {
        "observedContentType": observed.content_type,
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }
