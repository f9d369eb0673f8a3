"""What a target's policies want of its capacity. Pure.

Each alarm that calls its policy makes a proposal; the proposals of all policies of a target become
one decision (autoscaling-metrics.md 2-3)::

    proposals ─▶ some want out ─▶ the largest ─▶ less what the cooldown has added ─┐
             └─▶ some want in ──▶ the largest ─▶ not within the cooldown ──────────┴▶ bounds

In of target tracking counts only when all target tracking policies that may scale in agree; step
scaling is not held back by that, as AWS warns.

A capacity outside its bounds, as a manual change leaves it, is not pulled back by a policy that
wants the other way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil, floor, inf, isfinite, trunc
from typing import Any

from clary.resources.scaling import Cooling, ScalableTarget
from clary.resources.scaling_policies import Rule, StepScaling, TargetTracking

_NOISE = 1e-9
"""What floating point adds to a product that ought to be whole."""

MOST = 2**31 - 1


class NotScaled(StrEnum):
    """Why nothing is done, as AWS writes it."""

    FLAPPING = "AutoScalingAnticipatedFlapping"
    UNSCALABLE = "TargetServicePutResourceAsUnscalable"
    AT_MAX = "AlreadyAtMaxCapacity"
    AT_MIN = "AlreadyAtMinCapacity"
    AT_DESIRED = "AlreadyAtDesiredCapacity"


class Watch(StrEnum):
    """What the alarms of a target tracking policy say together."""

    HIGH = "high"
    LOW = "low"
    BETWEEN = "between"
    UNKNOWN = "unknown"
    """No data: nothing is scaled either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An alarm that calls a policy."""

    alarm: str
    state: str
    """As CloudWatch writes it: ``ALARM`` for nearly all."""

    value: float | None
    """Latest value of the metric."""

    threshold: float
    is_above: bool
    """Whether the alarm watches for values above its threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """A policy, and what its alarms say."""

    name: str
    rule: Rule
    calls: Sequence[Call] = ()
    watch: Watch = Watch.BETWEEN
    """Of target tracking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do."""

    policy: str
    call: Call
    capacity: int
    """What the capacity shall become; what it is when ``reason`` says why it stays."""

    reason: NotScaled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    policy: PolicyView
    call: Call
    capacity: int
    would_flap: bool = False
    """Whether less would bring the metric back over its target."""

    @property
    def is_tracking(self) -> bool:
        return isinstance(self.policy.rule, TargetTracking)


def decide(
    target: ScalableTarget, capacity: int, policies: Sequence[PolicyView], now: datetime
) -> Decision | None:
    """Return what to do for the policies that are called.

    Args:
        target: Bounds, what is suspended, and what still cools.
        capacity: What the target's number is.
        policies: All policies of the target.
        now: Wall time.

    Returns:
        None when there is nothing to do and nothing to say about it.
    """
    proposals = [p for policy in policies for p in _proposals(policy, capacity)]
    out = [p for p in proposals if p.capacity > capacity]
    if out:
        if target.suspended.scale_out:
            return None
        return _scale_out(target, capacity, out, now)
    may_follow = _trackers_agree(policies) and not any(p.would_flap for p in proposals)
    inward = [p for p in proposals if p.capacity < capacity and (may_follow or not p.is_tracking)]
    if inward:
        if target.suspended.scale_in:
            return None
        return _scale_in(target, capacity, inward, now)
    return _reason_to_stay(target, capacity, policies, proposals)


def not_scaled_details(reason: NotScaled, target: ScalableTarget, capacity: int) -> dict[str, Any]:
    """Return a member of ``NotScaledReasons``."""
    extra = {
        NotScaled.AT_MAX: {"MaxCapacity": target.max_capacity},
        NotScaled.AT_MIN: {"MinCapacity": target.min_capacity},
        NotScaled.AT_DESIRED: {"CurrentCapacity": capacity},
    }
    return {"Code": reason.value, **extra.get(reason, {})}


def bounded(target: ScalableTarget, capacity: int) -> int:
    """Return the capacity within the bounds that is nearest."""
    return min(max(capacity, target.min_capacity), target.max_capacity)


def cooled(
    cooling: Cooling, *, previous: int, capacity: int, cooldown_s: float, at: datetime
) -> Cooling:
    """Return what is held back after a change by a policy has been made.

    Args:
        cooling: What was held back before.
        previous: The number before the change.
        capacity: The number after it.
        cooldown_s: Longest scale-out cooldown of the target's policies.
        at: When the change was done.
    """
    if capacity < previous:
        return Cooling(in_at=at)
    still = _is_within(cooling.out_at, cooldown_s, at)
    return Cooling(out_at=at, out_added=capacity - previous + (cooling.out_added if still else 0))


def track(capacity: int, value: float, target: float) -> int:
    """Return the least capacity that brings a proportional metric to its target or below."""
    if not isfinite(value):
        return capacity
    wanted = capacity * max(value, 0.0) / target
    return min(ceil(wanted * (1 - _NOISE)), MOST)


