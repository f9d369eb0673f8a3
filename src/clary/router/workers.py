"""The workers that the routing table names, and the table's entries made of routes.

A worker has one channel, however many routes name it; one that no route names any more is kept
until its last invocation has ended.
"""

from collections.abc import Callable, Iterator

from clary.messages import parse_address
from clary.metrics.registry import Registry
from clary.reading import ReadBuffers
from clary.resources.routing_table import InstanceRoute, VariantRoute
from clary.router.chain import Chain
from clary.router.channel import FrameChannel
from clary.router.http_channel import HttpChannel
from clary.router.invocation import Carrier, Resubmit
from clary.router.loads import note_loads
from clary.router.model_table import ModelTable
from clary.router.models import ModelsChannel
from clary.router.sessions import Place, instance_tag
from clary.router.table import (
    Container,
    Endpoint,
    Instance,
    PipelineInstance,
    Variant,
    Worker,
)
from clary.settings import RouterSettings


class Workers:
    """All workers of one router.

    Args:
        settings: Limits.
        registry: Of the counters of variants and containers.
        models: Models of multi-model endpoints.
        on_ready: Told the endpoint of a channel that takes invocations (again).
    """

    def __init__(
        self,
        settings: RouterSettings,
        registry: Registry,
        models: ModelTable,
        on_ready: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._models = models
        self._on_ready = on_ready
        self._workers: dict[str, Worker] = {}
        self._retired: list[Worker] = []
        self._buffers = ReadBuffers()

    def __iter__(self) -> Iterator[Worker]:
        """Give the workers that routes name."""
        return iter(self._workers.values())

    def close(self) -> None:
        """Drop all connections that are idle."""
        for worker in self._workers.values():
            worker.channel.close()

    def expire(self, now: float) -> None:
        """Have all channels mind their deadlines, and note how much each instance has to do."""
        workers = [*self._workers.values(), *self._retired]
        for worker in workers:
            worker.channel.expire(now)
        note_loads(self._registry, workers)
        self._retired = [worker for worker in self._retired if worker.channel.outstanding]

    def build_variant(self, endpoint: str, route: VariantRoute, resubmit: Resubmit) -> Variant:
        """Make the table's entry of a variant; its workers are in use from now on.

        Args:
            endpoint: Name of the endpoint.
            route: What control has published of the variant.
            resubmit: Takes what a dead worker did not start.
        """
        instances = [
            self._build_instance(endpoint, route, instance, resubmit)
            for instance in route.instances
        ]
        counters = self._registry.variant(endpoint, route.name, route.config_name)
        return Variant(
            route.name,
            route.weight,
            tuple(instances),
            counters,
            route.routing,
            config_name=route.config_name,
            share=route.share,
            serverless=route.serverless,
        )

    def _build_instance(
        self, endpoint: str, variant: VariantRoute, route: InstanceRoute, resubmit: Resubmit
    ) -> Instance:
        containers = [
            (
                container.name,
                tuple(
                    self._use(address, route.id, endpoint, resubmit)
                    for address in container.workers
                ),
            )
            for container in route.containers
        ]
        if len(containers) == 1:
            return Instance(route.id, *containers[0])
        return PipelineInstance(
            route.id,
            tuple(
                Container(name, workers, self._registry.container(endpoint, variant.name, name))
                for name, workers in containers
            ),
            is_direct=variant.is_direct,
        )

    def _use(self, address: str, instance_id: str, endpoint: str, resubmit: Resubmit) -> Worker:
        worker = self._workers.get(address)
        if worker is None:
            channel = self._channel(address, lambda: self._on_ready(endpoint), resubmit)
            worker = self._workers[address] = Worker(address, instance_id, channel)
            channel.start()
        worker.uses += 1
        return worker

    def _channel(
        self, address: str, on_ready: Callable[[], None], resubmit: Resubmit
    ) -> FrameChannel | HttpChannel | ModelsChannel:
        scheme, rest, _ = parse_address(address)
        if scheme == "models":
            return self._models.channel(
                rest,
                on_ready=on_ready,
                resubmit=resubmit,
                max_queue=self._settings.max_queue_per_worker,
                buffers=self._buffers,
            )
        if scheme == "http":
            return HttpChannel(address, on_ready=on_ready, resubmit=resubmit)
        return FrameChannel(address, on_ready=on_ready, resubmit=resubmit, buffers=self._buffers)

    def release(self, endpoint: Endpoint) -> None:
        """The table's entry is replaced, or gone: so are workers that nothing else uses."""
        for variant in endpoint.all_variants:
            for instance in variant.instances:
                for worker in instance.workers:
                    worker.uses -= 1
                    if worker.uses == 0:
                        del self._workers[worker.address]
                        self._retired.append(worker)
                        if isinstance(worker.channel, ModelsChannel):
                            self._models.forget(worker.channel)
                        worker.channel.close()

    def draining(self) -> list[str]:
        """Return the instances that have left the table and still have open invocations."""
        return sorted({w.instance_id for w in self._retired if w.channel.outstanding})

    def place_of(self, channel: Carrier | None) -> Place | None:
        """Return the place that session ids name a channel's worker by."""
        if isinstance(channel, Chain):
            channel = channel.channel
        for worker in (*self._workers.values(), *self._retired):
            if worker.channel is channel:
                return Place(instance_tag(worker.instance_id), worker.channel.life)
        return None
