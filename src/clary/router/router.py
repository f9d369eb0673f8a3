"""Takes one invocation to one worker.

Looks up the routing table, chooses variant, instance and worker, asks for admission and hands the
invocation to the worker's channel. What has no healthy instance yet is parked for a bounded time.
Everything here runs on the event loop of its process; nothing waits for a disk or a lock.
"""

import asyncio
import random
import time
from collections import deque

from clary.errors import (
    InvalidRequest,
    InvocationError,
    InvocationTimeout,
    NotFound,
    Overloaded,
    Refused,
)
from clary.metrics.registry import Registry
from clary.resources.routing_table import EndpointRoute
from clary.router.admission import admit
from clary.router.balancing import choose_fleet, choose_instance, choose_variant, choose_worker
from clary.router.capture import Captures
from clary.router.chain import Step
from clary.router.components import refuse, shown
from clary.router.invocation import Invocation
from clary.router.model_table import ModelTable
from clary.router.models import ModelsChannel, choose_holder
from clary.router.pipeline import NOT_DIRECT, Pipelines
from clary.router.serverless import ServerlessCalls
from clary.router.sessions import Place, gone
from clary.router.shadow import Mirror
from clary.router.table import (
    Endpoint,
    Instance,
    PipelineInstance,
    Variant,
    Worker,
)
from clary.router.workers import Workers
from clary.settings import RouterSettings, ServerlessSettings

SWEEP_S = 0.1
MODEL_REQUIRED = "The TargetModel parameter is required for endpoints with a multi-model container."


