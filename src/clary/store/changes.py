"""The change feed: who is interested hears which thing has changed.

In-process, and only a hint: a subscriber that misses one finds the change at its next sweep. Stores
notify after the commit, so whoever reads on a notice reads the new state.
"""

import asyncio
from collections.abc import Callable


class Changes:
    """Hands each notice to all subscribers. To be used on one event loop."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[tuple[str, str]]] = []
        self._listeners: list[Callable[[str, str], None]] = []

    def notify(self, kind: str, name: str) -> None:
        """Tell all subscribers that a thing has changed. Never waits."""
        for queue in self._queues:
            queue.put_nowait((kind, name))
        for listener in self._listeners:
            listener(kind, name)

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Have a function called with (kind, name) of each change from now on."""
        self._listeners.append(listener)

    def subscribe(self) -> asyncio.Queue[tuple[str, str]]:
        """Return a queue that gets (kind, name) of each change from now on.

        Kinds are those of ``resources.names.ResourceKind``, such as ``"endpoint"``. The queue has
        no bound: read it all the time, merging what is equal, or unsubscribe.
        """
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._queues.append(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        """Stop filling a queue that ``subscribe`` returned."""
        self._queues.remove(queue)
