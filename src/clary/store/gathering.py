"""Many callers' rows in one statement, where one write for each would cost too much.

While a write is under way, items gather; then they become the next one together. Who added an item
hears of it after the commit, as of any other write.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.engine import Connection

from clary.store.database import Database

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS = 256


class Gathering(Generic[Item, Result]):
    """Brings items of one kind to the database.

    Args:
        database: Where to.
        apply: Writes items; returns for each its result, or an exception for the one who added it.
        after_commit: Called with the items after each commit.
        pause_s: How long items gather before each write, in seconds, besides while one is under
            way. For those that nobody waits for: fewer writes leave the database to others.
    """

    def __init__(
        self,
        database: Database,
        apply: Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]],
        after_commit: Callable[[Sequence[Item]], None] = lambda items: None,
        *,
        pause_s: float = 0.0,
    ) -> None:
        self._database = database
        self._apply = apply
        self._after_commit = after_commit
        self._pause_s = pause_s
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """Return an item's result once it is durable.

        Cancelling does not take it back.

        Raises:
            StoreFailed: The database refused. Nothing was changed.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._waiting:
            if self._pause_s and len(self._waiting) < MAX_ITEMS:
                await asyncio.sleep(self._pause_s)
            group, self._waiting = self._waiting[:MAX_ITEMS], self._waiting[MAX_ITEMS:]
            items = [item for item, _ in group]
            try:
                results = await self._database.write(
                    lambda connection, items=items: self._apply(connection, items),  # type: ignore[misc]
                    after_commit=lambda _, items=items: self._after_commit(items),  # type: ignore[misc]
                )
            except Exception as error:  # noqa: BLE001 - belongs to those who wait
                results = [error] * len(group)
            for (_, future), result in zip(group, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self._writing = None
