"""Decide what an endpoint needs next.

Pure: no clock, no I/O, no asyncio. All that the decision depends on is an argument; all that it
decides is in the returned plan. The pass in ``endpoints.py`` does what it says::

    endpoint is ...        instances                                      route
    Creating               start what is missing; one failed: give up     none until all are healthy
    InService, Updating    add, replace what is lost or failed, drain     those that are healthy
                           and stop what is too much
    Failed                 stop all                                       none
    Deleting, gone         stop all, then remove the endpoint             none
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import FINAL, InstanceState
from clary.resources.endpoint import (
    MAX_FAILURE_REASON,
    SERVING,
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    VariantState,
)
from clary.resources.instance import InstanceRecord
from clary.resources.routing_table import EndpointRoute, InstanceRoute, VariantRoute

REPLACE_FAILED_AFTER_S = 30.0
"""Least age of an instance that failed when it is replaced, so that a model that no longer loads is
tried every half minute and not all the time."""

REPLACE_LOST_AFTER_S = 1.0
"""The same for an instance that was lost: its host was killed, which is rarely its fault."""


@dataclass(frozen=True, slots=True)
class AddInstance:
    """Write the record of a new instance of a variant, and start it."""

    variant_name: str


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start an instance that has a record, and does not run."""

    id: str
    variant_name: str


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Mark the record, and stop the instance."""

    id: str
    drains: bool = False
    """Whether its open invocations are waited for, after it has left the route."""


@dataclass(frozen=True, slots=True)
class RemoveInstance:
    """Remove the record of an instance that was to stop, and is gone."""

    id: str


Action = AddInstance | StartInstance | StopInstance | RemoveInstance


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstance:
    """An instance: what was written, and what is seen."""

    record: InstanceRecord
    observed: ObservedInstance | None
    """None: the fleet has not started it in this life, or it is gone."""

    @property
    def is_healthy(self) -> bool:
        """Whether it answered a ping in this life, and can take invocations."""
        return (
            not self.record.stopping
            and self.observed is not None
            and self.observed.state is InstanceState.HEALTHY
            and bool(self.observed.containers)
            and all(container.workers for container in self.observed.containers)
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and will not come back by itself."""
        return self.observed is not None and self.observed.state in FINAL

    @property
    def still_serves(self) -> bool:
        """Whether it is lost, but its workers live: better than nothing until it is replaced."""
        return (
            not self.record.stopping
            and self.observed is not None
            and self.observed.state is InstanceState.LOST
            and bool(self.observed.containers)
        )


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
) -> Plan:
    """Return the next small step.

    Args:
        endpoint: What is wanted; None when it has been removed.
        instances: All that have a record, oldest first.
        now: Wall time, for the ages of instances.
        limits: Of the settings.
    """
    if endpoint is None or endpoint.status in (EndpointStatus.DELETING, EndpointStatus.FAILED):
        actions = _wind_up(instances)
        is_deleting = endpoint is not None and endpoint.status is EndpointStatus.DELETING
        return Plan(
            actions=actions,
            variants=_counts(endpoint, ()) if endpoint is not None else (),
            # Records of the last ones are removed in the same pass, before the endpoint.
            is_gone=is_deleting and all(i.observed is None for i in instances),
        )
    if endpoint.status is EndpointStatus.CREATING:
        reason = unsupported(endpoint) or _why_given_up(endpoint, instances, now, limits)
        if reason is not None:
            return Plan(event=EndpointEvent.GAVE_UP, failure_reason=_cut(reason))
    plan = _plan_serving(endpoint, instances, now)
    if endpoint.status is EndpointStatus.UPDATING and plan.event is None:
        # Only what this change has added can speak against it.
        added = [i for i in instances if i.record.generation == endpoint.generation]
        reason = _why_given_up(endpoint, added, now, limits)
        if reason is not None:
            return replace(plan, event=EndpointEvent.GAVE_UP, failure_reason=_cut(reason))
    return plan


def _plan_serving(endpoint: Endpoint, instances: Sequence[KnownInstance], now: datetime) -> Plan:
    actions: list[Action] = []
    kept: list[KnownInstance] = []
    checks: list[float] = []
    is_ready = True
    for variant in endpoint.all_variants:
        mine = [i for i in instances if i.record.variant_name == variant.name]
        variant_actions, variant_kept, check = _plan_variant(variant, mine, now)
        actions += variant_actions
        kept += variant_kept
        if check is not None:
            checks.append(check)
        healthy = sum(instance.is_healthy for instance in variant_kept)
        is_ready = is_ready and healthy >= _needed(endpoint.status, variant)
    names = {variant.name for variant in endpoint.all_variants}
    actions += _wind_up([i for i in instances if i.record.variant_name not in names])
    serves = endpoint.status in SERVING or is_ready
    settled = endpoint.status is EndpointStatus.IN_SERVICE
    return Plan(
        actions=tuple(actions),
        route=_route(endpoint, kept) if serves else None,
        variants=_counts(endpoint, kept),
        event=EndpointEvent.READY if is_ready and not settled else None,
        check_again_in_s=min(checks, default=None),
    )


def _needed(status: EndpointStatus, variant: VariantState) -> int:
    """Return how many healthy instances of a variant make the endpoint ready.

    A change waits for the instances that it adds, and for nothing else: weights must be movable
    away from a variant that is broken. Going back waits for none, for the old ones are there.
    """
    if status is EndpointStatus.ROLLING_BACK:
        return 0
    if status is EndpointStatus.UPDATING and variant.previous_count is not None:
        return variant.desired_count if variant.desired_count > variant.previous_count else 0
    return variant.desired_count


