"""Spans of invocations, on their way to a collector. What is not sampled costs a few comparisons.

An invocation has two: what this server did, and inside it the call of the model, which is the
parent of whatever the container does. When an invocation has ended, one record of plain values goes
to a bounded queue; what has no room is dropped and counted, never waited for. A thread empties the
queue (``span_export.py``).
"""

import random
import threading
from collections import deque
from typing import NamedTuple

from clary.resources.trace_context import SAMPLED, TraceContext

WAKE_AT = 256
"""Records in the queue from which the thread is woken at once."""


class SpanRecord(NamedTuple):
    """One invocation that has ended."""

    operation: str
    endpoint: str
    variant: str
    """Empty: it went to none."""

    container: str
    trace_id: int
    parent_id: int
    """0: it is the root of its trace."""

    span_id: int
    call_id: int
    """Of the call of the model."""

    state: str
    began_at: float
    """In seconds on the monotonic clock, as the others."""

    sent_at: float
    """0: no model was called."""

    ended_at: float
    status: int
    """HTTP status of the model's answer; 0: there was none."""

    error: str
    """Why there was none; empty: no error of this server."""


class Trace:
    """Ids of a sampled invocation."""

    __slots__ = ("call_id", "parent_id", "span_id", "state", "trace_id")

    def __init__(self, trace_id: int, parent_id: int, state: str) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = random.getrandbits(64) or 1
        self.call_id = random.getrandbits(64) or 1
        self.state = state

    def headers(self) -> dict[str, str]:
        """Return what tells the container that it is called in this trace."""
        context = TraceContext(f"{self.trace_id:032x}", f"{self.call_id:016x}", SAMPLED, self.state)
        return context.headers()


def begin(context: TraceContext | None, ratio: float) -> Trace | None:
    """Return the trace of a new invocation; None: it is not sampled.

    Args:
        context: What the client said, which decides where there is any.
        ratio: Share of the other calls that is sampled, 0 to 1.
    """
    if context is not None:
        if not context.is_sampled:
            return None
        return Trace(int(context.trace_id, 16), int(context.span_id, 16), context.state)
    if random.random() >= ratio:  # noqa: S311 - no secret
        return None
    return Trace(random.getrandbits(128) or 1, 0, "")


class SpanQueue:
    """Records that wait to be exported.

    Args:
        limit: Most of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._records: deque[SpanRecord] = deque()
        self.counts = {"exported": 0, "dropped": 0}
        """Spans, since this process began; for control."""
        self.full_enough = threading.Event()
        """Set when the thread should not wait any longer."""

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: SpanRecord) -> None:
        """Take a record, or drop it."""
        waiting = len(self._records)
        if waiting >= self._limit:
            self.counts["dropped"] += spans_of(record)
            return
        self._records.append(record)
        if waiting == WAKE_AT:
            self.full_enough.set()

    def take(self, most: int) -> list[SpanRecord]:
        """Return the oldest records, and keep them no more. For the thread."""
        records = self._records
        return [records.popleft() for _ in range(min(most, len(records)))]


def spans_of(record: SpanRecord) -> int:
    """Return how many spans a record is."""
    return 2 if record.sent_at else 1
