"""When captured lines are written, and what finds no room."""

from itertools import count
from typing import Any

import pytest

from clary.jobs.capture_lines import Place
from clary.jobs.capture_plan import RETRY_PAUSES_S, CapturePlan, Draft
from clary.settings import CaptureSettings

HERE = Place("bucket", "a/x/2026/01/02/03", "a")
NEXT_HOUR = Place("bucket", "a/x/2026/01/02/04", "a")
OTHER = Place("bucket", "b/x/2026/01/02/03", "b")


def a_plan(**settings: Any) -> CapturePlan:
    ids = count(1)
    limits = {"flush_s": 10.0, "flush_bytes": 100, "buffer_bytes": 1000, "keep_s": 60.0, **settings}
    return CapturePlan(CaptureSettings(**limits), lambda: f"n{next(ids)}")


def add(plan: CapturePlan, place: Place = HERE, size: int = 10, now: float = 0.0) -> bool:
    return plan.add(place, b"x" * size, 0.0, now)


def sizes(drafts: Any) -> list[tuple[str, int]]:
    return [(draft.place.prefix, draft.size) for draft in drafts]


def test_lines_of_one_place_share_an_object_until_its_time_has_come() -> None:
    plan = a_plan()
    add(plan)
    add(plan, now=5.0)
    add(plan, NEXT_HOUR, now=6.0)
    assert plan.next_at() == 10.0
    assert plan.due(9.9) == []

    (draft,) = plan.due(10.0)

    assert (draft.key, b"".join(draft.lines)) == (f"{HERE.prefix}/00-00-000-n1.jsonl", b"x" * 20)
    assert plan.next_at() == 16.0
    plan.written(draft)
    assert plan.size == 10


def test_an_object_that_is_large_enough_does_not_wait() -> None:
    plan = a_plan()
    for _ in range(11):
        add(plan)
    assert sizes(plan.due(0.0)) == [(HERE.prefix, 100)]
    plan.flush()
    assert sizes(plan.due(0.0)) == [(HERE.prefix, 10)]
    assert plan.next_at() is None


def test_what_finds_no_room_is_refused_until_something_is_written() -> None:
    plan = a_plan(flush_bytes=10_000)
    assert add(plan, size=500)
    assert not add(plan, size=1), "one endpoint has half of the room"
    assert add(plan, OTHER, size=450)
    assert not add(plan, Place("bucket", "c", "c"), size=51)
    plan.flush()
    first, second = plan.due(0.0)
    assert not add(plan, size=1), "what is being written has its room"
    plan.written(first)
    assert add(plan, size=1)
    plan.written(second)
    assert plan.size == 1


def test_what_cannot_be_written_is_tried_again_less_and_less_often_and_dropped_at_last() -> None:
    plan = a_plan(keep_s=60.0)
    add(plan)
    now, pauses = 10.0, []
    while True:
        (draft,) = plan.due(now)
        if not plan.failed(draft, now):
            break
        next_at = plan.next_at()
        assert next_at is not None
        assert plan.due(next_at - 0.01) == []
        pauses.append(next_at - now)
        now = next_at
    assert pauses == pytest.approx([*RETRY_PAUSES_S, 30.0])
    assert now >= 60.0
    assert (plan.size, plan.next_at()) == (0, None)


def test_at_the_end_what_waits_for_its_next_attempt_is_due_at_once() -> None:
    plan = a_plan()
    add(plan)
    (draft,) = plan.due(10.0)
    plan.failed(draft, 10.0)
    add(plan, OTHER, now=10.0)
    assert plan.due(10.0) == []
    plan.flush()
    assert {each.place for each in plan.due(10.0)} == {HERE, OTHER}


def test_a_line_that_comes_while_its_object_is_written_begins_another() -> None:
    plan = a_plan()
    add(plan)
    plan.flush()
    (first,) = plan.due(0.0)
    add(plan)
    plan.flush()
    (second,) = plan.due(0.0)
    assert isinstance(second, Draft)
    assert first.key != second.key
