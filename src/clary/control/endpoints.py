"""Makes endpoints what the store says they are: one pass of the control loop.

Observe → plan → apply → record. A pass keeps nothing that the next one needs, so that control may
be restarted at any line. The order is what makes it safe:

1. intent: records of new instances are written, those to stop are marked;
2. the route is published, and known to the gateways: without what will stop, before it stops;
   with all instances, before anybody reads InService;
3. the fleet starts and stops; what gateways still have open invocations with, or have not all
   taken out of their tables, is stopped later;
4. counts and status are written, for the generation that they were computed for.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from clary.clock import Clock
from clary.control.deployment_plan import AlarmState, Standing
from clary.control.elapsed import Elapsed
from clary.control.endpoint_plan import Plan, StartLimits, plan_endpoint
from clary.control.instances import (
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.control.serverless import ServerlessScaling
from clary.fleet.instance import SERVERLESS, InstanceOrder, ObservedInstance
from clary.resources.async_inference import MAX_TIMEOUT_S
from clary.resources.endpoint import Deployment, Endpoint
from clary.resources.instance import InstanceRecord
from clary.resources.routing_table import EndpointRoute
from clary.store.deployments import Deployments
from clary.store.endpoints import Endpoints
from clary.store.instances import Instances

DRAIN_CHECK_S = 0.1
"""How often it is looked whether an instance that is to stop has finished, in seconds."""


class RoutePublisher(Protocol):
    """Where routes are told (``control/publish.py``)."""

    async def publish(self, name: str, route: EndpointRoute | None) -> None:
        """Make a route known, or take it back; return when gateways have it, or soon after."""
        ...

    def is_draining(self, instance_id: str) -> bool:
        """Whether a gateway has, or may yet send, calls to workers of it that left the routes."""
        ...


class InstanceFleet(Protocol):
    """Who runs instances (``fleet/fleet.py``)."""

    async def observe(self, endpoint_name: str) -> Sequence[ObservedInstance]: ...

    async def start(self, order: InstanceOrder) -> None: ...

    async def stop(self, instance_id: str) -> None: ...

    def ids(self) -> Collection[str]: ...

    async def discard(self, ids: Collection[str]) -> None: ...


class AlarmStates(Protocol):
    """Where the states of alarms are read (``store``)."""

    async def states(self, names: Sequence[str]) -> Mapping[str, AlarmState]:
        """Return the states of those of the named alarms that are there."""
        ...


class EndpointReconciler:
    """Brings one endpoint a step closer to what is wanted.

    Args:
        endpoints: What is wanted.
        deployments: Updates of endpoints.
        alarms: States of the alarms that roll updates back.
        instances: What was begun.
        fleet: Who does it.
        publisher: Who tells the gateways.
        clock: For the ages of instances.
        limits: Time limits of the settings.
        serverless: Who scales the workers of serverless variants.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        deployments: Deployments,
        alarms: AlarmStates,
        instances: Instances,
        fleet: InstanceFleet,
        publisher: RoutePublisher,
        clock: Clock,
        limits: StartLimits,
        serverless: ServerlessScaling,
    ) -> None:
        self._serverless = serverless
        self._endpoints = endpoints
        self._deployments = deployments
        self._alarms = alarms
        self._elapsed = Elapsed(clock)
        self._instances = instances
        self._fleet = fleet
        self._publisher = publisher
        self._clock = clock
        self._limits = limits

    async def reconcile(self, name: str) -> float | None:
        """Do one pass; return in how many seconds to look again, whatever happens till then."""
        endpoint = await self._endpoints.find(name)
        records = await self._instances.list(name)
        observed = {instance.id: instance for instance in await self._fleet.observe(name)}
        view = self._serverless.view(endpoint, records, observed)
        plan = plan_endpoint(
            endpoint,
            [KnownInstance(record=r, observed=view.observed.get(r.id)) for r in records],
            now=self._clock.now(),
            limits=self._limits,
            standing=await self._standing(name, endpoint),
        )
        added = await self._write_intent(name, endpoint, plan)
        await self._publisher.publish(name, plan.route)
        is_draining = await self._apply(endpoint, plan, added)
        is_draining = self._serverless.scale(view, self._publisher.is_draining) or is_draining
        await self._record(name, endpoint, plan)
        drain_check_s = DRAIN_CHECK_S if is_draining else None
        checks = (plan.check_again_in_s, view.check_again_in_s, drain_check_s)
        return min((check for check in checks if check is not None), default=None)

    async def names(self) -> set[str]:
        """Return every name that has something to look at: endpoints, and records of instances."""
        records = await self._instances.list_all()
        return {*await self._endpoints.list_names(), *(r.endpoint_name for r in records)}

    async def discard_strangers(self) -> None:
        """Stop what the fleet has and the store does not know."""
        # In this order: what is started meanwhile has its record before the fleet has it.
        present = set(self._fleet.ids())
        known = {record.id for record in await self._instances.list_all()}
        await self._fleet.discard(present - known)

    async def _standing(self, name: str, endpoint: Endpoint | None) -> Standing:
        deployment = None if endpoint is None else endpoint.deployment
        if deployment is None:
            self._elapsed.forget(name)
            return Standing()
        alarms = deployment.policy.alarms
        return Standing(
            age_s=self._elapsed.since(name, "deployment", deployment.started_at),
            progress_age_s=self._elapsed.since(name, "progress", deployment.progress_at),
            alarms=await self._alarms.states(alarms) if alarms else {},
        )

    async def _write_intent(
        self, name: str, endpoint: Endpoint | None, plan: Plan
    ) -> list[InstanceRecord]:
        added = []
        if endpoint is not None:
            added = [
                InstanceRecord(
                    id=f"i-{secrets.token_hex(8)}",
                    endpoint_name=name,
                    variant_name=action.variant_name,
                    generation=endpoint.generation,
                    fleet=action.fleet,
                    created_at=self._clock.now(),
                )
                for action in plan.actions
                if isinstance(action, AddInstance)
            ]
        await self._instances.add(added)
        stopping = [action.id for action in plan.actions if isinstance(action, StopInstance)]
        await self._instances.mark_stopping(stopping)
        return added

    async def _apply(
        self, endpoint: Endpoint | None, plan: Plan, added: Sequence[InstanceRecord]
    ) -> bool:
        """Do what the plan says; return whether an instance was left to finish its invocations.

        It finishes within their time limits, which the gateways keep.
        """
        is_draining = False
        for action in plan.actions:
            if isinstance(action, StartInstance):
                await self._start(endpoint, action.id, action.variant_name, action.fleet)
            elif isinstance(action, StopInstance):
                if action.drains and self._publisher.is_draining(action.id):
                    is_draining = True
                else:
                    await self._fleet.stop(action.id)
            elif isinstance(action, RemoveInstance):
                await self._instances.remove(action.id)
        for record in added:
            await self._start(endpoint, record.id, record.variant_name, record.fleet)
        return is_draining

    async def _start(
        self, endpoint: Endpoint | None, instance_id: str, variant_name: str, fleet: int
    ) -> None:
        assert endpoint is not None, "a plan starts nothing for an endpoint that is gone"
        deployment = endpoint.deployment
        source: Endpoint | Deployment = endpoint
        if deployment is not None and deployment.fleet == fleet:
            source = deployment
        variant = next(v for v in source.config.all_variants if v.name == variant_name)
        serverless = variant.serverless
        await self._fleet.start(
            InstanceOrder(
                id=instance_id,
                endpoint_name=endpoint.name,
                variant_name=variant.name,
                instance_type=variant.instance_type or SERVERLESS,
                serverless_memory_mb=(
                    None if serverless is None else int(serverless["MemorySizeInMB"])
                ),
                # Without one it holds copies of inference components.
                model=None if variant.model_name is None else source.models[variant.model_name],
                startup_timeout_s=variant.startup_timeout_s,
                download_timeout_s=variant.download_timeout_s,
                invocation_timeout_s=(
                    None if source.config.asynchronous is None else float(MAX_TIMEOUT_S)
                ),
            )
        )

    async def _record(self, name: str, endpoint: Endpoint | None, plan: Plan) -> None:
        if endpoint is None:
            return
        if plan.variants and plan.variants != endpoint.all_variants:
            await self._endpoints.record_variants(name, endpoint.generation, plan.variants)
        deployment = endpoint.deployment
        if deployment is not None and plan.pending != deployment.variants:
            await self._deployments.record(name, endpoint.generation, variants=plan.pending)
        if plan.progress is not None:
            await self._deployments.record(name, endpoint.generation, progress=plan.progress)
        if plan.event is not None:
            await self._endpoints.record_event(
                name, endpoint.generation, plan.event, failure_reason=plan.failure_reason
            )
        if plan.is_gone:
            await self._endpoints.remove(name)
            self._serverless.forget(name)
