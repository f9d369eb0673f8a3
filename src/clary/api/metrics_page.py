"""``GET /metrics``: what Prometheus reads, in its own text format or as OpenMetrics."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from clary.metrics.exposition import OPEN_METRICS, TEXT, render, wants_open_metrics
from clary.metrics.families import Family

METRICS_PATH = "/metrics"

CollectMetrics = Callable[[], Awaitable[Sequence[Family]]]
"""Return all metrics of the server as they are now."""


def metrics_route(collect: CollectMetrics) -> BaseRoute:
    """Return the route of the page.

    Args:
        collect: Gathers the metrics.
    """

    async def show(request: Request) -> Response:
        open_metrics = wants_open_metrics(request.headers.get("accept", ""))
        families = await collect()
        return StreamingResponse(
            _pieces(families, open_metrics=open_metrics),
            headers={"content-type": OPEN_METRICS if open_metrics else TEXT},
        )

    return Route(METRICS_PATH, show)


async def _pieces(families: Sequence[Family], *, open_metrics: bool) -> AsyncIterator[str]:
    """Give the text in pieces, between which the loop does what else there is to do."""
    held: list[str] = []
    size = 0
    for piece in render(families, open_metrics=open_metrics):
        held.append(piece)
        size += len(piece)
        if size > 64 * 1024:
            yield "".join(held)
            held, size = [], 0
            await asyncio.sleep(0)
    yield "".join(held)
