"""From a gateway's queue over a socket to jobs, and from there to a running S3."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clary.app.serving import serve_unix
from clary.clock import SystemClock
from clary.gateway.capture_sender import CaptureSender
from clary.jobs.capture import CaptureWriter
from clary.jobs.server import build_jobs_app
from clary.metrics.registry import VariantCounters
from clary.objects.client import EmbeddedStorage
from clary.resources.data_capture import DataCapture
from clary.router.capture import CaptureQueue, Recording
from clary.router.capture_records import pack, unpack
from clary.router.invocation import Invocation
from clary.settings import CaptureSettings
from objects_server import ObjectsServer
from s3_clients import s3_client

CAPTURE = DataCapture(share=1.0, destination="s3://kept", takes_input=True, takes_output=False)
COUNT = 200


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[ObjectsServer]:
    with ObjectsServer(tmp_path) as running:
        client = s3_client(running.url)
        client.create_bucket(Bucket="kept")
        client.close()
        yield running


def put(queue: CaptureQueue, numbers: range) -> VariantCounters:
    """Queue calls whose bodies are these numbers."""
    counters = VariantCounters()
    for number in numbers:
        call = Invocation("digits", b'{"content-type":"text/csv"}', b"%d" % number, 0.0)
        call.variant, call.counters = "v", counters
        recording = Recording(queue, CAPTURE, f"id-{number}")
        recording.begin(200, b"")
        recording.end(call, b"")
    return counters


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever the test waits for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def numbers_in(storage: EmbeddedStorage) -> list[int]:
    found: list[int] = []
    async for info in storage.list("kept", ""):
        for line in (await storage.get("kept", info.key)).splitlines():
            found.append(int(json.loads(line)["captureData"]["endpointInput"]["data"]))
    return sorted(found)


def test_what_is_queued_while_jobs_is_away_arrives_once_it_is_there(
    tmp_path: Path, s3: ObjectsServer
) -> None:
    async def story() -> None:
        settings = CaptureSettings(flush_s=600)
        storage = EmbeddedStorage(s3.socket_path)
        queue = CaptureQueue(settings)
        writer = CaptureWriter(settings, storage, SystemClock())
        path = tmp_path / "jobs.sock"
        sender = CaptureSender(queue, str(path))
        counters = put(queue, range(COUNT))
        async with running(sender.run(), writer.run()):
            await asyncio.sleep(0)
            app = build_jobs_app(life="test", captures=writer)
            async with running(serve_unix(app, path)):
                await until(lambda: not queue.arrived.is_set())
                put(queue, range(COUNT, COUNT + 10))
                await until(lambda: queue.reserve(CaptureSettings().queue_bytes))
        assert await numbers_in(storage) == []
        await writer.close(10)
        assert await numbers_in(storage) == list(range(COUNT + 10))
        assert (counters.captured, counters.capture_dropped, writer.size) == (COUNT, 0, 0)

    asyncio.run(story())


def test_what_jobs_has_no_room_for_is_counted_as_dropped(tmp_path: Path, s3: ObjectsServer) -> None:
    async def story() -> None:
        settings = CaptureSettings(buffer_bytes=20_000)
        storage = EmbeddedStorage(s3.socket_path)
        queue = CaptureQueue(settings)
        writer = CaptureWriter(settings, storage, SystemClock())
        path = tmp_path / "jobs.sock"
        app = build_jobs_app(life="test", captures=writer)
        counters = put(queue, range(COUNT))
        async with running(serve_unix(app, path)):
            await until(path.exists)
            await CaptureSender(queue, str(path)).drain(10)
        assert counters.captured + counters.capture_dropped == COUNT
        await writer.close(10)
        assert await numbers_in(storage) == list(range(counters.captured))
        assert 10 < counters.captured < COUNT / 2

    asyncio.run(story())


@pytest.mark.parametrize(("status", "attempts"), [(503, 3), (400, 1)])
def test_a_batch_that_is_not_taken_is_sent_again_unless_it_is_no_good(
    tmp_path: Path, status: int, attempts: int
) -> None:
    batches: list[bytes] = []

    async def take(request: Any) -> Response:
        batches.append(await request.body())
        if len(batches) < 3:
            return Response("no", status_code=status)
        return JSONResponse({"refused": []})

    async def story() -> None:
        queue = CaptureQueue(CaptureSettings())
        path = tmp_path / "jobs.sock"
        counters = put(queue, range(5))
        app = Starlette(routes=[Route("/captures", take, methods=["POST"])])
        async with running(serve_unix(app, path)):
            await until(path.exists)
            await CaptureSender(queue, str(path)).drain(10)
        assert (len(batches), len(set(batches)), len(unpack(batches[0]))) == (attempts, 1, 5)
        assert counters.capture_dropped == (5 if status == 400 else 0)
        assert queue.reserve(CaptureSettings().queue_bytes)

    asyncio.run(story())


def test_objects_wait_for_an_s3_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        settings = CaptureSettings(flush_s=0.05)
        storage = EmbeddedStorage(tmp_path / "o.sock")
        writer = CaptureWriter(settings, storage, SystemClock())
        queue = CaptureQueue(settings)
        put(queue, range(3))
        async with running(writer.run()):
            assert await writer.take(pack(each.record() for each in queue.take(10, 10_000))) == []
            await until(lambda: "captured data of endpoint digits waits" in caplog.text)
            assert writer.size > 0
            with ObjectsServer(tmp_path) as s3:
                await asyncio.to_thread(lambda: s3_client(s3.url).create_bucket(Bucket="kept"))
                await until(lambda: writer.size == 0)
                assert await numbers_in(storage) == [0, 1, 2]
        assert writer.lost == 0

    asyncio.run(story())


def test_the_end_does_not_wait_for_ever_for_an_s3_that_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        writer = CaptureWriter(
            CaptureSettings(), EmbeddedStorage(tmp_path / "nobody"), SystemClock()
        )
        queue = CaptureQueue(CaptureSettings())
        put(queue, range(3))
        await writer.take(pack(each.record() for each in queue.take(10, 10_000)))
        async with asyncio.timeout(5):
            await writer.close(0.3)
        assert writer.size > 0

    asyncio.run(story())


def test_objects_that_cannot_be_written_for_long_are_dropped(
    tmp_path: Path, s3: ObjectsServer
) -> None:
    async def story() -> None:
        settings = CaptureSettings(flush_s=0.01, keep_s=0.1)
        storage = EmbeddedStorage(tmp_path / "nobody")
        writer = CaptureWriter(settings, storage, SystemClock())
        queue = CaptureQueue(settings)
        put(queue, range(3))
        async with running(writer.run()):
            await writer.take(pack(each.record() for each in queue.take(10, 10_000)))
            await until(lambda: writer.lost == 3)
        assert writer.size == 0

    asyncio.run(story())
