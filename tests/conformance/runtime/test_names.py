"""The hand-written runtime protocol says what botocore's model says."""

import json

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import Loader
from botocore.model import ServiceModel

from clary.gateway import event_stream, faults, operations, replies, streaming


@pytest.fixture(scope="module")
def model():
    data = Loader().load_service_model("sagemaker-runtime", "service-2")
    return ServiceModel(data, "sagemaker-runtime")


def headers_of(shape):
    return {
        member.serialization["name"].lower(): name
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }


INVOKING = pytest.mark.parametrize(
    "operation", operations.OPERATIONS.values(), ids=lambda o: o.name
)


def test_the_paths_are_those_of_the_model(model):
    built = {action: operation.name for action, operation in operations.OPERATIONS.items()}
    forwarded = {operations.ASYNC_PATH_END.lstrip(b"/"): "InvokeEndpointAsync"}
    for action, operation in {**built, **forwarded}.items():
        uri = model.operation_model(operation).http["requestUri"]
        assert uri == f"/endpoints/{{EndpointName}}/{action.decode()}"


@INVOKING
def test_every_request_header_is_forwarded_or_routes(model, operation):
    known = {name.decode() for name in (*operation.forwarded, *operations.CHECKED)}
    assert known == set(headers_of(model.operation_model(operation.name).input_shape))


@INVOKING
def test_header_names_in_messages_are_those_of_the_members(model, operation):
    for header, member in headers_of(model.operation_model(operation.name).input_shape).items():
        expected = member[0].lower() + member[1:]
        if header.startswith("x-amzn-sagemaker-"):
            ours = operations.member_name(header.encode())
            assert ours.lower().startswith(expected[:6].lower())
        else:
            assert operations.member_name(header.encode()) == expected


@INVOKING
def test_what_becomes_the_containers_accept_is_the_member_of_that_name(model, operation):
    headers = headers_of(model.operation_model(operation.name).input_shape)
    assert headers[operation.accept.decode()] == "Accept"


def test_every_reply_header_is_of_the_model(model):
    expected = headers_of(model.operation_model("InvokeEndpoint").output_shape)
    ours = {replies.CUSTOM_ATTRIBUTES, replies.OPENED[0], replies.CLOSED}
    assert ours | {"content-type", "x-amzn-invoked-production-variant"} == set(expected)


def test_every_reply_header_of_a_stream_is_of_the_model(model):
    expected = headers_of(model.operation_model(operations.STREAM.name).output_shape)
    ours = {replies.CUSTOM_ATTRIBUTES}
    assert ours | {
        replies.STREAM_CONTENT_TYPE.decode(),
        "x-amzn-invoked-production-variant",
    } == set(expected)


def test_every_event_of_a_stream_is_of_the_model(model):
    events = model.operation_model(operations.STREAM.name).get_event_stream_output()
    buffer = EventStreamBuffer()
    buffer.add_data(event_stream.encode_payload_parts([b"bytes"]))
    buffer.add_data(streaming.model_stream_error("StreamBroken", "why"))
    buffer.add_data(streaming.internal_stream_failure("why"))
    part, broken, failed = buffer
    assert (
        events.members[part.headers[":event-type"]].members["Bytes"].serialization["eventpayload"]
    )
    for message in (broken, failed):
        shape = events.members[message.headers[":exception-type"]]
        assert set(json.loads(message.payload)) == set(shape.members)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ModelError", 424),
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
        ("ValidationError", 400),
    ],
)
def test_fault_statuses_are_those_of_the_model(model, code, status):
    errors = {e.name: e for e in model.operation_model("InvokeEndpoint").error_shapes}
    assert errors[code].metadata["error"]["httpStatusCode"] == status


def test_model_error_has_the_members_of_the_model(model):
    errors = {e.name: e for e in model.operation_model("InvokeEndpoint").error_shapes}
    reply = faults.ModelErrors("123456789012", "us-east-1").from_container(
        "e", "primary", 500, b"boom" * 5000, b"id"
    )
    answer = json.loads(reply.partition(b"\r\n\r\n")[2])
    members = errors["ModelError"].members
    assert set(members) <= set(answer)
    for name in ("Message", "OriginalMessage"):
        assert len(answer[name]) <= members[name].metadata.get("max", 2048)
