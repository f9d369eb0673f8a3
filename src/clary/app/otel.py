"""Who brings spans and metrics to a collector: the exporters of the extra ``otel``, made ready.

The libraries are imported when a process that exports has begun, in a thread, and in no other
process.
"""

import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from clary import __version__
from clary.errors import ConfigurationError
from clary.gateway.span_export import Make, Send
from clary.gateway.spans import SpanRecord
from clary.settings import OtelSettings

if TYPE_CHECKING:
    from clary.metrics.families import Family  # gateways have no use for what it imports

NEEDED = "opentelemetry.exporter.otlp.proto.http"
EXTRA = "it needs OpenTelemetry's libraries: pip install 'clary[otel]'"


def check_extra(settings: OtelSettings) -> None:
    """See that the libraries are there, where they will be needed.

    Raises:
        ConfigurationError: They are not.
    """
    if not settings.endpoint:
        return
    try:
        found = importlib.util.find_spec(NEEDED)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigurationError(EXTRA, "otel.endpoint")


def span_sender(settings: OtelSettings, process: str, life: str) -> Make:
    """Return what makes ready to export spans.

    Args:
        settings: Where to.
        process: Name of this process.
        life: Name of this run of the server.
    """

    def make() -> tuple[Send, Callable[[], None]]:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - heavy
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - heavy

        from clary.gateway.otlp_spans import readable_spans  # noqa: PLC0415 - heavy

        exporter = OTLPSpanExporter(
            f"{settings.endpoint.rstrip('/')}/v1/traces",
            headers=dict(settings.headers),
            timeout=settings.timeout_s,
        )
        resource, scope = _identity(settings, process, life)

        def send(records: Sequence[SpanRecord], ahead_s: float) -> bool:
            spans = [
                span
                for record in records
                for span in readable_spans(record, ahead_s, resource=resource, scope=scope)
            ]
            return exporter.export(spans) is SpanExportResult.SUCCESS

        return send, exporter.shutdown

    return make


def metric_sender(
    settings: OtelSettings, process: str, life: str
) -> Callable[[], Callable[[Sequence["Family"]], bool]]:
    """Return what makes ready to export metrics; counters begin at 0 now.

    Args:
        settings: Where to.
        process: Name of this process.
        life: Name of this run of the server.
    """
    began_ns = time.time_ns()

    def make() -> Callable[[Sequence["Family"]], bool]:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - heavy
            OTLPMetricExporter,
        )
        from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415 - heavy

        from clary.metrics.otlp import metrics_data  # noqa: PLC0415 - heavy

        exporter = OTLPMetricExporter(
            f"{settings.endpoint.rstrip('/')}/v1/metrics",
            headers=dict(settings.headers),
            timeout=settings.timeout_s,
        )
        resource, scope = _identity(settings, process, life)

        def send(families: Sequence["Family"]) -> bool:
            data = metrics_data(
                families, resource=resource, scope=scope, began_ns=began_ns, now_ns=time.time_ns()
            )
            return exporter.export(data) is MetricExportResult.SUCCESS

        return send

    return make


def _identity(settings: OtelSettings, process: str, life: str) -> tuple[Any, Any]:
    """Return resource and scope: who exports."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - heavy
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - heavy

    # That a collector is away is told once, by us; the library tells it with each attempt.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = Resource(
        {
            "service.name": settings.service_name,
            "service.version": __version__,
            "service.instance.id": f"{life}/{process}",
        }
    )
    return resource, InstrumentationScope("clary", __version__)
