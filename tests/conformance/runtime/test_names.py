"""The hand-written runtime protocol says what botocore's model says."""

import json

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from clary.gateway import faults, runtime


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


def test_the_paths_are_those_of_the_model(model):
    for action, operation in runtime.OPERATIONS.items():
        uri = model.operation_model(operation).http["requestUri"]
        assert uri == f"/endpoints/{{EndpointName}}/{action.decode()}"


def test_every_request_header_of_invoke_endpoint_is_forwarded_or_refused(model):
    known = {name.decode() for name in (*runtime.FORWARDED, *runtime.REFUSED)}
    expected = headers_of(model.operation_model("InvokeEndpoint").input_shape)
    assert known == set(expected)


def test_header_names_in_messages_are_those_of_the_members(model):
    for header, member in headers_of(model.operation_model("InvokeEndpoint").input_shape).items():
        expected = member[0].lower() + member[1:]
        if header.startswith("x-amzn-sagemaker-"):
            assert runtime.member_name(header.encode()).lower().startswith(expected[:6].lower())
        else:
            assert runtime.member_name(header.encode()) == expected


def test_every_reply_header_is_of_the_model(model):
    expected = headers_of(model.operation_model("InvokeEndpoint").output_shape)
    ours = {name.decode() for name in runtime.RETURNED.values()}
    assert ours | {"content-type", "x-amzn-invoked-production-variant"} == set(expected)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ModelError", 424),
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
