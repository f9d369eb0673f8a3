"""The gateway process: the front door, a router, and the line to control."""

import asyncio
import os
import socket
import sys

from clary.app.otel import span_sender
from clary.app.role import Context, run_role
from clary.app.server import ON_DEMAND, gateway_count
from clary.gateway.capture_sender import CaptureSender
from clary.gateway.forwarding import Service
from clary.gateway.front import FrontDoor
from clary.gateway.guard import Guard
from clary.gateway.span_export import SpanExport
from clary.gateway.spans import SpanQueue
from clary.metrics.registry import Registry
from clary.router.router import Router
from clary.router.shared_counts import SharedCounts
from clary.router.subscriber import Keys, Subscriber
from clary.signing.keys import parse_key

DRAIN_S = 3.5
LAST_CAPTURES_S = 1.0
LAST_SPANS_S = 1.0
SWITCH_S = 0.0005


async def run_gateway(context: Context) -> None:
    """Serve on the inherited socket until told to stop."""
    settings = context.settings
    registry = Registry(is_measured=settings.metrics.enabled)
    router = Router(settings.router, registry, settings.serverless)
    if gateway_count(settings) > 1:
        counts = SharedCounts(context.run_dir / "concurrency", context.life, int(sys.argv[3]))
        router.serverless.shared = counts
    guard = Guard(
        auth_is_on=settings.auth_is_on,
        allowed_hosts=settings.server.allowed_hosts,
        scrape_token=settings.metrics.scrape_token,
    )
    names = ["control"] if settings.storage.s3_endpoint_url else ["control", "objects"]
    services = {
        name: Service(name, str(context.run_dir / f"{name}.sock"))
        for name in (*names, "neighbours")
    }
    spans: SpanQueue | None = None
    if settings.otel.endpoint and settings.otel.traces:
        spans = SpanQueue(settings.otel.max_spans)
        registry.spans = spans.counts
    front = FrontDoor(
        settings,
        router,
        guard,
        services,
        life=context.life,
        on_demand={name: context.run_dir / f"{name}.pid" for name in ON_DEMAND},
        spans=spans,
    )
    export: SpanExport | None = None
    if spans is not None:
        # The thread that encodes spans gives way to calls after this time, in seconds.
        sys.setswitchinterval(SWITCH_S)
        export = SpanExport(spans, span_sender(settings.otel, context.name, context.life))
        export.start()

    sender = CaptureSender(front.captured, str(context.run_dir / "jobs.sock"))
    router.captures.on_first = sender.expect

    def on_keys(keys: Keys) -> None:
        guard.use_keys({key["id"]: parse_key(key) for key in keys})

    def on_table() -> None:
        front.is_ready = True

    subscriber = Subscriber(
        context.run_dir / "publish.sock",
        context.run_dir / f"{context.name}.routes",
        name=context.name,
        life=context.life,
        router=router,
        registry=registry,
        on_keys=on_keys,
        on_table=on_table,
    )
    router.start()
    front.start()
    subscriber.start()
    listener = socket.socket(fileno=int(os.environ["CLARY_LISTEN_FD"]))
    server = await asyncio.get_running_loop().create_server(
        front.connect, sock=listener, backlog=4096
    )
    background = [
        asyncio.create_task(subscriber.run()),
        asyncio.create_task(sender.run()),
        # A connection would start what is on demand.
        *(asyncio.create_task(services[name].find()) for name in names),
    ]
    await context.stopping.wait()
    server.close()
    await front.drain(DRAIN_S)
    if export is not None:
        await export.close(LAST_SPANS_S)
    subscriber.report_last()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await sender.drain(LAST_CAPTURES_S)
    router.close()


if __name__ == "__main__":
    run_role(f"gateway-{sys.argv[3]}", run_gateway)
