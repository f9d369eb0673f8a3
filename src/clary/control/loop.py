"""Runs the passes: which key, when, and what if it fails.

A wake-up (a change in the store, an instance that changed) is only a hint to look; a sweep once a
minute repairs what a lost one missed. Passes of different endpoints run side by side, of one
endpoint one after another.
"""

import asyncio
import logging

from clary.clock import Clock
from clary.control.component_hosts import HostingFleet
from clary.control.demand import Demand
from clary.control.endpoint_plan import StartLimits
from clary.control.endpoints import (
    AlarmStates,
    EndpointReconciler,
    RoutePublisher,
)
from clary.control.inference_components import ComponentReconciler
from clary.control.queue import KeyQueue
from clary.control.serverless import ServerlessScaling
from clary.control.transform_jobs import TransformJobReconciler
from clary.errors import TransientError
from clary.fleet.fleet import Fleet
from clary.resources.inference_component import endpoint_of_hosts, hosts_name
from clary.resources.names import ResourceKind
from clary.resources.transform_job import job_of_route, route_name
from clary.settings import FleetSettings, ServerlessSettings
from clary.store.changes import Changes
from clary.store.deployments import Deployments
from clary.store.endpoints import Endpoints
from clary.store.inference_components import HOSTS
from clary.store.instances import Instances

log = logging.getLogger(__name__)

SWEEP_S = 60.0
MAX_PASSES = 32
"""Passes that run side by side. They wait for the store and for the supervisor, not for models."""


class ControlLoops:
    """All loops of the control process.

    Args:
        endpoints: Wanted state.
        deployments: Updates of endpoints.
        alarms: States of the alarms that roll updates back.
        instances: Records of instances.
        changes: Change feed of the store.
        fleet: Opened by ``adopt``, closed by ``close``.
        publisher: Where routes are told.
        clock: Wall time.
        settings: Time limits for starts.
        demand: What calls of serverless variants need; None: nothing says.
        serverless: Limits of those; None: the settings' defaults.
        transform_jobs: Looks after those; None: nobody does.
        components: Looks after inference components; None: nobody does.
        hosting: The fleet with the instances that hold copies of components; None: without.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        deployments: Deployments,
        alarms: AlarmStates,
        instances: Instances,
        changes: Changes,
        fleet: Fleet,
        publisher: RoutePublisher,
        clock: Clock,
        settings: FleetSettings,
        *,
        demand: Demand | None = None,
        serverless: ServerlessSettings | None = None,
        transform_jobs: TransformJobReconciler | None = None,
        components: ComponentReconciler | None = None,
        hosting: HostingFleet | None = None,
    ) -> None:
        self._transform_jobs = transform_jobs
        self._components = components
        self._hosting = hosting
        self._changes = changes
        self._fleet = fleet
        self._changed: asyncio.Queue[tuple[str, str]] | None = None
        self._queue = KeyQueue()
        serverless = serverless or ServerlessSettings()
        demand = demand or Demand(clock, idle_s=serverless.idle_s)
        demand.on_more = self._queue.add
        self._reconciler = EndpointReconciler(
            endpoints,
            deployments,
            alarms,
            instances,
            fleet if hosting is None else hosting,
            publisher,
            clock,
            StartLimits(
                startup_timeout_s=settings.startup_timeout_s,
                download_timeout_s=settings.download_timeout_s,
            ),
            ServerlessScaling(demand, fleet, max_workers=serverless.max_workers),
        )

    async def adopt(self) -> None:
        """Take over what runs, and publish it as it is: one pass over every endpoint.

        To be awaited before gateways may connect (``Publisher.start``), so that a restart of
        control takes no route away from them; ``run`` comes after it.
        """
        self._changed = self._changes.subscribe()
        self._fleet.watch(self._queue.add)
        if self._hosting is not None:
            self._hosting.on_change = self._hosts_changed
        await self._open_fleet()
        await self._reconciler.discard_strangers()
        limit = asyncio.Semaphore(MAX_PASSES)

        async def first_pass(name: str) -> None:
            async with limit:
                await self._pass(name)

        async with asyncio.TaskGroup() as passes:
            for name in await self._names():
                passes.create_task(first_pass(name))

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._sweep())
            tasks.create_task(self._work())

    async def close(self) -> None:
        """Let go of everything, after ``run`` has ended. Instances go on."""
        if self._changed is not None:
            self._changes.unsubscribe(self._changed)
        self._queue.close()
        await self._fleet.close()

    async def _open_fleet(self) -> None:
        pause = 0.05
        while True:
            try:
                await self._fleet.open()
                return
            except TransientError as error:
                log.warning("%s; trying again", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _follow(self) -> None:
        assert self._changed is not None, "adopt comes first"
        while True:
            kind, name = await self._changed.get()
            if kind == ResourceKind.ENDPOINT:
                self._queue.add(name)
                if self._components is not None and self._components.looks_after(name):
                    self._queue.add(hosts_name(name))
            elif kind == HOSTS:
                self._queue.add(hosts_name(name))
            elif kind == ResourceKind.TRANSFORM_JOB:
                self._queue.add(route_name(name))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                for name in await self._names():
                    self._queue.add(name)
                await self._reconciler.discard_strangers()
                await self._fleet.collect()
            except Exception:
                log.exception("a sweep failed; the next one is in %s s", SWEEP_S)

    async def _names(self) -> set[str]:
        names = await self._reconciler.names()
        if self._transform_jobs is not None:
            names |= {route_name(job) for job in await self._transform_jobs.names()}
        if self._components is not None:
            names |= {hosts_name(endpoint) for endpoint in await self._components.names()}
        return names

    def _hosts_changed(self, endpoint_name: str) -> None:
        self._queue.add(endpoint_name)
        self._queue.add(hosts_name(endpoint_name))

    async def _work(self) -> None:
        limit = asyncio.Semaphore(MAX_PASSES)

        async def one_pass(name: str) -> None:
            try:
                await self._pass(name)
            finally:
                limit.release()

        async with asyncio.TaskGroup() as passes:
            while True:
                await limit.acquire()
                passes.create_task(one_pass(await self._queue.get()))

    async def _reconcile(self, name: str) -> float | None:
        job, endpoint = job_of_route(name), endpoint_of_hosts(name)
        if job is not None:
            return await self._transform_jobs.reconcile(job) if self._transform_jobs else None
        if endpoint is not None:
            return await self._components.reconcile(endpoint) if self._components else None
        return await self._reconciler.reconcile(name)

    async def _pass(self, name: str) -> None:
        try:
            check_again_in_s = await self._reconcile(name)
        except TransientError as error:
            pause = self._queue.failed(name)
            log.warning("endpoint %s: %s; again in %.1f s", name, error, pause)
        except Exception:
            pause = self._queue.failed(name)
            log.exception("endpoint %s: the pass failed; again in %.1f s", name, pause)
        else:
            self._queue.done(name, check_again_in_s)
