"""The output of instances by CloudWatch Logs: stock boto3 and the AWS CLI against a server."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server import Server, wait_for

TALKER = """
import json
import sys


def model_fn(model_dir):
    print("model loaded")
    return None


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(data, model):
    for _ in range(data.get("times", 1)):
        print(data["say"], flush=True)
    if data.get("err"):
        print(data["err"], file=sys.stderr, flush=True)
    return data
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"CLARY_LOGS_MAX_STREAM_BYTES": "40000", "CLARY_LOGS_SERVER_MAX_BYTES": "20000"}
    with Server(tmp_path_factory.mktemp("logs"), **limits) as running:
        yield running


@pytest.fixture(scope="module")
def logs(server: Server) -> Any:
    return server.client("logs")


@pytest.fixture(scope="module")
def talker(server: Server) -> str:
    server.deploy("talker", {"code/inference.py": TALKER})
    return "talker"


def group_of(endpoint: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def say(server: Server, endpoint: str, text: str, **more: Any) -> None:

    server.invoke(endpoint, json.dumps({"say": text, **more}))


def messages(logs: Any, endpoint: str, pattern: str = "", **more: Any) -> list[str]:
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group_of(endpoint), filterPattern=pattern, **more
    )
    return [event["message"] for page in pages for event in page["events"]]


def test_the_group_is_there_as_soon_as_the_endpoint_is(server: Server, logs: Any) -> None:
    server.create_endpoint("newborn", {"code/inference.py": TALKER})

    assert (
        logs.filter_log_events(logGroupName=group_of("newborn"), logStreamNamePrefix="AllTraffic/")[
            "searchedLogStreams"
        ]
        == []
    )
    server.wait_for_status("newborn", "InService")
    (stream,) = logs.describe_log_streams(logGroupName=group_of("newborn"))["logStreams"]
    variant, _, instance = stream["logStreamName"].partition("/")
    assert variant == "AllTraffic"
    assert instance.startswith("i-")


def test_a_line_is_an_event_with_its_time(server: Server, logs: Any, talker: str) -> None:
    before_ms = int(time.time() * 1000)
    say(server, talker, "hello from the model", err="and from stderr")
    after_ms = int(time.time() * 1000)

    wait_for(lambda: messages(logs, talker, "stderr"), what="the line to be readable")
    events = logs.filter_log_events(
        logGroupName=group_of(talker), startTime=before_ms - 50, filterPattern="from"
    )["events"]
    assert [e["message"] for e in events] == ["hello from the model", "and from stderr"]
    for event in events:
        # File systems round to their ticks of some milliseconds.
        assert before_ms - 50 <= event["timestamp"] <= after_ms + 300
    assert messages(logs, talker, "from -stderr") == ["hello from the model"]


def test_events_are_read_while_they_come(server: Server, logs: Any, talker: str) -> None:
    (stream,) = logs.describe_log_streams(logGroupName=group_of(talker))["logStreams"]
    where = {"logGroupName": group_of(talker), "logStreamName": stream["logStreamName"]}
    token = logs.get_log_events(**where)["nextForwardToken"]
    seen: list[str] = []
    for number in range(3):
        say(server, talker, f"number {number}")

        def came(wanted: str = f"number {number}") -> bool:
            nonlocal token
            reply = logs.get_log_events(**where, nextToken=token, startFromHead=True)
            seen.extend(event["message"] for event in reply["events"])
            token = reply["nextForwardToken"]
            return wanted in seen

        wait_for(came, what="the next line")
    assert [text for text in seen if text.startswith("number")] == [f"number {n}" for n in range(3)]


def test_who_follows_as_aws_logs_tail_does_sees_each_line_once(
    server: Server, logs: Any, talker: str
) -> None:
    # `aws logs tail --follow` (version 2 of the CLI): from the newest time that it has seen,
    # without the events of that time that it has shown.
    newest_ms, shown, lines = 0, set(), []
    say(server, talker, "told first")
    for number in range(4):
        say(server, talker, f"told {number}")

        def came(wanted: str = f"told {number}") -> bool:
            nonlocal newest_ms
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group_of(talker), startTime=newest_ms, filterPattern="told"
            )
            for event in (event for page in pages for event in page["events"]):
                if event["eventId"] not in shown:
                    shown.add(event["eventId"])
                    lines.append(event["message"])
                newest_ms = max(newest_ms, event["timestamp"])
            return wanted in lines

        wait_for(came, what="the next line")
    assert lines == ["told first", *(f"told {number}" for number in range(4))]


