"""The ``json`` protocol, versions 1.0 and 1.1: control planes of SageMaker, Logs, SQS and others.

Everything is a POST of a JSON object; faults name themselves in ``__type``.
"""

import json
from collections.abc import Mapping
from typing import Any

from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault, FaultForm, resolve_fault, with_message
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols.json_values import (
    dump_value,
    load_json,
    parse_value,
    serialize_members,
)


class JsonProtocol:
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
        parsed: dict[str, Any] = parse_value(operation.input_shape, load_json(request.body)) or {}
        return parsed

    def serialize(
        self, operation: OperationModel, result: Mapping[str, Any], request_id: str
    ) -> HttpResponse:
        shape = operation.output_shape
        body = b"" if shape is None else dump_value(shape, result)
        return HttpResponse(200, _headers(operation.service_model, request_id), body)

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        form = resolve_fault(service_model, fault)
        members = form.members
        if form.shape is not None:
            members = serialize_members(form.shape, members)
            if not any(name.lower() == "message" for name in members):
                # The errors of some services (logs) declare no members; AWS sends the text anyway.
                members = {**members, "message": form.message}
        name = form.shape.name if form.shape is not None else form.code
        content = {"__type": name, **with_message(form, members)}
        headers = {**_headers(service_model, request_id), **query_error(service_model, form)}
        body = json.dumps(content, separators=(",", ":")).encode()
        return HttpResponse(form.status, headers, body)


def query_error(service_model: ServiceModel | None, form: FaultForm) -> dict[str, str]:
    """Return the header with a fault's old code, for a service that once spoke query.

    Its clients still match on those codes.
    """
    if service_model is None or not service_model.is_query_compatible:
        return {}
    side = "Sender" if form.is_sender else "Receiver"
    return {"x-amzn-query-error": f"{form.code};{side}"}


def _headers(service_model: ServiceModel | None, request_id: str) -> dict[str, str]:
    version = service_model.metadata.get("jsonVersion", "1.1") if service_model else "1.1"
    return {"content-type": f"application/x-amz-json-{version}", "x-amzn-RequestId": request_id}
