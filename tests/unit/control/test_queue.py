import asyncio
from collections.abc import Awaitable, Callable

import pytest

from clary.control.queue import MAX_PAUSE_S, KeyQueue, retry_pause


def run(story: Callable[[KeyQueue], Awaitable[None]]) -> None:
    async def main() -> None:
        queue = KeyQueue()
        try:
            await asyncio.wait_for(story(queue), 5)
        finally:
            queue.close()

    asyncio.run(main())


async def nothing_is_ready(queue: KeyQueue) -> bool:
    try:
        await asyncio.wait_for(queue.get(), 0.01)
    except TimeoutError:
        return True
    return False


def test_equal_keys_merge_and_order_is_kept() -> None:
    async def story(queue: KeyQueue) -> None:
        for key in ("a", "b", "a"):
            queue.add(key)

        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert await nothing_is_ready(queue)

    run(story)


def test_a_key_in_a_pass_waits_for_its_end() -> None:
    async def story(queue: KeyQueue) -> None:
        queue.add("a")
        await queue.get()
        queue.add("a")
        assert await nothing_is_ready(queue)

        queue.done("a")

        assert await queue.get() == "a"

    run(story)


def test_a_key_comes_back_after_the_time_that_its_pass_asked_for() -> None:
    async def story(queue: KeyQueue) -> None:
        queue.add("a")
        queue.done(await queue.get(), 0.02)
        assert await nothing_is_ready(queue)

        assert await queue.get() == "a"

    run(story)


def test_a_change_comes_before_the_time_that_a_pass_asked_for() -> None:
    async def story(queue: KeyQueue) -> None:
        queue.add("a")
        queue.done(await queue.get(), 60)
        queue.add("a")

        assert await queue.get() == "a"

    run(story)


def test_a_failed_key_waits_longer_each_time_and_a_good_pass_forgets() -> None:
    async def story(queue: KeyQueue) -> None:
        pauses = []
        for _ in range(3):
            queue.add("a")
            pauses.append(queue.failed(await queue.get()))
        assert pauses == sorted(pauses)

        queue.add("a")
        queue.done(await queue.get())
        queue.add("a")
        assert queue.failed(await queue.get()) <= retry_pause(1, 1.0)

    run(story)


def test_one_failing_key_does_not_hold_up_another() -> None:
    async def story(queue: KeyQueue) -> None:
        queue.add("bad")
        queue.failed(await queue.get())
        queue.add("good")

        assert await queue.get() == "good"

    run(story)


@pytest.mark.parametrize("failures", [1, 5, 50, 5000])
def test_a_pause_has_a_ceiling_and_jitter(failures: int) -> None:
    assert 0 < retry_pause(failures, 0.0) < retry_pause(failures, 1.0) <= MAX_PAUSE_S
