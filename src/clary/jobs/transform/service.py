"""The transform jobs of this server: which run, which are to stop."""

import asyncio
import logging
import secrets

from clary.clock import Clock
from clary.jobs.transform.data_log import DataLog
from clary.jobs.transform.job_run import JobRun
from clary.logs.groups import LogGroups
from clary.objects.transfers import ObjectTransfers
from clary.resources.transform_job import (
    ACTIVE,
    INTERNAL_ERROR,
    Outcome,
    TransformJob,
    TransformJobStatus,
)
from clary.router.router import Router
from clary.store.store import Store

_log = logging.getLogger(__name__)


class TransformService:
    """Runs the jobs that control tells of.

    Nothing here is durable: each run goes on from what the store has.

    Args:
        store: Jobs and their files.
        storage: Where data comes from and goes to.
        router: Knows the instances.
        logs: For the jobs' logs.
        clock: For their lines.
    """

    def __init__(
        self,
        store: Store,
        storage: ObjectTransfers,
        router: Router,
        logs: LogGroups,
        clock: Clock,
    ) -> None:
        self._store = store
        self._storage = storage
        self._router = router
        self._logs = logs
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._runs: dict[str, tuple[JobRun, asyncio.Task[None]]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self.on_outcome = _ignore
        """Told the name of a job whose outcome was written."""

    def look(self, name: str) -> None:
        """See what is to be done about a job."""
        if name not in self._looking:
            task = asyncio.create_task(self._look(name))
            self._looking[name] = task
            task.add_done_callback(lambda _: self._looking.pop(name, None))

    def on_routes(self) -> None:
        """Instances may have come or gone."""
        for run, _ in self._runs.values():
            run.look()

    async def close(self) -> None:
        """Stop moving; the next life goes on from here."""
        tasks = [*self._looking.values(), *(task for _, task in self._runs.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, name: str) -> None:
        job = await self._store.transform_jobs.find(name)
        known = self._runs.get(name)
        if job is None or job.status not in ACTIVE or job.outcome is not None:
            if known is not None:
                await self._end(name)  # control has given it up
                await known[0].abort_uploads()
            return
        if job.status is TransformJobStatus.STOPPING:
            await self._end(name)
            run = self._make_run(job)
            if await self._store.transform_jobs.take(name, self._owner):
                await run.abort_uploads()
                await self._conclude(name, Outcome.STOPPED, None)
            return
        if known is None:
            if await self._store.transform_jobs.take(name, self._owner):
                run = self._make_run(job)
                self._runs[name] = run, asyncio.create_task(self._run(name, run))
        else:
            known[0].look()

    def _make_run(self, job: TransformJob) -> JobRun:
        log = DataLog(self._logs, job.name, self._clock)
        files = self._store.transform_files
        return JobRun(job, self._owner, files, self._storage, self._router, log)

    async def _run(self, name: str, run: JobRun) -> None:
        try:
            outcome, reason = await run.run()
            await self._conclude(name, outcome, reason)
        except Exception:  # noqa: BLE001 - whatever it is, the job must not wait for ever
            _log.exception("transform job %s failed", name)
            await self._conclude(name, Outcome.FAILED, INTERNAL_ERROR)
        finally:
            self._runs.pop(name, None)

    async def _conclude(self, name: str, outcome: Outcome, reason: str | None) -> None:
        await self._store.transform_jobs.record_outcome(name, self._owner, outcome, reason)
        self.on_outcome(name)

    async def _end(self, name: str) -> None:
        known = self._runs.pop(name, None)
        if known is not None:
            known[1].cancel()
            await asyncio.gather(known[1], return_exceptions=True)


def _ignore(name: str) -> None:
    """Nobody wants to know."""
