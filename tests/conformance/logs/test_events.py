"""Events that clients put: GetLogEvents, FilterLogEvents, PutLogEvents."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

HOUR_MS = 3_600_000


@pytest.fixture
def stream(logs: Any, group: str, now_ms: int) -> str:
    """Ten events, one a second, ``event 0`` to ``event 9``; the last one now."""
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    events = [{"timestamp": now_ms - 1000 * (9 - n), "message": f"event {n}"} for n in range(10)]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    return "s"


def get(logs: Any, group: str, **more: Any) -> tuple[list[int], str, str]:
    reply = logs.get_log_events(logGroupName=group, logStreamName="s", **more)
    numbers = [int(event["message"].split()[1]) for event in reply["events"]]
    return numbers, reply["nextForwardToken"], reply["nextBackwardToken"]


def test_the_newest_events_come_by_default(logs: Any, group: str, stream: str) -> None:
    numbers, forward, backward = get(logs, group, limit=3)
    assert numbers == [7, 8, 9]

    assert get(logs, group, nextToken=backward, limit=3)[0] == [4, 5, 6]
    assert get(logs, group, nextToken=forward)[:2] == ([], forward)


def test_the_same_token_says_that_there_is_no_more(logs: Any, group: str, stream: str) -> None:
    seen, token, previous = [], None, None
    while token != previous or token is None:
        previous = token
        more = {} if token is None else {"nextToken": token}
        numbers, token, _ = get(logs, group, startFromHead=True, limit=4, **more)
        seen += numbers
    assert seen == list(range(10))

    backward = get(logs, group, startFromHead=True, limit=2)[2]
    assert get(logs, group, nextToken=backward)[0] == []
    assert get(logs, group, nextToken=backward)[2] == backward


def test_what_comes_later_is_found_by_the_last_token(
    logs: Any, group: str, stream: str, now_ms: int
) -> None:
    token = get(logs, group)[1]
    event = {"timestamp": now_ms + 500, "message": "event 10"}
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])

    assert get(logs, group, nextToken=token, startFromHead=True)[0] == [10]


def test_times_start_in_and_end_out(logs: Any, group: str, stream: str, now_ms: int) -> None:
    times = {"startTime": now_ms - 5000, "endTime": now_ms - 2000}
    assert get(logs, group, **times)[0] == [4, 5, 6]

    found = logs.filter_log_events(logGroupName=group, **times)["events"]
    assert [event["message"] for event in found] == [f"event {n}" for n in (4, 5, 6, 7)]


def test_a_filter_walks_all_streams_in_order_of_time(
    logs: Any, group: str, stream: str, now_ms: int
) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="t")
    events = [{"timestamp": now_ms - 3500, "message": "event between"}]
    logs.put_log_events(logGroupName=group, logStreamName="t", logEvents=events)
    pages = list(
        logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, filterPattern="event -9", PaginationConfig={"PageSize": 3}
        )
    )
    found = [event for page in pages for event in page["events"]]

    assert len(pages) == 4
    assert [event["message"].split()[1] for event in found] == [*"012345", "between", *"678"]
    assert len({event["eventId"] for event in found}) == 10
    assert found[6]["logStreamName"] == "t"
    only = logs.filter_log_events(logGroupName=group, logStreamNamePrefix="t")["events"]
    assert [event["message"] for event in only] == ["event between"]


def test_events_of_one_moment_keep_their_order_over_pages(
    logs: Any, group: str, now_ms: int
) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    events = [{"timestamp": now_ms, "message": f"event {n}"} for n in range(7)]
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, PaginationConfig={"PageSize": 2}
    )

    assert [e["message"] for page in pages for e in page["events"]] == [
        f"event {n}" for n in range(7)
    ]


def test_messages_come_back_as_they_were(logs: Any, group: str, now_ms: int) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    message = 'Traceback:\n  "ä€🙂"\ttabs, and \\ too'
    event = {"timestamp": now_ms, "message": message}
    logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])

    (found,) = logs.get_log_events(logGroupName=group, logStreamName="s")["events"]
    assert found["message"] == message
    assert found["timestamp"] == now_ms
    assert abs(found["ingestionTime"] - now_ms) < 60_000


def test_events_that_are_too_old_or_too_new_are_left_out(
    logs: Any, group: str, now_ms: int
) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="s")

    def put(*ages_h: float) -> Any:
        events = [
            {"timestamp": int(now_ms - age * HOUR_MS), "message": "event 0"} for age in ages_h
        ]
        return logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)

    assert put(15 * 24, 15 * 24 - 1)["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    assert put(0, -3)["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 1}
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    assert put(25, 2)["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 1}
    assert "rejectedLogEventsInfo" not in put(1)
    assert len(get(logs, group)[0]) == 3


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([(5, "b"), (4, "a")], "must be in chronological order"),
        ([(0, "a"), (25 * HOUR_MS, "b")], "cannot span more than 24 hours"),
        ([(0, "x" * 200_000)] * 6, "Upload too large"),
    ],
)
def test_batches_that_aws_refuses(
    logs: Any, group: str, now_ms: int, events: list[tuple[int, str]], text: str
) -> None:
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    entries = [{"timestamp": now_ms + time_ms, "message": message} for time_ms, message in events]
    with pytest.raises(ClientError, match=text) as refused:
        logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=entries)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


@pytest.mark.parametrize("token", ["nonsense", "f/12x/s", "x/1/s", "f/"])
def test_tokens_that_are_none(logs: Any, group: str, stream: str, token: str) -> None:
    with pytest.raises(ClientError, match="nextToken is invalid"):
        get(logs, group, nextToken=token)
