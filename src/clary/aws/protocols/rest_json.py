"""The ``rest-json`` protocol: the SageMaker runtime.

Members are bound to path, query, headers and a JSON body, or a body of plain bytes; faults name
themselves in the header ``x-amzn-errortype``.
"""

import json
from collections.abc import Mapping
from typing import Any

from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault, resolve_fault
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols import rest
from clary.aws.protocols.json_values import (
    dump_value,
    load_json,
    parse_value,
    serialize_members,
)
from clary.aws.service_models import Shape

_JSON = "application/json"


class RestJsonProtocol:
    """See the module."""

    def parse(
        self,
        operation: OperationModel,
        request: HttpRequest,
        uri: Mapping[str, str],
        *,
        body_is_streamed: bool = False,
    ) -> dict[str, Any]:
        if operation.input_shape is None:
            return {}
        return rest.parse_request(
            operation.input_shape,
            request,
            uri,
            body_is_streamed=body_is_streamed,
            parse_document=_parse,
        )

    def serialize(
        self, operation: OperationModel, result: Mapping[str, Any], request_id: str
    ) -> HttpResponse:
        headers = {"x-amzn-RequestId": request_id}
        shape = operation.output_shape
        if shape is None:
            return HttpResponse(rest.status_of(operation), headers)
        status = rest.serialize_bindings(shape, result, headers)
        payload = shape.serialization.get("payload")
        body = b""
        if payload is None:
            kept = {n: v for n, v in result.items() if n not in _bound(shape)}
            body = json.dumps(serialize_members(shape, kept), separators=(",", ":")).encode()
            headers.setdefault("content-type", _JSON)
        elif rest.is_stream(shape.members[payload]):
            value = result.get(payload) or b""
            body = value.encode() if isinstance(value, str) else value
            headers.setdefault("content-type", _stream_type(shape.members[payload]))
        elif result.get(payload) is not None:
            body = dump_value(shape.members[payload], result[payload])
            headers.setdefault("content-type", _JSON)
        return HttpResponse(status or rest.status_of(operation), headers, body)

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        form = resolve_fault(service_model, fault)
        headers = {
            "content-type": _JSON,
            "x-amzn-RequestId": request_id,
            "x-amzn-errortype": form.shape.name if form.shape is not None else form.code,
        }
        members = form.members
        if form.shape is not None:
            rest.serialize_bindings(form.shape, members, headers)
            kept = {n: v for n, v in members.items() if n not in _bound(form.shape)}
            members = serialize_members(form.shape, kept)
        return HttpResponse(
            form.status, headers, json.dumps(members, separators=(",", ":")).encode()
        )


def _parse(shape: Shape, body: bytes) -> Any:
    return parse_value(shape, load_json(body))


def _bound(shape: Shape) -> set[str]:
    """Return the members that do not travel in the body."""
    return set(shape.members) - set(rest.body_members(shape))


def _stream_type(shape: Shape) -> str:
    if shape.serialization.get("eventstream"):
        return "application/vnd.amazon.eventstream"
    return "text/plain" if shape.type_name == "string" else "application/octet-stream"
