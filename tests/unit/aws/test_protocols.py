"""What botocore sends, we read; what we write, botocore reads."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.parsers import create_parser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aws_values import MODELS, operation, read, sent, values
from clary.aws.dispatch import find_operation
from clary.aws.fault import Fault
from clary.aws.http import HttpRequest
from clary.aws.protocols import PROTOCOLS

REQUESTS = [
    ("sagemaker", "CreateModel", "json"),
    ("sagemaker", "CreateEndpointConfig", "json"),
    ("sagemaker", "CreateEndpoint", "json"),
    ("sagemaker", "ListEndpoints", "json"),
    ("sagemaker", "AddTags", "json"),
    ("sagemaker", "CreateTransformJob", "json"),
    ("application-autoscaling", "PutScalingPolicy", "json"),
    ("sqs", "SendMessage", "json"),
    ("logs", "PutLogEvents", "json"),
    ("sagemaker-runtime", "InvokeEndpoint", "rest-json"),
    ("sagemaker-runtime", "InvokeEndpointAsync", "rest-json"),
    ("sts", "AssumeRole", "query"),
    ("sts", "GetCallerIdentity", "query"),
    ("sns", "Publish", "query"),
    ("iam", "CreateRole", "query"),
    ("cloudwatch", "PutMetricData", "query"),
    ("cloudwatch", "PutMetricData", "json"),
    ("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "GetMetricData", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "PutMetricAlarm", "smithy-rpc-v2-cbor"),
    ("s3", "PutObject", "rest-xml"),
    ("s3", "GetObject", "rest-xml"),
    ("s3", "ListObjectsV2", "rest-xml"),
    ("s3", "UploadPart", "rest-xml"),
    ("s3", "CompleteMultipartUpload", "rest-xml"),
    ("s3", "DeleteObjects", "rest-xml"),
    ("s3", "PutBucketTagging", "rest-xml"),
    ("s3", "PutBucketLifecycleConfiguration", "rest-xml"),
    ("s3", "PutBucketAcl", "rest-xml"),
    ("s3", "GetObjectAttributes", "rest-xml"),
]

REPLIES = [
    ("sagemaker", "DescribeEndpoint", "json"),
    ("sagemaker", "DescribeEndpointConfig", "json"),
    ("sagemaker", "DescribeModel", "json"),
    ("sagemaker", "ListEndpoints", "json"),
    ("sagemaker", "DeleteEndpoint", "json"),
    ("application-autoscaling", "DescribeScalingPolicies", "json"),
    ("sqs", "ReceiveMessage", "json"),
    ("sagemaker-runtime", "InvokeEndpointAsync", "rest-json"),
    ("sts", "AssumeRole", "query"),
    ("sts", "GetCallerIdentity", "query"),
    ("sns", "GetTopicAttributes", "query"),
    ("iam", "GetRole", "query"),
    ("cloudwatch", "GetMetricStatistics", "query"),
    ("cloudwatch", "GetMetricStatistics", "json"),
    ("cloudwatch", "GetMetricStatistics", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "GetMetricWidgetImage", "smithy-rpc-v2-cbor"),
    ("cloudwatch", "PutMetricData", "smithy-rpc-v2-cbor"),
    ("s3", "ListBuckets", "rest-xml"),
    ("s3", "ListObjectsV2", "rest-xml"),
    ("s3", "ListObjectVersions", "rest-xml"),
    ("s3", "ListParts", "rest-xml"),
    ("s3", "HeadObject", "rest-xml"),
    ("s3", "CopyObject", "rest-xml"),
    ("s3", "DeleteObjects", "rest-xml"),
    ("s3", "GetBucketAcl", "rest-xml"),
    ("s3", "GetBucketLifecycleConfiguration", "rest-xml"),
]

EXAMPLES = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("service", "name", "protocol"), REQUESTS)
@EXAMPLES
@given(data=st.data())
def test_what_botocore_sends_is_parsed_to_the_same_values(
    service: str, name: str, protocol: str, data: st.DataObject
) -> None:
    model = operation(service, name)
    given_values = data.draw(values(model.input_shape)) if model.input_shape else {}
    request = sent(model, given_values, protocol)
    found = find_operation(MODELS.get(service), request)
    assert found.operation.name == name
    assert found.protocol == protocol
    parsed = PROTOCOLS[protocol].parse(found.operation, request, found.uri)
    assert parsed == given_values


@pytest.mark.parametrize(("service", "name", "protocol"), REPLIES)
@EXAMPLES
@given(data=st.data())
def test_what_is_serialized_botocore_reads_as_the_same_values(
    service: str, name: str, protocol: str, data: st.DataObject
) -> None:
    model = operation(service, name)
    result = data.draw(values(model.output_shape)) if model.output_shape else {}
    response = PROTOCOLS[protocol].serialize(model, result, "request-1")
    assert response.headers["x-amzn-RequestId"] == "request-1"
    assert read(model, response, protocol) == result


@pytest.mark.parametrize(("service", "name", "protocol"), REPLIES)
def test_absent_members_are_left_out(service: str, name: str, protocol: str) -> None:
    model = operation(service, name)
    shape = model.output_shape
    members: list[str] = list(shape.members) if shape else []
    response = PROTOCOLS[protocol].serialize(model, dict.fromkeys(members), "request-1")
    assert response == PROTOCOLS[protocol].serialize(model, {}, "request-1")
    assert b"null" not in response.body
    assert b"None" not in response.body


def test_a_structure_of_nothing_but_absent_members_is_absent() -> None:
    model = operation("sagemaker", "DescribeEndpoint")
    result = {"EndpointName": "a", "LastDeploymentConfig": {"BlueGreenUpdatePolicy": None}}
    assert PROTOCOLS["json"].serialize(model, result, "r").body == b'{"EndpointName":"a"}'


def test_empty_lists_are_kept_for_they_are_answers() -> None:
    model = operation("sagemaker", "ListEndpoints")
    assert PROTOCOLS["json"].serialize(model, {"Endpoints": []}, "r").body == b'{"Endpoints":[]}'


def test_a_result_with_a_member_that_the_model_lacks_is_our_mistake() -> None:
    for service, name, protocol in (
        ("sagemaker", "DescribeEndpoint", "json"),
        ("sts", "AssumeRole", "query"),
    ):
        with pytest.raises(ValueError, match="has no member Nonsense"):
            PROTOCOLS[protocol].serialize(operation(service, name), {"Nonsense": 1}, "r")


def test_timestamps_have_the_form_of_their_protocol() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    body = (
        PROTOCOLS["json"]
        .serialize(operation("sagemaker", "DescribeEndpoint"), {"CreationTime": moment}, "r")
        .body
    )
    assert body == b'{"CreationTime":1767323045.678}'
    body = (
        PROTOCOLS["rest-xml"]
        .serialize(operation("s3", "ListBuckets"), {"Buckets": [{"CreationDate": moment}]}, "r")
        .body
    )
    assert b"<CreationDate>2026-01-02T03:04:05.678Z</CreationDate>" in body
    headers = (
        PROTOCOLS["rest-xml"]
        .serialize(operation("s3", "HeadObject"), {"LastModified": moment}, "r")
        .headers
    )
    assert headers["last-modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"


def parse_json(body: bytes, name: str = "CreateEndpointConfig") -> dict[str, Any]:
    request = HttpRequest("POST", "/", "", {"x-amz-target": f"SageMaker.{name}"}, body)
    found = find_operation(MODELS.get("sagemaker"), request)
    return PROTOCOLS["json"].parse(found.operation, request, found.uri)


def test_unknown_members_and_nulls_are_ignored() -> None:
    assert parse_json(b'{"EndpointConfigName": "a", "Nonsense": 1, "KmsKeyId": null}') == {
        "EndpointConfigName": "a"
    }


def test_an_empty_body_is_an_empty_request() -> None:
    assert parse_json(b"") == {}


WRONG_JSON = {
    "number for text": (
        b'{"EndpointConfigName": 1}',
        "NUMBER_VALUE can not be converted to a String",
    ),
    "boolean for text": (
        b'{"EndpointConfigName": true}',
        "TRUE_VALUE can not be converted to a String",
    ),
    "list for text": (b'{"EndpointConfigName": []}', "Start of list found where not expected"),
    "object for text": (b'{"EndpointConfigName": {}}', "Start of structure or map found"),
    "object for list": (b'{"ProductionVariants": {}}', "Start of structure or map found"),
    "text for list": (b'{"ProductionVariants": "x"}', "Expected list or null"),
    "text for number": (
        b'{"ProductionVariants": [{"InitialInstanceCount": "1"}]}',
        "STRING_VALUE can not be converted to an Integer",
    ),
    "fraction for integer": (
        b'{"ProductionVariants": [{"InitialInstanceCount": 1.5}]}',
        "NUMBER_VALUE can not be converted to an Integer",
    ),
    "integer of 33 bits": (
        b'{"ProductionVariants": [{"InitialInstanceCount": 4294967296}]}',
        "NUMBER_VALUE can not be converted to an Integer",
    ),
    "infinity": (b'{"ProductionVariants": [{"InitialVariantWeight": Infinity}]}', "not valid JSON"),
    "float too long": (
        b'{"ProductionVariants": [{"InitialVariantWeight": 1' + b"0" * 400 + b"}]}",
        "NUMBER_VALUE can not be converted to a Double",
    ),
    "list for request": (b"[]", "Start of list found where not expected"),
    "text for request": (b'"x"', "Expected map or null"),
    "no JSON": (b"{", "not valid JSON"),
    "no UTF-8": (b'{"EndpointConfigName": "\xff\xfe"}', "not valid JSON"),
    "integer without end": (b'{"x": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    "nested lists": (b"[" * 100_000, "nested too deeply"),
    "nested objects": (b'{"Tags":' * 100_000, "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "text"), WRONG_JSON.values(), ids=WRONG_JSON)
def test_wrong_json_is_a_serialization_fault(body: bytes, text: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_json(body)
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)
    assert text in caught.value.message


WRONG_XML = {
    "no XML": b"<Tagging>",
    "empty element only": b"   ",
    "entities": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><Tagging>&c;</Tagging>',
    "nested": b"<a>" * 100_000,
    "no encoding": b'<?xml version="1.0" encoding="nonsense"?><Tagging/>',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("body", WRONG_XML.values(), ids=WRONG_XML)
def test_wrong_xml_is_malformed(body: bytes) -> None:
    request = HttpRequest("PUT", "/bucket", "tagging", {}, body)
    found = find_operation(MODELS.get("s3"), request)
    with pytest.raises(Fault) as caught:
        PROTOCOLS["rest-xml"].parse(found.operation, request, found.uri)
    assert caught.value.code == "MalformedXML"


def test_a_body_of_text_that_is_no_text_is_a_fault() -> None:
    request = HttpRequest("PUT", "/bucket", "policy", {}, b"\xff")
    with pytest.raises(Fault, match="UTF-8"):
        PROTOCOLS["rest-xml"].parse(operation("s3", "PutBucketPolicy"), request, {"Bucket": "b"})


WRONG_HEADERS = [
    ("x-amz-object-lock-retain-until-date", "soon"),
    ("content-length", "1e3"),
    ("x-amz-server-side-encryption-bucket-key-enabled", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), WRONG_HEADERS)
def test_a_header_of_the_wrong_type_is_a_fault(name: str, value: str) -> None:
    request = HttpRequest("PUT", "/b/k", "", {name: value})
    with pytest.raises(Fault) as caught:
        PROTOCOLS["rest-xml"].parse(operation("s3", "PutObject"), request, {"Bucket": "b"})
    assert caught.value.code == "SerializationException"


def test_words_for_numbers_without_digits_survive() -> None:
    model = operation("sagemaker", "CreateEndpointConfig")
    variant = {"InitialVariantWeight": float("inf")}
    body = sent(model, {"ProductionVariants": [variant]}, "json").body
    assert parse_json(body) == {"ProductionVariants": [variant]}


WRONG_FORMS = {
    "nested": b"Action=AssumeRole&Tags" + b".member" * 100_000 + b"=1",
    "number": b"Action=AssumeRole&DurationSeconds=1_0",
    "many": b"Action=AssumeRole&" + b"&".join(b"a%d=1" % n for n in range(30_000)),
}


@pytest.mark.parametrize("body", WRONG_FORMS.values(), ids=WRONG_FORMS)
def test_a_wrong_form_is_a_fault(body: bytes) -> None:
    request = HttpRequest("POST", "/", "", {}, body)
    with pytest.raises(Fault):
        PROTOCOLS["query"].parse(operation("sts", "AssumeRole"), request, {})


def test_lists_in_forms_keep_their_order_and_need_no_memory_for_gaps() -> None:
    items = (b"TransitiveTagKeys.member.%d=%d" % (n, n) for n in (999999999, 10, 9))
    body = b"Action=AssumeRole&" + b"&".join(items)
    request = HttpRequest("POST", "/", "", {}, body)
    found = find_operation(MODELS.get("sts"), request)
    parsed = PROTOCOLS["query"].parse(found.operation, request, found.uri)
    assert parsed["TransitiveTagKeys"] == ["9", "10", "999999999"]


@pytest.mark.parametrize(
    ("service", "protocol"),
    [
        ("sagemaker", "json"),
        ("sagemaker-runtime", "rest-json"),
        ("sts", "query"),
        ("cloudwatch", "json"),
        ("logs", "json"),
        ("logs", "smithy-rpc-v2-cbor"),
        ("s3", "rest-xml"),
        ("iam", "rest-xml"),
    ],
)
def test_faults_reach_botocore_with_code_message_and_request_id(
    service: str, protocol: str
) -> None:
    fault = Fault("ValidationException", '1 < 2 & \u00fc: "x"', 418)
    response = PROTOCOLS[protocol].serialize_fault(MODELS.get(service), fault, "request-1")
    parsed = read(operation(service, MODELS.get(service).operation_names[0]), response, protocol)
    assert response.status == 418
    assert parsed["Error"]["Code"] in ("ValidationException", "ValidationError")
    assert parsed["Error"]["Message"] == '1 < 2 & \u00fc: "x"'
    assert parsed["RequestId"] == "request-1"


def test_a_modelled_error_has_its_status_and_members() -> None:
    fields = {"OriginalStatusCode": 500, "OriginalMessage": "boom", "LogStreamArn": "arn:x"}
    fault = Fault("ModelError", "Received server error", fields=fields)
    model = MODELS.get("sagemaker-runtime")
    response = PROTOCOLS["rest-json"].serialize_fault(model, fault, "r")
    assert response.status == 424
    assert response.headers["x-amzn-errortype"] == "ModelError"
    parsed = create_parser("rest-json").parse(
        {"status_code": 424, "headers": response.headers, "body": response.body},
        model.shape_for("ModelError"),
    )
    assert parsed == {**fields, "Message": "Received server error"}


def test_a_modelled_error_of_a_query_service_has_its_own_code() -> None:
    fault = Fault("InvalidIdentityTokenException", "no")
    response = PROTOCOLS["query"].serialize_fault(MODELS.get("sts"), fault, "r")
    assert b"<Code>InvalidIdentityToken</Code>" in response.body
    assert b"<Type>Sender</Type>" in response.body
    assert response.status == 400


def test_a_platform_fault_is_not_blamed_on_the_sender() -> None:
    fault = Fault("InternalFailure", "oops", 500)
    response = PROTOCOLS["query"].serialize_fault(MODELS.get("sts"), fault, "r")
    assert b"<Type>Receiver</Type>" in response.body


def test_s3_faults_name_what_they_are_about() -> None:
    fault = Fault(
        "NoSuchBucket", "The specified bucket does not exist", 404, fields={"BucketName": "b<"}
    )
    response = PROTOCOLS["rest-xml"].serialize_fault(MODELS.get("s3"), fault, "r")
    assert b"<BucketName>b&lt;</BucketName>" in response.body
    assert response.headers["x-amz-request-id"] == "r"


def test_clients_of_what_was_a_query_service_get_the_old_code_too() -> None:
    fault = Fault("LimitExceededFault", "no")
    response = PROTOCOLS["json"].serialize_fault(MODELS.get("cloudwatch"), fault, "r")
    assert response.headers["x-amzn-query-error"] == "LimitExceeded;Sender"
    assert b'"__type":"LimitExceededFault"' in response.body


def test_the_location_of_a_bucket_is_the_root_itself() -> None:
    model = operation("s3", "GetBucketLocation")
    body = PROTOCOLS["rest-xml"].serialize(model, {"LocationConstraint": "eu-west-1"}, "r").body
    assert body.endswith(b'2006-03-01/">eu-west-1</LocationConstraint>')


def test_listings_have_the_roots_that_other_clients_look_for() -> None:
    body = PROTOCOLS["rest-xml"].serialize(operation("s3", "ListObjectsV2"), {}, "r").body
    assert b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' in body


def test_a_character_that_xml_cannot_hold_does_not_spoil_a_listing() -> None:
    model = operation("s3", "ListObjectsV2")
    response = PROTOCOLS["rest-xml"].serialize(model, {"Contents": [{"Key": "a\x01\r\nb"}]}, "r")
    assert read(model, response, "rest-xml") == {"Contents": [{"Key": "a\ufffd\r\nb"}]}


def test_a_header_value_cannot_start_another_header() -> None:
    result = {"ContentType": "text/plain\r\nset-cookie: a=b", "Metadata": {"k\r\nx": "v\n"}}
    headers = PROTOCOLS["rest-xml"].serialize(operation("s3", "HeadObject"), result, "r").headers
    assert not any(c in name + value for name, value in headers.items() for c in "\r\n")


def test_a_streamed_body_is_left_aside() -> None:
    request = HttpRequest("PUT", "/b/k", "", {"content-type": "a/b"}, b"")
    found = find_operation(MODELS.get("s3"), request)
    parsed = PROTOCOLS["rest-xml"].parse(found.operation, request, found.uri, body_is_streamed=True)
    assert parsed == {"Bucket": "b", "Key": "k", "ContentType": "a/b"}
    response = PROTOCOLS["rest-xml"].serialize(operation("s3", "GetObject"), {"ETag": "e"}, "r")
    assert response.body == b""
    assert response.headers["etag"] == "e"


def test_the_body_of_an_invocation_is_given_back_as_it_is() -> None:
    model = operation("sagemaker-runtime", "InvokeEndpoint")
    result = {
        "Body": b"\x00\xff",
        "ContentType": "application/x-npy",
        "InvokedProductionVariant": "v",
    }
    response = PROTOCOLS["rest-json"].serialize(model, result, "r")
    assert response.body == b"\x00\xff"
    assert response.headers["content-type"] == "application/x-npy"
    assert response.headers["x-amzn-invoked-production-variant"] == "v"


def parse_cbor(body: bytes, name: str = "GetMetricStatistics") -> dict[str, Any]:
    path = f"/service/GraniteServiceVersion20100801/operation/{name}"
    request = HttpRequest("POST", path, "", {"smithy-protocol": "rpc-v2-cbor"}, body)
    found = find_operation(MODELS.get("cloudwatch"), request)
    return PROTOCOLS["smithy-rpc-v2-cbor"].parse(found.operation, request, found.uri)


WRONG_CBOR = {
    "no CBOR": (b"\xff", "not valid CBOR"),
    "cut short": (b"\xa1\x66Period", "not valid CBOR"),
    "nested": (b"\x81" * 100_000, "not valid CBOR"),
    "a list for the request": (b"\x80", "Start of list found"),
    "a shared value": (b"\xd8\x1c\xa0", "not valid CBOR"),
    "a reference": (b"\xa1\x66Period\xd8\x1d\x00", "not valid CBOR"),
    "a moment that no calendar has": (
        b"\xa1\x69StartTime\xc1\xfb\x7f\xe0\x00\x00\x00\x00\x00\x00",
        "not valid CBOR",
    ),
    "text for a number": (b"\xa1\x66Period\x61x", "can not be converted to an Integer"),
    "a huge number": (b"\xa1\x66Period\xc2\x49\x01" + bytes(8), "to an Integer"),
    "numbers as keys": (b"\xa1\x01\x02", "not valid CBOR"),
}


@pytest.mark.parametrize(("body", "text"), WRONG_CBOR.values(), ids=WRONG_CBOR)
def test_wrong_cbor_is_a_serialization_fault(body: bytes, text: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_cbor(body)
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)
    assert text in caught.value.message


@given(body=st.binary(max_size=60))
def test_any_bytes_are_cbor_or_a_fault(body: bytes) -> None:
    try:
        parsed = parse_cbor(body)
    except Fault as fault:
        parsed = {"Fault": fault.code}
    assert parsed.get("Fault", "SerializationException") == "SerializationException"


def test_cbor_takes_what_has_no_length_beforehand() -> None:
    assert parse_cbor(b"\xbf\x66Period\x18\x3c\xff") == {"Period": 60}
    assert parse_cbor(b"") == {}


def test_a_fault_in_cbor_also_has_the_code_of_the_query_protocol() -> None:
    fault = Fault("InvalidParameterValue", "no")
    model = MODELS.get("cloudwatch")
    response = PROTOCOLS["smithy-rpc-v2-cbor"].serialize_fault(model, fault, "r")
    assert response.headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"
    parsed = read(operation("cloudwatch", "PutMetricData"), response, "smithy-rpc-v2-cbor")
    assert parsed["Error"]["Code"] == "InvalidParameterValue"
    assert parsed["Error"]["Message"] == "no"
