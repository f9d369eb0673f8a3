"""JSON documents by the shapes of a model; shared by ``json`` and ``rest-json``."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from clary.aws.fault import Fault, serialization_fault
from clary.aws.protocols.base import MAX_DEPTH
from clary.aws.protocols.texts import (
    format_float,
    format_timestamp,
    parse_base64,
    parse_float,
    parse_timestamp,
    unix_timestamp,
)
from clary.aws.service_models import Shape

_INTEGER_BITS = {"integer": 32, "long": 64}
_TYPE_NAMES = {
    "string": "a String",
    "integer": "an Integer",
    "long": "a Long",
    "float": "a Float",
    "double": "a Double",
    "boolean": "a Boolean",
    "timestamp": "a Date",
    "blob": "a ByteBuffer",
}


def load_json(body: bytes) -> Any:
    """Return the JSON value of a body; an empty body is an empty object.

    Raises:
        Fault: It is no JSON, or too deeply nested.
    """
    if not body or body.isspace():
        return {}
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise serialization_fault("The request body is nested too deeply.") from error
    except ValueError as error:
        raise serialization_fault("The request body is not valid JSON.") from error


def parse_value(shape: Shape, value: Any, depth: int = 0) -> Any:
    """Return a JSON value as a shape has it.

    Takes what CBOR can say and JSON cannot as well: times and bytes.

    Raises:
        Fault: It is of another type, or too deeply nested.
    """
    if depth > MAX_DEPTH:
        raise serialization_fault("The request body is nested too deeply.")
    kind = shape.type_name
    if value is None:
        return None
    if kind == "structure":
        return _parse_structure(shape, value, depth)
    if kind == "list":
        if not isinstance(value, list):
            raise _unexpected(value, "list")
        return [parse_value(shape.member, item, depth + 1) for item in value]
    if kind == "map":
        if not isinstance(value, dict):
            raise _unexpected(value, "map")
        return {key: parse_value(shape.value, item, depth + 1) for key, item in value.items()}
    return _parse_scalar(shape, kind, value)


def dump_value(shape: Shape, value: Any) -> bytes:
    """Return the JSON of a value; the reverse of ``parse_value``."""
    return json.dumps(serialize_value(shape, value), separators=(",", ":")).encode()


def serialize_value(shape: Shape, value: Any) -> Any:
    """Return a value as ``json`` can dump it, without the members that are None.

    Raises:
        ValueError: A member is unknown to the model.
    """
    kind = shape.type_name
    if kind == "structure":
        if shape.is_document_type:
            return value
        return serialize_members(shape, value)
    if kind == "list":
        return [serialize_value(shape.member, item) for item in value if item is not None]
    if kind == "map":
        return {
            key: serialize_value(shape.value, item)
            for key, item in value.items()
            if item is not None
        }
    if kind == "timestamp":
        name = shape.serialization.get("timestampFormat", "unixTimestamp")
        is_number = name.lower() == "unixtimestamp"
        return unix_timestamp(value) if is_number else format_timestamp(value, name)
    if kind == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    return format_float(value) if kind in ("float", "double") else value


def serialize_members(
    shape: Shape,
    values: Mapping[str, Any],
    serialize: Callable[[Shape, Any], Any] = serialize_value,
) -> dict[str, Any]:
    """Return a structure's members by their names on the wire, without those that are None.

    Args:
        shape: The structure.
        values: Its members.
        serialize: Makes a member what the format can carry.

    Raises:
        ValueError: A member is unknown to the model.
    """
    members = shape.members
    serialized = {}
    for name, value in values.items():
        if value is None or is_emptied(value):
            continue
        member = members.get(name)
        if member is None:
            raise ValueError(f"{shape.name} has no member {name}")
        serialized[member.serialization.get("name", name)] = serialize(member, value)
    return serialized


def is_emptied(value: Any) -> bool:
    """Return whether a structure was given whose members are all None: it is absent, too.

    AWS leaves such members out where ``{}`` would say that they are set.
    """
    return isinstance(value, dict) and bool(value) and all(v is None for v in value.values())


def _parse_structure(shape: Shape, value: Any, depth: int) -> Any:
    if shape.is_document_type:
        return value
    if not isinstance(value, dict):
        raise _unexpected(value, "map")
    parsed = {}
    for name, member in shape.members.items():
        item = value.get(member.serialization.get("name", name))
        if item is not None:
            parsed[name] = parse_value(member, item, depth + 1)
    return parsed


def _parse_scalar(shape: Shape, kind: str, value: Any) -> Any:
    is_text = isinstance(value, str)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("string", "character"):
        if is_text:
            return value
    elif kind in _INTEGER_BITS:
        limit = 1 << (_INTEGER_BITS[kind] - 1)
        if is_number and value == value // 1 and -limit <= value < limit:
            return int(value)
    elif kind in ("float", "double"):
        if is_number:
            return _to_float(value)
        if value in ("NaN", "Infinity", "-Infinity"):
            return parse_float(value)
    elif kind == "boolean":
        if isinstance(value, bool):
            return value
    elif kind == "timestamp":
        if isinstance(value, datetime):
            return value
        if is_number:
            return _from_unix(value)
        if is_text:
            return parse_timestamp(value, shape.serialization.get("timestampFormat", "iso8601"))
    elif kind == "blob":
        if isinstance(value, bytes):
            return value
        if is_text:
            return parse_base64(value)
    if isinstance(value, list):
        raise serialization_fault("Start of list found where not expected")
    if isinstance(value, dict):
        raise serialization_fault("Start of structure or map found where not expected.")
    raise serialization_fault(f"{_token(value)} can not be converted to {_TYPE_NAMES[kind]}")


def _unexpected(value: Any, wanted: str) -> Fault:
    if isinstance(value, list):
        return serialization_fault("Start of list found where not expected")
    if isinstance(value, dict):
        return serialization_fault("Start of structure or map found where not expected.")
    return serialization_fault(f"Expected {wanted} or null")


def _token(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    return "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise serialization_fault("NUMBER_VALUE can not be converted to a Double") from error


def _from_unix(value: float) -> datetime:
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise serialization_fault("NUMBER_VALUE can not be converted to a Date") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
