"""Calls of serverless variants: admitted up to their concurrency, kept until there is a worker.

The variant's workers come and go (``control/serverless.py``). A call goes to the first worker that
is idle or almost, or to one that will surely be free sooner than a new one could be there; else it
waits here, and control is told how many workers are needed. Warm calls need nobody but the worker.
Several gateways add up what each has open (``shared_counts.py``).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clary.errors import (
    InvalidRequest,
    InvocationError,
    ModelNotLoaded,
    ModelNotReady,
    Overloaded,
    Refused,
    Throttled,
)
from clary.router.balancing import STALLED_AFTER_S
from clary.router.invocation import Channel, Invocation, Resubmit
from clary.router.pipeline import NOT_DIRECT
from clary.router.shared_counts import SharedCounts
from clary.router.table import Endpoint, Instance, Variant, Worker
from clary.settings import ServerlessSettings

WORTH_WAITING_S = 0.1
"""A worker that will be free within this time is waited for; for a longer one a new worker starts,
in seconds."""
WAKING_S = 0.00025
"""A worker that will be free within this time is as good as an idle one, which has to be woken up:
short calls stay on few workers, and those that are not needed end. In seconds."""
UNKNOWN_S = 1e6
"""Stands for a time that nobody knows."""
LOOK_S = 0.01
"""How often it is looked whether a worker has become free while calls wait, in seconds."""
DOUBT_S = 3 * LOOK_S
"""How long a call waits for newer counts of other gateways before these refuse it, in seconds."""
THROTTLED = "Rate exceeded"
"""AWS's words (runtime-errors.md 2)."""

Send = Callable[[Invocation, Variant, Instance, Worker], None]
Place = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Waiting:
    invocation: Invocation
    since: float
    time_left_s: float
    """Of the call's own time, which goes on once it is with a worker."""
    is_admitted: bool = True
    """Whether there is room for it, as far as is known. What other gateways say may be old."""


