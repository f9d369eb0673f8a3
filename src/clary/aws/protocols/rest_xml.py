"""The ``rest-xml`` protocol: S3."""

from collections.abc import Mapping
from typing import Any

from botocore.model import OperationModel, ServiceModel

from clary.aws.fault import Fault, resolve_fault
from clary.aws.http import HttpRequest, HttpResponse
from clary.aws.protocols import rest
from clary.aws.protocols.xml_values import (
    element,
    load_xml,
    namespace_attribute,
    parse_node,
    serialize_member,
    serialize_structure,
    text_content,
)
from clary.aws.service_models import Shape

_PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_XML = "application/xml"

_NAMESPACES = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
_ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
"""Root elements of S3, which its model leaves out: botocore does not look, other clients do."""
_UNWRAPPED = frozenset({"GetBucketLocation"})
"""Operations whose only member is the root element itself."""


class RestXmlProtocol:
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
        service = operation.service_model.service_name
        headers = _headers(service, request_id)
        shape = operation.output_shape
        if shape is None:
            return HttpResponse(rest.status_of(operation), headers)
        status = rest.serialize_bindings(shape, result, headers) or rest.status_of(operation)
        payload = shape.serialization.get("payload")
        namespace = namespace_attribute(_NAMESPACES.get(service))
        if payload is not None:
            member = shape.members[payload]
            value = result.get(payload)
            if rest.is_stream(member):
                body = value.encode() if isinstance(value, str) else value or b""
                return HttpResponse(status, headers, body)
            if value is None:
                return HttpResponse(status, headers)
            name = member.serialization.get("name", payload)
            text = element(name, serialize_structure(member, value), namespace)
        elif not rest.body_members(shape):
            return HttpResponse(status, headers)
        elif operation.name in _UNWRAPPED:
            ((name, member),) = rest.body_members(shape).items()
            content = result.get(name)
            text = element(name, text_content(str(content)) if content else "", namespace)
        else:
            root = _ROOTS.get(operation.name) or shape.serialization.get("name", shape.name)
            text = element(root, serialize_structure(shape, result), namespace)
        headers.setdefault("content-type", _XML)
        return HttpResponse(status, headers, _PROLOG + text.encode())

    def serialize_fault(
        self, service_model: ServiceModel | None, fault: Fault, request_id: str
    ) -> HttpResponse:
        form = resolve_fault(service_model, fault)
        service = service_model.service_name if service_model else ""
        parts = [
            element("Code", text_content(form.code)),
            element("Message", text_content(form.message)),
        ]
        for name, value in fault.fields.items():
            if value is None:
                continue
            member = form.shape.members.get(name) if form.shape is not None else None
            if member is not None:
                parts.extend(
                    serialize_member(member, value, member.serialization.get("name"), name)
                )
            else:
                # S3 adds members that its model does not have: Resource, BucketName, Key, ...
                parts.append(element(name, text_content(str(value))))
        if service == "s3":
            parts.append(element("RequestId", text_content(request_id)))
            text = element("Error", "".join(parts))
        else:
            side = "Sender" if form.is_sender else "Receiver"
            error = element("Error", element("Type", side) + "".join(parts))
            text = element("ErrorResponse", error + element("RequestId", text_content(request_id)))
        headers = {**_headers(service, request_id), "content-type": _XML}
        return HttpResponse(form.status, headers, _PROLOG + text.encode())


def _parse(shape: Shape, body: bytes) -> Any:
    return parse_node(shape, load_xml(body))


def _headers(service: str, request_id: str) -> dict[str, str]:
    headers = {"x-amzn-RequestId": request_id}
    if service == "s3":
        headers["x-amz-request-id"] = request_id
    return headers
