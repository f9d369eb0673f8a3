"""Transform jobs that are stopped at any moment, and whose S3 is away, or changes under them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3_gate import S3Gate, open_to_all
from server import Server, wait_for
from transforms import a_model, data_log, finish, outputs, progress, put, start

pytestmark = pytest.mark.timeout(240)

SLOWLY = """
import time

def model_fn(model_dir):
    time.sleep(0.5)
    return None

def transform_fn(model, data, content_type, accept):
    time.sleep(0.05)
    return data.upper(), accept or content_type
"""
FILES = {f"in/{n}.csv": b"".join(b"row %d\n" % row for row in range(4)) for n in range(3)}
WHOLE = {f"out/{n}.csv.out": FILES[f"in/{n}.csv"].upper() for n in range(3)}
MOST_MOMENTS = 40


def moment(server: Server, name: str) -> str:
    """What can be seen of a job that changes while it runs."""
    told = progress(server, name)
    instances = sorted(instance["state"] for instance in told["instances"])
    return f"{told['status']} {instances} {told['files']} {told['requests']}"


def stop(server: Server, name: str) -> str:
    """Stop a job; return why that is refused, if it is."""
    try:
        server.sagemaker.stop_transform_job(TransformJobName=name)
    except ClientError as error:
        return str(error.response["Error"]["Message"])
    return ""


def test_a_job_can_be_stopped_at_every_moment(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        a_model(server, "slowly", SLOWLY)
        put(server, "rows", FILES)
        moments = set()
        for number in range(MOST_MOMENTS):
            name = f"stopped-{number}"
            put(server, name, {})
            start(
                server,
                name,
                "slowly",
                "s3://rows/in",
                f"s3://{name}/out",
                BatchStrategy="SingleRecord",
                MaxConcurrentTransforms=2,
            )
            seen: list[str] = []

            def is_later(name: str = name, seen: list[str] = seen, number: int = number) -> bool:
                now = moment(server, name)
                if now not in seen:
                    seen.append(now)
                return len(seen) > number or not now.startswith("InProgress")

            wait_for(is_later, timeout_s=60, what="a moment", poll_s=0.005)
            moments.add(seen[-1])
            refusal = stop(server, name)
            if refusal:  # it was faster
                assert "is in status Completed" in refusal
                finish(server, name)
                assert outputs(server, name) == WHOLE
                break
            waiter = server.sagemaker.get_waiter("transform_job_completed_or_stopped")
            waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
            # Whatever is there is whole, and of a file that was done.
            found = outputs(server, name)
            assert found.items() <= WHOLE.items()
            assert len(found) >= progress(server, name)["files"]["done"]
            assert not server.s3.list_multipart_uploads(Bucket=name).get("Uploads")
        assert len(moments) >= 4
        wait_for(lambda: not server.pids("clary-worker"), timeout_s=60, what="workers to end")


# With an S3 of somebody else, before which a door stands -----------------------------------


class Guest(Server):
    """A server whose objects are another one's, by way of a door."""

    def __init__(self, directory: Path, host: Server, gate: S3Gate) -> None:
        super().__init__(directory, CLARY_STORAGE_S3_ENDPOINT_URL=gate.url)
        self._host = host

    @property
    def s3(self) -> Any:
        return self._host.s3


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guest, S3Gate]]:
    root = tmp_path_factory.mktemp("gate")
    with (
        Server(root / "host") as host,
        S3Gate(host.url) as gate,
        Guest(root / "guest", host, gate) as running,
    ):
        a_model(running, "slowly", SLOWLY)
        yield running, gate


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_job_waits_for_an_s3_that_is_away(guest: tuple[Guest, S3Gate], method: str) -> None:
    server, gate = guest
    name = f"away-{method.lower()}"
    put(server, name, FILES)
    # The model is fetched before: only what the job itself reads or writes is away.
    gate.rule = lambda asked, path: (
        "away" if asked == method and path.startswith(f"/{name}") else "pass"
    )
    before = gate.seen["away"]
    start(server, name, "slowly", f"s3://{name}/in", f"s3://{name}/out")
    wait_for(lambda: gate.seen["away"] - before > 3, timeout_s=60, what="attempts")
    described = server.sagemaker.describe_transform_job(TransformJobName=name)
    assert described["TransformJobStatus"] == "InProgress"
    gate.rule = open_to_all

    finish(server, name, timeout_s=120)
    assert outputs(server, name, "out") == WHOLE


def test_an_object_that_is_gone_or_another_fails_its_file(guest: tuple[Guest, S3Gate]) -> None:
    server, gate = guest
    put(server, "moving", FILES)
    changed: set[str] = set()

    def change(method: str, path: str) -> str:
        # Once it is listed, and before it is read.
        if method == "GET" and path.startswith("/moving/in/0.csv") and "gone" not in changed:
            changed.add("gone")
            server.s3.delete_object(Bucket="moving", Key="in/0.csv")
        if method == "GET" and path.startswith("/moving/in/1.csv") and "new" not in changed:
            changed.add("new")
            server.s3.put_object(Bucket="moving", Key="in/1.csv", Body=b"other\n")
        return "pass"

    gate.rule = change
    start(server, "moving", "slowly", "s3://moving/in", "s3://moving/out")
    reason = finish(server, "moving", "Failed")["FailureReason"]
    gate.rule = open_to_all

    assert reason == "ClientError: See job logs for more information"
    assert outputs(server, "moving", "out") == {"out/2.csv.out": WHOLE["out/2.csv.out"]}
    lines = "\n".join(data_log(server, "moving"))
    assert "moving/in/0.csv: ClientError: Could not find s3://moving/in/0.csv" in lines
    assert "moving/in/1.csv: ClientError: s3://moving/in/1.csv is not what it was" in lines


def test_an_output_that_may_not_be_written_fails_its_file(guest: tuple[Guest, S3Gate]) -> None:
    server, gate = guest
    put(server, "readonly", FILES)
    gate.rule = lambda method, path: (
        "deny" if method == "PUT" and path.startswith("/readonly/out/1.csv") else "pass"
    )
    start(server, "readonly", "slowly", "s3://readonly/in", "s3://readonly/out")
    reason = finish(server, "readonly", "Failed")["FailureReason"]
    gate.rule = open_to_all

    assert reason == "ClientError: See job logs for more information"
    assert sorted(outputs(server, "readonly", "out")) == ["out/0.csv.out", "out/2.csv.out"]
    assert "Read only" in str(progress(server, "readonly")["failures"])
