"""What the copies of one component need, and what its status is. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from clary.control.component_placement import Host, surplus_order
from clary.control.component_rollout import Rollout, plan_rollout
from clary.control.deployment_plan import AlarmState
from clary.control.instances import (
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.control.variant_plan import replace_after_s, wind_up
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import MAX_FAILURE_REASON
from clary.resources.inference_component import (
    ComponentStatus,
    ComputeResources,
    InferenceComponent,
)
from clary.store.inference_components import ComponentState

PENDING = "Waiting for capacity:"
"""Begins the reason of a component that has fewer copies than are wanted, for want of room."""

CHECK_PENDING_S = 10.0
"""How often it is looked whether there is room now, whatever nobody tells of, in seconds."""

Action = StartInstance | StopInstance | RemoveInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyNeeds:
    """What the copies of a component need."""

    actions: tuple[Action, ...]
    missing: int
    """Copies to be placed."""

    live: int
    """Copies that run, or are about to, of whatever revision."""

    healthy: int
    """Copies of the wanted revision that take invocations."""

    older: int
    """Copies of other revisions, or without an instance, that stay for now."""

    serving: tuple[KnownInstance, ...]
    rollout: Rollout | None
    failure: str | None
    """Why a copy of the wanted revision failed."""

    never_fits: str | None
    """Why no instance ever has room."""

    checks: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What has become true."""

    state: ComponentState
    is_failed: bool = False
    check_again_in_s: float | None = None


def needs_of(
    component: InferenceComponent,
    copies: Sequence[KnownInstance],
    *,
    hosts: Sequence[Host],
    size: ComputeResources | None,
    instance_type: str,
    now: datetime,
    alarms: Mapping[str, AlarmState],
) -> CopyNeeds:
    """Return what a component's copies need.

    Args:
        component: Neither Failed nor Deleting.
        copies: All that have a record, oldest first.
        hosts: Instances that are there, with what is on them.
        size: What one instance has; None: the variant is gone.
        instance_type: For people.
        now: Wall time.
        alarms: States of the alarms that an update watches.
    """
    ids = {host.id for host in hosts}
    actions: list[Action] = list(wind_up([c for c in copies if c.record.stopping], drains=True))
    current: list[KnownInstance] = []
    older: list[KnownInstance] = []
    orphans: list[KnownInstance] = []
    waiting: list[float] = []
    failure: str | None = None
    for copy in copies:
        if copy.record.stopping:
            continue
        is_current = (
            copy.record.generation == component.revision and (copy.record.host_id or "") in ids
        )
        if not copy.is_over:
            if is_current:
                current.append(copy)
            elif copy.observed is not None or _may_start(component, copy, ids):
                older.append(copy)
            else:
                actions.append(StopInstance(copy.record.id))
        elif copy.still_serves:
            orphans.append(copy)
        else:
            assert copy.observed is not None
            if is_current and copy.observed.state is InstanceState.FAILED:
                failure = copy.observed.reason or "A copy failed without a reason."
            wait_s = replace_after_s(copy) - (now - copy.record.created_at).total_seconds()
            if is_current and wait_s > 0:
                waiting.append(wait_s)  # holds its place until then
            else:
                actions.append(StopInstance(copy.record.id))
    healthy = sum(copy.is_healthy for copy in current)
    never_fits = None
    if size is not None and not size.fits(component.spec.needs):
        never_fits = (
            f'Inference component "{component.name}" can be placed on no instance: a copy needs '
            f"{component.spec.needs.words()}, and an instance of type {instance_type} has "
            f"{size.words()}."
        )
    rollout = None
    target, kept_older = component.desired_copies, max(component.desired_copies - healthy, 0)
    if component.update is not None:
        rollout = plan_rollout(
            component,
            component.update,
            healthy=healthy,
            failure=failure or never_fits,
            alarms=alarms,
            now=now,
        )
        target, kept_older = rollout.new_copies, rollout.old_copies
    surplus = len(current) - target
    if surplus > 0 and (rollout is None or rollout.why_given_up is None):
        placement = component.spec.placement
        order = sorted(
            reversed(current),
            key=lambda c: (
                c.is_healthy,
                surplus_order(placement, component.name, hosts, c.record.host_id),
            ),
        )
        actions += [StopInstance(c.record.id, drains=True) for c in order[:surplus]]
        current = [c for c in current if c not in order[:surplus]]
    # Healthy ones stay longest, for they are there to serve.
    older = sorted([*older, *orphans], key=lambda c: not (c.is_healthy or c.still_serves))
    actions += [StopInstance(c.record.id, drains=True) for c in older[kept_older:]]
    older = older[:kept_older]
    actions += [
        StartInstance(c.record.id, component.name) for c in (*current, *older) if c.observed is None
    ]
    missing = max(target - len(current) - len(waiting), 0)
    if never_fits is not None or (rollout is not None and rollout.why_given_up is not None):
        missing = 0
    return CopyNeeds(
        actions=tuple(actions),
        missing=missing,
        live=len(current) + len(older),
        healthy=sum(copy.is_healthy for copy in current),
        older=len(older),
        serving=tuple(c for c in (*current, *older) if c.is_healthy or c.still_serves),
        rollout=rollout,
        failure=failure,
        never_fits=never_fits,
        checks=tuple(waiting),
    )


