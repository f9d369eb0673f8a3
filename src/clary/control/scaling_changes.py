"""Brings activities on: asks for the changes that they intend, and sees what becomes of them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from clary.clock import Clock
from clary.control.elapsed import Elapsed
from clary.control.scaling_policy import cooled
from clary.errors import InUse, LimitExceeded, RequestError
from clary.resources.scaling import (
    ActivityStatus,
    Cooling,
    ScalableTarget,
    ScalingActivity,
    ScalingPolicy,
)
from clary.resources.scaling_activities import (
    failed,
    fulfilled,
    in_progress,
    overridden,
    unfulfilled,
)
from clary.resources.scaling_policies import Rule, StepScaling, parse_policy
from clary.store.scalable_resources import Capacity, ScalableResource
from clary.store.scaling_activities import Advance, ScalingActivities
from clary.store.scaling_duty import ScalingDuty, ScalingView

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Changes that are asked for side by side, and written down together."""

HOLD_S = 60.0
"""No new decision so soon after one that could not be carried out."""


class CapacityChanges:
    """Activities that have no end yet.

    Args:
        duty: Targets and policies.
        activities: What is done.
        resources: Who can read and change numbers, by dimension.
        clock: Wall time.
        timeout_s: Time for a change to be made.
    """

    def __init__(
        self,
        duty: ScalingDuty,
        activities: ScalingActivities,
        resources: Mapping[str, ScalableResource],
        clock: Clock,
        timeout_s: float,
    ) -> None:
        self._duty = duty
        self._activities = activities
        self._resources = resources
        self._clock = clock
        self._timeout_s = timeout_s
        self._elapsed = Elapsed(clock)
        """Since activities began."""
        self._held: dict[str, float] = {}
        """Until when targets are left alone, by id (monotonic clock)."""

    def is_held(self, target_id: str) -> bool:
        """Whether policies must leave a target alone, for the last change has just failed."""
        until = self._held.get(target_id)
        if until is not None and until <= self._clock.monotonic():
            del self._held[target_id]
            return False
        return until is not None

    async def bring_on(self) -> bool:
        """Bring on what is under way; return whether anything still is."""
        activities = await self._activities.open()
        if not activities:
            return False
        # What was not asked for yet has no end either, and so needs no cooldowns of policies.
        ending = {a.target_id for a in activities if a.status is not ActivityStatus.PENDING}
        view = await self._duty.view_targets(
            sorted({a.target_id for a in activities}), with_policies=ending
        )
        capacities = await read_capacities(self._resources, list(view.targets.values()))
        for start in range(0, len(activities), AT_ONCE):
            part = activities[start : start + AT_ONCE]
            steps = await asyncio.gather(
                *(self._bring_on(activity, view, capacities) for activity in part)
            )
            await self._activities.advance([step for step in steps if step is not None])
        still_open = await self._activities.open_ids()
        for activity in activities:
            if activity.id not in still_open:
                self._elapsed.forget(activity.id)
        return bool(still_open)

    async def _bring_on(
        self, activity: ScalingActivity, view: ScalingView, capacities: Mapping[str, Capacity]
    ) -> Advance | None:
        """Return what has become of an activity; None: nothing new.

        That is written down later, with that of others: after a crash in between, the number is
        found to be as it was asked for.
        """
        self._age_s(activity)  # seen now, so that a clock that is set does not make it older
        target = view.targets.get(activity.target_id)
        capacity = capacities.get(activity.target_id)
        if target is None or capacity is None:
            gone = failed(activity, "The scalable target is gone.", self._clock.now())
            return Advance(activity, gone)
        if activity.status is ActivityStatus.PENDING:
            return await self._ask(activity, target, view, capacity)
        return self._look_after(activity, target, view, capacity)

    async def _ask(
        self,
        activity: ScalingActivity,
        target: ScalableTarget,
        view: ScalingView,
        capacity: Capacity,
    ) -> Advance | None:
        """Ask for the change that an activity intends."""
        assert activity.capacity is not None
        if capacity.desired == activity.capacity:
            # It was asked for before a crash, or somebody else was faster: the next pass ends it.
            return Advance(activity, in_progress(activity))
        if not capacity.is_free:
            return self._give_up_late(activity)
        resource = self._resources[activity.target.dimension]
        try:
            await resource.change(activity.target.resource_id, activity.capacity)
        except InUse:
            return None
        except RequestError as error:
            self._hold(target.id)
            code = (
                "ResourceLimitExceeded"
                if isinstance(error, LimitExceeded)
                else "ValidationException"
            )
            return Advance(activity, failed(activity, error.message, self._clock.now(), code=code))
        log.info("%s: %s (%s)", activity.target.resource_id, activity.description, activity.cause)
        return Advance(activity, in_progress(activity))

    def _look_after(
        self,
        activity: ScalingActivity,
        target: ScalableTarget,
        view: ScalingView,
        capacity: Capacity,
    ) -> Advance | None:
        """See what has become of a change that was asked for."""
        now = self._clock.now()
        if not capacity.is_free:
            return self._give_up_late(activity)
        if capacity.desired == activity.capacity:
            cooling = _cooling(activity, target, view.policies.get(target.id, ()), now)
            return Advance(activity, fulfilled(activity, now), cooling)
        if capacity.trouble is not None:
            self._hold(target.id)
            return Advance(activity, failed(activity, capacity.trouble, now))
        return Advance(activity, overridden(activity, now))

    def _give_up_late(self, activity: ScalingActivity) -> Advance | None:
        if self._age_s(activity) > self._timeout_s:
            return Advance(activity, unfulfilled(activity, self._clock.now()))
        return None

    def _age_s(self, activity: ScalingActivity) -> float:
        return self._elapsed.since(activity.id, "begun", activity.started_at)

    def _hold(self, target_id: str) -> None:
        self._held[target_id] = self._clock.monotonic() + HOLD_S


async def read_capacities(
    resources: Mapping[str, ScalableResource], targets: Sequence[ScalableTarget]
) -> dict[str, Capacity]:
    """Return capacities by target id; those of things that are gone are left out."""
    found: dict[str, Capacity] = {}
    for dimension, resource in resources.items():
        wanted = [t for t in targets if t.name.dimension == dimension]
        if not wanted:
            continue
        capacities = await resource.read([t.name.resource_id for t in wanted])
        found |= {
            t.id: capacities[t.name.resource_id] for t in wanted if t.name.resource_id in capacities
        }
    return found


def rule_of(policy: ScalingPolicy) -> Rule | None:
    """Return what a policy says; None: what was stored cannot be read any more."""
    try:
        return parse_policy(policy.type, policy.configuration, policy.target)
    except RequestError as error:
        log.error("scaling policy %s is passed over: %s", policy.name, error)
        return None


def _cooling(
    activity: ScalingActivity,
    target: ScalableTarget,
    policies: Sequence[ScalingPolicy],
    now: datetime,
) -> Cooling | None:
    """Return what cooldowns are counted from after an activity; None: it is no policy's."""
    if not activity.by_policy or activity.previous is None or activity.capacity is None:
        return None
    rules = [rule for rule in map(rule_of, policies) if rule is not None]
    cooldowns = [
        rule.cooldown_s if isinstance(rule, StepScaling) else rule.out_cooldown_s for rule in rules
    ]
    return cooled(
        target.cooling,
        previous=activity.previous,
        capacity=activity.capacity,
        cooldown_s=max(cooldowns, default=0),
        at=now,
    )
