"""Decide how a deployment goes on: which fleets there should be, and what comes next.

Pure, as ``endpoint_plan.py`` is. Where a deployment stands is durable (``Progress``); everything
else follows from that, so that a pass after a crash wants what the one before it wanted::

    blue/green  Launching(1) ▶ Activating(1) ▶ Baking(1) ▶ Activating(2) ▶ Baking(2) ▶ … ready
    rolling     Launching(1) ▶ Activating(1) ▶ Baking(1) ▶ Launching(2) ▶ …            ▶ ready
                    └──────────────┴──────────────┴─ gave up ▶ way back(1) ▶ (2) ▶ …   ▶ ready

A pass first publishes the route of the place where the deployment stands, and then writes the next
one. So a bake begins when the gateways know about the traffic that it is to watch.

Traffic is parted by capacity. Together, the parts of both fleets that take traffic are never less
than the whole: old instances stop after new ones have taken over, on the way back the other way
round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Protocol

from clary.control.fleets import Fleet
from clary.resources.deployment_policy import DeploymentPolicy
from clary.resources.endpoint import (
    Deployment,
    DeploymentPhase,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    Progress,
    VariantState,
)
from clary.resources.serverless import ServerlessCapacity

ALARM_CHECK_S = 1.0
"""How often alarms are looked at, in seconds, when nobody tells of a change."""

_LAUNCHING, _ACTIVATING, _BAKING = DeploymentPhase


class AlarmState(Protocol):
    """An alarm as it is now."""

    @property
    def value(self) -> str:
        """``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``."""
        ...

    @property
    def reason(self) -> str:
        """Why, with the values that decided it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a deployment depends on, beside its instances."""

    age_s: float = 0.0
    """Seconds since it was asked for."""

    progress_age_s: float = 0.0
    """Seconds since it came where it is."""

    alarms: Mapping[str, AlarmState] = field(default_factory=dict)
    """Those of its policy, by name; one that was deleted is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What comes next. Nothing: wait."""

    progress: Progress | None = None
    event: EndpointEvent | None = None
    failure_reason: str | None = None
    check_again_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """One variant of both fleets."""

    old_count: int
    new_count: int
    share: float
    """Of the new fleet."""


def fleets_of(endpoint: Endpoint) -> tuple[Fleet, ...]:
    """Return the fleets that an endpoint should have now: one, or in a deployment two."""
    deployment = endpoint.deployment
    old = Fleet(
        number=endpoint.fleet,
        config=endpoint.config,
        models=endpoint.models,
        counts={state.name: state.desired_count for state in endpoint.all_variants},
        weights={state.name: state.desired_weight for state in endpoint.all_variants},
        serverless=_serverless(endpoint.all_variants),
    )
    if deployment is None:
        return (old,)
    totals = {state.name: state.desired_count for state in deployment.variants}
    parts = {
        name: _part(endpoint.status, deployment, old.counts.get(name), totals.get(name))
        for name in {**old.counts, **totals}
    }
    old = replace(
        old,
        counts={name: parts[name].old_count for name in old.counts},
        shares={name: 1.0 - parts[name].share for name in old.counts},
        guests=deployment.guest_fleet,
    )
    new = Fleet(
        number=deployment.fleet,
        config=deployment.config,
        models=deployment.models,
        counts={name: parts[name].new_count for name in totals},
        weights={state.name: state.desired_weight for state in deployment.variants},
        serverless=_serverless(deployment.variants),
        shares={name: parts[name].share for name in totals},
        active={
            name: _rounded_up(total * parts[name].share)
            for name, total in totals.items()
            if parts[name].share > 0
        },
    )
    return old, new


def _serverless(states: Sequence[VariantState]) -> dict[str, ServerlessCapacity]:
    return {s.name: s.serverless.desired for s in states if s.serverless is not None}


def _part(
    status: EndpointStatus, deployment: Deployment, old_total: int | None, new_total: int | None
) -> _Part:
    # A variant that only one fleet has moves as if the other had it in the same size.
    old = new_total if old_total is None else old_total
    new = old_total if new_total is None else new_total
    assert old is not None
    assert new is not None
    policy, progress = deployment.policy, deployment.progress
    if status not in (EndpointStatus.ROLLING_BACK, EndpointStatus.UPDATE_ROLLBACK_FAILED):
        is_launched = progress.phase is not _LAUNCHING
        return _Part(
            policy.old_instances(progress.step, old, new),
            policy.new_instances(progress.step, new),
            policy.share(progress.step if is_launched else progress.step - 1, new),
        )
    is_stuck = status is EndpointStatus.UPDATE_ROLLBACK_FAILED
    reached = _restored(policy, progress, progress.rollback_step - 1, old, new)
    wanted = reached if is_stuck else _restored(policy, progress, progress.rollback_step, old, new)
    share = (old - reached) / old if old else 0.0
    return _Part(wanted, _rounded_up(new * share) if policy.is_rolling else new, share)


def _restored(
    policy: DeploymentPolicy, progress: Progress, rollback_step: int, old: int, new: int
) -> int:
    """Return how many old instances there should be after a step of the way back."""
    left = policy.old_instances(progress.step, old, new)
    if rollback_step <= 0:
        return left
    return min(old, left + rollback_step * policy.rollback_size.instances(old))


def plan_deployment(
    endpoint: Endpoint,
    deployment: Deployment,
    healthy: Mapping[tuple[int, str], int],
    standing: Standing,
    *,
    failure: str | None,
    old_failure: str | None,
) -> Verdict:
    """Return what comes next.

    Args:
        endpoint: Updating or RollingBack.
        deployment: The endpoint's.
        healthy: Healthy instances, by number of the fleet and variant.
        standing: Times and alarms.
        failure: Why the new fleet cannot be had, or None.
        old_failure: Why instances of the old fleet cannot be had, or None.
    """
    old, new = fleets_of(endpoint)
    if endpoint.status is EndpointStatus.ROLLING_BACK:
        return _go_back(deployment, old, new, healthy, old_failure)
    if endpoint.status is not EndpointStatus.UPDATING:
        return Verdict()
    reason = failure or _why_called_off(deployment, standing)
    if reason is not None:
        return Verdict(event=EndpointEvent.GAVE_UP, failure_reason=reason)
    verdict = _go_on(deployment, new, healthy, standing)
    if deployment.policy.alarms and verdict == replace(verdict, progress=None, event=None):
        again = verdict.check_again_in_s
        pause = ALARM_CHECK_S if again is None else min(again, ALARM_CHECK_S)
        return replace(verdict, check_again_in_s=pause)
    return verdict


def _why_called_off(deployment: Deployment, standing: Standing) -> str | None:
    policy = deployment.policy
    for name in policy.alarms:
        alarm = standing.alarms.get(name)
        if alarm is None:
            return (
                f'The deployment was rolled back: alarm "{name}" of its '
                "AutoRollbackConfiguration was deleted, so nothing watched it any more."
            )
        if alarm.value == "ALARM":
            return (
                f'The deployment was rolled back: alarm "{name}" is in state ALARM. {alarm.reason}'
            )
    if policy.timeout_s is not None and standing.age_s > policy.timeout_s:
        return (
            "The deployment was rolled back: it took longer than its "
            f"MaximumExecutionTimeoutInSeconds, which is {policy.timeout_s:g}."
        )
    return None


def _go_on(
    deployment: Deployment,
    new: Fleet,
    healthy: Mapping[tuple[int, str], int],
    standing: Standing,
) -> Verdict:
    policy, progress = deployment.policy, deployment.progress
    step = progress.step
    if progress.phase is _ACTIVATING:
        return Verdict(progress=Progress(phase=_BAKING, step=step))
    if progress.phase is _LAUNCHING:
        if not _is_healthy(new, healthy):
            return Verdict()
        return Verdict(progress=Progress(phase=_ACTIVATING, step=step))
    steps = steps_of(deployment)
    left_s = policy.bake_s(step, steps) - standing.progress_age_s
    if left_s > 0:
        return Verdict(check_again_in_s=left_s)
    if not _is_healthy(new, healthy):
        return Verdict()  # one was lost: its successor comes first
    if step >= steps:
        return Verdict(event=EndpointEvent.READY)
    phase = _LAUNCHING if policy.is_rolling else _ACTIVATING
    return Verdict(progress=Progress(phase=phase, step=step + 1))


def _go_back(
    deployment: Deployment,
    old: Fleet,
    new: Fleet,
    healthy: Mapping[tuple[int, str], int],
    old_failure: str | None,
) -> Verdict:
    if not any(new.shares.values()):
        return Verdict(event=EndpointEvent.READY)
    # Only a rolling update has something to wait for: else the old fleet never went.
    if old_failure is not None:
        return Verdict(event=EndpointEvent.GAVE_UP, failure_reason=old_failure)
    if not _is_healthy(old, healthy):
        return Verdict()
    progress = deployment.progress
    return Verdict(progress=replace(progress, rollback_step=progress.rollback_step + 1))


def _is_healthy(fleet: Fleet, healthy: Mapping[tuple[int, str], int]) -> bool:
    return all(
        healthy.get((fleet.number, name), 0) >= count for name, count in fleet.counts.items()
    )


def steps_of(deployment: Deployment) -> int:
    """Return how many steps a deployment takes."""
    return deployment.policy.steps([state.desired_count for state in deployment.variants])


def pending_states(
    deployment: Deployment,
    healthy: Mapping[tuple[int, str], int],
    workers: Mapping[tuple[int, str], int],
) -> tuple[VariantState, ...]:
    """Return the new fleet's variants with the instances, and serverless workers, that are there.

    Both are given by number of the fleet and variant.
    """
    return tuple(
        reached(
            replace(state, current_count=healthy.get((deployment.fleet, state.name), 0)),
            workers.get((deployment.fleet, state.name), 0),
        )
        for state in deployment.variants
    )


def reached(state: VariantState, workers: int) -> VariantState:
    """Return a variant's state with what is there of it, if it is serverless."""
    serverless = state.serverless
    if serverless is None:
        return state
    provisioned = min(workers, serverless.desired.provisioned)
    current = replace(serverless.desired, provisioned=provisioned)
    # Its host is no instance that anybody counts: it is there, or soon again.
    return replace(
        state,
        current_count=state.desired_count,
        serverless=replace(serverless, current=current),
    )


def _rounded_up(count: float) -> int:
    return ceil(count - 1e-9)
