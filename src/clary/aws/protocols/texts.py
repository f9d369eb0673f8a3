"""Scalars as text: in headers, paths, queries, forms and XML."""

import base64
import binascii
import math
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from clary.aws.fault import serialization_fault
from clary.aws.service_models import Shape

_SPECIAL_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MAX_DIGITS = 32


def parse_scalar(shape: Shape, text: str, *, timestamp_format: str = "iso8601") -> Any:
    """Return the value of a text by its shape.

    Args:
        shape: A shape that is no list, map or structure.
        text: The text.
        timestamp_format: The format that timestamps have here; others are understood as well.

    Raises:
        Fault: The text is no such value.
    """
    kind = shape.type_name
    if kind in ("string", "character"):
        return text
    if kind in ("integer", "long"):
        return _parse_integer(text)
    if kind in ("float", "double"):
        return parse_float(text)
    if kind == "boolean":
        if text not in ("true", "false", "True", "False", "TRUE", "FALSE"):
            raise serialization_fault(f"{text[:100]!r} is no boolean")
        return text.lower() == "true"
    if kind == "timestamp":
        return parse_timestamp(text, shape.serialization.get("timestampFormat", timestamp_format))
    if kind == "blob":
        return parse_base64(text)
    raise serialization_fault(f"A {kind} cannot be text")


def format_scalar(shape: Shape, value: Any, *, timestamp_format: str = "iso8601") -> str:
    """Return a value as text; the reverse of ``parse_scalar``."""
    kind = shape.type_name
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        name = shape.serialization.get("timestampFormat", timestamp_format)
        return format_timestamp(value, name)
    if kind == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    if kind in ("float", "double"):
        return str(format_float(value))
    return str(value)


def parse_base64(text: str) -> bytes:
    """Return the bytes of a blob."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise serialization_fault("Invalid base64 data in a blob") from error


def parse_float(text: str) -> float:
    """Return a number, or one of the three that JSON has no digits for."""
    if text in _SPECIAL_NUMBERS:
        return _SPECIAL_NUMBERS[text]
    try:
        if "_" in text or text.strip() != text or not any(c.isdigit() for c in text):
            raise ValueError("no digits")
        return float(text)
    except ValueError as error:
        raise serialization_fault(f"{text[:100]!r} is no number") from error


def format_float(value: float) -> float | str:
    """Return a number as it is written, which for three numbers is a word."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def parse_timestamp(text: str, name: str) -> datetime:
    """Return the moment of a text; aware, in UTC.

    Args:
        text: A timestamp of any of AWS's three formats.
        name: The expected one: ``iso8601``, ``rfc822`` or ``unixTimestamp``.
    """
    try:
        if name.lower() == "unixtimestamp" or text.replace(".", "", 1).isdigit():
            return datetime.fromtimestamp(float(text), UTC)
        if name.lower() == "rfc822" or text[:1].isalpha():
            moment = parsedate_to_datetime(text)
        else:
            moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, OSError, IndexError) as error:
        raise serialization_fault(f"{text[:100]!r} is no timestamp") from error


def format_timestamp(moment: datetime, name: str) -> str:
    """Return a moment in one of AWS's three formats, to the millisecond where it has them."""
    moment = moment.astimezone(UTC)
    if name.lower() == "rfc822":
        return format_datetime(moment, usegmt=True)
    if name.lower() == "unixtimestamp":
        return str(unix_timestamp(moment))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def unix_timestamp(moment: datetime) -> float:
    """Return seconds since 1970, to the millisecond; an integer where there is no fraction."""
    seconds = round(moment.timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds


def _parse_integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise serialization_fault(f"{text[:100]!r} is no integer")
    return int(text)
