"""Decide what an endpoint needs next.

Pure: no clock, no I/O, no asyncio. All that the decision depends on is an argument; all that it
decides is in the returned plan. The pass in ``endpoints.py`` does what it says::

    endpoint is ...        instances                                      route
    Creating               start what is missing; one failed: give up     none until all are healthy
    InService, Updating,   add, replace what is lost or failed, drain     those that are healthy
    RollingBack            and stop what is too much, in each fleet
    Failed                 stop all                                       none
    Deleting, gone         stop all, then remove the endpoint             none

What single variants need is in ``variant_plan.py``, how a deployment goes on in
``deployment_plan.py``, and the route in ``fleets.py``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from clary.control.deployment_plan import (
    Standing,
    fleets_of,
    pending_states,
    plan_deployment,
    reached,
)
from clary.control.fleets import Fleet, route_over
from clary.control.instances import Action, KnownInstance
from clary.control.variant_plan import plan_variant, wind_up
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import (
    MAX_FAILURE_REASON,
    SERVING,
    Deployment,
    DeploymentPhase,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    Progress,
    VariantState,
)
from clary.resources.endpoint_config import EndpointConfig
from clary.resources.model import Model
from clary.resources.routing_table import EndpointRoute
from clary.resources.serverless import why_no_model


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """How long a start may take where a variant does not say, in seconds."""

    startup_timeout_s: float
    download_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, what has become true, and when to look again."""

    actions: tuple[Action, ...] = ()
    route: EndpointRoute | None = None
    """Where invocations go while the actions are done. None: nowhere."""

    variants: tuple[VariantState, ...] = ()
    """Counts and weights as they are now, of shadow variants too."""

    pending: tuple[VariantState, ...] = ()
    """The same of the new fleet of a deployment."""

    progress: Progress | None = None
    """Where the deployment is next, once the rest is done. None: where it was."""

    event: EndpointEvent | None = None
    failure_reason: str | None = None
    is_gone: bool = False
    """Nothing is left of an endpoint that is Deleting, once the actions are done."""

    check_again_in_s: float | None = None


def plan_endpoint(
    endpoint: Endpoint | None,
    instances: Sequence[KnownInstance],
    *,
    now: datetime,
    limits: StartLimits,
    standing: Standing | None = None,
) -> Plan:
    """Return the next small step.

    Args:
        endpoint: What is wanted; None when it has been removed.
        instances: All that have a record, oldest first.
        now: Wall time, for the ages of instances.
        limits: Of the settings.
        standing: Times and alarms, for one with a deployment.
    """
    if endpoint is None or endpoint.status in (EndpointStatus.DELETING, EndpointStatus.FAILED):
        actions = wind_up(instances)
        is_deleting = endpoint is not None and endpoint.status is EndpointStatus.DELETING
        return Plan(
            actions=actions,
            variants=_counts(endpoint, {}, {}) if endpoint is not None else (),
            # Records of the last ones are removed in the same pass, before the endpoint.
            is_gone=is_deleting and all(i.observed is None for i in instances),
        )
    if endpoint.status is EndpointStatus.CREATING:
        reason = unsupported(endpoint.config, endpoint.models) or _why_given_up(
            endpoint.config, instances, (now - endpoint.modified_at).total_seconds(), limits
        )
        if reason is not None:
            return Plan(event=EndpointEvent.GAVE_UP, failure_reason=_cut(reason))
    plan, healthy, workers = _plan_fleets(endpoint, instances, now)
    if endpoint.deployment is not None:
        return _with_deployment(
            plan,
            endpoint,
            endpoint.deployment,
            instances,
            healthy,
            workers,
            standing or Standing(),
            limits,
        )
    if endpoint.status is EndpointStatus.UPDATING and plan.event is None:
        # Only what this change has added can speak against it.
        added = [i for i in instances if i.record.generation == endpoint.generation]
        age_s = (now - endpoint.modified_at).total_seconds()
        reason = _why_given_up(endpoint.config, added, age_s, limits) or _why_not_provisioned(
            endpoint, instances, age_s, limits
        )
        if reason is not None:
            return replace(plan, event=EndpointEvent.GAVE_UP, failure_reason=_cut(reason))
    return plan


