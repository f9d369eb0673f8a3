"""Moves what can be scaled: the loop of Application Auto Scaling.

A pass does what there is to do, in this order, and keeps nothing that the next one needs but the
last word of each alarm, which the alarm says again at its next evaluation:

1. scheduled actions whose time has come set their bounds: in the transaction that plans their next
   time, so that none runs twice;
2. policies that alarms have called decide, and write an activity that is Pending: the intent;
3. activities are brought on: what is Pending is asked for, what is InProgress is looked after.

Numbers are absolute, so that a pass that was cut off is simply done again.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from clary.clock import Clock
from clary.control.alarm_actions import AlarmAction
from clary.control.scaling_calls import AlarmStates, PolicyCalls, call_of
from clary.control.scaling_changes import CapacityChanges, read_capacities
from clary.errors import InvalidRequest, TransientError
from clary.resources.names import ResourceKind
from clary.resources.scaling import ScalableTarget, ScheduledAction
from clary.resources.schedule import next_time, parse_schedule
from clary.store import scaling_activities, scaling_table
from clary.store.changes import Changes
from clary.store.scalable_resources import ScalableResource
from clary.store.scalable_targets import ScalableTargets
from clary.store.scaling_activities import ScalingActivities
from clary.store.scaling_alarms import PolicyAlarms
from clary.store.scaling_duty import ScalingDuty
from clary.store.scaling_policies import ScalingPolicies

log = logging.getLogger(__name__)

SWEEP_S = 60.0
WATCH_S = 1.0
"""How often activities that are under way are looked at, when nothing says that they have moved."""

PRUNE_S = 3600.0
KINDS = frozenset(
    {
        ResourceKind.ENDPOINT,
        ResourceKind.INFERENCE_COMPONENT,
        scaling_table.KIND,
        scaling_activities.KIND,
    }
)


class ScalingLimits(Protocol):
    """Time limits (``AutoscalingSettings``)."""

    @property
    def fulfilment_timeout_s(self) -> float: ...

    @property
    def schedule_grace_s(self) -> float: ...


class ScalingLoop:
    """The loop.

    Args:
        duty: Targets, policies and schedules.
        targets: To forget targets whose thing is gone.
        policies: The same for their policies.
        activities: What is done.
        alarms: The alarms of policies.
        resources: Who can read and change numbers, by dimension.
        alarm_states: States of alarms, by name.
        changes: Change feed of the store.
        clock: Wall time.
        limits: Of the settings.
    """

    def __init__(
        self,
        duty: ScalingDuty,
        targets: ScalableTargets,
        policies: ScalingPolicies,
        activities: ScalingActivities,
        alarms: PolicyAlarms,
        resources: Mapping[str, ScalableResource],
        alarm_states: AlarmStates,
        changes: Changes,
        clock: Clock,
        limits: ScalingLimits,
    ) -> None:
        self._duty = duty
        self._targets = targets
        self._policies = policies
        self._activities = activities
        self._alarms = alarms
        self._resources = resources
        self._changes = changes
        self._clock = clock
        self._limits = limits
        self._pending = CapacityChanges(
            duty, activities, resources, clock, limits.fulfilment_timeout_s
        )
        self._calls = PolicyCalls(duty, activities, self._pending, resources, alarm_states, clock)
        self._touched: set[str] = set()
        self._touched_components: set[str] = set()
        self._wake = asyncio.Event()

    async def take(self, action: AlarmAction) -> None:
        """Have a policy called by an alarm: at once, and at each evaluation while it is on.

        Raises:
            InvalidRequest: It is no policy that the action names, or no metric that the alarm
                watches.
        """
        self._calls.add(action.arn, call_of(action))
        self._wake.set()

    async def run(self) -> None:
        """Scale until cancelled."""
        changed = self._changes.subscribe()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(changed))
                tasks.create_task(self._sweep())
                tasks.create_task(self._work())
        finally:
            self._changes.unsubscribe(changed)

    async def _follow(self, changed: asyncio.Queue[tuple[str, str]]) -> None:
        while True:
            kind, name = await changed.get()
            if kind in KINDS:
                if kind == ResourceKind.ENDPOINT:
                    self._touched.add(name)
                elif kind == ResourceKind.INFERENCE_COMPONENT:
                    self._touched_components.add(name)
                self._wake.set()

    async def _sweep(self) -> None:
        await self._repair_alarms()
        pruned_at = -PRUNE_S
        while True:
            try:
                if self._clock.monotonic() - pruned_at >= PRUNE_S:
                    await self._activities.prune()
                    pruned_at = self._clock.monotonic()
                await self._forget_gone(await self._duty.targets())
            except Exception:
                log.exception("a sweep of scalable targets failed; the next is in %s s", SWEEP_S)
            await asyncio.sleep(SWEEP_S)

    async def _repair_alarms(self) -> None:
        """Put what a crash between a policy and its alarms left out, or other settings changed."""
        try:
            await self._alarms.put(await self._duty.all_policies())
        except Exception:
            log.exception("alarms of scaling policies could not be looked through")

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            pause_s = WATCH_S
            try:
                pause_s = await self.pass_once()
            except TransientError as error:
                log.warning("autoscaling: %s; trying again", error)
            except Exception:
                log.exception("a pass of autoscaling failed; the next is in %s s", pause_s)
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                pass

    async def pass_once(self) -> float:
        """Do what there is to do; return in how many seconds to look again, at the latest."""
        touched, self._touched = self._touched, set()
        for name in touched:
            await self._forget_gone(await self._duty.targets_below(f"endpoint/{name}/"))
        touched, self._touched_components = self._touched_components, set()
        for name in touched:
            targets = await self._duty.targets_named(f"inference-component/{name}")
            await self._forget_gone(targets)
        await self._run_schedules()
        await self._calls.answer()
        is_busy = await self._pending.bring_on()
        due = await self._duty.next_due()
        until_due_s = (
            SWEEP_S if due is None else max((due - self._clock.now()).total_seconds(), 0.0)
        )
        return min(until_due_s, WATCH_S if is_busy else SWEEP_S)

    async def _run_schedules(self) -> None:
        due = await self._duty.due()
        if not due:
            return
        capacities = await read_capacities(self._resources, [target for _, target in due])
        for action, target in due:
            now = self._clock.now()
            following = _following(action, now)
            assert action.next_at is not None
            late_s = (now - action.next_at).total_seconds()
            if target.suspended.schedules or late_s > self._limits.schedule_grace_s:
                log.warning("scheduled action %s is left out, %.0f s late", action.name, late_s)
                await self._duty.pass_over(action, following)
                continue
            capacity = capacities.get(target.id)
            is_active = capacity is not None and capacity.is_active
            await self._duty.carry_out(
                action, following, capacity.desired if capacity and is_active else None
            )

    async def _forget_gone(self, targets: Sequence[ScalableTarget]) -> None:
        """Deregister targets whose thing was deleted."""
        if not targets:
            return
        present = await read_capacities(self._resources, targets)
        for target in targets:
            if target.id in present or target.name.dimension not in self._resources:
                continue
            log.info("%s is gone, and its scalable target with it", target.name.resource_id)
            for policy in await self._policies.of_target(target.name):
                try:
                    await self._alarms.remove(policy)
                except InvalidRequest as error:
                    log.warning("alarms of policy %s stay: %s", policy.name, error)
            await self._targets.deregister(target.name)


def _following(action: ScheduledAction, now: datetime) -> datetime | None:
    return next_time(
        parse_schedule(action.schedule, action.timezone),
        now,
        created_at=action.created_at,
        starts_at=action.starts_at,
        ends_at=action.ends_at,
    )
