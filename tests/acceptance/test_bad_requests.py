"""Requests that are refused, as boto3 and a browser see it."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handlers import ECHO, FAILING_TO_LOAD, SLOW_TO_LOAD
from server import IMAGE, ROLE, Server

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
MAX_BODY_BYTES = 100_000

DEFAULTS = """
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return data
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("requests"), CLARY_GATEWAY_MAX_BODY_BYTES=str(MAX_BODY_BYTES)
    ) as running:
        running.deploy("echo", {"code/inference.py": ECHO})
        running.deploy("defaults", {"code/inference.py": DEFAULTS})
        yield running


def refusal(call: Any, **parameters: Any) -> dict[str, Any]:
    """Call, and return the response of the ClientError that comes."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    response: dict[str, Any] = refused.value.response
    return response


def assert_serves(server: Server) -> None:
    assert server.invoke("echo", b"still here") == b"still here"


# -- invocations ----------------------------------------------------------------------------------


def test_only_endpoints_that_serve_are_found(server: Server) -> None:
    server.create_endpoint("broken", {"code/inference.py": FAILING_TO_LOAD})
    server.wait_for_status("broken", "Failed")
    server.create_endpoint("Slow", {"code/inference.py": SLOW_TO_LOAD})
    for name in ("nobody", "Slow", "broken"):
        response = refusal(server.runtime.invoke_endpoint, EndpointName=name, Body=b"{}")
        assert response["Error"] == {
            "Code": "ValidationError",
            "Message": f"Endpoint {name} of account 123456789012 not found.",
        }
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    server.wait_for_status("Slow", "InService")
    assert server.invoke("Slow", b"1") == b"1"


def test_a_body_over_the_limit_is_413(server: Server) -> None:
    assert len(server.invoke("echo", b"x" * MAX_BODY_BYTES)) == MAX_BODY_BYTES
    response = refusal(
        server.runtime.invoke_endpoint, EndpointName="echo", Body=b"x" * (MAX_BODY_BYTES + 1)
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert response["Error"]["Code"] == "413"
    assert_serves(server)


def test_a_large_body_over_the_limit_is_413_too(server: Server) -> None:
    """Refused while most of it is still in the client's hands."""
    response = refusal(server.runtime.invoke_endpoint, EndpointName="echo", Body=b"x" * 30_000_000)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert_serves(server)


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "status", "words"),
    [
        (b"<x/>", "application/xml", "application/json", 415, "application/xml"),
        (b"[1, 2]", "application/json", "image/png", 406, "image/png"),
        (b"[1, 2", "application/json", "application/json", 500, "JSONDecodeError"),
    ],
)
def test_what_the_handler_cannot_read_or_write_is_inside_a_model_error(
    server: Server, body: bytes, content_type: str, accept: str, status: int, words: str
) -> None:
    response = refusal(
        server.runtime.invoke_endpoint,
        EndpointName="defaults",
        Body=body,
        ContentType=content_type,
        Accept=accept,
    )
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert words in response["OriginalMessage"]
    side = "server" if status == 500 else "client"
    assert response["Error"]["Message"].startswith(
        f'Received {side} error ({status}) from primary with message "'
    )


@pytest.mark.parametrize("value", [b"caf\xe9", "café".encode(), b"a\x01b", b"a\x7fb"])
def test_custom_attributes_that_are_no_visible_ascii_are_a_validation_error(
    server: Server, value: bytes
) -> None:
    """boto3 sends no such bytes; others do."""
    status, headers, body = raw_post(
        server,
        b"/endpoints/echo/invocations",
        [b"X-Amzn-SageMaker-Custom-Attributes: " + value],
    )
    if status == 400 and not headers.get("x-amzn-errortype"):
        # Control characters are no HTTP at all, which is told before anything is looked at.
        assert value in (b"a\x01b", b"a\x7fb")
    else:
        assert (status, headers["x-amzn-errortype"]) == (400, "ValidationError")
        assert "customAttributes" in json.loads(body)["Message"]
    assert_serves(server)