class ServerlessCalls:
    """The calls of all serverless endpoints.

    Args:
        settings: How long calls wait, and how many workers a variant gets.
        life: Names this process to control.
        send: Sends a call to a worker, or raises ``Overloaded``.
        resubmit: Takes a call whose endpoint is not serverless any more.
    """

    def __init__(
        self, settings: ServerlessSettings, life: str, send: Send, resubmit: Resubmit
    ) -> None:
        self._settings = settings
        self._life = life
        self._send = send
        self._resubmit = resubmit
        self._endpoints: dict[str, Endpoint] = {}
        self._lines: dict[str, deque[_Waiting]] = {}
        """What waits for a worker, by endpoint; none of them is empty."""
        self._needs: dict[Place, int] = {}
        """Most workers that were needed since the last report."""
        self._told: dict[Place, int] = {}
        """What control was told since then."""
        self._looking: asyncio.TimerHandle | None = None
        self.shared: SharedCounts | None = None
        """Counts of all gateway processes, where there are several."""
        self._shown: dict[str, int] = {}
        """What the others read of this one, where that is not 0."""
        self.say: Callable[[dict[str, Any]], None] = lambda message: None
        """Tells control something."""

    def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()

    def follow(self, name: str, endpoint: Endpoint | None) -> None:
        """Take an endpoint of the routing table as it is now."""
        if endpoint is not None and endpoint.is_serverless:
            self._endpoints[name] = endpoint
            if self.shared is not None:
                self.shared.open(name)
        elif self._endpoints.pop(name, None) is not None and self.shared is not None:
            self.shared.close(name)

    # Calls --------------------------------------------------------------------------------

    def submit(self, invocation: Invocation, endpoint: Endpoint) -> None:
        """Send a call to a worker, or keep it until there is one.

        Raises:
            Throttled: The variant has as many calls as it may have at once.
            InvalidRequest: The call names what such an endpoint does not have.
        """
        variant = _variant_of(endpoint, invocation)
        limits = variant.serverless
        assert limits is not None
        name = endpoint.name
        waiting = open_calls = len(self._lines.get(name, ()))
        for worker in endpoint.workers:
            open_calls += worker.channel.outstanding
        counters = variant.counters
        if open_calls >= limits.max_concurrency:
            counters.throttled += 1
            raise Throttled(THROTTLED)
        if self.shared is not None:
            open_calls += self.shared.of_others(name)
            if open_calls >= limits.max_concurrency:
                self._keep(invocation, endpoint, variant, is_admitted=False)
                return
        counters.note_concurrency(open_calls + 1, limits.provisioned)
        if self.shared is not None:
            self._show(name, self._shown.get(name, 0) + 1)
        if waiting:
            busy = sum(worker.channel.outstanding > 0 for worker in endpoint.workers)
            self._need(name, variant, busy + waiting + 1)
        elif self._place(invocation, name, variant, 0):
            return
        self._keep(invocation, endpoint, variant)

    def cancel(self, invocation: Invocation) -> bool:
        """Forget a call whose client has gone; return whether it waited here."""
        line = self._lines.get(invocation.endpoint, ())
        for waiting in line:
            if waiting.invocation is invocation:
                self._lines[invocation.endpoint].remove(waiting)
                if not line:
                    del self._lines[invocation.endpoint]
                return True
        return False

    def _place(self, invocation: Invocation, name: str, variant: Variant, waiting: int) -> bool:
        """Send a call to a worker if one is free, or soon will be."""
        limits = variant.serverless
        best: tuple[Instance, Worker] | None = None
        shortest_s = UNKNOWN_S
        now = time.monotonic()
        live = busy = 0
        for instance in variant.instances:
            for worker in instance.workers:
                channel = worker.channel
                if not channel.is_ready:
                    continue
                live += 1
                if channel.outstanding == 0:
                    self._need(name, variant, busy + 1)
                    self._send(invocation, variant, instance, worker)
                    return True
                busy += 1
                wait_s = _wait_s(channel, now)
                if wait_s < WAKING_S:
                    self._need(name, variant, busy)
                    self._send(invocation, variant, instance, worker)
                    return True
                if best is None or wait_s < shortest_s:
                    best, shortest_s = (instance, worker), wait_s
        assert limits is not None
        most = max(self._settings.max_workers, limits.provisioned)
        if best is not None and (shortest_s < WORTH_WAITING_S or live >= most):
            self._need(name, variant, busy)
            self._send(invocation, variant, *best)
            return True
        self._need(name, variant, busy + waiting + 1)
        return False

    def _keep(
        self,
        invocation: Invocation,
        endpoint: Endpoint,
        variant: Variant,
        *,
        is_admitted: bool = True,
    ) -> None:
        now = time.monotonic()
        left_s = invocation.deadline - now
        line = self._lines.setdefault(endpoint.name, deque())
        line.append(_Waiting(invocation, now, left_s, is_admitted))
        invocation.variant = variant.name
        invocation.counters = variant.counters
        # Until it is with a worker only the time for a start counts.
        invocation.deadline = now + self._settings.start_wait_s + left_s
        self._look_soon()

    # Waiting ------------------------------------------------------------------------------

    def drain(self, name: str) -> None:
        """Send what waits, for the table or a channel has changed."""
        line = self._lines.pop(name, None)
        if line is None:
            return
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            for waiting in line:
                waiting.invocation.deadline = time.monotonic() + waiting.time_left_s
                # If it is nowhere any more, it is answered as if it had come now.
                self._resubmit(waiting.invocation, InvocationError(name))
            return
        now = time.monotonic()
        kept: deque[_Waiting] = deque()
        while line:
            waiting = line.popleft()
            try:
                if self._is_refused(waiting, endpoint, [*kept, *line], now):
                    raise Throttled(THROTTLED)
                error = self._try(waiting, endpoint, len(kept), now)
            except Overloaded as overloaded:
                error = overloaded
            except InvalidRequest as refused:
                error = Refused(refused.message)
            if error is _STILL:
                kept.append(waiting)
            elif error is not None:
                waiting.invocation.on_failure(error)
        if kept:
            kept.extend(self._lines.pop(name, ()))
            self._lines[name] = kept
            self._look_soon()

    def _try(
        self, waiting: _Waiting, endpoint: Endpoint, ahead: int, now: float
    ) -> InvocationError | None:
        """Send a call that waits; return why it cannot be, ``_STILL`` if it only has to wait.

        Raises:
            Overloaded: The worker's queue is full.
            InvalidRequest: The variant that the call names is gone.
        """
        invocation = waiting.invocation
        variant = _variant_of(endpoint, invocation)
        if not waiting.is_admitted:
            return _STILL
        start_at = invocation.deadline
        invocation.deadline = now + waiting.time_left_s
        if self._place(invocation, endpoint.name, variant, ahead):
            if variant.counters.is_measured:
                variant.counters.setup.samples.append(now - waiting.since)
            return None
        invocation.deadline = start_at
        limits = variant.serverless
        assert limits is not None
        if limits.trouble is not None and not any(i.is_usable for i in variant.instances):
            return ModelNotLoaded(limits.trouble)
        if now - waiting.since >= self._settings.start_wait_s:
            return ModelNotReady(
                f"Endpoint {endpoint.name} is serverless, and no worker of it was ready within "
                f"{self._settings.start_wait_s:g} seconds. Try again later."
            )
        return _STILL

    def _open_calls(self, endpoint: Endpoint) -> int:
        """Return how many calls this gateway has that were admitted."""
        line = self._lines.get(endpoint.name, ())
        sent = sum(worker.channel.outstanding for worker in endpoint.workers)
        return sent + sum(waiting.is_admitted for waiting in line)

    def _is_refused(
        self, waiting: _Waiting, endpoint: Endpoint, others: Sequence[_Waiting], now: float
    ) -> bool:
        """Admit a call if there is room by now; return whether it has waited for long enough.

        Args:
            waiting: It may have been admitted before.
            endpoint: Its endpoint.
            others: That wait with it.
            now: Monotonic clock.
        """
        if waiting.is_admitted:
            return False
        variant = _variant_of(endpoint, waiting.invocation)
        limits = variant.serverless
        assert limits is not None
        open_calls = sum(worker.channel.outstanding for worker in endpoint.workers)
        open_calls += sum(other.is_admitted for other in others)
        if self.shared is not None:
            open_calls += self.shared.of_others(endpoint.name)
        if open_calls < limits.max_concurrency:
            waiting.is_admitted = True
            variant.counters.note_concurrency(open_calls + 1, limits.provisioned)
            return False
        is_over = now - waiting.since >= DOUBT_S
        variant.counters.throttled += is_over
        return is_over

    def _show(self, name: str, count: int) -> None:
        assert self.shared is not None
        self.shared.write(name, count)
        if count:
            self._shown[name] = count
            self._look_soon()
        else:
            self._shown.pop(name, None)

    def _look_soon(self) -> None:
        if self._looking is None and (self._lines or self._shown):
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self.look)

    def look(self) -> None:
        """Send what can be sent by now, and show the others what is open. The timer calls it."""
        self._looking = None
        for name in list(self._lines):
            self.drain(name)
        for name in list(self._shown):
            endpoint = self._endpoints.get(name)
            self._show(name, 0 if endpoint is None else self._open_calls(endpoint))
        self._look_soon()

    # What control hears -------------------------------------------------------------------

    def _need(self, endpoint: str, variant: Variant, workers: int) -> None:
        place = (endpoint, variant.name)
        if workers > self._needs.get(place, 0):
            self._needs[place] = workers
            live = sum(len(instance.workers) for instance in variant.instances)
            if workers > live and workers > self._told.get(place, 0):
                # Not with the next report: calls wait for it.
                self._told[place] = workers
                self.say(self.message([[*place, workers]]))

    def report(self) -> list[list[Any]]:
        """Return and reset what was needed since the last time."""
        for name, endpoint in self._endpoints.items():
            busy = sum(worker.channel.outstanding > 0 for worker in endpoint.workers)
            needed = busy + len(self._lines.get(name, ()))
            if needed:
                variant = endpoint.variants[-1]
                place = (name, variant.name)
                self._needs[place] = max(self._needs.get(place, 0), needed)
                variant.counters.peak = max(variant.counters.peak, needed)
        needs, self._needs, self._told = self._needs, {}, {}
        return [[*place, workers] for place, workers in needs.items()]

    def message(self, needs: list[list[Any]]) -> dict[str, Any]:
        """Return what tells control of needs."""
        return {"type": "needs", "life": self._life, "needs": needs}


