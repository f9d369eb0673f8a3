"""Makes inference components what the store says they are: one pass for an endpoint's components.

Observe → plan → apply → record, as for endpoints (``endpoints.py``), with the same order: records
of what is to start and marks of what is to stop, then routes, then processes, then what is true.
The endpoint's instances follow in the end, by a change of what the endpoint wants.
"""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from clary.clock import Clock
from clary.control.component_adapters import AdapterPlan, plan_adapter
from clary.control.component_routes import route_of
from clary.control.deployment_plan import AlarmState
from clary.control.endpoint_plan import StartLimits
from clary.control.endpoints import AlarmStates, InstanceFleet, RoutePublisher
from clary.control.inference_component_plan import (
    AddCopy,
    ComponentsPlan,
    Consolidation,
    VariantHosts,
    plan_components,
)
from clary.control.instances import (
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.errors import LimitExceeded
from clary.fleet.adapters import AdapterState
from clary.fleet.instance import InstanceOrder
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import SERVING, Endpoint, EndpointStatus
from clary.resources.endpoint_config import ProductionVariant
from clary.resources.inference_component import (
    ComponentSpec,
    ComputeResources,
    InferenceComponent,
    RollingPolicy,
    component_route,
    hosts_name,
)
from clary.resources.instance import InstanceRecord
from clary.resources.instance_types import instance_type
from clary.store.endpoints import Endpoints
from clary.store.hosted_instances import HostedInstances
from clary.store.inference_components import InferenceComponents
from clary.store.instances import Instances

log = logging.getLogger(__name__)

DRAIN_CHECK_S = 0.1
RETRY_S = 1.0
REFUSED_CHECK_S = 10.0
"""When instances are asked for again that a quota has refused, in seconds."""


class AdapterLoads(Protocol):
    """Who brings adapters to copies (``fleet/adapters.py``)."""

    def on(self, instance_id: str) -> Mapping[str, AdapterState]:
        """Return the adapters of a copy, by name."""
        ...

    def load(self, instance_id: str, name: str, revision: int, url: str) -> None: ...

    def unload(self, instance_id: str, name: str) -> None: ...


class ComponentReconciler:
    """Brings the components of an endpoint a step closer to what is wanted.

    Args:
        components: What is wanted.
        endpoints: Where they are.
        instances: What was begun: copies, and the endpoints' instances.
        hosted: Where the numbers of instances are changed.
        alarms: States of the alarms that roll updates back.
        fleet: Who runs copies, and holds the endpoints' instances.
        adapters: Returns who brings adapters to copies, once the fleet is opened.
        publisher: Who tells the gateways.
        clock: For the ages of copies.
        limits: Time limits of the settings.
    """

    def __init__(
        self,
        components: InferenceComponents,
        endpoints: Endpoints,
        instances: Instances,
        hosted: HostedInstances,
        alarms: AlarmStates,
        fleet: InstanceFleet,
        adapters: Callable[[], AdapterLoads],
        publisher: RoutePublisher,
        clock: Clock,
        limits: StartLimits,
    ) -> None:
        self._components = components
        self._endpoints = endpoints
        self._instances = instances
        self._hosted = hosted
        self._alarms = alarms
        self._fleet = fleet
        self._adapters = adapters
        self._publisher = publisher
        self._clock = clock
        self._limits = limits
        self._published: dict[str, set[str]] = {}
        """Components with a route, by endpoint."""
        self._active: set[str] = set()
        """Endpoints that have components, as of their last pass."""
        self._refusals: dict[str, str] = {}
        """Why an endpoint could not have more instances when it last asked."""
        self._vacating: dict[str, set[str]] = {}
        """Instances whose copies are being moved. Forgotten by a restart, which ends the moving."""

    async def names(self) -> set[str]:
        """Return the endpoints that have components."""
        return await self._components.endpoint_names()

    def looks_after(self, endpoint_name: str) -> bool:
        """Whether an endpoint had components at the last pass, which a change of it concerns."""
        return endpoint_name in self._active

    async def reconcile(self, endpoint_name: str) -> float | None:
        """Do one pass; return in how many seconds to look again, whatever happens till then."""
        endpoint = await self._endpoints.find(endpoint_name)
        components = await self._components.of_endpoint(endpoint_name)
        if components:
            self._active.add(endpoint_name)
        else:
            self._active.discard(endpoint_name)
        name = hosts_name(endpoint_name)
        records = await self._instances.list(name)
        observed = {copy.id: copy for copy in await self._fleet.observe(name)}
        copies = [KnownInstance(record=r, observed=observed.get(r.id)) for r in records]
        plan = plan_components(
            components,
            copies,
            await self._variants(endpoint_name, endpoint),
            now=self._clock.now(),
            alarms=await self._states(components),
            patience_s=self._limits.startup_timeout_s + self._limits.download_timeout_s,
        )
        added = await self._write_intent(endpoint_name, plan)
        adapters = self._plan_adapters(components, plan)
        await self._publish(endpoint_name, endpoint, components, plan, adapters)
        is_draining = await self._apply(endpoint_name, endpoint, components, plan, records, added)
        await self._record(components, plan)
        await self._bring_adapters(components, adapters)
        checks = [plan.check_again_in_s, DRAIN_CHECK_S if is_draining else None]
        checks.append(await self._follow(endpoint_name, endpoint, plan))
        checks.append(self._consolidate(endpoint_name, plan))
        return min((check for check in checks if check is not None), default=None)

    async def _variants(self, endpoint_name: str, endpoint: Endpoint | None) -> list[VariantHosts]:
        if endpoint is None:
            return []
        observed = {each.id: each for each in await self._fleet.observe(endpoint_name)}
        records = [
            record
            for record in await self._instances.list(endpoint_name)
            if not record.stopping and record.fleet == endpoint.fleet
        ]
        states = {state.name: state for state in endpoint.variants}
        variants = []
        for variant in endpoint.config.variants:
            if variant.model_name is not None or variant.instance_type is None:
                continue
            mine = [r for r in records if r.variant_name == variant.name]
            failed = {
                r.id: observed[r.id].reason
                for r in mine
                if r.id in observed and observed[r.id].state is InstanceState.FAILED
            }
            variants.append(
                VariantHosts(
                    name=variant.name,
                    instance_type=variant.instance_type,
                    size=ComputeResources.of_type(instance_type(variant.instance_type)),
                    ids=tuple(r.id for r in mine if r.id not in failed),
                    desired=states[variant.name].desired_count,
                    bounds=variant.instance_bounds,
                    is_free=(
                        endpoint.status is EndpointStatus.IN_SERVICE and endpoint.deployment is None
                    ),
                    consolidation=_consolidation(variant),
                    vacating=frozenset(self._vacating.get(endpoint_name, ())),
                    refusal=self._refusals.get(endpoint_name)
                    or next((reason for reason in failed.values() if reason), None),
                )
            )
        return variants

    async def _states(self, components: Sequence[InferenceComponent]) -> Mapping[str, AlarmState]:
        names: list[str] = []
        for component in components:
            if component.update is not None:
                names += RollingPolicy.parse(component.deployment_config).alarms
        return await self._alarms.states(names) if names else {}

    async def _write_intent(self, endpoint_name: str, plan: ComponentsPlan) -> list[InstanceRecord]:
        added = [
            InstanceRecord(
                id=f"i-{secrets.token_hex(8)}",
                endpoint_name=hosts_name(endpoint_name),
                variant_name=action.component,
                generation=action.revision,
                created_at=self._clock.now(),
                host_id=action.host_id,
                share=action.share,
            )
            for action in plan.actions
            if isinstance(action, AddCopy)
        ]
        await self._instances.add(added)
        await self._instances.mark_stopping(
            [action.id for action in plan.actions if isinstance(action, StopInstance)]
        )
        return added

    async def _publish(
        self,
        endpoint_name: str,
        endpoint: Endpoint | None,
        components: Sequence[InferenceComponent],
        plan: ComponentsPlan,
        adapters: Mapping[str, AdapterPlan],
    ) -> None:
        published: set[str] = set()
        if endpoint is not None and endpoint.status in SERVING:
            for component in components:
                route = route_of(component, endpoint, plan, adapters)
                if route is not None:
                    published.add(component.name)
                    await self._publisher.publish(route.name, route)
        for name in self._published.pop(endpoint_name, set()) - published:
            await self._publisher.publish(component_route(name), None)
        if published:
            self._published[endpoint_name] = published

    async def _apply(
        self,
        endpoint_name: str,
        endpoint: Endpoint | None,
        components: Sequence[InferenceComponent],
        plan: ComponentsPlan,
        records: Sequence[InstanceRecord],
        added: Sequence[InstanceRecord],
    ) -> bool:
        """Do what the plan says; return whether a copy was left to finish its invocations."""
        is_draining = False
        by_id = {record.id: record for record in records}
        starting = list(added)
        for action in plan.actions:
            if isinstance(action, StartInstance):
                starting.append(by_id[action.id])
            elif isinstance(action, StopInstance):
                if action.drains and self._publisher.is_draining(action.id):
                    is_draining = True
                else:
                    await self._fleet.stop(action.id)
            elif isinstance(action, RemoveInstance):
                await self._instances.remove(action.id)
        known = {component.name: component for component in components}
        for record in starting:
            component = known[record.variant_name]
            await self._fleet.start(_order(record, component, endpoint))
        return is_draining

    async def _record(self, components: Sequence[InferenceComponent], plan: ComponentsPlan) -> None:
        for component in components:
            state = plan.states.get(component.name)
            if state is not None:
                await self._components.record(component.name, component.generation, state)
        for name in plan.gone:
            await self._components.remove(name)

    def _plan_adapters(
        self, components: Sequence[InferenceComponent], plan: ComponentsPlan
    ) -> dict[str, AdapterPlan]:
        known = {component.name: component for component in components}
        plans = {}
        for adapter in components:
            if adapter.base_name is None:
                continue
            copies = plan.serving.get(adapter.base_name, ())
            plans[adapter.name] = plan_adapter(
                adapter,
                known.get(adapter.base_name),
                copies,
                {copy.record.id: self._adapters().on(copy.record.id) for copy in copies},
                base_waits=adapter.base_name in plan.waits,
            )
        return plans

    async def _bring_adapters(
        self, components: Sequence[InferenceComponent], adapters: Mapping[str, AdapterPlan]
    ) -> None:
        for adapter in components:
            plan = adapters.get(adapter.name)
            if plan is None:
                continue
            for copy in plan.load:
                url = adapter.spec.artifact_url
                self._adapters().load(copy, adapter.name, adapter.revision, url)
            for copy in plan.unload:
                self._adapters().unload(copy, adapter.name)
            if plan.state is not None:
                await self._components.record(adapter.name, adapter.generation, plan.state)
            if plan.is_gone:
                await self._components.remove(adapter.name)

    def _consolidate(self, endpoint_name: str, plan: ComponentsPlan) -> float | None:
        """Begin to empty instances, or end it: those that went, or cannot be emptied any more."""
        if plan.vacated:
            self._vacating[endpoint_name] = set(plan.vacated)
            return 0.0
        vacating = self._vacating.pop(endpoint_name, set()) - set(plan.released)
        if vacating and not plan.needs_room:
            self._vacating[endpoint_name] = vacating
        return None

    async def _follow(
        self, endpoint_name: str, endpoint: Endpoint | None, plan: ComponentsPlan
    ) -> float | None:
        """Have the instances follow the copies."""
        if endpoint is None or not plan.instance_counts:
            return None
        try:
            is_done = await self._hosted.follow(
                endpoint_name, endpoint.generation, plan.instance_counts, plan.released
            )
        except LimitExceeded as error:
            if self._refusals.get(endpoint_name) != error.message:
                log.warning("endpoint %s gets no more instances: %s", endpoint_name, error.message)
                self._refusals[endpoint_name] = error.message
                return 0.0
            return REFUSED_CHECK_S
        self._refusals.pop(endpoint_name, None)
        return None if is_done else RETRY_S


def _consolidation(variant: ProductionVariant) -> Consolidation | None:
    policy = variant.definition.get("ManagedInstanceScaling", {}).get("ScaleInPolicy", {})
    if policy.get("Strategy") != "CONSOLIDATION":
        return None
    return Consolidation(
        step=int(policy.get("MaximumStepSize", 1)),
        cooldown_s=60.0 * policy.get("CooldownInMinutes", 20),
    )


def _order(
    record: InstanceRecord, component: InferenceComponent, endpoint: Endpoint | None
) -> InstanceOrder:
    spec = _spec_of(component, record.generation)
    assert spec.model is not None, "adapters have no copies"
    variants = () if endpoint is None else endpoint.config.variants
    variant = next((v for v in variants if v.name == component.variant_name), None)
    return InstanceOrder(
        id=record.id,
        endpoint_name=record.endpoint_name,
        variant_name=component.name,
        hosted_variant=component.variant_name,
        instance_type=(None if variant is None else variant.instance_type) or "ml.m5.large",
        share=record.share,
        model=spec.model,
        startup_timeout_s=(
            spec.startup_timeout_s or (None if variant is None else variant.startup_timeout_s)
        ),
        download_timeout_s=(
            spec.download_timeout_s or (None if variant is None else variant.download_timeout_s)
        ),
    )


def _spec_of(component: InferenceComponent, revision: int) -> ComponentSpec:
    """Return what a copy runs."""
    update = component.update
    if update is not None and revision == update.old_revision:
        return update.old
    return component.spec
