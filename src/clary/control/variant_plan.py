"""Decide which instances of one variant are added, replaced and stopped. Pure."""

from collections.abc import Sequence
from datetime import datetime

from clary.control.instances import (
    Action,
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.launchers.base import InstanceState

REPLACE_FAILED_AFTER_S = 30.0
"""Least age of an instance that failed when it is replaced, so that a model that no longer loads is
tried every half minute and not all the time."""

REPLACE_LOST_AFTER_S = 1.0
"""The same for an instance that was lost: its host was killed, which is rarely its fault."""


def plan_variant(
    name: str, count: int, fleet: int, instances: Sequence[KnownInstance], now: datetime
) -> tuple[list[Action], list[KnownInstance], float | None]:
    """Return what a variant of one fleet needs.

    Args:
        name: Of the variant.
        count: Instances that it should have.
        fleet: Number of the fleet, for those that are added.
        instances: Those that it has, oldest first.
        now: Wall time.

    Returns:
        Actions, the instances that stay, and when to look again.
    """
    ending = [i for i in instances if i.record.stopping]
    actions: list[Action] = list(wind_up(ending, drains=True))
    live: list[KnownInstance] = []
    waiting: list[float] = []
    over: list[tuple[float, KnownInstance]] = []
    orphans = []
    for instance in instances:
        if instance.record.stopping:
            continue
        if not instance.is_over:
            live.append(instance)
            continue
        if instance.still_serves:
            orphans.append(instance)
            continue
        wait_s = replace_after_s(instance) - (now - instance.record.created_at).total_seconds()
        over.append((wait_s, instance))
    for wait_s, instance in over:
        if wait_s > 0 and len(live) + len(waiting) < count:
            waiting.append(wait_s)  # holds its place until then
        else:
            actions.append(StopInstance(instance.record.id))
    surplus = len(live) - count
    if surplus > 0:
        # The newest of those that do not work, then the newest of those that do.
        order = sorted(reversed(live), key=lambda instance: instance.is_healthy)
        actions += [StopInstance(instance.record.id, drains=True) for instance in order[:surplus]]
        live = [instance for instance in live if instance not in order[:surplus]]
    actions += [
        StartInstance(instance.record.id, name, fleet)
        for instance in live
        if instance.observed is None
    ]
    missing = count - len(live) - len(waiting)
    actions += [AddInstance(name, fleet)] * max(missing, 0)
    # As many orphans as there are healthy instances missing go on serving.
    needed = max(count - sum(instance.is_healthy for instance in live), 0)
    actions += [StopInstance(orphan.record.id) for orphan in orphans[needed:]]
    return actions, [*live, *orphans[:needed]], min(waiting, default=None)


def wind_up(
    instances: Sequence[KnownInstance], *, drains: bool = False
) -> tuple[StopInstance | RemoveInstance, ...]:
    """Return what brings instances to their end: stop those that are there, forget the others."""
    actions: list[StopInstance | RemoveInstance] = []
    for instance in instances:
        if instance.observed is None:
            actions.append(RemoveInstance(instance.record.id))
        elif not instance.record.stopping or instance.observed.state is not InstanceState.STOPPING:
            actions.append(StopInstance(instance.record.id, drains=drains))
    return tuple(actions)


def replace_after_s(instance: KnownInstance) -> float:
    """Return the least age of an instance that is over when it is replaced, in seconds."""
    assert instance.observed is not None
    is_lost = instance.observed.state is InstanceState.LOST
    return REPLACE_LOST_AFTER_S if is_lost else REPLACE_FAILED_AFTER_S