def _may_start(component: InferenceComponent, copy: KnownInstance, ids: Collection[str]) -> bool:
    """Whether a copy of an older revision can be started again: it is known what it runs, where."""
    update = component.update
    is_old = update is not None and copy.record.generation == update.old_revision
    return is_old and (copy.record.host_id or "") in ids


def state_of(
    component: InferenceComponent,
    needs: CopyNeeds,
    *,
    unplaced: int,
    why: str,
    may_grow: bool,
    now: datetime,
    patience_s: float,
) -> Verdict:
    """Return what the status of a component is, after it was placed.

    Args:
        component: Neither Failed nor Deleting.
        needs: What its copies need.
        unplaced: How many of them found no room.
        why: Why not, as sentences.
        may_grow: Whether more instances are on their way.
        now: Wall time.
        patience_s: How long an update waits for room, in seconds.
    """
    is_creating = component.status is ComponentStatus.CREATING
    fatal = needs.never_fits or needs.failure
    if is_creating and fatal:
        failed = ComponentState(
            status=ComponentStatus.FAILED,
            failure_reason=_cut(fatal),
            current_copies=0,
            update=None,
        )
        return Verdict(state=failed, is_failed=True)
    state = ComponentState(
        status=component.status,
        failure_reason=component.failure_reason,
        current_copies=min(len(needs.serving), component.desired_copies),
        update=component.update,
    )
    if needs.rollout is not None:
        return _of_update(component, needs, state, unplaced, why, may_grow, now, patience_s)
    is_short = unplaced > 0 and not may_grow
    pending = f"{PENDING} {unplaced} of {component.desired_copies} copies are not placed. {why}"
    if needs.healthy >= component.desired_copies and not needs.older:
        state = replace(state, status=ComponentStatus.IN_SERVICE, failure_reason=_kept(component))
    elif needs.never_fits or needs.failure:
        # It cannot be had, while what is there works.
        state = replace(
            state,
            status=ComponentStatus.IN_SERVICE,
            failure_reason=_cut(needs.never_fits or needs.failure or ""),
        )
    elif is_short:
        is_settled = needs.healthy + unplaced >= component.desired_copies
        status = component.status
        if is_settled and (needs.healthy > 0 or not is_creating):
            status = ComponentStatus.IN_SERVICE
        state = replace(state, status=status, failure_reason=_cut(pending))
    else:
        state = replace(state, failure_reason=_kept(component))
    return Verdict(state=state, check_again_in_s=CHECK_PENDING_S if unplaced else None)


def _of_update(
    component: InferenceComponent,
    needs: CopyNeeds,
    state: ComponentState,
    unplaced: int,
    why: str,
    may_grow: bool,
    now: datetime,
    patience_s: float,
) -> Verdict:
    rollout, update = needs.rollout, component.update
    assert rollout is not None
    assert update is not None
    reason = rollout.why_given_up
    age_s = (now - update.started_at).total_seconds()
    if reason is None and unplaced and not may_grow and age_s > patience_s:
        reason = f"The update failed: {unplaced} new copies could not be placed. {why}"
    if reason is not None:
        back = replace(state, failure_reason=_cut(reason), update=None, is_rolled_back=True)
        return Verdict(state=back)
    is_waiting = unplaced and not may_grow
    text = f"{PENDING} {unplaced} new copies are not placed. {why}" if is_waiting else None
    state = replace(state, failure_reason=None if text is None else _cut(text))
    return Verdict(
        state=replace(state, update=rollout.update), check_again_in_s=rollout.check_again_in_s
    )


def _kept(component: InferenceComponent) -> str | None:
    """Return the reason that stays: why the last update was rolled back, not what is over."""
    reason = component.failure_reason
    return None if reason is None or reason.startswith(PENDING) else reason


def _cut(reason: str) -> str:
    return reason[:MAX_FAILURE_REASON]
