"""The queue of a worker whose handler answers several requests in one call.

As ``Server``, but the queue is taken in batches. When one begins is decided by ``batcher.py``;
here are the clock, the queue and the connections. After a batch the loop looks at its sockets
before the next one begins: what arrived during the call belongs in it.
"""

import asyncio
import time
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from clary.messages import HEAD, MAX_BODY_PART, REPLY
from clary.worker.batcher import BatchPolicy
from clary.worker.connection import Connection, Request
from clary.worker.handlers.base import BatchHandler, Reply
from clary.worker.server import DRAIN_NS, Server, without_loop
from clary.worker.streams import Stream


class BatchServer(Server):
    """The queue of one worker and the batches made of it."""

    def __init__(
        self, handler: BatchHandler, page: memoryview, life: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Prepare, as ``Server``."""
        super().__init__(handler, page, life, loop)
        self._batch_handler = handler
        self._policy = BatchPolicy(handler.batching)
        self._batch: List[Optional[Request]] = []
        """Requests that are worked on, None where nobody waits for the answer any more."""
        self._steps: Iterator[List[Tuple[int, Reply]]] = iter(())
        self._timer: Optional[asyncio.TimerHandle] = None
        self._took_ns = 0
        self._was_checked = handler.is_checked
        self.concurrency = handler.batching.max_size

    def submit(self, requests: List[Request]) -> None:
        if not self._batch_handler.is_batching:
            super().submit(requests)
            return
        self._queue.extend(requests)
        if not self._is_draining:
            self._consider()

    def _keep(self, wanted: Callable[[Request], bool]) -> None:
        super()._keep(wanted)
        self._batch = [
            request if request is not None and wanted(request) else None for request in self._batch
        ]

    # Batches ------------------------------------------------------------------------------

    def _consider(self) -> None:
        """Begin a batch, or wait for company."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._queue:
            return
        now = time.monotonic()
        deadline = min(request[2] for request in self._queue) / 1e9
        begin_at = self._policy.begin_at(now, len(self._queue), deadline)
        if begin_at > now:
            self._timer = self._loop.call_later(begin_at - now, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        queue = self._queue
        now = time.monotonic_ns()
        batch: List[Optional[Request]] = []
        while queue and len(batch) < self._batch_handler.batching.max_size:
            request = queue.popleft()
            if request[2] > now:  # else the router has answered for us
                batch.append(request)
                self._page[request[5]] = request[1]
        if not batch:
            return
        self._is_draining = True
        self._batch = batch
        self._took_ns = 0
        self._was_checked = self._batch_handler.is_checked
        self._policy.began(now / 1e9, len(batch))
        requests = [(request[3], request[4]) for request in batch if request is not None]
        self._steps = (
            self._batch_handler.invoke_batch(requests, self._is_wanted)
            if len(requests) > 1
            else self._single(requests[0])
        )
        self._work()

    def _single(self, request: Tuple[bytes, bytes]) -> Iterator[List[Tuple[int, Reply]]]:
        yield [(0, self._batch_handler.invoke(*request))]

    def _is_wanted(self, index: int) -> bool:
        request = self._batch[index]
        return request is not None and request[2] > time.monotonic_ns()

    def _work(self) -> None:
        """Do a millisecond of the batch's work, in most cases all; come back for the rest."""
        page = self._page
        began = start = time.monotonic_ns()
        answered: Dict[Connection, List[bytes]] = {}
        is_done = False
        with without_loop(self._loop):
            while start - began <= DRAIN_NS:
                page[0] = start
                answers = next(self._steps, None)
                page[0] = 0
                end = time.monotonic_ns()
                if answers is None:
                    is_done = True
                    break
                page[1] += len(answers)
                # Each one's share: what a request in the queue adds to the wait of the next.
                share_us = (end - start) // (1000 * len(answers))
                start = end
                for index, reply in answers:
                    self._send(answered, index, share_us, reply)
        self._took_ns += start - began
        for connection, frames in answered.items():
            connection.write(frames[0] if len(frames) == 1 else b"".join(frames))
        # The loop runs its callbacks before it handles what its sockets have: one turn more.
        self._loop.call_soon(self._loop.call_soon, self._ended if is_done else self._work)

    def _send(
        self, answered: Dict[Connection, List[bytes]], index: int, share_us: int, reply: Reply
    ) -> None:
        request = self._batch[index]
        if request is None:
            return  # cancelled
        connection, request_id = request[0], request[1]
        status, meta, body = reply
        if isinstance(body, Stream):
            self._open(connection, request_id, body)
            return
        if len(body) > MAX_BODY_PART:
            connection.send_large(request_id, share_us, (status, meta, body))
            return
        head = HEAD.pack(REPLY, 0, status, request_id, share_us, len(meta), len(body))
        answered.setdefault(connection, []).append(head + meta + body)

    def _ended(self) -> None:
        size = len(self._batch)
        self._batch = []
        took_s = self._took_ns / 1e9 if self._was_checked else None
        self._policy.ended(time.monotonic(), size, took_s, len(self._queue))
        if not self._batch_handler.is_batching:
            self._drain()
            return
        self._is_draining = False
        self._consider()