def _plan_fleets(
    endpoint: Endpoint, instances: Sequence[KnownInstance], now: datetime
) -> tuple[Plan, Counter[tuple[int, str]], Counter[tuple[int, str]]]:
    """Return a plan without a deployment's verdict; healthy instances, and serverless workers.

    Both are counted by fleet and variant. A serverless host without all that are provisioned is
    not healthy.
    """
    actions: list[Action] = []
    kept: list[KnownInstance] = []
    checks: list[float] = []
    placed: set[str] = set()
    fleets = fleets_of(endpoint)
    for fleet in fleets:
        for name, count in fleet.counts.items():
            mine = [i for i in instances if fleet.owns(i) and i.record.variant_name == name]
            mine = [i for i in mine if not _is_lost_guest(fleet, i)]
            placed.update(i.record.id for i in mine)
            more, stay, check = plan_variant(name, count, fleet.number, mine, now)
            actions += more
            kept += stay
            if check is not None:
                checks.append(check)
    actions += wind_up([i for i in instances if i.record.id not in placed], drains=True)
    healthy: Counter[tuple[int, str]] = Counter()
    workers: Counter[tuple[int, str]] = Counter()
    for fleet in fleets:
        for i in kept:
            place = (fleet.number, i.record.variant_name)
            if not fleet.owns(i) or not i.is_healthy:
                continue
            capacity = fleet.serverless.get(i.record.variant_name)
            if capacity is not None:
                workers[place] += i.workers
            if capacity is None or i.workers >= capacity.provisioned:
                healthy[place] += 1
    is_ready = all(
        healthy[endpoint.fleet, variant.name] >= _needed(endpoint.status, variant)
        for variant in endpoint.all_variants
    )
    serves = endpoint.status in SERVING or is_ready
    settled = endpoint.status is EndpointStatus.IN_SERVICE
    plan = Plan(
        actions=tuple(actions),
        route=route_over(endpoint.name, fleets, kept, instances) if serves else None,
        variants=_counts(endpoint, healthy, workers),
        event=EndpointEvent.READY if is_ready and not settled else None,
        check_again_in_s=min(checks, default=None),
    )
    return plan, healthy, workers


def _is_lost_guest(fleet: Fleet, instance: KnownInstance) -> bool:
    """Whether it is another fleet's, and does not run: it cannot be started as one of this."""
    return instance.record.fleet != fleet.number and (instance.observed is None or instance.is_over)


def _with_deployment(
    plan: Plan,
    endpoint: Endpoint,
    deployment: Deployment,
    instances: Sequence[KnownInstance],
    healthy: Mapping[tuple[int, str], int],
    workers: Mapping[tuple[int, str], int],
    standing: Standing,
    limits: StartLimits,
) -> Plan:
    """Return the plan with what comes next in the deployment."""
    new = [i for i in instances if i.record.fleet == deployment.fleet]
    # One that is lost later is replaced; while the fleet is launched that only goes on so long.
    is_launching = deployment.progress.phase is DeploymentPhase.LAUNCHING
    age_s = standing.progress_age_s if is_launching else 0.0
    restarted = [
        i
        for i in instances
        if i.record.fleet == endpoint.fleet and i.record.created_at >= deployment.progress_at
    ]
    verdict = plan_deployment(
        endpoint,
        deployment,
        healthy,
        standing,
        failure=(
            unsupported(deployment.config, deployment.models)
            or _why_given_up(deployment.config, new, age_s, limits)
        ),
        old_failure=_why_given_up(endpoint.config, restarted, standing.progress_age_s, limits),
    )
    checks = [c for c in (plan.check_again_in_s, verdict.check_again_in_s) if c is not None]
    return replace(
        plan,
        # What speaks against it stays until that is written.
        actions=() if verdict.event is EndpointEvent.GAVE_UP else plan.actions,
        pending=pending_states(deployment, healthy, workers),
        progress=verdict.progress,
        event=verdict.event,
        failure_reason=None if verdict.failure_reason is None else _cut(verdict.failure_reason),
        check_again_in_s=min(checks, default=None),
    )


