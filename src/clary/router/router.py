"""Takes one invocation to one worker.

Looks up the routing table, chooses variant, instance and worker, asks for admission and hands the
invocation to the worker's channel. What has no healthy instance yet is parked for a bounded time.
Everything here runs on the event loop of its process; nothing waits for a disk or a lock.
"""

import asyncio
import random
import time
from collections import deque

from clary.errors import InvalidRequest, InvocationError, InvocationTimeout, NotFound, Overloaded
from clary.messages import parse_address
from clary.metrics.registry import Registry
from clary.resources.routing_table import EndpointRoute
from clary.router.admission import admit
from clary.router.balancing import choose_instance, choose_variant, choose_worker
from clary.router.channel import FrameChannel
from clary.router.http_channel import HttpChannel
from clary.router.invocation import Invocation
from clary.router.table import Endpoint, Instance, Variant, Worker
from clary.settings import RouterSettings

SWEEP_S = 0.1
CHANNELS: dict[str, type[FrameChannel] | type[HttpChannel]] = {
    "unix": FrameChannel,
    "tcp": FrameChannel,
    "http": HttpChannel,
}


class Router:
    """The routing table of this process, and the way through it."""

    def __init__(self, settings: RouterSettings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry
        self._endpoints: dict[str, Endpoint] = {}
        self._has_table = False
        self._workers: dict[str, Worker] = {}
        self._parked: dict[str, deque[tuple[float, Invocation]]] = {}
        self._retired: list[Worker] = []
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch deadlines. Call once, on the event loop."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Stop watching; drop all connections that are idle."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for worker in self._workers.values():
            worker.channel.close()

    # The table ----------------------------------------------------------------------------

    def apply_snapshot(self, routes: list[EndpointRoute]) -> None:
        """Replace the whole table."""
        names = {route.name for route in routes}
        for name in [name for name in self._endpoints if name not in names]:
            self.apply_route(name, None)
        for route in routes:
            self.apply_route(route.name, route)
        self._has_table = True
        for name in [name for name in self._parked if name not in self._endpoints]:
            self._drain(name)

    def apply_route(self, name: str, route: EndpointRoute | None) -> None:
        """Replace one endpoint, or take it out."""
        old = self._endpoints.get(name)
        if old is not None and old.route == route:
            return
        new = None if route is None else self._build(route)
        if new is None:
            self._endpoints.pop(name, None)
            self._registry.forget(name)
        else:
            self._endpoints[name] = new
        if old is not None:
            self._release(old)
        self._drain(name)

    def _build(self, route: EndpointRoute) -> Endpoint:
        variants = []
        for variant in route.variants:
            instances = []
            for instance in variant.instances:
                container = instance.containers[0]
                workers = tuple(
                    self._use(address, instance.id, route.name) for address in container.workers
                )
                instances.append(Instance(instance.id, container.name, workers))
            counters = self._registry.variant(route.name, variant.name)
            variants.append(Variant(variant.name, variant.weight, tuple(instances), counters))
        return Endpoint(route.name, tuple(variants), route)

    def _use(self, address: str, instance_id: str, endpoint: str) -> Worker:
        worker = self._workers.get(address)
        if worker is None:
            kind = CHANNELS[parse_address(address)[0]]
            channel = kind(address, on_ready=lambda: self._drain(endpoint), resubmit=self._resubmit)
            worker = self._workers[address] = Worker(address, instance_id, channel)
            channel.start()
        worker.uses += 1
        return worker

    def _release(self, endpoint: Endpoint) -> None:
        for variant in endpoint.variants:
            for instance in variant.instances:
                for worker in instance.workers:
                    worker.uses -= 1
                    if worker.uses == 0:
                        del self._workers[worker.address]
                        worker.channel.close()
                        self._retired.append(worker)

    # Invocations --------------------------------------------------------------------------

    def submit(self, invocation: Invocation) -> None:
        """Send an invocation to a worker, or park it until there is one.

        Raises:
            NotFound: There is no such endpoint, or it takes no invocations.
            InvalidRequest: The endpoint has no such variant.
            Overloaded: All queues are full.
        """
        endpoint = self._endpoints.get(invocation.endpoint)
        if endpoint is None:
            if self._has_table:
                raise NotFound(invocation.endpoint)
            self._park(invocation)
            return
        worker = endpoint.single
        if worker is not None and worker.channel.is_ready and invocation.target_variant is None:
            variant = endpoint.variants[0]
            if variant.weight > 0:
                self._send(invocation, variant, variant.instances[0], worker)
                return
        self._submit_by_choice(invocation, endpoint)

    def _submit_by_choice(self, invocation: Invocation, endpoint: Endpoint) -> None:
        variant: Variant | None
        if invocation.target_variant is not None:
            # Overrides the weights, also a weight of 0 (endpoints.md 3).
            variant = endpoint.variant(invocation.target_variant)
            if variant is None:
                raise InvalidRequest(
                    f"Variant {invocation.target_variant} not found for endpoint {endpoint.name}."
                )
        else:
            variant = choose_variant(endpoint.variants, random.random())  # noqa: S311 - no secret
        instance = choose_instance(variant.instances) if variant is not None else None
        worker = (
            choose_worker(instance.workers, self._settings.pack_below_s, time.monotonic())
            if instance is not None
            else None
        )
        if variant is None or instance is None or worker is None:
            self._park(invocation)
        else:
            self._send(invocation, variant, instance, worker)

    def _send(
        self, invocation: Invocation, variant: Variant, instance: Instance, worker: Worker
    ) -> None:
        channel = worker.channel
        if channel.outstanding > 4:  # a short queue needs no arithmetic
            try:
                admit(
                    channel,
                    invocation.deadline - time.monotonic(),
                    self._settings.max_queue_per_worker,
                )
            except Overloaded:
                variant.counters.overloaded += 1
                raise
        invocation.variant = variant.name
        invocation.counters = variant.counters
        invocation.container = instance.container
        invocation.channel = channel
        variant.counters.invocations += 1
        channel.submit(invocation)

    def can_stream(self, name: str) -> bool:
        """Whether a body can be passed on while it arrives, without parking it first."""
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            return False
        return any(
            variant.weight > 0 and instance.is_usable
            for variant in endpoint.variants
            for instance in variant.instances
        )

    def cancel(self, invocation: Invocation) -> None:
        """Forget an invocation whose client has gone."""
        if invocation.channel is not None:
            invocation.channel.cancel(invocation)
            return
        for parked in self._parked.values():
            for entry in parked:
                if entry[1] is invocation:
                    parked.remove(entry)
                    return

    def _resubmit(self, invocation: Invocation, error: InvocationError) -> None:
        """Send elsewhere what a dead worker did not start."""
        invocation.channel = None
        if invocation.deadline <= time.monotonic():
            invocation.on_failure(InvocationTimeout())
            return
        try:
            self.submit(invocation)
        except (NotFound, InvalidRequest):
            invocation.on_failure(error)
        except Overloaded as overloaded:
            invocation.on_failure(overloaded)

    # Parking ------------------------------------------------------------------------------

    def _park(self, invocation: Invocation) -> None:
        parked = self._parked.setdefault(invocation.endpoint, deque())
        if len(parked) >= self._settings.max_queue_per_worker:
            raise Overloaded(
                f"Endpoint {invocation.endpoint} has no healthy instance, and "
                f"{len(parked)} requests wait for one already. Try again later."
            )
        give_up_at = time.monotonic() + self._settings.instance_wait_s
        parked.append((min(give_up_at, invocation.deadline), invocation))

    def _drain(self, name: str) -> None:
        """Try again what was parked, for the table or a channel has changed."""
        parked = self._parked.pop(name, None)
        if parked is None:
            return
        for give_up_at, invocation in parked:
            try:
                self.submit(invocation)
            except (NotFound, InvalidRequest) as error:
                invocation.on_failure(EndpointGone(str(error)))
            except Overloaded as error:
                invocation.on_failure(error)
            waiting = self._parked.get(name)
            if waiting and waiting[-1][1] is invocation:  # parked again: keep the first time limit
                waiting[-1] = (give_up_at, invocation)

    def _sweep(self) -> None:
        now = time.monotonic()
        for worker in [*self._workers.values(), *self._retired]:
            worker.channel.expire(now)
        self._retired = [worker for worker in self._retired if worker.channel.outstanding]
        for name in list(self._parked):
            parked = self._parked[name]
            late = [entry for entry in parked if entry[0] <= now]
            for entry in late:
                parked.remove(entry)
                entry[1].on_failure(
                    Overloaded(f"Endpoint {name} has no healthy instance. Try again later.")
                )
            if not parked:
                self._parked.pop(name, None)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


class EndpointGone(InvocationError):
    """The endpoint was found missing, or was deleted, while the invocation was parked."""
