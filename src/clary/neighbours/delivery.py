"""Sends messages of SNS to HTTP listeners, and again while they do not take them.

What is under way lives in memory: it ends with the process. A message that nobody took goes to the
queue that the subscription names for such, if any, and is logged.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import urllib3

from clary.neighbours.delivery_rule import may_be_repeated

TIMEOUT_S = 15.0
"""Longest time that a listener may take, as with SNS."""

THREADS = 16
MAX_PENDING = 10_000
"""Most messages under way; beyond it the next ones are given up at once."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one listener."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    pauses_s: tuple[float, ...]
    """Before each further try, in seconds."""
    dead_letter_queue: str = ""
    """ARN of a queue for messages that nobody took; empty for none."""


class Deliveries:
    """All messages under way.

    Args:
        give_up: Called with a message that nobody took.
    """

    def __init__(self, give_up: Callable[[Delivery], None]) -> None:
        self._give_up = give_up
        self._pool = urllib3.PoolManager(maxsize=4, retries=False, timeout=TIMEOUT_S)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sns")
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, delivery: Delivery) -> None:
        """Begin to send a message. Never waits."""
        if len(self._tasks) >= MAX_PENDING:
            _log.error("too many messages under way; one to %s is given up", delivery.url)
            self._give_up(delivery)
            return
        task = asyncio.get_running_loop().create_task(self._send(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _send(self, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        for pause_s in (0.0, *delivery.pauses_s):
            await asyncio.sleep(pause_s)
            status = await loop.run_in_executor(self._threads, self._post, delivery)
            if 200 <= status < 300:
                return
            if not may_be_repeated(status):
                break
        _log.warning("%s did not take a message (last status %s)", delivery.url, status or "none")
        self._give_up(delivery)

    def _post(self, delivery: Delivery) -> int:
        """Send once; return the status of the answer, 0 for none."""
        try:
            response = self._pool.request(
                "POST",
                delivery.url,
                body=delivery.body,
                headers=dict(delivery.headers),
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            _log.info("%s cannot be reached: %s", delivery.url, error)
            return 0
        return response.status