def test_what_boto3_does_not_check_is_checked_here(server: Server) -> None:
    runtime = server.client("sagemaker-runtime", parameter_validation=False)
    response = refusal(
        runtime.invoke_endpoint,
        EndpointName="under_score",
        Body=b"",
        CustomAttributes="a" * 1025,
        InferenceId="i" * 65,
    )
    assert response["Error"]["Code"] == "ValidationError"
    message = response["Error"]["Message"]
    assert message.startswith("3 validation errors detected: ")
    for member in ("endpointName", "customAttributes", "inferenceId"):
        assert f"at '{member}' failed to satisfy constraint" in message


def raw_post(
    server: Server, path: bytes, headers: list[bytes], body: bytes = b"{}"
) -> tuple[int, dict[str, str], bytes]:
    """Send these very bytes; return status, headers (names in lower case) and body."""
    lines = [
        b"POST " + path + b" HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}".encode(),
        f"Content-Length: {len(body)}".encode(),
        b"Content-Type: application/json",
        b"Connection: close",
        *headers,
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        with connection.makefile("rb") as file:
            reply = file.read()
    head, _, content = reply.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    return int(first.split()[1]), {n.lower(): v.strip() for n, _, v in pairs}, content


# -- control --------------------------------------------------------------------------------------


def test_a_taken_name_is_refused_and_what_was_there_stays(server: Server) -> None:
    before = server.sagemaker.describe_endpoint(EndpointName="echo")
    for name in ("echo", "ECHO"):
        taken = refusal(
            server.sagemaker.create_endpoint, EndpointName=name, EndpointConfigName="defaults"
        )
        assert taken["Error"] == {
            "Code": "ValidationException",
            "Message": f'Cannot create already existing endpoint "{ARN}:endpoint/echo".',
        }
    after = server.sagemaker.describe_endpoint(EndpointName="echo")
    for unchanged in ("EndpointConfigName", "EndpointStatus", "LastModifiedTime"):
        assert after[unchanged] == before[unchanged]
    assert_serves(server)
    taken = refusal(
        server.sagemaker.create_endpoint_config,
        EndpointConfigName="echo",
        ProductionVariants=[
            {
                "VariantName": "v",
                "ModelName": "echo",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    assert "Cannot create already existing endpoint configuration" in taken["Error"]["Message"]


def test_every_fault_of_a_configuration_is_listed_with_its_path(server: Server) -> None:
    sagemaker = server.client("sagemaker", parameter_validation=False)
    response = refusal(
        sagemaker.create_endpoint_config,
        EndpointConfigName="-starts-with-a-dash",
        ProductionVariants=[
            {
                "VariantName": "fine",
                "ModelName": "echo",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            },
            {
                "VariantName": "under_score",
                "ModelName": "echo",
                "InitialInstanceCount": 0,
                "InstanceType": "ml.abacus.large",
                "InitialVariantWeight": -0.5,
            },
        ],
        Tags=[{"Key": "no-value"}],
    )
    assert response["Error"]["Code"] == "ValidationException"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    message = response["Error"]["Message"]
    assert message.startswith("6 validation errors detected: ")
    second = "productionVariants.2.member"
    for start, constraint in (
        (
            "Value '-starts-with-a-dash' at 'endpointConfigName'",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9](",
        ),
        (f"Value 'under_score' at '{second}.variantName'", "regular expression pattern"),
        (f"Value '0' at '{second}.initialInstanceCount'", "greater than or equal to 1"),
        (f"Value 'ml.abacus.large' at '{second}.instanceType'", "enum value set: ["),
        (f"Value '-0.5' at '{second}.initialVariantWeight'", "greater than or equal to 0"),
        ("Value null at 'tags.1.member.value'", "Member must not be null"),
    ):
        found = [part for part in message.split("; ") if start in part]
        assert len(found) == 1, (start, message)
        assert constraint in found[0]
    listed = server.sagemaker.list_endpoint_configs(NameContains="dash")["EndpointConfigs"]
    assert listed == []


@pytest.mark.parametrize(
    "members",
    [
        {"EndpointConfigName": ["a"]},
        {"EndpointConfigName": "n", "ProductionVariants": "one"},
        {"EndpointConfigName": "n", "ProductionVariants": [["v"]]},
        {"EndpointConfigName": "n", "ProductionVariants": [{"InitialInstanceCount": "two"}]},
        {"EndpointConfigName": {"a": {}}},
    ],
)
def test_wrong_types_are_told_and_nothing_is_made(server: Server, members: dict[str, Any]) -> None:
    status, reply = target(server, "CreateEndpointConfig", json.dumps(members).encode())
    assert status == 400
    assert reply["__type"] == "SerializationException"
    assert reply.get("Message") or reply.get("message")


@pytest.mark.parametrize(
    "body",
    [
        b'{"ModelName":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"ModelName":"m","PrimaryContainer":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"ModelName":"m","Unknown":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        b'{"ModelName":' + b"9" * 1_000_000 + b"}",
        b'{"ModelName":"\\ud800"}',
        b'\xff\xfe{"ModelName":"m"}',
        b'{"ModelName":"m"} {"ModelName":"n"}',
        b'{"ModelName":NaN}',
    ],
    ids=["objects", "lists", "unknown", "number", "surrogate", "utf-16", "two", "nan"],
)
def test_json_that_nobody_would_send_is_refused_and_moves_nothing(
    server: Server, body: bytes
) -> None:
    status, reply = target(server, "CreateModel", body)
    assert status == 400
    assert reply["__type"] in ("SerializationException", "ValidationException")
    assert len(json.dumps(reply)) < 10_000
    assert_serves(server)


def test_a_control_request_over_its_limit_is_refused(server: Server) -> None:
    status, _ = target(server, "CreateModel", b'{"ModelName":"' + b"x" * 17 * 1024 * 1024 + b'"}')
    assert status == 413
    assert_serves(server)


def target(server: Server, operation: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Post a body of our own to an operation; return status and what came."""
    request = urllib.request.Request(
        server.url,
        body,
        {
            "X-Amz-Target": f"SageMaker.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        },
        method="POST",
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    with refused.value as error:
        text = error.read()
        return error.code, json.loads(text) if text else {}


# -- who may come in ------------------------------------------------------------------------------

PLAIN = b"Content-Type: text/plain"
EVIL = [b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site", PLAIN]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"/", [b"X-Amz-Target: SageMaker.CreateModel", *EVIL]),
        (b"/", [b"X-Amz-Target: SageMaker.CreateModel", b"Origin: null"]),
        (b"/?Action=AssumeRole&Version=2011-06-15", EVIL),
        (b"/endpoints/echo/invocations", EVIL),
        (b"/bucket/key", EVIL),
    ],
)
def test_a_page_in_the_users_browser_does_not_get_in(
    server: Server, path: bytes, headers: list[bytes]
) -> None:
    body = json.dumps(
        {"ModelName": "by-a-page", "PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE}
    ).encode()
    status, _, _ = raw_post(server, path, headers, body)
    assert status == 403
    assert server.sagemaker.list_models(NameContains="by-a-page")["Models"] == []


def test_a_name_that_was_bound_to_loopback_by_its_owner_does_not_get_in(server: Server) -> None:
    """DNS rebinding: the page's own origin, so that only the host name tells."""
    request = urllib.request.Request(
        server.url,
        b'{"ModelName":"m"}',
        {"Host": f"evil.example:{server.port}", "X-Amz-Target": "SageMaker.DeleteModel"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as error:
        assert error.code == 403
        assert b"evil.example" in error.read()


def test_what_only_begins_like_the_health_page_is_not_found(server: Server) -> None:
    for path in ("/_clary/healthx", "/_clary/health/x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}{path}")
        with refused.value as error:
            assert error.code == 404
