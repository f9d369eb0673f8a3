"""What `clary invoke --async` says of a call."""

from typing import Any

import pytest

from clary.cli.invoking_async import detail_of, failure_text


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"state": "queued", "position": 0, "attempts": 0}, "next"),
        ({"state": "queued", "position": 12, "attempts": 0}, "12 before it"),
        ({"state": "queued", "position": 0, "attempts": 2}, "next, attempt 2"),
        (
            {"state": "running", "attempts": 1, "started_at": "2026-03-04T05:06:07.008+00:00"},
            "since 2026-03-04T05:06:07.008+00:00",
        ),
    ],
)
def test_where_a_call_is_in_a_few_words(told: dict[str, Any], text: str) -> None:
    assert detail_of(told) == text


def test_a_failure_has_the_reason_and_what_the_container_said() -> None:
    lines = failure_text({"reason": "ClientError: no"}, b"it went boom\n", "echo").splitlines()
    assert lines == [
        "ClientError: no",
        "it went boom",
        "More may stand in its log: clary logs echo",
    ]


@pytest.mark.parametrize("said", [None, b"", b"ClientError: no"])
def test_a_failure_says_nothing_twice(said: bytes | None) -> None:
    lines = failure_text({"reason": "ClientError: no"}, said, "echo").splitlines()
    assert lines == ["ClientError: no", "More may stand in its log: clary logs echo"]
