"""From records of copies, and what these use, to metrics of the instances that they are on."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clary.control.component_hosts import HostingInstance
from clary.control.hosting_metrics import HostingMetrics
from clary.metrics.key import MetricKey
from clary.metrics.series import MetricStore
from clary.resources.inference_component import ComputeResources, hosts_name
from clary.resources.instance import InstanceRecord
from clary.settings import MetricSettings
from clary.store.database import Database
from clary.store.instances import Instances

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
SIZE = ComputeResources(cpu_cores=2.0, memory_mib=8192)


class Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return NOW.timestamp()


def host(id: str, endpoint: str = "shared") -> HostingInstance:
    return HostingInstance(id=id, endpoint_name=endpoint, variant_name="main", size=SIZE)


def copy(id: str, host_id: str | None, cores: float, *, stopping: bool = False) -> InstanceRecord:
    return InstanceRecord(
        id=id,
        endpoint_name=hosts_name("shared"),
        variant_name="llm",
        generation=1,
        created_at=NOW,
        host_id=host_id,
        share=None if host_id is None else ComputeResources(cpu_cores=cores, memory_mib=1024),
        stopping=stopping,
    )


async def values(store: MetricStore, endpoint: str, name: str) -> Mapping[str, Any] | None:
    found = await store.statistics(
        MetricKey.of(
            "/aws/sagemaker/Endpoints", name, {"EndpointName": endpoint, "VariantName": "main"}
        ),
        start=NOW - timedelta(minutes=30),
        end=NOW + timedelta(minutes=30),
        period_s=3600,
        statistics=["Minimum", "Maximum", "SampleCount"],
    )
    return found[0][1] if found else None


def test_each_instance_has_what_is_on_it(tmp_path: Path) -> None:
    async def in_use() -> set[str]:
        return {"shared"}

    async def story() -> None:
        database = Database.open(tmp_path / "state.sqlite")
        try:
            store = MetricStore(database, Clock(), MetricSettings())
            await store.open()
            instances = Instances(database)
            await instances.add(
                [
                    copy("i-a", "h0", 0.5),
                    copy("i-b", "h0", 1.0, stopping=True),  # its processes are still there
                    copy("i-c", "gone", 2.0),
                    copy("i-d", None, 0.0),  # an instance that is no copy
                ]
            )
            hosts = [host("h0"), host("h1"), host("h9", "without-components")]
            metrics = HostingMetrics(lambda: hosts, instances, in_use, store, Clock())
            await metrics.measure({"i-a": {"cpu_percent": 30.0}, "i-d": {"cpu_percent": 70.0}})
            assert await values(store, "shared", "CPUReservation") == {
                "Minimum": 0.0,
                "Maximum": 75.0,
                "SampleCount": 2.0,
            }
            assert await values(store, "shared", "CPUUtilization") == {
                "Minimum": 0.0,
                "Maximum": 30.0,
                "SampleCount": 2.0,
            }
            assert await values(store, "without-components", "CPUReservation") is None
        finally:
            await asyncio.to_thread(database.close)

    asyncio.run(story())
