"""Long blocking work in threads that can be cancelled."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

Check = Callable[[], None]
"""Called by the work every now and then; raises when it is to stop."""


class _Stopped(Exception):
    """The task that waited for the work was cancelled."""


async def run_stoppable(executor: Executor, work: Callable[[Check], T]) -> T:
    """Run blocking work in a thread; when the caller is cancelled, stop it and wait for its end.

    Afterwards no thread touches the work's files any more, so that they can be removed.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    future = asyncio.get_running_loop().run_in_executor(executor, work, check)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        # A thread that waits for its turn is taken from the queue; one that runs sees `stop`.
        if not future.cancel():
            await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise
