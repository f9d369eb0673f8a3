"""Decide what the components of an endpoint need next, all of them together.

Pure, as ``endpoint_plan.py`` is: no clock, no I/O. Copies of all components share the instances of
their variant, so they are planned in one go, oldest component first::

    component is ...     copies                                            route
    Creating, Updating,  start what is missing where there is room;        those that are healthy
    InService            replace what failed, was lost, or lost its
                         instance; drain and stop what is too much
    Failed               stop all                                          none
    Deleting             stop all, then remove the component               none

Copies of an older revision, or whose instance is gone, serve until newer ones do. What one
component needs is in ``component_copies.py``, what has room where in ``component_placement.py``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from clary.control.component_copies import CopyNeeds, Verdict, needs_of, state_of
from clary.control.component_placement import Host, Placed, Wanted, grow, place, vacate
from clary.control.deployment_plan import AlarmState
from clary.control.instances import (
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.control.variant_plan import wind_up
from clary.resources.inference_component import (
    ComponentStatus,
    ComputeResources,
    InferenceComponent,
)
from clary.store.inference_components import ComponentState


@dataclass(frozen=True, slots=True)
class AddCopy:
    """Write the record of a new copy on an instance, and start it."""

    component: str
    host_id: str
    revision: int
    share: ComputeResources


CopyAction = AddCopy | StartInstance | StopInstance | RemoveInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidation:
    """How copies are moved to fewer instances (``ScaleInPolicy`` with CONSOLIDATION)."""

    step: int = 1
    """Most instances at a time."""

    cooldown_s: float = 1200.0
    """Time since the last operation on endpoint or components."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantHosts:
    """The instances of a variant for components."""

    name: str
    instance_type: str
    size: ComputeResources
    """What one instance has."""

    ids: tuple[str, ...]
    """Those that are there, oldest first."""

    desired: int
    """How many are wanted now."""

    bounds: tuple[int, int] | None = None
    """Least and most of them, where they follow the copies. None: they do not."""

    is_free: bool = True
    """Whether the endpoint takes another count now."""

    refusal: str | None = None
    """Why there cannot be more of them, where somebody said no."""

    consolidation: Consolidation | None = None
    """Whether copies are moved so that instances become empty. None: they are not."""

    vacating: frozenset[str] = frozenset()
    """Instances whose copies are being moved to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentsPlan:
    """What to do now, and what has become true."""

    actions: tuple[CopyAction, ...] = ()
    states: Mapping[str, ComponentState] = field(default_factory=dict)
    serving: Mapping[str, tuple[KnownInstance, ...]] = field(default_factory=dict)
    """Copies that take invocations, by component. Those that are not in it have no route."""

    waits: frozenset[str] = frozenset()
    """Components without a copy that serves, whose invocations wait for one nevertheless: they had
    some."""

    gone: tuple[str, ...] = ()
    """Components of which nothing is left once the actions are done."""

    instance_counts: Mapping[str, int] = field(default_factory=dict)
    """Instances that variants should have, where that changes."""

    released: tuple[str, ...] = ()
    """Instances that go with that: nothing is on them."""

    vacated: tuple[str, ...] = ()
    """Instances whose copies should be moved to others from now on."""

    needs_room: bool = False
    """A copy found no room."""

    check_again_in_s: float | None = None


def plan_components(
    components: Sequence[InferenceComponent],
    copies: Sequence[KnownInstance],
    variants: Sequence[VariantHosts],
    *,
    now: datetime,
    alarms: Mapping[str, AlarmState],
    patience_s: float,
) -> ComponentsPlan:
    """Return the next small step of an endpoint's components.

    Args:
        components: All of the endpoint, oldest first; adapters are passed over.
        copies: All that have a record, oldest first. ``variant_name`` of a record is the component.
        variants: Those of the endpoint that are for components.
        now: Wall time.
        alarms: States of the alarms that updates watch.
        patience_s: How long an update waits for room, in seconds.
    """
    actions: list[CopyAction] = []
    states: dict[str, ComponentState] = {}
    serving: dict[str, tuple[KnownInstance, ...]] = {}
    waits: set[str] = set()
    gone: list[str] = []
    checks: list[float] = []
    counts: dict[str, int] = {}
    released: list[str] = []
    models = [component for component in components if not component.is_adapter]
    known = {component.name for component in models}
    actions += wind_up([c for c in copies if c.record.variant_name not in known], drains=True)
    by_variant = {variant.name: variant for variant in variants}
    hosts = {variant.name: _hosts_of(variant, copies) for variant in variants}
    wanted: dict[str, list[Wanted]] = {variant.name: [] for variant in variants}
    unplaced: dict[str, tuple[CopyNeeds, int]] = {}
    for component in models:
        mine = [c for c in copies if c.record.variant_name == component.name]
        if component.status in (ComponentStatus.DELETING, ComponentStatus.FAILED):
            actions += wind_up(mine, drains=True)
            if component.status is ComponentStatus.DELETING and not any(c.observed for c in mine):
                gone.append(component.name)
            continue
        variant = by_variant.get(component.variant_name)
        vacating = frozenset[str]() if variant is None else variant.vacating
        places = [h for h in hosts.get(component.variant_name, []) if h.id not in vacating]
        needs = needs_of(
            component,
            mine,
            hosts=places,
            size=None if variant is None else variant.size,
            instance_type="" if variant is None else variant.instance_type,
            now=now,
            alarms=alarms,
        )
        missing = Wanted(component.name, component.spec, needs.missing)
        found = place(missing, places)
        actions += needs.actions
        actions += [
            AddCopy(component.name, host_id, component.revision, component.spec.needs)
            for host_id in found
        ]
        left = needs.missing - len(found)
        unplaced[component.name] = (needs, left)
        if left and variant is not None:
            wanted[variant.name].append(replace(missing, count=left))
        checks += needs.checks
    for variant in variants:
        count, free = _follow(variant, hosts[variant.name], wanted[variant.name])
        if count != variant.desired or free:
            counts[variant.name] = count
            released += free
    vacated = [
        host_id
        for variant in variants
        if variant.name not in counts and not wanted[variant.name]
        for host_id in _consolidate(variant, hosts[variant.name], models, copies, now)
    ]
    for component in models:
        if component.name not in unplaced:
            continue
        needs, left = unplaced[component.name]
        variant = by_variant.get(component.variant_name)
        grows = (
            variant is not None
            and variant.refusal is None
            and (
                counts.get(variant.name, variant.desired) > len(variant.ids) or not variant.is_free
            )
        )
        verdict: Verdict = state_of(
            component,
            needs,
            unplaced=left,
            why=_why_no_room(component, variant),
            may_grow=grows,
            now=now,
            patience_s=patience_s,
        )
        states[component.name] = verdict.state
        if verdict.is_failed:
            continue
        serving[component.name] = needs.serving
        if component.status is ComponentStatus.IN_SERVICE and needs.live:
            waits.add(component.name)
        if verdict.check_again_in_s is not None:
            checks.append(verdict.check_again_in_s)
    return ComponentsPlan(
        actions=tuple(actions),
        states=states,
        serving=serving,
        waits=frozenset(waits),
        gone=tuple(gone),
        instance_counts=counts,
        released=tuple(released),
        vacated=tuple(vacated),
        needs_room=any(left for _, left in unplaced.values()),
        check_again_in_s=min(checks, default=None),
    )


def _hosts_of(variant: VariantHosts, copies: Sequence[KnownInstance]) -> list[Host]:
    """Return the instances with what their copies leave free: those that are stopping count."""
    hosts = {id: Host(id, variant.size, Counter()) for id in variant.ids}
    for copy in copies:
        host = hosts.get(copy.record.host_id or "")
        if host is not None:
            host.take(copy.record.variant_name, copy.record.share or ComputeResources())
    return list(hosts.values())


def _follow(
    variant: VariantHosts, hosts: Sequence[Host], wanted: Sequence[Wanted]
) -> tuple[int, list[str]]:
    """Return how many instances a variant should have, and which of them go."""
    if variant.bounds is None or not variant.is_free:
        return variant.desired, []
    least, most = variant.bounds
    coming = [
        Host(f"coming-{i}", variant.size, is_wanted_only=True)
        for i in range(variant.desired - len(hosts))
    ]
    if wanted:
        room = max(most - max(variant.desired, len(hosts)), 0)
        more = grow([*hosts, *coming], wanted, size=variant.size, at_most=room)
        return variant.desired + more, []
    if coming or len(hosts) != variant.desired:
        return variant.desired, []
    empty = [host.id for host in hosts if not host.copies.total()]
    go = empty[len(empty) - min(len(empty), max(variant.desired - least, 0)) :]
    return variant.desired - len(go), go


def _consolidate(
    variant: VariantHosts,
    hosts: Sequence[Host],
    components: Sequence[InferenceComponent],
    copies: Sequence[KnownInstance],
    now: datetime,
) -> list[str]:
    """Return the instances whose copies should move to others, when all has been quiet."""
    mine = {c.name: c for c in components if c.variant_name == variant.name}
    there = [copy for copy in copies if copy.record.variant_name in mine]
    if (
        variant.consolidation is None
        or variant.bounds is None
        or variant.vacating
        or not variant.is_free
        or any(c.status is not ComponentStatus.IN_SERVICE for c in mine.values())
        or not all(copy.is_healthy for copy in there)
    ):
        return []
    changed_at = [c.modified_at for c in mine.values()] + [c.record.created_at for c in there]
    quiet_s = min(((now - at).total_seconds() for at in changed_at), default=0.0)
    if quiet_s < variant.consolidation.cooldown_s:
        return []
    placed = [
        Placed(c.record.variant_name, mine[c.record.variant_name].spec, c.record.host_id or "")
        for c in there
    ]
    step = min(variant.consolidation.step, variant.desired - variant.bounds[0])
    return vacate(hosts, placed, at_most=max(step, 0))


def _why_no_room(component: InferenceComponent, variant: VariantHosts | None) -> str:
    """Return why a copy finds no room, as a sentence."""
    if variant is None:
        return f'Variant "{component.variant_name}" has gone, or has a model of its own now.'
    if variant.refusal:
        return variant.refusal
    text = (
        f"Each copy needs {component.spec.needs.words()}, and none of the {len(variant.ids)} "
        f'{variant.instance_type} instances of variant "{variant.name}" has room for it.'
    )
    if variant.bounds is not None:
        text += f" ManagedInstanceScaling allows no more than {variant.bounds[1]} instances."
    return text
