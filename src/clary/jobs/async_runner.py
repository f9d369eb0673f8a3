"""Claims asynchronous invocations, and has them worked on: the loops around ``async_work``.

Nothing is claimed that has no place to go to, so that what waits for an instance waits in the
queue. What is claimed is kept by renewing its lease until it has ended or gone back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from clary.clock import Clock
from clary.errors import TransientError
from clary.jobs.async_lanes import Lane
from clary.jobs.async_plan import claims
from clary.jobs.async_work import AsyncWork
from clary.router.router import Router
from clary.settings import AsyncSettings
from clary.store.async_leases import AsyncLeases, Release
from clary.store.async_rows import Lease

POLL_S = 1.0
"""The queue is looked at so often, whatever wake-up was missed, in seconds."""

LOOK_S = 0.05
"""How often it is looked whether a worker has come back, in seconds."""

TIDY_S = 2.0
FORGET_S = 60.0
EXPIRED_AT_ONCE = 100
FORGOTTEN_AT_ONCE = 2000

_log = logging.getLogger(__name__)


class AsyncRunner:
    """Works off the queue.

    Args:
        router: Knows the workers.
        leases: The queue.
        work: Does what is to be done for one invocation.
        settings: Limits.
        clock: Wall time.
        host: This server's name among those that share the database: the beginning of the names
            of its owners of leases.
        unique: What tells this process from those before it.
        on_messages: Called when notifications were written.
    """

    def __init__(
        self,
        router: Router,
        leases: AsyncLeases,
        work: AsyncWork,
        settings: AsyncSettings,
        clock: Clock,
        *,
        host: str,
        unique: str,
        on_messages: Callable[[], None],
    ) -> None:
        self._router = router
        self._leases = leases
        self._work = work
        self._settings = settings
        self._clock = clock
        self._host = f"{host}/"
        self._owner = f"{host}/{unique}"
        self._on_messages = on_messages
        self._lease = timedelta(seconds=settings.lease_s)
        self._woken = asyncio.Event()
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[asyncio.Task[None], Lease] = {}
        self._has_more = False
        """Whether more may wait than was claimed last."""

    @property
    def held(self) -> int:
        """Invocations that are being worked on."""
        return len(self._tasks)

    def wake(self) -> None:
        """Look at the queue now."""
        self._woken.set()

    def on_routes(self) -> None:
        """Routes have changed: there may be new places."""
        self._look()
        self._woken.set()

    async def run(self) -> None:
        """Work for ever."""
        # The process before this one is dead, whatever leases it still has.
        await self._insist(lambda: self._leases.free(self._host, but=self._owner))
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._claim_for_ever())
            loops.create_task(self._look_for_ever())
            loops.create_task(self._repeat(self.renew, self._settings.lease_s / 3))
            loops.create_task(self._repeat(self._tidy, TIDY_S))
            loops.create_task(self._repeat(self._forget, FORGET_S))

    async def close(self, limit_s: float) -> None:
        """Let what is being worked on end, as far as there is time; put the rest back.

        ``run`` has been stopped before.
        """
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=limit_s)
        left = dict(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with suppress(TransientError, TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._leases.free(self._owner)

    async def renew(self) -> None:
        """Keep what is being worked on."""
        if self._tasks:
            await self._leases.renew(self._owner, self._lease)

    # Claiming -----------------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        while True:
            self._woken.clear()
            try:
                while await self._claim():
                    pass
            except TransientError as error:
                _log.warning("the queue waits: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()

    async def _claim(self) -> bool:
        """Claim what there is a place for; return whether to do so again at once."""
        room = self._settings.max_held - len(self._tasks)
        self._has_more = room <= 0
        if room <= 0:
            return False
        names = await self._leases.waiting()
        lanes = {name: self._lane(name) for name in names}
        limits = {name: lane.limit for name, lane in lanes.items()}
        wanted = claims(limits, {name: lane.held for name, lane in lanes.items()}, room)
        self._has_more = bool(names)
        if not wanted:
            return False
        claimed = await self._leases.claim(self._owner, wanted, self._lease)
        self._begin(claimed)
        return bool(claimed)

    def _begin(self, claimed: Sequence[Lease]) -> None:
        for lease in claimed:
            lane = self._lane(lease.endpoint)
            lane.held += 1
            task = asyncio.get_running_loop().create_task(self._do(lease, lane))
            self._tasks[task] = lease
            task.add_done_callback(self._done)

    async def _do(self, lease: Lease, lane: Lane) -> None:
        try:
            await self._work.do(lease, lane, self._on_messages)
        except TransientError as error:
            # The end could not be written. The lease ends by itself, and it is done again.
            _log.warning("invocation %s of %s: %s", lease.inference_id, lease.endpoint, error)
        except Exception:  # noqa: BLE001 - one invocation, whatever is the matter with it
            _log.exception("invocation %s of %s", lease.inference_id, lease.endpoint)
            await self._leases.release(Release(lease=lease, pause=timedelta(seconds=10)))

    def _done(self, task: asyncio.Task[None]) -> None:
        lease = self._tasks.pop(task)
        lane = self._lanes[lease.endpoint]
        lane.held -= 1
        self._work.forget(lease)
        if not task.cancelled() and task.exception() is not None:
            _log.error("invocation %s: %s", lease.inference_id, task.exception())
        if self._has_more and lane.held <= lane.limit // 2:
            self._woken.set()
        if lane.held == 0 and not lane.is_there:
            del self._lanes[lease.endpoint]

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self._router, name)
        return lane

    # Housekeeping -------------------------------------------------------------------------

    def _look(self) -> None:
        for lane in self._lanes.values():
            lane.look()

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._look()

    async def _tidy(self) -> None:
        """End what was in the queue for too long; take over what nobody keeps any more."""
        if await self._leases.free_overdue():
            self.wake()
        expired = await self._leases.claim_expired(self._owner, EXPIRED_AT_ONCE, self._lease)
        self._begin(expired)

    async def _forget(self) -> None:
        before = self._clock.now() - timedelta(seconds=self._settings.keep_s)
        while await self._leases.forget_ended(before, FORGOTTEN_AT_ONCE) == FORGOTTEN_AT_ONCE:
            pass

    async def _repeat(self, work: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await work()
            except TransientError as error:
                _log.warning("%s", error)

    async def _insist(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
                return
            except TransientError as error:
                _log.warning("%s", error)
            await asyncio.sleep(POLL_S)
