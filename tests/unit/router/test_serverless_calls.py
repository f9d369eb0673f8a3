"""Which calls of a serverless endpoint are taken, which wait, and what control hears of it."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from clary.errors import (
    InvalidRequest,
    InvocationError,
    ModelNotLoaded,
    ModelNotReady,
    Throttled,
)
from clary.metrics.registry import VariantCounters
from clary.resources.routing_table import EndpointRoute, ServerlessRoute
from clary.router.invocation import Invocation
from clary.router.serverless import DOUBT_S, ServerlessCalls
from clary.router.shared_counts import SharedCounts
from clary.router.table import Endpoint, Instance, Variant, Worker
from clary.settings import ServerlessSettings


@dataclass
class Peer:
    """A channel's numbers, and what was sent to it."""

    outstanding: int = 0
    is_ready: bool = True
    mean_handler_s: float = 0.0
    concurrency: int = 1
    progress_at: float = field(default_factory=time.monotonic)
    life: int = 1


class Call(Invocation):
    """Keeps what becomes of it."""

    __slots__ = ("failure", "peer")

    def __init__(self) -> None:
        super().__init__("e", b"", b"", time.monotonic() + 60)
        self.failure: InvocationError | None = None
        self.peer: Peer | None = None

    def on_failure(self, error: InvocationError) -> None:
        self.failure = error


class Site:
    """One serverless endpoint with its calls."""

    def __init__(self, settings: ServerlessSettings | None = None, **limits: Any) -> None:
        self.limits = ServerlessRoute(**{"max_concurrency": 5, **limits})
        self.counters = VariantCounters()
        self.calls = ServerlessCalls(
            settings or ServerlessSettings(),
            "g0",
            self._send,
            lambda call, error: self.elsewhere.append(call),
        )
        self.elsewhere: list[Invocation] = []
        self.told: list[Any] = []
        self.calls.say = lambda message: self.told.append(message["needs"])
        self.route()

    def _send(self, call: Invocation, variant: Variant, instance: Instance, worker: Worker) -> None:
        peer = worker.channel
        assert isinstance(peer, Peer)
        assert isinstance(call, Call)
        peer.outstanding += 1
        call.peer = peer

    def route(self, *peers: Peer, **limits: Any) -> None:
        if limits:
            self.limits = ServerlessRoute(**{"max_concurrency": 5, **limits})
        workers = tuple(Worker(f"unix:/{i}", "i-1", peer) for i, peer in enumerate(peers))  # type: ignore[arg-type]
        instances = (Instance("i-1", "primary", workers),) if peers else ()
        variant = Variant("v", 1.0, instances, self.counters, serverless=self.limits)
        self.endpoint = Endpoint("e", (variant,), EndpointRoute(name="e", variants=()))
        self.calls.follow("e", self.endpoint)
        self.calls.drain("e")

    def submit(self) -> Call:
        call = Call()
        self.calls.submit(call, self.endpoint)
        return call


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an event loop, for calls that wait set a timer."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@on_a_loop
async def test_short_calls_stay_on_the_first_worker_and_longer_ones_go_to_an_idle_one() -> None:
    site = Site()
    short, idle = Peer(outstanding=2, mean_handler_s=1e-5), Peer()
    site.route(short, idle)
    assert site.submit().peer is short
    long = Peer(outstanding=2, mean_handler_s=1e-3)
    site.route(long, idle)
    assert site.submit().peer is idle
    # A call of a worker that has answered nothing for a while is none of the short ones.
    stalled = Peer(outstanding=1, mean_handler_s=1e-5, progress_at=time.monotonic() - 1)
    idle.outstanding = 0
    site.route(stalled, idle)
    assert site.submit().peer is idle
    site.calls.close()


@on_a_loop
async def test_calls_wait_for_a_first_worker_and_control_hears_of_each() -> None:
    site = Site()
    first, second = site.submit(), site.submit()

    assert site.told == [[["e", "v", 1]], [["e", "v", 2]]]
    assert first.peer is second.peer is None

    peer = Peer()
    site.route(peer)

    assert first.peer is peer
    assert second.peer is None  # nothing is known of how long the first takes
    assert first.deadline <= time.monotonic() + 60
    site.calls.close()


@on_a_loop
async def test_an_idle_worker_takes_a_call_at_once() -> None:
    site = Site()
    busy, idle = Peer(outstanding=1), Peer()
    site.route(busy, idle)

    assert site.submit().peer is idle
    assert site.told == []
    assert site.calls.report() == [["e", "v", 2]]
    idle.outstanding = busy.outstanding = 0
    assert site.calls.report() == []


@on_a_loop
async def test_a_fast_worker_is_waited_for_and_a_slow_one_is_not() -> None:
    site = Site()
    peer = Peer(outstanding=2, mean_handler_s=0.001)
    site.route(peer)
    assert site.submit().peer is peer

    peer.mean_handler_s = 2.0
    assert site.submit().peer is None
    assert site.told == [[["e", "v", 2]]]
    site.calls.close()


