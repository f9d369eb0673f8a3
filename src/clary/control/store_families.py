"""What the store and its loops say, for Prometheus and OpenTelemetry: endpoints, queues, alarms."""

from collections.abc import Callable, Mapping, Sequence

from clary import __version__
from clary.clock import Clock
from clary.metrics.families import Family, counter, gauge
from clary.metrics.series import MetricStore
from clary.resources.alarm import AlarmValue
from clary.resources.endpoint import EndpointStatus
from clary.store import Store

ENDPOINTS = gauge("clary_endpoints", "Endpoints by status.", "status")
ALARMS = gauge("clary_alarms", "Alarms by state.", "state")
BACKLOG = gauge(
    "clary_async_backlog_invocations",
    "Asynchronous invocations that are accepted and have not ended, by state.",
    *("endpoint", "state"),
)
AGE = gauge(
    "clary_async_oldest_age_seconds",
    "Age of the oldest asynchronous invocation that has not ended.",
    "endpoint",
    unit="seconds",
)
SERIES = gauge("clary_metric_series", "CloudWatch metrics in memory.")
POINTS = gauge("clary_metric_points", "CloudWatch data points in memory.")
GATEWAYS = gauge("clary_reporting_processes", "Processes that route calls and report to control.")
SPANS = counter("clary_spans_exported_total", "Spans that the collector has taken.")
SPANS_DROPPED = counter(
    "clary_spans_dropped_total", "Spans that found no room, or that the collector did not take."
)
BUILD = gauge("clary_build_info", "Always 1; the label says the version.", "version")
UP_SINCE = gauge(
    "clary_control_start_time_seconds",
    "When control was started, where counters begin at 0, in seconds since 1970.",
    unit="seconds",
)


class StoreFamilies:
    """Reads them.

    Args:
        store: What is durable.
        metrics: CloudWatch's metrics.
        clock: Wall time.
        alarm_states: Returns how many alarms are in which state.
        async_endpoints: Returns the asynchronous endpoints that have series of their own.
        reporters: Returns how many processes report.
        spans: Returns how many spans were exported, and dropped.
    """

    def __init__(
        self,
        store: Store,
        metrics: MetricStore,
        clock: Clock,
        *,
        alarm_states: Callable[[], Mapping[AlarmValue, int]],
        async_endpoints: Callable[[], Sequence[str]],
        reporters: Callable[[], int],
        spans: Callable[[], tuple[int, int]],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._alarm_states = alarm_states
        self._async_endpoints = async_endpoints
        self._reporters = reporters
        self._spans = spans
        self._began_at = clock.now().timestamp()

    async def families(self) -> list[Family]:
        """Return all families.

        Raises:
            TransientError: The database does not answer.
        """
        statuses = await self._store.endpoints.statuses()
        states = self._alarm_states()
        backlog, age = Family(BACKLOG), Family(AGE)
        now = self._clock.now()
        names = self._async_endpoints()
        waiting = {b.endpoint: b for b in await self._store.async_queue.backlogs()} if names else {}
        for name in names:
            found = waiting.get(name)
            backlog.add(0.0 if found is None else float(found.queued), name, "queued")
            backlog.add(0.0 if found is None else float(found.running), name, "running")
            age_s = 0.0 if found is None else (now - found.oldest_at).total_seconds()
            age.add(max(age_s, 0.0), name)
        exported, dropped = self._spans()
        return [
            Family(BUILD, [((__version__,), 1.0)]),
            Family(UP_SINCE, [((), self._began_at)]),
            Family(ENDPOINTS, [((s.value,), float(statuses.get(s, 0))) for s in EndpointStatus]),
            Family(ALARMS, [((s.value,), float(states.get(s, 0))) for s in AlarmValue]),
            backlog,
            age,
            Family(SERIES, [((), float(self._metrics.count))]),
            Family(POINTS, [((), float(self._metrics.points_in_memory))]),
            Family(GATEWAYS, [((), float(self._reporters()))]),
            Family(SPANS, [((), float(exported))]),
            Family(SPANS_DROPPED, [((), float(dropped))]),
        ]
