"""The AWS CLI as it comes, with nothing but `eval "$(clary env)"` before it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers import ECHO
from server import CLARY, Server

AWS = shutil.which("aws")

pytestmark = pytest.mark.skipif(AWS is None, reason="there is no aws on the PATH")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("aws")) as running:
        running.deploy("echo", {"code/inference.py": ECHO})
        yield running


@pytest.fixture(scope="module")
def shell(server: Server) -> dict[str, str]:
    """The environment of a shell that has evaluated what `clary env` printed."""
    bare = {name: value for name, value in server.environ().items() if not name.startswith("AWS_")}
    done = subprocess.run(
        ["sh", "-euc", 'eval "$(clary env)"; exec env -0'],
        env={
            **bare,
            "PATH": f"{CLARY.parent}{os.pathsep}{bare['PATH']}",
            "CLARY_DATA_DIR": str(server.data_dir),
            # Neither this machine's profiles nor its role are to be found.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PROFILE": "of-another-account",
            "AWS_PAGER": "",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def aws(shell: dict[str, str], *arguments: str, fails: bool = False) -> str:
    """Run the AWS CLI; return what it printed, on standard error where it is to fail."""
    assert AWS is not None
    done = subprocess.run(
        [AWS, *arguments],
        env=shell,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    # Version 1 and version 2 do not fail with the same status.
    assert (done.returncode != 0) == fails, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


def test_endpoints_are_listed(shell: dict[str, str]) -> None:
    listed = json.loads(aws(shell, "sagemaker", "list-endpoints"))["Endpoints"]
    assert [(item["EndpointName"], item["EndpointStatus"]) for item in listed] == [
        ("echo", "InService")
    ]
    table = aws(
        *(shell, "sagemaker", "describe-endpoint", "--endpoint-name", "echo"),
        *("--query", "EndpointArn", "--output", "text"),
    )
    assert table.strip() == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/echo"


def test_an_endpoint_is_invoked(shell: dict[str, str], tmp_path: Path) -> None:
    question, answer = tmp_path / "question.json", tmp_path / "answer.json"
    question.write_text('{"x": 1}')
    told = aws(
        *(shell, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "echo"),
        *("--content-type", "application/json", "--body", f"fileb://{question}", str(answer)),
    )
    assert answer.read_text() == '{"x": 1}'
    assert json.loads(told) == {
        "ContentType": "application/json",
        "InvokedProductionVariant": "AllTraffic",
    }


def test_what_goes_wrong_is_told(shell: dict[str, str], tmp_path: Path) -> None:
    told = aws(
        *(shell, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "nobody"),
        *("--body", "fileb:///dev/null", str(tmp_path / "answer")),
        fails=True,
    )
    assert "(ValidationError)" in told
    assert "Endpoint nobody of account 123456789012 not found." in told


def test_objects_are_copied_listed_and_removed(shell: dict[str, str], tmp_path: Path) -> None:
    content = os.urandom(9 * 1024 * 1024)  # in parts, from 8 MB on
    (tmp_path / "large.bin").write_bytes(content)
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "a b.txt").write_text("one")
    (tmp_path / "tree" / "below" / "ü.txt").write_text("two")

    assert "make_bucket: mine" in aws(shell, "s3", "mb", "s3://mine")
    aws(shell, "s3", "cp", str(tmp_path / "large.bin"), "s3://mine/large.bin")
    aws(shell, "s3", "cp", "--recursive", str(tmp_path / "tree"), "s3://mine/tree/")
    assert "mine" in aws(shell, "s3", "ls")
    listed = aws(shell, "s3", "ls", "s3://mine/")
    assert "PRE tree/" in listed
    assert f"{len(content)} large.bin" in listed
    everything = aws(shell, "s3", "ls", "--recursive", "s3://mine").splitlines()
    assert [line.split(maxsplit=3)[3] for line in everything] == [
        "large.bin",
        "tree/a b.txt",
        "tree/below/ü.txt",
    ]

    aws(shell, "s3", "cp", "s3://mine/large.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == content
    aws(shell, "s3", "sync", "s3://mine/tree", str(tmp_path / "again"))
    assert (tmp_path / "again" / "below" / "ü.txt").read_text() == "two"

    assert "BucketNotEmpty" in aws(shell, "s3", "rb", "s3://mine", fails=True)
    aws(shell, "s3", "rm", "--recursive", "s3://mine/tree")
    assert "PRE" not in aws(shell, "s3", "ls", "s3://mine/")
    assert "remove_bucket: mine" in aws(shell, "s3", "rb", "--force", "s3://mine")
    assert "mine" not in aws(shell, "s3", "ls")


def test_the_caller_is_known(shell: dict[str, str]) -> None:
    identity = json.loads(aws(shell, "sts", "get-caller-identity"))
    assert identity["Account"] == "123456789012"
    assert identity["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/")
