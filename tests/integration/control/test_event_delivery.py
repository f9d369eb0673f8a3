"""Events reach their receivers: in order, again when not taken, past what is never taken."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from builders import NAMESPACE
from clary.clock import SystemClock
from clary.control.event_receivers import KEPT_FILES, EventFile, EventTopic, Webhook
from clary.control.events import EventDelivery, pause_after
from clary.errors import PermanentError, TransientError
from clary.settings import EventSettings
from clary.store import Store
from clary.store.events import append_event
from listener import Listener


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "state.sqlite", NAMESPACE, SystemClock())
    yield opened
    opened.close()


class Receiver:
    """Takes events, or raises what it was told to."""

    def __init__(self, name="receiver", *errors):
        self.name = name
        self.got = []
        self.errors = list(errors)

    async def send(self, event):
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.got.append(event["detail"]["n"])


async def append(store, *names):
    for name in names:
        event = {"detail-type": "test", "detail": {"n": name}}
        await store.database.write(lambda c, event=event: append_event(c, event))
        store.changes.notify("test", name)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - receivers tell nobody
            await asyncio.sleep(0.01)


async def deliver(store, receivers, work, **settings):
    """Run deliveries while ``work`` runs."""
    delivery = EventDelivery(
        store.events, store.changes, receivers, SystemClock(), EventSettings(**settings)
    )
    await delivery.register()
    running = asyncio.create_task(delivery.run())
    try:
        await work()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_one_that_is_away_holds_up_no_other_and_misses_nothing(store):
    away = Receiver("away", *[TransientError("away")] * 2)
    here = Receiver("here")

    async def work():
        await append(store, "a", "b", "c")
        await until(lambda: here.got == ["a", "b", "c"])
        await until(lambda: away.got == ["a", "b", "c"])

    asyncio.run(deliver(store, [away, here], work, max_pause_s=0.05))
    assert here.got == ["a", "b", "c"]


def test_what_is_never_taken_is_passed_over(store):
    picky = Receiver("picky", None, PermanentError("no"), ValueError("a bug"))

    async def work():
        await append(store, "a", "b", "c")
        await until(lambda: picky.got == ["a", "c"])

    asyncio.run(deliver(store, [picky], work, max_pause_s=0.05))


def test_a_restart_goes_on_where_it_was(store):
    before, after = Receiver(), Receiver()

    async def first():
        await append(store, "a")
        await until(lambda: before.got == ["a"])

    async def second():
        await append(store, "c")
        await until(lambda: after.got == ["b", "c"])

    asyncio.run(deliver(store, [before], first))
    asyncio.run(append(store, "b"))
    asyncio.run(deliver(store, [after], second))


def test_what_all_have_is_cleared_away(store):
    receiver = Receiver()

    async def work():
        await append(store, "a")
        await until(lambda: receiver.got == ["a"])

    async def trim():
        now = SystemClock().now()
        return await store.events.trim(max_age=timedelta(days=1), max_events=9, now=now)

    asyncio.run(deliver(store, [receiver], work))
    assert asyncio.run(trim()) == 0


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(1, 0.5), (2, 1.0), (5, 8.0), (10, 60.0), (10_000, 60.0)]
)
def test_pauses_grow_to_a_longest_one(failures, pause_s):
    assert pause_after(failures, longest_s=60.0) == pause_s


def test_the_file_is_begun_anew_at_its_size_and_some_are_kept(tmp_path):
    path = tmp_path / "events.jsonl"
    file = EventFile(path, max_bytes=50)
    for number in range(12):
        asyncio.run(file.send({"n": number, "pad": "x" * 20}))
    assert json.loads(path.read_text().splitlines()[-1])["n"] == 11
    files = sorted(entry.name for entry in tmp_path.iterdir())
    assert files == ["events.jsonl", *(f"events.jsonl.{n + 1}" for n in range(KEPT_FILES))]
    numbers = [
        json.loads(line)["n"]
        for name in [*reversed(files[1:]), files[0]]
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert numbers == list(range(12 - len(numbers), 12)), "in order, the oldest are gone"


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path):
    file = EventFile(tmp_path / "none" / "events.jsonl", max_bytes=50)
    with pytest.raises(TransientError, match="cannot be written"):
        asyncio.run(file.send({"n": 1}))


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, None), (204, None), (503, TransientError), (429, TransientError), (404, PermanentError)],
)
def test_a_webhook_is_asked_again_only_where_that_may_help(status, error):
    with Listener(status) as listener:
        webhook = Webhook(f"{listener.url}/hook", timeout_s=5)
        sending = webhook.send({"id": "e-1", "detail": {}})
        if error is None:
            asyncio.run(sending)
        else:
            with pytest.raises(error, match=str(status)):
                asyncio.run(sending)
        (posted,) = listener.posted
    assert posted.path == "/hook"
    assert posted.headers["x-clary-event-id"] == posted.json["id"] == "e-1"


def test_a_webhook_that_nobody_answers_may_come_back():
    with Listener() as listener:
        url = listener.url
    with pytest.raises(TransientError, match="cannot be reached"):
        asyncio.run(Webhook(url, timeout_s=5).send({"id": "e-1"}))


def test_a_topic_gets_the_event_as_its_message():
    published = []

    class Notifier:
        async def publish(self, topic_arn, subject, message, attributes=None):
            published.append((topic_arn, subject, json.loads(message), attributes))

    event = {"id": "e-1", "detail-type": "T" * 120, "source": "aws.sagemaker"}
    asyncio.run(EventTopic("arn:t", Notifier()).send(event))
    ((arn, subject, message, attributes),) = published
    assert (arn, len(subject), message) == ("arn:t", 100, event)
    assert attributes == {"source": "aws.sagemaker", "detail-type": "T" * 120}
