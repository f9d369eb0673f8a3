"""How a component comes from one specification to the next, batch by batch. Pure.

::

    launch a batch of new copies ▶ they serve beside the old ones ▶ bake, alarms are watched
      ▶ as many old ones drain ▶ the next batch …                ▶ the update is over
          └── a copy fails, an alarm is on, the time is over: what ran before is wanted again

Old copies always make up what the new ones do not yet, so that capacity never goes below what was
wanted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from clary.control.deployment_plan import AlarmState
from clary.resources.inference_component import (
    ComponentUpdate,
    InferenceComponent,
    RollingPolicy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an update wants now."""

    new_copies: int
    """Copies of the new revision that there should be."""

    old_copies: int
    """Copies of the old one that stay."""

    update: ComponentUpdate | None
    """How far it is now. None: it is over, or given up."""

    why_given_up: str | None = None
    check_again_in_s: float | None = None


def plan_rollout(
    component: InferenceComponent,
    update: ComponentUpdate,
    *,
    healthy: int,
    failure: str | None,
    alarms: Mapping[str, AlarmState],
    now: datetime,
) -> Rollout:
    """Return how an update goes on.

    Args:
        component: The component.
        update: How far its update is.
        healthy: Copies of the new revision that take invocations.
        failure: Why a new copy failed, or cannot be placed; None: none did.
        alarms: States of the policy's alarms.
        now: Wall time.
    """
    policy = RollingPolicy.parse(component.deployment_config)
    copies = component.desired_copies
    reason = failure or _why_stopped(policy, update, alarms, now)
    if reason is not None:
        return Rollout(
            new_copies=0,
            old_copies=copies,
            update=None,
            why_given_up=f"The update failed: {reason}",
        )
    size = policy.batch(copies)
    done = min((update.batch - 1) * size, copies)
    target = min(update.batch * size, copies)
    waiting = Rollout(
        new_copies=target, old_copies=copies - done, update=update, check_again_in_s=1.0
    )
    if healthy < target:
        return waiting
    if update.baking_since is None:
        # Written first, published with it: what bakes takes traffic.
        return replace(waiting, update=replace(update, baking_since=now))
    baked_s = (now - update.baking_since).total_seconds()
    if baked_s < policy.wait_s:
        return replace(waiting, check_again_in_s=min(policy.wait_s - baked_s, 1.0))
    if target >= copies:
        return Rollout(new_copies=copies, old_copies=0, update=None)
    following = replace(update, batch=update.batch + 1, baking_since=None)
    return Rollout(new_copies=target, old_copies=copies - target, update=following)


def _why_stopped(
    policy: RollingPolicy,
    update: ComponentUpdate,
    alarms: Mapping[str, AlarmState],
    now: datetime,
) -> str | None:
    for name in policy.alarms:
        state = alarms.get(name)
        if state is not None and state.value == "ALARM":
            return f'alarm "{name}" is in ALARM: {state.reason}'
    age_s = (now - update.started_at).total_seconds()
    if policy.timeout_s is not None and age_s > policy.timeout_s:
        return f"it took longer than MaximumExecutionTimeoutInSeconds, {policy.timeout_s:g} s."
    return None
