"""The queue of asynchronous invocations on a real database: durable, leased, fenced."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import A_TIME, NAMESPACE, a_model, a_variant, an_endpoint_config
from clary.errors import InvalidRequest, NotFound
from clary.resources.async_inference import AsyncOrder
from clary.resources.endpoint import EndpointEvent
from clary.resources.quotas import Quotas
from clary.store import Store
from clary.store.async_leases import Finish, Release
from clary.store.async_queue import KIND, NewInvocation
from clary.store.async_rows import AsyncState, Lease, Result
from clary.store.outbox import Notification

LEASE = timedelta(seconds=10)
HOUR = timedelta(hours=1)
ORDER = AsyncOrder(
    input_location="s3://in/1",
    content_type="text/csv",
    accept=None,
    custom_attributes=None,
    timeout_s=900,
    output_location="s3://out/1.out",
    failure_location=None,
    is_named=False,
    success_topic=None,
    error_topic=None,
    includes_answer=False,
    includes_error=False,
)
ASYNC = {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://out/here/"}}}
DONE = Result(status="Completed", cause="", variant="v", download_us=5)
FAILED = Result(status="Failed", cause="model", reason="it said no")


class HandClock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.time = A_TIME

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def pass_by(self, **time: float) -> None:
        self.time += timedelta(**time)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(tmp_path: Path, clock: HandClock) -> Any:
    opened = Store.open(tmp_path / "state.sqlite", NAMESPACE, clock)
    yield opened
    opened.close()


async def serve(store: Store, name: str = "digits", definition: Any = ASYNC) -> None:
    """An endpoint that takes calls."""
    if await store.models.find("digits") is None:
        await store.models.create(a_model(name="digits"), {})
    config = an_endpoint_config(name=name, variants=(a_variant(),), definition=definition)
    await store.endpoint_configs.create(config, {})
    await store.endpoints.create(name, name, quotas=Quotas(total=9, by_type={}))
    await store.endpoints.record_event(name, 1, EndpointEvent.READY)


async def accept(store: Store, clock: HandClock, *ids: str, **changes: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        for inference_id in ids:
            new = {
                "endpoint": "digits",
                "inference_id": inference_id,
                "accepted_at": clock.now(),
                "ttl": HOUR,
                "order": ORDER,
                "body": None,
                **changes,
            }
            tasks.create_task(store.async_queue.accept(NewInvocation(**new)))


async def claim(store: Store, count: int = 10, owner: str = "host/a") -> list[Lease]:
    return await store.async_leases.claim(owner, {"digits": count}, LEASE)


def test_what_was_accepted_is_claimed_once_oldest_first(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        for name in "abcde":
            await accept(store, clock, name, body=name.encode() * 3)

        first, second = await asyncio.gather(claim(store, 3), claim(store, 3, "host/b"))

        assert [lease.inference_id for lease in (*first, *second)] == list("abcde")
        assert (first[0].body, first[0].order, first[0].attempt) == (b"aaa", ORDER, 1)
        assert await claim(store) == []
        assert await store.async_leases.waiting() == []

    runner.run(story())


def test_a_thousand_that_come_together_are_all_there(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    ids = [f"id-{number}" for number in range(1000)]

    async def story() -> None:
        await serve(store)
        notices = store.changes.subscribe()
        await accept(store, clock, *ids)
        leases = await claim(store, 2000)
        assert sorted(lease.inference_id for lease in leases) == sorted(ids)
        assert 0 < notices.qsize() <= 1000
        assert notices.get_nowait() == (KIND, "digits")

    runner.run(story())


def test_the_end_is_written_by_who_has_the_lease_and_by_nobody_else(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    told = Notification(topic="arn:t", endpoint="digits", message="done")

    async def story() -> None:
        await serve(store)
        await accept(store, clock, "a")
        (slow,) = await claim(store)
        clock.pass_by(seconds=11)
        assert await store.async_leases.free_overdue() == 1
        (fast,) = await claim(store, owner="host/b")
        assert (slow.attempt, fast.attempt) == (1, 2)

        late = await store.async_leases.finish(
            Finish(lease=slow, result=FAILED, notifications=(told,))
        )
        back = await store.async_leases.release(Release(lease=slow, is_loss=True))
        good = await store.async_leases.finish(
            Finish(lease=fast, result=DONE, notifications=(told,))
        )
        again = await store.async_leases.finish(
            Finish(lease=fast, result=FAILED, notifications=(told,))
        )

        assert (late, back, good, again) == (False, False, True, False)
        found = await store.async_queue.find("digits", "a")
        assert found is not None
        assert (found.state, found.result) == (AsyncState.DONE, DONE)
        assert [message.message for message in await store.outbox.due(10)] == ["done"]

    runner.run(story())


def test_ends_of_one_group_count_up(runner: asyncio.Runner, store: Store, clock: HandClock) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, *"abc")
        leases = await claim(store)
        clock.pass_by(seconds=5)
        await asyncio.gather(
            *(store.async_leases.finish(Finish(lease=each, result=DONE)) for each in leases[:2])
        )
        await store.async_leases.finish(Finish(lease=leases[2], result=FAILED))

        ended = await store.async_leases.ended_after(0, 10)
        assert [each.ended_seq for each in ended] == [1, 2, 3]
        assert ended[2].result == FAILED
        assert (ended[0].ended_at - ended[0].accepted_at) == timedelta(seconds=5)
        assert [e.ended_seq for e in await store.async_leases.ended_after(2, 10)] == [3]

    runner.run(story())


def test_a_renewed_lease_stays_and_a_released_one_waits(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, "a", "b")
        _a, b = await claim(store)
        await store.async_leases.release(
            Release(lease=b, pause=timedelta(seconds=30), is_loss=True)
        )
        clock.pass_by(seconds=8)
        await store.async_leases.renew("host/a", LEASE)
        clock.pass_by(seconds=8)
        assert await store.async_leases.free_overdue() == 0
        assert await claim(store) == []
        clock.pass_by(seconds=15)
        (again,) = await claim(store)
        assert (again.inference_id, again.attempt, again.losses) == ("b", 2, 1)

    runner.run(story())


def test_a_new_process_takes_over_from_the_one_before_it_at_once(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, *"abc")
        await claim(store, 1, "here/old")
        await claim(store, 1, "here/new")
        await claim(store, 1, "elsewhere/old")
        assert await store.async_leases.free("here/", but="here/new") == 1
        (freed,) = await claim(store, 10, "here/new")
        assert freed.inference_id == "a"

    runner.run(story())


def test_what_waited_too_long_is_claimed_apart(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, "short", ttl=timedelta(seconds=60))
        await accept(store, clock, "long")
        assert await store.async_leases.claim_expired("host/a", 10, LEASE) == []
        clock.pass_by(seconds=60)
        (late,) = await store.async_leases.claim_expired("host/a", 10, LEASE)
        assert late.inference_id == "short"
        assert late.expires_at <= clock.now()

    runner.run(story())


def test_people_are_told_where_an_invocation_is(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, "a")
        await accept(store, clock, "b")
        await accept(store, clock, "c")
        (lease,) = await claim(store, 1)
        running, waiting = (
            await store.async_queue.find("digits", "a"),
            await store.async_queue.find("digits", "c"),
        )
        assert running is not None
        assert waiting is not None
        assert running.to_json()["state"] == "running"
        assert (waiting.position, waiting.to_json()["position"]) == (1, 1)
        await store.async_leases.finish(Finish(lease=lease, result=FAILED))
        ended = await store.async_queue.find("digits", "a")
        assert ended is not None
        assert ended.to_json()["reason"] == "it said no"
        assert "position" not in ended.to_json()
        assert await store.async_queue.find("digits", "nobody") is None

    runner.run(story())


def test_the_newest_of_an_id_is_shown(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, "same")
        (lease,) = await claim(store)
        await store.async_leases.finish(Finish(lease=lease, result=DONE))
        await accept(store, clock, "same")
        found = await store.async_queue.find("digits", "same")
        assert found is not None
        assert found.state is AsyncState.QUEUED

    runner.run(story())


def test_backlogs_count_what_waits_and_what_is_worked_on(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        assert await store.async_queue.backlogs() == []
        assert not await store.async_queue.has_work()
        await accept(store, clock, "a")
        clock.pass_by(seconds=3)
        await accept(store, clock, "b", "c")
        (lease,) = await claim(store, 1)
        (backlog,) = await store.async_queue.backlogs()
        assert (backlog.queued, backlog.running) == (2, 1)
        assert clock.now() - backlog.oldest_at == timedelta(seconds=3)
        await store.async_leases.finish(Finish(lease=lease, result=DONE))
        (backlog,) = await store.async_queue.backlogs()
        assert (backlog.queued, backlog.running) == (2, 0)
        assert await store.async_queue.has_work()

    runner.run(story())


def test_only_endpoints_that_serve_asynchronously_have_a_configuration(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        with pytest.raises(NotFound):
            await store.async_queue.config("digits")
        await serve(store)
        await serve(store, "real-time", {})
        assert (await store.async_queue.config("digits")).output_path == "s3://out/here"
        with pytest.raises(InvalidRequest, match="not an asynchronous endpoint"):
            await store.async_queue.config("real-time")
        await store.endpoints.request_deletion("digits")
        with pytest.raises(NotFound):  # known a moment ago
            await store.async_queue.config("digits")

    runner.run(story())


def test_a_deleted_endpoint_takes_its_queue_with_it(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await serve(store, "other")
        await accept(store, clock, "a")
        await accept(store, clock, "b", endpoint="other")
        await store.endpoints.request_deletion("digits")
        with pytest.raises(ExceptionGroup) as refused:
            await accept(store, clock, "late")
        assert refused.group_contains(NotFound)
        await store.endpoints.remove("digits")
        assert await store.async_leases.waiting() == ["other"]

    runner.run(story())


def test_ended_ones_are_forgotten_in_time_but_for_the_last(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, *"abc")
        leases = await claim(store)
        for lease in leases:
            await store.async_leases.finish(Finish(lease=lease, result=DONE))
        assert await store.async_leases.forget_ended(clock.now(), 10) == 0
        clock.pass_by(hours=1)
        assert await store.async_leases.forget_ended(clock.now(), 10) == 2
        # Counting goes on behind the one that is left.
        await accept(store, clock, "d")
        (lease,) = await claim(store)
        await store.async_leases.finish(Finish(lease=lease, result=DONE))
        assert [e.ended_seq for e in await store.async_leases.ended_after(0, 10)] == [3, 4]

    runner.run(story())


def test_ends_are_counted_on_when_an_endpoint_is_removed(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await serve(store)
        await accept(store, clock, "a", "b")
        for lease in await claim(store):
            await store.async_leases.finish(Finish(lease=lease, result=DONE))
        await store.endpoints.request_deletion("digits")
        await store.endpoints.remove("digits")
        assert await store.async_queue.find("digits", "a") is None
        assert await store.async_queue.find("digits", "b") is None
        await store.endpoint_configs.delete("digits")
        await serve(store)
        await accept(store, clock, "c")
        (lease,) = await claim(store)
        await store.async_leases.finish(Finish(lease=lease, result=DONE))
        ended = await store.async_leases.ended_after(2, 10)
        assert [(each.ended_seq, each.endpoint) for each in ended] == [(3, "digits")]

    runner.run(story())


def test_messages_wait_until_they_are_due(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await store.outbox.add(
            [Notification(topic="arn:t", endpoint="e", message=text) for text in ("one", "two")]
        )
        one, two = await store.outbox.due(10)
        await store.outbox.postpone([(one.id, timedelta(seconds=5))])
        await store.outbox.remove([two.id])
        assert await store.outbox.due(10) == []
        clock.pass_by(seconds=5)
        (again,) = await store.outbox.due(10)
        assert (again.message, again.attempts) == ("one", 1)

    runner.run(story())


def test_messages_that_are_given_up_stay_until_they_are_counted(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        await store.outbox.add(
            [Notification(topic="arn:t", endpoint=name, message=name) for name in ("a", "b", "c")]
        )
        one, two, three = await store.outbox.due(10)
        await store.outbox.give_up([two.id])
        await store.outbox.give_up([one.id])  # at the same moment of the clock
        lost = await store.outbox.given_up_after(A_TIME - HOUR)
        assert [each.endpoint for each in lost] == ["b", "a"]
        assert await store.outbox.given_up_after(lost[0].at) == [lost[1]]
        assert [message.id for message in await store.outbox.due(10)] == [three.id]
        await store.outbox.remove([three.id])
        assert not await store.async_queue.has_work()
        assert await store.outbox.forget_given_up(lost[0].at) == 0
        assert await store.outbox.forget_given_up(lost[1].at + HOUR) == 2
        assert await store.outbox.given_up_after(A_TIME - HOUR) == []

    runner.run(story())


def test_endpoints_that_wait_are_found_among_many_calls(
    runner: asyncio.Runner, store: Store, clock: HandClock
) -> None:
    async def story() -> None:
        for name in ("b", "a", "c"):
            await serve(store, name)
            for number in range(3):
                await accept(store, clock, f"{name}-{number}", endpoint=name)
        assert await store.async_leases.waiting() == ["a", "b", "c"]
        leases = await store.async_leases.claim("me", {"b": 3, "c": 1}, LEASE)
        assert await store.async_leases.waiting() == ["a", "c"]
        for lease in leases[:3]:  # back, but not yet
            await store.async_leases.release(Release(lease=lease, pause=timedelta(seconds=5)))
        assert await store.async_leases.waiting() == ["a", "c"]
        clock.pass_by(seconds=5)
        assert await store.async_leases.waiting() == ["a", "b", "c"]

    runner.run(story())


def test_what_was_accepted_outlives_the_process(tmp_path: Path, clock: HandClock) -> None:
    async def story(opened: Store) -> None:
        await serve(opened)
        await accept(opened, clock, "a", body=b"kept")

    first = Store.open(tmp_path / "two.sqlite", NAMESPACE, clock)
    asyncio.run(story(first))
    second = Store.open(tmp_path / "two.sqlite", NAMESPACE, clock)  # a second process, beside it
    (lease,) = asyncio.run(claim(second))
    assert lease.body == b"kept"
    first.close()
    second.close()