def adjust(rule: StepScaling, capacity: int, adjustment: int) -> int:
    """Return the capacity after a step."""
    if rule.adjustment_type == "ExactCapacity":
        return adjustment
    if rule.adjustment_type == "ChangeInCapacity":
        return min(max(capacity + adjustment, 0), MOST)
    change = _round_percent(capacity * adjustment / 100)
    if change and abs(change) < rule.min_magnitude:
        change = rule.min_magnitude if change > 0 else -rule.min_magnitude
    return min(max(capacity + change, 0), MOST)


def find_adjustment(rule: StepScaling, call: Call) -> int | None:
    """Return the adjustment of the step that the latest value falls into; None: into none."""
    if call.value is None:
        return None
    distance = call.value - call.threshold
    for step in rule.steps:
        if call.is_above and step.lower <= distance < step.upper:
            return step.adjustment
        if not call.is_above and step.lower < distance <= step.upper:
            return step.adjustment
        if distance in (inf, -inf) and distance in (step.lower, step.upper):
            return step.adjustment
    return None


def _proposals(policy: PolicyView, capacity: int) -> Iterable[_Proposal]:
    for call in policy.calls:
        if isinstance(policy.rule, StepScaling):
            adjustment = find_adjustment(policy.rule, call)
            if adjustment is not None:
                wanted = adjust(policy.rule, capacity, adjustment)
                yield _Proposal(policy=policy, call=call, capacity=wanted)
        elif call.value is not None:
            yield from _tracking_proposal(policy, policy.rule, call, capacity)


def _tracking_proposal(
    policy: PolicyView, rule: TargetTracking, call: Call, capacity: int
) -> Iterable[_Proposal]:
    assert call.value is not None
    wanted = track(capacity, call.value, rule.target)
    if call.is_above:
        # What the alarm saw may be over by now.
        yield _Proposal(policy=policy, call=call, capacity=max(wanted, capacity))
    elif rule.may_scale_in:
        would_flap = wanted >= capacity > 0
        wanted = min(wanted, capacity)
        yield _Proposal(policy=policy, call=call, capacity=wanted, would_flap=would_flap)


def _reason_to_stay(
    target: ScalableTarget,
    capacity: int,
    policies: Sequence[PolicyView],
    proposals: Sequence[_Proposal],
) -> Decision | None:
    flapping = next((p for p in proposals if p.would_flap), None)
    if flapping is not None:
        if target.suspended.scale_in or not _trackers_agree(policies):
            return None
        return _stay(flapping, capacity, NotScaled.FLAPPING)
    steady = next((p for p in proposals if p.capacity == capacity), None)
    return None if steady is None else _stay(steady, capacity, NotScaled.AT_DESIRED)


def _trackers_agree(policies: Iterable[PolicyView]) -> bool:
    """Whether all target tracking policies that may scale in are ready to, and say how far."""
    return all(
        policy.watch is Watch.LOW and policy.calls
        for policy in policies
        if isinstance(policy.rule, TargetTracking) and policy.rule.may_scale_in
    )


def _scale_out(
    target: ScalableTarget, capacity: int, proposals: Sequence[_Proposal], now: datetime
) -> Decision | None:
    if capacity >= target.max_capacity:
        return _stay(proposals[0], capacity, NotScaled.AT_MAX)
    best: Decision | None = None
    for proposal in proposals:
        rule = proposal.policy.rule
        cooldown_s = rule.cooldown_s if isinstance(rule, StepScaling) else rule.out_cooldown_s
        cools = _is_within(target.cooling.out_at, cooldown_s, now)
        is_exact = isinstance(rule, StepScaling) and rule.adjustment_type == "ExactCapacity"
        added = target.cooling.out_added if cools and not is_exact else 0
        if proposal.capacity - added <= capacity:
            continue
        wanted = bounded(target, proposal.capacity - added)
        if best is None or wanted > best.capacity:
            best = Decision(policy=proposal.policy.name, call=proposal.call, capacity=wanted)
    return best


def _scale_in(
    target: ScalableTarget, capacity: int, proposals: Sequence[_Proposal], now: datetime
) -> Decision | None:
    proposal = max(proposals, key=lambda p: p.capacity)
    if capacity <= target.min_capacity:
        return _stay(proposal, capacity, NotScaled.AT_MIN)
    rule = proposal.policy.rule
    cooldown_s = rule.cooldown_s if isinstance(rule, StepScaling) else rule.in_cooldown_s
    if _is_within(target.cooling.in_at, cooldown_s, now):
        return None
    wanted = bounded(target, proposal.capacity)
    return Decision(policy=proposal.policy.name, call=proposal.call, capacity=wanted)


def _stay(proposal: _Proposal, capacity: int, reason: NotScaled) -> Decision:
    return Decision(
        policy=proposal.policy.name, call=proposal.call, capacity=capacity, reason=reason
    )


def _is_within(since: datetime | None, cooldown_s: float, now: datetime) -> bool:
    # A clock that was put back must not make a cooldown endless.
    return since is not None and since <= now < since + timedelta(seconds=cooldown_s)


def _round_percent(change: float) -> int:
    if 0 < change < 1:
        return 1
    if -1 < change < 0:
        return -1
    return floor(change + _NOISE) if change > 0 else trunc(change - _NOISE)
