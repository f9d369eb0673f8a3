"""Metrics of instances that hold copies of inference components. Pure.

Such an instance runs nothing itself: what it uses is what the copies on it use together, of what an
instance of its type has. Contract: autoscaling-metrics.md 6.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clary.metrics.endpoint_metrics import INSTANCES, Measured, dimension_sets
from clary.metrics.key import MetricKey
from clary.metrics.statistics import StatisticSet
from clary.resources.inference_component import ComputeResources


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyUse:
    """What a copy takes of its instance."""

    reserved: ComputeResources
    usage: Mapping[str, float] | None
    """As ``worker/usage.py`` measures it. None: it was not measured lately."""


def hosting_metrics(
    endpoint: str, variant: str, size: ComputeResources, copies: Sequence[CopyUse]
) -> Iterator[Measured]:
    """Give the values of one instance: one value of each metric, in per cent.

    What is reserved is always known. What is used is known when a copy was measured, or when there
    is no copy; of GPUs, when a copy uses one.

    Args:
        endpoint: Its endpoint.
        variant: Its variant.
        size: What it has.
        copies: All that are on it, those too that are about to go.
    """
    (dimensions,) = dimension_sets(endpoint, variant)

    def measured(name: str, percent: float) -> Measured:
        key = MetricKey.of(INSTANCES, name, dimensions)
        return Measured(key, StatisticSet.of(percent), "Percent")

    reserved = [copy.reserved for copy in copies]
    for name, taken, whole in (
        ("CPUReservation", sum(each.cpu_cores for each in reserved), size.cpu_cores),
        ("MemoryReservation", sum(each.memory_mib for each in reserved), size.memory_mib),
        ("GPUReservation", sum(each.accelerators for each in reserved), size.accelerators),
    ):
        if whole:
            yield measured(name, 100.0 * taken / whole)
    usages = [copy.usage for copy in copies if copy.usage is not None]
    if copies and not usages:
        return
    cpu = sum(usage.get("cpu_percent", 0.0) for usage in usages)
    yield measured("CPUUtilization", cpu)
    if size.cpu_cores:
        yield measured("CPUUtilizationNormalized", cpu / size.cpu_cores)
    if size.memory_mib:
        memory_mib = sum(usage.get("memory_kib", 0.0) for usage in usages) / 1024
        yield measured("MemoryUtilization", 100.0 * memory_mib / size.memory_mib)
    disks = [usage["disk_percent"] for usage in usages if "disk_percent" in usage]
    if disks:  # copies on one disk find the same; on several, the fullest is what matters
        yield measured("DiskUtilization", max(disks))
    for name, metric in (
        ("gpu_percent", "GPUUtilization"),
        ("gpu_memory_percent", "GPUMemoryUtilization"),
    ):
        found = [usage[name] for usage in usages if name in usage]
        if found:
            yield measured(metric, sum(found))
            if size.accelerators:
                yield measured(f"{metric}Normalized", sum(found) / size.accelerators)