def _plan_variant(
    variant: VariantState, instances: Sequence[KnownInstance], now: datetime
) -> tuple[list[Action], list[KnownInstance], float | None]:
    """Return actions, the instances that stay, and when to look again."""
    ending = [i for i in instances if i.record.stopping]
    actions: list[Action] = list(_wind_up(ending, drains=True))
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
        wait_s = _replace_after(instance) - (now - instance.record.created_at).total_seconds()
        over.append((wait_s, instance))
    for wait_s, instance in over:
        if wait_s > 0 and len(live) + len(waiting) < variant.desired_count:
            waiting.append(wait_s)  # holds its place until then
        else:
            actions.append(StopInstance(instance.record.id))
    surplus = len(live) - variant.desired_count
    if surplus > 0:
        # The newest of those that do not work, then the newest of those that do.
        order = sorted(reversed(live), key=lambda instance: instance.is_healthy)
        actions += [StopInstance(instance.record.id, drains=True) for instance in order[:surplus]]
        live = [instance for instance in live if instance not in order[:surplus]]
    actions += [
        StartInstance(instance.record.id, variant.name)
        for instance in live
        if instance.observed is None
    ]
    missing = variant.desired_count - len(live) - len(waiting)
    actions += [AddInstance(variant.name)] * max(missing, 0)
    # As many orphans as there are healthy instances missing go on serving.
    needed = max(variant.desired_count - sum(instance.is_healthy for instance in live), 0)
    actions += [StopInstance(orphan.record.id) for orphan in orphans[needed:]]
    return actions, [*live, *orphans[:needed]], min(waiting, default=None)


def unsupported(endpoint: Endpoint) -> str | None:
    """Return why this server cannot run an endpoint of this kind yet, or None."""
    config = endpoint.config
    kind = None
    if config.definition.get("AsyncInferenceConfig"):
        kind = "asynchronous inference (AsyncInferenceConfig)"
    for variant in config.all_variants:
        model = endpoint.models.get(variant.model_name) if variant.model_name else None
        if variant.is_serverless:
            kind = "serverless variants (ServerlessConfig)"
        elif model is None:
            kind = "variants without a model, for inference components"
        elif not model.containers:
            kind = "models without a container, for inference components"
        elif len(model.containers) > 1 and any(c.mode == "MultiModel" for c in model.containers):
            kind = "multi-model containers (Mode=MultiModel) inside a pipeline"
    if kind is None:
        return None
    return f"This version of Clary does not run {kind} yet: it is planned, and not built."


def _why_given_up(
    endpoint: Endpoint,
    instances: Sequence[KnownInstance],
    now: datetime,
    limits: StartLimits,
) -> str | None:
    """Return why an endpoint that is Creating or Updating never will be InService, or None."""
    reasons = []
    for variant in endpoint.config.all_variants:
        limit_s = (variant.startup_timeout_s or limits.startup_timeout_s) + (
            variant.download_timeout_s or limits.download_timeout_s
        )
        is_late = (now - endpoint.modified_at).total_seconds() > limit_s
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


def _replace_after(instance: KnownInstance) -> float:
    assert instance.observed is not None
    is_lost = instance.observed.state is InstanceState.LOST
    return REPLACE_LOST_AFTER_S if is_lost else REPLACE_FAILED_AFTER_S


def _wind_up(instances: Sequence[KnownInstance], *, drains: bool = False) -> tuple[Action, ...]:
    """Return what brings instances to their end: stop those that are there, forget the others."""
    actions: list[Action] = []
    for instance in instances:
        if instance.observed is None:
            actions.append(RemoveInstance(instance.record.id))
        elif not instance.record.stopping or instance.observed.state is not InstanceState.STOPPING:
            actions.append(StopInstance(instance.record.id, drains=drains))
    return tuple(actions)


def _route(endpoint: Endpoint, instances: Sequence[KnownInstance]) -> EndpointRoute:
    strategies = {variant.name: variant.routing for variant in endpoint.config.all_variants}

    def route_of(variant: VariantState) -> VariantRoute:
        return VariantRoute(
            name=variant.name,
            weight=variant.desired_weight,
            instances=tuple(
                InstanceRoute(id=i.record.id, containers=i.observed.containers)
                for i in instances
                if i.record.variant_name == variant.name
                and (i.is_healthy or i.still_serves)
                and i.observed
            ),
            routing=strategies[variant.name],
            is_direct=_is_direct(endpoint, variant.name),
        )

    shadow = endpoint.shadow_variants[0] if endpoint.shadow_variants else None
    return EndpointRoute(
        name=endpoint.name,
        variants=tuple(route_of(variant) for variant in endpoint.variants),
        shadow=None if shadow is None else route_of(shadow),
        capture=endpoint.config.capture,
    )


def _is_direct(endpoint: Endpoint, variant_name: str) -> bool:
    variant = next((v for v in endpoint.config.all_variants if v.name == variant_name), None)
    model = endpoint.models.get(variant.model_name or "") if variant is not None else None
    return model is not None and model.is_direct


def _counts(endpoint: Endpoint, instances: Sequence[KnownInstance]) -> tuple[VariantState, ...]:
    return tuple(
        replace(
            variant,
            current_count=sum(
                i.is_healthy for i in instances if i.record.variant_name == variant.name
            ),
            current_weight=variant.desired_weight,
        )
        for variant in endpoint.all_variants
    )


def _cut(reason: str) -> str:
    """Return a reason that fits: its beginning says what, its end is the model's last words."""
    if len(reason) <= MAX_FAILURE_REASON:
        return reason
    head, gap = 400, " ... "
    return reason[:head] + gap + reason[-(MAX_FAILURE_REASON - head - len(gap)) :]
