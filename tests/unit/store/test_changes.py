import asyncio

from clary.store.changes import Changes


async def _drain(queue: asyncio.Queue[tuple[str, str]]) -> list[tuple[str, str]]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_every_subscriber_hears_what_changes_from_then_on() -> None:
    async def story() -> None:
        changes = Changes()
        first = changes.subscribe()
        changes.notify("endpoint", "a")
        second = changes.subscribe()
        changes.notify("model", "b")

        assert await _drain(first) == [("endpoint", "a"), ("model", "b")]
        assert await _drain(second) == [("model", "b")]

    asyncio.run(story())


def test_a_queue_that_was_given_back_is_left_alone() -> None:
    async def story() -> None:
        changes = Changes()
        queue = changes.subscribe()
        changes.unsubscribe(queue)
        changes.notify("endpoint", "a")

        assert queue.empty()

    asyncio.run(story())