def _needed(status: EndpointStatus, variant: VariantState) -> int:
    """Return how many healthy instances of a variant make the endpoint ready.

    A change waits for the instances that it adds, and for nothing else: weights must be movable
    away from a variant that is broken. Going back waits for none, for the old ones are there.
    """
    if status is EndpointStatus.ROLLING_BACK:
        return 0
    if variant.serverless is not None:
        # A new one shows that its model can be loaded; later it may have no worker at all.
        is_new = status is EndpointStatus.CREATING
        return 1 if is_new or variant.serverless.desired.provisioned else 0
    if status is EndpointStatus.UPDATING and variant.previous_count is not None:
        return variant.desired_count if variant.desired_count > variant.previous_count else 0
    return variant.desired_count


def unsupported(config: EndpointConfig, models: Mapping[str, Model]) -> str | None:
    """Return why this server cannot run an endpoint of this kind yet, or None."""
    kind = None
    for variant in config.all_variants:
        model = models.get(variant.model_name) if variant.model_name else None
        if variant.is_serverless and model is not None:
            reason = why_no_model(model)
            if reason is not None:
                return reason
        elif model is None:
            continue  # inference components fill it
        elif not model.containers:
            kind = "models without a container, for inference components"
        elif len(model.containers) > 1 and any(c.mode == "MultiModel" for c in model.containers):
            kind = "multi-model containers (Mode=MultiModel) inside a pipeline"
    if kind is None:
        return None
    return f"This version of Clary does not run {kind} yet: it is planned, and not built."


def _why_not_provisioned(
    endpoint: Endpoint, instances: Sequence[KnownInstance], age_s: float, limits: StartLimits
) -> str | None:
    """Return why the provisioned workers of a change will not be there, or None."""
    if age_s <= limits.startup_timeout_s + limits.download_timeout_s:
        return None
    late = [
        variant.name
        for variant in endpoint.all_variants
        if variant.serverless is not None and not variant.serverless.is_reached
    ]
    if not late:
        return None
    reasons = [i.trouble for i in instances if i.record.variant_name in late and i.trouble]
    return reasons[0] if reasons else "The provisioned concurrency could not be reached in time."


def _why_given_up(
    config: EndpointConfig,
    instances: Sequence[KnownInstance],
    age_s: float,
    limits: StartLimits,
) -> str | None:
    """Return why these instances never will serve, or None.

    Args:
        config: That they run.
        instances: The ones to look at.
        age_s: How long they have been waited for: one that was lost is replaced for so long as a
            start may take.
        limits: Of the settings.
    """
    reasons = []
    for variant in config.all_variants:
        limit_s = (variant.startup_timeout_s or limits.startup_timeout_s) + (
            variant.download_timeout_s or limits.download_timeout_s
        )
        is_late = age_s > limit_s
        for instance in instances:
            observed = instance.observed
            if (
                instance.record.variant_name != variant.name
                or instance.record.stopping
                or observed is None
            ):
                continue
            lost_for_good = observed.state is InstanceState.LOST and is_late
            if observed.state is InstanceState.FAILED or lost_for_good:
                reasons.append(observed.reason or "An instance failed without a reason.")
    return " ".join(dict.fromkeys(reasons)) or None


def _counts(
    endpoint: Endpoint,
    healthy: Mapping[tuple[int, str], int],
    workers: Mapping[tuple[int, str], int],
) -> tuple[VariantState, ...]:
    return tuple(
        reached(
            replace(
                variant,
                current_count=healthy.get((endpoint.fleet, variant.name), 0),
                current_weight=variant.desired_weight,
            ),
            workers.get((endpoint.fleet, variant.name), 0),
        )
        for variant in endpoint.all_variants
    )


def _cut(reason: str) -> str:
    """Return a reason that fits: its beginning says what, its end is the model's last words."""
    if len(reason) <= MAX_FAILURE_REASON:
        return reason
    head, gap = 400, " ... "
    return reason[:head] + gap + reason[-(MAX_FAILURE_REASON - head - len(gap)) :]
