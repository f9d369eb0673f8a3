"""Metrics of inference components, by the names and units that SageMaker gives them. Pure.

What components are called for is kept under their own dimension, and under their endpoint and
variant as well. Contract: autoscaling-metrics.md 6.
"""

from collections.abc import Iterator, Mapping

from clary.metrics.endpoint_metrics import (
    IDLE,
    INVOCATIONS,
    Measured,
    dimension_sets,
    invocation_metrics,
)
from clary.metrics.key import MetricKey
from clary.metrics.reports import Difference
from clary.metrics.statistics import StatisticSet
from clary.resources.inference_component import ComputeResources

USAGE_NAMESPACE = "/aws/sagemaker/InferenceComponents"
PER_COPY = "InvocationsPerCopy"
PER_INSTANCE = "InvocationsPerInstance"
CONCURRENCY_PER_COPY = "ConcurrentRequestsPerCopy"
NO_CAPACITY = "NoCapacityInvocationFailures"
COMPONENT_IDLE = (*(name for name in IDLE if name != PER_INSTANCE), PER_COPY)
"""Metrics that are 0 while nothing happens."""


def component_key(metric: str, component: str, namespace: str = INVOCATIONS) -> MetricKey:
    """Return the key of a component's metric."""
    return MetricKey.of(namespace, metric, {"InferenceComponentName": component})


def component_metrics(
    component: str, endpoint: str, variant: str, change: Difference, *, copies: int
) -> Iterator[Measured]:
    """Give the values of what happened to a component.

    Args:
        component: Its name.
        endpoint: Where it is.
        variant: Where it is.
        change: What happened.
        copies: How many it has.
    """
    dimensions = {"InferenceComponentName": component}
    for each_of in (dimensions, *dimension_sets(endpoint, variant)):
        for measured in invocation_metrics(each_of, change, instances=1):
            if measured.key.name != PER_INSTANCE:
                yield measured
    if change.invocations:
        share = 1 / max(copies, 1)
        values = StatisticSet.of(share, change.invocations)
        yield Measured(component_key(PER_COPY, component), values)
    if change.no_capacity:
        values = StatisticSet.of(1.0, change.no_capacity)
        yield Measured(component_key(NO_CAPACITY, component), values)


def usage_metrics(
    component: str, reserved: ComputeResources, usage: Mapping[str, float]
) -> Iterator[Measured]:
    """Give the values of what one copy uses, relative to what it has reserved.

    Args:
        component: Its name.
        reserved: What a copy has reserved; where that is nothing, one core and one GPU count as
            its whole.
        usage: As ``worker/usage.py`` measures it; what it lacks has no metric.
    """

    def measured(name: str, percent: float) -> Measured:
        key = component_key(name, component, USAGE_NAMESPACE)
        return Measured(key, StatisticSet.of(percent), "Percent")

    if "cpu_percent" in usage:
        share = usage["cpu_percent"] / (reserved.cpu_cores or 1.0)
        yield measured("CPUUtilizationNormalized", share)
    if "memory_kib" in usage and reserved.memory_mib:
        share = 100.0 * usage["memory_kib"] / (reserved.memory_mib * 1024)
        yield measured("MemoryUtilizationNormalized", share)
    gpus = reserved.accelerators or 1
    for name, metric in (
        ("gpu_percent", "GPUUtilizationNormalized"),
        ("gpu_memory_percent", "GPUMemoryUtilizationNormalized"),
    ):
        if name in usage:
            yield measured(metric, usage[name] / gpus)