@on_a_loop
async def test_a_fast_worker_that_hangs_in_a_long_call_is_not_waited_for() -> None:
    site = Site()
    site.route(Peer(outstanding=1, mean_handler_s=0.001, progress_at=time.monotonic() - 1))

    assert site.submit().peer is None
    site.calls.close()


@on_a_loop
async def test_where_there_are_no_more_workers_to_come_calls_queue_at_those_that_are() -> None:
    site = Site(ServerlessSettings(max_workers=2))
    peers = Peer(outstanding=2, mean_handler_s=2.0), Peer(outstanding=1, mean_handler_s=2.0)
    site.route(*peers)

    assert site.submit().peer is peers[1]


@on_a_loop
async def test_an_asynchronous_handler_takes_many_at_once() -> None:
    site = Site()
    peer = Peer(outstanding=3, concurrency=0, mean_handler_s=2.0)
    site.route(peer)

    assert site.submit().peer is peer


@on_a_loop
async def test_calls_that_wait_count_as_concurrency() -> None:
    site = Site(max_concurrency=3)
    for _ in range(3):
        site.submit()

    with pytest.raises(Throttled, match="Rate exceeded"):
        site.submit()

    assert site.counters.throttled == 1
    assert site.counters.peak == 3
    site.calls.close()


@on_a_loop
async def test_open_calls_count_as_concurrency() -> None:
    site = Site(max_concurrency=2)
    site.route(Peer(outstanding=1), Peer(outstanding=1))

    with pytest.raises(Throttled):
        site.submit()


@on_a_loop
async def test_a_client_that_leaves_makes_room() -> None:
    site = Site(max_concurrency=1)
    call = site.submit()

    assert site.calls.cancel(call)
    assert not site.calls.cancel(call)

    assert site.submit().failure is None
    site.calls.close()


@on_a_loop
async def test_a_model_that_cannot_be_loaded_fails_what_waits() -> None:
    site = Site()
    call = site.submit()

    site.route(trouble="no such weights")

    assert isinstance(call.failure, ModelNotLoaded)
    assert call.failure.message == "no such weights"


@on_a_loop
async def test_a_start_that_takes_too_long_ends_the_wait() -> None:
    site = Site(ServerlessSettings(start_wait_s=0.0))
    call = site.submit()

    site.calls.drain("e")

    assert isinstance(call.failure, ModelNotReady)


@on_a_loop
async def test_what_waits_for_an_endpoint_that_goes_is_looked_at_anew() -> None:
    site = Site()
    call = site.submit()

    site.calls.follow("e", None)
    site.calls.drain("e")

    assert site.elsewhere == [call]
    assert call.deadline <= time.monotonic() + 60


@on_a_loop
async def test_calls_within_and_beyond_the_provisioned_concurrency() -> None:
    site = Site(provisioned=1)
    site.route(Peer(), Peer())
    site.submit()
    site.submit()

    assert (site.counters.provisioned_calls, site.counters.spilled_calls) == (1, 1)


@on_a_loop
async def test_what_such_an_endpoint_does_not_have_is_refused() -> None:
    site = Site()
    for name, value in {
        "target_variant": "other",
        "target_container": "c",
        "target_model": "m.tar.gz",
    }.items():
        call = Call()
        setattr(call, name, value)
        with pytest.raises(InvalidRequest):
            site.calls.submit(call, site.endpoint)


@on_a_loop
async def test_gateways_share_the_limit(tmp_path: Path) -> None:
    first, second = Site(max_concurrency=2), Site(max_concurrency=2)
    for slot, site in enumerate((first, second)):
        site.calls.shared = SharedCounts(tmp_path, "life", slot)
        site.route(Peer(concurrency=0))
    first.submit()
    first.submit()

    late = second.submit()

    assert late.peer is late.failure is None  # what it has heard may be old
    await asyncio.sleep(2 * DOUBT_S)
    assert isinstance(late.failure, Throttled)
    assert second.counters.throttled == 1
    (worker,) = first.endpoint.variants[0].instances[0].workers
    worker.channel.outstanding = 1

    first.calls.look()

    assert second.submit().peer is not None
    for site in (first, second):
        site.calls.close()


def test_shared_counts_of_another_life_and_of_a_dead_gateway_are_forgotten(tmp_path: Path) -> None:
    old = SharedCounts(tmp_path, "old", 0)
    old.open("e")
    old.write("e", 7)

    mine, other = SharedCounts(tmp_path, "new", 0), SharedCounts(tmp_path, "new", 1)
    mine.open("e")
    other.open("e")
    other.write("e", 3)
    assert (mine.of_others("e"), other.of_others("e")) == (3, 0)

    again = SharedCounts(tmp_path, "new", 1)
    again.open("e")

    assert mine.of_others("e") == 0
    assert not (tmp_path / "old").exists()
    mine.close("e")
    assert mine.of_others("e") == 0
