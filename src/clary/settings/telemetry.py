"""Settings of what is measured, and of whom it is told."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """Metrics: what CloudWatch's operations and Prometheus read, and policies act on."""

    enabled: bool = True
    """Whether invocations and instances are measured. What clients put is kept in any case."""

    instance_interval_s: float = 60.0
    """How often it is measured what instances use, in seconds."""

    flush_s: float = 5.0
    """How often new values are written to the state database, in seconds. They can be read at
    once."""

    memory_s: float = 1800.0
    """How long points are held in memory, in seconds. Older ones are read from the database."""

    memory_points: int = 500_000
    """Most points held in memory; each takes about 200 bytes. Beyond it older ones are read from
    the database."""

    max_series: int = 500_000
    """Most metrics, counting each set of dimensions. PutMetricData refuses more."""

    keep_fine_s: float = 3 * 3600.0
    """How long points finer than a minute are kept, in seconds; then as points of a minute."""

    keep_60s_s: float = 15 * 86400.0
    """How long points of a minute are kept, in seconds; then as points of 5 minutes."""

    keep_5min_s: float = 63 * 86400.0
    """How long points of 5 minutes are kept, in seconds; then as points of an hour."""

    keep_1h_s: float = 455 * 86400.0
    """How long points of an hour are kept, in seconds."""

    max_exposed: int = 1000
    """Most variants that ``GET /metrics`` and OpenTelemetry have series of their own for. Those
    beyond are added up as ``_other``."""

    scrape_token: str = ""
    """With authentication on, who sends this as a bearer token may read ``GET /metrics``, and
    nothing else. Empty: only signed requests may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtelSettings:
    """OpenTelemetry: traces and metrics for a collector, by OTLP over HTTP (the extra ``otel``)."""

    endpoint: str = ""
    """URL of the collector, such as ``http://127.0.0.1:4318``; ``/v1/traces`` and ``/v1/metrics``
    are appended. Empty: nothing is exported."""

    headers: dict[str, str] = field(default_factory=dict)
    """HTTP headers for the collector, such as a token."""

    service_name: str = "clary"
    """``service.name`` of everything that is exported."""

    traces: bool = True
    """Whether invocations leave spans."""

    metrics: bool = True
    """Whether the metrics of ``GET /metrics`` are exported."""

    sample_ratio: float = 1.0
    """Share of the invocations that leave spans, from 0 to 1, where the client says nothing. A
    ``traceparent`` of the client's decides for its call."""

    max_spans: int = 8192
    """Most invocations whose spans wait for the collector, in each gateway process. What has no
    room is dropped, and counted."""

    metric_interval_s: float = 60.0
    """How often metrics are exported, in seconds."""

    timeout_s: float = 10.0
    """How long one message to the collector is tried, in seconds."""
