"""Answers alarms that call their policies: decides, and writes what shall be done, or why not."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from clary.clock import Clock
from clary.control.alarm_actions import AlarmAction
from clary.control.scaling_changes import CapacityChanges, read_capacities, rule_of
from clary.control.scaling_policy import (
    Call,
    Decision,
    NotScaled,
    PolicyView,
    Watch,
    decide,
    not_scaled_details,
)
from clary.errors import InvalidRequest
from clary.resources.scaling import ScalableTarget, ScalingActivity, ScalingPolicy, policy_id_of
from clary.resources.scaling_activities import alarm_cause, not_scaled, setting_capacity
from clary.resources.scaling_policies import StepScaling
from clary.store.scalable_resources import ScalableResource
from clary.store.scaling_activities import ScalingActivities
from clary.store.scaling_duty import ScalingDuty, ScalingView

AlarmStates = Callable[[Sequence[str]], Awaitable[Mapping[str, str]]]
"""Return the states of alarms by name; those that are not there are left out."""


class PolicyCalls:
    """Calls of alarms, until they are answered.

    Args:
        duty: Targets and policies.
        activities: What is done.
        changes: What is under way, or has just failed.
        resources: Who can read numbers, by dimension.
        alarm_states: States of alarms, by name.
        clock: Wall time.
    """

    def __init__(
        self,
        duty: ScalingDuty,
        activities: ScalingActivities,
        changes: CapacityChanges,
        resources: Mapping[str, ScalableResource],
        alarm_states: AlarmStates,
        clock: Clock,
    ) -> None:
        self._duty = duty
        self._activities = activities
        self._changes = changes
        self._resources = resources
        self._alarm_states = alarm_states
        self._clock = clock
        self._calls: dict[str, dict[str, Call]] = {}
        """Last word of each alarm, by policy id and alarm."""
        self._called: set[str] = set()
        """Policies that were called since the last pass."""

    def add(self, arn: str, call: Call) -> None:
        """Take a call of an alarm, for the policy of an ARN.

        Raises:
            InvalidRequest: It is the ARN of none.
        """
        policy_id = policy_id_of(arn)
        if policy_id is None:
            raise InvalidRequest(f"{arn} is no scaling policy.")
        self._calls.setdefault(policy_id, {})[call.alarm] = call
        self._called.add(policy_id)

    async def answer(self) -> None:
        called, self._called = self._called, set()
        if not called:
            return
        view = await self._duty.view(sorted(called))
        known = {policy.id for policies in view.policies.values() for policy in policies}
        for policy_id in called - known:
            self._calls.pop(policy_id, None)
        busy = set((await self._activities.open_ids()).values())
        waiting = [
            target
            for target in view.targets.values()
            if target.id not in busy and not self._changes.is_held(target.id)
        ]
        capacities = await read_capacities(self._resources, waiting)
        states = await self._alarm_states(
            [name for target in waiting for p in view.policies[target.id] for name in p.alarms]
        )
        intents, reasons = [], []
        for target in waiting:
            capacity = capacities.get(target.id)
            if capacity is None:
                continue
            policies = self._policy_views(view, target, states)
            now = self._clock.now()
            decision = decide(target, capacity.desired, policies, now)
            if decision is not None and not capacity.is_free:
                decision = _refused(decision, capacity.desired)
            if decision is None:
                continue
            if decision.reason is None:
                intents.append(_intent(target, decision, capacity.desired, now))
            elif target.last_reason != decision.reason:
                reasons.append(
                    (_explained(target, decision, capacity.desired, now), decision.reason.value)
                )
        await self._activities.begin(intents)
        await self._activities.add_not_scaled(reasons)
        self._forget_steps(view, known)

    def _policy_views(
        self, view: ScalingView, target: ScalableTarget, states: Mapping[str, str]
    ) -> list[PolicyView]:
        views = []
        for policy in view.policies[target.id]:
            calls = self._calls.get(policy.id, {})
            rule = rule_of(policy)
            if rule is None:
                continue
            if not isinstance(rule, StepScaling):
                # Target tracking weighs all its alarms that are on, whoever called last.
                for alarm in [a for a in calls if states.get(a) != "ALARM"]:
                    del calls[alarm]
            views.append(
                PolicyView(
                    name=policy.name,
                    rule=rule,
                    calls=tuple(calls.values()),
                    watch=_watch(policy, states),
                )
            )
        return views

    def _forget_steps(self, view: ScalingView, known: Iterable[str]) -> None:
        """Drop the calls of step policies: each is answered once."""
        stepping = {
            policy.id
            for policies in view.policies.values()
            for policy in policies
            if not policy.alarms
        }
        for policy_id in stepping.intersection(known):
            self._calls.pop(policy_id, None)


def call_of(action: AlarmAction) -> Call:
    """Return what an alarm says to a policy.

    Raises:
        InvalidRequest: The alarm watches no metric: there is no distance from a threshold.
    """
    definition = action.alarm.definition
    if "Threshold" not in definition:
        raise InvalidRequest("Only metric alarms with a threshold can call a scaling policy.")
    return Call(
        alarm=action.alarm.name,
        state=action.new.value.value,
        value=action.value,
        threshold=definition["Threshold"],
        is_above=definition["ComparisonOperator"].startswith("GreaterThan"),
    )


def _watch(policy: ScalingPolicy, states: Mapping[str, str]) -> Watch:
    """Return what a target tracking policy's alarms say: the high one comes first."""
    high, low = (*(states.get(name) for name in policy.alarms), None, None)[:2]
    if high == "ALARM":
        return Watch.HIGH
    if low == "ALARM":
        return Watch.LOW
    return Watch.UNKNOWN if low != "OK" else Watch.BETWEEN


def _refused(decision: Decision, capacity: int) -> Decision:
    """Return the decision for a thing that takes no changes now."""
    return replace(decision, capacity=capacity, reason=NotScaled.UNSCALABLE)


def _intent(
    target: ScalableTarget, decision: Decision, capacity: int, now: datetime
) -> ScalingActivity:
    return setting_capacity(
        target,
        decision.capacity,
        previous=capacity,
        cause=alarm_cause(decision.call.alarm, decision.call.state, decision.policy),
        now=now,
        by_policy=True,
    )


def _explained(
    target: ScalableTarget, decision: Decision, capacity: int, now: datetime
) -> ScalingActivity:
    assert decision.reason is not None
    cause = alarm_cause(decision.call.alarm, decision.call.state, decision.policy)
    return not_scaled(target, cause, not_scaled_details(decision.reason, target, capacity), now)
