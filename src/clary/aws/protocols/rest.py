"""What rest protocols bind outside of the body: path, query, headers and status."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import OperationModel

from clary.aws.fault import serialization_fault
from clary.aws.http import HttpRequest
from clary.aws.protocols.texts import format_scalar, parse_scalar
from clary.aws.service_models import Shape

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LIST_ITEM = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)|([^,]*)(?:,|$)')


def parse_bindings(shape: Shape, request: HttpRequest, uri: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of a request that are bound to path, query and headers.

    Raises:
        Fault: A value is not of its shape's type.
    """
    parsed: dict[str, Any] = {}
    query = _parse_query(request.query)
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        wire_name = member.serialization.get("name", name)
        value: Any = None
        if location == "uri":
            text = uri.get(wire_name)
            value = None if text is None else parse_scalar(member, text)
        elif location == "querystring":
            value = _parse_parameter(member, query, wire_name)
        elif location == "header":
            text = request.headers.get(wire_name.lower())
            value = None if text is None else _parse_header(member, text)
        elif location == "headers":
            prefix = wire_name.lower()
            value = {
                header[len(prefix) :]: text
                for header, text in request.headers.items()
                if header.startswith(prefix)
            } or None
        if value is not None:
            parsed[name] = value
    return parsed


def parse_request(
    shape: Shape,
    request: HttpRequest,
    uri: Mapping[str, str],
    *,
    body_is_streamed: bool,
    parse_document: Callable[[Shape, bytes], Any],
) -> dict[str, Any]:
    """Return all members of a request: those that are bound outside of the body, and the body's.

    Args:
        shape: The operation's input.
        request: The request.
        uri: Decoded parts of the path.
        body_is_streamed: Leave a body of plain bytes aside.
        parse_document: Reads a body that is a document of the protocol, as a value of a shape.

    Raises:
        Fault: A value is not of its shape's type.
    """
    parsed = parse_bindings(shape, request, uri)
    payload = shape.serialization.get("payload")
    if payload is None:
        bound = body_members(shape)
        if bound and request.body:
            members = parse_document(shape, request.body) or {}
            parsed.update({name: value for name, value in members.items() if name in bound})
        return parsed
    member = shape.members[payload]
    if not request.body or (is_stream(member) and body_is_streamed):
        return parsed
    read = parse_stream if is_stream(member) else parse_document
    parsed[payload] = read(member, request.body)
    return parsed


def serialize_bindings(
    shape: Shape, result: Mapping[str, Any], headers: dict[str, str]
) -> int | None:
    """Add a result's headers to those of a reply; return the status that it names, if it does.

    Raises:
        ValueError: A member is unknown to the model.
    """
    unknown = set(result) - set(shape.members)
    if unknown:
        raise ValueError(f"{shape.name} has no member {min(unknown)}")
    status = None
    for name, member in shape.members.items():
        value = result.get(name)
        if value is None:
            continue
        location = member.serialization.get("location")
        wire_name = member.serialization.get("name", name)
        if location == "statusCode":
            status = int(value)
        elif location == "header":
            headers[wire_name.lower()] = _clean(_format_header(member, value))
        elif location == "headers":
            for key, item in value.items():
                headers[_clean(f"{wire_name}{key}".lower())] = _clean(str(item))
    return status


def body_members(shape: Shape) -> dict[str, Shape]:
    """Return the members that travel in the body."""
    return {
        name: member
        for name, member in shape.members.items()
        if "location" not in member.serialization
    }


def parse_stream(shape: Shape, body: bytes) -> str | bytes:
    """Return a body that goes as it is, as text where the model says so.

    Raises:
        Fault: It should be text and is none.
    """
    if shape.type_name != "string":
        return body
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise serialization_fault("The request body is not valid UTF-8.") from error


def status_of(operation: OperationModel) -> int:
    """Return the status of a reply that works out."""
    return int(operation.http.get("responseCode", 200))


def is_stream(shape: Shape) -> bool:
    """Return whether a payload's bytes go as they are, or event by event."""
    return shape.type_name in ("blob", "string") or bool(shape.serialization.get("eventstream"))


def _parse_query(query: str) -> dict[str, list[str]]:
    parsed: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parsed.setdefault(name, []).append(value)
    return parsed


def _parse_parameter(shape: Shape, query: Mapping[str, list[str]], name: str) -> Any:
    if shape.type_name == "map":
        is_list = shape.value.type_name == "list"
        return {key: texts if is_list else texts[0] for key, texts in query.items()} or None
    texts = query.get(name)
    if texts is None:
        return None
    if shape.type_name == "list":
        return [parse_scalar(shape.member, text) for text in texts]
    return parse_scalar(shape, texts[0])


def _parse_header(shape: Shape, text: str) -> Any:
    if shape.type_name == "list":
        items = [
            found[1].replace('\\"', '"') if found[1] is not None else found[2].strip()
            for found in _LIST_ITEM.finditer(text)
            if found[0]
        ]
        return [parse_scalar(shape.member, item, timestamp_format="rfc822") for item in items]
    if shape.serialization.get("jsonvalue"):
        try:
            return json.loads(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, RecursionError) as error:
            raise serialization_fault("A header is no base64 of JSON") from error
    return parse_scalar(shape, text, timestamp_format="rfc822")


def _format_header(shape: Shape, value: Any) -> str:
    if shape.type_name == "list":
        return ",".join(_format_header(shape.member, item) for item in value)
    if shape.serialization.get("jsonvalue"):
        return base64.b64encode(json.dumps(value).encode()).decode()
    return format_scalar(shape, value, timestamp_format="rfc822")


def _clean(text: str) -> str:
    """Keep what users wrote from starting a header of its own."""
    return _CONTROL.sub(" ", text)
