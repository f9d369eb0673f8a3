"""`clary invoke --async` against a real server."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from async_endpoints import deploy_async, info, put_input, scale, wait_for_object
from server import CLARY, Server, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("async-cli"), CLARY_FLEET_MAX_WORKERS="2") as running:
        running.s3.create_bucket(Bucket="results")
        running.s3.create_bucket(Bucket="inputs")
        deploy_async(running, "echo")
        yield running


def places(printed: str) -> dict[str, str]:
    """What the command prints without ``--wait``."""
    return dict(line.split(maxsplit=1) for line in printed.splitlines())


def test_without_waiting_it_says_where_the_answer_will_be(server: Server) -> None:
    told = places(server.cli("invoke", "echo", "-d", "[1]", "--async").stdout)

    assert set(told) == {"id", "output", "failure"}
    assert wait_for_object(server, told["output"])["Body"] == b"[1]"
    assert info(server, "echo", told["id"])["output_location"] == told["output"]


def test_with_waiting_it_prints_the_answer(server: Server) -> None:
    done = server.cli("invoke", "echo", "-d", "[2]", "--async", "--wait")

    assert done.stdout == "[2]"


def test_inputs_may_lie_in_s3_or_be_long(server: Server) -> None:
    location = put_input(server, "three", b"[3]")
    assert server.cli("invoke", "echo", "-d", location, "--async", "--wait").stdout == "[3]"

    # Longer than what may come with a call, as a file: it goes through S3.
    long = server.directory / "long.txt"
    long.write_text("x" * 300_000)
    answer = server.directory / "answer"
    server.cli("invoke", "echo", "-d", f"@{long}", "--async", "-o", str(answer))
    assert answer.read_text() == long.read_text()


def test_a_failure_is_printed_and_is_the_exit_status(server: Server) -> None:
    failed = server.cli(
        *("invoke", "echo", "-d", "fail now", "--content-type", "text/plain"),
        *("--async", "--wait"),
        check=False,
    )

    assert (failed.returncode, failed.stdout) == (1, "")
    assert "server error (500) from model" in failed.stderr
    assert "as you wish" in failed.stderr  # what lies in the failure object


def test_it_shows_how_many_come_first(server: Server) -> None:
    deploy_async(server, "asleep")
    scale(server, "asleep", 0)
    for number in range(2):
        server.runtime.invoke_endpoint_async(EndpointName="asleep", Body=b"%d" % number)
    errors = server.directory / "asleep.err"
    with errors.open("wb") as file:
        waiting = subprocess.Popen(
            [str(CLARY), "invoke", "asleep", "-d", "[9]", "--async", "--wait"],
            env=server.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
        )
    try:
        wait_for(lambda: _accepted(server) == 3, timeout_s=30, what="the call to be accepted")
        scale(server, "asleep", 1)
        printed, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
        waiting.wait()
    assert printed == b"[9]"
    assert "queued" in errors.read_text()
    server.sagemaker.delete_endpoint(EndpointName="asleep")


def test_calls_that_cannot_be_made_say_why(server: Server) -> None:
    refused = server.cli("invoke", "nobody", "-d", "1", "--async", check=False)
    assert refused.returncode == 1
    assert "Endpoint nobody of account" in refused.stderr
    alone = server.cli("invoke", "echo", "-d", "1", "--wait", check=False)
    assert alone.returncode == 2
    assert "--async" in alone.stderr
    missing = server.cli("invoke", "echo", "-d", "@/none", "--async", "--wait", check=False)
    assert missing.returncode == 2
    gone = server.cli("invoke", "echo", "-d", "s3://inputs/gone", "--async", "--wait", check=False)
    assert gone.returncode == 1
    assert "Could not find s3://inputs/gone" in gone.stderr


def _accepted(server: Server) -> int:
    path = server.data_dir / "state.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        query = "SELECT count(*) FROM async_invocations WHERE endpoint = 'asleep'"
        return int(database.execute(query).fetchone()[0])
