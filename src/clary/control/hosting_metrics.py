"""What instances that hold copies of inference components use, and what of them is reserved.

Their copies are measured like all other instances (``instance_metrics.py``); here the values of
those on the same instance are put together. Reservations are read where placement reads them: in
the records of copies, which stay until a copy's processes are gone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from clary.clock import Clock
from clary.control.component_hosts import HostingInstance
from clary.metrics.hosting_metrics import CopyUse, hosting_metrics
from clary.metrics.series import MetricStore
from clary.resources.inference_component import ComputeResources
from clary.store.instances import Instances


class HostingMetrics:
    """Makes them.

    Args:
        hosts: Returns the instances that hold copies.
        instances: Knows which copies are on them.
        in_use: Returns the endpoints that have components: instances of others have no metrics.
        store: Where the metrics go.
        clock: Wall time.
    """

    def __init__(
        self,
        hosts: Callable[[], Sequence[HostingInstance]],
        instances: Instances,
        in_use: Callable[[], Awaitable[set[str]]],
        store: MetricStore,
        clock: Clock,
    ) -> None:
        self._hosts = hosts
        self._instances = instances
        self._in_use = in_use
        self._store = store
        self._clock = clock

    async def measure(self, latest: Mapping[str, Mapping[str, Any]]) -> None:
        """Take one value of each metric of each instance.

        Args:
            latest: What copies used when they were last measured, by id.
        """
        if not self._hosts():
            return
        in_use = await self._in_use()
        copies: dict[str, list[CopyUse]] = {}
        for record in await self._instances.list_copies():
            use = CopyUse(reserved=record.share or ComputeResources(), usage=latest.get(record.id))
            copies.setdefault(record.host_id or "", []).append(use)
        now = self._clock.now()
        for host in self._hosts():
            if host.endpoint_name not in in_use:
                continue
            for each in hosting_metrics(
                host.endpoint_name, host.variant_name, host.size, copies.get(host.id, ())
            ):
                self._store.add(each.key, at=now, value=each.values, unit=each.unit)
