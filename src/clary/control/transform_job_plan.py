"""Decide what a transform job needs next.

Pure, like ``endpoint_plan``::

    job is ...                     instances                              jobs process
    InProgress                     as many as asked for; lost ones anew   lists, then moves data
    Stopping                       those that are there                   is to end
    InProgress, Stopping, outcome  stopped; the status is written         has ended
    ended, gone                    stopped                                -

An instance that fails (its model does not load) fails the job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from clary.control.instances import (
    Action,
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import MAX_FAILURE_REASON
from clary.resources.routing_table import EndpointRoute, InstanceRoute, VariantRoute
from clary.resources.transform_job import (
    ACTIVE,
    VARIANT,
    Outcome,
    TransformJob,
    TransformJobStatus,
    route_name,
)

CHECK_S = 2.0
"""How often a job that runs is looked at, whatever happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformPlan:
    """What to do now, and what has become true."""

    actions: tuple[Action, ...] = ()
    route: EndpointRoute | None = None
    has_started: bool = False
    """The first instance is there, from which on data moves."""

    needs_jobs: bool = False
    """The jobs process has something to do, or to hear."""

    end: Outcome | None = None
    failure_reason: str | None = None
    check_again_in_s: float | None = None


def plan_transform_job(
    job: TransformJob | None, instances: Sequence[KnownInstance]
) -> TransformPlan:
    """Return the next small step.

    Args:
        job: What is wanted; None when there is none.
        instances: All that have a record, oldest first.
    """
    if job is None or job.status not in ACTIVE:
        return TransformPlan(actions=_wind_up(instances))
    if job.outcome is not None:
        return TransformPlan(
            actions=_wind_up(instances), end=job.outcome, failure_reason=job.outcome_reason
        )
    reason = _why_failed(instances)
    if reason is not None:
        return TransformPlan(actions=_wind_up(instances), end=Outcome.FAILED, failure_reason=reason)
    live = [i for i in instances if not i.record.stopping and not i.is_over]
    actions = _wind_up([i for i in instances if i not in live])
    healthy = [i for i in live if i.is_healthy]
    if job.status is TransformJobStatus.IN_PROGRESS:
        missing = max(job.instance_count - len(live), 0)
        actions += tuple(StartInstance(i.record.id, VARIANT) for i in live if i.observed is None)
        actions += (AddInstance(VARIANT),) * missing
    return TransformPlan(
        actions=actions,
        route=_route(job, healthy),
        has_started=job.started_at is None and bool(healthy),
        needs_jobs=True,  # while instances start, it finds out what there is to do
        check_again_in_s=CHECK_S,
    )


def _why_failed(instances: Sequence[KnownInstance]) -> str | None:
    for instance in instances:
        seen = instance.observed
        if seen is not None and not instance.record.stopping and seen.state is InstanceState.FAILED:
            return f"AlgorithmError: {seen.reason or 'An instance failed.'}"[:MAX_FAILURE_REASON]
    return None


def _wind_up(instances: Sequence[KnownInstance]) -> tuple[Action, ...]:
    actions: list[Action] = []
    for instance in instances:
        if instance.observed is None:
            actions.append(RemoveInstance(instance.record.id))
        elif instance.observed.state is not InstanceState.STOPPING:
            actions.append(StopInstance(instance.record.id))
    return tuple(actions)


def _route(job: TransformJob, healthy: Sequence[KnownInstance]) -> EndpointRoute:
    routes = tuple(
        InstanceRoute(id=i.record.id, containers=i.observed.containers)
        for i in healthy
        if i.observed is not None
    )
    variant = VariantRoute(name=VARIANT, weight=1.0, instances=routes)
    return EndpointRoute(name=route_name(job.name), variants=(variant,))
