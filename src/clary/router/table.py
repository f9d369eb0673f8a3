"""The routing table in its working form: variants, instances, workers and their channels.

Made from the ``EndpointRoute`` values that control publishes. Values are swapped whole; what lives
on between two of them are the ``Worker`` objects, one per address, with their open connections.
"""

from collections.abc import Callable

from clary.metrics.registry import VariantCounters
from clary.resources.routing_table import (
    DEFAULT_ROUTING,
    EndpointRoute,
    RoutingStrategy,
    ServerlessRoute,
)
from clary.router.invocation import Channel, Invocation
from clary.router.sessions import instance_tag


class Worker:
    """One address that takes invocations."""

    __slots__ = ("address", "channel", "instance_id", "uses")

    def __init__(self, address: str, instance_id: str, channel: Channel) -> None:
        self.address = address
        self.instance_id = instance_id
        self.channel = channel
        self.uses = 0
        """How many published routes name it; at 0 the channel is closed once it is idle."""


class Instance:
    """One healthy instance of a variant."""

    __slots__ = ("container", "id", "tag", "workers")

    def __init__(self, id: str, container: str, workers: tuple[Worker, ...]) -> None:
        self.id = id
        self.tag = instance_tag(id)
        """What session ids name it by."""
        self.container = container
        self.workers = workers

    @property
    def outstanding(self) -> int:
        """Open requests over all workers."""
        return sum(worker.channel.outstanding for worker in self.workers)

    @property
    def is_usable(self) -> bool:
        """Whether any worker is connected and answering."""
        return any(worker.channel.is_ready for worker in self.workers)


class Container:
    """One of an instance's several containers."""

    __slots__ = ("counters", "name", "workers")

    def __init__(self, name: str, workers: tuple[Worker, ...], counters: VariantCounters) -> None:
        self.name = name
        self.workers = workers
        self.counters = counters


class PipelineInstance(Instance):
    """A healthy instance of a model with several containers (``pipeline.py``)."""

    __slots__ = ("containers", "is_direct")

    def __init__(self, id: str, containers: tuple[Container, ...], *, is_direct: bool) -> None:
        workers = tuple(worker for container in containers for worker in container.workers)
        super().__init__(id, containers[0].name, workers)
        self.containers = containers
        self.is_direct = is_direct
        """Whether an invocation names the one container that takes it."""

    @property
    def is_usable(self) -> bool:
        return all(
            any(worker.channel.is_ready for worker in container.workers)
            for container in self.containers
        )

    def container_named(self, name: str) -> Container | None:
        """Return the container of that name."""
        return next((container for container in self.containers if container.name == name), None)


class Variant:
    """One variant, production or shadow, of one fleet."""

    __slots__ = (
        "config_name",
        "counters",
        "instances",
        "name",
        "routing",
        "serverless",
        "share",
        "weight",
    )

    def __init__(
        self,
        name: str,
        weight: float,
        instances: tuple[Instance, ...],
        counters: VariantCounters,
        routing: RoutingStrategy = DEFAULT_ROUTING,
        *,
        config_name: str = "",
        share: float = 1.0,
        serverless: ServerlessRoute | None = None,
    ) -> None:
        self.name = name
        self.serverless = serverless
        """Set for one whose workers come and go (``serverless.py``)."""
        self.config_name = config_name
        self.share = share
        """Part of what is meant for this variant by name, while two fleets have it."""
        self.routing = routing
        self.weight = weight
        self.instances = instances
        self.counters = counters


class Endpoint:
    """One endpoint that takes invocations."""

    __slots__ = (
        "alternatives",
        "is_multi_model",
        "is_serverless",
        "mirror",
        "name",
        "route",
        "shadow",
        "single",
        "variants",
        "workers",
    )

    def __init__(
        self,
        name: str,
        variants: tuple[Variant, ...],
        route: EndpointRoute,
        shadow: Variant | None = None,
        mirror: Callable[[Invocation], None] | None = None,
    ) -> None:
        self.name = name
        """As messages name it: of a component's route, the endpoint that the component is on."""
        self.shadow = shadow
        """Gets copies only (``shadow.py``)."""
        self.mirror = mirror
        """Takes invocations that the shadow variant may get copies of; None: there is none."""
        self.variants = variants
        self.route = route
        only = variants[0] if len(variants) == 1 and variants[0].weight > 0 else None
        self.is_multi_model = any(
            worker.address.startswith("models:")
            for variant in variants
            if variant.share > 0
            for instance in variant.instances
            for worker in instance.workers
        )
        """Whether calls name a model. Not known while it has no healthy instance."""
        self.single: Worker | None = None
        """The only worker of the only instance of the only variant, which has a weight: the common
        case on a laptop."""
        self.alternatives: tuple[Worker, ...] = ()
        """The workers of that only instance, also where it has several."""
        self.is_serverless = any(
            variant.serverless is not None and variant.share > 0 for variant in variants
        )
        """Whether calls are counted, and wait for workers that come and go (``serverless.py``)."""
        self.workers = tuple(
            worker
            for variant in variants
            for instance in variant.instances
            for worker in instance.workers
        )
        """Those of all production variants."""
        if self.is_serverless or route.asynchronous is not None:
            return
        if only is not None and len(only.instances) == 1:
            instance = only.instances[0]
            if not isinstance(instance, PipelineInstance):
                if len(instance.workers) == 1:
                    self.single = instance.workers[0]
                self.alternatives = instance.workers

    @property
    def has_instances(self) -> bool:
        """Whether any instance takes invocations."""
        return any(variant.instances for variant in self.variants)

    def variants_named(self, name: str) -> list[Variant]:
        """Return the production variant of that name: during a deployment up to two."""
        return [variant for variant in self.variants if variant.name == name and variant.share > 0]

    @property
    def all_variants(self) -> tuple[Variant, ...]:
        """Production variants, then the shadow variant: all that have workers."""
        return self.variants if self.shadow is None else (*self.variants, self.shadow)

    @property
    def is_usable(self) -> bool:
        """Whether any instance of a production variant can take an invocation."""
        return any(
            instance.is_usable for variant in self.variants for instance in variant.instances
        )
