"""One job: its files, spread over its instances, to the outcome."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import replace

from clary.errors import AccessDenied, Conflict, Error, NotFound, PermanentError
from clary.jobs.transform.calls import Caller, CallFailed, InstanceGone
from clary.jobs.transform.cutting import BadInput
from clary.jobs.transform.data_log import DataLog
from clary.jobs.transform.execution_parameters import ask_execution_parameters
from clary.jobs.transform.file_run import Progress, Work, transform_file
from clary.jobs.transform.inputs import find_files
from clary.jobs.transform.reading import RangeReader, patiently
from clary.jobs.transform.records import make_processor
from clary.objects.transfers import ObjectTransfers
from clary.resources.transform_job import (
    ALGORITHM_ERROR,
    CLIENT_ERROR,
    INTERNAL_ERROR,
    Outcome,
    TransformFile,
    TransformJob,
    choose_parameters,
    route_name,
)
from clary.router.router import Router
from clary.store.transform_files import TransformFiles

MAX_LANES = 16
"""Most files that one instance works on at once."""

REPORT_S = 1.0
LOOK_S = 0.5
_MESSAGE_CHARACTERS = 2048

_log = logging.getLogger(__name__)


class JobRun:
    """Moves the data of one job.

    Args:
        job: The job.
        owner: Who it is moved by, as the store knows it.
        files: Where it is written down how far it is.
        storage: Where data comes from and goes to.
        router: Knows the instances.
        log: Of the job.
    """

    def __init__(
        self,
        job: TransformJob,
        owner: str,
        files: TransformFiles,
        storage: ObjectTransfers,
        router: Router,
        log: DataLog,
    ) -> None:
        self._job = job
        self._owner = owner
        self._files = files
        self._storage = storage
        self._router = router
        self._log = log
        self._caller = Caller(
            router,
            route_name(job.name),
            content_type=job.content_type,
            accept=job.accept,
            timeout_s=job.timeout_s,
            max_retries=job.max_retries,
        )
        self._reader = RangeReader(storage)
        self._waiting: deque[TransformFile] = deque()
        self._open = 0
        """Files that are not done with."""
        self._failure: str | None = None
        self._changed = asyncio.Event()

    def look(self) -> None:
        """The route may have changed."""
        self._changed.set()

    async def run(self) -> tuple[Outcome, str | None]:
        """Move all of it; return how it ended, and why it failed.

        Cancelling leaves what was written so that another run can go on from it.
        """
        try:
            files = await self._list()
        except BadInput as error:
            await self._log.write(f"{self._job.source.uri}: ClientError: {error.message}")
            return Outcome.FAILED, f"ClientError: {error.message}"[:1024]
        self._waiting.extend(file for file in files if file.state == "pending")
        self._open = len(self._waiting)
        if any(file.state == "failed" for file in files):
            self._failure = CLIENT_ERROR
        if self._open:
            self._read_ahead()
            try:
                work = await self._prepare()
                await self._spread(work)
            finally:
                await self._reader.close()
        if self._failure is not None:
            return Outcome.FAILED, self._failure
        return Outcome.COMPLETED, None

    async def abort_uploads(self) -> None:
        """Remove the parts of files that are not done, for nobody will go on."""
        for file in await self._files.load(self._job.name) or ():
            if file.state == "pending" and file.upload_id is not None:
                await self._abort(file)

    async def _list(self) -> list[TransformFile]:
        known = await self._files.load(self._job.name)
        if known is None:
            found = await patiently(lambda: find_files(self._storage, self._job))
            await self._files.keep(self._job.name, self._owner, found)
            known = found
        return list(known)

    def _read_ahead(self) -> None:
        """Read what the instances will get first, while they still load the model."""
        is_compressed = self._job.is_compressed
        self._reader.read_ahead((f, 0 if is_compressed else f.offset) for f in self._waiting)

    async def _prepare(self) -> Work:
        while not self._caller.instances():
            await self._look()
        endpoint = self._router.find(route_name(self._job.name))
        offered = await ask_execution_parameters(endpoint)
        parameters = choose_parameters(self._job, offered)
        await self._log.write(parameters.text)
        processor = make_processor(
            self._job.processing,
            self._job.content_type,
            self._job.accept,
            by_line=self._job.split_type == "Line",
        )
        return Work(
            job=self._job,
            parameters=parameters,
            processor=processor,
            reader=self._reader,
            storage=self._storage,
            caller=self._caller,
        )

    # Lanes --------------------------------------------------------------------------------

    async def _spread(self, work: Work) -> None:
        """Have each instance take files until there are none left."""
        lanes: dict[str, asyncio.Task[None]] = {}
        try:
            while self._open:
                for instance_id in self._caller.instances():
                    lane = lanes.get(instance_id)
                    if self._waiting and (lane is None or lane.done()):
                        lanes[instance_id] = asyncio.create_task(self._serve(work, instance_id))
                await self._look()
                for lane in lanes.values():
                    if lane.done() and (error := lane.exception()) is not None:
                        raise error
        finally:
            for lane in lanes.values():
                lane.cancel()
            await asyncio.gather(*lanes.values(), return_exceptions=True)

    async def _look(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._changed.wait()
        self._changed.clear()

    async def _serve(self, work: Work, instance_id: str) -> None:
        permits = asyncio.Semaphore(work.parameters.max_concurrent)
        count = min(work.parameters.max_concurrent, MAX_LANES)
        async with asyncio.TaskGroup() as lanes:
            for _ in range(count):
                lanes.create_task(self._take_files(work, instance_id, permits))

    async def _take_files(self, work: Work, instance_id: str, permits: asyncio.Semaphore) -> None:
        while self._waiting:
            file = self._waiting.popleft()
            try:
                await self._transform(work, file, instance_id, permits)
            except InstanceGone:
                # Another takes it, and goes on where this one was.
                self._waiting.appendleft(await self._reload(file))
                self._changed.set()
                return
            self._open -= 1
            self._changed.set()

    async def _transform(
        self, work: Work, file: TransformFile, instance_id: str, permits: asyncio.Semaphore
    ) -> None:
        progress = Progress()
        latest = file

        async def on_part(changed: TransformFile) -> None:
            nonlocal latest
            latest = changed
            await self._record(changed, progress)

        async def report() -> None:
            while True:
                await asyncio.sleep(REPORT_S)
                await self._record(latest, progress)

        reporting = asyncio.create_task(report())
        try:
            while True:
                try:
                    await transform_file(work, latest, instance_id, permits, progress, on_part)
                    break
                except NotFound:
                    # Its upload may have been removed since; from the beginning then, once.
                    if latest.upload_id is None or latest is not file:
                        raise
                    latest = replace(file, upload_id=None, etags=(), offset=0)
        except InstanceGone:
            raise
        except Exception as error:  # noqa: BLE001 - it is this file's matter, others go on
            await _ended(reporting)
            await self._fail(latest, progress, error)
        else:
            await _ended(reporting)
            done = replace(latest, state="done", upload_id=None, etags=())
            await self._record(done, progress)
        finally:
            await _ended(reporting)

    async def _fail(self, file: TransformFile, progress: Progress, error: Exception) -> None:
        kind, lines = describe(file, error)
        if self._failure is None:
            self._failure = kind
        if kind == INTERNAL_ERROR:
            _log.error("transform job %s: %s", self._job.name, file.place, exc_info=error)
        await self._abort(file)
        await self._log.write(*lines)
        gone = replace(file, state="failed", upload_id=None, etags=())
        await self._record(gone, progress, failure=" ".join(lines)[:_MESSAGE_CHARACTERS])

    async def _abort(self, file: TransformFile) -> None:
        if file.upload_id is not None:
            with suppress(Error, OSError):
                bucket = self._job.destination.bucket
                await self._storage.abort_upload(bucket, file.output_key, file.upload_id)

    async def _reload(self, file: TransformFile) -> TransformFile:
        known = await self._files.load(self._job.name) or ()
        return next((f for f in known if f.position == file.position), file)

    async def _record(
        self, file: TransformFile, progress: Progress, failure: str | None = None
    ) -> None:
        through = file.size if self._job.is_compressed else progress.through
        if file.state == "pending" and self._job.is_compressed:
            through = 0  # how much of the packed bytes is through is not known
        is_mine = await self._files.record(
            self._job.name,
            self._owner,
            file,
            done_bytes=min(through, file.size),
            requests=progress.requests,
            failure=failure,
        )
        if not is_mine:
            raise asyncio.CancelledError(f"transform job {self._job.name} was taken over")


def describe(file: TransformFile, error: Exception) -> tuple[str, list[str]]:
    """Return the FailureReason that a file's failure leads to, and lines for the job's log."""
    if isinstance(error, CallFailed):
        body = error.body.decode(errors="replace")[:_MESSAGE_CHARACTERS]
        kind, word = (
            (CLIENT_ERROR, "ClientError")
            if error.is_clients_fault
            else (ALGORITHM_ERROR, "AlgorithmError")
        )
        if not error.status:
            return kind, [f"{file.place}: {word}: {error.message}"]
        lines = [f"{file.place}: {word}: {error.status}"]
        return kind, [*lines, f"{file.key}: Message:", f"{file.key}: {body}"]
    if isinstance(error, BadInput | NotFound | AccessDenied | Conflict | PermanentError):
        return CLIENT_ERROR, [f"{file.place}: ClientError: {error.message}"]
    return INTERNAL_ERROR, [f"{file.place}: InternalServerError: {error}"]


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
