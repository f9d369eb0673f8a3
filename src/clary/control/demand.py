"""How many workers calls need, as gateways report it, and for how long that counts.

A gateway says at once that a call waits for a worker, and each second how many workers its calls
needed at most (``router/serverless.py``). What is wanted is the most that was needed within the
last ``idle_s`` seconds, over all gateways together: so workers come at once and leave late, and
leave for good when nobody calls. Nothing of it is written down: after a restart, what runs counts
as needed until then, and gateways say again what waits.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clary.clock import Clock

FRESH_S = 3.0
"""A gateway's report counts for so long beside those of others, in seconds."""

Place = tuple[str, str]
"""Endpoint and variant."""


@dataclass(slots=True)
class _Need:
    by_gateway: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Workers, and when it was said, by the gateway's life."""
    most: deque[tuple[float, int]] = field(default_factory=deque)
    """Moments with what was needed then, each less than those before it: the first is the most."""

    def note(self, life: str, workers: int, now: float) -> None:
        self.by_gateway[life] = (workers, now)
        total = sum(count for count, at in self.by_gateway.values() if now - at <= FRESH_S)
        while self.most and self.most[-1][1] <= total:
            self.most.pop()
        if total:
            self.most.append((now, total))

    def forget_before(self, moment: float) -> None:
        while self.most and self.most[0][0] < moment:
            self.most.popleft()
        gone = [life for life, (_, at) in self.by_gateway.items() if at < moment]
        for life in gone:
            del self.by_gateway[life]


class Demand:
    """What all serverless variants need.

    Args:
        clock: Monotonic time.
        idle_s: How long a need counts, in seconds.
    """

    def __init__(self, clock: Clock, *, idle_s: float) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._needs: dict[Place, _Need] = {}
        self.on_more: Callable[[str], None] = lambda endpoint: None
        """Hears of endpoints that need more than before."""

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a gateway's report: ``{"life", "needs": [[endpoint, variant, workers], ...]}``."""
        for endpoint, variant, workers in message["needs"]:
            self.note(endpoint, variant, int(workers), life=message["life"])

    def note(self, endpoint: str, variant: str, workers: int, *, life: str = "") -> None:
        """Note that calls need so many workers at this moment."""
        before, _ = self.wanted(endpoint, variant)
        need = self._needs.setdefault((endpoint, variant), _Need())
        need.note(life, workers, self._clock.monotonic())
        if self.wanted(endpoint, variant)[0] > before:
            self.on_more(endpoint)

    def adopt(self, endpoint: str, variant: str, workers: int) -> None:
        """Count workers that run as needed, where nothing has been heard of their variant yet."""
        if (endpoint, variant) not in self._needs:
            self._needs[endpoint, variant] = need = _Need()
            need.note("", workers, self._clock.monotonic())

    def wanted(self, endpoint: str, variant: str) -> tuple[int, float | None]:
        """Return how many workers a variant needs, and in how many seconds that may be fewer."""
        need = self._needs.get((endpoint, variant))
        if need is None:
            return 0, None
        now = self._clock.monotonic()
        need.forget_before(now - self._idle_s)
        if not need.most:
            return 0, None
        at, workers = need.most[0]
        return workers, max(at + self._idle_s - now, 0.0) + 0.01

    def forget(self, endpoint: str) -> None:
        """Forget an endpoint that is gone."""
        for place in [place for place in self._needs if place[0] == endpoint]:
            del self._needs[place]
