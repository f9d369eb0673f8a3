"""Families as OpenTelemetry's metrics. Imported only where a collector is named: needs the extra.

Names lose what OpenTelemetry says elsewhere, the unit and ``_total``; a collector that exports to
Prometheus puts both back.
"""

from collections.abc import Iterable, Sequence

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from clary.metrics.families import Definition, Family, Histogram, Kind

UNITS = {"seconds": "s", "bytes": "By", "": ""}
_CUMULATIVE = AggregationTemporality.CUMULATIVE


def metrics_data(
    families: Iterable[Family],
    *,
    resource: Resource,
    scope: InstrumentationScope,
    began_ns: int,
    now_ns: int,
) -> MetricsData:
    """Return a message with all series.

    Args:
        families: What is told.
        resource: Who tells it.
        scope: By what.
        began_ns: When counters were 0, in nanoseconds since 1970.
        now_ns: When it was gathered.
    """
    metrics = [_metric(family, began_ns, now_ns) for family in families if family.rows]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def otlp_name(definition: Definition) -> str:
    """Return the name that a family has in OpenTelemetry."""
    name = definition.name.removesuffix("_total")
    return name.removesuffix(f"_{definition.unit}") if definition.unit else name


def _metric(family: Family, began_ns: int, now_ns: int) -> Metric:
    definition = family.definition
    data: Sum | Gauge | HistogramMetric
    if definition.kind is Kind.HISTOGRAM:
        data = HistogramMetric(_times(family, began_ns, now_ns), _CUMULATIVE)
    elif definition.kind is Kind.COUNTER:
        data = Sum(_numbers(family, began_ns, now_ns), _CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge(_numbers(family, began_ns, now_ns))
    return Metric(otlp_name(definition), definition.help, UNITS[definition.unit], data)


def _numbers(family: Family, began_ns: int, now_ns: int) -> Sequence[NumberDataPoint]:
    names = family.definition.labels
    return [
        NumberDataPoint(dict(zip(names, labels, strict=True)), began_ns, now_ns, value)
        for labels, value in family.rows
        if not isinstance(value, Histogram)
    ]


def _times(family: Family, began_ns: int, now_ns: int) -> Sequence[HistogramDataPoint]:
    names, edges = family.definition.labels, family.definition.edges
    return [
        HistogramDataPoint(
            attributes=dict(zip(names, labels, strict=True)),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=sum(value.counts),
            sum=value.sum,
            bucket_counts=list(value.counts),
            explicit_bounds=list(edges),
            min=0.0,
            max=0.0,
        )
        for labels, value in family.rows
        if isinstance(value, Histogram)
    ]
