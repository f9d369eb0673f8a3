"""Asynchronous inference: calls are accepted, and their results lie in S3."""

from collections.abc import Iterator

import pytest

from async_endpoints import deploy_async, put_input, read_object, wait_for_object
from server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"CLARY_FLEET_MAX_WORKERS": "2"}
    with Server(tmp_path_factory.mktemp("async"), **settings) as running:
        running.s3.create_bucket(Bucket="results")
        running.s3.create_bucket(Bucket="inputs")
        deploy_async(running, "echo")
        yield running


def test_input_from_s3_becomes_an_output_object(server: Server) -> None:
    location = put_input(server, "a b/one.csv", b"1,2,3")

    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", InputLocation=location, ContentType="text/csv", Accept="text/csv"
    )

    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 202
    found = wait_for_object(server, reply["OutputLocation"])
    assert (found["Body"], found["ContentType"]) == (b"1,2,3", "text/csv")
    assert reply["OutputLocation"] == f"s3://results/echo/out/{reply['InferenceId']}.out"
    assert read_object(server, reply["FailureLocation"]) is None


def test_a_body_may_come_with_the_call(server: Server) -> None:
    reply = server.runtime.invoke_endpoint_async(
        EndpointName="echo", Body=b"[1]", ContentType="application/json", InferenceId="mine"
    )

    assert reply["InferenceId"] == "mine"
    assert wait_for_object(server, reply["OutputLocation"])["Body"] == b"[1]"
