"""Metrics of asynchronous endpoints, by the names and units that SageMaker gives them. Pure.

Contract: autoscaling-metrics.md 6.
"""

from collections.abc import Iterator
from datetime import datetime

from clary.metrics.endpoint_metrics import INVOCATIONS, Measured
from clary.metrics.key import MetricKey
from clary.metrics.statistics import StatisticSet
from clary.store.async_leases import EndedInvocation
from clary.store.async_queue import Backlog
from clary.store.outbox import GivenUp

FAILURES = {
    "download": "RequestDownloadFailures",
    "upload": "ResponseUploadFailures",
    "expired": "ExpiredRequests",
    "model": "InvocationFailures",
}
"""Metrics by the cause of a failure."""

NOTIFICATION_FAILURES = "NotificationFailures"


def backlog_points(
    endpoint: str, backlog: Backlog | None, *, instances: int, now: datetime
) -> Iterator[Measured]:
    """Give the values of an endpoint's backlog, of which each measuring has one.

    Args:
        endpoint: Its name.
        backlog: What it has to do; None: nothing.
        instances: Instances that take calls.
        now: Wall time.
    """

    def measured(name: str, value: float, unit: str) -> Measured:
        key = MetricKey.of(INVOCATIONS, name, {"EndpointName": endpoint})
        return Measured(key, StatisticSet.of(value), unit)

    size = 0 if backlog is None else backlog.queued + backlog.running
    waits = backlog is not None and size > 0 and instances == 0
    yield measured("ApproximateBacklogSize", float(size), "Count")
    if instances:
        yield measured("ApproximateBacklogSizePerInstance", size / instances, "Count")
    elif size:
        # None to share it out to: as for one.
        yield measured("ApproximateBacklogSizePerInstance", float(size), "Count")
    yield measured("HasBacklogWithoutCapacity", float(waits), "Count")
    if backlog is not None:
        age_s = max((now - backlog.oldest_at).total_seconds(), 0.0)
        yield measured("ApproximateAgeOfOldestRequest", age_s, "Seconds")


def unsent_points(given_up: GivenUp, *, variant: str) -> Iterator[Measured]:
    """Give the value of a notification that no topic took.

    Args:
        given_up: The notification.
        variant: Whose it is taken to be, for it tells of an endpoint.
    """
    dimensions = {"EndpointName": given_up.endpoint, "VariantName": variant}
    key = MetricKey.of(INVOCATIONS, NOTIFICATION_FAILURES, dimensions)
    yield Measured(key, StatisticSet.of(1.0), "Count")


def ended_points(ended: EndedInvocation, *, variant: str) -> Iterator[Measured]:
    """Give the values of an invocation that has ended.

    Args:
        ended: The invocation.
        variant: Whose it is taken to be where no variant was asked.
    """
    result = ended.result
    dimensions = {"EndpointName": ended.endpoint, "VariantName": result.variant or variant}

    def measured(name: str, value: float, unit: str) -> Measured:
        key = MetricKey.of(INVOCATIONS, name, dimensions)
        return Measured(key, StatisticSet.of(value), unit)

    if result.cause:
        yield measured(FAILURES[result.cause], 1.0, "Count")
    else:
        yield measured("InvocationsProcesssed", 1.0, "Count")  # sic
    if result.download_us is not None:
        yield measured("RequestDownloadLatency", float(result.download_us), "Microseconds")
    if result.upload_us is not None:
        yield measured("ResponseUploadLatency", float(result.upload_us), "Microseconds")
    waited_s = (ended.started_at - ended.accepted_at).total_seconds()
    yield measured("TimeInBacklog", max(waited_s, 0.0) * 1000, "Milliseconds")
    took_s = (ended.ended_at - ended.accepted_at).total_seconds()
    yield measured("TotalProcessingTime", max(took_s, 0.0) * 1000, "Milliseconds")
