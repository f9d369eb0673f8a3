"""The AWS CLI does what it does with AWS: endpoints, invocations, objects, identity."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aws_cli import AwsCli, needs_aws
from handlers import ECHO
from server import Server

pytestmark = needs_aws


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsCli]:
    with Server(tmp_path_factory.mktemp("aws")) as running:
        running.deploy("echo", {"code/inference.py": ECHO})
        yield AwsCli(running, tmp_path_factory.mktemp("shell"))


def test_endpoints_are_listed(aws: AwsCli) -> None:
    listed = json.loads(aws("sagemaker", "list-endpoints"))["Endpoints"]
    assert [(item["EndpointName"], item["EndpointStatus"]) for item in listed] == [
        ("echo", "InService")
    ]
    table = aws(
        *("sagemaker", "describe-endpoint", "--endpoint-name", "echo"),
        *("--query", "EndpointArn", "--output", "text"),
    )
    assert table.strip() == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/echo"


def test_an_endpoint_is_invoked(aws: AwsCli, tmp_path: Path) -> None:
    question, answer = tmp_path / "question.json", tmp_path / "answer.json"
    question.write_text('{"x": 1}')
    told = aws(
        *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "echo"),
        *("--content-type", "application/json", "--body", f"fileb://{question}", str(answer)),
    )
    assert answer.read_text() == '{"x": 1}'
    assert json.loads(told) == {
        "ContentType": "application/json",
        "InvokedProductionVariant": "AllTraffic",
    }


def test_what_goes_wrong_is_told(aws: AwsCli, tmp_path: Path) -> None:
    told = aws(
        *("sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "nobody"),
        *("--body", "fileb:///dev/null", str(tmp_path / "answer")),
        fails=True,
    )
    assert "(ValidationError)" in told
    assert "Endpoint nobody of account 123456789012 not found." in told


def test_objects_are_copied_listed_and_removed(aws: AwsCli, tmp_path: Path) -> None:
    content = os.urandom(9 * 1024 * 1024)  # in parts, from 8 MB on
    (tmp_path / "large.bin").write_bytes(content)
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "a b.txt").write_text("one")
    (tmp_path / "tree" / "below" / "ü.txt").write_text("two")

    assert "make_bucket: mine" in aws("s3", "mb", "s3://mine")
    aws("s3", "cp", str(tmp_path / "large.bin"), "s3://mine/large.bin")
    aws("s3", "cp", "--recursive", str(tmp_path / "tree"), "s3://mine/tree/")
    assert "mine" in aws("s3", "ls")
    listed = aws("s3", "ls", "s3://mine/")
    assert "PRE tree/" in listed
    assert f"{len(content)} large.bin" in listed
    everything = aws("s3", "ls", "--recursive", "s3://mine").splitlines()
    assert [line.split(maxsplit=3)[3] for line in everything] == [
        "large.bin",
        "tree/a b.txt",
        "tree/below/ü.txt",
    ]

    aws("s3", "cp", "s3://mine/large.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == content
    aws("s3", "sync", "s3://mine/tree", str(tmp_path / "again"))
    assert (tmp_path / "again" / "below" / "ü.txt").read_text() == "two"

    assert "BucketNotEmpty" in aws("s3", "rb", "s3://mine", fails=True)
    aws("s3", "rm", "--recursive", "s3://mine/tree")
    assert "PRE" not in aws("s3", "ls", "s3://mine/")
    assert "remove_bucket: mine" in aws("s3", "rb", "--force", "s3://mine")
    assert "mine" not in aws("s3", "ls")


def test_the_caller_is_known(aws: AwsCli) -> None:
    identity = json.loads(aws("sts", "get-caller-identity"))
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/")
