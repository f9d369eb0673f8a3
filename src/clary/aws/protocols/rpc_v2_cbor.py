"""The ``smithy-rpc-v2-cbor`` protocol: what today's CloudWatch clients send.

A POST of a CBOR map to ``/service/<service>/operation/<name>``; faults name themselves in
``__type``, as in ``json``. Numbers keep their type on the wire, blobs are bytes, and a timestamp is
seconds since 1970 under tag 1.
"""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import cbor2
from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault, resolve_fault, serialization_fault, with_message
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols.base import MAX_DEPTH
from clary.aws.protocols.json import query_error
from clary.aws.protocols.json_values import parse_value, serialize_members
from clary.aws.service_models import Shape


class RpcV2CborProtocol:
    """See the module."""

    def parse(
        self,
        operation: OperationModel,
        request: HttpRequest,
        uri: Mapping[str, str],
        *,
        body_is_streamed: bool = False,
    ) -> dict[str, Any]:
        if operation.input_shape is None or not request.body:
            return {}
        parsed: dict[str, Any] = parse_value(operation.input_shape, _load(request.body)) or {}
        return parsed

    def serialize(
        self, operation: OperationModel, result: Mapping[str, Any], request_id: str
    ) -> HttpResponse:
        shape = operation.output_shape
        body = b"" if shape is None else _dump(_serialize(shape, result))
        headers = _headers(request_id)
        if shape is None:
            del headers["content-type"]
        return HttpResponse(200, headers, body)

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        form = resolve_fault(service_model, fault)
        members = form.members
        if form.shape is not None:
            members = serialize_members(form.shape, members, _serialize)
        name = form.shape.name if form.shape is not None else form.code
        headers = {**_headers(request_id), **query_error(service_model, form)}
        return HttpResponse(
            form.status, headers, _dump({"__type": name, **with_message(form, members)})
        )


def _headers(request_id: str) -> dict[str, str]:
    return {
        "content-type": "application/cbor",
        "smithy-protocol": "rpc-v2-cbor",
        "x-amzn-RequestId": request_id,
    }


def _load(body: bytes) -> Any:
    try:
        return cbor2.loads(
            body, max_depth=MAX_DEPTH, strict_hashable_types=True, semantic_decoders=_REFUSED_TAGS
        )
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise serialization_fault("The request body is not valid CBOR.") from error


def _dump(value: Any) -> bytes:
    return cbor2.dumps(value, datetime_as_timestamp=True, timezone=UTC)


def _refuse_tag(*_: Any) -> Any:
    raise ValueError("references are not allowed")


# References make a short body into an endless value.
_REFUSED_TAGS = dict.fromkeys((25, 28, 29, 256), _refuse_tag)


def _serialize(shape: Shape, value: Any) -> Any:
    """Return a value as ``cbor2`` can dump it, without the members that are None.

    Raises:
        ValueError: A member is unknown to the model.
    """
    kind = shape.type_name
    if kind == "structure":
        return serialize_members(shape, value, _serialize)
    if kind == "list":
        return [_serialize(shape.member, item) for item in value if item is not None]
    if kind == "map":
        return {
            key: _serialize(shape.value, item) for key, item in value.items() if item is not None
        }
    if kind in ("float", "double"):
        return float(value)
    if kind == "timestamp":
        # To the millisecond, as everywhere.
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value.encode() if kind == "blob" and isinstance(value, str) else value
