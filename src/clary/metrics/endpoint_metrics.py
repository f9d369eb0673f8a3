"""Which metrics an endpoint has, by the names and units that SageMaker gives them. Pure.

Contract: autoscaling-metrics.md 6.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clary.metrics.key import MetricKey
from clary.metrics.reports import Difference
from clary.metrics.sketch import bucket_of
from clary.metrics.statistics import StatisticSet
from clary.resources.transform_job import job_of_route

INVOCATIONS = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
JOBS = "/aws/sagemaker/TransformJobs"
CONCURRENCY = "ConcurrentRequestsPerModel"
CONCURRENCY_STEP_S = 10
"""Such points are kept by 10 seconds, for policies that act fast."""

IDLE = (
    "Invocations",
    "InvocationsPerInstance",
    "Invocation4XXErrors",
    "Invocation5XXErrors",
    "InvocationModelErrors",
)
"""Metrics that are 0 while nothing happens: scaling in depends on it."""

CONCURRENCY_USED = "ServerlessConcurrentExecutionsUtilization"
PROVISIONED_USED = "ServerlessProvisionedConcurrencyUtilization"
"""Of serverless variants, 0 to 1: 0 while nothing happens, too."""

USAGE = {
    "cpu_percent": ("CPUUtilization", "Percent"),
    "memory_percent": ("MemoryUtilization", "Percent"),
    "disk_percent": ("DiskUtilization", "Percent"),
    "gpu_percent": ("GPUUtilization", "Percent"),
    "gpu_memory_percent": ("GPUMemoryUtilization", "Percent"),
    "models": ("LoadedModelCount", None),
}
"""Metrics of instances by what hosts call them; processors and GPUs count 100 each."""

CONTAINER_USAGE = ("cpu_percent", "memory_percent")
"""Those that each of several containers has as well."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Values of one metric."""

    key: MetricKey
    values: StatisticSet
    unit: str | None = None


def dimension_sets(
    endpoint: str, variant: str, *, container: str = "", config: str = ""
) -> list[dict[str, str]]:
    """Return the sets of dimensions that a variant's metrics are kept under.

    Args:
        endpoint: Its name.
        variant: Its name.
        container: Of several; empty: the variant as a whole.
        config: Endpoint configuration, once the endpoint has been updated; else empty.
    """
    common = {"EndpointName": endpoint, "VariantName": variant}
    if container:
        return [{**common, "ContainerName": container}]
    return [common, {**common, "EndpointConfigName": config}] if config else [common]


def invocation_metrics(
    dimensions: dict[str, str], change: Difference, *, instances: int
) -> Iterator[Measured]:
    """Give the values of what happened to a variant, or to one of its containers.

    Args:
        dimensions: Of all of them.
        change: What happened.
        instances: How many the variant has.
    """

    def measured(name: str, values: StatisticSet, unit: str | None = None) -> Measured:
        return Measured(MetricKey.of(INVOCATIONS, name, dimensions), values, unit)

    is_container = "ContainerName" in dimensions
    if change.invocations:
        yield measured("Invocations", StatisticSet.of(1.0, change.invocations))
        if not is_container:
            share = 1 / max(instances, 1)
            yield measured("InvocationsPerInstance", StatisticSet.of(share, change.invocations))
    if change.ended:
        yield measured("Invocation4XXErrors", errors(change.client_errors, change.ended))
        yield measured("Invocation5XXErrors", errors(change.server_errors, change.ended))
        yield measured("InvocationModelErrors", errors(change.model_errors, change.ended))
    if change.model is not None:
        name = "ContainerLatency" if is_container else "ModelLatency"
        yield measured(name, change.model, "Microseconds")
    if change.overhead is not None:
        yield measured("OverheadLatency", change.overhead, "Microseconds")


def serverless_metrics(
    dimensions: dict[str, str], change: Difference, *, max_concurrency: int, provisioned: int
) -> Iterator[Measured]:
    """Give the values that only serverless variants have.

    Args:
        dimensions: Of all of them.
        change: What happened.
        max_concurrency: Most calls at once.
        provisioned: Workers that are always there.
    """

    def measured(name: str, values: StatisticSet, unit: str | None = None) -> Measured:
        return Measured(MetricKey.of(INVOCATIONS, name, dimensions), values, unit)

    if change.setup is not None:
        yield measured("ModelSetupTime", change.setup, "Microseconds")
    if change.peak:
        yield measured(CONCURRENCY_USED, StatisticSet.of(change.peak / max_concurrency))
    if not provisioned:
        return
    if change.peak:
        used = min(change.peak, provisioned)
        name = "ServerlessProvisionedConcurrencyExecutions"
        yield measured(name, StatisticSet.of(float(used)), "Count")
        yield measured(PROVISIONED_USED, StatisticSet.of(used / provisioned))
    if change.provisioned_calls:
        name = "ServerlessProvisionedConcurrencyInvocations"
        yield measured(name, StatisticSet.of(1.0, change.provisioned_calls), "Count")
    if change.spilled_calls:
        name = "ServerlessProvisionedConcurrencySpilloverInvocations"
        yield measured(name, StatisticSet.of(1.0, change.spilled_calls), "Count")


def instance_metrics(
    endpoint: str, variant: str, instance_id: str, usage: Mapping[str, Any]
) -> Iterator[Measured]:
    """Give the values of what one instance uses, and each of several containers on it.

    One value of each metric.

    Args:
        endpoint: Its endpoint, or the route of its transform job.
        variant: Its variant.
        instance_id: Its id, which only the metrics of jobs name.
        usage: As ``worker/usage.py`` measures it; what it lacks has no metric.
    """
    job = job_of_route(endpoint)
    if job is None:
        namespace, (dimensions,) = INSTANCES, dimension_sets(endpoint, variant)
    else:
        namespace, dimensions = JOBS, {"Host": f"{job}/{instance_id}"}
    for name, (metric, unit) in USAGE.items():
        if name in usage:
            key = MetricKey.of(namespace, metric, dimensions)
            yield Measured(key, StatisticSet.of(float(usage[name])), unit)
    if job is not None:
        return
    for container, used in usage.get("containers", {}).items():
        (dimensions,) = dimension_sets(endpoint, variant, container=container)
        for name in CONTAINER_USAGE:
            metric, unit = USAGE[name]
            key = MetricKey.of(namespace, metric, dimensions)
            yield Measured(key, StatisticSet.of(float(used[name])), unit)


def errors(count: int, calls: int) -> StatisticSet:
    """Return the statistics of calls of which each is 1 if it was an error, and else 0."""
    count = min(count, calls)
    buckets = {bucket_of(float(value)): float(n) for value, n in ((0, calls - count), (1, count))}
    return StatisticSet(
        float(calls),
        float(count),
        0.0 if count < calls else 1.0,
        1.0 if count else 0.0,
        {bucket: n for bucket, n in buckets.items() if n},
    )
