"""Makes transform jobs what the store says they are: one pass of the control loop.

The instances are the fleet's, as those of endpoints; the data is moved by the jobs process, which
is told to look, and writes the outcome.
"""

import secrets
from dataclasses import replace
from typing import Protocol

from clary.clock import Clock
from clary.control.endpoints import InstanceFleet, RoutePublisher
from clary.control.instances import (
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.control.transform_job_plan import TransformPlan, plan_transform_job
from clary.fleet.instance import InstanceOrder
from clary.resources.instance import InstanceRecord
from clary.resources.transform_job import VARIANT, TransformJob, route_name
from clary.store.instances import Instances
from clary.store.transform_jobs import TransformJobs


class JobsProcess(Protocol):
    """Who moves the data (``control/jobs_process.py``)."""

    async def look(self, job_name: str) -> None:
        """Have the jobs process look at a job; it is started where it does not run.

        Raises:
            TransientError: It does not answer.
        """
        ...


class TransformJobReconciler:
    """Brings one transform job a step closer to its end.

    Args:
        transform_jobs: What is wanted.
        instances: What was begun.
        fleet: Who runs instances.
        publisher: Who tells the jobs process where they are.
        jobs: Who moves the data.
        clock: For records of instances.
    """

    def __init__(
        self,
        transform_jobs: TransformJobs,
        instances: Instances,
        fleet: InstanceFleet,
        publisher: RoutePublisher,
        jobs: JobsProcess,
        clock: Clock,
    ) -> None:
        self._transform_jobs = transform_jobs
        self._instances = instances
        self._fleet = fleet
        self._publisher = publisher
        self._jobs = jobs
        self._clock = clock

    async def reconcile(self, name: str) -> float | None:
        """Do one pass; return in how many seconds to look again, whatever happens till then."""
        route = route_name(name)
        job = await self._transform_jobs.find(name)
        records = await self._instances.list(route)
        observed = {instance.id: instance for instance in await self._fleet.observe(route)}
        plan = plan_transform_job(
            job, [KnownInstance(record=r, observed=observed.get(r.id)) for r in records]
        )
        added = await self._write_intent(name, plan)
        await self._publisher.publish(route, plan.route)
        if plan.end is not None:
            # Before the instances stop: a job that has ended is told at once.
            await self._transform_jobs.record_end(name, plan.end, plan.failure_reason)
        await self._apply(job, plan, added)
        if plan.has_started:
            await self._transform_jobs.record_start(name)
        if plan.needs_jobs:
            await self._jobs.look(name)
        return plan.check_again_in_s

    async def names(self) -> set[str]:
        """Return the jobs that have not ended."""
        return set(await self._transform_jobs.active_names())

    async def _write_intent(self, name: str, plan: TransformPlan) -> list[InstanceRecord]:
        added = [
            InstanceRecord(
                id=f"i-{secrets.token_hex(8)}",
                endpoint_name=route_name(name),
                variant_name=VARIANT,
                generation=1,
                created_at=self._clock.now(),
            )
            for action in plan.actions
            if isinstance(action, AddInstance)
        ]
        await self._instances.add(added)
        stopping = [action.id for action in plan.actions if isinstance(action, StopInstance)]
        await self._instances.mark_stopping(stopping)
        return added

    async def _apply(
        self, job: TransformJob | None, plan: TransformPlan, added: list[InstanceRecord]
    ) -> None:
        starting = [record.id for record in added]
        for action in plan.actions:
            if isinstance(action, StartInstance):
                starting.append(action.id)
            elif isinstance(action, StopInstance):
                await self._fleet.stop(action.id)
            elif isinstance(action, RemoveInstance):
                await self._instances.remove(action.id)
        for instance_id in starting:
            assert job is not None, "a plan starts nothing for a job that is gone"
            await self._fleet.start(_order(job, instance_id))


def _order(job: TransformJob, instance_id: str) -> InstanceOrder:
    containers = tuple(
        replace(container, environment={**container.environment, **job.variables})
        for container in job.model.containers
    )
    return InstanceOrder(
        id=instance_id,
        endpoint_name=route_name(job.name),
        variant_name=VARIANT,
        instance_type=job.instance_type,
        model=replace(job.model, containers=containers),
        invocation_timeout_s=job.timeout_s,
    )
