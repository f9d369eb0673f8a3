"""One file of a job: read, cut, send, join, write, in order whatever the concurrency."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from clary.jobs.transform.calls import Caller
from clary.jobs.transform.cutting import Payload, make_cutter
from clary.jobs.transform.reading import RangeReader, read_ranges, read_unpacked
from clary.jobs.transform.records import Processor, assemble
from clary.jobs.transform.writing import OutputWriter
from clary.objects.transfers import ObjectTransfers
from clary.resources.transform_job import Parameters, TransformFile, TransformJob


@dataclass(slots=True)
class Progress:
    """How far a file is, for people."""

    through: int = 0
    """Bytes of the unpacked input whose output there is."""
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the files of a job have in common."""

    job: TransformJob
    parameters: Parameters
    processor: Processor | None
    reader: RangeReader
    storage: ObjectTransfers
    caller: Caller

    @property
    def sends_whole_files(self) -> bool:
        """Whether a file goes to the model while it is read, whatever its size."""
        return (
            self.parameters.max_payload_bytes == 0
            and not self.parameters.takes_single_records
            and not self.job.processing.is_needed
        )


async def transform_file(
    work: Work,
    file: TransformFile,
    instance_id: str,
    permits: asyncio.Semaphore,
    progress: Progress,
    on_part: Callable[[TransformFile], Awaitable[None]],
) -> None:
    """Make a file's output, or go on where an earlier life was.

    Args:
        work: What to do.
        file: With what was done before.
        instance_id: Who gets its requests.
        permits: Requests that the instance may have open.
        progress: Is kept up to date.
        on_part: Makes durable how far it is.

    Raises:
        BadInput: The input is no good.
        CallFailed: The model failed.
        InstanceGone: The instance is not there any more; what was written stays to go on from.
        Error: The storage failed.
    """
    if work.sends_whole_files:
        # There is no place to go on from in the middle of a request.
        await _stream(work, file, instance_id, permits, progress)
        return
    writer = OutputWriter(work.storage, work.job.destination.bucket, file, on_part)
    window: deque[tuple[Payload, asyncio.Task[bytes]]] = deque()
    progress.through = file.offset

    processor = work.processor

    async def call(payload: Payload) -> bytes:
        record = body = payload.body
        try:
            if processor is not None:
                record = bytes(payload.body)
                body = await asyncio.to_thread(processor.prepare, record)
            output = await work.caller.call(instance_id, body)
        finally:
            permits.release()
        if processor is not None:
            output = await asyncio.to_thread(processor.finish, record, output)
        return assemble(output, lines=work.job.assembles_lines)

    async def write_first() -> None:
        payload, task = window[0]
        output = await task
        window.popleft()
        await writer.write(output, payload.end)
        progress.through = payload.end
        progress.requests += 1

    try:
        async with aclosing(_payloads(work, file)) as payloads:
            async for payload in payloads:
                await permits.acquire()
                window.append((payload, asyncio.create_task(call(payload))))
                while window and (
                    window[0][1].done() or len(window) > work.parameters.max_concurrent
                ):
                    await write_first()
        while window:
            await write_first()
        await writer.close()
    except BaseException:
        tasks = [task for _, task in window]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await writer.abandon()
        raise


async def _payloads(work: Work, file: TransformFile) -> AsyncGenerator[Payload, None]:
    parameters = work.parameters
    cutter = make_cutter(
        work.job.split_type,
        parameters.max_payload_bytes,
        single=parameters.takes_single_records,
        offset=file.offset,
    )
    async with aclosing(_input(work, file, file.offset)) as pieces:
        async for data in pieces:
            for payload in cutter.feed(data):
                yield payload
    for payload in cutter.finish():
        yield payload


def _input(work: Work, file: TransformFile, start: int) -> AsyncGenerator[bytes, None]:
    read = read_unpacked if work.job.is_compressed else read_ranges
    return read(work.reader, file, start)


async def _stream(
    work: Work,
    file: TransformFile,
    instance_id: str,
    permits: asyncio.Semaphore,
    progress: Progress,
) -> None:
    async def never(_: TransformFile) -> None:
        """Nothing to write down: another life begins anew."""

    writer = OutputWriter(work.storage, work.job.destination.bucket, file, never)
    last = b"\n"
    try:
        async with permits, aclosing(_input(work, file, 0)) as pieces:

            async def counted() -> AsyncGenerator[bytes, None]:
                async for data in pieces:
                    progress.through += len(data)
                    yield data

            async with aclosing(work.caller.stream(instance_id, counted())) as parts:
                async for part in parts:
                    last = part[-1:] or last
                    await writer.write(part, 0)
        if work.job.assembles_lines and last != b"\n":
            await writer.write(b"\n", 0)
        progress.requests += 1
        await writer.close()
    except BaseException:
        await writer.abort()
        raise
