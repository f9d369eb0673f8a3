"""Invocations of models with several containers: one step after another, or the one that is named.

Each step is an ``Invocation`` of its own, with its own worker; what one answers is the body of the
next one's request::

    client's invocation ── Chain ──┬─ Step 1 ── channel of a worker of container 1
                                   ├─ Step 2 ── channel of a worker of container 2
                                   └─ Step 3 ── … its answer goes to the client as it comes

All steps run on one instance and share the client's deadline. A step that a dead worker did not
start is sent to another worker of the same container, and waits for one when there is none; only
before anything has run may the whole chain move to another instance. So no step runs twice.

In Direct mode the chain has one step: the container that the client named.
"""

import time
from collections.abc import Callable

from clary.errors import InvalidRequest, InvocationTimeout, Overloaded
from clary.router.balancing import choose_worker
from clary.router.chain import Chain, Step
from clary.router.invocation import Invocation, Resubmit
from clary.router.sessions import Session
from clary.router.step_metas import StepMetas
from clary.router.table import Container, Endpoint, PipelineInstance, Variant, Worker
from clary.settings import RouterSettings

FindEndpoint = Callable[[str], Endpoint | None]
"""Looks up the routing table as it is now."""


class Pipelines:
    """All chains of one router: starts them, and finds workers for their steps.

    Args:
        settings: Limits.
        find_endpoint: Looks up the routing table as it is now.
        resubmit: Takes a client's invocation of which no step has been started, to be sent to
            another instance.
    """

    def __init__(
        self,
        settings: RouterSettings,
        find_endpoint: FindEndpoint,
        resubmit: Resubmit,
    ) -> None:
        self.settings = settings
        self.metas = StepMetas()
        self.resubmit = resubmit
        self._find_endpoint = find_endpoint
        self._waiting: dict[str, list[Step]] = {}

    def submit(self, invocation: Invocation, variant: Variant, instance: PipelineInstance) -> None:
        """Start the chain of an invocation on an instance.

        Raises:
            InvalidRequest: The container that it names is not there, or it must name one.
            Overloaded: The queue of the first step is full.
        """
        containers = _wanted_containers(invocation, instance)
        chain = Chain(self, invocation, variant.name, instance.id, containers)
        invocation.variant = variant.name
        invocation.counters = variant.counters
        invocation.channel = chain
        invocation.sent_at = time.monotonic()
        try:
            chain.begin()
        except Overloaded:
            invocation.channel = None
            variant.counters.overloaded += 1
            raise
        variant.counters.invocations += 1

    def choose(self, container: Container, session: Session | None) -> Worker | None:
        """Return the worker for the next step in a container; None when none is connected.

        In the container that has opened the client's session, it is the worker that has it.
        """
        if session is not None and session.place is not None:
            for worker in container.workers:
                if worker.channel.life == session.place.worker_life:
                    return worker if worker.channel.is_ready else None
        return choose_worker(container.workers, self.settings.pack_below_s, time.monotonic())

    def find(self, step: Step) -> Worker | None:
        """Return a worker for a step by the table as it is now.

        Workers that were started again may be other ones than those that the chain began with.
        """
        chain = step.chain
        endpoint = self._find_endpoint(step.endpoint)
        for variant in endpoint.all_variants if endpoint is not None else ():
            for instance in variant.instances:
                if instance.id == chain.instance_id and isinstance(instance, PipelineInstance):
                    container = instance.container_named(step.container)
                    return (
                        None if container is None else self.choose(container, chain.client.session)
                    )
        return None

    # Steps that wait for a worker ---------------------------------------------------------

    def wait(self, step: Step) -> None:
        """Keep a step until its container has a worker again, for a bounded time."""
        if step.give_up_at == 0.0:
            step.give_up_at = min(
                time.monotonic() + self.settings.instance_wait_s, step.chain.client.deadline
            )
        self._waiting.setdefault(step.endpoint, []).append(step)

    def forget(self, step: Step) -> None:
        """Wait no more for the worker of a step."""
        waiting = self._waiting.get(step.endpoint, [])
        if step in waiting:
            waiting.remove(step)

    def drain(self, endpoint: str) -> None:
        """Try again what waits, for the table or a channel has changed."""
        for step in self._waiting.pop(endpoint, ()):
            step.chain.send(step)

    def sweep(self, now: float) -> None:
        """Fail what has waited too long."""
        for endpoint in list(self._waiting):
            waiting = self._waiting[endpoint]
            for step in [step for step in waiting if step.give_up_at <= now]:
                waiting.remove(step)
                is_late = step.chain.client.deadline <= now
                step.on_failure(InvocationTimeout() if is_late else step.lost)
            if not waiting:
                self._waiting.pop(endpoint, None)


def _wanted_containers(invocation: Invocation, instance: PipelineInstance) -> tuple[Container, ...]:
    """Return the containers that an invocation goes through."""
    name = invocation.target_container
    if not instance.is_direct:
        if name is not None:
            raise InvalidRequest(NOT_DIRECT)
        return instance.containers
    if name is None:
        raise InvalidRequest(
            "The TargetContainerHostname parameter is required for endpoints with a "
            f"multi-container model in Direct mode. {_known(instance)}"
        )
    container = instance.container_named(name)
    if container is None:
        raise InvalidRequest(
            f"TargetContainerHostname {name} not found for endpoint {invocation.endpoint}. "
            f"{_known(instance)}"
        )
    return (container,)


NOT_DIRECT = (
    "The TargetContainerHostname parameter is only allowed for endpoints with a multi-container "
    "model in Direct mode."
)


def _known(instance: PipelineInstance) -> str:
    return f"Its containers are {', '.join(c.name for c in instance.containers)}."
