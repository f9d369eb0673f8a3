"""The ``query`` protocol: STS, IAM, SNS, and CloudWatch's older clients.

Requests are forms with dotted names (``Tags.member.1.Key``), replies are XML.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.model import OperationModel, ServiceModel

from clary.aws.dispatch import form_fields
from clary.aws.fault import Fault, resolve_fault
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols.base import MAX_DEPTH
from clary.aws.protocols.texts import parse_scalar
from clary.aws.protocols.xml_values import (
    element,
    namespace_attribute,
    serialize_member,
    serialize_structure,
    text_content,
)
from clary.aws.service_models import Shape

_HEADERS_XML = "text/xml"


class QueryProtocol:
    """See the module."""

    def parse(
        self,
        operation: OperationModel,
        request: HttpRequest,
        uri: Mapping[str, str],
        *,
        body_is_streamed: bool = False,
    ) -> dict[str, Any]:
        shape = operation.input_shape
        if shape is None:
            return {}
        return _parse_structure(shape, _tree(form_fields(request)))

    def serialize(
        self, operation: OperationModel, result: Mapping[str, Any], request_id: str
    ) -> HttpResponse:
        shape = operation.output_shape
        content = ""
        if shape is not None:
            content = serialize_structure(shape, result)
            wrapper = shape.serialization.get("resultWrapper")
            content = element(wrapper, content) if wrapper else content
        metadata = element("ResponseMetadata", element("RequestId", text_content(request_id)))
        namespace = namespace_attribute(operation.metadata.get("xmlNamespace"))
        text = element(f"{operation.name}Response", content + metadata, namespace)
        return _reply(200, text, request_id)

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        form = resolve_fault(service_model, fault)
        parts = [
            element("Type", "Sender" if form.is_sender else "Receiver"),
            element("Code", text_content(form.code)),
            element("Message", text_content(form.message)),
        ]
        for name, value in form.members.items():
            if name.lower() != "message" and form.shape is not None and value is not None:
                member = form.shape.members[name]
                parts.extend(
                    serialize_member(member, value, member.serialization.get("name"), name)
                )
        uri = service_model.metadata.get("xmlNamespace") if service_model else None
        text = element(
            "ErrorResponse",
            element("Error", "".join(parts)) + element("RequestId", text_content(request_id)),
            namespace_attribute(uri),
        )
        return _reply(form.status, text, request_id)


@dataclass(slots=True)
class _Field:
    """A name's value, and the names below it."""

    value: str | None = None
    below: dict[str, "_Field"] = field(default_factory=dict)


def _tree(fields: Mapping[str, str]) -> _Field:
    root = _Field()
    for name, value in fields.items():
        path = name.split(".", MAX_DEPTH + 1)
        if len(path) > MAX_DEPTH:
            raise Fault("MalformedQueryString", "A parameter is nested too deeply.", 400)
        place = root
        for part in path:
            place = place.below.setdefault(part, _Field())
        place.value = value
    return root


def _parse(shape: Shape, place: _Field) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _parse_structure(shape, place)
    if kind == "list":
        if not shape.serialization.get("flattened"):
            place = place.below.get(shape.member.serialization.get("name", "member"), _Field())
        return [_parse(shape.member, item) for item in _numbered(place)]
    if kind == "map":
        return _parse_map(shape, place)
    return None if place.value is None else parse_scalar(shape, place.value)


def _parse_structure(shape: Shape, place: _Field) -> dict[str, Any]:
    parsed = {}
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        if member.type_name == "list" and member.serialization.get("flattened"):
            # A flattened list goes by the name of its items, where they have one.
            wire_name = member.member.serialization.get("name", wire_name)
        found = place.below.get(wire_name)
        if found is not None:
            value = _parse(member, found)
            if value is not None:
                parsed[name] = value
    return parsed


def _parse_map(shape: Shape, place: _Field) -> dict[Any, Any]:
    if not shape.serialization.get("flattened"):
        place = place.below.get("entry", _Field())
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    return {
        _parse(shape.key, entry.below[key_name]): _parse(
            shape.value, entry.below.get(value_name, _Field())
        )
        for entry in _numbered(place)
        if key_name in entry.below
    }


def _numbered(place: _Field) -> list[_Field]:
    """Return what stands below 1, 2, ... in that order; gaps are closed."""
    numbers = [name for name in place.below if name.isascii() and name.isdigit() and len(name) < 10]
    return [place.below[name] for name in sorted(numbers, key=int)]


def _reply(status: int, text: str, request_id: str) -> HttpResponse:
    headers = {"content-type": _HEADERS_XML, "x-amzn-RequestId": request_id}
    return HttpResponse(status, headers, text.encode())