def test_the_aws_cli_reads_logs(server: Server, logs: Any, talker: str) -> None:
    aws = shutil.which("aws")
    if aws is None:
        pytest.skip("the AWS CLI is not installed")
    say(server, talker, "read by the CLI")
    wait_for(lambda: messages(logs, talker, '"by the CLI"'), what="the line to be readable")
    done = subprocess.run(
        [
            *(aws, "logs", "filter-log-events", "--log-group-name", group_of(talker)),
            *("--filter-pattern", '"by the CLI"', "--query", "events[].message"),
            *("--output", "text"),
        ],
        env=server.environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "read by the CLI\n"


def test_a_long_log_is_cut_and_goes_on(server: Server, logs: Any, talker: str) -> None:
    (path,) = (server.data_dir / "logs/endpoints" / talker).glob("*/*.log")
    for number in range(8):
        say(server, talker, f"line {number} " + "x" * 100, times=100)
    say(server, talker, "the very last")
    wait_for(lambda: messages(logs, talker, '"very last"'), what="the last line")

    wait_for(
        lambda: sum(f.stat().st_size for f in path.parent.glob("*.log*")) < 42_000,
        what="the log to be within its limit",
    )
    found = messages(logs, talker, PaginationConfig={"PageSize": 37})
    assert found[-1] == "the very last"
    numbers = [text.split()[1] for text in found if text.startswith("line ")]
    assert numbers == sorted(numbers)
    assert numbers[-1] == "7"
    assert server.cli("logs", talker, "-n", "1").stdout == "the very last\n"


def test_logs_survive_their_endpoint_until_they_are_deleted(server: Server, logs: Any) -> None:
    server.deploy("mortal", {"code/inference.py": TALKER})
    say(server, "mortal", "last words")
    server.delete_endpoint("mortal")
    group = group_of("mortal")

    wait_for(lambda: messages(logs, "mortal", '"last words"'), what="the line to be readable")
    logs.delete_log_group(logGroupName=group)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []
    assert not list((server.data_dir / "logs/endpoints").glob("mortal/*/*"))


def test_a_deleted_group_comes_back_with_the_next_line(server: Server, logs: Any) -> None:
    server.deploy("stubborn", {"code/inference.py": TALKER})
    say(server, "stubborn", "unwanted")
    wait_for(lambda: messages(logs, "stubborn", "unwanted"), what="the line to be readable")
    logs.delete_log_group(logGroupName=group_of("stubborn"))

    say(server, "stubborn", "wanted")
    wait_for(
        lambda: logs.describe_log_groups(logGroupNamePrefix=group_of("stubborn"))["logGroups"],
        what="the group to come back",
        timeout_s=30,
    )
    wait_for(lambda: messages(logs, "stubborn", "wanted"), what="the line to be readable")
    assert messages(logs, "stubborn", "unwanted") == []
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group_of("stubborn"))


def test_an_instance_alone_writes_its_stream(server: Server, logs: Any, talker: str) -> None:
    (stream,) = logs.describe_log_streams(logGroupName=group_of(talker))["logStreams"]
    where = {"logGroupName": group_of(talker), "logStreamName": stream["logStreamName"]}
    event = {"timestamp": int(time.time() * 1000), "message": "not mine"}
    with pytest.raises(logs.exceptions.InvalidParameterException):
        logs.put_log_events(**where, logEvents=[event])
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(**where)


def test_groups_and_events_survive_the_server(tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    with Server(tmp_path) as server:
        server.deploy("talker", {"code/inference.py": TALKER})
        logs = server.client("logs")
        logs.put_retention_policy(logGroupName=group_of("talker"), retentionInDays=3)
        logs.create_log_group(logGroupName="/mine")
        logs.create_log_stream(logGroupName="/mine", logStreamName="s")
        event = {"timestamp": now_ms, "message": "kept"}
        logs.put_log_events(logGroupName="/mine", logStreamName="s", logEvents=[event])
        say(server, "talker", "kept too")
        server.kill()
        server.start()
        server.wait_for_status("talker", "InService")

        # Nobody notes any more when the end of a killed host's log was written: it is shown once it
        # has been still for a while.
        wait_for(
            lambda: messages(logs, "talker", '"kept too"') == ["kept too"], what="the last line"
        )
        (found,) = logs.describe_log_groups(logGroupNamePrefix="/aws/")["logGroups"]
        assert found["retentionInDays"] == 3
        (read,) = logs.get_log_events(logGroupName="/mine", logStreamName="s")["events"]
        assert (read["timestamp"], read["message"]) == (now_ms, "kept")