def _wait_s(channel: Channel, now: float) -> float:
    """Return about how long a call would wait for a busy worker, in seconds."""
    if channel.concurrency == 0:
        return 0.0  # it works on many calls at once
    mean_s = channel.mean_handler_s
    if not mean_s or now - channel.progress_at > max(STALLED_AFTER_S, 2 * mean_s):
        # It has answered nothing yet, or is in a call that is not like those before.
        return UNKNOWN_S + channel.outstanding
    return channel.outstanding * mean_s


_STILL = InvocationError("it waits")


def _variant_of(endpoint: Endpoint, invocation: Invocation) -> Variant:
    """Return the variant that takes a call: during a deployment the fleet that has the traffic."""
    target = invocation.target_variant
    if (
        target is None
        and len(endpoint.variants) == 1
        and invocation.target_container is None
        and invocation.target_model is None
    ):
        return endpoint.variants[0]
    variants = [v for v in endpoint.variants if v.serverless is not None and v.share > 0]
    if target is not None:
        variants = [variant for variant in variants if variant.name == target]
    if not variants:
        raise InvalidRequest(f"Variant {target} not found for endpoint {endpoint.name}.")
    if invocation.target_container is not None:
        raise InvalidRequest(NOT_DIRECT)
    if invocation.target_model is not None:
        raise InvalidRequest(
            "The TargetModel parameter is only allowed for endpoints with a multi-model container."
        )
    return variants[-1]
