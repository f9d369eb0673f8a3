"""When a worker that batches begins its next batch: pure arithmetic, apart from clock and sockets.

Whatever waits when a worker becomes free is one batch; that alone makes batches under load. But
clients that were answered together also come back together, a moment later: who begins at once
takes the first of them alone and lets all the others wait for a whole call. So a free worker may
wait for company, while this holds:

- The last batch and what was waiting at its end were more than wait now. An idle model therefore
  never waits, and neither does one with a single client.
- It is not yet later than the company is worth: what a request saves by sharing a call is the part
  of the call's time that does not grow with its size. That part is measured.
- Waiting has paid lately. Where answered clients do not come back (an open stream of arrivals), the
  gain stays out, and waiting is left for a while.
- ``max_delay_s`` has not passed since the worker became free, and no deadline is near.
"""

from typing import Mapping, NamedTuple, Optional

DEFAULT_MAX_DELAY_MS = 100
"""As in the toolkits' model servers (handlers.md 7)."""
MAX_SIZE = 4096
MAX_DELAY_MS = 60_000
SIZE_NAMES = ("MODEL_MAX_BATCH_SIZE", "SAGEMAKER_TS_BATCH_SIZE")
DELAY_NAMES = ("MODEL_MAX_BATCH_DELAY_MS", "SAGEMAKER_TS_MAX_BATCH_DELAY")

PATIENCE = 0.75
"""Share of the possible gain that a wait may cost."""
NEWEST = 0.1
"""Share of the newest batch in the moving averages."""
HOPE = 0.01
"""How much of the way to "company is free" an old estimate goes back with each batch."""
LOSS = -0.1
"""Balance of waiting, in calls, below which it does not pay."""
REST = 50
"""Batches without waiting, once it has not paid."""


class Batching(NamedTuple):
    """What the model's environment asks for."""

    max_size: int = 1
    """Most requests in one call; 1: no batching."""
    max_delay_s: float = DEFAULT_MAX_DELAY_MS / 1000
    """Longest wait for company, in seconds."""


def read_batching(environment: Mapping[str, str]) -> Batching:
    """Return what a model's environment says about batching.

    Raises:
        ValueError: A variable is no number, or out of range.
    """
    size = _whole_number(environment, SIZE_NAMES, 1, 1, MAX_SIZE)
    delay_ms = _whole_number(environment, DELAY_NAMES, DEFAULT_MAX_DELAY_MS, 0, MAX_DELAY_MS)
    return Batching(size, delay_ms / 1000)


def _whole_number(
    environment: Mapping[str, str], names: "tuple[str, ...]", default: int, least: int, most: int
) -> int:
    for name in names:
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise ValueError(f"{name} is {text!r}; it must be a whole number, {least} to {most}")
        return value
    return default


class CallCost:
    """How the time of a call depends on how many requests share it: a line through recent calls."""

    __slots__ = ("_fixed_share", "_size", "_size_size", "_size_time", "_time")

    def __init__(self) -> None:
        self._size = self._time = self._size_size = self._size_time = 0.0
        self._fixed_share = 1.0

    @property
    def mean_s(self) -> float:
        """Mean time of a call, in seconds."""
        return self._time

    @property
    def fixed_s(self) -> float:
        """The part of it that does not grow with the size. All, as long as sizes never differ."""
        return self._time * self._fixed_share

    def add(self, size: int, took_s: float) -> None:
        """Take in one call."""
        weight = NEWEST if self._time else 1.0
        self._size += (size - self._size) * weight
        self._time += (took_s - self._time) * weight
        self._size_size += (size * size - self._size_size) * weight
        self._size_time += (size * took_s - self._size_time) * weight
        variance = self._size_size - self._size * self._size
        if variance > 0.01 * self._size_size and self._time:
            slope = (self._size_time - self._size * self._time) / variance
            share = 1.0 - slope * self._size / self._time
            self._fixed_share = min(max(share, 0.0), 1.0)
        else:
            # Sizes that hardly differ say nothing about the slope. Hope, slowly, that what was
            # known is out of date: the waits that follow make sizes differ, and tell.
            self._fixed_share += (1.0 - self._fixed_share) * HOPE


class BatchPolicy:
    """Decides when the next batch begins. Moments are seconds on the monotonic clock."""

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._cost = CallCost()
        self._free_since = 0.0
        self._expected = 0
        """How many requests would be there if all that were answered came back."""
        self._waits_with = -1
        """How many were there when the present wait began; -1: there is none."""
        self._balance = 0.0
        """Moving average of what a wait gained less what it cost, in calls."""
        self._rest = 0

    def ended(self, now: float, size: int, took_s: Optional[float], waiting: int) -> None:
        """A batch has ended.

        Args:
            now: When it ended.
            size: How many requests were in it.
            took_s: Its whole time; None when it says nothing about others.
            waiting: How many had arrived meanwhile.
        """
        if took_s is not None:
            self._cost.add(size, took_s)
        self._free_since = now
        self._expected = min(self._batching.max_size, size + waiting)

    def begin_at(self, now: float, waiting: int, deadline: float) -> float:
        """Return when to begin; not later than ``now`` means at once.

        Args:
            now: The moment.
            waiting: How many requests are there, at least one.
            deadline: The earliest of theirs.
        """
        missing = self._expected - waiting
        if missing <= 0 or self._rest:
            return now
        patience = PATIENCE * self._cost.fixed_s * missing / self._expected
        at = min(
            self._free_since + min(patience, self._batching.max_delay_s),
            deadline - 2 * self._cost.mean_s,
        )
        if at > now and self._waits_with < 0:
            self._waits_with = waiting
        return at

    def began(self, now: float, size: int) -> None:
        """A batch of ``size`` begins."""
        if self._rest:
            self._rest -= 1
        if self._waits_with < 0:
            return
        came = size - self._waits_with
        self._waits_with = -1
        cost_s = self._cost.mean_s
        gain = self._cost.fixed_s / cost_s * came / self._expected
        lost = (now - self._free_since) / cost_s
        self._balance += (gain - lost - self._balance) * NEWEST
        if self._balance < LOSS:
            self._balance = 0.0
            self._rest = REST