class Router:
    """The routing table of this process, and the way through it."""

    def __init__(
        self,
        settings: RouterSettings,
        registry: Registry,
        serverless: ServerlessSettings | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._endpoints: dict[str, Endpoint] = {}
        self._has_table = False
        self._mirrors: dict[str, Mirror] = {}
        """Of the endpoints that have a shadow variant."""
        self._parked: dict[str, deque[tuple[float, Invocation]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._pipelines = Pipelines(settings, self._endpoints.get, self._resubmit)
        self.captures = Captures()
        """What is captured of whose calls."""
        self.serverless = ServerlessCalls(
            serverless or ServerlessSettings(), registry.life, self._send, self._resubmit
        )
        """Calls of serverless endpoints."""
        self.models = ModelTable()
        """Models of multi-model endpoints."""
        self._workers = Workers(settings, registry, self.models, self._drain)
        self.draining = self._workers.draining
        self.place_of = self._workers.place_of

    def start(self) -> None:
        """Begin to watch deadlines. Call once, on the event loop."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Stop watching; drop all connections that are idle."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.serverless.close()
        self._workers.close()

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
            self._mirrors.pop(name, None)
            self._registry.forget(name)
        else:
            self._endpoints[name] = new
        self.captures.follow(name, route)
        self.serverless.follow(name, new)
        if old is not None:
            self._workers.release(old)
        self._drain(name)

    def _build(self, route: EndpointRoute) -> Endpoint:
        variants = tuple(
            self._workers.build_variant(route.name, variant, self._resubmit)
            for variant in route.variants
        )
        shadow = mirror = None
        if route.shadow is None:
            self._mirrors.pop(route.name, None)
        else:
            # A copy that a dead worker did not start is dropped: resubmitted, it would go to the
            # production variant.
            shadow = self._workers.build_variant(
                route.name, route.shadow, lambda copy, error: copy.on_failure(error)
            )
            mirror = self._mirrors.get(route.name)
            weight = sum(variant.weight for variant in route.variants)
            if mirror is None:
                mirror = Mirror(self._settings, self._choose, self._pipelines, shadow, weight)
                self._mirrors[route.name] = mirror
            else:
                mirror.follow(shadow, weight)
        name = route.name if route.component is None else route.component.endpoint
        offer = None if mirror is None else mirror.offer
        return Endpoint(name, variants, route, shadow, offer)

    # Invocations --------------------------------------------------------------------------

    def submit(self, invocation: Invocation) -> None:
        """Send an invocation to a worker, or park it until there is one.

        Raises:
            NotFound: There is no such endpoint, or it takes no invocations.
            InvalidRequest: The endpoint has no such variant, none with a weight, or the session is
                not there any more.
            Overloaded: All queues are full.
        """
        endpoint = self._endpoints.get(invocation.endpoint)
        if endpoint is None:
            if self._has_table:
                raise NotFound(invocation.endpoint)
            self._park(invocation)
            return
        worker = endpoint.single
        if worker is None and endpoint.alternatives:
            worker = choose_worker(
                endpoint.alternatives, self._settings.pack_below_s, time.monotonic()
            )
        if (
            worker is not None
            and worker.channel.is_ready
            and invocation.target_variant is None
            and invocation.session is None
            and invocation.target_container is None
            and (invocation.target_model is None) is not endpoint.is_multi_model
        ):
            variant = endpoint.variants[0]
            self._send(invocation, variant, variant.instances[0], worker)
            if endpoint.mirror is not None:
                endpoint.mirror(invocation)
            return
        self._submit_by_choice(invocation, endpoint)

    def find(self, name: str) -> Endpoint | None:
        """Return an endpoint as the table has it now."""
        return self._endpoints.get(name)

    def submit_to(self, invocation: Invocation, variant: Variant, instance: Instance) -> None:
        """Send an invocation to an instance that the sender chose. Nothing is parked.

        Raises:
            InvalidRequest: The endpoint wants to be told more, such as a model.
            Overloaded: No worker of the instance can take it now.
        """
        invocation.is_placed = True
        worker = choose_worker(instance.workers, self._settings.pack_below_s, time.monotonic())
        if worker is None:
            raise Overloaded(f"Instance {instance.id} has no worker at the moment.")
        if isinstance(worker.channel, ModelsChannel):
            raise InvalidRequest(MODEL_REQUIRED)
        if isinstance(instance, PipelineInstance):
            self._pipelines.submit(invocation, variant, instance)
        else:
            self._send(invocation, variant, instance, worker)

    def _submit_by_choice(self, invocation: Invocation, endpoint: Endpoint) -> None:
        if endpoint.route.asynchronous is not None:
            raise InvalidRequest(
                f"Endpoint {endpoint.name} is an asynchronous endpoint: it can be invoked by "
                "InvokeEndpointAsync only."
            )
        if endpoint.route.hosts_components or endpoint.route.component is not None:
            refuse(endpoint)
        session = invocation.session
        if session is not None and session.place is not None:
            self._submit_to_session(invocation, endpoint, session.id, session.place)
            return
        if endpoint.is_serverless:
            self.serverless.submit(invocation, endpoint)
            return
        variant: Variant | None
        model = invocation.target_model
        if endpoint.is_multi_model and model is None:
            raise InvalidRequest(MODEL_REQUIRED)
        if model is not None and not endpoint.is_multi_model and endpoint.has_instances:
            raise InvalidRequest(
                "The TargetModel parameter is only allowed for endpoints with a multi-model "
                "container."
            )
        if invocation.target_variant is not None:
            # Overrides the weights, also a weight of 0 (endpoints.md 3).
            variant = choose_fleet(
                endpoint.variants_named(invocation.target_variant),
                random.random(),  # noqa: S311 - no secret
            )
            if variant is None:
                raise InvalidRequest(
                    f"Variant {invocation.target_variant} not found for endpoint {endpoint.name}."
                )
        else:
            variant = choose_variant(endpoint.variants, random.random())  # noqa: S311 - no secret
            if variant is None and not any(each.weight > 0 for each in endpoint.variants):
                raise InvalidRequest(
                    f"All variants of endpoint {endpoint.name} have the weight 0. Name one with "
                    "TargetVariant, or give one a weight."
                )
        chosen = None if variant is None else self._choose(variant, model)
        if variant is None or chosen is None:
            self._park(invocation)
            return
        instance, worker = chosen
        if isinstance(instance, PipelineInstance):
            self._pipelines.submit(invocation, variant, instance)
        elif invocation.target_container is not None:
            raise InvalidRequest(NOT_DIRECT)
        else:
            self._send(invocation, variant, instance, worker)
        if endpoint.mirror is not None and session is None:
            endpoint.mirror(invocation)

    def _choose(self, variant: Variant, model: str | None = None) -> tuple[Instance, Worker] | None:
        if model is not None:
            instance = choose_holder(variant.instances, model)
        else:
            instance = choose_instance(
                variant.instances,
                variant.routing,
                random.random(),  # noqa: S311 - no secret
            )
        if instance is None:
            return None
        worker = choose_worker(instance.workers, self._settings.pack_below_s, time.monotonic())
        return None if worker is None else (instance, worker)

    def _submit_to_session(
        self, invocation: Invocation, endpoint: Endpoint, session_id: str, place: Place
    ) -> None:
        for variant in endpoint.variants:
            for instance in variant.instances:
                if instance.tag != place.instance_tag:
                    continue
                lives = [worker.channel.life for worker in instance.workers]
                if place.worker_life in lives:
                    worker = instance.workers[lives.index(place.worker_life)]
                    if not worker.channel.is_ready:
                        self._park(invocation)
                    elif isinstance(instance, PipelineInstance):
                        self._pipelines.submit(invocation, variant, instance)
                    else:
                        self._send(invocation, variant, instance, worker)
                    return
                if 0 in lives:  # the one that is being connected to may have it
                    self._park(invocation)
                    return
        raise gone(session_id)

    def _send(
        self, invocation: Invocation, variant: Variant, instance: Instance, worker: Worker
    ) -> None:
        channel = worker.channel
        # A short queue needs no arithmetic; and the models of an instance have queues of their own.
        if channel.outstanding > 4 and not isinstance(channel, ModelsChannel):
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

    def can_stream(self, invocation: Invocation) -> bool:
        """Whether a body can be passed on while it arrives, without parking it first."""
        endpoint = self._endpoints.get(invocation.endpoint)
        if endpoint is None or endpoint.is_multi_model or invocation.session is not None:
            return False
        if endpoint.is_serverless:
            return False  # it may have to wait
        target = invocation.target_variant
        return any(
            instance.is_usable
            for variant in endpoint.variants
            if (variant.weight > 0 if target is None else variant.name == target)
            for instance in variant.instances
        )

    def cancel(self, invocation: Invocation) -> None:
        """Forget an invocation whose client has gone."""
        if invocation.channel is not None:
            invocation.channel.cancel(invocation)
            return
        if self.serverless.cancel(invocation):
            return
        for parked in self._parked.values():
            for entry in parked:
                if entry[1] is invocation:
                    parked.remove(entry)
                    return

    def _resubmit(self, invocation: Invocation, error: InvocationError) -> None:
        """Send elsewhere what a dead worker did not start."""
        if isinstance(invocation, Step):
            invocation.chain.retry(invocation, error)
            return
        invocation.channel = None
        if invocation.is_placed:
            invocation.on_failure(Overloaded(error.message))
            return
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
                f"{shown(invocation.endpoint)} has no healthy instance, and "
                f"{len(parked)} requests wait for one already. Try again later."
            )
        give_up_at = time.monotonic() + self._settings.instance_wait_s
        parked.append((min(give_up_at, invocation.deadline), invocation))

    def _drain(self, name: str) -> None:
        """Try again what was parked, for the table or a channel has changed."""
        self._pipelines.drain(name)
        self.serverless.drain(name)
        parked = self._parked.pop(name, None)
        if parked is None:
            return
        for give_up_at, invocation in parked:
            try:
                self.submit(invocation)
            except NotFound as error:
                invocation.on_failure(EndpointGone(str(error)))
            except InvalidRequest as error:
                invocation.on_failure(Refused(error.message))
            except Overloaded as error:
                invocation.on_failure(error)
            waiting = self._parked.get(name)
            if waiting and waiting[-1][1] is invocation:  # parked again: keep the first time limit
                waiting[-1] = (give_up_at, invocation)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._workers.expire(now)
        self._registry.fold()
        self._pipelines.sweep(now)
        for name in list(self._parked):
            parked = self._parked[name]
            self._registry.note_parked(name, len(parked))
            late = [entry for entry in parked if entry[0] <= now]
            for entry in late:
                parked.remove(entry)
                entry[1].on_failure(
                    Overloaded(f"{shown(name)} has no healthy instance. Try again later.")
                )
            if not parked:
                self._parked.pop(name, None)
            elif (endpoint := self._endpoints.get(name)) and endpoint.is_usable:
                self._drain(name)  # whatever wake-up was missed
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


class EndpointGone(InvocationError):
    """The endpoint was found missing, or was deleted, while the invocation was parked."""
