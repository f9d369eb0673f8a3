"""The jobs process: started when somebody first connects to ``jobs.sock``."""

import asyncio
import logging
import os
import secrets
import socket
from urllib.parse import urlsplit

from clary.app.role import Context, run_role
from clary.app.serving import serve_inherited
from clary.app.storage import object_transfers
from clary.clock import SystemClock
from clary.jobs.async_files import AsyncFiles
from clary.jobs.async_runner import AsyncRunner
from clary.jobs.async_work import AsyncWork
from clary.jobs.capture import CaptureWriter
from clary.jobs.data_log import DataLog
from clary.jobs.outbox_sender import OutboxSender
from clary.jobs.quick_storage import QuickTransfers
from clary.jobs.server import build_jobs_app
from clary.jobs.transform.service import TransformService
from clary.logs.groups import LogGroups
from clary.metrics.registry import Registry
from clary.neighbours.publishing import SocketPublisher
from clary.resources.names import Namespace, ResourceKind
from clary.router.router import Router
from clary.router.subscriber import Subscriber
from clary.store import Store

NICENESS = 10
LAST_UPLOADS_S = 5.0
LAST_INVOCATIONS_S = 2.0
"""Times at the end, in seconds: the supervisor gives 10."""


async def run_jobs(context: Context) -> None:
    """Serve until told to stop."""
    # What is done here can wait; invocations go first.
    os.nice(NICENESS)
    settings, clock = context.settings, SystemClock()
    storage = object_transfers(settings, context.run_dir)
    if not settings.storage.s3_endpoint_url:
        storage = QuickTransfers(context.run_dir / "objects.sock")
    captures = CaptureWriter(settings.capture, storage, clock)
    location = settings.store.url or settings.data_dir / "state.sqlite"
    namespace = Namespace(settings.server.account, settings.server.region)
    store = await asyncio.to_thread(Store.open, location, namespace, clock)
    registry = Registry()
    router = Router(settings.router, registry)
    limits = settings.async_inference
    topics = SocketPublisher(
        context.run_dir / "neighbours.sock",
        authority=urlsplit(context.url).netloc,
        pauses_s=(),  # the outbox has its own
    )
    sender = OutboxSender(
        store.outbox, topics, limits, clock, are_failures_counted=settings.metrics.enabled
    )
    logs = LogGroups(store.logs, settings.data_dir / "logs", settings.logs, clock)
    data_log = DataLog(logs, clock)
    files = AsyncFiles(
        storage,
        settings.data_dir / "jobs" / "async",
        max_bytes=limits.max_body_bytes,
        write_for_s=limits.write_for_s,
    )
    await asyncio.to_thread(files.clear)
    work = AsyncWork(
        router,
        store.async_leases,
        files,
        data_log,
        limits,
        clock,
        region=settings.server.region,
    )
    runner = AsyncRunner(
        router,
        store.async_leases,
        work,
        limits,
        clock,
        host=f"{socket.gethostname()}:{settings.data_dir}"[:200],
        unique=secrets.token_hex(8),
        on_messages=sender.wake,
    )
    transforms = TransformService(store, storage, router, logs, clock)

    def on_routes() -> None:
        runner.on_routes()
        transforms.on_routes()

    subscriber = Subscriber(
        context.run_dir / "publish.sock",
        None,
        name=context.name,
        life=context.life,
        router=router,
        registry=registry,
        on_routes=on_routes,
    )

    def wake() -> None:
        runner.wake()
        sender.wake()

    def tell_control(name: str) -> None:
        subscriber.say({"type": "changed", "kind": ResourceKind.TRANSFORM_JOB, "name": name})

    transforms.on_outcome = tell_control
    app = build_jobs_app(
        life=context.life, captures=captures, wake=wake, look_at_transform=transforms.look
    )
    router.start()
    subscriber.start()
    async with asyncio.TaskGroup() as tasks:
        # One that fails ends them all: the supervisor starts the process again.
        loops = [
            tasks.create_task(coroutine)
            for coroutine in (
                serve_inherited(app),
                captures.run(),
                subscriber.run(),
                runner.run(),
                sender.run(),
                data_log.run(),
            )
        ]
        await context.stopping.wait()
        for loop in loops:
            loop.cancel()
    await runner.close(LAST_INVOCATIONS_S)
    await transforms.close()
    await data_log.flush()
    await captures.close(LAST_UPLOADS_S)
    router.close()
    await asyncio.to_thread(store.close)
    if captures.is_uploading or runner.held:
        # Threads that wait for an S3 that does not answer must not hold up the server's stop.
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    run_role("jobs", run_jobs)
